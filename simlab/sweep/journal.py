"""Each finished cell as one Optuna trial in `journal.log`, for `optuna-dashboard` and Optuna's own analyses.

A view of the results and never their home: it can be deleted, and the next run writes it again. The value is the mean
primary contrast over seeds, the parameters are the axes. One writer (the driver, under the folder's lock).
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simlab.sweep import plan
from simlab.sweep.schema import Axis, Study

STALE = 5.0  # seconds after which a journal's lock has been left behind


def repair(path: Path) -> str | None:
    """Cut a torn last line off a journal (one append after it would close the file for ever), keeping a backup.

    Returns what was done, or None. A last line is torn when no newline ends it.
    """
    if not path.exists():
        return None
    data = path.read_bytes()
    if not data or data.endswith(b"\n"):
        return None
    backup = path.with_name(path.name + ".torn")
    shutil.copyfile(path, backup)
    whole = data.rfind(b"\n") + 1
    with path.open("r+b") as file:
        file.truncate(whole)
    return f"{path.name} ended in a torn line, which was cut off (the file as found: {backup.name})"


def break_lock(path: Path) -> str | None:
    """Remove the journal's lock when a killed driver left it behind; returns what was done, or None.

    The folder's lock is ours, so no other driver writes here; a dashboard holds the journal's lock for milliseconds.
    Without this, Optuna waits half a minute before it does the same.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        age = time.time() - lock.lstat().st_mtime
    except FileNotFoundError:
        return None
    if age < STALE:
        return None
    lock.unlink(missing_ok=True)
    return f"{lock.name} was left by a killed run and is removed"


class Journal:
    """The study's journal, open for one driver. Building one reads it, ends zombie trials and repairs a torn line."""

    def __init__(self, study: Study, path: Path) -> None:
        self.study, self.path = study, path
        self.messages = [text for text in [break_lock(path), repair(path)] if text]
        try:
            self._open()
        except Exception as error:  # damaged in the middle: a view, so it is set aside and written afresh
            aside = path.with_name(path.name + ".damaged")
            path.replace(aside)
            self.messages.append(f"{path.name} could not be read ({type(error).__name__}); it lies in {aside.name}, a "
                                 "new one is written from the results")
            self._open()

    def _open(self) -> None:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from optuna.trial import TrialState

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # An absolute path: Optuna's lock links to it, and would wait for ever on a lock left with a relative one.
        storage = JournalStorage(JournalFileBackend(str(self.path.resolve())))
        self._optuna = optuna.create_study(study_name=self.study.name, storage=storage, direction="maximize",
                                           load_if_exists=True)
        for trial in self._optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
            self._optuna.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        self.done: dict[int, str] = {}
        for trial in self._optuna.get_trials(deepcopy=False):
            if "cell" in trial.user_attrs:
                self.done[trial.user_attrs["cell"]] = trial.state.name
        self._distributions = {axis.name: _distribution(axis) for axis in self.study.axes}

    def add(self, cell: int, value: float | None, facts: Mapping[str, Any] | None = None) -> bool:
        """Record a finished cell; a value of None is a failed one. Returns whether it was new."""
        import optuna
        from optuna.trial import TrialState

        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        if self.done.get(cell) in (TrialState.COMPLETE.name, state.name):
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = optuna.trial.create_trial(state=state, value=value, params=plan.cell(self.study, cell),
                                              distributions=self._distributions,
                                              user_attrs={"cell": cell, **(facts or {})})
        self._optuna.add_trial(trial)
        self.done[cell] = state.name
        return True


def _distribution(axis: Axis) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    numbers = [v for v in axis.values if not isinstance(v, str)]
    if len(numbers) < len(axis.values):
        return CategoricalDistribution(axis.values)
    kind = IntDistribution if all(isinstance(v, int) for v in numbers) else FloatDistribution
    return kind(min(numbers), max(numbers), log=axis.scale == "log")
