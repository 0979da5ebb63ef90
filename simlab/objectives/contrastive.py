"""InfoNCE and CLIP: each record's own partner against the other partners of the batch.

    InfoNCE(S) = mean_i -log [exp S_ii / sum_j exp S_ij],        CLIP = (InfoNCE(S) + InfoNCE(S'))/2

with S the cosine similarities over a temperature. Any constant embedding costs log N exactly, and whatever the critic
log N - InfoNCE estimates a number that no critic can raise above min(MI, log N): with S the pointwise mutual
information it tends to the mutual information. Sources: van den Oord et al. 2018; Radford et al. 2021.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.1  # where it is fixed: SimCLR keeps 0.1 to 0.5
FIRST, SHARPEST = 0.07, 100.0  # where it is learned, as in CLIP: the temperature at first, the largest 1/temperature


def info_nce(scores: Float[Tensor, "members batch batch"]) -> Float[Tensor, "members"]:
    """Cross-entropy of the diagonal within each row, mean over rows."""
    own = torch.diagonal(scores, dim1=1, dim2=2)
    return (torch.logsumexp(scores, dim=2) - own).mean(dim=1)


def first_scale(members: int) -> Float[Tensor, "members 1"]:
    """log(1/0.07) for each member: where a learned log inverse temperature starts."""
    return torch.full((members, 1), -math.log(FIRST))


def similarities(
    a: Float[Tensor, "members batch width"],
    b: Float[Tensor, "members batch width"],
    log_scale: Float[Tensor, "members 1"] | None = None,
) -> Float[Tensor, "members batch batch"]:
    """Cosine of every pair over the temperature: the fixed one, or exp(-log_scale).

    As in CLIP, the learned one is kept at 1/100 or above after each step (`Objective.at_most`), not in here.
    """
    cosine = functional.normalize(a, dim=2) @ functional.normalize(b, dim=2).transpose(1, 2)
    if log_scale is None:
        return cosine / TEMPERATURE
    return cosine * log_scale.exp()[:, :, None]


def clip(
    a: Float[Tensor, "members batch width"],
    b: Float[Tensor, "members batch width"],
    log_scale: Float[Tensor, "members 1"] | None = None,
) -> Float[Tensor, "members"]:
    """Both directions of InfoNCE, averaged: the loss of CLIP, at a fixed temperature or at a learned one."""
    scores = similarities(a, b, log_scale)
    return (info_nce(scores) + info_nce(scores.transpose(1, 2))) / 2


def chance(goal: Float[Tensor, "members batch width"]) -> Float[Tensor, "members"]:
    """log N: what the best constant embedding costs."""
    return goal.new_full((goal.shape[0],), math.log(goal.shape[1]))
