"""Drift on forecasts whose errors are known: oracles, copies, AR(1) optima, and stays that end."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simlab.errors import OutOfDomain
from simlab.evaluation import drift


def ar1(rng: np.random.Generator, phi: float, records: int, hours: int) -> np.ndarray:
    z = rng.standard_normal((records, hours, 1))
    for t in range(1, hours):
        z[:, t] = phi * z[:, t - 1] + math.sqrt(1 - phi**2) * z[:, t]
    return z


def full(records: int, hours: int) -> np.ndarray:
    return np.full(records, hours)


def test_an_oracle_has_no_error_and_a_null_drift(rng: np.random.Generator) -> None:
    z = rng.standard_normal((20, 60, 3))
    error = drift.errors(z[:, 12:60], z, full(20, 60), 12)
    assert (error == 0).all()
    first = drift.drift(error, groups=np.arange(20), rng=rng)[0]
    assert first.naive is None and first.fixed is None and first.fixed_interval is None
    assert drift.apportion(error, error + 1, error + 1) == [None] * 4
    assert drift.mase(error, error, 6) is None


def test_a_copy_has_mase_one_and_its_own_drift(rng: np.random.Generator) -> None:
    """A random walk with L1 steps of mean E|N(0, 1)|: a copy's error grows as the root of the horizon."""
    z = np.cumsum(rng.standard_normal((4000, 60, 1)), axis=1)
    copy = drift.copy_forward(z, 12, 48)
    error = drift.errors(copy, z, full(4000, 60), 12)
    assert drift.mase(error, error, 24) == pytest.approx(1.0)
    found = {d.horizon: d for d in drift.drift(error)}
    for h in drift.HORIZONS:  # the sd of a mean of |N| over 4000 records: 1.2 %
        assert found[h].fixed == pytest.approx(math.sqrt(h) - 1, rel=0.06)
        assert found[h].naive == found[h].fixed


@pytest.mark.parametrize(("phi", "percent"), [(0.9, 129), (0.99, 458)])
def test_the_best_forecast_of_an_ar1_drifts_by_the_closed_form(
    rng: np.random.Generator, phi: float, percent: int
) -> None:
    """+129 % and +458 % at 48 hours, and the same from 20,000 simulated paths (error of a mean of |N|: .5 %)."""
    assert 100 * drift.ar1_drift(phi, 48) == pytest.approx(percent, abs=0.5)
    z = ar1(rng, phi, 20_000, 55)
    best = z[:, 6:7] * phi ** np.arange(1, 49)[:, None]
    error = drift.errors(best, z, full(20_000, 55), 7)
    seen = drift.drift(error, (48,), np.arange(20_000), rng, draws=100)[0]
    assert 1 + seen.fixed == pytest.approx(1 + drift.ar1_drift(phi, 48), rel=4 * 0.0075)
    assert seen.fixed_interval.low < seen.fixed < seen.fixed_interval.high


def test_survivorship_alone_makes_an_error_fall() -> None:
    """Half the stays end after 30 hours and err by 1.2 at every horizon, the others by 1: the mean is 1.1 at first and
    1 at last, -9.1 %; the matched cohort has 0 %, and the whole of it is survivorship."""
    length = np.array([30] * 50 + [60] * 50)
    error = np.where(np.arange(100)[:, None] < 50, 1.2, 1.0) * np.ones((100, 48))
    error[12 + np.arange(48) >= length[:, None]] = np.nan
    found = drift.drift(error, (48,))[0]
    assert found.naive == pytest.approx(1 / 1.1 - 1) and found.fixed == pytest.approx(0.0)
    assert (found.active, found.matched) == (50, 50)
    flat = np.where(np.isfinite(error), 1.0, np.nan)
    parts = drift.apportion(error, flat, flat, flat, (48,))[0]
    assert parts.survivorship == pytest.approx(-math.log(1.1)) and parts.total == parts.survivorship
    for other in (parts.nonstationarity, parts.contraction, parts.horizon_cost, parts.underfit, parts.remainder):
        assert other == pytest.approx(0.0)


