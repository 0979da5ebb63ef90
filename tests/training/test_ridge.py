"""Tuned ridge against explicit refits and another library."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from simlab.training import ridge


def data(rng: np.random.Generator, n: int = 60, p: int = 8) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_normal((n, p)) * np.linspace(0.5, 2, p) + 1
    y = (x[:, 0] + rng.standard_normal(n) > 1).astype(float)
    return x, y


@pytest.mark.parametrize("repeats", [False, True])
def test_left_out_errors_are_those_of_real_refits(rng: np.random.Generator, repeats: bool) -> None:
    """The identity must equal leaving each subject out, refitting and predicting, intercept included."""
    x, y = data(rng)
    subjects = np.arange(60) // (3 if repeats else 1)
    for penalty in (0.0, 0.03, 2.0):
        found = ridge.fit(x, y, subjects, np.array([penalty, penalty * (1 + 1e-9)]))  # two: else nothing is tuned
        unit = ((x - x.mean(0)) ** 2).sum() / x.shape[1]
        errors = []
        for s in np.unique(subjects):
            out = subjects == s
            model = Ridge(alpha=max(penalty * unit, 1e-10)).fit(x[~out], y[~out])
            errors.extend((model.predict(x[out]) - y[out]) ** 2)
        # Leaving out moves the centre, which the identity treats exactly for penalty * unit held fixed.
        assert found.error == pytest.approx(np.mean(errors), rel=1e-6)


def test_the_fit_equals_scikit_learn(rng: np.random.Generator) -> None:
    x, y = data(rng)
    unit = ((x - x.mean(0)) ** 2).sum() / x.shape[1]
    found = ridge.fit(x, y, np.arange(60), np.array([0.3]))
    model = Ridge(alpha=0.3 * unit).fit(x, y)
    np.testing.assert_allclose(found.weights, model.coef_, rtol=1e-8)
    assert found.intercept == pytest.approx(model.intercept_)


def test_no_penalty_is_least_squares_also_of_minimum_norm(rng: np.random.Generator) -> None:
    for n in (60, 6):
        x, y = data(rng, n)
        y[:2] = 0, 1
        found = ridge.fit(x, y, np.arange(n), np.zeros(1))
        expected = np.linalg.lstsq(x - x.mean(0), y - y.mean(), rcond=None)[0]
        np.testing.assert_allclose(found.weights, expected, atol=1e-8)


def test_tuning_picks_the_smallest_error_and_never_an_undefined_one(rng: np.random.Generator) -> None:
    x, y = data(rng, 9)
    y[:2] = 0, 1
    assert ridge.fit(x, y, np.arange(9)).penalty > 0


def test_features_without_variance_give_a_constant_score(rng: np.random.Generator) -> None:
    found = ridge.fit(np.ones((20, 3)), np.r_[np.zeros(10), np.ones(10)], np.arange(20))
    assert found(np.zeros((2, 3))) == pytest.approx([0.5, 0.5])
