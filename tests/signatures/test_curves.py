"""Daily curves against closed forms: counts are kept, known intensities found, interpolation invents no peak."""

from __future__ import annotations

import numpy as np
import pytest

from simlab.signatures.curves import indicator, intensity, interpolated, reading


def test_an_intensity_integrates_to_the_number_of_events():
    rng = np.random.default_rng(0)
    for n in (5, 19, 20, 33, 200):
        times = np.sort(rng.random(n) ** 2 * 1000)
        fine = np.linspace(0, 1000, 200_001)
        got = intensity(times, 0.0, 1000.0, fine, 10)
        assert np.trapezoid(got, fine) == pytest.approx(n, rel=2e-3)  # the grid's error at some ten jumps


def test_few_events_are_a_constant_and_a_bin_is_a_day_at_least():
    days = np.arange(100.0)
    assert np.all(intensity(np.array([3.0, 4.0, 90.0]), 0.0, 100.0, days, 10) == 0.03)
    at_once = np.full(400, 50.0)  # all on one day: no bin of no width
    got = intensity(at_once, 0.0, 100.0, np.linspace(0, 100, 1001), 10)
    assert np.isfinite(got).all() and got.max() <= 400 + 1e-9


def test_a_linear_intensity_is_found():
    """Poisson events of rate 0.02 t/1000 + 0.1 a day on 1000 days: the mean curve of 300 records is that rate."""
    rng = np.random.default_rng(1)
    at = np.arange(100.0, 901.0, 100.0)
    truth = 0.1 + 0.2 * at / 1000
    curves = []
    for _ in range(300):
        candidates = np.sort(rng.uniform(0, 1000, rng.poisson(300)))
        times = candidates[rng.random(len(candidates)) < (0.1 + 0.2 * candidates / 1000) / 0.3]
        curves.append(intensity(times, 0.0, 1000.0, at, 10))
    mean, se = np.mean(curves, axis=0), np.std(curves, axis=0) / np.sqrt(300)
    # Adaptive bins of 10 to 19 events are biased upwards, by 1/(count - 1) at most (the mean of an inverse gap).
    assert np.all(mean > truth - 4 * se) and np.all(mean < truth * (1 + 1 / 9) + 4 * se)
    assert np.corrcoef(mean, truth)[0, 1] > 0.97


def test_interpolation_keeps_shape_and_is_flat_outside():
    times, values = np.array([0.0, 10.0, 20.0, 30.0]), np.array([1.0, 1.0, 5.0, 5.0])
    got = interpolated(times, values, np.linspace(-5, 40, 451))
    assert got.min() == 1 and got.max() == 5 and np.all(np.diff(got) >= 0)
    # The cubic Hermite polynomial with slopes 0 at both ends is 3 s^2 - 2 s^3.
    s = 0.3
    assert interpolated(times, values, np.array([13.0]))[0] == pytest.approx(1 + 4 * (3 * s**2 - 2 * s**3))
    twice = interpolated(np.array([0.0, 0.0]), np.array([1.0, 3.0]), np.array([7.0]))
    assert twice[0] == 2  # two values at one time: their mean


def test_indicators_decay_from_the_last_record():
    got = indicator(np.array([10.0, 40.0]), np.array([5.0, 10.0, 30.0, 50.0]), 20.0)
    assert got == pytest.approx([0, 1, np.exp(-1), np.exp(-0.5)])


def test_a_reading_is_the_mean_of_the_daily_curve():
    times, values = np.array([0.0, 100.0]), np.array([0.0, 10.0])
    days = np.arange(91.0, 101.0)
    want = interpolated(times, values, days).mean()
    assert reading("measurement", times, values, 100.0, 0.0, 10, 10, 365.0) == want
    assert reading("measurement", times[:1], values[:1], 100.0, 0.0, 10, 10, 365.0) == 0
    assert reading("condition", times, values, 100.0, -300.0, 10, 10, 365.0) == 2 / 400
    assert reading("condition", times, values, 100.0, 0.0, 365, 10, 365.0) == 2 / 365  # a window's history at least
    assert reading("medication", times, values, 100.0, 0.0, 10, 10, 365.0) == 1
