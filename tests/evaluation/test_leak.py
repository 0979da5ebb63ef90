"""The leak guard must be silent without a leak, at the rate that it states, and trip on a planted one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from simlab.errors import LeakDetected
from simlab.evaluation import leak


def case(rng: np.random.Generator, n: int = 2000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = rng.standard_normal(n)
    p = ndtr((0.75 * x - 0.5) / np.sqrt(1 - 0.75**2))
    return x, p, (rng.random(n) < p).astype(float)


def test_without_a_leak_z_is_standard_normal() -> None:
    """400 draws: the mean of z is known to 0.05, its standard deviation to 0.035; four of those."""
    rng = np.random.default_rng(3)
    z = []
    for _ in range(400):
        x, p, y = case(rng)
        z.append(leak.leak(x + rng.standard_normal(len(x)), y, p).z)  # an imperfect score
    assert abs(np.mean(z)) < 4 * 0.05
    assert abs(np.std(z) - 1) < 4 * 0.035


def test_a_score_that_saw_the_labels_trips(rng: np.random.Generator) -> None:
    x, p, y = case(rng, 20_000)
    found = leak.leak(x + 0.3 * y, y, p)
    assert found.excess > 0.01
    with pytest.raises(LeakDetected, match="planted"):
        leak.check([0.3, found.z, -1.0], ["a", "planted", "b"])


def test_the_bayes_rule_itself_is_no_leak(rng: np.random.Generator) -> None:
    _, p, y = case(rng, 20_000)
    leak.check([leak.leak(p, y, p).z], ["bayes"])


def test_family_wise_rate() -> None:
    """2000 families of 50 null z-values: trips 1 % (Bonferroni: at most); the count's standard deviation is 4.5."""
    rng = np.random.default_rng(1)
    z = np.abs(rng.standard_normal((2000, 50))).max(axis=1)
    assert abs((z > leak.threshold(50)).sum() - 20) < 4 * 4.5


def test_labels_of_another_law_are_refused_too(rng: np.random.Generator) -> None:
    x, p, y = case(rng, 20_000)
    with pytest.raises(LeakDetected, match="contradicts"):
        leak.check([leak.leak(x, rng.permutation(y), p).z], ["shuffled"])
