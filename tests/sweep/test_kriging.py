"""The Gaussian process against scikit-learn's at the same hyperparameters, against closed forms, and at its own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from simlab.sweep import kriging
from simlab.sweep.kriging import Kernel, Process, fit, shrunk


@pytest.fixture
def seen(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = rng.uniform(size=(14, 2))
    return x, np.sin(4 * x[:, 0]) - x[:, 1] ** 2 + rng.normal(0, 0.05, 14), rng.uniform(0.001, 0.02, 14)


def test_mean_variance_and_likelihood_are_scikit_learns(seen: tuple[np.ndarray, ...], rng: np.random.Generator) -> None:
    x, y, noise = seen
    ours = Process.at(Kernel(0.7, (0.4, 1.3), 2.5), x, noise)
    kernel = ConstantKernel(2.5) + ConstantKernel(0.7) * Matern([0.4, 1.3], nu=2.5)
    theirs = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None).fit(x, y)
    at = rng.uniform(-0.2, 1.2, size=(30, 2))
    mean, sd = theirs.predict(at, return_std=True)
    assert ours.weights(at) @ y == pytest.approx(mean, abs=1e-10)
    assert np.sqrt(ours.variance(at)) == pytest.approx(sd, abs=1e-8)
    assert ours.log_likelihood(y) == pytest.approx(theirs.log_marginal_likelihood_value_, abs=1e-9)


def test_the_likelihoods_slope_is_scikit_learns(seen: tuple[np.ndarray, ...]) -> None:
    """By log variance and log length scales, as theirs; the offset is fixed in both."""
    x, y, noise = seen
    kernel = ConstantKernel(2.5, "fixed") + ConstantKernel(0.7) * Matern([0.4, 1.3], nu=2.5)
    theirs = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None).fit(x, y)
    slope = theirs.log_marginal_likelihood(theirs.kernel_.theta, eval_gradient=True)[1]
    assert Process.at(Kernel(0.7, (0.4, 1.3), 2.5), x, noise).gradient(y) == pytest.approx(slope, rel=1e-8)


def test_one_observation_in_closed_form() -> None:
    """Posterior of k and noise v: mean k12/(k + v) y, variance k - k12^2/(k + v); Matern-5/2 by its formula."""
    process = Process.at(Kernel(2.0, (0.5,)), np.array([[0.0]]), np.array([0.3]))
    r = np.sqrt(5) * 0.25 / 0.5
    k12 = 2 * (1 + r + r**2 / 3) * np.exp(-r)
    at = np.array([[0.25]])
    assert (process.weights(at) @ [1.7]).item() == pytest.approx(k12 / 2.3 * 1.7)
    assert process.variance(at).item() == pytest.approx(2 - k12**2 / 2.3)
    assert process.unseen(at).item() == pytest.approx(2 - k12**2 / 2.3 - (k12 / 2.3) ** 2 * 0.3)
    assert process.log_likelihood(np.array([1.7])) == pytest.approx(stats.norm.logpdf(1.7, 0, np.sqrt(2.3)))


def test_seen_points_count_whatever_they_will_hold(seen: tuple[np.ndarray, ...]) -> None:
    x, _, noise = seen
    few, all_ = Process.at(Kernel(1.0, (0.5, 0.5)), x[:9], noise[:9]), Process.at(Kernel(1.0, (0.5, 0.5)), x, noise)
    at = np.array([[0.3, 0.6], [0.9, 0.1]])
    assert few.with_points(x[9:], noise[9:]).variance(at) == pytest.approx(all_.variance(at), abs=1e-12)


def test_hyperparameters_are_those_that_made_the_data(rng: np.random.Generator) -> None:
    """A draw of a process with one short and one long axis: the fit tells them apart, and its likelihood is not below
    that of the truth but for the weak prior (two units of log likelihood)."""
    x, truth = rng.uniform(size=(70, 2)), Kernel(1.0, (0.25, 2.0), 0.5)
    noise = np.full(70, 1e-3)
    y = rng.multivariate_normal(np.zeros(70), truth(x, x) + np.diag(noise))
    found = fit(x, y, noise)
    assert found.kernel.lengths[1] > 2.5 * found.kernel.lengths[0]
    assert found.kernel.lengths[0] == pytest.approx(0.25, rel=0.5)
    assert found.log_likelihood(y) > Process.at(truth, x, noise).log_likelihood(y) - 2
    again = fit(x, y * 1000, noise * 1e6)  # units do not matter
    assert again.kernel.lengths == pytest.approx(found.kernel.lengths, rel=1e-3)


def test_variances_are_pooled_as_far_as_they_agree(rng: np.random.Generator) -> None:
    """Smyth (2004): one true variance: all cells get nearly the same; very different ones: each keeps its own.

    And shrunk estimates are nearer to the truth than raw ones (mean squared error of the logarithms)."""
    same = rng.chisquare(7, 200) / 7
    assert np.std(np.log(shrunk(same, 7))) < 0.15 * np.std(np.log(same))
    assert np.mean(shrunk(same, 7)) == pytest.approx(1, abs=4 * np.sqrt(2 / 7 / 200))
    far = np.exp(rng.normal(0, 1, 200))
    assert np.log(shrunk(far, 2000)) == pytest.approx(np.log(far), abs=0.05)
    truth = np.exp(rng.normal(0, 0.5, 400))
    raw = truth * rng.chisquare(7, 400) / 7
    error = [np.mean(np.log(estimate / truth) ** 2) for estimate in (shrunk(raw, 7), raw)]
    assert error[0] < 0.75 * error[1]


def test_the_inverse_of_trigamma() -> None:
    for x in (0.2, 1.0, 4.0, 300.0):
        assert kriging._inverse_trigamma(float(kriging.polygamma(1, x))) == pytest.approx(x, rel=1e-6)
