"""The ICU world's limits: Kalman against the truth, particles against Kalman, calibration, closed-form effects."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from simlab.environments import icu_law
from simlab.environments.icu_channels import CHANNELS, ORGANS, PANELS, TREATMENTS
from simlab.environments.icu_knobs import LINEAR, TASKS, spec
from simlab.errors import OutOfDomain, command
from simlab.evaluation.auc import label_auc, weighted_auc
from simlab.limits import icu, icu_filter, icu_tasks
from simlab.limits.__main__ import main
from simlab.limits.icu_text import lines

N = 250


@pytest.fixture(scope="module")
def linear():
    world = spec(**LINEAR, hours=48)
    return icu_law.law_of(world, "source"), icu.drawn(world, N, np.random.default_rng(0))


def test_the_kalman_filter_knows_its_own_error(linear):
    """Squared errors in the filter's own metric are chi-squared with 5 degrees of freedom: mean and law."""
    law, cohort = linear
    seen = icu_filter.shown(cohort)
    mean, cov = icu_filter.kalman(law, seen, 24)
    for t in (0, 5, 23):
        error = mean[:, t] - cohort.factors["state"][:, t]
        squared = np.einsum("nd,nde,ne->n", error, np.linalg.inv(cov[:, t]), error)
        assert abs(squared.mean() - 5) < 4 * np.sqrt(10 / N)
        assert stats.kstest(squared, stats.chi2(5).cdf).pvalue > 1e-3
    told = icu_filter.doses(cohort.streams["action"].floats())
    ran = told > 0
    assert np.allclose(told[ran], np.broadcast_to(cohort.factors["dose"][:, None], told.shape)[ran], atol=1e-3)


def test_particles_agree_with_kalman(linear):
    """One standard deviation of the posterior is about .4; 400 particles miss its mean by a sixth of that."""
    law, cohort = linear
    seen = icu_filter.few(icu_filter.shown(cohort), np.arange(60))
    mean, cov = icu_filter.kalman(law, seen, 12)
    found = icu_filter.particles(law, seen, 12, 400, np.random.default_rng(1))
    spread = np.sqrt(cov[:, -1].diagonal(axis1=1, axis2=2))
    assert (np.abs(found.mean() - mean[:, -1]) / spread).mean() < 1 / 4
    variance = np.einsum("nm,nmd->nd", found.weight, (found.x - found.mean()[:, None]) ** 2)
    assert 0.85 < (variance / spread**2).mean() < 1.1


def test_treatments_tell_of_the_state_as_an_exact_filter_says():
    """Nothing is charted, treatments follow the state alone and do nothing to it, organs go their own ways: lungs are
    then a chain on a line, filtered on a grid. Ventilated from the third of six hours on, a stay is guessed sicker by
    one standard deviation and more. The likelihood is docs/icu.md's. 20,000 particles leave a standard error of .01 (of
    eight seeds, the treated stay's).
    """
    world = spec(regimes="off", coupling=0, treatment_effect=0, informative_measurement=0, selection=0, frailty_slope=0,
                 admission_severity=0, policy_feedback=1, confounding=1)
    hours, lung, given = 6, ORGANS.index("respiration"), np.zeros((2, 6, len(TREATMENTS)))
    place = next(i for i, t in enumerate(TREATMENTS) if t.organ == "respiration")
    given[0, 2:, place] = 1.0
    charts, static = np.zeros((2, hours, len(CHANNELS))), np.array([[65.0, 1, 0, 0.6]] * 2)
    seen = icu_filter.Shown(charts, charts > 0, np.zeros((2, hours, len(PANELS)), bool), given, static, np.full(2, 6))
    found = icu_filter.particles(icu_law.law_of(world, "source"), seen, hours, 20_000, np.random.default_rng(3))

    x = np.linspace(-6, 6, 241)
    move = stats.norm.pdf(x[:, None], world.phi * x, np.sqrt(1 - world.phi**2))
    expected = []
    for stay in range(2):
        mass = stats.norm.pdf(x)
        for t in range(hours - 1):
            before = given[stay, t - 1, place] if t else 0.0
            odds = TREATMENTS[place].base + 1.5 * x + 8 * before
            mass = move @ (mass / (1 + np.exp(np.where(given[stay, t, place], -odds, odds))))
        expected.append(mass @ x / mass.sum())
    assert expected[0] > 1 > 0.1 > abs(expected[1])
    np.testing.assert_allclose(found.mean()[:, lung], expected, atol=5 * 0.01)


