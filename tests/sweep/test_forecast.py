"""What a run will take: a timed slice, what follows from it, and how wrong it was."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from simlab.environments.registry import WORLDS
from simlab.errors import command
from simlab.sweep import forecast, job, plan, probe, study
from simlab.sweep.__main__ import main
from simlab.sweep.schema import Study

TINY = """
[axes]
w_c = [0.2, 0.5, 0.8]
kappa_e = [0.5, 1.0]
[world.knobs]
n_unlabelled = 300
n_labelled = 60
[compare]
arms = ["vicreg-frozen", "jepa-frozen", "supervised", "lda"]
contrast = ["vicreg-frozen", "lda"]
[seeds]
looks = [4]
[train]
steps = 300
batch = 64
fleet = 2
n_test = 2000
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Study:
    (tmp_path / "tiny.toml").write_text(TINY, encoding="utf-8")
    return study.load(str(tmp_path / "tiny.toml"))


def test_a_slice_foretells_the_whole(tmp_path: Path) -> None:
    """Within a factor of five on a machine that others use too; six steps stand for 100, and three cells for five."""
    (tmp_path / "tiny.toml").write_text(TINY, encoding="utf-8")
    less = ["seeds.looks=[2]", "train.steps=100", "train.n_test=300", "w_c=[0.1, 0.3, 0.5, 0.7, 0.9]", "kappa_e=[1.0]"]
    tiny = study.load(str(tmp_path / "tiny.toml"), less)
    (times,) = probe.probe(tiny, plan.jobs(tiny)[0])
    start = time.perf_counter()
    for one in plan.jobs(tiny, cache=str(tmp_path / "cache")):
        job.run_job(tiny, one)
    took = time.perf_counter() - start
    said = forecast.whole(tiny, plan.jobs(tiny), 1, times) - plan.START
    assert took / 5 < said < 5 * took
    size = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.entry")) / 1e6
    assert size / 3 < forecast.disk(tiny, plan.jobs(tiny, cache="here"), times) < 3 * size
    assert len(times["pretrain"]) == 2 and len(times["cells"]) == 3 and times["encoder_bytes"] > 1000


def test_each_stage_counts_as_often_as_it_runs(tiny: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast.os, "cpu_count", lambda: 8)
    jobs = plan.jobs(tiny, cache="here")  # one source group, two fleets of two seeds
    cell = {"data": 1.0, "limits": 0.1, "fits": 10.0, "measures": 100.0, "cohorts": 2}
    times: dict[str, Any] = {"source": 1000.0, "pretrain": [1e4, 2e4], "cells": [cell] * 3}
    # 4 seeds' records, 2 fleets' two recipes; fits and test records at home for 3 values of w_c (kappa_e touches the
    # target alone), 4 seeds; records outside for 6 cells, 4 seeds; limits for 6 cells.
    work = 4 * 1000 + 2 * 3e4 + 3 * 4 * 10 + (3 + 6) / 2 * 4 * 101 + 6 * 0.1
    assert forecast.whole(tiny, jobs, 1, times) == pytest.approx(plan.START + work)
    assert forecast.whole(tiny, jobs, 2, times) == pytest.approx(plan.START + work / 2)
    # One job, one worker: one fleet, and all limits.
    assert forecast.whole(tiny, jobs[:1], 2, times) == pytest.approx(plan.START + (work + 0.6) / 2)


def test_what_the_cache_spares_within_a_study_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages that `li2025` computed, by its manifest: 24 groups of cells, but presets and one mechanism alone touch
    the source."""
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(root)
    monkeypatch.setattr("simlab.environments.registry.WORLDS", dict(WORLDS))
    monkeypatch.setattr(study, "_RUN", set())
    asked = study.load("studies/li2025.toml")
    stages = json.loads((root / "results/li2025/manifest.json").read_text(encoding="utf-8"))["runs"][-1]["stages"]
    jobs = plan.jobs(asked, cache="here")
    found = forecast.counts(asked, jobs)
    assert found["source"] == stages["source-data"]["computed"]
    assert found["pretraining"] * len(plan.recipes(asked)) == stages["pretraining"]["computed"]
    assert found["fit"] * len(asked.arms) == stages["adaptation"]["computed"]
    assert (found["fit"] + found["unit"]) * len(asked.arms) == stages["evaluation"]["computed"]
    alone = forecast.counts(asked, plan.jobs(asked))  # without a cache
    assert alone["pretraining"] * len(plan.recipes(asked)) == plan.trainings(asked) == 4 * stages["pretraining"][
        "computed"]


def test_an_earlier_run_tells_more_than_a_slice(tiny: Study) -> None:
    manifest = {"runs": [{"units": 12, "seconds": 30.0, "workers": 1}]}
    found = forecast.forecast(tiny, plan.jobs(tiny), 1, manifest, probe=True)
    assert (found.seconds, found.basis) == (60.0, "from the last run here")
    assert forecast.forecast(tiny, [], 1, {}, probe=True).seconds == 0


def test_the_end_of_a_run_says_how_wrong_it_was(
    toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("simlab.sweep.forecast.forecast", lambda *_, **__: forecast.Forecast(3600.0, None, "a test"))
    monkeypatch.setattr("simlab.sweep.driver.RUN_JOB", "sweep_fakes:good")
    monkeypatch.setattr("simlab.sweep.figure.save", lambda *_: None)
    assert command(main, [str(toml), "--workers", "1"]) == 0
    out, err = capsys.readouterr()
    assert "about 60 min (a test)" in err and "0.0 times the 3600 s that were foretold" in out
    run = json.loads(Path("runs/small/manifest.json").read_text(encoding="utf-8"))["runs"][-1]
    assert run["estimated_seconds"] == 3600.0 and run["seconds"] > 0
    assert forecast.verdict(40.0, 60.0) == "1.5 times the 40 s that were foretold" and forecast.verdict(None, 1) == ""
