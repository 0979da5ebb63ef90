"""The whole evaluation on backbones that are the true state: its numbers are known beforehand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import toy_stays

from simlab.evaluation.auc import weighted_auc
from simlab.evaluation.drift import ar1_drift
from simlab.trajectories import groups
from simlab.trajectories.evaluate import Plan, evaluate, mean_areas

PLAN = Plan(contexts=(24,), actions=("true",), tasks=("dies", "event"), compare=("ridge",), draws=50, asked=(12, 24))


@pytest.fixture(scope="module")
def cohorts():
    rng = np.random.default_rng(20261122)
    return toy_stays.stays(rng, 300), toy_stays.stays(rng, 700, first=500)


@pytest.fixture(scope="module")
def best(cohorts):
    """The evaluation of the best forecast of the true state, beside itself as the optimum."""
    known = toy_stays.Known("best")

    def optimum(cohort, context, horizons):
        return known.rollout(known.encode(cohort), context, horizons, "true", None)

    return evaluate(known, *cohorts, PLAN, ("optimum", optimum))


def test_the_best_forecast_of_the_true_state(best) -> None:
    """Drift +129 % (phi = .9), nothing left to apportion but the horizon's own cost, against itself as the optimum;
    560 stays of three directions: 2 % for the mean error."""
    report = best
    at = {row.drift.horizon: row for row in report.drift}
    assert 1 + at[48].drift.fixed == pytest.approx(1 + ar1_drift(0.9, 48), rel=0.08)
    assert report.reference == "optimum" and report.same == ()  # it forecasts every stay
    assert [replace(row, drift=replace(row.drift, fixed_interval=None)) for row in report.best] == [
        replace(row, actions="optimum", drift=replace(row.drift, fixed_interval=None)) for row in report.drift]
    assert at[48].mase_mean == pytest.approx(1.0, abs=0.03)  # .9^48: the mean is all that is left
    assert at[48].mase_copy == pytest.approx(1 / math.sqrt(2), abs=0.04)
    assert at[6].retrieval > 0.65 > 0.55 > at[48].retrieval
    parts = report.parts[-1]
    assert parts.underfit == pytest.approx(0) and parts.remainder == pytest.approx(0)
    assert parts.contraction == pytest.approx(0, abs=1e-9)  # latents and reference space are one
    assert parts.horizon_cost == pytest.approx(math.log(1 + ar1_drift(0.9, 48)), abs=0.1)
    assert report.shape["rank"] == pytest.approx(3, abs=0.05)


def test_tasks_from_the_true_state_reach_what_is_possible(cohorts, best) -> None:
    """The last latent holds the risk: a probe comes within .02 of the risk's own area; beside the summaries' ridge."""
    report, test = best, cohorts[1]
    rows = {(row.task, row.arm): row for row in report.tasks}
    assert set(rows) == {(t, a) for t in ("dies", "event") for a in ("encoded", "rolled", "ridge")}
    one = rows["dies", "encoded"]
    risk = test.risk["dies"][test.length >= 24]
    assert one.limit == pytest.approx(weighted_auc(risk, risk).value)
    assert one.limit - 0.02 < one.weighted <= one.limit
    assert one.auroc.low < one.auroc.value < one.auroc.high
    assert rows["dies", "ridge"].difference.value == pytest.approx(
        one.auroc.value - rows["dies", "ridge"].auroc.value)
    assert rows["dies", "rolled"].weighted > one.limit - 0.03  # phi^h of the same latent orders the stays alike
    assert rows["event", "encoded"].limit is None and rows["event", "encoded"].n == (test.length >= 12).sum() + (
        test.length >= 24).sum()
    assert mean_areas(report.tasks, "encoded")[1] == 2
    lasting = test.length >= 24
    assert one.subjects == ((test.labels["dies"][lasting] == 1).sum(), (test.labels["dies"][lasting] == 0).sum())
    asked = test.labels["event"][:, [11, 23]]
    asked = np.where(test.length[:, None] >= [12, 24], asked, np.nan)  # a subject with both hours counts once
    found = rows["event", "encoded"]
    assert found.subjects == ((asked == 1).any(axis=1).sum(), (asked == 0).any(axis=1).sum())
    assert found.rarer < min(found.positives, found.n - found.positives)


def test_an_optimum_of_some_stays_stands_beside_the_roll_out_on_these(cohorts) -> None:
    """The truth of forty stays as the optimum of a roll-out that copies: errors of none against all, every column of
    both over the forty; the roll-out's drift is what its parts say."""
    train, test = cohorts
    truth = toy_stays.Known("truth")
    chosen = np.flatnonzero(test.length >= 72)[:40]

    def optimum(cohort, context, horizons):
        found = np.full((len(cohort), horizons, 3), np.nan)
        whole = truth.rollout(truth.encode(cohort), context, horizons, "true", None)
        found[chosen] = whole[chosen] + 0.1
        return found

    plan = replace(PLAN, tasks=("dies",), compare=(), decode=False)
    report = evaluate(toy_stays.Known("copy"), train, test, plan, ("optimum", optimum))
    best, same, whole = report.best[-1], report.same[-1], report.drift[-1]
    assert best.drift.active == same.drift.active == same.drift.matched == 40 < whole.drift.matched
    assert best.step == pytest.approx(0.3, rel=1e-5) and best.drift.fixed == pytest.approx(0, abs=1e-5)
    assert same.mase_copy == whole.mase_copy == 1.0 and best.mase_copy == pytest.approx(0.3 / (
        same.step * (1 + same.drift.fixed)), rel=1e-4)
    assert best.mase_mean < same.mase_mean and best.retrieval > 0.95 > same.retrieval
    part = report.parts[-1]
    assert 1 + same.drift.fixed == pytest.approx(math.exp(part.total - part.survivorship - part.sample))


