"""One word for a representation's health, under stated thresholds, and every diagnostic that it rests on.

    diverged              an embedding is not finite
    full collapse         the largest deviation is below 0.02, or below 1 % of the norm: all records look the same
    dimensional collapse  RankMe (centred) below half the width, or the smallest deviation below 1 % of the largest
    healthy               none of these

Encoders start at deviations near 1 on features of variance 1; 0.02 is a fiftieth of that. Ranks do not feel the scale
and deviations do not feel redundancy, so a verdict needs both. The width that counts is at most the number of features.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

from simlab.evaluation import spectrum

FULL, FULL_SHARE, RANK_SHARE, DEAD_SHARE = 0.02, 0.01, 0.5, 0.01
WORST = ("diverged", "full collapse", "dimensional collapse", "healthy")


def verdict(z: Float[np.ndarray, "records width"], features: int | None = None) -> str:
    """The word for one view's embeddings of real records (no padding); `features`: how many numbers the encoder saw."""
    if not np.isfinite(z).all():
        return "diverged"
    exact = z.astype(np.float64)
    deviation = exact.std(axis=0)
    norm = float(np.sqrt((exact**2).sum(axis=1).mean()))
    if deviation.max() < max(FULL, FULL_SHARE * norm):
        return "full collapse"
    possible = min(z.shape[1], features or z.shape[1])
    rank = float(spectrum.effective_rank(spectrum.eigenvalues(exact)))
    dead = deviation.min() < DEAD_SHARE * deviation.max()
    return "dimensional collapse" if rank < RANK_SHARE * possible or dead else "healthy"


def existing(
    z: Float[np.ndarray, "records tokens width"], exists: Bool[np.ndarray, "records tokens"]
) -> Float[np.ndarray, "rows width"]:
    """The embeddings of tokens that exist, one a row: what `verdict` reads of an encoder over padded visits."""
    return z[exists]


def report(
    views: Mapping[str, Float[np.ndarray, "records width"]],
    subjects: Int[np.ndarray, "records"] | None = None,
    features: Mapping[str, int] | None = None,
    exists: Mapping[str, Bool[np.ndarray, "records"]] | None = None,
) -> tuple[str, dict[str, float]]:
    """The worst view's word, and for each view rankme, participation, alpha-req, sd-min, sd-max, norm; and LiDAR.

    LiDAR takes the views of a record, each standardised, as views of one subject (`subjects`; None: of one record).
    `exists`: of a view, the records that have it (None: all): the others' embeddings are no embeddings, and left out.
    """
    words, found = [], {}
    there = {name: np.ones(len(z), dtype=bool) for name, z in views.items()} | dict(exists or {})
    for name, z in ((name, z[there[name]]) for name, z in views.items()):
        words.append(verdict(z, (features or {}).get(name)))
        if words[-1] == "diverged":
            continue
        values, deviation = spectrum.eigenvalues(z), z.std(axis=0, dtype=np.float64)
        found |= {
            f"rankme/{name}": float(spectrum.effective_rank(values)),
            f"participation/{name}": float(spectrum.participation(values)),
            f"alpha-req/{name}": float(spectrum.alpha_req(values)),
            f"sd-min/{name}": float(deviation.min()),
            f"sd-max/{name}": float(deviation.max()),
            f"norm/{name}": float(np.sqrt((z.astype(np.float64) ** 2).sum(axis=1).mean())),
        }
    if "diverged" not in words and len({z.shape[1] for z in views.values()}) == 1:
        groups = np.arange(len(next(iter(views.values())))) if subjects is None else subjects
        stacked = np.concatenate([_standard(z[there[name]]) for name, z in views.items()])
        found["lidar"] = spectrum.lidar(stacked, np.concatenate([groups[there[name]] for name in views]))
    return min(words, key=WORST.index), {k: v for k, v in found.items() if np.isfinite(v)}


def readability(
    z: Float[np.ndarray, "records width"], factors: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """R2 of each true factor (mean over its dimensions) read linearly from z: fitted on the first half of the records,
    scored on the second. Below 0 only by chance; 0 says that the representation does not hold it."""
    half = len(z) // 2
    x = np.column_stack([z.astype(np.float64), np.ones(len(z))])
    found = {}
    for name, factor in factors.items():
        y = np.asarray(factor, dtype=np.float64).reshape(len(z), -1)
        if y.shape[1]:
            residual = y[half:] - x[half:] @ np.linalg.lstsq(x[:half], y[:half])[0]
            found[name] = float(np.mean(1 - residual.var(axis=0) / np.maximum(y[half:].var(axis=0), 1e-12)))
    return found


def _standard(z: Float[np.ndarray, "records width"]) -> Float[np.ndarray, "records width"]:
    exact = z.astype(np.float64)
    return (exact - exact.mean(axis=0)) / np.maximum(exact.std(axis=0), 1e-12)
