"""Verdicts on cells, and the measured boundary: pure functions of arrays of paired differences.

All arms of a seed share environment, data, splits and labels, so the difference of two arms by seed is paired by
construction. Student t over seeds (percentile bootstraps of a few seeds cover too little, see docs/sweeps.md); looks
only where the study declared them, alpha shared equally among them; no verdict below eight seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

MIN_SEEDS = 8
ALPHA = 0.05
VERDICTS = ("helps", "hurts", "equivalent", "undecided")


@dataclass(frozen=True)
class Verdict:
    """One contrast in one cell. `mean`, `low`, `high`: the paired difference and its interval at the look used.

    `seeds` pairs were used (`look` were planned); `reason` says why an undecided cell is undecided.
    """

    verdict: str
    mean: float
    low: float
    high: float
    seeds: int
    look: int
    reason: str = ""


def interval(differences: Float[np.ndarray, "seeds"], alpha: float = ALPHA) -> tuple[float, float, float]:
    """Mean and two-sided Student t interval at level 1 - alpha; the interval is infinite below two seeds."""
    n = len(differences)
    mean = float(np.mean(differences)) if n else float("nan")
    if n < 2:
        return mean, -np.inf, np.inf
    half = float(stats.t.ppf(1 - alpha / 2, n - 1) * np.std(differences, ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def read(low: float, high: float, rope: float) -> str:
    """What an interval says: it lies above +rope, below -rope, within, or none of these."""
    if low > rope:
        return "helps"
    if high < -rope:
        return "hurts"
    return "equivalent" if -rope <= low and high <= rope else "undecided"


def verdict(
    differences: Float[np.ndarray, "seeds"], looks: tuple[int, ...], rope: float, alpha: float = ALPHA
) -> Verdict:
    """The verdict on paired differences in seed order (NaN: that seed has no pair, since an arm failed).

    Looks are taken in order at the first `look` seeds, each at alpha / number of looks; the first that decides stands.
    """
    result = Verdict("undecided", float("nan"), -np.inf, np.inf, 0, looks[0], "no seed finished")
    for look in looks:
        kept = differences[:look][np.isfinite(differences[:look])]
        mean, low, high = interval(kept, alpha / len(looks))
        if len(kept) < MIN_SEEDS:
            lost = f" ({len(kept)} of {look} finished)" if len(kept) < look else ""
            reason = f"fewer than {MIN_SEEDS} seeds{lost}"
            result = Verdict("undecided", mean, low, high, len(kept), look, reason)
            continue
        word = read(low, high, rope)
        result = Verdict(word, mean, low, high, len(kept), look, "" if word != "undecided" else "interval too wide")
        if word != "undecided":
            break
    return result


@dataclass(frozen=True)
class Crossing:
    """Where a curve of differences along an axis last changes sign, with an interval; in the axis's own units.

    `at` is None where the mean curve does not change sign within the axis. `low` and `high` are the interval's ends:
    -inf or inf where it reaches beyond the axis. `side` says who is ahead: "ahead" or "behind" throughout, or
    "ahead-below" / "ahead-above" the crossing.
    """

    at: float | None
    low: float
    high: float
    side: str


def last_crossing(x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points"]) -> float | None:
    """The largest x at which y, linear between points, changes sign; None when it does not. NaN points are skipped."""
    kept = np.isfinite(y)
    x, y = x[kept], y[kept]
    for i in range(len(x) - 1, 0, -1):
        a, b = y[i - 1], y[i]
        if (a > 0) != (b > 0):
            return float(x[i - 1] + (x[i] - x[i - 1]) * a / (a - b))
    return None


def boundary(x: Float[np.ndarray, "points"], differences: Float[np.ndarray, "points seeds"], rng: np.random.Generator,
             log: bool = True, draws: int = 1000, alpha: float = ALPHA) -> Crossing:
    """The measured boundary along one axis (points increasing), from curves of the same seeds at every point.

    The mean curve's last sign change, linear in log x (or in x). Its interval resamples whole seeds, so that the
    correlation of neighbouring points, which share a seed's draws, is kept; the percentiles are widened from the normal
    to Student t (Hesterberg 2015, "expanded percentile"), since a plain percentile interval of few seeds covers too
    little. A resampled curve without a sign change lies beyond the axis, on the side where its sign puts it. Seeds with
    a missing point are left out; below eight whole seeds the interval is (-inf, inf).
    """
    at = np.log(x) if log else np.asarray(x, dtype=float)
    curves = differences[:, np.isfinite(differences).all(axis=0)]
    n = curves.shape[1]
    mean = curves.mean(axis=1) if n else np.full(len(x), np.nan)
    where = last_crossing(at, mean)
    falling = _falls(at, mean, where)
    side = ("ahead-below" if falling else "ahead-above") if where is not None else (
        "ahead" if np.all(mean > 0) else "behind")
    back = np.exp if log else (lambda value: value)
    if n < MIN_SEEDS:
        return Crossing(None if where is None else float(back(where)), -np.inf, np.inf, side)
    places = np.empty(draws)
    for i in range(draws):
        curve = curves[:, rng.integers(0, n, n)].mean(axis=1)
        found = last_crossing(at, curve)
        beyond = np.inf if (curve[-1] > 0) == falling else -np.inf
        places[i] = beyond if found is None else found
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf(1 - alpha / 2, n - 1))
    low, high = np.quantile(places, [tail, 1 - tail], method="inverted_cdf")
    ends = [float(back(v)) if np.isfinite(v) else float(v) for v in (low, high)]
    return Crossing(None if where is None else float(back(where)), ends[0], ends[1], side)


def _falls(at: np.ndarray, mean: np.ndarray, where: float | None) -> bool:
    """Whether the first arm is ahead below the boundary: from the crossing's direction, else from the curve's slope."""
    if where is not None:
        return bool(mean[-1] <= 0)
    return bool(len(at) < 2 or not np.isfinite(mean).all() or np.polyfit(at, mean, 1)[0] <= 0)
