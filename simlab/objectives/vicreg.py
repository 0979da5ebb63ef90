"""VICReg for fleets of models: variance, invariance, covariance. Convention of the official release.

    25 MSE(z, z') + 25 sum_views mean_d relu(1 - sqrt(Var_d + 1e-4)) / 2 + 1 sum_views sum_{i != j} C_ij^2 / D

variance and covariance unbiased (N - 1). A complete collapse to one point costs 25 * 0.99 = 24.75 exactly.
Source: Bardes, Ponce & LeCun 2022, eqs. 1-6, with the official factors. docs/methods.md gives the factors to
other libraries' conventions.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

INVARIANCE, VARIANCE, COVARIANCE, EPSILON = 25.0, 25.0, 1.0, 1e-4


def invariance(
    a: Float[Tensor, "members batch width"], b: Float[Tensor, "members batch width"]
) -> Float[Tensor, "members"]:
    """Mean squared difference over batch and width."""
    return (a - b).square().mean(dim=(1, 2))


def variance(z: Float[Tensor, "members batch width"]) -> Float[Tensor, "members"]:
    """Hinge on each dimension's standard deviation: mean of relu(1 - sqrt(Var + 1e-4))."""
    return torch.relu(1 - torch.sqrt(z.var(dim=1) + EPSILON)).mean(dim=1)


def covariance(z: Float[Tensor, "members batch width"]) -> Float[Tensor, "members"]:
    """Sum of the squared off-diagonal covariances over the width."""
    centred = z - z.mean(dim=1, keepdim=True)
    c = centred.transpose(1, 2) @ centred / (z.shape[1] - 1)
    diagonal = torch.diagonal(c, dim1=1, dim2=2)
    return (c.square().sum(dim=(1, 2)) - diagonal.square().sum(dim=1)) / z.shape[2]


def vicreg(
    a: Float[Tensor, "members batch width"], b: Float[Tensor, "members batch width"]
) -> Float[Tensor, "members"]:
    """The VICReg loss of two views' embeddings, one value per member."""
    return parts(a, b)[0]


def match(a: Float[Tensor, "members batch width"], b: Float[Tensor, "members batch width"]) -> Float[Tensor, "members"]:
    """The invariance term with its weight."""
    return INVARIANCE * invariance(a, b)


def spread(z: Float[Tensor, "members batch width"]) -> Float[Tensor, "members"]:
    """One view's variance and covariance terms, weighted: vicreg(a, b) = match(a, b) + spread(a) + spread(b)."""
    return VARIANCE / 2 * variance(z) + COVARIANCE * covariance(z)


def parts(
    a: Float[Tensor, "members batch width"], b: Float[Tensor, "members batch width"]
) -> tuple[Float[Tensor, "members"], dict[str, Tensor]]:
    """The loss, and its three terms without their weights and without gradient."""
    apart = (variance(a) + variance(b)) / 2
    together = invariance(a, b)
    mixed = covariance(a) + covariance(b)
    loss = INVARIANCE * together + VARIANCE * apart + COVARIANCE * mixed
    return loss, {"invariance": together.detach(), "variance": apart.detach(), "covariance": mixed.detach()}
