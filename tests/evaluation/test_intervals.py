"""Intervals over repeated splits, and the difference that a null could have missed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from simlab.errors import OutOfDomain
from simlab.evaluation import intervals


def test_nadeau_bengio_is_the_published_formula() -> None:
    """Nadeau & Bengio 2003: variance of the mean (1/J + n2/n1) s^2; here by hand for J = 4, n2/n1 = 1/3."""
    interval, se = intervals.nadeau_bengio(np.array([0.1, 0.2, 0.3, 0.4]), 300, 100)
    variance = (0.25 + 1 / 3) * (0.05 / 3)
    assert se == pytest.approx(np.sqrt(variance))
    assert interval.value == pytest.approx(0.25)
    assert interval.high - interval.value == pytest.approx(3.182446 * np.sqrt(variance), rel=1e-6)


def test_nadeau_bengio_covers_where_the_plain_interval_does_not() -> None:
    """Means of a test half under 10 random splits of 60 shared numbers: the plain t interval is far too short."""
    rng = np.random.default_rng(2)
    covered = np.zeros(2)
    for _ in range(400):
        data = rng.standard_normal(60)
        values = np.array([rng.permutation(data)[:15].mean() for _ in range(10)])
        corrected, _ = intervals.nadeau_bengio(values, 45, 15)
        half = stats.t.ppf(0.975, 9) * values.std(ddof=1) / np.sqrt(10)
        covered += [corrected.low < 0 < corrected.high, abs(values.mean()) < half]
    assert covered[0] / 400 > 0.93 - 3 * 0.0128  # nominal .95; the correction is approximate
    assert covered[1] / 400 < 0.9


def test_minimum_detectable_difference_has_its_power() -> None:
    """A t test at that difference rejects 80 % of the time (the shifted-t approximation is within 2 points here)."""
    rng = np.random.default_rng(4)
    n, sigma = 20, 1.0
    delta = intervals.minimum_detectable(sigma / np.sqrt(n), n - 1)
    x = rng.standard_normal((4000, n)) + delta
    rejected = np.abs(x.mean(1) / (x.std(1, ddof=1) / np.sqrt(n))) > stats.t.ppf(0.975, n - 1)
    assert rejected.mean() == pytest.approx(0.8, abs=0.02 + 3 * 0.0063)


def test_one_split_has_no_interval() -> None:
    with pytest.raises(OutOfDomain, match="at least 2"):
        intervals.nadeau_bengio(np.array([0.5]), 10, 5)


def test_bootstrap_resamples_subjects(rng: np.random.Generator) -> None:
    """Ten copies of each of 40 subjects carry no more information than 40 records: the interval must not shrink."""
    values = rng.standard_normal(40)
    many, groups = np.repeat(values, 10), np.repeat(np.arange(40), 10)
    wide = intervals.bootstrap(lambda i: float(many[i].mean()), groups, np.random.default_rng(0), draws=400)
    half = (wide.high - wide.low) / 2
    assert half == pytest.approx(1.96 * values.std() / np.sqrt(40), rel=0.2)  # 400 draws: quantiles to about 7 %
