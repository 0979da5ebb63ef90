"""The latent trajectory predictor of Clin-JEPA: the next hour's latent from all hours so far, actions and statics.

    tokens  [d, s_1, a_1, ..., s_T, a_T]    each its own projection of a latent, plus a learned absolute position
    blocks  pre-norm transformer, GELU;  mask: d sees d, the tokens of hour k see d and both tokens of every hour <= k
    read    z_{k+1} = W h[s_k] + b          "absolute"; "residual" adds z_k

so that a prediction depends on (d, s_<=k, a_<=k), and what was computed of earlier hours serves later ones: a roll-out
keeps keys and values and computes two tokens an hour. Parameters are plain tensors by name, PREFIX.part; the same
blocks without the mask are the decoder of masked refinement. At the paper's sizes (width 4096, inner 1024, 6 blocks,
8 heads, 4096 inside, 72 + 2 hours) there are 92,514,304. Source: the released predictor (docs/methods/clin-jepa.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from simlab.errors import OutOfDomain

MODES = ("absolute", "residual")
SPARE = 2  # positions beyond the longest window, in hours
STREAMS = ("state", "action", "static")
Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class Past:
    """What is kept of earlier tokens: each block's keys and values, and which of them each window may see."""

    keys: tuple[Float[Tensor, "batch heads tokens each"], ...]
    values: tuple[Float[Tensor, "batch heads tokens each"], ...]
    open: Bool[Tensor, "batch tokens"]

    def until(self, hours: Int[Tensor, "batch"]) -> Past:
        """With only d and each window's first so many hours to see."""
        place = torch.arange(self.open.shape[1], device=hours.device)
        return Past(self.keys, self.values, place < 2 * hours[:, None] + 1)


