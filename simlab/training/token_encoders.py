"""Token encoders as arms use them: what `Encoders` is for feature vectors, for the arrays "tokens" and "times"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from simlab.models import fleet
from simlab.models.token_encoder import TokenBatch, TokenEncoder, batch_of, readout
from simlab.models.tokens import ROLES, Layout
from simlab.training.method import Method
from simlab.training.pretrain import Encoders, Settings, last_layers

CHUNK = 4096  # records that are represented at once
VOLUMES = 256  # the same, where volumes go whole through a convolutional network


@dataclass(frozen=True, kw_only=True)
class TokenEncoders(Encoders):
    """One member's token encoder, on the CPU. `layout`: of the arrays that it is shown, before `blocks` cuts them;
    `missing`, `how`: treatment of what is missing, and the readout (`simlab.models.token_encoder`)."""

    encoder: TokenEncoder
    layout: Layout
    blocks: int = 1
    missing: str = "masked"
    how: str = "last"

    def inputs(self, shown: Mapping[str, Float[np.ndarray, "records ..."]], roles: Sequence[str] = ROLES) -> TokenBatch:
        """Tokens as `features` reads them, for a fleet of one. Tokens of other roles than these are not seen."""
        tokens, times = self.layout.cut(shown["tokens"][None], shown["times"][None], self.blocks)
        batch = batch_of(torch.as_tensor(tokens), torch.as_tensor(times), self.encoder.layout, self.missing)
        return batch.only(tokens_of(self.encoder.layout, roles))

    def features(
        self, parameters: Mapping[str, Tensor], inputs: TokenBatch, roles: Sequence[str] = ROLES
    ) -> Float[Tensor, "members records _"]:
        """The representations of these roles side by side, of every member of `parameters`."""
        members = next(iter(parameters.values())).shape[0]
        batch = TokenBatch(*(x.expand(members, *x.shape[1:]) for x in vars(inputs).values()))
        z = self.encoder.encode(parameters, batch, batch.seen)
        made = readout(z, batch, self.encoder.layout, self.how)
        return torch.cat([made[role] for role in roles], dim=2)

    def represent(
        self, views: Mapping[str, Float[np.ndarray, "records ..."]]
    ) -> dict[str, Float[np.ndarray, "records width"]]:
        """Each role's representation in the light of all that these roles show, (records, width) float64."""
        parts = []
        chunk = VOLUMES if any(s.sides for s in self.layout.sources) else CHUNK
        with torch.no_grad():
            for start in range(0, len(views["tokens"]), chunk):
                part = {k: views[k][start : start + chunk] for k in ("tokens", "times")}
                z = self.features(self.parameters, self.inputs(part, self.roles), self.roles)
                parts.append(z[0].numpy().astype(np.float64))
        whole = np.concatenate(parts)
        return {role: whole[:, i * self.encoder.width : (i + 1) * self.encoder.width]
                for i, role in enumerate(self.roles)}

    def exists(self, views: Mapping[str, Float[np.ndarray, "records ..."]]) -> dict[str, Bool[np.ndarray, "records"]]:
        """A record without a token of a role has the representation 0 there, which is nobody's embedding."""
        return {role: self.inputs(views, (role,)).seen[0].any(dim=1).numpy() for role in self.roles}

    def own(self, roles: Sequence[str] = ROLES) -> fleet.Parameters:
        """All parameters: the roles share one encoder."""
        return dict(self.parameters)

    def last_block(self, roles: Sequence[str] = ROLES) -> list[str]:
        """The transformer's last block and the map that follows it; the last layers of token-wise networks."""
        if self.encoder.kind != "transformer":
            return last_layers(self.parameters)
        late = (f"encoder.block.{self.encoder.depth - 1}.", "encoder.out.")
        return [name for name in self.parameters if name.startswith(late)]


def tokens_of(layout: Layout, roles: Sequence[str]) -> Bool[Tensor, "tokens"]:
    """Which tokens are of these roles."""
    own = layout.places().role
    return torch.stack([own == ROLES.index(role) for role in roles]).any(dim=0)


def shape(layout: Layout, method: Method, settings: Settings) -> tuple[TokenEncoder, int]:
    """The encoder of a method on tokens of this layout, and the blocks that a vector is cut into (coordinate view)."""
    settings = settings.of(method)
    cut = any(view == "coordinate" for view in (method.view, *(phase.view for phase in method.curriculum)))
    blocks = settings.coordinates if cut else 1
    made = TokenEncoder(layout.split(blocks), settings.token_encoder, settings.width, settings.hidden, settings.depth,
                        settings.decay, method.vectors)
    return made, blocks


def random_encoders(layout: Layout, method: Method, settings: Settings, seeds: Sequence[int]) -> list[Encoders]:
    """Untrained encoders, one a seed: the initialisation that pretraining of that seed starts from."""
    encoder, _ = shape(layout, method, settings)
    parameters = encoder.initialise([torch.Generator().manual_seed(s) for s in seeds])
    return [wrap(fleet.member(parameters, m), layout, method, settings) for m in range(len(seeds))]


def wrap(
    parameters: fleet.Parameters, layout: Layout, method: Method, settings: Settings,
    curve: tuple[dict[str, float], ...] = (),
) -> TokenEncoders:
    """One member's parameters as the encoders of an arm."""
    encoder, blocks = shape(layout, method, settings)
    return TokenEncoders(encoder=encoder, layout=layout, blocks=blocks, missing=settings.missing,
                         how=settings.readout, kind=settings.token_encoder, parameters=parameters, curve=curve,
                         roles=method.roles)
