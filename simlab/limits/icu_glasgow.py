"""What the Glasgow scale and RASS tell of a patient's own alertness in the ICU world: a posterior by quadrature.

In each hour of a patient who is not sedated all scales show one number, SHARE (a + e): a is the patient's own, e the
hour's, both standard normal, and independent of the state. Points say between which bounds it lies, so that the
likelihood of a is a product of normal probabilities. Sedated hours say nothing. On a grid of a, 0.05 wide, it is exact
to more digits than anything here is told in.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import log_ndtr

from simlab.cohort import Cohort
from simlab.environments import icu_measure
from simlab.environments.icu_channels import NAMES
from simlab.environments.icu_measure import LOST, SHARE
from simlab.limits import icu_filter

GRID = np.linspace(-5.0, 5.0, 201)  # of a


def between(
    values: Float[np.ndarray, "n hours channels"], seen: Bool[np.ndarray, "n hours channels"]
) -> tuple[Float[np.ndarray, "n hours"], Float[np.ndarray, "n hours"]]:
    """Between which numbers alertness lies in each hour, by all scales that were charted then."""
    low, high = np.full(values.shape[:2], -np.inf), np.full(values.shape[:2], np.inf)
    for name, (full, bounds, _) in LOST.items():
        at = NAMES.index(name)
        lost = np.clip(np.rint(full - values[:, :, at]), 0, len(bounds)).astype(int)
        there = seen[:, :, at]
        low = np.maximum(low, np.where(there, np.array([*bounds, -np.inf])[lost], -np.inf))
        high = np.minimum(high, np.where(there, np.array([np.inf, *bounds])[lost], np.inf))
    return low, high


def sedated(cohort: Cohort) -> Bool[np.ndarray, "n hours"]:
    """Whether a patient was ventilated, so sedated, in the hour before: what the scales look at."""
    return icu_measure.before(icu_filter.doses(cohort.streams["action"].floats())[:, :, icu_measure.VENTILATED] > 0)


def own(cohort: Cohort, context: int) -> Float[np.ndarray, "n grid"]:
    """Posterior of a on GRID, which sums to 1, from the charts of the first `context` hours."""
    state = cohort.streams["state"]
    low, high = between(state.floats()[:, :context].astype(np.float64), state.observed[:, :context])
    told = np.isfinite(low) | np.isfinite(high)
    told &= ~sedated(cohort)[:, :context]
    log = np.repeat(-0.5 * GRID[None] ** 2, len(cohort), axis=0)
    for i, t in np.argwhere(told):
        log[i] += _probability((low[i, t] - SHARE * GRID) / SHARE, (high[i, t] - SHARE * GRID) / SHARE)
    weight = np.exp(log - log.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)


def _probability(low: Float[np.ndarray, "grid"], high: Float[np.ndarray, "grid"]) -> Float[np.ndarray, "grid"]:
    """Log probability that a standard normal lies between; from the tail in which both bounds lie."""
    flipped = low > 0
    low, high = np.where(flipped, -high, low), np.where(flipped, -low, high)
    return log_ndtr(high) + np.log1p(-np.exp(log_ndtr(low) - log_ndtr(high)))


def drawn(
    weight: Float[np.ndarray, "n grid"], owner: np.ndarray, rng: np.random.Generator
) -> Float[np.ndarray, " draws"]:
    """One draw of a for each owner."""
    edges = np.cumsum(weight, axis=1)
    coin = rng.random(len(owner))
    at = np.array([np.searchsorted(edges[i], c) for i, c in zip(owner, coin, strict=True)], dtype=np.int64)
    return GRID[at.clip(max=len(GRID) - 1)]

