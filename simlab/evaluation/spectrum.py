"""The spectrum of a representation and what is read from it: ranks, participation, decay, and LiDAR.

All but LiDAR are functions of the eigenvalues of the centred covariance, and none feels the scale of z: a collapsed
representation with a little noise has full rank. So they stand beside deviations and norm (`verdict`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
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


def alpha_req(values: Float[np.ndarray, "*fleet width"], floor: float = 1e-10) -> Float[np.ndarray, "*fleet"]:
    """alpha-ReQ: minus the least-squares slope of log eigenvalue on log rank; eigenvalues below floor x the first are
    left out. NaN with fewer than three. 0 for a flat spectrum, 1 for 1/rank. Source: Agrawal et al. 2022."""
    kept = values > floor * values[..., :1]
    n = np.maximum(kept.sum(axis=-1, keepdims=True), 1)
    rank = np.where(kept, np.log(np.arange(1, values.shape[-1] + 1)), 0.0)
    level = np.where(kept, np.log(np.where(kept, values, 1.0)), 0.0)
    rank = np.where(kept, rank - rank.sum(axis=-1, keepdims=True) / n, 0.0)
    slope = (rank * level).sum(axis=-1) / np.maximum((rank**2).sum(axis=-1), 1e-300)
    return np.asarray(np.where(kept.sum(axis=-1) > 2, -slope, np.nan))


def lidar(z: Float[np.ndarray, "records width"], groups: Int[np.ndarray, "records"]) -> float:
    """LiDAR: effective rank of W^-1/2 B W^-1/2, B the covariance of group means (n - 1), W that within groups + 1e-4 I.

    Groups are the subjects (or records, each with its views); those with one row are left out. NaN below two groups.
    Between 1 and width; W = s^2 I and B isotropic of rank r give r. Source: Thilak et al. 2024, eqs. 3-5.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    return float(lidars(torch.as_tensor(z)[None], torch.as_tensor(codes)[None])[0])


def lidars(
    z: Float[Tensor, "members records width"], groups: Int[Tensor, "members records"]
) -> Float[Tensor, "members"]:
    """`lidar` of every member; groups are numbered from 0."""
    exact = z.detach().double().cpu()
    groups = groups.cpu()
    count = torch.zeros(len(exact), int(groups.max()) + 1, dtype=torch.float64)
    count.scatter_add_(1, groups, torch.ones(groups.shape, dtype=torch.float64))
    several = count > 1
    at = groups[..., None].expand_as(exact)
    means = torch.zeros(*count.shape, exact.shape[2], dtype=torch.float64).scatter_add_(1, at, exact)
    means = means / count.clamp_min(1)[..., None]
    inside = (exact - means.gather(1, at)) * several.gather(1, groups)[..., None]
    n = several.sum(dim=1).double()[:, None, None]  # groups, and below the rows that they have beyond one each
    more = ((count - 1) * several).sum(dim=1)[:, None, None]
    within = inside.transpose(1, 2) @ inside / more
    means = means * several[..., None]
    apart = (means - means.sum(dim=1, keepdim=True) / n) * several[..., None]
    found = _lidar(within, apart.transpose(1, 2) @ apart / (n - 1))
    return torch.where(several.sum(dim=1) > 1, found, torch.nan)


def _of_views(views: Sequence[Float[Tensor, "members records width"]]) -> Float[Tensor, "members"]:
    """`lidars` where a group is one record in each of its views: sums without a table of groups."""
    stacked = torch.stack(list(views)).cpu()
    mean = stacked.mean(dim=0)
    inside = stacked - mean
    records = mean.shape[1]
    within = sum((x.transpose(1, 2) @ x for x in inside), start=torch.zeros(())) / (records * (len(inside) - 1))
    apart = mean - mean.mean(dim=1, keepdim=True)
    return _lidar(within, apart.transpose(1, 2) @ apart / (records - 1))


def _lidar(
    within: Float[Tensor, "members width width"], between: Float[Tensor, "members width width"]
) -> Float[Tensor, "members"]:
    """LiDAR from the two covariances; NaN where one is not finite."""
    usable = torch.isfinite(within + between).all(dim=(1, 2))
    within = within + LIDAR_WITHIN * torch.eye(within.shape[2], dtype=torch.float64)
    values, vectors = np.linalg.eigh(torch.where(usable[:, None, None], within, 0.0).numpy())
    root = (vectors / np.sqrt(np.maximum(values, LIDAR_WITHIN))[:, None]) @ vectors.transpose(0, 2, 1)
    across = root @ torch.where(usable[:, None, None], between, 0.0).numpy() @ root
    share = _shares(np.maximum(np.linalg.eigvalsh(across), 0.0)) + LIDAR_EPSILON
    return torch.where(usable, torch.as_tensor(np.exp(-(share * np.log(share)).sum(axis=-1))), torch.nan)


