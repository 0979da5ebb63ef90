"""How far stays travel in a latent space, and whether those who get worse travel farther.

    displacement = |mean of the last m hours - mean of the first m hours|          (m = 6; of the whole latent)
    ratio        = mean displacement of deteriorating stays / mean displacement of stable stays

The paper's 4.83 has no published formula; this is ours. Every stay is measured over the same span of hours, so that
neither start nor duration differs between the groups. Who deteriorates is told by the caller (a definition each).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from simlab.errors import OutOfDomain
from simlab.evaluation import intervals

NORMS = ("l2", "l1", "cosine")


@dataclass(frozen=True)
class Ratio:
    """A ratio of deteriorating to stable stays with its interval over stays (None: undefined in a tenth of the draws).
    The ratio itself is None where stable stays stand still (a collapsed encoder).

    `space`: "latent", "raw", ...; `measure`: a norm of the displacement, or "path"; `standardised`: whether each
    feature was first brought to unit deviation.
    """

    space: str
    measure: str
    standardised: bool
    value: float | None
    interval: intervals.Interval | None
    deteriorating: int
    stable: int


def displacement(
    path: Float[np.ndarray, "records hours width"], span: tuple[int, int], hours: int = 6, norm: str = "l2"
) -> Float[np.ndarray, "records"]:
    """Distance between the mean of the first and of the last `hours` of the span [first, end).

    cosine: 1 - cos of the angle between the two means. Raises OutOfDomain for another norm, or a span that does not
    hold two such stretches.
    """
    first, end = _span(path, span, hours)
    start, last = path[:, first : first + hours].mean(axis=1), path[:, end - hours : end].mean(axis=1)
    if norm == "l1":
        return np.abs(last - start).sum(axis=1)
    if norm == "l2":
        return np.linalg.norm(last - start, axis=1)
    if norm == "cosine":
        size = np.linalg.norm(start, axis=1) * np.linalg.norm(last, axis=1)
        return np.maximum(1 - (start * last).sum(axis=1) / np.maximum(size, 1e-300), 0.0)
    raise OutOfDomain(f"norm {norm!r}: known: {', '.join(NORMS)}.")


def path_length(
    path: Float[np.ndarray, "records hours width"], span: tuple[int, int]
) -> Float[np.ndarray, "records"]:
    """Sum of the L2 lengths of a stay's hourly steps within the span."""
    first, end = _span(path, span, 1)
    return np.linalg.norm(np.diff(path[:, first:end], axis=1), axis=2).sum(axis=1)


def _span(path: Float[np.ndarray, "records hours width"], span: tuple[int, int], hours: int) -> tuple[int, int]:
    first, end = span
    if hours < 1 or not 0 <= first < end <= path.shape[1] or end - first < 2 * hours:
        raise OutOfDomain(f"a span of hours {first} to {end} of {path.shape[1]}: expected room for twice {hours} "
                          "hours.")
    return first, end


def ratio(
    distance: Float[np.ndarray, "records"], worse: Bool[np.ndarray, "records"], stable: Bool[np.ndarray, "records"]
) -> float | None:
    """Mean distance of the ones over that of the others; None where a group is empty or the stable ones stand still."""
    if not worse.any() or not stable.any() or not distance[stable].mean() > 1e-12:
        return None
    return float(distance[worse].mean() / distance[stable].mean())


def compare(
    spaces: Mapping[str, Float[np.ndarray, "records hours _"]],
    length: Int[np.ndarray, "records"],
    groups: tuple[Bool[np.ndarray, "records"], Bool[np.ndarray, "records"]],
    subjects: np.ndarray,
    rng: np.random.Generator,
    span: tuple[int, int] = (0, 48),
    hours: int = 6,
    draws: int = 500,
) -> list[Ratio]:
    """Every ratio: each space x (L2, L1, cosine, path length) x (as it is, standardised), intervals over subjects.

    groups: (deteriorating, stable), as the caller defines them; stays shorter than the span are left out of both.
    Raises OutOfDomain where one is empty then.
    """
    there = length >= span[1]
    worse, stable = (np.asarray(g, dtype=bool) & there for g in groups)
    if not worse.any() or not stable.any():
        raise OutOfDomain(f"{int(worse.sum())} deteriorating and {int(stable.sum())} stable stays reach hour "
                          f"{span[1]}; both are needed.")
    used = worse | stable
    found = []
    for space, path in spaces.items():
        mine = path[used].astype(np.float64)
        scale = mine[:, span[0] : span[1]].std(axis=(0, 1))
        for standardised in (False, True):
            shown = mine / np.where(scale > 1e-9, scale, 1.0) if standardised else mine
            measures = {**{n: displacement(shown, span, hours, n) for n in NORMS}, "path": path_length(shown, span)}
            for measure, distance in measures.items():
                value, interval = _with_interval(distance, worse[used], stable[used], subjects[used], rng, draws)
                counts = int(worse.sum()), int(stable.sum())
                found.append(Ratio(space, measure, standardised, value, interval, *counts))
    return found


def _with_interval(
    distance: Float[np.ndarray, "records"],
    worse: Bool[np.ndarray, "records"],
    stable: Bool[np.ndarray, "records"],
    subjects: np.ndarray,
    rng: np.random.Generator,
    draws: int,
) -> tuple[float | None, intervals.Interval | None]:
    value = ratio(distance, worse, stable)
    if value is None:
        return None, None
    columns = np.stack([distance * worse, worse, distance * stable, stable], axis=1)
    sums = intervals.resampled_sums(columns, subjects, rng, draws)
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw without one of the groups is NaN: not counted
        drawn = (sums[:, 0] / sums[:, 1]) / (sums[:, 2] / sums[:, 3])
    return value, intervals.percentile(value, drawn)
