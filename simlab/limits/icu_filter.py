"""What charts tell of the hidden state in the ICU world: a Kalman filter, and particles where it is not exact.

Given regimes and treatments the state is linear-Gaussian and every charted value says z = l'x + noise, so an hour's
charts come to a precision J = sum of l l'/r and a vector sum of l z/r. Particles move by the law, are drawn given the
hour's charts (the optimal proposal, Doucet, Godsill and Andrieu 2000) and weighted by what masks, treatments and not
having ended say of the state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from simlab.cohort import Cohort
from simlab.environments import icu_dynamics, icu_law
from simlab.environments.icu_channels import (
    ACTIONS,
    BODY,
    BY_WEIGHT,
    CHANNELS,
    NAMES,
    ORGANS,
    PANELS,
    POINTS,
    TREATMENTS,
    UNDOSED,
)
from simlab.environments.icu_law import WINDOW, Law, chance
from simlab.environments.icu_values import charted, standard

_D, _K = len(ORGANS), len(TREATMENTS)
_SPEAK = np.array([c.name not in (*POINTS, *BODY) for c in CHANNELS])
_PANEL_SIZES = np.array([sum(c.panel == panel for c in CHANNELS) for panel in PANELS])
_LABORATORY = np.array([lab for _, lab in PANELS.values()])


@dataclass(frozen=True, eq=False)
class Shown:
    """What a cohort shows of its stays: standard values and masks, panels that were seen, doses given, statics."""

    z: Float[np.ndarray, "n hours channels"]
    seen: Bool[np.ndarray, "n hours channels"]
    panels: Bool[np.ndarray, "n hours panels"]
    given: Float[np.ndarray, "n hours k"]
    static: Float[np.ndarray, "n 4"]
    length: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.static)


def shown(cohort: Cohort) -> Shown:
    """The streams of a cohort of this world, read back into standard values."""
    state, action = cohort.streams["state"], cohort.streams["action"]
    value = state.floats().astype(np.float64)
    weight = value[:, 0, NAMES.index("weight")]  # always charted on admission
    value[:, :, NAMES.index(BY_WEIGHT)] /= weight[:, None]
    z = np.where(state.observed, standard(value, range(len(NAMES))), 0.0)
    panels = np.stack([state.observed[:, :, [c.panel == name for c in CHANNELS]].any(axis=2) for name in PANELS], 2)
    return Shown(z, state.observed & _SPEAK, panels, doses(action.floats()),
                 cohort.streams["static"].floats()[:, 0].astype(np.float64), cohort.length)  # fmt: skip


def doses(stream: Float[np.ndarray, "n hours actions"]) -> Float[np.ndarray, "n hours k"]:
    """The dose of each treatment in each hour, 0 where it does not run."""
    names = [name for name, _, _ in ACTIONS]
    parts = []
    for treatment in TREATMENTS:
        told = next(((name, one) for name, one in treatment.gives if name not in UNDOSED), treatment.gives[0])
        parts.append(stream[:, :, names.index(told[0])].astype(np.float64) / told[1])
    return np.round(np.stack(parts, axis=2), 4)


def evidence(law: Law, seen: Shown, hour: int) -> tuple[Float[np.ndarray, "n d d"], Float[np.ndarray, "n d"]]:
    """Precision and information vector of an hour's charts."""
    weight = seen.seen[:, hour] / law.noise**2
    outer = np.einsum("cd,ce->cde", law.loadings, law.loadings).reshape(len(NAMES), -1)
    away = np.where(seen.seen[:, hour], seen.z[:, hour] - law.starts(), 0.0)
    return (weight @ outer).reshape(-1, _D, _D), (weight * away) @ law.loadings


def before(law: Law, seen: Shown) -> tuple[Float[np.ndarray, "n d"], float]:
    """Mean and variance of the state in the first hour, given who comes."""
    slope = law.spec.g_f
    mean = law.admission + slope * icu_law.frailty(seen.static)[:, None] * np.ones(_D)
    return mean, 1 - slope**2


# ------------------------------------------------------------------------------------------------------------- Kalman


