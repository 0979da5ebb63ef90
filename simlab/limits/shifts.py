"""What a kind of shift does to a fixed rule, in closed form: curves, directions and break-evens known in advance.

A rule w'z fitted in the source has r = w'm/(sd(l) sqrt(w'S w)) outside: a shift acts through the numerator (what the
rule still says about the liability) and the denominator (how much it varies). Proxy decoupling lowers the first, pure
coupling moves only the second, resampled classes touch neither and move calibration alone (docs/theory.md, 15:
hypotheses H7, H8 and H10 of the design).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.polynomial.legendre import leggauss
from scipy.special import log_ndtr, ndtr, ndtri

from simlab.errors import OutOfDomain
from simlab.limits.gaussian import Moments
from simlab.limits.liability import auc
from simlab.limits.oracles import retained


@dataclass(frozen=True)
class Rule:
    """A fixed score outside: `signal` = w'm/sd(l), `variance` = w'S w, its correlation with l and its AUC."""

    signal: float
    variance: float
    correlation: float
    auc: float


@dataclass(frozen=True)
class Calibration:
    """The source's risk on target records: its mean, what is true, and the mean distance from the target's own risk."""

    mean_risk: float
    prevalence: float
    error: float  # E |source's risk - target's risk|, target records


def rule(weights: Float[np.ndarray, " p"], law: Moments) -> Rule:
    """What a fixed linear score is worth in a domain (r = 0 for a constant score)."""
    signal, variance = float(weights @ law.standardised_cov), float(weights @ law.cov @ weights)
    r = float(np.clip(signal / np.sqrt(variance), -1, 1)) if variance > 0 else 0.0
    return Rule(signal, variance, r, float(auc(r, law.prevalence_law)))


def break_even(weights: Float[np.ndarray, " p"], near: Moments, far: Moments, level: float) -> float | None:
    """The share s of the way from `near` to `far` at which a score's correlation falls to `level` (> 0); None: never.

    For shifts that move second moments linearly and leave Var l, as kappa_e and eta_e do with tau_e = 1: along the
    way r(s) = (a + b s)/sqrt(c + d s), so that r = level is a quadratic in s. The first root in [0, 1]. Raises
    OutOfDomain for a level that is not positive, or domains whose liabilities differ in variance.
    """
    if level <= 0 or not np.isclose(near.var_liability, far.var_liability, rtol=1e-9):
        raise OutOfDomain("a break-even needs a positive correlation as its level, and one Var(l) in both domains.")
    start, end = rule(weights, near), rule(weights, far)
    a, b, c, d = start.signal, end.signal - start.signal, start.variance, end.variance - start.variance
    roots = np.roots(np.trim_zeros([b * b, 2 * a * b - level**2 * d, a * a - level**2 * c], "f"))
    real = sorted(float(s.real) for s in np.atleast_1d(roots) if abs(s.imag) < 1e-9 and -1e-12 <= s.real <= 1 + 1e-12)
    return next((s for s in real if a + b * s > 0), None)


def calibration(source: Moments, target: Moments) -> Calibration:
    """How far the source's risk of both views is from the target's, where only the classes were resampled.

    One Gaussian integral over the standardised best score s: the source's risk is p = Phi((R s - t)/sqrt(1 - R^2)), the
    target's has the odds of p times [K_e/(1-K_e)]/[K/(1-K)], and target records are weighted by the density ratio
    p K_e/K + (1-p)(1-K_e)/(1-K). Raises OutOfDomain where something else moved.
    """
    if not (np.allclose(source.cov, target.cov) and np.allclose(source.mean, target.mean)
            and np.allclose(source.cov_liability, target.cov_liability)):
        raise OutOfDomain("this calibration is for resampled classes alone: nothing else may differ.")
    share, k, new = retained(source), source.prevalence, target.prevalence
    x, weight = leggauss(600)
    x, weight = 9 * x, 9 * weight * np.exp(-((9 * x) ** 2) / 2) / np.sqrt(2 * np.pi)
    z = (np.sqrt(share) * x + ndtri(k)) / np.sqrt(max(1 - share, 1e-300))
    p = ndtr(z)
    shown = weight * (p * new / k + (1 - p) * (1 - new) / (1 - k))
    log_odds = log_ndtr(z) - log_ndtr(-z) + np.log(new / (1 - new)) - np.log(k / (1 - k))
    truth = 1 / (1 + np.exp(-np.clip(log_odds, -700, 700)))
    return Calibration(float(shown @ p), float(shown @ truth), float(shown @ np.abs(p - truth)))