def test_forecast_errors_are_the_closed_forms(linear):
    """In the linear-Gaussian mode the squared error h hours ahead is phi^2h P + 1 - phi^2h, P the filter's own."""
    law, cohort = linear
    rows = icu.forecast(law.spec, 24, (1, 6, 24), N, np.random.default_rng(2))
    state = {(r["forecaster"], r["horizon"]): r for r in rows if (r["target"], r["cohort"]) == ("state", "fixed")}
    _, cov = icu_filter.kalman(law, icu_filter.shown(cohort), 24)
    now = cov[:, -1].trace(axis1=1, axis2=2).mean() / 5
    for h in (1, 6, 24):
        decay = law.spec.phi ** (2 * h)
        best, copy = state["best", h], state["copy-true", h]
        assert abs(best["mse"] - (decay * now + 1 - decay)) < 4 * best["mse_se"]
        turned = np.trace(np.linalg.matrix_power(law.step, h)) / 5
        # Treatments run in a few stays and move both sides of copy-forward: within 4 standard errors and 3 %.
        assert abs(copy["mse"] - 2 * (1 - turned)) < 4 * copy["mse_se"] + 0.03 * copy["mse"]
    assert state["best", 24]["mse"] < min(state[name, 24]["mse"] for name in ("copy", "copy-true", "mean-at-hour"))
    with pytest.raises(OutOfDomain, match="max_hours"):
        icu.forecast(law.spec, 24, (48,), 10)


def test_forecasts_by_particles_beat_the_rest_where_nothing_is_exact():
    rows = icu.forecast(spec(confounding=1.0, hours=48), 24, (1, 24), 80, np.random.default_rng(0), particles=100)
    rows = [r for r in rows if (r["target"], r["cohort"]) == ("state", "active")]
    state = {(r["forecaster"], r["horizon"]): r["mse"] for r in rows}
    assert state["best", 24] < 0.9 * min(state[name, 24] for name in ("copy", "copy-true", "mean-at-hour"))


def test_effects_are_sums_of_powers():
    found = icu.effects(spec(coupling=0), (1, 3))
    drug = np.array(found["pulse"]["vasopressor"][0])
    assert drug[0] == pytest.approx(-0.03) and drug[2] == pytest.approx(0.006)
    assert np.allclose(found["held"]["vasopressor"][1], drug * (1 + 0.98 + 0.98**2))
    assert np.allclose(found["pulse"]["fluid"][1], 0.98**2 * np.array(found["pulse"]["fluid"][0]))


def test_risks_of_continued_stays_are_calibrated():
    """Mean risk against labels, 4 standard errors, task by task."""
    from simlab.environments import icu as world

    s, rng = spec(admission_severity=1.0), np.random.default_rng(4)
    factors = world.sample_factors(120, s, "source", rng)
    cohort = world.observe(factors, s, "source", rng)
    found = icu_tasks.risks(s, cohort, 4, rng)
    assert set(found) == set(TASKS)
    for name, y in found.items():
        label = cohort.labels[name]
        label = label if label.ndim == 1 else label[:, 23]
        known = ~np.isnan(label)
        risk = np.nanmean(np.where(np.isnan(y).all(axis=1, keepdims=True), 0, y), axis=1)[known]
        gap = label[known] - risk
        assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(known.sum()) + 0.01, name


