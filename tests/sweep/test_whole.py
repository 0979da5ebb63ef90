"""Real trainings, every way of running them, kills on the way: one table. Proofs: they train in processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import HERE, PATIENCE, alive, calls, wait_for

from simlab.sweep import driver, plan, study
from simlab.sweep.finish import Summary
from simlab.sweep.folder import Folder

pytestmark = [pytest.mark.proof, pytest.mark.usefixtures("undrawn")]
TOML = """
[study]
name = "whole"
seed = 3
[world.knobs]
n_unlab = 1000
[axes]
rel_ci = [0.5, 0.7, 0.9]
n_labelled = [80, 160]
kappa_e = [0.3, 1.0]
[compare]
arms = ["vicreg-frozen", "jepa-finetuned", "supervised", "lda"]
contrast = ["vicreg-frozen", "lda"]
cohort = "external"
[seeds]
looks = [4]
[train]
fleet = 2
width = 4
steps = 100
n_test = 500
"""  # 12 cells, 4 seeds, 6 jobs, 24 pretrainings

Go = Callable[..., Summary]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "whole.toml"
    path.write_text(TOML, encoding="utf-8")
    return path


@pytest.fixture
def go(file: Path, tmp_path: Path) -> Go:
    def run(out: str, **options: object) -> Summary:
        given = {"workers": 1, "quiet": True, **options}
        return driver.run(study.load(str(file)), driver.Options(tmp_path / out, **given))  # type: ignore[arg-type]

    return run


def command(file: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "simlab.sweep", str(file), "--out", str(out), "--quiet", *more]


def test_any_engine_order_cache_and_kill_gives_one_table(
    file: Path, tmp_path: Path, go: Go, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    one = go("one")
    assert one.failures == [] and one.stages["pretraining"] == {"computed": 24, "cached": 0}
    assert go("two", workers=2, cache=str(tmp_path / "cache")).digest == one.digest
    warm = go("warm", workers=2, cache=str(tmp_path / "cache"))
    assert warm.digest == one.digest and "pretraining" not in warm.stages
    for i in (3, 1, 2):
        go("parts", shard=(i, 3))
    assert go("parts", collect=True).digest == one.digest
    pytest.importorskip("distributed")
    assert go("dask", workers=2, engine="dask").digest == one.digest

    out = tmp_path / "killed"
    words = command(file, out, "--workers", "2", "--cache", str(tmp_path / "other"))
    driving = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(Folder(out).finished()) >= 2 or driving.poll() is not None, "two jobs to be finished")
    workers = [p.pid for p in psutil.Process(driving.pid).children(recursive=True)]
    driving.send_signal(signal.SIGKILL)
    assert driving.wait() == -signal.SIGKILL and workers
    wait_for(lambda: not any(alive(pid) for pid in workers), "the orphans to end")
    done = Folder(out).finished()
    again = go("killed", workers=2, cache=str(tmp_path / "other"))
    assert again.digest == one.digest
    assert again.jobs_run == 6 - len(done)
    left = plan.trainings(study.load(str(file)), [j for j in plan.jobs(study.load(str(file))) if j.index not in done])
    counted = again.stages["pretraining"]
    assert sum(counted.values()) == left  # nothing of what was finished; what the killed one had trained is found


def test_when_a_driver_with_dask_is_killed_everything_ends_and_resumes(
    toml: Path, tmp_path: Path, fakes: Path, environment: dict[str, str], run: Callable[..., Summary], calm: str
) -> None:
    pytest.importorskip("distributed")
    words = ["slow", str(toml), "--out", str(tmp_path / "out"), "--workers", "2", "--engine", "dask"]
    with (tmp_path / "err").open("wb") as errors:
        driving = subprocess.Popen([sys.executable, str(HERE / "launch.py"), *words], env=environment, stderr=errors)
    wait_for(lambda: len(calls(fakes)) == 4 or driving.poll() is not None, "the last two jobs to begin")
    wait_for(lambda: len(Folder(tmp_path / "out").finished()) == 2 or driving.poll() is not None, "two shards")
    family = [p.pid for p in psutil.Process(driving.pid).children(recursive=True)]
    driving.kill()
    driving.wait(timeout=PATIENCE)
    assert len(family) >= 4  # Dask's workers, and a worker of ours in each
    wait_for(lambda: not any(alive(pid) for pid in family), "Dask's workers and ours to end")
    before = len(calls(fakes))
    assert run().digest == calm
    assert [line.split()[1] for line in calls(fakes)[before:]] == ["2", "3"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert [entry["engine"] for entry in manifest["runs"]] == ["dask", "local"]
