"""A job whose arms read whole stays: every metric is a row, in every hospital, and a hard sync changes none of them."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import toy_stays

from simlab.environments import icu, icu_knobs
from simlab.environments.registry import WORLDS, World, register_world
from simlab.errors import OutOfDomain, UnknownName
from simlab.limits.icu import drawn
from simlab.methods import METHODS, Method
from simlab.sweep import job, study, trajectories
from simlab.sweep.plan import jobs, recipes
from simlab.sweep.stages import Stages
from simlab.training.pretrain import Settings
from simlab.training.trajectory_settings import Settings as SettingsOfStays
from simlab.trajectories import arms
from simlab.trajectories.optimum import NAME
from simlab.trajectories.trained import there

ARMS = ["clin-jepa", "clin-jepa-no-sync", "clin-jepa-masked-refinement"]


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    asked = study.build({
        "study": {"name": "stays", "seed": 4},
        "world": {"name": "icu", "knobs": {"n_unlab": 30, "n_labelled": 120}},
        "axes": {"gap_s": {"values": [1.0]}},
        "compare": {"arms": ARMS, "contrast": ARMS[:2], "metric": "auc-mean", "task": "icu-mortality"},
        "seeds": {"looks": [1]},
        "train": {"width": 8, "hidden": 16, "depth": 1, "steps": 8, "batch": 4, "n_test": 120, "fleet": 1},
    })
    assert len(recipes(asked)) == 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(icu, "AREAS_STAYS", 60)  # best areas are rough and quick
        return [row for j in jobs(asked) for row in job.run_job(asked, j)]


class Named:
    """A backbone in name alone."""

    def encode(self, cohort):
        raise AssertionError("nobody asks for it")

    rollout = encode


def by(rows: list[dict], arm: str) -> dict[tuple, float]:
    return {(r["cohort"], r["task"], r["metric"]): r["value"] for r in rows if r["method"] == arm}


@pytest.mark.proof
def test_drift_displacement_and_every_task_are_rows_in_both_hospitals(rows) -> None:
    assert all(r["status"] == "ok" for r in rows)
    found = by(rows, "clin-jepa")
    for cohort in ("test", "external"):
        for metric in ("drift-48", "drift-fixed-48", "mase-hour-24", "own-stay-6", "displacement-regime-latent",
                       "displacement-throughout-latent", "auc-mean", "auc-early", "auc-stay",
                       "diag/latent-rank", "part-survivorship-48"):
            assert (cohort, "icu-mortality", metric) in found
        assert 0 < found[cohort, "respiratory-failure", "auc-label"] < 1
    mean = [v for (cohort, _, metric), v in found.items() if (cohort, metric) == ("test", "auc-label")]
    assert found["test", "icu-mortality", "auc-mean"] == pytest.approx(sum(mean) / len(mean))
    parts = [v for (c, _, m), v in found.items() if c == "test" and m.startswith("part-") and m.endswith("-48")]
    grown = 1 + found["test", "icu-mortality", "drift-48"]
    assert len(parts) == 6 and sum(parts) == pytest.approx(math.log(grown))


@pytest.mark.proof
def test_aurocs_stand_beside_the_best_of_their_own_hospital(rows) -> None:
    found = {(r["cohort"], r["task"], r["metric"]): r for r in rows if r["method"] == "clin-jepa"}
    best = {c: {t: r["limit"] for (cohort, t, m), r in found.items() if (cohort, m) == (c, "auc-label")}
            for c in ("test", "external")}
    assert all(0.5 < limit <= 1 for of in best.values() for limit in of.values())
    assert best["test"] != best["external"]
    assert {r["limit"] for (_, _, metric), r in found.items() if not metric.startswith("auc")} == {None}
    mean = found["test", "icu-mortality", "auc-mean"]["limit"]
    assert mean == pytest.approx(sum(best["test"].values()) / len(best["test"]))
    assert found["test", "icu-mortality", "auc-rolled-mean"]["limit"] == pytest.approx(mean)


def test_the_best_areas_of_the_source_are_the_same_in_every_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Knobs of the target hospital, and numbers of records, do not make them anew."""
    asked = study.build({
        "study": {"name": "stays", "seed": 4}, "world": {"name": "icu"}, "axes": {"gap_s": {"values": [0.5, 1.0]}},
        "compare": {"arms": ARMS, "contrast": ARMS[:2], "metric": "auc-mean", "task": "icu-mortality"},
    })
    one = jobs(asked)[0]
    specs = [job.cell_spec(asked, cell) for cell in one.cells]
    made: list[tuple] = []
    monkeypatch.setattr(icu, "areas", lambda spec, domain: made.append((domain, spec.gap_s)) or {"sepsis": 0.6})
    stages = Stages(asked, one, Settings(), specs[0])
    for spec, n in itertools.product(specs, (100, 200)):
        for domain in ("source", "external"):
            assert stages.areas(replace(spec, n_lab=n), domain) == {"sepsis": 0.6}
    assert made == [("source", 0.0), ("external", 0.5), ("external", 1.0)]


