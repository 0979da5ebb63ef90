"""What trajectory training minimises: L1 teacher-forced and rolled out, masked refinement, what keeps latents apart.

    L_TF    mean over windows and hours of   |f(z_<=t, a_<=t, d) - y_{t+1}|
    L_roll  sum over j = 0..H-1 of the mean over windows of   |z^_{k+j+1} - y_{k+j+1}|,    k ~ U{1, ..., length - H - 1}

|.| is summed over features in the released code, averaged here by default, so that rates and weights mean the same at
any width. `native`: step j reads the predictions of the steps before it (gradient through the chain); `teacher_forced`:
the true latents, which makes the term equal to L_TF at k, ..., k + H - 1: more weight on H positions, no roll-out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from simlab.models.hour_encoder import Latents
from simlab.models.trajectory import Parameters, Predictor
from simlab.objectives import sigreg, vicreg

LEAST = 2  # hours that stay visible under a mask


@dataclass(frozen=True)
class Reach:
    """Where roll-outs begin (hour k, counted from 0), in which windows there is one, and how far they go."""

    start: Int[Tensor, "n"]
    there: Bool[Tensor, "n"]
    horizon: int

    def to(self, device: torch.device) -> Reach:
        """The same on this device."""
        return Reach(self.start.to(device), self.there.to(device), self.horizon)


def reach(length: Int[Tensor, "n"], horizon: int, own: bool, generator: torch.Generator) -> Reach:
    """A start for each window of its own, or one for all that the shortest allows (as released; none if it allows
    none)."""
    drawn = torch.rand(len(length), generator=generator)
    least = length if own else length.min().expand_as(length)
    drawn = drawn if own else drawn[:1].expand_as(drawn)
    choices = least - horizon - 1
    start = 1 + (drawn * choices.clamp_min(1)).long().clamp(max=choices.clamp_min(1) - 1)
    return Reach(start, choices >= 1, horizon)


def distance(
    a: Float[Tensor, "*any width"], b: Float[Tensor, "*any width"], reduction: str = "mean"
) -> Float[Tensor, "*any"]:
    """L1 over features, averaged or summed."""
    apart = (a - b).abs()
    return apart.sum(dim=-1) if reduction == "sum" else apart.mean(dim=-1)


def teacher_forced(
    made: Float[Tensor, "n before width"], goal: Float[Tensor, "n hours width"], length: Int[Tensor, "n"],
    reduction: str = "mean",
) -> Float[Tensor, ""]:
    """L_TF: `made` after each hour but the last, against the goals of the hours after."""
    there = torch.arange(1, goal.shape[1], device=length.device) < length[:, None]
    return (distance(made, goal[:, 1:], reduction) * there).sum() / there.sum().clamp_min(1)


def predict(
    model: Predictor,
    parameters: Parameters,
    z: Latents,
    goal: Float[Tensor, "n hours width"],
    length: Int[Tensor, "n"],
    rollout: str,
    at: Reach,
    reduction: str = "mean",
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
    """L_TF + L_roll and each of them. `z` is read, `goal` predicted; one pass over the hours serves both terms."""
    made, past = model.predict(parameters, z.state[:, :-1], z.action[:, :-1], z.static, generator)
    forced = teacher_forced(made, goal, length, reduction)
    if rollout == "none" or not at.there.any():
        return forced, {"teacher-forced": forced.detach()}
    rows = torch.arange(len(length), device=length.device)
    last = made.shape[1] - 1
    share = at.there / at.there.sum()
    now, past, rolled = made[rows, at.start.clamp(max=last)], past.until(at.start + 1), forced.new_zeros(())
    for j in range(at.horizon):
        hour = (at.start + j).clamp(max=last)
        if j and rollout == "native":
            now, past = model.extend(parameters, now, z.action[rows, hour], hour, past, generator)
        elif j:
            now = made[rows, hour]
        rolled = rolled + (distance(now, goal[rows, hour + 1], reduction) * share).sum()
    return forced + rolled, {"teacher-forced": forced.detach(), "rollout": rolled.detach()}


def hidden(length: Int[Tensor, "n"], hours: int, share: float, generator: torch.Generator) -> Bool[Tensor, "n hours"]:
    """Hours to mask: a share of each window's, at least one, with two left to see."""
    drawn = torch.rand(len(length), hours, generator=generator)
    drawn = drawn.masked_fill(torch.arange(hours) >= length[:, None], 2.0)
    count = torch.minimum((share * length).round().clamp_min(1), length - LEAST).clamp_min(0)
    return drawn.argsort(dim=1).argsort(dim=1) < count[:, None]


def masked(
    decoder: Predictor,
    parameters: Parameters,
    z: Latents,
    goal: Latents,
    length: Int[Tensor, "n"],
    mask: Bool[Tensor, "n hours"],
    reduction: str = "mean",
) -> Float[Tensor, ""]:
    """L1 to the goals' states and actions of masked hours, from the statics and all visible hours, before and after."""
    x = decoder.tokens(parameters, z.state, z.action, z.static, "masked")
    pair = mask.repeat_interleave(2, dim=1)
    hide = functional.pad(pair, (1, 0))[..., None]
    x = torch.where(hide, parameters["masked.mask"] + parameters["masked.position"][: x.shape[1]], x)
    there = torch.arange(x.shape[1], device=length.device) < 2 * length[:, None] + 1
    x = decoder.blocks(parameters, x, there[:, None, None], prefix="masked")[0]
    made = functional.linear(x[:, 1:], parameters["masked.read.weight"], parameters["masked.read.bias"])
    goals = torch.stack([goal.state, goal.action], dim=2).flatten(1, 2)
    return (distance(made, goals, reduction) * pair).sum() / pair.sum().clamp_min(1)


def spread(
    z: Float[Tensor, "n hours width"], length: Int[Tensor, "n"], kind: str, slices: Tensor | None = None
) -> Float[Tensor, ""]:
    """VICReg's or SIGReg's term on all states that exist, as if matched by a squared error of weight one (VICReg's
    published weights are 25, 25, 1) or a centroid's (LeJEPA)."""
    there = torch.arange(z.shape[1], device=length.device) < length[:, None]
    rows = z[there][None]
    if kind == "vicreg":
        return vicreg.spread(rows)[0] / vicreg.INVARIANCE
    return sigreg.spread(rows, slices[None])[0]
