"""The ICU world: its dynamics against closed forms, its knobs one by one, causality, and what a draw promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simlab.cohort import load
from simlab.environments import icu, icu_channels, icu_dynamics, icu_labels, icu_law, icu_measure, icu_outcomes
from simlab.environments.__main__ import main
from simlab.environments.docs import knob_table
from simlab.environments.icu_knobs import ICU_KNOBS, LINEAR, TASKS, spec
from simlab.environments.icu_values import charted, standard
from simlab.environments.scenario import sample_cohort
from simlab.errors import OutOfDomain, UnknownName

ROOT = Path(__file__).parents[2]
NAMES = list(icu_channels.NAMES)


def factors(n, until=26, seed=0, **knobs):
    """The latents of n stays, which all end by hour `until`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(icu_dynamics, "HOURS", until)
        return icu_dynamics.sample_factors(n, spec(**knobs, hours=24), "source", np.random.default_rng(seed))


def cohort(n, domain="source", stage="test-data", **knobs):
    return sample_cohort(spec(**knobs), stage, n, 1, 0, domain, world="icu")


def test_the_state_is_stationary_with_the_closed_forms_covariance():
    """Cov(x(t + h), x(t)) = A^h, whatever the coupling; 6 standard errors of 25 + 25 entries."""
    x = factors(3000, **LINEAR, treatment_effect=0, coupling=0.1, persistence=0.9).paths.x.astype(float)
    law = icu_law.law_of(spec(**LINEAR, coupling=0.1, persistence=0.9), "source")
    assert np.allclose(law.step @ law.step.T, 0.81 * np.eye(5))
    now, later = x[:, 12], x[:, 17]
    expected = np.linalg.matrix_power(law.step, 5)
    assert np.abs(now.T @ now / 3000 - np.eye(5)).max() < 6 * np.sqrt(2 / 3000)
    assert np.abs(later.T @ now / 3000 - expected).max() < 6 * np.sqrt(2 / 3000)


def test_regimes_change_by_their_matrix():
    law = icu_law.law_of(spec(deterioration_rate=0.1), "source")
    regime = factors(800, deterioration_rate=0.1).paths.regime[:, :24]
    pairs = np.zeros((3, 3))
    np.add.at(pairs, (regime[:, :-1].ravel(), regime[:, 1:].ravel()), 1)
    total = pairs.sum(axis=1, keepdims=True)
    assert np.allclose(law.change.sum(axis=1), 1) and law.change[0, 1] == 0.1
    error = np.abs(pairs / total - law.change) / np.sqrt(law.change * (1 - law.change) / total + 1e-12)
    assert error[law.change > 0].max() < 5 and not pairs[law.change == 0].any()
    assert (factors(50, regimes="off").paths.regime == 0).all()


def test_a_treatment_moves_the_state_by_its_effect():
    """Same random numbers, one hour of vasopressors more: h hours later the states differ by A^(h-1) B dose."""
    law = icu_law.law_of(spec(**LINEAR), "source")
    x, stable = np.random.default_rng(0).standard_normal((4, 5)), np.zeros(4, int)
    given, dose = np.zeros((4, 5)), 1.3
    with_it = icu_dynamics.moved(law, x, stable, given + dose * np.eye(5)[0])
    without = icu_dynamics.moved(law, x, stable, given)
    for _ in range(11):
        with_it, without = (icu_dynamics.moved(law, y, stable, given) for y in (with_it, without))
    held = cohort(3, **LINEAR)
    assert np.allclose(with_it - without, np.linalg.matrix_power(law.step, 11) @ law.effect[0] * dose)
    assert np.allclose(held.factors["effect"], held.factors["dose"][:, :, None] * law.effect)
    assert law.effect[0, 0] == pytest.approx(-0.02 * 1.5)


