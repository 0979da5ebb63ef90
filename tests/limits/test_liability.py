"""g(r, K) against the arcsin identity, its definition as an integral, a trivariate normal, and two reference points."""

import numpy as np
import pytest
from clock import over
from scipy.special import owens_t
from scipy.stats import multivariate_normal, norm

from simlab.errors import OutOfDomain
from simlab.limits.liability import auc, correlation

GRID = np.array([-0.999, -0.9, -0.5, -0.1, 0.0, 0.05, 0.3, 0.7, 0.95, 0.999])


def by_definition(r: float, k: float) -> float:
    """AUC = int F0(s) dF1(s), P(y = 1 | s) = Phi((r s - t)/sqrt(1 - r^2)), by the trapezoid rule on 400,001 points."""
    s = np.linspace(-9, 9, 400_001)
    p = norm.cdf((r * s - norm.ppf(1 - k)) / np.sqrt(1 - r**2))
    one, zero = norm.pdf(s) * p, norm.pdf(s) * (1 - p)
    step = s[1] - s[0]
    below = np.cumsum(zero) * step - zero * step / 2
    return float((one * below).sum() * step / (k * (1 - k)))


def test_half_prevalence_is_arcsin():
    r = np.linspace(-1, 1, 501)
    assert np.abs(auc(r, 0.5) - (0.5 + 2 / np.pi * np.arcsin(r / np.sqrt(2)))).max() < 1e-12


@pytest.mark.parametrize("k", [0.01, 0.1, 0.3, 0.5, 0.77, 0.99])
def test_definition(k):
    for r in GRID:
        assert auc(float(r), k) == pytest.approx(by_definition(float(r), k), abs=1e-6)


@pytest.mark.parametrize(("r", "k"), [(0.5, 0.2), (0.8, 0.1), (-0.6, 0.35), (0.9, 0.6)])
def test_trivariate_normal(r, k):
    """P(d > 0, l1 > t, l0 < t)/(K(1-K)); scipy's own numerical error is asked to stay below 1e-6."""
    t, q = norm.ppf(1 - k), r / np.sqrt(2)
    # orthant of (-d, -l1, l0) below (0, -t, t)
    cov = np.array([[1, q, q], [q, 1, 0], [q, 0, 1]])
    p = multivariate_normal(np.zeros(3), cov, abseps=1e-7, releps=1e-7, maxpts=4_000_000, seed=0).cdf([0, -t, t])
    assert auc(r, k) == pytest.approx(p / (k * (1 - k)), abs=2e-5)


def test_published_points():
    assert auc(0.5, 0.2) == pytest.approx(0.74821, abs=5e-6)
    assert auc(0.8, 0.1) == pytest.approx(0.9191, abs=5e-5)


def test_ends_symmetry_and_shapes():
    k = np.array([0.01, 0.3, 0.5, 0.99])
    assert np.allclose(auc(np.ones(4), k), 1, atol=1e-12) and np.allclose(auc(-np.ones(4), k), 0, atol=1e-12)
    assert np.array_equal(auc(np.zeros(4), k), np.full(4, 0.5))
    assert np.allclose(auc(GRID, 0.2) + auc(-GRID, 0.2), 1, atol=1e-14)
    assert np.allclose(auc(GRID, 0.2), auc(GRID, 0.8), atol=1e-14)
    assert auc(GRID[:, None], k[None, :]).shape == (10, 4) and isinstance(auc(0.3, 0.3), float)


@pytest.mark.parametrize("k", [0.01, 0.2, 0.5, 0.99])
def test_inverse(k):
    r = np.linspace(-1, 1, 401)
    assert np.abs(correlation(auc(r, k), k) - r).max() < 1e-7
    assert correlation(0.74821, 0.2) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("call", [lambda: auc(1.1, 0.3), lambda: auc(0.3, 0.0), lambda: auc(0.3, 1.0),
                                  lambda: auc(float("nan"), 0.3), lambda: correlation(1.2, 0.3),
                                  lambda: correlation(0.7, 1.0)])
def test_refuses(call):
    with pytest.raises(OutOfDomain):
        call()


def test_many_settings_a_second():
    """A million evaluations cost hardly more than Owen's T of as many numbers in C (seen: 1.1 times)."""
    r = np.random.default_rng(0).uniform(-1, 1, 1_000_000)
    assert over(lambda: auc(r, 0.3), lambda: owens_t(r, 0.7)) < 4
