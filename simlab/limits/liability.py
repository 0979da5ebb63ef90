"""g(r, K): the AUC of a score whose correlation with a Gaussian liability is r, at prevalence K. Exact, vectorised.

With (s, l) jointly Gaussian and y = 1[l > t], t = Phi^-1(1 - K), the AUC is P(d > 0, l1 > t, l0 < t) / (K (1 - K))
for a trivariate Gaussian. Differentiating in r (Plackett's identity), the two conditional probabilities add up
to one, and what remains integrates to Owen's T function:

    g(r, K) = 1/2 + T(t, r / sqrt(2 - r^2)) / (K (1 - K)),   T(h, a) = 1/(2 pi) int_0^a exp(-h^2 (1+x^2)/2)/(1+x^2) dx.

At K = 1/2 this is 1/2 + (2/pi) arcsin(r / sqrt(2)); at r = 1 it is 1; it is odd about 1/2 in r (docs/theory.md, 3).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri, owens_t

from simlab.errors import OutOfDomain

Numbers = float | Float[np.ndarray, "..."]


def auc(r: Numbers, prevalence: Numbers) -> Numbers:
    """g(r, K), of the broadcast shape of r (correlations in [-1, 1]) and prevalence (in (0, 1)).

    Arrays in, array out; numbers in, number out. Rounding may carry a correlation 1e-9 past +-1. Raises OutOfDomain.
    """
    r, k = np.asarray(r, float), np.asarray(prevalence, float)
    if not np.all(np.abs(r) <= 1 + 1e-9):
        raise OutOfDomain("a correlation with the liability must lie in [-1, 1].")
    if not np.all((k > 0) & (k < 1)):
        raise OutOfDomain("a prevalence must lie in (0, 1).")
    r = np.clip(r, -1, 1)
    value = 0.5 + owens_t(ndtri(k), r / np.sqrt(2 - r**2)) / (k * (1 - k))
    value = np.clip(value, 0.0, 1.0)
    return float(value) if value.ndim == 0 else value


def correlation(auc_value: Numbers, prevalence: Numbers) -> Numbers:
    """The r in [-1, 1] with g(r, K) = auc_value: the inverse of `auc`, to rounding error.

    Newton's method in theta, r = sqrt(2) sin(theta), from theta = 0: T(t, tan theta) is concave for theta > 0, so that
    no step can overshoot. Raises OutOfDomain for an AUC outside [0, 1] or a prevalence outside (0, 1).
    """
    a, k = np.broadcast_arrays(np.asarray(auc_value, float), np.asarray(prevalence, float))
    if not np.all((a >= 0) & (a <= 1)):
        raise OutOfDomain("an AUC must lie in [0, 1].")
    if not np.all((k > 0) & (k < 1)):
        raise OutOfDomain("a prevalence must lie in (0, 1).")
    t, target = ndtri(k), np.abs(a - 0.5) * k * (1 - k)
    theta = np.zeros(a.shape)
    for _ in range(60):
        slope = np.exp(-(t**2) / (2 * np.cos(theta) ** 2)) / (2 * np.pi)
        step = (target - owens_t(t, np.tan(theta))) / slope
        theta = np.clip(theta + step, 0.0, np.pi / 4)
        if np.all(np.abs(step) < 1e-15):
            break
    value = np.sign(a - 0.5) * np.clip(np.sqrt(2) * np.sin(theta), 0, 1)
    return float(value) if value.ndim == 0 else value
