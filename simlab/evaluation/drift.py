"""Rollout drift: how the error of a latent forecast grows with its horizon, and what that number is made of.

A forecast z^ of shape (records, horizons, D) is laid beside the latents z of the same encoder. With a context of C
hours, horizon h = 1, 2, ... is hour C + h - 1 (0-based): the forecast has seen the hours before C.

    l1[w, h] = sum_d |z^ - z|           L1(h) = mean over the records that still exist at that hour
    drift(h) = L1(h) / L1(1) - 1        (Clin-JEPA, arXiv 2605.10840, section 5.2, as far as its released code tells)

The published mean is over *other records* at each horizon. The fixed-cohort form takes, at every horizon, the records
that exist at the last one. On a stationary fixed cohort the best forecast's error can only grow (`ar1_drift`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from simlab.errors import OutOfDomain
from simlab.evaluation import collapse, intervals

HORIZONS = (6, 12, 24, 48)


@dataclass(frozen=True)
class Drift:
    """The drift at one horizon, as a share (.1: an error 10 % above that at one hour); None where it is 0/0 or empty.

    `active`, `matched`: records behind `naive` (those that exist at this horizon) and `fixed` (at the last one).
    """

    horizon: int
    naive: float | None
    fixed: float | None
    active: int
    matched: int
    fixed_interval: intervals.Interval | None = None


@dataclass(frozen=True)
class Parts:
    """log(L1(h) / L1(1)) of the published form as a sum, exactly; each part in natural logarithms.

    `survivorship`: log of the published ratio over the fixed cohort's: what comes of comparing other records.
    `sample`: log of the fixed cohort's ratio over that of its records which the reference forecasts: chance alone, 0
    where it forecasts all; all further parts are of these records.
    `nonstationarity`: log(R(h) / R(1)), R the fixed cohort's distance from the mean of its hour in a reference space
    (true state, or raw features): patients come closer together, whoever encodes them.
    `contraction`: log(V(h) / V(1)) - nonstationarity, V that distance in the latents: the encoder draws later hours
    together beyond what the reference does.
    `horizon_cost`: log(M*(h) / M*(1)), M* = error of a reference forecast over V: what the horizon costs the best.
    `underfit`: -log(M(1) / M*(1)), M = error over V: a poor first step in the denominator; below 0 it hides drift.
    `remainder`: log(M(h) / M*(h)): what the forecast loses to the reference at h (accumulated error of the rollout).

    total = survivorship + sample + nonstationarity + contraction + horizon_cost + underfit + remainder. Without a
    reference forecast the last three are one: `remainder` = log(M(h) / M(1)), the other two None.
    """

    horizon: int
    total: float
    survivorship: float
    nonstationarity: float
    contraction: float
    horizon_cost: float | None
    underfit: float | None
    remainder: float
    sample: float = 0.0


def errors(
    forecast: Float[np.ndarray, "records horizons width"],
    latents: Float[np.ndarray, "records hours width"],
    length: Int[np.ndarray, "records"],
    context: int,
) -> Float[np.ndarray, "records horizons"]:
    """l1[w, h] of the module's formula, float64; NaN where the record has ended.

    Raises OutOfDomain for a context of no hour, or one that leaves nothing to forecast.
    """
    hours = latents.shape[1]
    if not 1 <= context < hours:
        raise OutOfDomain(f"a context of {context} hours: expected 1 to {hours - 1} of the latents' {hours} hours.")
    found = np.full(forecast.shape[:2], np.nan)
    there = min(forecast.shape[1], hours - context)
    gap = forecast[:, :there].astype(np.float64) - latents[:, context : context + there]
    found[:, :there] = np.abs(gap).sum(axis=2)
    return np.where(_exists(length, context, forecast.shape[1]), found, np.nan)


def _exists(length: Int[np.ndarray, "records"], context: int, horizons: int) -> Bool[np.ndarray, "records horizons"]:
    return context + np.arange(horizons) < length[:, None]


def drift(
    error: Float[np.ndarray, "records horizons"],
    at: Sequence[int] = HORIZONS,
    groups: np.ndarray | None = None,
    rng: np.random.Generator | None = None,
    draws: int = 500,
) -> list[Drift]:
    """Both forms of the drift at these horizons. With `groups` (the stay or subject of each record) and `rng`, the
    fixed form has a percentile interval over whole groups.

    Raises OutOfDomain for a horizon that the errors do not reach.
    """
    _check(error, at)
    matched = np.isfinite(error).all(axis=1)
    fixed = error[matched]
    found = []
    for h in at:
        known = np.isfinite(error[:, h - 1])
        interval = None
        if groups is not None and rng is not None and matched.sum() > 1:
            interval = _interval(fixed, h, groups[matched], rng, draws)
        found.append(Drift(h, _grown(error, h), _grown(fixed, h), int(known.sum()), int(matched.sum()), interval))
    return found


def _interval(
    fixed: Float[np.ndarray, "records horizons"], h: int, groups: np.ndarray, rng: np.random.Generator, draws: int
) -> intervals.Interval | None:
    value = _grown(fixed, h)
    if value is None:
        return None
    sums = intervals.resampled_sums(fixed[:, [h - 1, 0]], groups, rng, draws)
    with np.errstate(divide="ignore", invalid="ignore"):  # 0/0 is null in a draw as in the estimate
        return intervals.percentile(value, sums[:, 0] / sums[:, 1] - 1)


def _grown(error: Float[np.ndarray, "records horizons"], h: int) -> float | None:
    """L1(h) / L1(1) - 1 over the records that have each; None for 0/0 and for no record."""
    first, last = _mean(error[:, 0]), _mean(error[:, h - 1])
    return None if not first or last is None else last / first - 1


def _mean(column: Float[np.ndarray, "records"]) -> float | None:
    known = column[np.isfinite(column)]
    return float(known.mean()) if len(known) else None


def mase(
    error: Float[np.ndarray, "records horizons"], other: Float[np.ndarray, "records horizons"], h: int
) -> float | None:
    """L1(h) of a forecast over that of another (copy-forward, mean at hour), on the records that have both.

    1: no better than the other. None where the other makes no error, or no record is there.
    """
    both = np.isfinite(error[:, h - 1]) & np.isfinite(other[:, h - 1])
    below = float(other[both, h - 1].sum())
    return float(error[both, h - 1].sum()) / below if below > 0 else None


def apportion(
    error: Float[np.ndarray, "records horizons"],
    spread: Float[np.ndarray, "records horizons"],
    reference_spread: Float[np.ndarray, "records horizons"],
    best: Float[np.ndarray, "records horizons"] | None = None,
    at: Sequence[int] = HORIZONS,
) -> list[Parts | None]:
    """The published drift at these horizons as a sum of `Parts`; None where an error or a spread is zero.

    error: of the forecast; spread: of the mean at hour as a forecast, in the latents; reference_spread: the same in a
    reference space; best: of a reference forecast in the latents (the simulated optimum of a world). All four come
    from `errors` over the same records, NaN where a record has ended. A reference may forecast some records only (one
    that is simulated): what they differ by from the whole fixed cohort is `sample`, and no survivorship.
    """
    _check(error, at)
    lasting = np.isfinite(error).all(axis=1)
    matched = lasting if best is None else lasting & np.isfinite(best).all(axis=1)
    found: list[Parts | None] = []
    for h in at:
        naive, whole = _ratio(error, h), _ratio(error[lasting], h)
        grown = [_ratio(x[matched], h) for x in (error, spread, reference_spread)]
        if naive is None or whole is None or None in grown:
            found.append(None)
            continue
        fixed, latent, reference = (math.log(r) for r in grown)  # type: ignore[arg-type]
        total, chance = math.log(naive), math.log(whole) - fixed
        shared = (h, total, total - math.log(whole), reference, latent - reference)
        skill = fixed - latent  # log(M(h) / M(1))
        if best is None:
            found.append(Parts(*shared, None, None, skill, chance))
            continue
        step = [_mean(x[matched, 0]) for x in (error, best)]
        optimum = _ratio(best[matched], h)
        if optimum is None or not step[1]:
            found.append(None)
            continue
        cost, underfit = math.log(optimum) - latent, -math.log(step[0] / step[1])  # type: ignore[operator]
        found.append(Parts(*shared, cost, underfit, skill - cost - underfit, chance))
    return found


def _ratio(error: Float[np.ndarray, "records horizons"], h: int) -> float | None:
    grown = _grown(error, h)
    return None if grown is None or grown <= -1 else 1 + grown


def _check(error: Float[np.ndarray, "records horizons"], at: Sequence[int]) -> None:
    if not at or min(at) < 1 or max(at) > error.shape[1]:
        raise OutOfDomain(f"horizons {list(at)}: expected 1 to {error.shape[1]}, as far as was forecast.")


def ar1_drift(phi: float, h: int) -> float:
    """The drift of the best forecast of a stationary AR(1), fixed cohort, noiseless state: closed form.

    The h-step error is N(0, 1 - phi^2h) at unit variance, and its mean absolute value grows as its deviation: +129 %
    at phi = .9 and +458 % at .99, 48 hours against one.
    """
    if not 0 < phi < 1:
        raise OutOfDomain(f"phi = {phi:g}: expected a number between 0 and 1.")
    return math.sqrt((1 - phi ** (2 * h)) / (1 - phi**2)) - 1


def copy_forward(
    latents: Float[np.ndarray, "records hours width"], context: int, horizons: int
) -> Float[np.ndarray, "records horizons width"]:
    """The last known latent, at every horizon."""
    return np.repeat(latents[:, context - 1 : context], horizons, axis=1)


def straight_line(
    latents: Float[np.ndarray, "records hours width"], context: int, horizons: int
) -> Float[np.ndarray, "records horizons width"]:
    """z_C + h (z_C - z_(C-1)): the last step repeated. Raises OutOfDomain for a context of one hour."""
    if context < 2:
        raise OutOfDomain("a straight line needs a context of two hours or more.")
    last, step = latents[:, context - 1, None], latents[:, context - 1, None] - latents[:, context - 2, None]
    return last + step * np.arange(1, horizons + 1)[:, None]


def mean_at_hour(
    latents: Float[np.ndarray, "records hours width"], length: Int[np.ndarray, "records"]
) -> Float[np.ndarray, "hours width"]:
    """The mean latent of each hour over the records that have it (training ones); 0 for an hour that none has."""
    there = (np.arange(latents.shape[1]) < length[:, None])[..., None]
    return np.where(there, latents.astype(np.float64), 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)


def at_hours(
    means: Float[np.ndarray, "hours width"], records: int, context: int, horizons: int
) -> Float[np.ndarray, "records horizons width"]:
    """The mean at each hour as a forecast for so many records (hours beyond the last known repeat it)."""
    hours = np.minimum(context + np.arange(horizons), len(means) - 1)
    return np.broadcast_to(means[hours], (records, horizons, means.shape[1]))


def retrieval(
    forecast: Float[np.ndarray, "records width"], latents: Float[np.ndarray, "records width"], most: int = 500
) -> float:
    """How often a forecast lies nearer (L1) to its own record's latent than to another's, over all pairs (a tie is a
    half): .5 by chance and for a forecast of the mean, however small its error; 1 for the truth. `most`: of records.
    """
    a, b = forecast[:most].astype(np.float64), latents[:most].astype(np.float64)
    if len(a) < 2:
        return math.nan
    apart = np.stack([np.abs(b - row).sum(axis=1) for row in a])
    own = np.diag(apart)[:, None]
    wins = (apart > own) + 0.5 * (apart == own)
    return float((wins.sum() - 0.5 * len(a)) / (len(a) * (len(a) - 1)))


def latent_shape(
    latents: Float[np.ndarray, "records hours width"], length: Int[np.ndarray, "records"], rows: int = 4000
) -> dict[str, float]:
    """What a falling error can hide, over hours that exist: mean L2 `norm`, RankMe `rank`, `sd` (mean over features of
    the deviation along a stay), and `between`, the share of variance that lies between stays."""
    there = np.arange(latents.shape[1]) < length[:, None]
    z = latents.astype(np.float64)
    every = z[there]
    counted = np.maximum(there.sum(axis=1), 1)[:, None]
    mean = np.where(there[..., None], z, 0.0).sum(axis=1) / counted
    apart = np.where(there[..., None], (z - mean[:, None]) ** 2, 0.0).sum(axis=1) / counted
    total = float(every.var(axis=0).sum())
    inside = float(np.average(apart.sum(axis=1), weights=there.sum(axis=1)))
    step = max(1, len(every) // rows)  # the spectrum of a few thousand hours is that of all
    return {
        "norm": float(np.linalg.norm(every, axis=1).mean()),
        "rank": collapse.rankme(every[::step]),
        "sd": float(np.sqrt(apart).mean()),
        "between": 1 - inside / total if total > 0 else 0.0,
    }
