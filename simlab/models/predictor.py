"""Predictors of target tokens from a context: told where and when a target is, never what it holds.

    none          the context's pooled embedding itself
    linear, mlp   a network for each source, of the pooled context, the target's time and its part
    transformer   narrow blocks over the context's embeddings and one query for each target; queries are attended to by
                  nobody, so that a prediction does not depend on what else is predicted
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from simlab.models import fleet, transformer
from simlab.models.fleet import Parameters
from simlab.models.token_encoder import TokenBatch, placed, places, pool
from simlab.models.tokens import Layout

CLOCK = 8  # sines and cosines of the target's time that linear and MLP predictors read


@dataclass(frozen=True)
class Predictor:
    """`width` of the context's embeddings, `outputs` of the predictions, `hidden` of the encoder (halved here)."""

    layout: Layout
    kind: str
    width: int
    outputs: int
    hidden: int = 64
    depth: int = 2

    @property
    def narrow(self) -> int:
        return max(8, self.hidden // 2)

    def initialise(self, generators: Sequence[torch.Generator], prefix: str = "predict") -> Parameters:
        """Fresh parameters, one network for each generator; none for the predictor "none"."""
        made: Parameters = {}
        if self.kind in ("linear", "mlp"):
            inputs = self.width + CLOCK + self._parts
            for i in range(len(self.layout.sources)):
                sizes = fleet.sizes(self.kind, inputs, self.outputs, self.narrow)
                made |= fleet.initialise(f"{prefix}.source{i}", sizes, generators)
        elif self.kind == "transformer":
            made |= fleet.initialise(f"{prefix}.in", (self.width, self.narrow), generators)
            made |= places(self.layout, f"{prefix}.place", self.narrow, generators)
            made[f"{prefix}.query"] = torch.stack([0.5 * torch.randn(self.narrow, generator=g) for g in generators])
            made |= transformer.initialise(f"{prefix}.block", self.narrow, self.depth, generators)
            made |= fleet.initialise(f"{prefix}.out", (self.narrow, self.outputs), generators)
        return made

    @property
    def _parts(self) -> int:
        most = max(s.parts for s in self.layout.sources)
        return most if most > 1 else 0

    def predict(
        self,
        parameters: Mapping[str, Tensor],
        z: Float[Tensor, "members batch tokens width"],
        context: Bool[Tensor, "members batch tokens"],
        batch: TokenBatch,
        slots: Int[Tensor, "members batch slots"],
        prefix: str = "predict",
    ) -> Float[Tensor, "members batch slots outputs"]:
        """A prediction for each slot, the index of a target token, from the context's embeddings z."""
        since = batch.relative(context)
        asked = torch.where(batch.timed.gather(2, slots), since.gather(2, slots), 0.0)
        if self.kind == "transformer":
            return self._attend(parameters, z, context, batch, since, slots, asked, prefix)
        source, part = (x.to(z.device)[slots] for x in self.layout.of())
        clock = transformer.time_features(asked, CLOCK)
        told = [pool(z, context)[:, :, None].expand(*slots.shape, self.width), clock]
        if self._parts:
            told.append(functional.one_hot(part, self._parts).to(z.dtype))
        x = torch.cat(told, dim=3)
        made = torch.stack([
            fleet.apply(parameters, f"{prefix}.source{i}", x.flatten(1, 2)).unflatten(1, slots.shape[1:])
            for i in range(len(self.layout.sources))
        ])
        return made.gather(0, source[None, ..., None].expand(1, *slots.shape, self.outputs))[0]

    def _attend(
        self, parameters: Mapping[str, Tensor], z: Tensor, context: Tensor, batch: TokenBatch, since: Tensor,
        slots: Tensor, asked: Tensor, prefix: str,
    ) -> Float[Tensor, "members batch slots outputs"]:
        n, where = self.narrow, f"{prefix}.place"
        shown = fleet.apply(parameters, f"{prefix}.in", z.flatten(1, 2)).unflatten(1, z.shape[1:3])
        shown = shown + placed(parameters, where, self.layout, n)
        shown = shown + 0.5 * transformer.time_features(since, n) * batch.timed[..., None]
        timed = batch.timed.gather(2, slots)[..., None]
        query = parameters[f"{prefix}.query"][:, None, None] + placed(parameters, where, self.layout, n, slots)
        query = query + 0.5 * transformer.time_features(asked, n) * timed
        kept = torch.cat([context, torch.zeros_like(slots, dtype=torch.bool)], dim=2)
        x = transformer.apply(parameters, f"{prefix}.block", torch.cat([shown, query], dim=2), kept)
        x = functional.layer_norm(x[:, :, -slots.shape[2] :], (n,))
        return fleet.apply(parameters, f"{prefix}.out", x.flatten(1, 2)).unflatten(1, slots.shape[1:])