@pytest.mark.parametrize(("confounding", "follows"), [(0.0, False), (1.0, True)])
def test_without_confounding_treatments_follow_what_was_charted_alone(confounding, follows):
    """What is given, less its probability by the last readings, against the hidden state: no covariance, or some.

    Terms of different hours are martingale differences, so the sum of their squares is their sum's variance.
    """
    law, p = icu_law.law_of(spec(confounding=0), "source"), factors(1500, confounding=confounding).paths
    read, on, terms = np.zeros((1500, 5)), np.zeros((1500, 5), bool), []
    for t in range(24):
        read = np.where(p.looked[:, t], law.toward * p.shown[:, t], read)
        expected = icu_law.chance(icu_law.policy_odds(law, p.x[:, t].astype(float), read, on))
        terms.append((p.on[:, t] - expected) * p.x[:, t, [0, 1, 2, 4, 0]])
        on = p.on[:, t]
    terms = np.concatenate(terms)
    z = terms.sum(axis=0) / np.sqrt((terms**2).sum(axis=0))
    assert (np.abs(z).max() > 4) == follows, z


def test_without_feedback_treatments_are_random():
    f = factors(2000, policy_feedback=0)
    x, on = f.paths.x[:, 20, 0], f.paths.on[:, 20, 0]
    # Those treated until now are better off, since it acts; a start is what is independent.
    start = on & ~f.paths.on[:, 19, 0]
    assert abs(np.corrcoef(start, x)[0, 1]) < 4 / np.sqrt(2000)


@pytest.mark.parametrize(("informative", "follows"), [(0.0, False), (1.5, True)])
def test_informative_measurement(informative, follows):
    """Whether a blood gas is taken against the mean state: 4 standard errors."""
    p = factors(2500, informative_measurement=informative).paths
    taken, sick = p.taken[:, 12, list(icu_channels.PANELS).index("gas")], icu_law.severity(p.x[:, 12])
    assert (abs(np.corrcoef(taken, sick)[0, 1]) > 4 / np.sqrt(2500)) == follows


def test_ends_follow_the_state_only_where_selection_says_so():
    for selection, follows in ((0.0, False), (1.0, True)):
        p = factors(1500, until=60, selection=selection, frailty_slope=0).paths
        sick = icu_law.severity(p.x[:, 24])
        gone = (p.out < 60) & ~p.died
        assert (abs(np.corrcoef(gone, sick)[0, 1]) > 4 / np.sqrt(1500)) == follows


def test_ends_have_the_documented_hazards():
    """Chances of one patient by hand. Then deaths and discharges of each hour, less their probabilities by docs/icu.md,
    against 1, the mean state and frailty: martingale differences, so 4 standard deviations of their sum. And who dies
    was sicker at hour 24, and frailer, than who does not."""
    p_of = {"died": (-10.4, 3.5, 1.1), "left": (-4.9, -1.8, -0.2)}
    law = icu_law.law_of(spec(selection=0.5), "source")
    chances = icu_law.end_chances(law, np.array([[2.0, 0, 1, 2, 0]]), np.array([2.0]))  # a mean state of 1
    assert np.ravel(chances) == pytest.approx(-np.expm1(-np.exp([-10.4 + 1.75 + 2.2, -4.9 - 0.9 - 0.4])))
    f = factors(2500, until=60)
    p, frail = f.paths, icu_law.frailty(f.static)
    terms = {name: [] for name in p_of}
    for t in range(24, 59):  # in the last hour all leave
        there, sick = p.out > t, p.x[:, t].astype(float).mean(axis=1)
        dies = there & p.died & (p.out == t + 1)
        for name, at_risk, ends in (("died", there, dies), ("left", there & ~dies, (p.out == t + 1) & ~p.died)):
            base, slope, more = p_of[name]
            expected = -np.expm1(-np.exp(base + slope * sick + more * frail))
            terms[name].append(at_risk * (ends - expected) * [np.ones(2500), sick, frail])
    for name, found in terms.items():
        total, variance = np.sum(found, axis=(0, 2)), np.sum(np.square(found), axis=(0, 2))
        assert np.abs(total / np.sqrt(variance)).max() < 4, name
    for told in (icu_law.severity(p.x[:, 24]), frail):
        assert np.corrcoef(p.died, told)[0, 1] > 4 / np.sqrt(2500)