def test_an_area_counts_stays_as_often_as_their_label_is_known(rng):
    """Where all is known it is the posterior-weighted area; else that of the labels which are drawn and then known."""
    risk, score = rng.random((2, 4000))
    plain = weighted_auc(score, risk)
    found, moved = icu_tasks.asked_auc(score, risk, 1 - risk)
    assert (found, icu_tasks.standard_error(moved)) == pytest.approx((plain.value, plain.se))
    known = np.where(np.abs(risk - 0.5) < 0.3, 1.0, 0.1)  # the clear cases are rarely looked at
    found, moved = icu_tasks.asked_auc(risk, known * risk, known * (1 - risk))
    se = icu_tasks.standard_error(moved)
    y, there = rng.random(4000) < risk, rng.random(4000) < known
    assert found == pytest.approx(label_auc(risk[there], y[there].astype(float)).value, abs=5 * se)
    assert found < weighted_auc(risk, risk).value - 8 * se
    few = np.where(rng.random((4000, 40)) < known[:, None], rng.random((4000, 40)) < risk[:, None], np.nan)
    assert icu_tasks._area(few)["auc"] == pytest.approx(found, abs=0.03)


def guesses(rng: np.random.Generator, risk: np.ndarray, known: np.ndarray) -> np.ndarray:
    """32 continuations of stays of these risks; each has a label with probability `known`."""
    shape = (len(risk), 32)
    return np.where(rng.random(shape) < known[:, None], rng.random(shape) < risk[:, None], np.nan)


@pytest.mark.parametrize(("a", "b", "known"), [(8, 32, 1.0), (0.6, 1.5, 1.0), (0.6, 1.5, 0.4)])
def test_an_area_knows_how_far_it_varies_over_stays(rng, a, b, known):
    """The deviation over 200 samples of stays is the root mean square of their errors, 3 standard errors of a deviation
    (each 1 / sqrt(2 * 199) of it)."""
    found = [icu_tasks._area(guesses(rng, rng.beta(a, b, 150), np.full(150, known))) for _ in range(200)]
    told = np.sqrt(np.mean([area["se"] ** 2 for area in found]))
    assert np.std([area["auc"] for area in found], ddof=1) == pytest.approx(told, rel=3 / np.sqrt(2 * 199))


def test_a_rarely_known_stay_counts_though_no_guess_that_scores_knows_its_label(rng):
    """Half of the stays are always known and sick in 1 of 5, half known in 1 of 10 and then sick in 4 of 5: with 16
    guesses that score, 19 % of these are scored by the share of all, and each counts a tenth. The noisy score's area
    by its law is .600 (.574 where those of which 8 guesses know nothing are left out); 4 standard errors."""
    n, (known, risk) = 6000, np.array([[1.0, 0.1], [0.2, 0.8]])
    at, of_all = np.arange(n) % 2, (known @ risk) / known.sum()
    laws = []
    for k, r in zip(known, risk, strict=True):
        law = {of_all: stats.binom.pmf(0, 16, k)}
        for there in range(1, 17):
            for sick in range(there + 1):
                more = stats.binom.pmf(there, 16, k) * stats.binom.pmf(sick, there, r)
                law[sick / there] = law.get(sick / there, 0.0) + more
        laws.append((np.array(list(law)), np.array(list(law.values()))))
    sick, well = known * risk, known * (1 - risk)
    best = sum(sick[i] * well[j] * (p @ ((np.sign(x[:, None] - y) + 1) / 2) @ q)
               for i, (x, p) in enumerate(laws) for j, (y, q) in enumerate(laws)) / (sick.sum() * well.sum())
    found = icu_tasks._area(guesses(rng, risk[at], known[at]))
    assert found["lower"] == pytest.approx(best, abs=4 * found["se"])


def test_one_class_or_one_stay_has_no_area():
    """One stay has no other to be told from, whatever its guesses; two of one class neither."""
    none = dict.fromkeys(("auc", "lower", "se", "prevalence"))
    both = np.tile([0.0, 1.0], 8)
    assert icu_tasks._area(both[None]) == none
    assert icu_tasks._area(np.stack([both, np.full(16, np.nan)])) == none
    assert icu_tasks._area(np.ones((2, 16))) == none and icu_tasks._area(np.empty((0, 16))) == none
    assert icu_tasks._area(np.stack([both, np.ones(16)]))["auc"] is not None


