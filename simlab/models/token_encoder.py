"""Encoders of token sets, as fleets: what each token says, in the light of the tokens that are kept.

    linear        W_s x of each token of source s: nothing is mixed, nothing depends on time (for closed forms)
    mlp           an MLP for each source, of each token alone
    transformer   W_s x + source + part + sin-cos of time, blocks over the kept tokens, then a linear map to the width

A volume that is a token whole is embedded by a small 3-D convolutional network (`cnn`) in place of W_s or the MLP; a
transformer may take vectors in by an MLP in place of W_s (`vectors`).

Times are read relative to the latest kept token: a record moved in time is the same record, and what is not kept, a
later visit say, does not show in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from simlab.models import cnn, fleet, transformer
from simlab.models.fleet import Parameters
from simlab.models.tokens import ROLES, Layout

KINDS = ("transformer", "linear", "mlp")
MISSING = ("masked", "zero-filled")
READOUTS = ("last", "mean")


@dataclass(frozen=True, eq=False)
class TokenBatch:
    """Tokens of records, for each member: values with 0 where unobserved, what is observed, which tokens are there,
    and when (0 where a token has no time)."""

    values: Float[Tensor, "members batch tokens features"]
    observed: Bool[Tensor, "members batch tokens features"]
    seen: Bool[Tensor, "members batch tokens"]
    time: Float[Tensor, "members batch tokens"]
    timed: Bool[Tensor, "members batch tokens"]

    def only(self, kept: Bool[Tensor, "tokens"]) -> TokenBatch:
        """The same with no other tokens seen than these."""
        return replace(self, seen=self.seen & kept.to(self.seen.device))

    def relative(self, kept: Bool[Tensor, "members batch tokens"]) -> Float[Tensor, "members batch tokens"]:
        """Time since the latest kept token that has a time (negative before it); 0 for tokens without one."""
        latest = self.time.masked_fill(~(kept & self.timed), -torch.inf).amax(dim=2, keepdim=True)
        latest = latest.nan_to_num(neginf=0.0)
        return torch.where(self.timed, self.time - latest, 0.0)


def seen_tokens(
    tokens: Float[Tensor, "*any tokens features"], times: Float[Tensor, "*any tokens"], layout: Layout, missing: str
) -> Bool[Tensor, "*any tokens"]:
    """Which tokens are there. masked: those with something observed; zero-filled: those of every visit that exists
    (what is for life: always), so that a missing stream is a token of zeros."""
    observed = torch.isfinite(tokens).any(dim=-1)
    if missing == "masked":
        return observed
    static = layout.places().visit < 0
    return observed | torch.isfinite(times) | static.to(tokens.device)


def batch_of(
    tokens: Float[Tensor, "members batch tokens features"], times: Float[Tensor, "members batch tokens"],
    layout: Layout, missing: str,
) -> TokenBatch:
    """The arrays of `simlab.models.tokens` as encoders read them."""
    observed, timed = torch.isfinite(tokens), torch.isfinite(times)
    seen = seen_tokens(tokens, times, layout, missing)
    return TokenBatch(tokens.nan_to_num(0.0), observed, seen, times.nan_to_num(0.0), timed)


@dataclass(frozen=True)
class TokenEncoder:
    """The shape of an encoder: `width` of each token's embedding, `hidden` inside, `depth` blocks; `vectors`: what a
    transformer takes vectors in by, one linear map ("linear") or an MLP."""

    layout: Layout
    kind: str = "transformer"
    width: int = 8
    hidden: int = 64
    depth: int = 2
    decay: str = "key"
    vectors: str = "linear"

    def initialise(self, generators: Sequence[torch.Generator], prefix: str = "encoder") -> Parameters:
        """Fresh parameters, one network for each generator."""
        made: Parameters = {}
        for i, source in enumerate(self.layout.sources):
            told = 2 if source.partial else 1  # the values, and which of them were observed
            if source.sides:
                outputs = self.hidden if self.kind == "transformer" else self.width
                made |= cnn.initialise(f"{prefix}.source{i}", told, outputs, self.hidden, generators)
                continue
            inputs = source.features * told
            kind, outputs = (self.vectors, self.hidden) if self.kind == "transformer" else (self.kind, self.width)
            sizes = fleet.sizes(kind, inputs, outputs, self.hidden)
            made |= fleet.initialise(f"{prefix}.source{i}", sizes, generators)
        if self.kind == "transformer":
            made |= places(self.layout, f"{prefix}.place", self.hidden, generators)
            made |= transformer.initialise(f"{prefix}.block", self.hidden, self.depth, generators)
            made |= fleet.initialise(f"{prefix}.out", (self.hidden, self.width), generators)
        return made

    def encode(
        self,
        parameters: Mapping[str, Tensor],
        batch: TokenBatch,
        kept: Bool[Tensor, "members batch tokens"],
        allowed: Bool[Tensor, "tokens tokens"] | None = None,
        prefix: str = "encoder",
    ) -> Float[Tensor, "members batch tokens width"]:
        """Each kept token's embedding in the light of the other kept ones; 0 for the rest."""
        x = self._embed(parameters, batch, prefix)
        if self.kind == "transformer":
            since = batch.relative(kept)
            x = x + placed(parameters, f"{prefix}.place", self.layout, self.hidden)
            x = x + 0.5 * transformer.time_features(since, self.hidden) * batch.timed[..., None]
            x = transformer.apply(parameters, f"{prefix}.block", x, kept, -since, self.decay, allowed)
            x = functional.layer_norm(x, x.shape[-1:])
            x = fleet.apply(parameters, f"{prefix}.out", x.flatten(1, 2)).unflatten(1, x.shape[1:3])
        return torch.where(kept[..., None], x, 0.0)

    def _embed(self, parameters: Mapping[str, Tensor], batch: TokenBatch, prefix: str) -> Tensor:
        parts = []
        for i, (source, at) in enumerate(zip(self.layout.sources, self.layout.slices(), strict=True)):
            x = batch.values[:, :, at, : source.features]
            if source.partial:
                x = torch.cat([x, batch.observed[:, :, at, : source.features].to(x.dtype)], dim=3)
            if source.sides:
                made = cnn.apply(parameters, f"{prefix}.source{i}", x.flatten(1, 2).unflatten(2, (-1, *source.sides)))
            else:
                made = fleet.apply(parameters, f"{prefix}.source{i}", x.flatten(1, 2))
            parts.append(made.unflatten(1, x.shape[1:3]))
        return torch.cat(parts, dim=2)