def test_each_part_is_found_where_it_was_planted(rng: np.random.Generator) -> None:
    """True states whose spread falls to 1/2 in time, latents that shrink by a further 3/4, a first step twice as bad as
    the best: -ln 2, ln 3/4, -ln 2, and the best forecast's own ln 1.5; what is left is what was lost at 48 hours."""
    fall = np.linspace(0, 1, 48)
    spread = np.exp(rng.normal(0, 0.1, (200, 1))) * np.ones(48)
    reference = spread * 0.5**fall
    latent = reference * 0.75**fall
    best = latent * 0.4 * 1.5**fall
    error = best * np.where(np.arange(48) == 0, 2.0, 1.1)
    parts = drift.apportion(error, latent, reference, best, (48,))[0]
    assert parts.survivorship == pytest.approx(0)
    assert parts.nonstationarity == pytest.approx(math.log(0.5))
    assert parts.contraction == pytest.approx(math.log(0.75))
    assert parts.horizon_cost == pytest.approx(math.log(1.5))
    assert parts.underfit == pytest.approx(-math.log(2))
    assert parts.remainder == pytest.approx(math.log(1.1))
    parts = drift.apportion(error, latent, reference, None, (48,))[0]
    assert parts.horizon_cost is None and parts.remainder == pytest.approx(math.log(1.5 * 1.1 / 2))


def test_parts_add_up_whatever_the_errors(rng: np.random.Generator) -> None:
    error, spread, reference, best = np.exp(rng.normal(size=(4, 40, 48)))
    error[:15, 30:] = np.nan
    for part in drift.apportion(error, spread, reference, best):
        pieces = (part.survivorship, part.nonstationarity, part.contraction, part.horizon_cost, part.underfit)
        assert sum(pieces) + part.remainder == pytest.approx(part.total) and part.sample == 0


def test_a_reference_for_a_few_stays_is_no_survivorship(rng: np.random.Generator) -> None:
    """Nobody leaves, so survivorship is 0, though the stays that the reference forecasts drift as they happen to."""
    error, spread, reference, best = np.exp(rng.normal(size=(4, 40, 48)))
    best[6:] = np.nan
    for part, one in zip(drift.apportion(error, spread, reference, best), drift.drift(error), strict=True):
        assert part.survivorship == pytest.approx(0) and abs(part.sample) > 0.01
        assert part.sample == pytest.approx(math.log((1 + one.fixed) / (error[:6, one.horizon - 1].mean()
                                                                        / error[:6, 0].mean())))
        pieces = (part.nonstationarity, part.contraction, part.horizon_cost, part.underfit, part.remainder)
        assert part.survivorship + part.sample + sum(pieces) == pytest.approx(part.total)


def test_records_that_end_and_horizons_beyond_the_latents_are_missing(rng: np.random.Generator) -> None:
    z = rng.standard_normal((3, 20, 2))
    error = drift.errors(np.zeros((3, 48, 2)), z, np.array([5, 12, 20]), 6)
    assert np.isfinite(error).sum(axis=1).tolist() == [0, 6, 14]
    assert error[2, 0] == pytest.approx(np.abs(z[2, 6]).sum())
    with pytest.raises(OutOfDomain, match="1 to 19"):
        drift.errors(np.zeros((3, 4, 2)), z, np.array([5, 12, 20]), 20)
    with pytest.raises(OutOfDomain, match="1 to 4"):
        drift.drift(error[:, :4], (6,))


def test_references(rng: np.random.Generator) -> None:
    """A line goes on, a copy stays, the mean of an hour is that of the records that have it."""
    z = np.arange(12.0)[None, :, None] * np.array([1.0, 2.0])[:, None, None]
    assert np.allclose(drift.straight_line(z, 4, 6)[:, :, 0], z[:, 4:10, 0])
    assert np.allclose(drift.copy_forward(z, 4, 6)[1, :, 0], 6.0)
    means = drift.mean_at_hour(z, np.array([12, 6]))
    assert means[:8, 0].tolist() == [0, 1.5, 3, 4.5, 6, 7.5, 6, 7]
    assert drift.at_hours(means, 2, 10, 3)[0, :, 0].tolist() == [10, 11, 11]


def test_a_mean_retrieves_by_chance_and_the_truth_always(rng: np.random.Generator) -> None:
    z = rng.standard_normal((300, 4))
    assert drift.retrieval(z, z) == 1.0
    assert drift.retrieval(np.zeros_like(z), z) == pytest.approx(0.5)  # pairs are won by one of the two
    assert drift.retrieval(rng.permutation(z), z) == pytest.approx(0.5, abs=0.1)


def test_the_shape_of_latents_looks_only_at_hours_that_exist(rng: np.random.Generator) -> None:
    """Stays that stand still at N(0, I_3): all variance is between them; what lies in the padding counts nowhere."""
    z = np.repeat(rng.standard_normal((400, 1, 3)), 10, axis=1)
    length = np.full(400, 5)
    z[:, 5:] = 1e6
    shape = drift.latent_shape(z, length)
    assert shape["between"] == pytest.approx(1.0) and shape["sd"] == pytest.approx(0.0, abs=1e-9)
    assert shape["rank"] == pytest.approx(3, abs=0.1)
    assert shape["norm"] == pytest.approx(math.sqrt(8 / math.pi), rel=0.1)  # the mean of a chi with 3 degrees
