"""Worlds whose liability is Gaussian but for a product of two causes and a mixture over sites: their exact risk.

Given the site, with effect e, measured coordinates z and (l0, u_1, v_1) are jointly Gaussian, and

    l = l0 + x u_1 v_1 + rho e,      z = z0 + d e,      x = sqrt(h2 w_x).

Four linear functions of what is shown say all that it says about l: the posterior means of l0, u_1 and v_1, and the
score of the site. Given z, the site and u_1, the liability is Gaussian, so P(y = 1 | z) is a sum over sites of
one-dimensional Gauss-Hermite integrals (docs/theory.md, 10). Areas under curves: `simlab.limits.areas`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss
from scipy.optimize import brentq
from scipy.special import logsumexp, ndtr, ndtri

from simlab.environments.knobs import GaussianSpec
from simlab.limits.gaussian import Moments, acquired, site_direction, site_effects, solve, turned, within

NODES, FINE = 40, 400  # of the risk of each record; of a prevalence


@dataclass(frozen=True, eq=False)
class Joint:
    """The law of (z, l) in one domain. `law` holds at the mean site effect; `effects` are deviations from that mean."""

    law: Moments
    beside: Float[np.ndarray, "p 3"]  # Cov(z, (l0, u_1, v_1))
    mean: Float[np.ndarray, "3"]  # of (l0, u_1, v_1)
    cov: Float[np.ndarray, "3 3"]
    product: float  # x
    direction: Float[np.ndarray, " p"]  # d
    rho: float
    effects: Float[np.ndarray, " sites"]
    total: Moments  # mean and covariance of (z, l) over all sites, with the true prevalence and threshold


@dataclass(frozen=True, eq=False)
class Reader:
    """How the risk follows from what is shown, of z or of linear features of z: see `stats` and `risk`."""

    joint: Joint
    weights: Float[np.ndarray, "p 4"]
    cov: Float[np.ndarray, "3 3"]  # of (l0, u_1, v_1) given what is shown and the site
    site_known: bool = False  # whether what is shown tells the site, so that the fourth number is its effect

    def stats(self, z: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n 4"]:
        """Deviations of the posterior means of (l0, u_1, v_1) at the mean site, and the site's score (or its effect's
        deviation from the mean, where the site is known)."""
        return (z - self.joint.law.mean) @ self.weights

    def risk(self, stats: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
        """P(y = 1 | what is shown), unknown sites marginalised; prior-corrected where classes are resampled."""
        joint, total = self.joint, self.joint.total
        drift, information = joint.direction @ self.weights[:, :3], float(joint.direction @ self.weights[:, 3])
        effects = joint.effects
        if self.site_known:
            e = stats[:, 3:]
            means = joint.mean + stats[:, :3] - e * drift + joint.rho * e * np.array([1.0, 0.0, 0.0])
            return self._resampled(np.clip(above(total.threshold, means, self.cov, joint.product), 0.0, 1.0))
        log_weight = effects[:, None] * stats[:, 3] - effects[:, None] ** 2 * information / 2
        log_weight -= logsumexp(log_weight, axis=0)
        risk = np.zeros(len(stats))
        for e, log_w in zip(effects, log_weight, strict=True):
            means = joint.mean + stats[:, :3] - e * drift
            means[:, 0] += joint.rho * e
            risk += np.exp(log_w) * above(total.threshold, means, self.cov, joint.product)
        return self._resampled(np.clip(risk, 0.0, 1.0))

    def _resampled(self, risk: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        total = self.joint.total
        if total.prevalence == total.prevalence_law:
            return risk
        up, down = total.prevalence / total.prevalence_law, (1 - total.prevalence) / (1 - total.prevalence_law)
        return up * risk / (up * risk + down * (1 - risk))


def joint(spec: GaussianSpec, domain: str = "source") -> Joint:
    """The law of one domain, "source" or "external". Raises UnknownName for another."""
    law, out = within(spec, domain), domain == "external"
    beside = np.zeros((law.p, 3))
    mean, cov = np.array([law.mean_liability, 0.0, 0.0]), np.diag([law.var_liability, 1.0, 1.0])
    shift, stretch = (spec.mu_e, spec.tau_e**2 - 1) if out else (0.0, 0.0)
    for i, (name, slope) in enumerate((("u", spec.slopes(domain)[1]), ("v", spec.slopes(domain)[2])), start=1):
        d = spec.d_u if name == "u" else spec.d_v
        beta = np.full(d, 1 / np.sqrt(d))
        loading = np.zeros(d)
        loading[0] = 1
        known = loading + stretch * beta[0] * beta
        beside[law.blocks[name], i] = np.tile(known, spec.carriers(name))
        mean[i] = shift * beta[0]
        cov[i, i] = 1 + stretch * beta[0] ** 2
        cov[0, i] = cov[i, 0] = slope * turned(d, spec.theta_e if out else 0.0) @ known
    if out:
        beside = acquired(spec, beside.T, 0.0).T
    beside[:, 0] = law.cov_liability
    direction = site_direction(spec, domain)
    if out:
        direction = acquired(spec, direction, 0.0)
    effects = site_effects(spec, domain)
    effects = effects - (spec.mu_site_e if out else 0.0)
    rho = spec.rho_s_e if out else spec.rho_s
    raw = Joint(law, beside, mean, cov, float(np.sqrt(spec.h2 * spec.w_x)), direction, rho, effects, law)
    return replace(raw, total=_total(raw, spec, out))


def _total(raw: Joint, spec: GaussianSpec, out: bool) -> Moments:
    """Mean and covariance over sites and product; the true prevalence, or the threshold for the one asked for."""
    law, x, (_, mu, mv) = raw.law, raw.product, raw.mean
    spread = float(np.mean(raw.effects**2))
    cov = law.cov + spread * np.outer(raw.direction, raw.direction)
    covl = law.cov_liability + spread * raw.rho * raw.direction + x * (mv * raw.beside[:, 1] + mu * raw.beside[:, 2])
    v = raw.cov
    product = v[1, 1] * v[2, 2] + v[1, 2] ** 2 + mu**2 * v[2, 2] + mv**2 * v[1, 1] + 2 * mu * mv * v[1, 2]
    var_l = v[0, 0] + spread * raw.rho**2 + x**2 * product + 2 * x * (mv * v[0, 1] + mu * v[0, 2])
    mean_l = law.mean_liability + x * (mu * mv + v[1, 2])
    base = replace(law, cov=cov, cov_liability=covl, mean_liability=float(mean_l), var_liability=float(var_l))
    threshold = -float(ndtri(spec.prevalence))
    if out and spec.prevalence_e is not None and spec.prevalence_kind == "threshold":
        reach = 12 * np.sqrt(var_l)
        threshold = float(brentq(lambda t: share_above(raw, t) - spec.prevalence_e, mean_l - reach, mean_l + reach))
    share = share_above(raw, threshold)
    asked = spec.prevalence_e if out and spec.prevalence_e is not None else share
    return replace(base, threshold=threshold, prevalence=float(asked), prevalence_law=share)


def share_above(law: Joint, threshold: float) -> float:
    """P(l > threshold), over all sites."""
    means = law.mean + np.outer(law.rho * law.effects, [1.0, 0.0, 0.0])
    return float(np.mean(above(threshold, means, law.cov, law.product, FINE)))


def above(threshold: float, means: Float[np.ndarray, "n 3"], cov: Float[np.ndarray, "3 3"], product: float,
          nodes: int = NODES) -> Float[np.ndarray, " n"]:
    """P(l0 + x u v > threshold) for Gaussian (l0, u, v) with these means and one covariance: quadrature over u or v.

    Given u, the liability is Gaussian: l0 + x u v is linear in what is left. The same holds given v; the integral goes
    over the one of less variance, so that what is left, of more, makes the integrand smooth.
    """
    m, mu, mv = means.T
    if product == 0:
        return ndtr((m - threshold) / np.sqrt(max(cov[0, 0], 1e-300)))
    if cov[1, 1] > cov[2, 2]:
        (mu, mv), cov = (mv, mu), cov[np.ix_([0, 2, 1], [0, 2, 1])]
    sd = np.sqrt(max(cov[1, 1], 0.0))
    b, c = (cov[0, 1] / cov[1, 1], cov[2, 1] / cov[1, 1]) if sd > 0 else (0.0, 0.0)
    var_l, var_v = cov[0, 0] - b * cov[0, 1], max(cov[2, 2] - c * cov[2, 1], 0.0)
    both = cov[0, 2] - b * cov[1, 2]
    share = np.zeros(len(means))
    for x, w in zip(*_rule(nodes), strict=True):
        step = sd * x
        u = mu + step
        centre = m + b * step + product * u * (mv + c * step)
        variance = var_l + 2 * product * u * both + (product * u) ** 2 * var_v
        share += w * ndtr((centre - threshold) / np.sqrt(np.maximum(variance, 1e-300)))
    return share


@lru_cache(maxsize=8)
def _rule(nodes: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Nodes and weights for a standard normal (not to be written to): Gauss-Hermite; above 100, Gauss-Legendre on 9
    standard deviations, whose nodes lie densely where the integrand turns sharply."""
    if nodes > 100:
        x, w = leggauss(nodes)
        x, w = 9 * x, w * np.exp(-((9 * x) ** 2) / 2)
    else:
        x, w = hermegauss(nodes)
    return x, w / w.sum()


