"""What a run will take: a timed slice, what follows from it, and how wrong it was."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from simlab.environments import icu
from simlab.environments.registry import WORLDS
from simlab.errors import OutOfDomain, command
from simlab.sweep import forecast, job, plan, probe, stages, study
from simlab.sweep.__main__ import main
from simlab.sweep.schema import Study
from simlab.sweep.stages import Stages
from simlab.training.pretrain import Settings

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


def test_a_slice_is_pretrained_on_all_that_a_run_is(tiny: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """What online probes read at each point too: of the study `width` they are up to half of a pretraining's time."""
    seen: dict[str, set[str]] = {}

    def enough(where: str) -> Any:
        def trained(arm: Any, views: Any, *_: Any) -> Any:
            seen[where] = set(views[0])
            raise OutOfDomain("enough")

        return trained

    monkeypatch.setattr(probe, "trained", enough("slice"))
    monkeypatch.setattr(stages, "trained", enough("run"))
    probe.probe(tiny, plan.jobs(tiny)[0])
    assert seen["slice"] == seen["run"] >= {"image", "clinical", "subject", "probe/c", "probe/u"}


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


STAYS = {"study": {"name": "stays", "seed": 4}, "world": {"name": "icu"}, "axes": {"gap_s": {"values": [0.0, 0.5, 1.0]},
         "n_lab": {"values": [100, 200]}}, "compare": {"arms": ["clin-jepa", "clin-jepa-no-sync"], "contrast": [
             "clin-jepa", "clin-jepa-no-sync"], "metric": "auc-mean", "task": "icu-mortality"}}  # fmt: skip


def test_best_areas_count_once_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six cells, two of them without a gap: the source's once, and two targets'; as often as jobs ask for them."""
    asked = study.build(STAYS)
    jobs = plan.jobs(asked, cache="here")
    assert forecast.counts(asked, jobs)["areas"] == 3
    assert forecast.counts(asked, plan.jobs(asked))["areas"] == 3 * len(jobs)
    assert forecast.counts(study.build({**STAYS, "compare": {**STAYS["compare"], "cohort": "external"}}),
                           jobs)["areas"] == 4
    keys = ("source", "pretrain", "cells")
    times: dict[str, Any] = dict(zip(keys, (0.0, [0.0], [dict.fromkeys(forecast.EACH, 0.0) | {"cohorts": 1}]),
                                     strict=True))
    monkeypatch.setattr(forecast.os, "cpu_count", lambda: 1)
    more = forecast.whole(asked, jobs, 1, {**times, "areas": 20.0}) - forecast.whole(asked, jobs, 1, times)
    assert more == pytest.approx(3 * 20)


def test_best_areas_are_timed_on_a_share_of_their_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that the world moves: 600 s the whole."""
    clock, asked = [0.0], study.build(STAYS)

    def areas(spec: Any, domain: str, share: float = 1.0) -> dict[str, float]:
        assert (domain, spec.gap_s) == ("source", 0.0)
        clock[0] += 600 * share
        return {}

    monkeypatch.setattr(icu, "areas", areas)
    monkeypatch.setattr(probe.time, "perf_counter", lambda: clock[0])
    spec = plan.cell_spec(asked, plan.n_cells(asked) - 1)
    assert spec.gap_s == 1.0
    assert probe._areas(Stages(asked, plan.jobs(asked)[0], Settings(), spec), spec) == pytest.approx(600)
    assert clock[0] < 60


def test_what_a_search_takes_at_most_is_unknown_where_its_next_cells_time_is(toml: Path) -> None:
    asked = study.load(str(toml), ["design.kind='boundary'", "design.width=0.25", "w_c={low=0.2, high=0.8, n=5}",
                                   "n_labelled={low=50, high=1000, scale='log', n=17}"])
    assert forecast.at_most(asked, None)["seconds_at_most"] is None
    assert forecast.at_most(asked, 0.0)["seconds_at_most"] == 0 < forecast.at_most(asked, 60.0)["seconds_at_most"]


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