def summary(
    z: Float[Tensor, "members batch width"], there: Bool[Tensor, "members batch"] | None = None
) -> dict[str, Float[Tensor, "members"]]:
    """What is followed along a training, one value a member: rankme, participation, alpha-req, sd-min, sd-max, norm.

    A member that diverged has ranks 0; the others' are what they would be without it. alpha-req is 0 where fewer than
    three eigenvalues count. `there`: the rows that are embeddings (None: all).
    """
    exact = z.detach().double()
    kept, rows = _kept(exact, there)
    centred = (exact - (exact * kept).sum(dim=1, keepdim=True) / rows) * kept
    covariance = centred.transpose(1, 2) @ centred / (rows - 1).clamp_min(1)
    finite = torch.isfinite(covariance).all(dim=(1, 2))[:, None, None]
    values = np.maximum(np.linalg.eigvalsh(torch.where(finite, covariance, 0.0).cpu().numpy())[:, ::-1], 0.0)
    deviation = torch.diagonal(covariance, dim1=1, dim2=2).sqrt().cpu()
    return {
        "rankme": torch.as_tensor(effective_rank(values)),
        "participation": torch.as_tensor(participation(values)),
        "alpha-req": torch.as_tensor(np.nan_to_num(alpha_req(values))),
        "sd-min": deviation.amin(dim=1),
        "sd-max": deviation.amax(dim=1),
        "norm": ((exact * kept).square().sum(dim=(1, 2)) / rows[:, 0, 0]).sqrt().cpu(),
    }


def along(
    shown: Mapping[str, Float[Tensor, "members batch width"]],
    groups: Int[Tensor, "members batch"] | None = None,
    there: Mapping[str, Bool[Tensor, "members batch"]] | None = None,
) -> dict[str, Float[Tensor, "members"]]:
    """`summary` of each view, NAME-VIEW, and "lidar" of the views together, each standardised: the rows of one group
    (subject; None: of one record) belong together. LiDAR is 0 where it is not defined.

    `there`: of a view, the rows that are embeddings (None: all); the others count nowhere.
    """
    exists = {role: None if there is None else there[role] for role in shown}
    found = {f"{name}-{role}": v for role, z in shown.items() for name, v in summary(z, exists[role]).items()}
    if groups is None and there is None and len(shown) > 1:
        return found | {"lidar": torch.nan_to_num(_of_views([_standard(z, None) for z in shown.values()]))}
    first = next(iter(shown.values()))
    own = (torch.arange(first.shape[1]).expand(first.shape[:2]) if groups is None else groups).cpu()
    alone = own.max() + 1 + torch.arange(first.shape[1] * len(shown)).view(len(shown), -1)  # a group of nobody else
    codes = [own if exists[role] is None else torch.where(exists[role].cpu(), own, alone[i])
             for i, role in enumerate(shown)]
    stacked = torch.cat([_standard(z, exists[role]) for role, z in shown.items()], dim=1)
    return found | {"lidar": torch.nan_to_num(lidars(stacked, torch.cat(codes, dim=1)))}


def _standard(
    z: Float[Tensor, "members batch width"], there: Bool[Tensor, "members batch"] | None
) -> Float[Tensor, "members batch width"]:
    exact = z.detach().double()
    kept, rows = _kept(exact, there)
    centred = exact - (exact * kept).sum(dim=1, keepdim=True) / rows
    return centred / ((centred * kept).square().sum(dim=1, keepdim=True) / rows).sqrt().clamp_min(1e-12)


def _kept(z: Tensor, there: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weights (members, batch, 1) of rows that count, and their number (members, 1, 1)."""
    kept = torch.ones_like(z[..., :1]) if there is None else there[..., None].to(z)
    return kept, kept.sum(dim=1, keepdim=True).clamp_min(1)


def _shares(values: Float[np.ndarray, "*fleet width"]) -> Float[np.ndarray, "*fleet width"]:
    return values / np.maximum(values.sum(axis=-1, keepdims=True), 1e-300)
