"""Barlow Twins: the cross-correlation of two views towards the identity. Convention of the official release.

    sum_i (1 - C_ii)^2 + 0.0051 sum_{i != j} C_ij^2,    C = (a standardised)'(b standardised)/N

standardised per dimension over the batch with the biased variance (+ 1e-5), as batch normalisation does. A collapse to
one point standardises to zero and costs D, the width. Source: Zbontar et al. 2021, eqs. 1-2.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from simlab.objectives.prediction import standardise

OFF_DIAGONAL = 0.0051


def barlow(
    a: Float[Tensor, "members batch width"], b: Float[Tensor, "members batch width"]
) -> Float[Tensor, "members"]:
    """The Barlow Twins loss of two views' embeddings, one value per member."""
    c = standardise(a).transpose(1, 2) @ standardise(b) / a.shape[1]
    diagonal = torch.diagonal(c, dim1=1, dim2=2)
    off = c.square().sum(dim=(1, 2)) - diagonal.square().sum(dim=1)
    return (1 - diagonal).square().sum(dim=1) + OFF_DIAGONAL * off
