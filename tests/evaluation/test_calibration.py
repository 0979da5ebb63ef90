"""Calibration of risks that are right, too extreme, or too high, by construction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from simlab.errors import OutOfDomain
from simlab.evaluation.calibration import probabilities, slope_and_offset

N = 40_000


@pytest.fixture
def truth(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    p = expit(rng.normal(-1.5, 1.0, N))
    return p, (rng.random(N) < p).astype(float)


def test_true_risks_have_slope_one_and_no_offset(truth) -> None:
    p, y = truth
    slope, offset = slope_and_offset(p, y)
    x = logit(p)
    weight = p * (1 - p)
    information = np.linalg.inv(np.array([[weight.sum(), weight @ x], [weight @ x, weight @ x**2]]))
    assert abs(slope - 1) < 4 * np.sqrt(information[1, 1])  # Fisher's error of the slope, .017
    assert abs(offset) < 4 * np.sqrt(weight.sum()) / N


def test_logits_twice_too_large_have_half_the_slope(truth) -> None:
    p, y = truth
    right = slope_and_offset(p, y)[0]
    assert slope_and_offset(expit(2 * logit(p)), y)[0] == pytest.approx(right / 2, rel=1e-3)
    assert slope_and_offset(p * 0.5, y)[1] == pytest.approx((p * 0.5).mean() - y.mean())


def test_what_a_score_is_decides_what_it_predicts() -> None:
    scores = np.array([-0.2, 0.5, 1.2])
    np.testing.assert_allclose(probabilities(scores, "probability"), [1e-3, 0.5, 1 - 1e-3])
    np.testing.assert_allclose(probabilities(scores, "logit"), expit(scores))
    assert probabilities(scores, "none") is None
    assert np.isnan(slope_and_offset(np.full(3, 0.2), np.array([0.0, 1, 0]))[0])
    with pytest.raises(OutOfDomain, match="percent"):
        probabilities(scores, "percent")
