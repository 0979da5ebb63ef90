"""Random settings over the knobs' own domains, and the error that docs/theory.md states for the limits at each."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from simlab.environments.knobs import GaussianSpec, find
from simlab.limits.gaussian import moments


def inside(symbol, low=None, high=None):
    """A knob's domain (or a narrower part of it, where numbers would overflow), to four decimals."""
    domain = find(symbol).domain
    low = domain.low + (1e-2 if domain.low_open else 0) if low is None else low
    high = domain.high - (1e-2 if domain.high_open else 0) if high is None else high
    return st.floats(low, high).map(lambda x: round(x, 4))


def often(default, strategy):
    """The default in half of all settings, so that few knobs meet at once."""
    return st.just(default) | strategy


def room(knobs):
    """The largest slope on the site effect, inside and outside: where nothing is left of the liability's noise."""
    h2, w_x, w_c, w_u = (knobs[key] for key in ("h2", "w_x", "w_c", "w_u"))
    shares = w_c, w_u * knobs.get("delta_u_e", 1.0) ** 2, (1 - w_x - w_c - w_u) * knobs.get("delta_v_e", 1.0) ** 2
    return max(1 - h2, 0.0) ** 0.5, max(1 - h2 * (w_x + sum(shares)), 0.0) ** 0.5


def stated_error(s: GaussianSpec) -> float:
    """The mean error of the risk, by quadrature, of products of causes and of causes that are not normal.

    The larger of the two of sections 10 and 11, by the noise that is left in the liability: .1, .05 or less.
    """
    if s.w_x == 0 and s.alpha_lat == 2:
        return 0.0
    left = min(s.noise_variance(domain) for domain in ("source", "external"))
    return 4e-6 if left >= 0.1 else 6e-5 if left >= 0.05 else 4e-4


def stated_area_error(s: GaussianSpec) -> float:
    """What that can move an AUC by: the mean of |error| (1/K + 1/(1 - K)), labels being weighted by the risk."""
    shares = np.array([moments(s, domain).prevalence for domain in ("source", "external")])
    return float(stated_error(s) * (1 / (shares * (1 - shares))).max())
