"""Verdicts and boundaries against truths that are planted: rates with their Monte-Carlo error."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from simlab.sweep import looks
from simlab.sweep.verdicts import ALPHA, boundary, curve_through, interval, last_crossing, read, verdict

ROPE, SD, TRIALS = 0.01, 0.012, 2000


def rates(rng: np.random.Generator, mean: float, seeds: int, looks: tuple[int, ...]) -> dict[str, float]:
    found = Counter(verdict(rng.normal(mean, SD, seeds), looks, ROPE).verdict for _ in range(TRIALS))
    return {word: count / TRIALS for word, count in found.items()}


def no_more_than(rate: float, nominal: float) -> bool:
    """Whether an observed rate is compatible with at most the nominal one (four Monte-Carlo standard errors)."""
    return rate <= nominal + 4 * np.sqrt(nominal * (1 - nominal) / TRIALS)


@pytest.mark.parametrize("looks", [(12,), (8, 16, 32)])
def test_false_verdicts_are_no_more_than_nominal(rng: np.random.Generator, looks: tuple[int, ...]) -> None:
    """At both margins "helps" (or "hurts") is false, and "equivalent" just as much; at zero both are."""
    for sign, word in ((1, "helps"), (-1, "hurts")):
        at_margin = rates(rng, sign * ROPE, looks[-1], looks)
        assert no_more_than(at_margin.get(word, 0), ALPHA / 2)
        assert no_more_than(at_margin.get("equivalent", 0), ALPHA / 2)
    at_zero = rates(rng, 0.0, looks[-1], looks)
    assert no_more_than(at_zero.get("helps", 0) + at_zero.get("hurts", 0), ALPHA)


def test_verdicts_are_found_where_they_are_true(rng: np.random.Generator) -> None:
    assert rates(rng, ROPE + 2 * SD, 12, (12,))["helps"] > 0.95
    assert rates(rng, -ROPE - 2 * SD, 12, (12,))["hurts"] > 0.95
    assert rates(rng, 0.0, 32, (32,))["equivalent"] > 0.9


def test_interval_covers_as_it_says(rng: np.random.Generator) -> None:
    for n in (8, 12):
        inside = sum(low <= 0.3 <= high for _, low, high in (interval(rng.normal(0.3, 1, n)) for _ in range(TRIALS)))
        assert abs(inside / TRIALS - 0.95) < 4 * np.sqrt(0.05 * 0.95 / TRIALS)


def test_never_a_verdict_below_eight_seeds() -> None:
    sure = np.full(7, 0.5)
    assert verdict(sure, (7,), ROPE).verdict == "undecided"
    assert verdict(sure, (7,), ROPE).reason == "fewer than 8 seeds"
    lost = np.append(sure, np.nan)
    assert verdict(lost, (8,), ROPE).reason == "fewer than 8 seeds (7 of 8 finished)"
    assert verdict(np.full(8, 0.5), (8,), ROPE).verdict == "helps"
    assert verdict(np.full(8, np.nan), (8,), ROPE).seeds == 0


def test_alpha_is_spent_over_looks_and_the_first_that_decides_stands(rng: np.random.Generator) -> None:
    data = np.concatenate([rng.normal(0.05, 0.005, 8), rng.normal(-0.05, 0.005, 8)])
    found = verdict(data, (8, 16), ROPE)
    assert (found.verdict, found.look, found.seeds) == ("helps", 8, 8)
    first = 2 * looks.spent(0.5)
    assert (found.low, found.high) == pytest.approx(interval(data[:8], first)[1:], rel=1e-12)
    assert verdict(data[:12], (12,), ROPE).look == 12


def test_what_an_interval_says() -> None:
    assert read(0.011, 0.02, ROPE) == "helps" and read(-0.02, -0.011, ROPE) == "hurts"
    assert read(-0.01, 0.01, ROPE) == "equivalent" and read(0.0, 0.02, ROPE) == "undecided"
    assert read(0.01, 0.02, ROPE) == "undecided"


def test_last_crossing() -> None:
    x = np.array([0.0, 1.0, 2.0, 3.0])
    assert last_crossing(x, np.array([1.0, -1.0, 1.0, -1.0])) == 2.5
    assert last_crossing(x, np.array([1.0, np.nan, np.nan, -2.0])) == pytest.approx(1.0)
    assert last_crossing(x, np.ones(4)) is None
    assert last_crossing(x, np.full(4, np.nan)) is None
    assert last_crossing(x[:1], np.ones(1)) is None


def test_curves_do_not_overshoot_and_pass_through_their_points() -> None:
    x, y = np.array([0.0, 1.0, 2.0]), np.array([[1.0], [0.0], [0.0]])
    dense, curve = curve_through(x, y)
    assert curve.min() >= 0 and curve.max() <= 1
    assert curve[np.searchsorted(dense, x), 0] == pytest.approx(y[:, 0])
    assert curve_through(x[:2], y[:2])[1][-1, 0] == 0


def test_boundary_covers_the_truth_with_seeds_that_share_their_draws(rng: np.random.Generator) -> None:
    """Each seed shifts its whole curve, as common random numbers do; nominal 95 %, ten seeds, MC error 2.2 %."""
    x, truth, trials = np.geomspace(75, 1200, 5), 300.0, 250
    mean = -0.03 * np.log(x / truth)
    inside, found = 0, []
    for _ in range(trials):
        data = mean[:, None] + rng.normal(0, 0.015, 10) + rng.normal(0, 0.006, (5, 10))
        crossing = boundary(x, data, rng, draws=400)
        inside += crossing.low <= truth <= crossing.high
        found.append(crossing.at)
    assert 0.90 <= inside / trials <= 0.99
    assert np.exp(np.mean(np.log(found))) == pytest.approx(truth, rel=0.03)


def test_a_boundary_beyond_the_axis_is_said_to_be_there(rng: np.random.Generator) -> None:
    x = np.geomspace(75, 1200, 5)
    above = boundary(x, -0.03 * np.log(x / 1500)[:, None] + rng.normal(0, 0.02, 12), rng)
    assert above.high == np.inf and above.low > 300
    ahead = boundary(x, np.full((5, 12), 0.2) + rng.normal(0, 0.001, (5, 12)), rng)
    assert (ahead.at, ahead.side) == (None, "ahead")
    gap = np.array(-0.03 * np.log(x / 300)[:, None] + rng.normal(0, 0.002, 12))
    gap[1], gap[3, 0] = np.nan, np.nan  # a cell where an arm failed throughout, and one where it failed once
    holed = boundary(x, gap, rng)
    assert holed.at == pytest.approx(300, rel=0.1) and np.isfinite([holed.low, holed.high]).all()
    assert boundary(x, np.full((5, 12), np.nan), rng).side == "unknown"
    few = boundary(x, -0.03 * np.log(x / 300)[:, None] + rng.normal(0, 0.02, 7), rng)
    assert few.at is not None and (few.low, few.high) == (-np.inf, np.inf)
    rising = boundary(x, 0.03 * np.log(x / 300)[:, None] + rng.normal(0, 0.002, 12), rng)
    assert rising.side == "ahead-above" and rising.low < 300 < rising.high
