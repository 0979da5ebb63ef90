"""Landmarks: a task's questions as records of their own, so that every arm answers the same ones from the same hours.

A question is (stay, hour C): what is known after C hours, and the label then. Tasks with one label a stay are asked at
their cutoff; tasks by hour at a few hours. Each question is shown the last `back` hours before it; hours before
admission were not measured. Left out, because nothing is left to foretell: stays that ended before the hour, and hours
whose label is missing (the event is there already, or nobody could know).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from simlab.cohort import Cohort, Stream, Task
from simlab.errors import InvalidCohort, unknown

CONTEXTS = (6, 12, 24, 48)
BACK = 24
HOUR = "hour"


@dataclass(frozen=True)
class Landmarks:
    """The questions of one task. `cohort`: a record each, with the static stream "hour"; `row`: the stay's place in the
    cohort that was asked; `hour`: C; `y`: the label; `risk`: P(y = 1 | what is shown), where the world knows it."""

    task: str
    cohort: Cohort
    row: Int[np.ndarray, "questions"]
    hour: Int[np.ndarray, "questions"]
    y: Float[np.ndarray, "questions"]
    risk: Float[np.ndarray, "questions"] | None

    @property
    def subjects(self) -> np.ndarray:
        return self.cohort.subject

    @property
    def positives(self) -> int:
        return int((self.y == 1).sum())


def landmarks(cohort: Cohort, task: str, contexts: Sequence[int] = CONTEXTS, back: int = BACK) -> Landmarks:
    """The questions of a binary task, stays in order, hour by hour.

    Raises UnknownName for a task that is not there, InvalidCohort for one that is not binary or has no question.
    """
    if task not in cohort.tasks:
        raise unknown("task", task, sorted(cohort.tasks))
    about = cohort.tasks[task]
    if about.kind != "binary" or task not in cohort.labels:
        raise InvalidCohort(f"task {task}: a binary task with labels is needed here.")
    row, hour = _asked(cohort, about, contexts)
    if not len(row):
        raise InvalidCohort(f"task {task}: no stay has a label at hour {', '.join(map(str, contexts))}.")
    at = (row,) if about.level == "record" else (row, hour - 1)
    risk = cohort.risk[task][at].astype(np.float64) if task in cohort.risk else None
    return Landmarks(task, _shown(cohort, row, hour, back), row, hour, cohort.labels[task][at].astype(np.float64), risk)


def _asked(
    cohort: Cohort, task: Task, contexts: Sequence[int]
) -> tuple[Int[np.ndarray, "questions"], Int[np.ndarray, "questions"]]:
    labels = cohort.labels[task.name]
    if task.level == "record":
        # At the last hour that is kept, where the cutoff lies beyond it.
        hour = min(int(task.cutoff) if task.cutoff is not None else max(contexts), cohort.visits)
        row = np.flatnonzero((cohort.length >= hour) & np.isfinite(labels))
        return row, np.full(len(row), hour)
    asked = [c for c in sorted(contexts) if c <= labels.shape[1]]
    known = np.stack([(cohort.length >= c) & np.isfinite(labels[:, c - 1]) for c in asked], axis=1)
    place = np.argwhere(known)
    return place[:, 0], np.asarray(asked, dtype=np.int64)[place[:, 1]]


def _shown(cohort: Cohort, row: Int[np.ndarray, "questions"], hour: Int[np.ndarray, "questions"], back: int) -> Cohort:
    """A record a question: streams over time as their last `back` hours, static ones whole, and the hour itself."""
    place = hour[:, None] - back + np.arange(back)
    streams = {}
    for name, stream in cohort.streams.items():
        if stream.visits == 1:
            streams[name] = replace(stream.take(row), time=None)
            continue
        inside = (place >= 0) & (place < stream.visits)
        at = row[:, None], np.clip(place, 0, stream.visits - 1)
        time = np.broadcast_to(np.arange(1.0, back + 1), place.shape).copy()
        streams[name] = replace(stream, values=stream.values[at], observed=stream.observed[at] & inside[..., None],
                                time=time)
    hours = hour[:, None, None].astype(np.float32)
    streams[HOUR] = Stream(hours, np.ones(hours.shape, dtype=bool), (HOUR,), ("h",))
    record = np.char.add(np.char.add(cohort.record[row].astype(str), "@"), hour.astype(str))
    return Cohort(streams, np.full(len(row), back, dtype=np.int64), record, cohort.subject[row], cohort.site[row])
