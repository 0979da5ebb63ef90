"""The best forecast in a learned latent space of the ICU world, by simulation: no closed form exists there.

Particles guess each stay's state from what was charted in the context, and go on by the world's own law along the
treatments that were given, weighted by them and by the stay's not ending (`simlab.limits.icu_filter`). Each guess is
charted hour by hour and encoded; per coordinate the weighted median of the encoded futures minimises the expected L1.
It knows what a roll-out along the true actions knows. Finite particles make it err a little more than the optimum.

One approximation: staleness of a channel follows a guess's place, not its ancestors, where guesses are drawn afresh.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from simlab.cohort import Cohort, Stream
from simlab.environments import icu_dynamics, icu_law, icu_measure
from simlab.environments.icu_channels import NAMES, PANELS, TREATMENTS
from simlab.environments.icu_dynamics import Paths
from simlab.environments.icu_values import charted, standard
from simlab.limits import icu_filter, icu_glasgow
from simlab.trajectories.evaluate import Frozen

NAME = "simulated optimum"
BLOCK = 8  # stays at a time


@dataclass(frozen=True, eq=False)
class Optimum:
    """The forecast (`simlab.trajectories.evaluate.Best`): of the first `most` stays that reach the last horizon; NaN
    for the others. `width`: of the latents; `particles`: guesses a stay; `share`: of them that are used (to see what
    their number costs)."""

    backbone: Frozen
    width: int
    law: icu_law.Law
    particles: int = 48
    most: int = 60
    seed: int = 0
    share: float = 1.0

    def __call__(self, test: Cohort, context: int, horizons: int) -> Float[np.ndarray, "stays horizons width"]:
        found = np.full((len(test), horizons, self.width), np.nan)
        chosen = np.flatnonzero(test.length >= context + horizons)[: self.most]
        rng = np.random.default_rng(self.seed)
        for begin in range(0, len(chosen), BLOCK):
            rows = chosen[begin : begin + BLOCK]
            found[rows] = self._block(test.take(rows), context, horizons, rng)
        return found

    def _block(self, stays: Cohort, context: int, horizons: int, rng: np.random.Generator) -> np.ndarray:
        n, m = len(stays), self.particles
        x, weight = guesses(self.law, stays, context, horizons, m, rng)
        futures = encodable(self.law, stays, x, context, rng)
        z = self.backbone.encode(futures).state[:, context : context + horizons]
        z = z.reshape(n, m, horizons, -1)
        used = max(1, round(self.share * m))
        return weighted_median(z[:, :used], weight[:, :used])

    def halved(self) -> Optimum:
        """The same with half of its guesses."""
        return replace(self, share=self.share / 2)


def guesses(
    law: icu_law.Law, stays: Cohort, context: int, horizons: int, m: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "n m hours d"], Float[np.ndarray, "n m horizons"]]:
    """States of m guesses in hour context - 1 and the `horizons` after it, and their weights in the latter."""
    seen = icu_filter.shown(stays)
    at = icu_filter.particles(law, seen, context, m, rng)
    states, weights = [at.x], []
    for _ in range(horizons):
        at = icu_filter.step(law, seen, at, rng, charts=False)
        states.append(at.x)
        weights.append(at.weight)
    return np.stack(states, axis=2), np.stack(weights, axis=2)


def encodable(
    law: icu_law.Law, stays: Cohort, x: Float[np.ndarray, "n m hours d"], context: int, rng: np.random.Generator
) -> Cohort:
    """n m stays: what was charted before `context`, then what guesses in these states (from hour context - 1) would
    show, along the treatments that were given."""
    n, m, hours, _ = x.shape
    owner, end = np.repeat(np.arange(n), m), context + hours - 1
    state, action = stays.streams["state"], stays.streams["action"]
    ran = icu_filter.doses(action.floats()[:, context - 1 : end])[owner] > 0
    paths = shown(law, x.reshape(n * m, hours, -1), ran, context - 1, rng)
    shape = (n * m, hours, len(NAMES))
    bodies = np.stack([state.values[:, 0, NAMES.index(c)] for c in icu_measure.BODY], axis=1)[owner].astype(float)
    own = icu_glasgow.drawn(icu_glasgow.own(stays, context), owner, rng.spawn(1)[0])
    drawn = rng.standard_normal(shape, np.float32), rng.random(shape, np.float32)
    alert = icu_measure.SHARE * (own[:, None] + rng.standard_normal(shape[:2]))
    value, there = icu_measure.chart(law, paths, bodies, *drawn, alert, context - 1)
    values = np.concatenate([state.floats()[owner, :context], np.where(there, value, 0)[:, 1:]], axis=1)
    observed = np.concatenate([state.observed[owner, :context], there[:, 1:]], axis=1)
    time = np.tile(np.arange(1.0, end + 1), (n * m, 1))
    given = action.take(owner) if action.values.shape[1] == end else _until(action, owner, end)
    record = np.arange(n * m)
    return Cohort(
        streams={"state": Stream(values.astype(np.float32), observed, state.channels, state.units, time),
                 "action": replace(given, time=time.copy()), "static": stays.streams["static"].take(owner)},
        length=np.full(n * m, end, dtype=np.int64), record=record, subject=record.copy(),
        site=stays.site[owner])


def _until(stream: Stream, rows: np.ndarray, end: int) -> Stream:
    of = stream.take(rows)
    return replace(of, values=of.values[:, :end], observed=of.observed[:, :end], time=of.time[:, :end])  # type: ignore[index]


def shown(
    law: icu_law.Law, x: Float[np.ndarray, "n hours d"], ran: np.ndarray, first: int, rng: np.random.Generator
) -> Paths:
    """Paths in these states from hour `first` on, along these treatments: which panels are taken, what the policy's
    channels show."""
    n, hours, _ = x.shape
    odds = np.stack([icu_law.panel_odds(law, x[:, i], first + i) for i in range(hours)], axis=1)
    taken = rng.random((n, hours, len(PANELS))) < icu_law.chance(odds)
    k, reads = len(TREATMENTS), law.reads
    looked = icu_dynamics.read_panels(taken.reshape(n * hours, -1), rng.random((n * hours, k)), law)
    z = x @ law.loadings[reads].T + law.noise[reads] * rng.standard_normal((n, hours, k)) + law.starts()[reads]
    z = standard(charted(z, reads), reads)
    whole = np.full(n, first + hours)
    return Paths(x=x.astype(np.float32), regime=np.zeros((n, hours), np.int8), taken=taken,
                 looked=looked.reshape(n, hours, k), shown=z.astype(np.float32), on=ran, out=whole,
                 died=np.zeros(n, bool), last=x[:, -1])


def weighted_median(
    z: Float[np.ndarray, "n m horizons width"], weight: Float[np.ndarray, "n m horizons"]
) -> Float[np.ndarray, "n horizons width"]:
    """Per coordinate, the smallest value at which half of the weight lies below or at it."""
    order = np.argsort(z, axis=1)
    share = np.broadcast_to(weight[..., None], z.shape)
    total = np.cumsum(np.take_along_axis(share, order, axis=1), axis=1)
    pick = (total < 0.5 * total[:, -1:]).sum(axis=1, keepdims=True).clip(max=z.shape[1] - 1)
    return np.take_along_axis(np.take_along_axis(z, order, axis=1), pick, axis=1)[:, 0]


def cost_of_few(optimum: Optimum, error: Any, test: Cohort, context: int, horizons: int) -> tuple[float, float]:
    """By how much the L1 error at the first and last horizon is larger with half of the guesses, as a share.

    error: (forecast) -> errors of `simlab.evaluation.drift.errors`.
    """
    whole, half = (error(one(test, context, horizons)) for one in (optimum, optimum.halved()))
    grown = np.nanmean(half, axis=0) / np.nanmean(whole, axis=0) - 1
    return float(grown[0]), float(grown[-1])


