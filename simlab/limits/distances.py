"""How far two hospitals' records lie apart where no closed form says: Monte Carlo on exact density ratios.

Given the hospital the measured coordinates z are Gaussian, so that the density of a mixture over hospitals, and with it
the log-likelihood ratio L of target against source, is exact at any z; where classes are resampled the target's density
is multiplied by w = p K_e/K + (1 - p)(1 - K_e)/(1 - K), p the risk before resampling. Then Jeffreys' divergence is
E_target L - E_source L and the domain AUC that of L: both means over batches of drawn records, with their error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from simlab.environments.knobs import GaussianSpec
from simlab.errors import OutOfDomain
from simlab.limits.areas import replace_prevalence
from simlab.limits.joint import Joint, joint, reader

BATCHES, RECORDS = 20, 1500
FAR_APART = 1e3  # what an infinite log ratio counts as in a ranking
_SEED = 20_250_920


@dataclass(frozen=True)
class Distance:
    """Jeffreys divergence in nats (None: infinite) and domain AUC, each with its Monte-Carlo standard error."""

    jeffreys: float | None
    domain_auc: float
    jeffreys_error: float
    domain_auc_error: float


def distance(spec: GaussianSpec, records: int = RECORDS) -> Distance:
    """The distance of the two hospitals' records of both views. Pure: the generator is fixed.

    Raises OutOfDomain for causes that are not normal (alpha_lat), whose densities have no closed form.
    """
    if spec.alpha_lat != 2:
        raise OutOfDomain(f"alpha_lat = {spec.alpha_lat:g}: the density of records has a closed form only for normal "
                          "causes; take alpha_lat = 2.")
    source, target = joint(spec, "source"), joint(spec, "external")
    here, there = _Density(source), _Density(target)
    if here.null.shape != there.null.shape or np.abs(here.null.T @ there.root).max(initial=0.0) > 1e-6:
        return Distance(None, 1.0, 0.0, 0.0)  # one has mass where the other has none, whatever the hospital
    weigh = _resampling(target)
    found = []
    for rng in map(np.random.default_rng, np.random.SeedSequence(_SEED).spawn(BATCHES)):
        inside, outside = (law.sample(records, rng) for law in (here, there))
        one, two = there.log(inside) - here.log(inside), there.log(outside) - here.log(outside)
        w_one, w_two = weigh(inside), weigh(outside)
        found.append(of_ratio(one + np.log(w_one), two + np.log(w_two), w_two))
    return together(np.array(found))


def of_ratio(inside: Float[np.ndarray, " n"], outside: Float[np.ndarray, " m"],
             weight: Float[np.ndarray, " m"] | None = None) -> tuple[float, float]:
    """(Jeffreys, domain AUC) from log ratios of source and of (weighted) target records."""
    weight = np.ones(len(outside)) if weight is None else weight
    weight = weight / weight.sum()
    ordered = np.sort(np.clip(inside, -FAR_APART, FAR_APART))
    x = np.clip(outside, -FAR_APART, FAR_APART)
    below, upto = np.searchsorted(ordered, x - 1e-12), np.searchsorted(ordered, x + 1e-12)
    infinite = not (np.isfinite(inside).all() and np.isfinite(outside).all())
    far = math.inf if infinite else float(weight @ outside - inside.mean())
    return far, float(weight @ (below + upto)) / 2 / len(inside)


def together(found: Float[np.ndarray, "batches 2"]) -> Distance:
    """The mean over batches, with its error."""
    infinite = not np.isfinite(found[:, 0]).all()
    found = np.where(np.isfinite(found), found, 0.0)
    mean, error = found.mean(0), found.std(0, ddof=1) / np.sqrt(len(found))
    if infinite:
        return Distance(None, float(mean[1]), 0.0, float(error[1]))
    return Distance(max(float(mean[0]), 0.0), float(max(mean[1], 0.5)), float(error[0]), float(error[1]))


def _resampling(target: Joint):  # type: ignore[no-untyped-def]
    """z -> the weight that resampled classes give a record of the law before."""
    old, new = target.total.prevalence_law, target.total.prevalence
    if old == new:
        return lambda z: np.ones(len(z))
    plain = replace_prevalence(reader(target))

    def weight(z: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        risk = plain.risk(plain.stats(z))
        return risk * new / old + (1 - risk) * (1 - new) / (1 - old)
    return weight


class _Density:
    """The density of z in one hospital group: an equal mixture of Gaussians of one covariance, perhaps singular."""

    def __init__(self, law: Joint) -> None:
        self.law = law
        values, vectors = np.linalg.eigh(law.law.cov)
        kept = values > 1e-10 * max(float(values.max(initial=0.0)), 1e-300)
        self.null, spread = vectors[:, ~kept], np.sqrt(values[kept])
        self.root, self.white = vectors[:, kept] * spread, vectors[:, kept] / spread
        self.log_scale = float(np.log(spread).sum())

    def sample(self, n: int, rng: np.random.Generator) -> Float[np.ndarray, "n p"]:
        effect = self.law.effects[rng.integers(len(self.law.effects), size=n)]
        z = self.law.law.mean + rng.standard_normal((n, self.root.shape[1])) @ self.root.T
        return z + effect[:, None] * self.law.direction

    def log(self, z: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        """Log density, up to the power of 2 pi; -inf off the support."""
        centred = z - self.law.law.mean
        white, off = centred @ self.white, centred @ self.null
        step, away = self.law.direction @ self.white, self.law.direction @ self.null
        logs = []
        for e in self.law.effects:
            log = -0.5 * ((white - e * step) ** 2).sum(1) - self.log_scale
            apart = np.abs(off - e * away).max(axis=1, initial=0.0) > 1e-6
            logs.append(np.where(apart, -np.inf, log))
        with np.errstate(divide="ignore"):
            return logsumexp(logs, axis=0) - math.log(len(logs))
