"""Traps of sweeping with Optuna, measured before this engine was written, each sprung here (docs/sweeps.md)."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from conftest import ROOT, calls
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from simlab.sweep import plan, study
from simlab.sweep.finish import Summary
from simlab.sweep.journal import Journal
from simlab.sweep.schema import Study

pytestmark = pytest.mark.usefixtures("undrawn")
SHUNNED = {
    "GridSampler": "repeats cells in parallel, and rebuilds its grid for every trial",
    "BruteForceSampler": "as the grid sampler",
    "QMCSampler": "draws its first trial at random, and repeats points in parallel",
    "RDBStorage": "a commit for every number; sqlite locks under a dashboard",
    "heartbeat_interval": "marks living trials as failed; not for journals",
    "RetryHeartbeatStaleTrialCallback": "fires for stale trials only, never for exceptions",
    "RetryFailedTrialCallback": "its former name",
    "n_jobs": "threads under one lock",
}


def trials(path: Path, name: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(path)))).trials


@pytest.mark.parametrize("path", sorted((ROOT / "simlab" / "sweep").rglob("*.py")), ids=lambda path: path.stem)
def test_what_breaks_is_not_used(path: Path) -> None:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names |= {getattr(node, field) for field in ("id", "attr", "arg", "name") if isinstance(
            getattr(node, field, None), str)}
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "sqlite:" in node.value:
            names.add("RDBStorage")
    assert not names & SHUNNED.keys(), {name: SHUNNED[name] for name in names & SHUNNED.keys()}


def test_a_grid_in_parallel_and_three_times_over_has_each_point_once(
    run: Callable[..., Summary], fakes: Path, tmp_path: Path
) -> None:
    """A grid sampler gave 101 to 102 trials for 100 cells with two workers; a restart with its seed, equal points."""
    asked = study.build({
        "study": {"name": "hundred"},
        "axes": {"rel_ci": [0.5, 0.6, 0.7, 0.8, 0.9], "w_c": [0.2, 0.5], "n_lab": {"low": 100, "high": 1000, "n": 10}},
        "compare": {"arms": ["vicreg-frozen", "lda"], "contrast": ["vicreg-frozen", "lda"]},
        "seeds": {"looks": [2]},
    })
    first = run(which=asked, workers=2)
    shards = sorted((tmp_path / "out" / "shards").glob("*.parquet"))
    for shard in shards[:2]:  # as if it had been killed there
        shard.unlink()
    again = run(which=asked, workers=2)
    third = run(which=asked, workers=2)
    assert (first.rows, again.jobs_run, third.jobs_run) == (100 * 2 * 2 * 2, 2, 0)
    assert first.digest == again.digest == third.digest
    found = trials(tmp_path / "out" / "journal.log", "hundred")
    assert len(found) == 100 == len({tuple(sorted(t.params.items())) for t in found})
    assert len(calls(fakes)) == 5 + 2


def test_cell_i_depends_on_the_study_and_i_alone(small: Study) -> None:
    """No sampler, no state, no order: asked for backwards or twice, a cell is where it is."""
    points = [plan.cell(small, i) for i in range(6)]
    assert [plan.cell(small, i) for i in reversed(range(6))] == points[::-1]
    assert len({tuple(p.values()) for p in points}) == 6


def test_a_dashboard_that_reads_all_the_time_locks_nobody_out(small: Study, tmp_path: Path) -> None:
    """With sqlite, a dashboard's reading killed studies ("database is locked")."""
    path, wrong, reads, done = tmp_path / "journal.log", [], [], threading.Event()
    journal = Journal(small, path)

    def read() -> None:
        while not done.is_set():
            try:
                reads.append(len(trials(path, "small")))
            except Exception as error:
                wrong.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for cell in range(6):
            before = len(reads)
            assert journal.add(cell, 0.01 * cell)
            while len(reads) == before and reader.is_alive():
                done.wait(0.001)
    finally:
        done.set()
        reader.join()
    assert not wrong and reads == sorted(reads) and len(trials(path, "small")) == 6


def test_workers_are_processes_of_one_thread(run: Callable[..., Summary], fakes: Path) -> None:
    run(workers=2)
    assert all(line.endswith("threads 1") for line in calls(fakes)) and len(calls(fakes)) == 4