def test_backbones_are_trained_on_the_device_of_the_run(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = study.build({
        "study": {"name": "stays", "seed": 4}, "world": {"name": "icu"}, "axes": {"gap_s": {"values": [1.0]}},
        "compare": {"arms": ARMS, "contrast": ARMS[:2], "metric": "auc-mean", "task": "icu-mortality"},
    })
    given: list[str] = []

    def train(*_: object, device: str) -> None:
        given.append(device)
        raise OutOfDomain("far enough")

    monkeypatch.setattr(arms, "train", train)
    monkeypatch.setattr(Stages, "unlabelled", lambda *_: (None, {}))
    monkeypatch.setattr(job._Evaluation, "guard", lambda *_: None)
    monkeypatch.setattr(job._Evaluation, "cohorts", lambda *_: {"test": ("source", toy_stays.stays(rng, 4))})
    for device in ("cpu", "cuda"):
        one = replace(jobs(asked, device=device)[0], seeds=(0,))
        assert {row["error"] for row in job.run_job(asked, one)} == {"OutOfDomain: far enough"}
    assert given == ["cpu"] * len(ARMS) + ["cuda"] * len(ARMS)


def test_a_world_without_best_areas_has_none() -> None:
    """Nor need its specification have more than the fields that studies use (no number of unlabelled records)."""
    @dataclass(frozen=True)
    class Spec:
        n_lab: int = 9
        map_seed: int = 1

        def without_shift(self) -> Spec:
            return self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simlab.environments.registry.WORLDS", dict(WORLDS))
        register_world(World("plain", (), Spec, SimpleNamespace(DOMAINS=("a",))))
        asked = study.build({
            "study": {"name": "stays", "seed": 4}, "world": {"name": "icu"}, "axes": {"gap_s": {"values": [0.0]}},
            "compare": {"arms": ARMS, "contrast": ARMS[:2], "metric": "auc-mean", "task": "icu-mortality"},
        })
        (one, *_), asked = jobs(asked), replace(asked, world="plain")
        assert Stages(asked, one, Settings(), Spec()).areas(Spec(), "a") == {}


def test_drift_error_and_retrieval_stand_beside_the_optimum_of_the_same_stays() -> None:
    """A hand-made optimum of some stays, the test latents themselves but for .1 in each coordinate: its L1 is .1 at
    every horizon, so its drift 0; every error over it is the same in L1 and in both MASE, and adds up with the drift.
    Rows of whole cohorts are what they are without it, parts but for their reference too."""
    spec = icu_knobs.spec(max_hours=36)
    labelled, test, unlabelled = (drawn(spec, n, np.random.default_rng(n)) for n in (60, 50, 12))
    given = SettingsOfStays(width=4, hidden=8, inner=8, inside=8, depth=1, steps=4, batch=4, max_hours=36)
    backbone = arms.train(METHODS["clin-jepa"], unlabelled, given, 1)
    lasting = np.flatnonzero(there(test).length >= 36)

    def best(chosen: np.ndarray, cohort, context: int, horizons: int) -> np.ndarray:
        z = backbone.encode(cohort).state
        found = np.full((len(cohort), horizons, z.shape[2]), np.nan)
        found[chosen] = z[chosen, context : context + horizons] + 0.1
        return found

    plain, beside, covered = (arms.measure(backbone, labelled, test, 3, one) for one in (
        None, ("by hand", partial(best, lasting[:9])), ("by hand", partial(best, lasting))))
    assert all(row in beside for row in plain if not row["metric"].startswith("part-"))
    assert not any("limit" in row or "-same" in row["metric"] for row in plain)
    made = {row["metric"]: row for row in beside if "-same" in row["metric"]}
    assert set(made) == {"step-same", *(f"{m}-same-{h}" for m in ("drift", "mase-copy", "mase-hour", "own-stay")
                                        for h in (6, 12))}
    assert {row["n"] for row in made.values()} == {9}
    assert made["step-same"]["limit"] == pytest.approx(0.4, rel=1e-4)  # of four coordinates
    for h in (6, 12):
        drift, copy, hour = (made[f"{m}-same-{h}"] for m in ("drift", "mase-copy", "mase-hour"))
        over = made["step-same"]["value"] * (1 + drift["value"]) / 0.4  # error over the optimum's
        assert drift["limit"] == pytest.approx(0, abs=1e-3)
        assert copy["value"] / copy["limit"] == pytest.approx(over, rel=1e-3)
        assert hour["value"] / hour["limit"] == pytest.approx(over, rel=1e-3)
        assert made[f"own-stay-same-{h}"]["limit"] > made[f"own-stay-same-{h}"]["value"]
    parts = {row["metric"]: row["value"] for row in beside if row["metric"].startswith("part-")}
    total = sum(v for m, v in parts.items() if m.endswith("-12"))
    whole = {row["metric"]: row["value"] for row in plain}
    assert total == pytest.approx(math.log(1 + whole["drift-12"])) and parts["part-sample-12"] != 0
    of_all = {row["metric"]: row["value"] for row in covered}  # of the fixed cohort, not of stays that end before
    assert all(of_all[f"{m}-same-12"] == whole[f"{n}-12"] for m, n in (("drift", "drift-fixed"), ("own-stay",) * 2))
    assert of_all["part-sample-12"] == 0 and of_all["mase-copy-same-6"] != whole["mase-copy-6"]
    kept = arms.beside_best([{**row, "limit": row.get("limit")} for row in beside], {})
    assert [r["limit"] for r in kept if "-same" in r["metric"]] == [r["limit"] for r in made.values()]


def test_a_study_s_optimum_is_of_its_own_hospital_and_one_for_all_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = study.build({
        "study": {"name": "stays", "seed": 4}, "world": {"name": "icu"}, "axes": {"gap_s": {"values": [1.0]}},
        "compare": {"arms": ARMS, "contrast": ARMS[:2], "metric": "auc-mean", "task": "icu-mortality"},
        "trajectory": {"optimum_stays": 7, "optimum_particles": 5},
    })
    (one, *_) = jobs(asked)
    stages = Stages(asked, one, Settings(), job.cell_spec(asked, 0))
    backbone = Named()
    backbone.backbone = SimpleNamespace(width=3)
    (name, home), (_, away), (_, other) = (trajectories.optimum(stages, stages.spec, domain, seed, backbone)
                                           for domain, seed in (("source", 0), ("external", 0), ("source", 1)))
    assert name == NAME and (home.most, home.particles, home.width) == (7, 5, 3)
    assert home.seed == away.seed != other.seed
    assert home.law.admission < away.law.admission, "the sicker hospital's"
    plain = SimpleNamespace(study=replace(asked, trajectory={"inner": 16}))
    assert trajectories.optimum(plain, stages.spec, "source", 0, backbone) is None


def test_means_have_a_limit_where_each_of_their_tasks_has_one() -> None:
    base = {"cohort": "test", "status": "ok", "limit": None, "se": None, "n": 9}

    def row(metric: str, task: str, value: float) -> dict:
        return {**base, "metric": metric, "task": task, "value": value}

    given = [row("auc-label", "sepsis", 0.5), row("auc-label", "severe-meld", 0.7),
             row("auc-label", "kidney-failure", 0.6), row("auc-early", "of-none", 0.65),
             row("auc-stay", "of-none", 0.5), row("auc-mean", "of-none", 0.6), row("drift-48", "of-none", 0.1)]
    made = arms.beside_best(given, {"severe-meld": 0.9, "kidney-failure": 0.8})
    limits = {(r["metric"], r["task"]): r["limit"] for r in made}
    assert limits["auc-label", "severe-meld"] == 0.9 and limits["auc-label", "sepsis"] is None
    assert limits["auc-early", "of-none"] == pytest.approx(0.85)
    assert {m for (m, _), limit in limits.items() if limit is None} == {"auc-label", "auc-stay", "auc-mean", "drift-48"}
    assert all(r["limit"] is None for r in given), "what is cached has no limit of its own"


@pytest.mark.proof
def test_a_hard_sync_changes_no_number(rows) -> None:
    """The released code reads the online encoder ever after (the fact sheet's 4.1): bit for bit."""
    assert by(rows, "clin-jepa") == by(rows, "clin-jepa-no-sync")


@pytest.mark.proof
def test_an_arm_without_a_predictor_has_tasks_and_no_drift(rows) -> None:
    metrics = {metric for _, _, metric in by(rows, "clin-jepa-masked-refinement")}
    assert "auc-mean" in metrics and not any(m.startswith(("drift", "mase", "auc-rolled")) for m in metrics)


def test_arms_are_the_curricula_with_phase_0_and_without() -> None:
    cold = METHODS["clin-jepa-no-warmup-cold"]
    assert [s.name for s in arms.curriculum(cold).stages] == ["joint", "alignment", "finalisation"]
    assert arms.curriculum(METHODS["clin-jepa"]).stages[0].name == "phase0"
    assert "clin-jepa-random-encoder-cold" not in METHODS
    with pytest.raises(OutOfDomain, match="go together"):
        Method("mine", "", "a:b", reads="stays")
    with pytest.raises(UnknownName, match="no-warmup"):
        arms.curriculum(Method("mine", "", "a:b", reads="stays", trajectory="no-warmpu"))
