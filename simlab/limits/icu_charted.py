"""The best forecast of what will be charted in the ICU world: the median of each channel, given that it is charted.

A forecast of a variable is judged by its absolute error in the hours in which the variable was charted. So the best one
is the median of its value given what was charted in the first `context` hours, statics, the treatments until the hour
before, that the stay lasts - what a roll-out along the true actions knows - and that it is charted then: the sick are
measured more often.

Given the state, a standard value is Gaussian and the chance of its panel is known. So nothing of the hour itself is
drawn: guesses of the state (`simlab.limits.icu_filter`) are weighted by that chance, and the median of the mixture of
their Gaussians is found by bisection. A charted value rises with its standard value, rounding included, so that the
median of the one is that of the other. The Glasgow scale, RASS, weight and height do not follow the state: theirs are
exact (`simlab.limits.icu_glasgow`). So are all where a Kalman filter forecasts (`spec.exact_forecast`), up to the
rounding of charts. Else finite guesses make it err a little more than the optimum (`cost_of_few`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtr

from simlab.cohort import Cohort
from simlab.environments import icu_law, icu_measure
from simlab.environments.icu_channels import BODY, BY_WEIGHT, CHANNELS, NAMES, PANELS, POINTS
from simlab.environments.icu_law import Law, chance
from simlab.environments.icu_values import charted
from simlab.errors import OutOfDomain
from simlab.limits import icu_filter, icu_glasgow
from simlab.limits.icu_filter import Particles, Shown

PARTICLES = 200
COSTED = 200  # stays on which the cost of few guesses is measured
_TOGETHER = 64  # stays at a time
_HALVINGS = 16  # of an interval of a few standard deviations; charts have a hundredth of one
_SPEAK = [i for i, c in enumerate(CHANNELS) if c.name not in (*POINTS, *BODY)]
_PANEL = [list(PANELS).index(c.panel) if c.panel in PANELS else -1 for c in CHANNELS]


def medians(
    law: Law, cohort: Cohort, context: int, steps: Sequence[int], m: int = PARTICLES, seed: int = 0
) -> dict[int, Float[np.ndarray, "n channels"]]:
    """By horizon h, the best forecast of each channel in hour context + h - 1, in the channel's unit; NaN where it is
    not charted then, where nothing is scored. m: guesses a stay.

    Raises OutOfDomain for horizons that the cohort's hours do not reach.
    """
    furthest = max(steps)
    if context < 1 or min(steps) < 1 or context + furthest > cohort.visits:
        raise OutOfDomain(f"medians: context {context} and horizons {tuple(steps)} do not fit into {cohort.visits} "
                          "hours; context + horizon may be at most that.")
    rng = np.random.default_rng(seed)
    found = {h: np.full((len(cohort), len(NAMES)), np.nan) for h in steps}
    last = np.flatnonzero(cohort.length > context)  # the others have no hour to be scored in
    for begin in range(0, len(last), _TOGETHER):
        rows = last[begin : begin + _TOGETHER]
        for h, values in _together(law, cohort.take(rows), context, steps, m, rng).items():
            found[h][rows] = values
    return found


def cost_of_few(
    law: Law, cohort: Cohort, context: int, steps: Sequence[int], m: int = PARTICLES, seed: int = 0
) -> dict[int, tuple[float, float]]:
    """By horizon: by how much the error is larger with half of the guesses, as a share, and the standard error of that
    over stays; on the first COSTED stays, each channel's errors in units of its mean error. An error whose excess falls
    like 1/m is with m still too large by as much."""
    cohort = cohort.take(np.arange(min(COSTED, len(cohort))))
    values, found = cohort.streams["state"].floats(), {}
    whole, half = (medians(law, cohort, context, steps, few, seed + 1) for few in (m, max(1, m // 2)))
    for h in steps:
        error = np.abs(np.stack([half[h], whole[h]]) - values[:, context + h - 1])
        told = np.nansum(error[1], axis=0) > 0
        if not told.any():
            found[h] = 0.0, 0.0
            continue
        error = error[:, :, told] / np.nanmean(error[1][:, told], axis=0)
        more = np.nansum(error[0] - error[1], axis=1) / np.isfinite(error[1]).sum(axis=1).mean()
        found[h] = float(more.mean()), float(more.std() / np.sqrt(len(more)))
    return found


def _together(
    law: Law, cohort: Cohort, context: int, steps: Sequence[int], m: int, rng: np.random.Generator
) -> dict[int, Float[np.ndarray, "n channels"]]:
    """The same for a few stays at once."""
    state, seen, alert = cohort.streams["state"], icu_filter.shown(cohort), _alert(icu_glasgow.own(cohort, context))
    bodies = state.values[:, 0, [NAMES.index(name) for name in BODY]].astype(np.float64)
    ventilated = icu_glasgow.sedated(cohort)
    found = {}
    for h, at in _ahead(law, seen, context, max(steps), m, rng):
        if h not in steps:
            continue
        there = state.observed[:, context + h - 1] & (cohort.length >= context + h)[:, None]
        z = np.zeros(there.shape)
        z[:, _SPEAK] = _standard(law, at, context + h - 1, there)[:, _SPEAK]
        value = charted(z, range(len(NAMES)))
        urine = [NAMES.index(BY_WEIGHT)]
        value[:, urine] = icu_measure.in_ml(value[:, urine], bodies[:, :1])
        for name in POINTS:
            value[:, NAMES.index(name)] = np.where(ventilated[:, context + h - 1], icu_measure.LOST[name][2],
                                                   icu_measure.points(name, alert))
        value[:, [NAMES.index(name) for name in BODY]] = bodies
        found[h] = np.where(there, value, np.nan)
    return found


def _ahead(law: Law, seen: Shown, context: int, furthest: int, m: int, rng: np.random.Generator):
    """(horizon, guesses) hour by hour: particles, or where that is exact one guess, the mean."""
    if law.spec.exact_forecast:
        mean, _ = icu_filter.kalman(law, seen, context)
        one = np.ones((len(seen), 1))
        for h in range(1, furthest + 1):
            x = icu_filter.ahead(law, mean[:, -1], seen, context - 1, h)
            yield h, Particles(context + h - 1, x[:, None], one.astype(int), one[:, :, None], 0 * one)
        return
    at = icu_filter.particles(law, seen, context, m, rng)
    for h in range(1, furthest + 1):
        at = icu_filter.step(law, seen, at, rng, charts=False)
        yield h, at


def _standard(
    law: Law, at: Particles, hour: int, there: Bool[np.ndarray, "n channels"]
) -> Float[np.ndarray, "n channels"]:
    """Medians of standard values, given that the channel is charted; 0 where it is not."""
    taken = at.weight[:, :, None] * chance(icu_law.panel_odds(law, at.x, hour))
    found = np.zeros(there.shape)
    for c in _SPEAK:
        rows = np.flatnonzero(there[:, c])
        centre = at.x[rows] @ law.loadings[c] + law.starts()[c]
        found[rows, c] = median(centre, float(law.noise[c]), taken[rows][:, :, _PANEL[c]])
    return found


def median(
    centre: Float[np.ndarray, "n m"], sd: float, weight: Float[np.ndarray, "n m"]
) -> Float[np.ndarray, " n"]:
    """Medians of mixtures of Gaussians of one standard deviation: they lie between the outermost centres."""
    low, high, half = centre.min(axis=1, initial=np.inf), centre.max(axis=1, initial=-np.inf), weight.sum(axis=1) / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = np.einsum("nm,nm->n", weight, ndtr((middle[:, None] - centre) / sd)) < half
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def _alert(weight: Float[np.ndarray, "n grid"]) -> Float[np.ndarray, " n"]:
    """The median of alertness in an hour to come."""
    share = icu_measure.SHARE
    return median(np.broadcast_to(share * icu_glasgow.GRID, weight.shape), share, weight)
