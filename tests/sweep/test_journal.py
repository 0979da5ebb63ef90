"""The Optuna journal: a view of the cells that survives what measured practice says breaks it."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from simlab.sweep import study
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
    """lab_practice 1.3: a restart repeats points (8 unique of 24 with Random in three runs)."""
    path = tmp_path / "journal.log"
    Journal(small, path).add(0, 0.01)
    again = Journal(small, path)
    assert not again.add(0, 0.01)
    assert len(_load(path).trials) == 1
    assert again.add(1, None) and not again.add(1, None)
    assert again.add(1, 0.5)  # a failed cell that was computed again
    assert len(_load(path).trials) == 3


def test_a_torn_last_line_is_cut_off_and_kept(small: Study, tmp_path: Path) -> None:
    """lab_practice 1.3: a torn last line and one append, and Optuna can never open the study again."""
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
    """lab_practice 1.3: killed while holding the journal's lock, the next opening hangs for 30.7 s."""
    monkeypatch.chdir(tmp_path)  # a relative path, as by default
    path = Path("journal.log")
    Journal(small, path).add(0, 0.01)
    lock = Path("journal.log.lock")
    lock.symlink_to(path.resolve())
    os.utime(lock, (1, 1), follow_symlinks=False)
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)  # as Optuna waits for a lock
    journal = Journal(small, path)
    assert journal.add(1, 0.02) and not slept
    assert any("left by a killed run" in message for message in journal.messages)
    lock.symlink_to(path.resolve())
    assert break_lock(path) is None  # a fresh one is somebody's
    lock.unlink()


def test_zombie_trials_are_told_and_their_cells_wait_in_the_queue(small: Study, tmp_path: Path) -> None:
    """lab_practice 1.3: a trial that was RUNNING when its process was killed is RUNNING for ever."""
    path = tmp_path / "journal.log"
    Journal(small, path).add(0, 0.01)
    theirs = _load(path)
    for params in ({"w_c": 0.8, "n_labelled": 400}, {"w_c": 0.2, "n_labelled": 100}, {"w_c": 0.5, "n_labelled": 100}):
        theirs.enqueue_trial(params)  # a cell still to do, one that is done, and a point that is no cell
        trial = theirs.ask()
        trial.suggest_float("w_c", 0.2, 0.8)
        trial.suggest_int("n_labelled", 100, 400, log=True)
    theirs.ask()  # not even a point
    journal = Journal(small, path)
    assert "4 trials that nobody works on" in journal.messages[0] and "1 cells wait" in journal.messages[0]
    states = [t.state for t in _load(path).trials]
    assert states == [TrialState.COMPLETE, *[TrialState.FAIL] * 4, TrialState.WAITING]
    again = Journal(small, path)  # nothing is told or queued twice
    assert again.messages == [] and len(_load(path).trials) == 6
    assert again.add_all({4: (0.5, {}), 5: (0.02, {"seeds": 8})}) == 2
    assert not Journal(small, path).add(5, 0.02)
    waited, last = _load(path).trials[5:]
    assert (waited.state, waited.value, waited.params) == (TrialState.COMPLETE, 0.02, {"w_c": 0.8, "n_labelled": 400})
    assert waited.user_attrs == {"cell": 5, "seeds": 8} and last.user_attrs["cell"] == 4


def test_a_queued_cell_whose_parameters_somebody_gave_another_kind_gets_a_trial_of_its_own(
    small: Study, tmp_path: Path
) -> None:
    path = tmp_path / "journal.log"
    Journal(small, path)
    theirs = _load(path)
    theirs.enqueue_trial({"w_c": 0.8, "n_labelled": 400})
    trial = theirs.ask()
    assert (trial.suggest_float("w_c", 0.2, 0.8), trial.suggest_int("n_labelled", 100, 400)) == (0.8, 400)
    assert Journal(small, path).add(5, 0.02)  # Optuna refuses a logarithmic n_labelled beside theirs
    assert [t.state for t in _load(path).trials] == [TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE]
    assert not Journal(small, path).add(5, 0.02)


def test_a_study_that_grew_goes_on_in_its_journal(toml: Path, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    for n, words in ((2, "'linear', 'identity'"), (3, "'linear', 'identity', 'mlp'")):
        raw = toml.read_text(encoding="utf-8").replace("w_c = [0.2, 0.8]", f"map = [{words}]\nw_c = [0.2, 0.8]")
        (tmp_path / "grown.toml").write_text(raw, encoding="utf-8")
        grown = study.load(str(tmp_path / "grown.toml"))
        journal = Journal(grown, path)
        journal.add_all({cell: (0.01 * cell, {}) for cell in range(6 * n)})
    trials = _load(path).trials
    assert [t.user_attrs["cell"] for t in trials] == list(range(18)) and journal.messages == []
    assert trials[-1].params["map"] == "mlp"
