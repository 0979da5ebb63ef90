"""Verdicts on cells, and the measured boundary: pure functions of arrays of paired differences.

All arms of a seed share environment, data, splits and labels, so the difference of two arms by seed is paired by
construction. Student t over seeds (percentile bootstraps of a few seeds cover too little, see docs/sweeps.md); looks
only where the study declared them, alpha spent over them (`simlab.sweep.looks`); no verdict below eight seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy import special, stats
from scipy.interpolate import PchipInterpolator

from simlab.sweep.looks import critical, spent
from simlab.sweep.power import seeds_needed
from simlab.sweep.schema import SPENDING

MIN_SEEDS = 8
ALPHA = 0.05
DENSE = 129  # points on which a curve is searched for its sign changes


@dataclass(frozen=True)
class Verdict:
    """One contrast in one cell. `mean`, `low`, `high`: the paired difference and its interval at the look used.

    `seeds` pairs were used (`look` were planned); `reason` says why an undecided cell is undecided. `p`: two-sided p
    value of no difference; `level`: the smallest alpha at which the word would still be read (1 for undecided), its p
    value against the margin; both hold whatever look stopped (`_over_looks`), and are NaN below eight seeds.
    `improvement`: share of the seeds in which the first arm is ahead, ties half. `needed`: seeds with which a new study
    would decide an undecided cell (`power.seeds_needed`); None when decided, or out of reach.
    """

    verdict: str
    mean: float
    low: float
    high: float
    seeds: int
    look: int
    reason: str = ""
    p: float = math.nan
    level: float = math.nan
    improvement: float = math.nan
    needed: int | None = None


def interval(differences: Float[np.ndarray, "seeds"], alpha: float = ALPHA) -> tuple[float, float, float]:
    """Mean and two-sided Student t interval at level 1 - alpha; the interval is infinite below two seeds."""
    n = len(differences)
    mean = float(np.mean(differences)) if n else float("nan")
    if n < 2:
        return mean, -np.inf, np.inf
    half = student(alpha, n - 1) * float(np.std(differences, ddof=1)) / math.sqrt(n)
    return mean, mean - half, mean + half


@lru_cache(maxsize=256)
def student(alpha: float, degrees: int) -> float:
    """The two-sided Student t quantile at level 1 - alpha."""
    return float(stats.t.ppf(1 - alpha / 2, degrees))


def read(low: float, high: float, rope: float) -> str:
    """What an interval says: it lies above +rope, below -rope, within, or none of these."""
    if low > rope:
        return "helps"
    if high < -rope:
        return "hurts"
    return "equivalent" if -rope <= low and high <= rope else "undecided"


def verdict(differences: Float[np.ndarray, "seeds"], looks: tuple[int, ...], rope: float, alpha: float = ALPHA,
            spending: str = SPENDING[0]) -> Verdict:
    """The verdict on paired differences in seed order (NaN: that seed has no pair, since an arm failed).

    Looks are taken in order at the first `look` seeds, with alpha spent over them; the first that decides stands. A
    look that fewer than eight seeds finished is none, and spends nothing.
    """
    taken = _taken(differences, looks)
    if not taken:
        return _too_few(differences[:looks[-1]], looks[-1], alpha)
    shares = (*(kept / looks[-1] for _, kept in taken[:-1]), 1.0)
    ends = critical(tuple(kept for _, kept in taken), shares, spending, alpha)
    by = [0.0, *(spent(share, spending, alpha) * 2 / alpha for share in shares)]  # share of alpha spent by each look
    p, level = 1.0, dict.fromkeys(("helps", "hurts", "equivalent"), 1.0)
    for (look, n), end, share in zip(taken, ends, [b - a for a, b in pairwise(by)], strict=True):
        kept = differences[:look][np.isfinite(differences[:look])]
        mean, sd = float(np.mean(kept)), float(np.std(kept, ddof=1))
        half, se = end * sd / math.sqrt(n), sd / math.sqrt(n)
        low, high = mean - half, mean + half
        p = _over_looks(p, 2 * tail(abs(mean), se, n - 1), share)
        level = {word: _over_looks(level[word], found, share)
                 for word, found in levels(mean, se, n - 1, rope).items()}
        word = read(low, high, rope)
        if word != "undecided":
            break
    decided = word != "undecided"
    return Verdict(word, mean, low, high, n, look, "" if decided else "interval too wide", p,
                   level[word] if decided else 1.0, float(np.mean((kept > 0) + 0.5 * (kept == 0))),
                   None if decided else seeds_needed(mean, sd, rope, alpha))


def _taken(differences: Float[np.ndarray, "seeds"], looks: tuple[int, ...]) -> list[tuple[int, int]]:
    """The looks that can be taken, each with its number of pairs: eight at least, and more than at the look before."""
    taken: list[tuple[int, int]] = []
    for look in looks:
        kept = int(np.isfinite(differences[:look]).sum())
        if kept >= MIN_SEEDS and (not taken or kept > taken[-1][1]):
            taken.append((look, kept))
    return taken


def _too_few(differences: Float[np.ndarray, "seeds"], look: int, alpha: float) -> Verdict:
    kept = differences[np.isfinite(differences)]
    if not len(kept):
        return Verdict("undecided", float("nan"), -np.inf, np.inf, 0, look, "no seed finished")
    lost = f" ({len(kept)} of {look} finished)" if len(kept) < look else ""
    return Verdict("undecided", *interval(kept, alpha), len(kept), look, f"fewer than {MIN_SEEDS} seeds{lost}",
                   improvement=float(np.mean((kept > 0) + 0.5 * (kept == 0))))


def tail(distance: float, se: float, degrees: int) -> float:
    """One-sided p value of a mean that lies `distance` above its null value. Without any spread it is 0, or 1."""
    if se == 0:
        return 0.0 if distance > 0 else 0.5 if distance == 0 else 1.0
    return float(special.stdtr(degrees, -distance / se))


def levels(mean: float, se: float, degrees: int, rope: float) -> dict[str, float]:
    """For each word the smallest alpha at which the two-sided interval at one look would say it: twice the one-sided p
    value against the margin; for "equivalent" that of the nearer margin (Schuirmann 1987)."""
    above, below = tail(mean - rope, se, degrees), tail(-rope - mean, se, degrees)
    within = max(tail(rope - mean, se, degrees), tail(mean + rope, se, degrees))
    found = {"helps": above, "hurts": below, "equivalent": within}
    return {word: min(1.0, 2 * value) for word, value in found.items()}


def _over_looks(before: float, p: float, share: float) -> float:
    """A p value over the looks so far: the smallest of each look's p over its share of alpha (weighted Bonferroni,
    which holds under any dependence; a single look's own p value)."""
    return min(before, p / share if share > 0 else 1.0, 1.0)