def kalman(
    law: Law, seen: Shown, hours: int
) -> tuple[Float[np.ndarray, "n hours d"], Float[np.ndarray, "n hours d d"]]:
    """Filtered mean and covariance of the state in each of the first hours; exact where `spec.exact` (no regimes)."""
    mean, variance = before(law, seen)
    cov = np.broadcast_to(variance * np.eye(_D), (len(seen), _D, _D))
    stable = np.zeros(len(seen), np.int64)
    means, covs = [], []
    for t in range(hours):
        if t:
            mean = icu_dynamics.moved(law, mean, stable, seen.given[:, t - 1])
            cov = law.step @ cov @ law.step.T + law.shock**2 * np.eye(_D)
        precision, told = evidence(law, seen, t)
        prior = np.linalg.inv(cov)
        cov = np.linalg.inv(prior + precision)
        mean = np.einsum("nde,ne->nd", cov, np.einsum("nde,ne->nd", prior, mean) + told)
        means.append(mean)
        covs.append(cov)
    return np.stack(means, axis=1), np.stack(covs, axis=1)


def ahead(
    law: Law, mean: Float[np.ndarray, "n d"], seen: Shown, start: int, steps: int
) -> Float[np.ndarray, "n d"]:
    """The mean so many hours after hour `start`, along the recorded treatments."""
    stable = np.zeros(len(mean), np.int64)
    for t in range(start, start + steps):
        mean = icu_dynamics.moved(law, mean, stable, seen.given[:, t])
    return mean


# ---------------------------------------------------------------------------------------------------------- particles


@dataclass(frozen=True, eq=False)
class Particles:
    """Weighted guesses of stays at one hour. read: what the policy last read (the same of all, within the charts)."""

    hour: int
    x: Float[np.ndarray, "n m d"]
    regime: Int[np.ndarray, "n m"]
    read: Float[np.ndarray, "n m k"]
    log_weight: Float[np.ndarray, "n m"]

    @property
    def weight(self) -> Float[np.ndarray, "n m"]:
        """Weights that sum to 1 in each stay."""
        w = np.exp(self.log_weight - self.log_weight.max(axis=1, keepdims=True))
        return w / w.sum(axis=1, keepdims=True)

    def mean(self) -> Float[np.ndarray, "n d"]:
        """The posterior mean of the state."""
        return np.einsum("nm,nmd->nd", self.weight, self.x)

    def resampled(self, rng: np.random.Generator, always: bool = False) -> Particles:
        """Equal weights (systematic resampling) in stays whose effective number is below half."""
        weight = self.weight
        m = weight.shape[1]
        poor = np.flatnonzero(always | (1 / (weight**2).sum(axis=1) < m / 2))
        if not len(poor):
            return self
        edges = np.cumsum(weight[poor], axis=1)
        points = (np.arange(m) + rng.random((len(poor), 1))) / m
        pick = np.stack([np.searchsorted(e, p) for e, p in zip(edges, points, strict=True)]).clip(0, m - 1)
        x, regime, read, log_weight = (a.copy() for a in (self.x, self.regime, self.read, self.log_weight))
        for kept, old in ((x, self.x), (regime, self.regime), (read, self.read)):
            kept[poor] = old[poor[:, None], pick]
        log_weight[poor] = 0.0
        return Particles(self.hour, x, regime, read, log_weight)


def particles(law: Law, seen: Shown, hours: int, m: int, rng: np.random.Generator) -> Particles:
    """Particles of the state in hour `hours` - 1, given its charts and all that is shown before it."""
    n = len(seen)
    none = Particles(-1, np.zeros((n, m, _D)), np.zeros((n, m), np.int64), np.zeros((n, m, _K)), np.zeros((n, m)))
    found = none
    for _ in range(hours):
        found = step(law, seen, found, rng, charts=True)
    return found