def places(layout: Layout, prefix: str, width: int, generators: Sequence[torch.Generator]) -> Parameters:
    """Learned embeddings of sources (modalities) and of parts, N(0, 1/4)."""
    parts = max(s.parts for s in layout.sources)
    made = {f"{prefix}.source": torch.stack(
        [0.5 * torch.randn(len(layout.sources), width, generator=g) for g in generators])}
    if parts > 1:
        made[f"{prefix}.part"] = torch.stack([0.5 * torch.randn(parts, width, generator=g) for g in generators])
    return made


def placed(
    parameters: Mapping[str, Tensor], prefix: str, layout: Layout, width: int,
    at: Int[Tensor, "members batch slots"] | None = None,
) -> Float[Tensor, "members #batch tokens width"]:
    """The embedding of each token's source and part (of the tokens `at`, where given)."""
    source, part = (x.to(parameters[f"{prefix}.source"].device) for x in layout.of())
    made = parameters[f"{prefix}.source"][:, source]
    if f"{prefix}.part" in parameters:
        made = made + parameters[f"{prefix}.part"][:, part]
    if at is None:
        return made[:, None]
    return made.gather(1, at.flatten(1)[..., None].expand(-1, -1, width)).unflatten(1, at.shape[1:])


def pool(
    z: Float[Tensor, "members batch tokens width"], kept: Bool[Tensor, "members batch tokens"]
) -> Float[Tensor, "members batch width"]:
    """Mean over the kept tokens, and nothing else; 0 where a record has none."""
    weight = kept.to(z.dtype)
    return torch.einsum("mbtd,mbt->mbd", z, weight) / weight.sum(dim=2).clamp_min(1)[..., None]


def last(
    z: Float[Tensor, "members batch tokens width"], kept: Bool[Tensor, "members batch tokens"],
    visit: Int[Tensor, "tokens"],
) -> Float[Tensor, "members batch width"]:
    """Mean over the kept tokens of the latest visit that has one (what is for life counts as the earliest)."""
    latest = torch.where(kept, visit, -2).amax(dim=2, keepdim=True)
    return pool(z, kept & (visit == latest))


def readout(
    z: Float[Tensor, "members batch tokens width"], batch: TokenBatch, layout: Layout, how: str
) -> dict[str, Float[Tensor, "members batch width"]]:
    """Each role's representation: its latest visit's embedding, or the mean over its tokens."""
    where = layout.places()
    found = {}
    for i, role in enumerate(ROLES):
        own = batch.seen & (where.role == i).to(z.device)
        found[role] = last(z, own, where.visit.to(z.device)) if how == "last" else pool(z, own)
    return found
