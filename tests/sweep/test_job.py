"""A job: the stages run as often as their knobs change, failures are rows, the leak guard is silent or trips."""

from __future__ import annotations

import numpy as np
import pytest

from simlab import methods
from simlab.errors import LeakDetected
from simlab.evaluation import leak
from simlab.sweep import job as job_module
from simlab.sweep import study
from simlab.sweep.plan import jobs
from simlab.training import pretrain
from simlab.training.data import Bench, Fit
from simlab.training.loop import Diverged
from simlab.training.method import Method


def small(arms: list[str], axes: dict | None = None, **world: float) -> study.Study:
    return study.build(
        {
            "study": {"name": "small", "seed": 4},
            "world": {"knobs": {"n_unlab": 500, **world}},
            "axes": axes or {"w_c": {"values": [0.3, 0.9]}, "n_lab": {"values": [80, 160]}},
            "compare": {"arms": arms, "contrast": arms[:2]},
            "seeds": {"looks": [3]},
            "train": {"width": 4, "steps": 20, "fleet": 3, "n_test": 1000},
        }
    )


def rows_of(asked: study.Study) -> list[dict]:
    return [row for j in jobs(asked) for row in job_module.run_job(asked, j)]


def test_every_cell_seed_and_arm_has_its_metrics() -> None:
    rows = rows_of(small(["vicreg-frozen", "supervised", "image-only"]))
    keys = {(r["cell"], r["seed"], r["method"]) for r in rows}
    assert len(keys) == 4 * 3 * 3
    for key in keys:
        mine = {r["metric"]: r for r in rows if (r["cell"], r["seed"], r["method"]) == key}
        assert {"auc", "auc-label", "diag/leak-z"} <= set(mine)
        assert ("diag/rankme/image" in mine) == (key[2] == "vicreg-frozen")
        assert mine["auc"]["value"] < mine["auc"]["limit"] + 4 * mine["auc"]["se"]
    limits = {
        m: {round(r["limit"], 6) for r in rows if r["method"] == m and r["metric"] == "auc"}
        for m in ("supervised", "image-only")
    }
    assert len(limits["supervised"]) == 2  # one for each w_c
    assert max(limits["image-only"]) < max(limits["supervised"])


def test_one_pretraining_a_seed_when_only_label_knobs_move(monkeypatch: pytest.MonkeyPatch) -> None:
    members: list[int] = []
    real = pretrain.pretrain

    def counted(views: dict, *args: object, **kwargs: object) -> list[pretrain.Encoders]:
        members.append(len(views["image"]))
        return real(views, *args, **kwargs)

    monkeypatch.setattr(pretrain, "pretrain", counted)
    rows_of(small(["vicreg-frozen", "vicreg-finetuned", "supervised"]))
    assert members == [3]  # three seeds in one fleet, one recipe for both arms, four cells
    members.clear()
    rows_of(small(["vicreg-frozen", "lda"], {"rel_ci": {"values": [0.5, 0.9]}}))
    assert members == [3, 3]  # a source knob: once for each of its values


def test_shift_knobs_train_nothing_more_and_change_only_the_external_cohort() -> None:
    rows = rows_of(small(["ridge", "lda"], {"kappa_e": {"values": [1.0, 0.2]}}))
    value = {
        (r["cell"], r["seed"], r["cohort"]): r["value"] for r in rows if r["metric"] == "auc" and r["method"] == "ridge"
    }
    assert all(value[0, s, "test"] == value[1, s, "test"] for s in range(3))
    assert np.mean([value[1, s, "external"] - value[1, s, "test"] for s in range(3)]) < -0.02
    assert (0, 0, "external") not in value  # no shift there: nothing external to measure


def test_a_run_is_a_pure_function_of_study_and_job() -> None:
    asked = small(["vicreg-frozen", "ridge"], {"n_lab": {"values": [80, 160]}})
    assert rows_of(asked) == rows_of(asked)


def planted_leak(method: Method, bench: Bench) -> Fit:
    """Scores with the test labels: it remembers the study's only test cohort through the risk's own stage."""
    from simlab.environments.knobs import spec
    from simlab.environments.scenario import sample_cohort

    y = [sample_cohort(spec(n_unlab=500, w_c=0.5), "test-data", 1000, 4, s).labels["outcome"] for s in range(3)]
    seed = planted_leak.calls % 3
    planted_leak.calls += 1
    return Fit(lambda views: y[seed] + np.random.default_rng(0).standard_normal(1000))


planted_leak.calls = 0


def broken(method: Method, bench: Bench) -> Fit:
    raise KeyError("a plug-in's own mistake")


def test_the_leak_guard_is_silent_here_and_tripped_by_a_planted_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(rows: list[dict]) -> None:
        found = [r for r in rows if r["metric"] == "diag/leak-z"]
        leak.check([r["value"] for r in found], [f"{r['method']} cell {r['cell']}" for r in found])

    check(rows_of(small(["vicreg-frozen", "supervised", "lda", "image-only"])))
    monkeypatch.setitem(methods.METHODS, "spy", Method("spy", "sees the test labels", f"{__name__}:planted_leak"))
    monkeypatch.setattr(
        job_module,
        "run_arm",
        lambda arm, bench: planted_leak(arm, bench) if arm.name == "spy" else job_run_arm(arm, bench),
    )
    with pytest.raises(LeakDetected, match="spy"):
        check(rows_of(small(["spy", "lda"], {"w_c": {"values": [0.5]}})))


job_run_arm = job_module.run_arm


class Theirs(Exception):
    """A library's own error, of no kind that Python has (as LightGBM's)."""


@pytest.mark.parametrize("error", [KeyError("lost"), Diverged("nan"), MemoryError("9 GB"), ValueError("one\ntwo"),
                                   Theirs("no trees")])
def test_an_arm_that_fails_is_one_row_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def run(arm: Method, bench: Bench) -> Fit:
        if arm.name == "lda":
            raise error
        return job_run_arm(arm, bench)

    monkeypatch.setattr(job_module, "run_arm", run)
    rows = rows_of(small(["ridge", "lda"], {"n_lab": {"values": [80]}}))
    failed = [r for r in rows if r["method"] == "lda"]
    assert len(failed) == 3
    for row in failed:
        assert row["status"] == ("diverged" if isinstance(error, Diverged) else "failed")
        assert row["error"].startswith(type(error).__name__) and "\n" not in row["error"]
        assert row["metric"] == "" and row["value"] is None
    assert len([r for r in rows if r["method"] == "ridge" and r["metric"] == "auc"]) == 3


def test_a_world_with_too_few_positives_says_so() -> None:
    rows = rows_of(small(["ridge", "lda"], {"n_lab": {"values": [20]}}, prevalence=0.005))
    assert all("at least two of each class" in r["error"] for r in rows if r["status"] == "failed")
    assert any(r["status"] == "failed" for r in rows)