def test_deaths_after_intensive_care_follow_how_it_was_left_as_far_as_the_knob_says():
    """With gamma_d = 0 the state on leaving changes no label, whoever has it, and frailty tells of deaths within 90
    days; with 2 the state does, beyond frailty (4 standard errors of a correlation each), and nobody who leaves sicker
    lives longer."""
    f = factors(1500, until=60)
    survived, frail, last = ~f.paths.died, icu_law.frailty(f.static), f.paths.last
    sick = icu_law.severity(last)
    beyond = sick - np.polyval(np.polyfit(frail[survived], sick[survived], 1), frail)

    def dead(gamma, state=last):
        of, rng = replace(f, paths=replace(f.paths, last=state)), np.random.default_rng(1).spawn(2)[1]
        course, _ = icu_outcomes.whole_course(of, np.full((1500, 60, len(icu_measure.LABELLED)), np.nan), gamma, rng)
        return icu_labels.labels(course, 24, 24)["mortality-90d"][survived]

    none, strong, shuffled = dead(0), dead(2), last[np.random.default_rng(2).permutation(1500)]
    assert np.array_equal(none, dead(0, shuffled)) and not np.array_equal(strong, dead(2, shuffled))
    assert np.corrcoef(none, frail[survived])[0, 1] > 4 / np.sqrt(survived.sum())
    assert np.corrcoef(strong, beyond[survived])[0, 1] > 4 / np.sqrt(survived.sum())
    sicker = dead(2, last + 0.5)
    assert (sicker >= strong).all() and sicker.sum() > strong.sum() > 0
    paths = type(f.paths)(*(a[:300] for a in vars(f.paths).values()))
    few, there = icu_dynamics.IcuFactors(f.static[:300], f.dose[:300], paths), survived[:300]
    shown = icu.observe(few, spec(hours=24, after_discharge=2), "source", np.random.default_rng(1))
    assert np.array_equal(shown.labels["mortality-90d"][there], strong[: there.sum()])  # the knob reaches the labels
    assert not np.array_equal(shown.labels["mortality-90d"][there], none[: there.sum()])


def test_the_future_does_not_reach_back():
    """Stays whose random numbers differ from hour 30 on are the same until then."""
    s = spec()
    law = icu_law.law_of(s, "source")
    rng = np.random.default_rng(0)
    start = icu_dynamics.Start(rng.standard_normal((6, 5)), np.zeros(6, int), np.zeros((6, 5), bool), np.zeros((6, 5)),
                               np.ones((6, 5)), np.zeros(6))
    draws = {name: (rng.standard_normal if normal else rng.random)((6, 60, k), np.float32)
             for name, (normal, k) in icu_dynamics.HOURLY.items()}
    other = {name: np.concatenate([a[:, :30], rng.permuted(a[:, 30:], axis=0)], axis=1) for name, a in draws.items()}
    one, two = (icu_dynamics.simulate(law, start, d, 60) for d in (draws, other))
    for name in ("x", "regime", "taken", "on"):
        assert np.array_equal(getattr(one, name)[:, :30], getattr(two, name)[:, :30])
    assert not np.array_equal(one.x[:, 30:], two.x[:, 30:])


def test_charts_say_what_their_standard_values_say():
    z = np.random.default_rng(0).uniform(-2.5, 2.5, (200, len(NAMES)))
    value = charted(z, range(len(NAMES)))
    for i, channel in enumerate(icu_channels.CHANNELS):
        assert value[:, i].min() >= channel.low and value[:, i].max() <= channel.high
    back = standard(value, range(len(NAMES)))
    speaks = [c.panel != "body" and c.name not in icu_channels.POINTS for c in icu_channels.CHANNELS]
    assert np.abs(back - z)[:, speaks].max() < 0.1  # half a hundredth of the spread, where the curve is flattest
    assert np.array_equal(charted(back, range(len(NAMES))), value)


