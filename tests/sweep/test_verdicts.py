"""Verdicts and boundaries against truths that are planted: rates with their Monte-Carlo error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from simlab.sweep import looks, multiplicity, power
from simlab.sweep.verdicts import ALPHA, boundary, curve_through, interval, last_crossing, read, verdict

ROPE, TRIALS = 0.01, 2000


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


def test_looks_share_alpha_and_the_first_that_decides_stands(rng: np.random.Generator) -> None:
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


def test_failed_seeds_and_looks_below_eight_spend_nothing() -> None:
    """A look with too few pairs is no look, nor is one that brings no new pair; the last spends the rest."""
    data = np.linspace(-1, 1, 16)
    assert verdict(data, (4, 16), ROPE).high == interval(data, ALPHA)[2]
    data[:3] = np.nan  # 5 of 8, then 13 of 16
    found = verdict(data, (8, 16), ROPE)
    assert (found.seeds, found.low, found.high) == (13, *interval(data[3:], ALPHA)[1:])
    data = np.linspace(-1, 1, 32)
    data[8:16] = np.nan  # nothing new at the second look
    assert verdict(data, (8, 16, 32), ROPE) == verdict(data, (8, 32), ROPE)


def test_p_values_levels_and_improvement_are_scipys(rng: np.random.Generator) -> None:
    data = rng.normal(0.02, 0.02, 12)
    found = verdict(data, (12,), ROPE)
    assert found.p == pytest.approx(stats.ttest_1samp(data, 0).pvalue)
    assert found.improvement == np.mean(data > 0)
    sure = verdict(data + 0.02, (12,), ROPE)
    assert sure.verdict == "helps" and sure.needed is None
    assert sure.level == pytest.approx(stats.ttest_1samp(data + 0.02, ROPE).pvalue)
    level = verdict(data / 10 - 0.002, (12,), ROPE)
    ends = [stats.ttest_1samp(data / 10 - 0.002, at, alternative=side).pvalue
            for at, side in ((ROPE, "less"), (-ROPE, "greater"))]
    assert level.verdict == "equivalent" and level.level == pytest.approx(2 * max(ends))
    tied = np.array([0.0] * 6 + [0.01] * 6)
    assert verdict(tied, (12,), ROPE).improvement == 0.75
    none = verdict(np.zeros(12), (12,), ROPE)
    assert (none.verdict, none.p, none.level, none.improvement) == ("equivalent", 1.0, 0.0, 0.5)


def test_p_values_of_looks_hold_under_no_difference(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over looks p is the smallest of each look's own over its share of alpha: no smaller than uniform, 600 cells."""
    monkeypatch.setattr("simlab.sweep.verdicts.seeds_needed", lambda *_: None)
    p = np.array([verdict(rng.normal(0, 1, 32), (8, 16, 32), 0.0).p for _ in range(600)])
    for at in (0.01, 0.05, 0.2):
        assert np.mean(p <= at) <= at + 4 * np.sqrt(at * (1 - at) / 600)
    assert np.mean(p <= 0.2) > 0.08


@pytest.mark.parametrize(("spending", "published"), [
    ("obrien-fleming", (3.7103, 2.5114, 1.9930)), ("pocock", (2.2792, 2.2949, 2.2960))])
def test_critical_values_of_many_seeds_are_the_published_ones(spending: str, published: tuple[float, ...]) -> None:
    """Three equal looks, two-sided .05, known variance: the values that Lan-DeMets programs give (ld98, ldbounds,
    gsDesign). Simulated here with 3,000 seeds a look; Monte-Carlo errors .004 to .03."""
    found = looks.critical((3000, 6000, 9000), (1 / 3, 2 / 3, 1.0), spending)
    assert found == pytest.approx(published, rel=0.006)


def test_critical_values_of_few_seeds_are_students() -> None:
    """One look: Student's t. Two: between the values that would spend the same twice over and the marginal ones."""
    assert looks.critical((12,), (1.0,)) == (stats.t.ppf(0.975, 11),)
    first, last = looks.critical((8, 16), (0.5, 1.0))
    assert first == pytest.approx(stats.t.isf(looks.spent(0.5), 7))
    assert stats.t.isf(0.025, 15) < last < stats.t.isf(0.025 - looks.spent(0.5), 15)
    assert [looks.spent(t) for t in (0.25, 1.0)] == pytest.approx([0.025 * np.log(1 + (np.e - 1) / 4), 0.025])
    assert looks.spent(0.25, "obrien-fleming") == pytest.approx(2 * stats.norm.sf(stats.norm.isf(0.0125) * 2))


def test_seeds_that_a_cell_needs() -> None:
    """The design tables' n = ((z + z') sd / d)^2 = 17.7 for sd .015 and d .01, two more for Student t; the power that
    SciPy's noncentral t gives; nothing at the margin."""
    assert power.seeds_needed(0.01, 0.015, 0.0) == 20
    n = power.seeds_needed(0.02, 0.012, ROPE)
    assert n is not None and power.decides(n, 0.02, 0.012, ROPE) >= 0.8 > power.decides(n - 1, 0.02, 0.012, ROPE)
    ncp = 0.01 / 0.012 * np.sqrt(n)
    assert power.decides(n, 0.02, 0.012, ROPE) == pytest.approx(stats.nct.sf(stats.t.isf(0.025, n - 1), n - 1, ncp))
    assert power.seeds_needed(-0.02, 0.012, ROPE) == n and power.seeds_needed(0.01, 0.012, ROPE) is None
    assert power.seeds_needed(0.0, 0.012, ROPE) == 18  # equivalence
    assert power.seeds_needed(0.05, 0.001, ROPE) == 8 and power.seeds_needed(0.0, 0.0, ROPE) is None
    data = np.linspace(-0.03, 0.05, 12)
    assert verdict(data, (12,), ROPE).needed == power.seeds_needed(data.mean(), data.std(ddof=1), ROPE)


def test_families_are_adjusted_as_published() -> None:
    """Holm 1979 and Benjamini & Hochberg 1995 (R's documentation of p.adjust has these rules); a cell without a p value
    counts as a test."""
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert multiplicity.adjusted(p, "confirmatory") == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert multiplicity.adjusted(p, "exploratory") == pytest.approx([0.02, 0.04, 0.04, 0.02])
    lost = multiplicity.adjusted(np.append(p, np.nan), "confirmatory")
    assert lost == pytest.approx([0.04, 0.09, 0.09, 0.025, 1.0])
    bh = np.array([.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .324, .4262, .5719, .6528, .759, 1.])
    rejected = {kind: int((multiplicity.adjusted(bh, kind) <= 0.05).sum()) for kind in multiplicity.METHODS}
    assert rejected == {"confirmatory": 3, "exploratory": 4}  # the worked example of Benjamini & Hochberg 1995, p. 293


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
