"""The best forecast of charted values: a regression on all that was charted, calibrated where charting tells, best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats

from simlab.environments import icu_law, icu_measure
from simlab.environments.icu_channels import NAMES
from simlab.environments.icu_knobs import LINEAR, spec
from simlab.environments.icu_values import standard
from simlab.errors import OutOfDomain
from simlab.limits import icu_charted, icu_filter, icu_glasgow
from simlab.limits.icu import drawn

VITALS = [NAMES.index(name) for name in ("hr", "sbp", "dbp", "map", "rr", "spo2", "temp")]
# The linear-Gaussian mode without treatments that act or an admission that frailty tells of: the state is stationary.
STILL = {**LINEAR, "tau": 0.0, "g_f": 0.0, "hours": 24}
CONTEXT, AHEAD = 6, (1, 12)


@pytest.fixture(scope="module")
def linear():
    made = spec(**STILL)
    return icu_law.law_of(made, "source"), drawn(made, 200, np.random.default_rng(0))


def regression(law, seen, i: int, hour: int, channel: int) -> tuple[float, float]:
    """Mean and standard deviation of a channel's standard value, by regression on every value charted in the context:
    Cov(x(t), x(s)) = A^(t-s), one matrix of them all; no filter."""
    at = np.argwhere(seen.seen[i, :CONTEXT])
    power = [np.eye(5)]
    for _ in range(hour):
        power.append(law.step @ power[-1])

    def between(t: int, c: int, s: int, d: int) -> float:
        lag = power[t - s] if t >= s else power[s - t].T
        return law.loadings[c] @ lag @ law.loadings[d]

    cov = np.array([[between(t, c, s, d) + (law.noise[c] ** 2 if (t, c) == (s, d) else 0) for s, d in at]
                    for t, c in at])
    with_it = np.array([between(hour, channel, s, d) for s, d in at])
    weights = np.linalg.solve(cov, with_it)
    variance = law.loadings[channel] @ law.loadings[channel] + law.noise[channel] ** 2 - weights @ with_it
    return float(weights @ np.array([seen.z[i, t, c] for t, c in at])), float(np.sqrt(variance))


def test_where_all_is_linear_it_is_the_regression_on_everything_charted(linear) -> None:
    """A chart is rounded to a hundredth of its spread at most: the forecast's standard value is off by half of that."""
    law, cohort = linear
    seen, found = icu_filter.shown(cohort), icu_charted.medians(law, cohort, CONTEXT, AHEAD)
    for h in AHEAD:
        z = standard(found[h][:, VITALS], VITALS)
        for i in range(3):
            for k in (3, 5):
                if np.isfinite(found[h][i, VITALS[k]]):
                    assert z[i, k] == pytest.approx(regression(law, seen, i, CONTEXT + h - 1, VITALS[k])[0], abs=0.01)


def test_its_mean_absolute_error_is_the_normal_s(linear) -> None:
    """E |error| = sd sqrt(2 / pi), by channel and horizon; 4 standard errors over 200 stays."""
    law, cohort = linear
    seen, found = icu_filter.shown(cohort), icu_charted.medians(law, cohort, CONTEXT, AHEAD)
    _, cov = icu_filter.kalman(law, seen, CONTEXT)
    for h in AHEAD:
        for c in VITALS:
            there = np.isfinite(found[h][:, c])
            error = np.abs(standard(found[h][there][:, [c]], [c])[:, 0] - seen.z[there, CONTEXT + h - 1, c])
            ahead = np.linalg.matrix_power(law.step, h) @ cov[there, -1] @ np.linalg.matrix_power(law.step, h).T
            ahead = ahead + (1 - law.spec.phi ** (2 * h)) * np.eye(5)
            sd = np.sqrt(np.einsum("d,nde,e->n", law.loadings[c], ahead, law.loadings[c]) + law.noise[c] ** 2)
            share = error / sd
            assert abs(share.mean() - np.sqrt(2 / np.pi)) < 4 * share.std() / np.sqrt(len(share)), (h, NAMES[c])


def test_guesses_agree_with_the_exact_forecast(linear) -> None:
    """The same law by 200 particles: they miss a posterior's mean by about a quarter of its deviation of .4, which is
    .07 in a channel that loads .8; without bias."""
    law, cohort = linear
    few = cohort.take(np.arange(80))
    exact = icu_charted.medians(law, few, CONTEXT, AHEAD)
    guessed = icu_charted.medians(replace(law, spec=replace(law.spec, iota=1e-12)), few, CONTEXT, AHEAD)
    for h in AHEAD:
        gap = standard(guessed[h][:, VITALS], VITALS) - standard(exact[h][:, VITALS], VITALS)
        assert np.nanmean(np.abs(gap)) < 0.07
        assert np.abs(np.nanmean(gap, axis=0)).max() < 0.05