@dataclass(frozen=True)
class Crossing:
    """Where a curve of differences along an axis last changes sign, with an interval; in the axis's own units.

    `at` is None where the mean curve does not change sign within the axis. `low` and `high` are the interval's ends:
    -inf or inf where it reaches beyond the axis. `side` says who is ahead: "ahead" or "behind" throughout,
    "ahead-below" or "ahead-above" the crossing, or "unknown" where nothing was measured.
    """

    at: float | None
    low: float
    high: float
    side: str


def last_crossing(x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points"]) -> float | None:
    """The largest x at which y, linear between points, changes sign; None when it does not. NaN points are skipped."""
    kept = np.isfinite(y)
    found = float(last_crossings(x[kept], y[kept][:, None])[0]) if kept.any() else math.nan
    return None if math.isnan(found) else found


def last_crossings(
    x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points curves"]
) -> Float[np.ndarray, "curves"]:
    """`last_crossing` of each column of finite numbers, NaN where there is none."""
    changes = (y[1:] > 0) != (y[:-1] > 0)
    if not len(changes):
        return np.full(y.shape[1], np.nan)
    i = len(changes) - 1 - np.argmax(changes[::-1], axis=0)  # the last change, where there is one
    a, b = np.take_along_axis(y, i[None], 0)[0], np.take_along_axis(y, i[None] + 1, 0)[0]
    some = changes.any(axis=0)
    return np.where(some, x[i] + (x[i + 1] - x[i]) * a / np.where(some, a - b, 1.0), np.nan)


def curve_through(
    x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points draws"]
) -> tuple[Float[np.ndarray, "dense"], Float[np.ndarray, "dense draws"]]:
    """Curves through points (columns of y): monotone cubics, which do not overshoot (Fritsch & Carlson 1980).

    Straight lines between the few points of an axis would shift the boundary by up to 8 % where one arm's curve is
    steep; two points still give a straight line. Returns the dense abscissae, the given points among them.
    """
    dense = np.unique(np.concatenate([np.linspace(x[0], x[-1], DENSE), x]))
    if len(x) < 3:
        weight = ((dense - x[0]) / (x[-1] - x[0]))[:, None]
        return dense, (1 - weight) * y[0] + weight * y[-1]
    return dense, PchipInterpolator(x, y, axis=0)(dense)


def boundary(x: Float[np.ndarray, "points"], differences: Float[np.ndarray, "points seeds"], rng: np.random.Generator,
             log: bool = True, draws: int = 1000, alpha: float = ALPHA) -> Crossing:
    """The measured boundary along one axis (points increasing), from curves of the same seeds at every point.

    The last sign change of the monotone cubic through the mean differences, in log x (or in x). Its interval resamples
    whole seeds, so that the correlation of neighbouring points, which share a seed's draws, is kept; the percentiles
    are widened from the normal to Student t (Hesterberg 2015, "expanded percentile"), since a plain percentile interval
    of few seeds covers too little. A resampled curve without a sign change lies beyond the axis, on the side where its
    sign puts it. Points without any seed are left out, then seeds with a missing point; below eight whole seeds the
    interval is (-inf, inf).
    """
    there = np.isfinite(differences).any(axis=1)  # a point where no seed has a pair is left out
    at, differences = (np.log(x) if log else np.asarray(x, dtype=float))[there], differences[there]
    whole = differences[:, np.isfinite(differences).all(axis=0)]
    n = whole.shape[1]
    if len(at) < 2 or not n:
        return Crossing(None, -np.inf, np.inf, "unknown")
    mean = whole.mean(axis=1)
    dense, curve = curve_through(at, mean[:, None])
    where = last_crossing(dense, curve[:, 0])
    falling = _falls(at, mean, where)
    side = ("ahead-below" if falling else "ahead-above") if where is not None else (
        "ahead" if np.all(mean > 0) else "behind")
    back = np.exp if log else (lambda value: value)
    if n < MIN_SEEDS:
        return Crossing(None if where is None else float(back(where)), -np.inf, np.inf, side)
    weights = rng.multinomial(n, np.full(n, 1 / n), size=draws) / n  # seeds drawn with replacement
    curves = curve_through(at, whole @ weights.T)[1]
    places = last_crossings(dense, curves)
    beyond = np.where((curves[-1] > 0) == falling, np.inf, -np.inf)
    places = np.where(np.isnan(places), beyond, places)
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * student(alpha, n - 1))
    low, high = np.quantile(places, [tail, 1 - tail], method="inverted_cdf")
    ends = [float(back(v)) if np.isfinite(v) else float(v) for v in (low, high)]
    return Crossing(None if where is None else float(back(where)), ends[0], ends[1], side)


def _falls(at: np.ndarray, mean: np.ndarray, where: float | None) -> bool:
    """Whether the first arm is ahead below the boundary: from the crossing's direction, else from the curve's slope."""
    if where is not None:
        return bool(mean[-1] <= 0)
    return bool(np.polyfit(at, mean, 1)[0] <= 0)