def reader(law: Joint, rows: Int[np.ndarray, " r"] | None = None,
           basis: Float[np.ndarray, "p q"] | None = None) -> Reader:
    """The reader of some coordinates of z, of linear features basis'z, or (neither) of all of z."""
    known = np.column_stack([law.beside, law.direction])
    if basis is not None:
        cov, inner = basis.T @ law.law.cov @ basis, basis.T @ known
        told = _tells_site(cov, inner[:, 3])
        weights = basis @ solve(cov, inner)
        exact = None if told is None else basis @ told
    else:
        shown = np.arange(law.law.p) if rows is None else rows
        cov = law.law.cov[np.ix_(shown, shown)]
        told = _tells_site(cov, known[shown, 3])
        weights, exact = np.zeros_like(known), None if told is None else np.zeros(law.law.p)
        weights[shown] = solve(cov, known[shown])
        if exact is not None:
            exact[shown] = told
    if exact is not None:
        weights[:, 3] = exact
    return Reader(law, weights, law.cov - law.beside.T @ weights[:, :3], exact is not None)


def _tells_site(cov: Float[np.ndarray, "q q"], direction: Float[np.ndarray, " q"]) -> Float[np.ndarray, " q"] | None:
    """Weights that give the site's effect without error, from features of this covariance given the site, which one
    unit of effect moves by `direction`; None where there are none."""
    if not direction.any():
        return None
    sd = np.sqrt(np.diag(cov))
    sd = np.where(sd > 1e-12, sd, 1.0)
    values, vectors = np.linalg.eigh(cov / np.outer(sd, sd))
    null = vectors[:, values <= 1e-10] / sd[:, None]
    told = null.T @ direction
    return null @ told / (told @ told) if np.abs(told).max(initial=0.0) > 1e-6 else None
