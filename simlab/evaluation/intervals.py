"""Intervals for real cohorts: one split, repeated splits that share records, and what a null could have missed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from simlab.errors import OutOfDomain


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def nadeau_bengio(
    values: Float[np.ndarray, "splits"], n_train: int, n_test: int, level: float = 0.95
) -> tuple[Interval, float]:
    """Corrected resampled interval of the mean over repeated random splits, and its standard error.

    Splits share records, so their variance must be inflated: se^2 = (1/J + n_test/n_train) s^2, Student t with J - 1
    degrees of freedom. Source: Nadeau & Bengio 2003, section 5. Raises OutOfDomain below two splits.
    """
    j = len(values)
    if j < 2:
        raise OutOfDomain("an interval over repeated splits needs at least 2 splits.")
    mean = float(np.mean(values))
    se = float(np.sqrt((1 / j + n_test / n_train) * np.var(values, ddof=1)))
    half = float(stats.t.ppf(0.5 + level / 2, j - 1)) * se
    return Interval(mean, mean - half, mean + half), se


def minimum_detectable(se: float, degrees: int, level: float = 0.95, power: float = 0.8) -> float:
    """The true difference that a two-sided t test at 1 - level would find with this power, given its standard error."""
    return float((stats.t.ppf(0.5 + level / 2, degrees) + stats.t.ppf(power, degrees)) * se)


def bootstrap(
    statistic: Callable[[Int[np.ndarray, "draw"]], float],
    groups: np.ndarray,
    rng: np.random.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap of a statistic of record indices, resampling whole groups (subjects) with replacement.

    `groups` (records,): the subject of each record. A draw on which the statistic is undefined (one class only) is
    drawn again, at most ten times `draws` in all. Raises OutOfDomain when it stays undefined.
    """
    _, inverse = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(inverse == g) for g in range(inverse.max() + 1)]
    kept: list[float] = []
    for _ in range(10 * draws):
        chosen = rng.integers(0, len(members), len(members))
        try:
            kept.append(statistic(np.concatenate([members[g] for g in chosen])))
        except OutOfDomain:
            continue
        if len(kept) == draws:
            low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
            return Interval(statistic(np.arange(len(groups))), float(low), float(high))
    raise OutOfDomain("the statistic is undefined on most bootstrap draws: too few records of one class.")


def resampled_sums(
    columns: Float[np.ndarray, "records k"], groups: np.ndarray, rng: np.random.Generator, draws: int = 1000
) -> Float[np.ndarray, "draws k"]:
    """Sums of each column over bootstrap samples of whole groups: what ratios of means need, without a loop.

    `groups` (records,): the subject of each record.
    """
    _, inverse = np.unique(groups, return_inverse=True)
    n = int(inverse.max()) + 1
    own = np.zeros((n, columns.shape[1]))
    np.add.at(own, inverse, columns)
    return rng.multinomial(n, np.full(n, 1 / n), size=draws) @ own


def percentile(value: float, drawn: Float[np.ndarray, "draws"], level: float = 0.95) -> Interval | None:
    """The percentile interval around an estimate; None where more than a tenth of the draws are undefined (NaN)."""
    known = drawn[np.isfinite(drawn)]
    if len(known) < 0.9 * len(drawn):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
