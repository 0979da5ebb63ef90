"""The prediction loss of JEPA: smooth L1 between a prediction and a normalised target that carries no gradient."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-5


def standardise(z: Float[Tensor, "members batch width"]) -> Float[Tensor, "members batch width"]:
    """Each target dimension to mean 0 and variance 1 over the batch, without affine.

    I-JEPA normalises over features instead (LayerNorm). At the small widths that worlds need, that would remove two of
    k degrees of freedom (k = 4 would keep two); over the batch the meaning is the same at any width.
    """
    centred = z - z.mean(dim=1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(dim=1, keepdim=True) + EPSILON)


def prediction_loss(
    prediction: Float[Tensor, "members batch width"], target: Float[Tensor, "members batch width"]
) -> Float[Tensor, "members"]:
    """Smooth L1 (beta = 1) to the standardised, detached target; one value per member.

    A constant prediction of zero costs about 0.42 on Gaussian targets: a loss there has learnt nothing.
    """
    goal = standardise(target.detach())
    return functional.smooth_l1_loss(prediction, goal, reduction="none").mean(dim=(1, 2))


def squared_error(
    prediction: Float[Tensor, "members batch width"], target: Float[Tensor, "members batch width"]
) -> Float[Tensor, "members"]:
    """Mean squared error over batch and width; the target keeps its gradient, if it has one.

    On the input itself this is reconstruction (MAE's loss on what was masked). On an online encoder, with nothing
    against collapse, a constant is its minimum.
    """
    return (prediction - target).square().mean(dim=(1, 2))


def constant_loss(target: Float[Tensor, "members batch width"], steps: int = 8) -> Float[Tensor, "members"]:
    """What the best constant prediction costs under `prediction_loss`: Newton's method on each dimension's location."""
    goal = standardise(target.detach())
    place = torch.zeros_like(goal[:, :1])
    for _ in range(steps):
        gap = goal - place
        inside = (gap.abs() < 1).to(gap.dtype).mean(dim=1, keepdim=True).clamp_min(0.1)
        place = place + gap.clamp(-1, 1).mean(dim=1, keepdim=True) / inside
    return functional.smooth_l1_loss(place.expand_as(goal), goal, reduction="none").mean(dim=(1, 2))


def skill(loss: Float[Tensor, "members"], constant: Float[Tensor, "members"]) -> Float[Tensor, "members"]:
    """1 - loss / loss of the best constant: 0 has learnt nothing, 1 is perfect, whatever the target's scale.

    Where even a constant costs nothing (a target that is itself constant) there is nothing to predict: 0.
    """
    return torch.where(constant > 1e-12, 1 - loss / constant.clamp_min(1e-12), torch.zeros_like(loss))