def test_a_stay_shows_nothing_beyond_its_end_and_tasks_have_their_labels():
    c = cohort(200)
    beyond = np.arange(c.visits) >= c.length[:, None]
    assert set(c.tasks) == set(TASKS) == set(c.labels) and not c.risk and c.events is None
    for name in ("state", "action"):
        assert not c.streams[name].observed[beyond].any() and not c.streams[name].values[beyond].any()
    assert (c.length >= 25).all() and (c.factors["regime"][beyond] == -1).all()
    assert np.isnan(c.labels["decompensation"][beyond]).all()
    for name, y in c.labels.items():
        assert 0 < np.nanmean(y) < 0.6, name
    onset, regime = c.factors["deterioration"], c.factors["regime"]
    assert all((onset[i] < 0) == (1 not in regime[i]) for i in range(200))


def test_first_records_labels_and_stages_do_not_disturb_each_other(monkeypatch):
    monkeypatch.setattr(icu_dynamics, "HOURS", 80)
    few, more = cohort(5), cohort(9)
    monkeypatch.setattr(icu_dynamics, "BLOCK", 2)
    blocked = cohort(5)
    for other in (more, blocked):
        for name, stream in few.streams.items():
            assert np.array_equal(stream.values, other.streams[name].values[:5])
        for name, y in few.labels.items():
            np.testing.assert_array_equal(y, other.labels[name][:5])
    late = cohort(5, after_discharge=3)
    assert np.array_equal(late.streams["state"].values, few.streams["state"].values)
    unlabelled = [cohort(5, stage="pretraining-data", after_discharge=g) for g in (0, 3)]
    assert not unlabelled[0].labels and unlabelled[0].provenance == unlabelled[1].provenance
    assert set(few.record).isdisjoint(unlabelled[0].record)


def test_hospitals_differ_in_what_is_set_alone(monkeypatch):
    source, same = (icu_law.law_of(spec(), domain) for domain in ("source", "external"))
    for name, value in vars(source).items():
        assert np.array_equal(value, getattr(same, name)) or name == "spec"
    touched = {"measurement_gap": {"panel", "informative", "offset"}, "policy_gap": {"policy", "dose"},
               "severity_gap": {"admission", "change"}}
    for gap, names in touched.items():
        far = icu_law.law_of(spec(**{gap: 0.7}), "external")
        moved = {k for k, v in vars(source).items() if k != "spec" and not np.array_equal(v, getattr(far, k))}
        assert moved == names
    shifted = spec(measurement_gap=1, policy_gap=1, severity_gap=1)
    assert shifted.without_shift() == spec()
    monkeypatch.setattr(icu_dynamics, "HOURS", 80)
    inside, outside = (cohort(150, d, measurement_gap=1) for d in icu.DOMAINS)
    assert np.array_equal(inside.streams["state"].values[:4], cohort(4).streams["state"].values)
    assert {*inside.site} == {"source"} and {*outside.site} == {"external"}
    rates = [c.streams["state"].observed[:, 1:24, NAMES.index("creatinine")].mean() for c in (inside, outside)]
    assert rates[1] < 0.7 * rates[0]


def test_knobs_are_checked_and_documented():
    text = (ROOT / "docs" / "icu.md").read_text(encoding="utf-8")
    assert knob_table(ICU_KNOBS) in text
    assert (ROOT / "docs" / "pictures" / "icu_world.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(OutOfDomain, match="max_hours"):
        spec(hours=12)
    with pytest.raises(OutOfDomain, match="twice"):
        spec(hours=48, max_hours=48)
    with pytest.raises(UnknownName, match="treatment_effect"):
        spec(treatment_efect=1)
    with pytest.raises(UnknownName, match="external"):
        icu_law.law_of(spec(), "extrenal")
    assert spec(**LINEAR).exact_forecast and not replace(spec(**LINEAR), lambda_p=0.5).exact_forecast


def test_it_is_sampled_from_the_command_line(tmp_path, capsys):
    file = tmp_path / "icu.cohort"
    assert main(["--sample", "icu", "--out", str(file), "--records", "6", "--set", "events=on"]) == 0
    assert "6 records" in capsys.readouterr().out and load(file).events is not None


def test_the_picture_is_drawn(tmp_path):
    from figures.icu_world import main as draw

    assert draw(["--out", str(tmp_path)]) == 0
    assert (tmp_path / "icu_world.png").stat().st_size > 20_000