def test_the_median_of_a_mixture_is_its_root(rng: np.random.Generator) -> None:
    centre, weight = rng.standard_normal((2, 4, 9))
    found = icu_charted.median(centre, 0.6, np.exp(weight))
    for i in range(4):
        share = np.exp(weight[i]) / np.exp(weight[i]).sum()
        root = optimize.brentq(lambda q: share @ stats.norm.cdf(q, centre[i], 0.6) - 0.5, -9, 9)  # noqa: B023
        assert found[i] == pytest.approx(root, abs=1e-4)


def test_that_a_value_is_charted_tells_of_it(monkeypatch) -> None:
    """Where the sick are measured far more often, half of what the laboratory charts lies below the forecast (3
    standard errors over stays); one that does not know that it is charted errs on the well side, and costs more."""
    made = spec(informative_measurement=3.0, hours=24, measurement_odds=2.0)
    law, cohort = icu_law.law_of(made, "source"), drawn(made, 400, np.random.default_rng(4))
    worse = [NAMES.index(name) for name in ("creatinine", "bun", "lactate", "phosphate", "bilirubin", "wbc")]
    true = cohort.streams["state"].values[:, 3 + 8 - 1][:, worse].astype(np.float64)

    def judged() -> tuple[float, float, np.ndarray]:  # the share below minus 1/2, its standard error, the forecast
        said = icu_charted.medians(law, cohort, 3, (8,), 60)[8][:, worse]
        there = np.isfinite(said)
        below = np.where(there, (true < said) + 0.5 * (true == said), np.nan)
        total, n = np.nansum(below - 0.5, axis=1), there.sum(axis=1)
        share = total.sum() / n.sum()
        return share, np.sqrt((total - share * n) @ (total - share * n)) / n.sum(), standard(said, worse)

    share, se, z = judged()
    monkeypatch.setattr(icu_charted, "chance", np.ones_like)
    blind, _, z_blind = judged()
    assert abs(share) < 3 * se and blind < -3 * se
    error = {name: np.nanmean(np.abs(standard(true, worse) - at)) for name, at in (
        ("best", z), ("blind", z_blind), ("higher", z + 0.3), ("lower", z - 0.3))}
    assert error["best"] == min(error.values())


@pytest.mark.proof
def test_no_rule_that_is_fitted_does_better() -> None:
    """The difference of errors by stay, in units of the best's: against the last values above 0 by more than 2 of its
    standard errors (seen: .33, .31, standard error .03); against ridge regression of 250 stays on last values and means
    not below it by more than 2 (seen: .07, .04, standard error .02)."""
    from sklearn.linear_model import RidgeCV

    made = spec(hours=36)
    law, cohort = icu_law.law_of(made, "source"), drawn(made, 400, np.random.default_rng(7))
    values, seen = cohort.streams["state"].floats(), cohort.streams["state"].observed
    shown = np.where(seen, values, np.nan)[:, :24, VITALS]
    last = shown[:, 0]
    for t in range(1, 24):
        last = np.where(np.isnan(shown[:, t]), last, shown[:, t])
    mean = np.where(seen, values, 0)[:, :24, VITALS].sum(axis=1) / np.maximum(seen[:, :24, VITALS].sum(axis=1), 1)
    x = np.concatenate([np.nan_to_num(last, nan=80.0), mean], axis=1)
    train, test = np.arange(250), np.arange(250, 400)
    for h in (1, 12):
        there = seen[:, 23 + h] & (cohort.length >= 24 + h)[:, None]
        best = icu_charted.medians(law, cohort.take(test), 24, (h,), 100)[h][:, VITALS]
        gaps = {"copy": [], "ridge": []}
        for k, c in enumerate(VITALS):
            fits, judged = train[there[train, c]], test[there[test, c] & np.isfinite(last[test, k])]
            model = RidgeCV(np.logspace(-2, 5, 8)).fit(x[fits], values[fits, 23 + h, c])
            true = values[judged, 23 + h, c]
            own = np.abs(best[judged - 250, k] - true)
            for name, other in (("copy", last[judged, k]), ("ridge", model.predict(x[judged]))):
                more = np.full(len(test), np.nan)
                more[judged - 250] = (np.abs(other - true) - own) / own.mean()
                gaps[name].append(more)
        for name, more in gaps.items():
            told = np.isfinite(more).any(axis=0)
            each = np.nanmean(np.stack(more)[:, told], axis=0)
            least = 2 if name == "copy" else -2
            assert each.mean() > least * each.std() / np.sqrt(len(each)), (name, h)


