"""The spectrum of a representation and what is read from it: ranks, participation, decay, and LiDAR.

All but LiDAR are functions of the eigenvalues of the centred covariance, and none feels the scale of z: a collapsed
representation with a little noise has full rank. So they stand beside deviations and norm (`verdict`).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

EPSILON = 1e-7  # RankMe's (Garrido et al. 2023, eq. 1)
LIDAR_WITHIN, LIDAR_EPSILON = 1e-4, 1e-8  # LiDAR's delta and epsilon (Thilak et al. 2024)


def eigenvalues(z: Float[np.ndarray, "records width"]) -> Float[np.ndarray, "width"]:
    """Eigenvalues of the covariance (N - 1), largest first, never negative."""
    return np.maximum(np.linalg.eigvalsh(np.atleast_2d(np.cov(z.astype(np.float64), rowvar=False)))[::-1], 0.0)


def effective_rank(values: Float[np.ndarray, "*fleet width"]) -> Float[np.ndarray, "*fleet"]:
    """exp of the entropy of the centred singular values (roots of the eigenvalues): RankMe, centred. 0 if all are 0."""
    share = _shares(np.sqrt(values)) + EPSILON
    return np.asarray(np.where(values.sum(axis=-1) > 0, np.exp(-(share * np.log(share)).sum(axis=-1)), 0.0))


def participation(values: Float[np.ndarray, "*fleet width"]) -> Float[np.ndarray, "*fleet"]:
    """(sum of eigenvalues)^2 / sum of squares: r for r equal ones, 1 for one that dominates, 0 if all are 0."""
    squares = (_shares(values) ** 2).sum(axis=-1)
    return np.asarray(np.where(squares > 0, 1 / np.maximum(squares, 1e-300), 0.0))


def alpha_req(values: Float[np.ndarray, "width"], floor: float = 1e-10) -> float:
    """alpha-ReQ: minus the least-squares slope of log eigenvalue on log rank; eigenvalues below floor x the first are
    left out. NaN with fewer than three. 0 for a flat spectrum, 1 for 1/rank. Source: Agrawal et al. 2022."""
    kept = values[values > floor * values[0]] if len(values) else values
    if len(kept) < 3:
        return float("nan")
    return float(-np.polyfit(np.log(np.arange(1, len(kept) + 1)), np.log(kept), 1)[0])


def lidar(z: Float[np.ndarray, "records width"], groups: Int[np.ndarray, "records"]) -> float:
    """LiDAR: effective rank of W^-1/2 B W^-1/2, B the covariance of group means (n - 1), W that within groups + 1e-4 I.

    Groups are the subjects (or records, each with its views); those with one row are left out. NaN below two groups.
    Between 1 and width; W = s^2 I and B isotropic of rank r give r. Source: Thilak et al. 2024, eqs. 3-5.
    """
    names, inverse, count = np.unique(groups, return_inverse=True, return_counts=True)
    kept = count[inverse] > 1
    if len(names[count > 1]) < 2:
        return float("nan")
    x = z[kept].astype(np.float64)
    _, inverse = np.unique(inverse[kept], return_inverse=True)
    size = np.bincount(inverse)
    means = np.stack([np.bincount(inverse, weights=column) for column in x.T], axis=1) / size[:, None]
    inside = x - means[inverse]
    within = inside.T @ inside / (len(x) - len(size)) + LIDAR_WITHIN * np.eye(x.shape[1])
    between = np.atleast_2d(np.cov(means, rowvar=False))
    values, vectors = np.linalg.eigh(within)
    root = (vectors / np.sqrt(values)) @ vectors.T
    share = _shares(np.maximum(np.linalg.eigvalsh(root @ between @ root), 0.0)) + LIDAR_EPSILON
    return float(np.exp(-(share * np.log(share)).sum()))


def summary(z: Float[Tensor, "members batch width"]) -> dict[str, Float[Tensor, "members"]]:
    """What is followed along a training, one value a member: rankme, participation, sd-min, sd-max, norm.

    A member that diverged has ranks 0; the others' are what they would be without it.
    """
    exact = z.detach().double()
    centred = exact - exact.mean(dim=1, keepdim=True)
    covariance = centred.transpose(1, 2) @ centred / (z.shape[1] - 1)
    finite = torch.isfinite(covariance).all(dim=(1, 2))[:, None, None]
    values = np.maximum(np.linalg.eigvalsh(torch.where(finite, covariance, 0.0).cpu().numpy()), 0.0)
    deviation = torch.diagonal(covariance, dim1=1, dim2=2).sqrt().cpu()
    return {
        "rankme": torch.as_tensor(effective_rank(values)),
        "participation": torch.as_tensor(participation(values)),
        "sd-min": deviation.amin(dim=1),
        "sd-max": deviation.amax(dim=1),
        "norm": exact.square().sum(dim=2).mean(dim=1).sqrt().cpu(),
    }


def _shares(values: Float[np.ndarray, "*fleet width"]) -> Float[np.ndarray, "*fleet width"]:
    return values / np.maximum(values.sum(axis=-1, keepdims=True), 1e-300)
