"""The Optuna journal: a view of the cells that survives what measured practice says breaks it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from simlab.sweep.journal import Journal, break_lock, repair
from simlab.sweep.study import Study


def _load(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="small", storage=JournalStorage(JournalFileBackend(str(path))))


def test_cells_are_trials_that_optuna_reads(small: Study, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    journal = Journal(small, path)
    assert journal.add(0, 0.01, {"seeds": 8}) and journal.add(4, -0.02) and journal.add(5, None)
    trials = _load(path).trials
    assert [t.value for t in trials] == [0.01, -0.02, None]
    assert trials[1].params == {"w_c": 0.8, "n_labelled": 200}
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL]
    assert trials[0].user_attrs == {"cell": 0, "seeds": 8}


def test_opening_again_repeats_nothing(small: Study, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    Journal(small, path).add(0, 0.01)
    again = Journal(small, path)
    assert not again.add(0, 0.01)
    assert len(_load(path).trials) == 1
    assert again.add(1, None) and not again.add(1, None)
    assert again.add(1, 0.5)  # a failed cell that was computed again
    assert len(_load(path).trials) == 3


def test_a_torn_last_line_is_cut_off_and_kept(small: Study, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    Journal(small, path).add(0, 0.01)
    whole = path.read_bytes()
    torn = whole + b'{"op_code": 4, "worker_id": "x", "tri'
    path.write_bytes(torn)
    journal = Journal(small, path)
    assert journal.messages and "torn line" in journal.messages[0]
    assert path.with_name("journal.log.torn").read_bytes() == torn
    assert journal.add(1, 0.02)
    assert [t.value for t in _load(path).trials] == [0.01, 0.02]
    assert repair(path) is None


def test_damage_in_the_middle_is_set_aside(small: Study, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    Journal(small, path).add(0, 0.01)
    path.write_bytes(b"not json at all\n" + path.read_bytes())
    journal = Journal(small, path)
    assert "journal.log.damaged" in journal.messages[0]
    assert path.with_name("journal.log.damaged").exists()
    assert journal.add(0, 0.01)


def test_a_lock_left_by_a_killed_run_costs_no_wait(
    small: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a relative path, as by default
    path = Path("journal.log")
    Journal(small, path).add(0, 0.01)
    lock = Path("journal.log.lock")
    lock.symlink_to(path.resolve())
    os.utime(lock, (1, 1), follow_symlinks=False)
    start = time.monotonic()
    journal = Journal(small, path)
    assert journal.add(1, 0.02) and time.monotonic() - start < 5
    assert any("left by a killed run" in message for message in journal.messages)
    lock.symlink_to(path.resolve())
    assert break_lock(path) is None  # a fresh one is somebody's
    lock.unlink()


def test_zombie_trials_are_told(small: Study, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    Journal(small, path)
    _load(path).ask()
    assert _load(path).trials[0].state == TrialState.RUNNING
    Journal(small, path)
    assert _load(path).trials[0].state == TrialState.FAIL