def test_alertness_has_the_truncated_normal_s_mean() -> None:
    """One chart below a bound u: a and s = .7 (a + e) correlate by 1/sqrt(2), so E(a | s < u) is that times the mean of
    a truncated normal; several charts of one hour say no more than the narrowest; a sedated hour says nothing."""
    cohort = drawn(spec(hours=24), 3, np.random.default_rng(0))
    state = cohort.streams["state"]
    state.observed[:] = False
    state.values[:] = 0
    cohort.streams["action"].values[:] = 0
    for i, (name, points) in enumerate((("gcs_motor", 1), ("gcs_verbal", 5), ("gcs_motor", 1))):
        state.observed[i, 2, NAMES.index(name)], state.values[i, 2, NAMES.index(name)] = True, points
    cohort.streams["action"].values[2, 1, cohort.streams["action"].channels.index("propofol")] = 25
    spread = 0.7 * np.sqrt(2)
    mean = icu_glasgow.own(cohort, 6) @ icu_glasgow.GRID
    told = [stats.truncnorm.mean(-np.inf, -2.7 / spread), stats.truncnorm.mean(-0.3 / spread, np.inf)]
    assert mean[:2] == pytest.approx(np.array(told) / np.sqrt(2), abs=1e-3)
    assert mean[2] == pytest.approx(0, abs=1e-9)
    draws = icu_glasgow.drawn(icu_glasgow.own(cohort, 6), np.repeat([0], 4000), np.random.default_rng(1))
    assert draws.mean() == pytest.approx(mean[0], abs=4 * draws.std() / np.sqrt(4000))


def test_scales_and_bodies_are_forecast_in_their_own_way() -> None:
    """Of scales no point more or less errs less (half a point of what is left to chance); weight never changes."""
    made = spec(hours=36)
    law, cohort = icu_law.law_of(made, "source"), drawn(made, 120, np.random.default_rng(3))
    found = icu_charted.medians(law, cohort, 24, (1, 12), 2)
    state = cohort.streams["state"]
    weight = NAMES.index("weight")
    there = np.isfinite(found[1][:, weight])
    assert there.all() and (found[1][:, weight] == state.floats()[:, 24, weight]).all()
    at = [NAMES.index(name) for name in icu_measure.LOST]
    said, true = found[12][:, at], state.floats()[:, 35][:, at]
    error = [np.nanmean(np.abs(said + more - true)) for more in (-1, 0, 1)]
    assert error[1] == min(error) and (np.isfinite(said) == (state.observed[:, 35] & (
        cohort.length > 35)[:, None])[:, at]).all()
    with pytest.raises(OutOfDomain, match="do not fit into 36 hours"):
        icu_charted.medians(law, cohort, 24, (13,), 2)


def test_what_is_charted_after_the_context_changes_no_forecast() -> None:
    """Other values there: the same medians, by a bit; other masks: they say alone where one is asked for."""
    made = spec(hours=24)
    law, cohort = icu_law.law_of(made, "source"), drawn(made, 6, np.random.default_rng(3))
    told = icu_charted.medians(law, cohort, CONTEXT, AHEAD, 6)
    state = cohort.streams["state"]
    state.values[:, CONTEXT:] = np.roll(state.values[:, CONTEXT:], 1, axis=0)
    for h, found in icu_charted.medians(law, cohort, CONTEXT, AHEAD, 6).items():
        assert np.array_equal(found, told[h], equal_nan=True)
    state.observed[:, CONTEXT:] = np.roll(state.observed[:, CONTEXT:], 1, axis=0)
    for h, found in icu_charted.medians(law, cohort, CONTEXT, AHEAD, 6).items():
        both = np.isfinite(found) & np.isfinite(told[h])
        assert np.array_equal(found[both], told[h][both]) and both.sum() > 10


def test_the_cost_of_few_guesses_is_told_with_its_error(linear) -> None:
    """Two guesses instead of four cost much; where the forecast is exact nothing."""
    law, cohort = linear
    few = cohort.take(np.arange(60))
    assert icu_charted.cost_of_few(law, few, CONTEXT, (1,), 4)[1] == (0.0, 0.0)
    more, se = icu_charted.cost_of_few(replace(law, spec=replace(law.spec, iota=1e-12)), few, CONTEXT, (1,), 4)[1]
    assert 0 < se < more