def step(law: Law, seen: Shown, old: Particles, rng: np.random.Generator, charts: bool) -> Particles:
    """The next hour, given this hour's treatments, that the stay goes on, and the next charts if they are known."""
    t, (n, m) = old.hour + 1, old.log_weight.shape
    if t == 0:
        mean, variance = before(law, seen)
        centre = np.repeat(mean[:, None], m, axis=1)
        regime = (rng.random((n, m, 1)) >= np.cumsum(law.begin)[:-1]).sum(axis=2)
    else:
        old = weighed(law, seen, old).resampled(rng)
        variance = law.shock**2
        regime = icu_dynamics.changed(law, old.regime, rng.random((n, m)))
        centre = icu_dynamics.moved(law, old.x, regime, seen.given[:, t - 1][:, None])
    log_weight = old.log_weight.copy()
    noise = rng.standard_normal((n, m, _D))
    if charts:
        precision, told = evidence(law, seen, t)
        cov = np.linalg.inv(precision + np.eye(_D) / variance)
        mean = np.einsum("nde,nme->nmd", cov, centre / variance + told[:, None])
        gained = np.einsum("nmd,nmd->nm", mean, centre / variance + told[:, None]) - (centre**2).sum(2) / variance
        log_weight += gained / 2
        x = mean + np.einsum("nde,nme->nmd", np.linalg.cholesky(cov), noise)
        log_weight += mask_says(law, seen, x, t)
        read = np.repeat(last_read(law, seen, old.read[:, 0], t)[:, None], m, axis=1)
    else:
        x = centre + np.sqrt(variance) * noise
        read = guessed_read(law, x, old.read, t, rng)
    return Particles(t, x, regime, read, log_weight - log_weight.max(axis=1, keepdims=True))


def weighed(law: Law, seen: Shown, at: Particles) -> Particles:
    """The same particles, weighted by the hour's treatments and, after the window, by not having ended with it."""
    more = treatments_say(law, seen, at.x, at.read, at.hour)
    if at.hour >= WINDOW and law.spec.sigma:
        dies, leaves = icu_law.end_chances(law, at.x, icu_law.frailty(seen.static)[:, None])
        more = more + np.log1p(-np.minimum(dies, 1 - 1e-12)) + np.log1p(-np.minimum(leaves, 1 - 1e-12))
    return replace(at, log_weight=at.log_weight + more)


def mask_says(law: Law, seen: Shown, x: Float[np.ndarray, "n m d"], t: int) -> Float[np.ndarray, "n m"]:
    """Log likelihood of which laboratory panels were seen (a panel all of whose values are missing is not)."""
    if law.informative == 0:
        return np.zeros(x.shape[:2])
    p = chance(icu_law.panel_odds(law, x, t)) * (1 - law.spec.p_miss**_PANEL_SIZES)
    said = np.where(seen.panels[:, t][:, None], np.log(p), np.log1p(-p))
    return said[:, :, _LABORATORY].sum(axis=2)


def last_read(law: Law, seen: Shown, read: Float[np.ndarray, "n k"], t: int) -> Float[np.ndarray, "n k"]:
    """What the policy reads in hour t: the last charted values, the sick ones positive."""
    at = law.reads
    return np.where(seen.seen[:, t, at], law.toward * seen.z[:, t, at], read)


def guessed_read(
    law: Law, x: Float[np.ndarray, "n m d"], read: Float[np.ndarray, "n m k"], t: int, rng: np.random.Generator
) -> Float[np.ndarray, "n m k"]:
    """What the policy would read in an hour whose charts are not known."""
    if law.spec.lambda_p == 0:
        return read
    n, m, _ = x.shape
    flat, at = x.reshape(n * m, _D), law.reads
    taken = rng.random((n * m, len(PANELS))) < chance(icu_law.panel_odds(law, flat, t))
    looked = icu_dynamics.read_panels(taken, rng.random((n * m, _K)), law)
    z = flat @ law.loadings[at].T + law.noise[at] * rng.standard_normal((n * m, _K)) + law.starts()[at]
    return np.where(looked, law.toward * standard(charted(z, at), at), read.reshape(n * m, _K)).reshape(n, m, _K)


def treatments_say(
    law: Law, seen: Shown, x: Float[np.ndarray, "n m d"], read: Float[np.ndarray, "n m k"], t: int
) -> Float[np.ndarray, "n m"]:
    """Log likelihood of the hour's treatments."""
    if law.spec.lambda_p == 0:
        return np.zeros(x.shape[:2])
    ran = seen.given[:, t - 1] > 0 if t else np.zeros_like(seen.given[:, 0], dtype=bool)
    odds = icu_law.policy_odds(law, x, read, ran[:, None])
    runs = seen.given[:, t][:, None] > 0
    return -np.logaddexp(0, np.where(runs, -odds, odds)).sum(axis=2)


def few(seen: Shown, index: np.ndarray) -> Shown:
    """Some of the stays."""
    return replace(seen, **{name: a[index] for name, a in vars(seen).items()})