@pytest.mark.proof
def test_areas_of_the_world_vary_over_seeds_as_they_say():
    """12 seeds of 40 stays: variance over seeds over the mean squared error, mean over eight tasks of different events.
    One has a standard error of sqrt(2 / 11) = .43, the mean of eight at least .15 and, where they share their stays'
    luck, more: within .5 of 1, and no task beyond 4 errors."""
    tasks = ("mortality-90d", "stay-over-7d", "sepsis", "respiratory-failure", "severe-respiratory-failure",
             "circulatory-failure", "kidney-failure", "severe-meld")
    found = [icu_tasks.areas(spec(), 40, 32, np.random.default_rng(200 + seed)) for seed in range(12)]
    ratios = [np.var([one[task]["auc"] for one in found], ddof=1) / np.mean([one[task]["se"] ** 2 for one in found])
              for task in tasks]
    assert abs(np.mean(ratios) - 1) < 0.5 and max(ratios) < 1 + 4 * np.sqrt(2 / 11)


@pytest.mark.proof
def test_areas_rise_with_the_particles_and_stay_below_one():
    few, many = (icu_tasks.areas(spec(), 150, m, np.random.default_rng(0)) for m in (8, 48))
    for name in ("mortality-90d", "circulatory-failure", "severe-meld"):
        assert few[name]["lower"] < many[name]["lower"] <= many[name]["auc"] <= 1
    assert 0.5 < many["sepsis"]["lower"] < 1


@pytest.mark.proof
def test_sepsis_is_foretold_as_well_as_its_area_says():
    """Labels that the world gave (cultures and alertness its own): as many are known and as many positive as guesses
    say, within 3 standard errors, and the guesses' share orders them with the area that is told for it."""
    from simlab.environments import icu as world

    s, rng = spec(), np.random.default_rng(6)
    cohort = world.observe(world.sample_factors(300, s, "source", rng), s, "source", rng)
    y, label = icu_tasks.risks(s, cohort, 12, rng)["sepsis"], cohort.labels["sepsis"]
    known, told = ~np.isnan(label), (~np.isnan(y)).mean(axis=1)
    assert abs((known - told).mean()) < 3 * (known - told).std() / np.sqrt(300)
    share = np.nansum(y, axis=1) / np.maximum((~np.isnan(y)).sum(axis=1), 1)
    gap = np.where(known, label == 1, 0) - (y == 1).mean(axis=1)
    assert abs(gap.mean()) < 3 * gap.std() / np.sqrt(300)
    both = known & (told > 0)
    seen = label_auc(share[both], label[both])
    found = icu_tasks._area(y[~np.isnan(y).all(axis=1)])
    assert seen.value > 0.5 + 2 * seen.se and seen.value > found["lower"] - 3 * seen.se
    assert seen.value < found["auc"] + 3 * seen.se


def test_the_command_prints_limits(capsys, monkeypatch):
    monkeypatch.setattr(icu_tasks, "areas", lambda s, domain: dict.fromkeys(
        TASKS, dict.fromkeys(("auc", "lower", "se", "prevalence"))))
    settings = [word for k, v in LINEAR.items() for word in ("--set", f"{k}={v}")]
    monkeypatch.setattr(icu, "limits", lambda s, whole=icu.limits: whole(s, 8, 12))
    assert main(["--world", "icu", "--json", "--set", "hours=30", *settings]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exact"]["forecast"] and {r["horizon"] for r in found["forecast"]} == {1, 6, 12}
    assert any("exact, by a Kalman filter" in line for line in lines(found))
    assert main(["--world", "icu", "--set", "hours=30", *settings]) == 0
    assert "nobody knows" in capsys.readouterr().out
    assert command(main, ["--world", "icu", "--set", "phy=1"]) == 2
    assert command(main, ["--world", "icu", "--severity"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