@dataclass(frozen=True)
class Predictor:
    """`width` of latents, `inner` of the blocks, `inside` of their MLPs. Dropout acts where a generator is given."""

    width: int
    inner: int = 32
    depth: int = 2
    heads: int = 2
    inside: int = 128
    max_hours: int = 72
    mode: str = "absolute"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    normed: bool = False  # LayerNorm (without affine) on what is predicted, as on the latents

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise OutOfDomain(f"mode = {self.mode!r}; known: {', '.join(MODES)}.")
        if self.inner % self.heads:
            raise OutOfDomain(f"{self.heads} heads do not divide the predictor's inner width {self.inner}.")

    def shapes(self, prefix: str = "predictor") -> dict[str, tuple[int, ...]]:
        """Every parameter's shape."""
        w, n, f = self.inner, self.width, self.inside
        found: dict[str, tuple[int, ...]] = {}
        for stream in STREAMS:
            found |= {f"{prefix}.{stream}.weight": (w, n), f"{prefix}.{stream}.bias": (w,)}
        found[f"{prefix}.position"] = (2 * (self.max_hours + SPARE) + 1, w)
        for i in range(self.depth):
            own = f"{prefix}.{i}"
            for part, outputs, inputs in (("qkv", 3 * w, w), ("mix", w, w), ("up", f, w), ("down", w, f)):
                found |= {f"{own}.{part}.weight": (outputs, inputs), f"{own}.{part}.bias": (outputs,)}
            for part in ("before", "between"):
                found |= {f"{own}.{part}.weight": (w,), f"{own}.{part}.bias": (w,)}
        return found | {f"{prefix}.read.weight": (n, w), f"{prefix}.read.bias": (n,)}

    def initialise(self, generator: torch.Generator, prefix: str = "predictor") -> dict[str, Tensor]:
        """Xavier's uniform for matrices, N(0, .02) for what is read, zero biases, norms at one."""
        made = {}
        for name, shape in self.shapes(prefix).items():
            if len(shape) == 1:
                fresh = torch.ones(shape) if "before.w" in name or "between.w" in name else torch.zeros(shape)
            elif ".read." in name:
                fresh = 0.02 * torch.randn(shape, generator=generator)
            else:
                fresh = (2 * torch.rand(shape, generator=generator) - 1) * math.sqrt(6 / sum(shape))
            made[name] = fresh
        return made

    def predict(
        self,
        parameters: Parameters,
        state: Float[Tensor, "batch hours width"],
        action: Float[Tensor, "batch hours width"],
        static: Float[Tensor, "batch width"],
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "batch hours width"], Past]:
        """The latent after every hour, given the true ones up to it; and what `extend` goes on from.

        Raises OutOfDomain beyond `max_hours` + 2 hours.
        """
        hours = state.shape[1]
        self._check(hours)
        x = self.tokens(parameters, state, action, static)
        hour = (torch.arange(2 * hours + 1, device=state.device) + 1) // 2
        seen = hour[None, :] <= hour[:, None]
        x, keys, values = self.blocks(parameters, x, seen, generator, read=slice(1, None, 2))
        there = torch.ones(len(state), len(hour), dtype=torch.bool, device=state.device)
        return self._read(parameters, x, state), Past(keys, values, there)

    def extend(
        self,
        parameters: Parameters,
        state: Float[Tensor, "batch width"],
        action: Float[Tensor, "batch width"],
        hour: Int[Tensor, "batch"],
        past: Past,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "batch width"], Past]:
        """One hour more for each window: the latent after `hour` (counted from 0), whose state and action these are.

        `past` shows d and the hours before. Raises OutOfDomain beyond `max_hours` + 2 hours.
        """
        self._check(int(hour.max()) + 1)
        pair = torch.stack([self._project(parameters, "state", state), self._project(parameters, "action", action)], 1)
        place = 2 * hour[:, None] + torch.arange(1, 3, device=hour.device)
        x = pair + parameters["predictor.position"][place]
        seen = torch.cat([past.open, past.open.new_ones(len(hour), 2)], dim=1)
        x, keys, values = self.blocks(parameters, x, seen[:, None, None], generator, past, read=slice(1))
        return self._read(parameters, x, state[:, None])[:, 0], Past(keys, values, seen)

    def tokens(
        self, parameters: Parameters, state: Tensor, action: Tensor, static: Tensor, prefix: str = "predictor"
    ) -> Float[Tensor, "batch tokens inner"]:
        """The sequence, projected and placed."""
        pairs = torch.stack([self._project(parameters, "state", state, prefix),
                             self._project(parameters, "action", action, prefix)], dim=2).flatten(1, 2)
        x = torch.cat([self._project(parameters, "static", static, prefix)[:, None], pairs], dim=1)
        return x + parameters[f"{prefix}.position"][: x.shape[1]]

    def blocks(
        self,
        parameters: Parameters,
        x: Float[Tensor, "batch tokens inner"],
        seen: Bool[Tensor, "*sets queries keys"],
        generator: torch.Generator | None = None,
        past: Past | None = None,
        prefix: str = "predictor",
        read: slice = slice(None),
    ) -> tuple[Float[Tensor, "batch read inner"], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """All blocks: what comes out at the tokens that are read (the last block computes no others), and each block's
        keys and values, the past's before its own. `seen`: which keys a token may attend to, one row for all or each
        its own."""
        keys, values = [], []
        for i in range(self.depth):
            own = f"{prefix}.{i}"
            packed = _linear(parameters, f"{own}.qkv", _norm(parameters, f"{own}.before", x))
            q, k, v = packed.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            if past is not None:
                k, v = torch.cat([past.keys[i], k], dim=2), torch.cat([past.values[i], v], dim=2)
            keys.append(k)
            values.append(v)
            if i + 1 == self.depth:
                x, q = x[:, read], q[:, :, read]
                seen = seen[..., read, :] if seen.shape[-2] > 1 else seen
            mixed = self._attend(q, k, v, seen, generator).transpose(1, 2).flatten(2)
            x = x + self._drop(_linear(parameters, f"{own}.mix", mixed), generator)
            up = functional.gelu(_linear(parameters, f"{own}.up", _norm(parameters, f"{own}.between", x)))
            x = x + self._drop(_linear(parameters, f"{own}.down", self._drop(up, generator)), generator)
        return x, tuple(keys), tuple(values)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, seen: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None or not self.attention_dropout:
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        weight = torch.softmax(logits.masked_fill(~seen, -torch.inf), dim=-1)
        return dropped(weight, self.attention_dropout, generator) @ v

    def _drop(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        return x if generator is None or not self.dropout else dropped(x, self.dropout, generator)

    def _read(self, parameters: Parameters, x: Tensor, state: Tensor) -> Tensor:
        made = _linear(parameters, "predictor.read", x)
        made = made + state if self.mode == "residual" else made
        return functional.layer_norm(made, made.shape[-1:]) if self.normed else made

    def _project(self, parameters: Parameters, stream: str, z: Tensor, prefix: str = "predictor") -> Tensor:
        return _linear(parameters, f"{prefix}.{stream}", z)

    def _check(self, hours: int) -> None:
        most = self.max_hours + SPARE
        if hours > most:
            raise OutOfDomain(f"a trajectory of {hours} hours: this predictor has positions for {most} (max_hours = "
                              f"{self.max_hours}, and {SPARE}); cut windows shorter or raise max_hours.")


def dropped(x: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Dropout from a generator of one's own, on the CPU: the same numbers wherever `x` lies."""
    return x * (torch.rand(x.shape, generator=generator) >= rate).to(x.device) / (1 - rate)


def _linear(parameters: Parameters, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])


def _norm(parameters: Parameters, name: str, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], parameters[f"{name}.weight"], parameters[f"{name}.bias"])