def test_a_forecast_that_knows_all_and_one_that_copies(cohorts) -> None:
    train, test = cohorts
    plan = Plan(contexts=(24,), actions=("true",), tasks=("dies",), draws=20, decode=True)
    oracle = evaluate(toy_stays.Known("truth"), train, test, plan)
    assert oracle.drift[-1].drift.fixed is None and oracle.parts[-1] is None
    assert oracle.drift[-1].mase_copy == 0.0 and oracle.drift[-1].retrieval == 1.0
    noise = toy_stays.NOISE * math.sqrt(2 / math.pi)
    assert {d.variable for d in oracle.decoded} == {"hr", "map", "lactate"}
    assert np.mean([d.mae for d in oracle.decoded]) == pytest.approx(noise, rel=0.1)
    copy = evaluate(toy_stays.Known("copy"), train, test, plan)
    assert copy.drift[-1].mase_copy == 1.0
    assert [d.mase_decoded for d in copy.decoded] == pytest.approx([1.0] * len(copy.decoded))


def test_geometry_under_every_definition_that_there_is(best) -> None:
    """Latents and true state are one space: the same ratios; stays that reach far (the regime) travel farther."""
    report = best
    assert set(report.geometry) == {"regime", "throughout", "events", "death"}
    by = {(r.space, r.measure, r.standardised): r for r in report.geometry["regime"]}
    assert by["latent", "l2", False].value == pytest.approx(by["true state", "l2", False].value)
    assert by["latent", "l2", False].value > 1
    assert ("raw features", "path", True) in by


def test_stays_that_recover_are_stable_by_regime_and_in_neither_group_throughout() -> None:
    cohort = toy_stays.stays(np.random.default_rng(0), 4)
    regime = np.zeros_like(cohort.factors["regime"])
    regime[0, 5], regime[1, 5], regime[2, 40] = groups.DETERIORATING, 2, groups.DETERIORATING
    found = groups.definitions(replace(cohort, factors={**cohort.factors, "regime": regime}), (0, 24))
    assert [list(side) for side in found["regime"]] == [[True, False, False, False], [False, True, True, True]]
    assert [list(side) for side in found["throughout"]] == [[True, False, False, False], [False, False, True, True]]
