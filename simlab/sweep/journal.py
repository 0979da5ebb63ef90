"""Each finished cell as one Optuna trial in `journal.log`, for `optuna-dashboard` and Optuna's own analyses.

A view of the results and never their home: it can be deleted, and the next run writes it again. The value is the mean
primary contrast over seeds, the parameters are the axes. One writer (the driver, under the folder's lock).
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
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
        backend = JournalFileBackend(str(self.path.resolve()))
        found = optuna.create_study(study_name=self.study.name, storage=JournalStorage(backend), direction="maximize",
                                    load_if_exists=True)
        self.done: dict[int, str] = {}
        self._waiting: dict[int, int] = {}  # cells that were asked for and not finished -> their trial's id
        for trial in found.get_trials(deepcopy=False):
            cell = trial.user_attrs.get("cell")
            if cell is not None and trial.state.is_finished():
                self.done[cell] = trial.state.name
            elif cell is not None and trial.state == TrialState.WAITING:
                self._waiting[cell] = trial._trial_id
        self._distributions = {axis.name: distribution(axis) for axis in self.study.axes}
        self._file, self._id = backend, found._study_id
        self._storage = found._storage
        self._end_zombies(found)

    def _end_zombies(self, found: Any) -> None:
        """Tell trials that nobody works on any more FAIL; their cells, where still to do, wait in the queue."""
        from optuna.trial import TrialState

        open_ = found.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
        zombies = [trial for trial in open_ if trial._trial_id not in self._waiting.values()]
        if not zombies:
            return
        cells = {_point(plan.cell(self.study, i)): i for i in range(plan.n_cells(self.study))}
        for trial in zombies:
            found.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            point = trial.params or trial.system_attrs.get("fixed_params", {})
            cell = cells.get(_point(point))
            if cell is not None and self.done.get(cell) != "COMPLETE" and cell not in self._waiting:
                found.enqueue_trial(point, user_attrs={"cell": cell})
                self._waiting[cell] = found.get_trials(deepcopy=False)[-1]._trial_id
        self.messages.append(f"{self.path.name}: {len(zombies)} trials that nobody works on any more were told failed, "
                             f"{len(self._waiting)} cells wait in their place")

    def add(self, cell: int, value: float | None, facts: Mapping[str, Any] | None = None) -> bool:
        """Record a finished cell; a value of None is a failed one. Returns whether it was new."""
        return self.add_all({cell: (value, facts or {})}) == 1

    def add_all(self, cells: Mapping[int, tuple[float | None, Mapping[str, Any]]]) -> int:
        """Record finished cells with one write and one sync; returns how many were new.

        Optuna makes the log lines and this process appends them: its own way costs a lock and a sync a trial, and
        memory that grows with every one.
        """
        from optuna.storages import JournalStorage
        from optuna.study import StudyDirection

        states = {cell: "FAIL" if value is None else "COMPLETE" for cell, (value, _) in cells.items()}
        new = [cell for cell, state in states.items() if self.done.get(cell) not in ("COMPLETE", state)]
        if not new:
            return 0
        logs = _Logs()
        writer = JournalStorage(logs)
        beside = writer.create_new_study([StudyDirection.MAXIMIZE], self.study.name)
        start = len(logs.kept)
        for cell in new:
            trial = self._trial(cell, *cells[cell])
            if cell not in self._waiting or not self._tell(self._waiting.pop(cell), trial):
                writer.create_new_trial(beside, trial)
        if len(logs.kept) > start:
            self._file.append_logs([{**log, "study_id": self._id} for log in logs.kept[start:]])
        self.done.update((cell, states[cell]) for cell in new)
        return len(new)

    def _tell(self, trial_id: int, done: Any) -> bool:
        """Finish a trial that waits in the queue; False where somebody's trial gave a parameter another kind."""
        from optuna.trial import TrialState

        self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        try:
            for name, value in done.params.items():
                spread = done.distributions[name]
                self._storage.set_trial_param(trial_id, name, spread.to_internal_repr(value), spread)
        except ValueError:
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
            return False
        for name, value in done.user_attrs.items():
            self._storage.set_trial_user_attr(trial_id, name, value)
        self._storage.set_trial_state_values(trial_id, done.state, done.values)
        return True

    def _trial(self, cell: int, value: float | None, facts: Mapping[str, Any]) -> Any:
        import optuna
        from optuna.trial import TrialState

        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.trial.create_trial(state=state, value=value, params=plan.cell(self.study, cell),
                                             distributions=self._distributions,
                                             user_attrs={"cell": cell, **facts})


class _Logs:
    """A journal's backend in memory."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from self.kept[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.kept += logs


def _point(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(values.items()))


def distribution(axis: Axis) -> Any:
    """An axis as Optuna has it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    numbers = [v for v in axis.values if not isinstance(v, str)]
    if len(numbers) < len(axis.values):
        return CategoricalDistribution(axis.values)
    kind = IntDistribution if all(isinstance(v, int) for v in numbers) else FloatDistribution
    return kind(min(numbers), max(numbers), log=axis.scale == "log")
