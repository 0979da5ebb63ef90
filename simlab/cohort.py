"""The contract: what a world or an adapter produces, and all that a trainer knows.

Axis 0 is the record (a stay, a patient, a nodule). Everything validates itself when built and refuses with one
InvalidCohort line. Methods are handed `cohort.inputs(task)`, copies that end at the task's cutoff. `docs/cohort.md`
describes the classes and the `.cohort` file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from simlab import cohort_checks as checks
from simlab.cohort_checks import require
from simlab.errors import unknown

KINDS = ("binary", "regression")
LEVELS = ("record", "visit")


class ChecksItself:
    """The contract's classes check their own fields, in every run: a test's type checker must not refuse them first."""

    __no_type_check__ = True


@dataclass(frozen=True, eq=False)
class Stream(ChecksItself):
    """One modality over time. Unobserved values are stored as given and never shown to a method.

    `channels` names the third axis of `values`, or the whole of it when there is one channel (a volume). Streams with
    more than one visit share the cohort's visit axis; `time` is each visit's own, in the cohort's unit of time, and
    says when all of that visit is known. Large volumes may be stored as uint8 or float16: value = stored * scale +
    offset.
    """

    values: Float[np.ndarray, "records visits *features"] | UInt8[np.ndarray, "records visits *features"]  # float32
    observed: Bool[np.ndarray, "records visits channels"]
    channels: tuple[str, ...]
    units: tuple[str, ...]
    time: Float[np.ndarray, "records visits"] | None = None  # float64; None: static, one visit
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        checks.check_stream(self.values, self.observed, self.channels, self.units, self.time, self.scale, self.offset)

    @property
    def visits(self) -> int:
        return self.values.shape[1]

    def shown(self) -> Bool[np.ndarray, "records visits *features"]:
        """`observed` spread over the features of each channel (a read-only view that broadcasts)."""
        tail = self.values.ndim - 3
        spread = self.observed.reshape(*self.observed.shape, *[1] * tail) if tail >= 0 else self.observed[..., 0]
        return np.broadcast_to(spread, self.values.shape)

    def floats(self) -> Float[np.ndarray, "records visits *features"]:
        """Values as float32 with scale and offset applied, zero where unobserved (a fresh array)."""
        decoded = self.values.astype(np.float32)
        if self.scale != 1 or self.offset != 0:
            decoded *= np.float32(self.scale)
            decoded += np.float32(self.offset)
        np.copyto(decoded, 0, where=~self.shown())
        return decoded

    def take(self, index: Int[np.ndarray, "taken"]) -> Stream:
        """The stream of these records, in this order (copies)."""
        time = None if self.time is None else self.time[index]
        return replace(self, values=self.values[index], observed=self.observed[index], time=time)

    def until(self, cutoff: float | None, length: Int[np.ndarray, "records"] | None, visits: int | None) -> Stream:
        """A copy without anything later than the cutoff or beyond a record's length.

        length: visits that remain for each record (None: a stream apart from the visit axis). visits: how many visits
        to keep. What goes is unobserved, its value 0 and its time 0 (or the cutoff, inside the length).
        """
        values, observed = self.values[:, :visits].copy(), self.observed[:, :visits].copy()
        time = None if self.time is None else self.time[:, :visits].copy()
        if time is not None and cutoff is not None:
            observed[~(time <= cutoff)] = False
            time[~(time <= cutoff)] = cutoff
        if length is not None:
            beyond = np.arange(values.shape[1]) >= length[:, None]
            observed[beyond] = False
            if time is not None:
                time[beyond] = 0.0
        cut = replace(self, values=values, observed=observed, time=time)
        if not observed.all():
            np.copyto(values, 0, where=~cut.shown())
        return cut


@dataclass(frozen=True, eq=False)
class Events(ChecksItself):
    """Ragged events: record i owns rows offsets[i]:offsets[i+1], in order of time."""

    offsets: Int[np.ndarray, "records_plus_one"]
    time: Float[np.ndarray, "events"]
    code: np.ndarray  # unicode
    value: Float[np.ndarray, "events"]  # NaN where an event has none
    unit: np.ndarray  # unicode

    def __post_init__(self) -> None:
        checks.check_events(self.offsets, self.time, self.code, self.value, self.unit)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def rows(self, keep: Bool[np.ndarray, "events"]) -> Events:
        """The same records with only the rows that are kept (copies)."""
        counts = np.concatenate([[0], np.cumsum(keep)])[self.offsets]
        return Events(counts.astype(np.int64), self.time[keep], self.code[keep], self.value[keep], self.unit[keep])

    def take(self, index: Int[np.ndarray, "taken"]) -> Events:
        """The events of these records, in this order (copies)."""
        counts = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.repeat(self.offsets[:-1][index] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Events(offsets, self.time[rows], self.code[rows], self.value[rows], self.unit[rows])


@dataclass(frozen=True)
class Task(ChecksItself):
    name: str
    kind: str  # "binary" | "regression"
    level: str = "record"  # "record" | "visit"
    cutoff: float | None = None  # inputs with time <= cutoff; None: everything
    horizon: float | None = None
    positive: str = ""  # meaning of the positive class

    def __post_init__(self) -> None:
        checks.check_name("task", self.name)
        require(self.kind in KINDS, f"task '{self.name}': kind {self.kind!r}, not {' or '.join(KINDS)}")
        require(self.level in LEVELS, f"task '{self.name}': level {self.level!r}, not {' or '.join(LEVELS)}")
        for what, number in (("cutoff", self.cutoff), ("horizon", self.horizon)):
            good = number is None or (isinstance(number, (int, float)) and math.isfinite(number))
            require(good, f"task '{self.name}': {what} {number!r} is not a finite number")


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a method is shown: streams and events up to the cutoff, and nothing else (copies, never views)."""

    streams: Mapping[str, Stream]
    events: Events | None
    length: Int[np.ndarray, "records"]
    record: np.ndarray
    subject: np.ndarray
    site: np.ndarray

    def __len__(self) -> int:
        return len(self.record)


@dataclass(frozen=True, eq=False)
class Cohort(ChecksItself):
    streams: Mapping[str, Stream]
    length: Int[np.ndarray, "records"]
    record: np.ndarray  # unique ids (unicode or int64)
    subject: np.ndarray
    site: np.ndarray
    tasks: Mapping[str, Task] = field(default_factory=dict)
    labels: Mapping[str, Float[np.ndarray, "..."]] = field(default_factory=dict)  # NaN = unlabelled
    risk: Mapping[str, Float[np.ndarray, "..."]] = field(default_factory=dict)
    factors: Mapping[str, np.ndarray] = field(default_factory=dict)
    events: Events | None = None
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_ids()
        self._check_streams()
        self._check_outcomes()

    def __len__(self) -> int:
        return len(self.record)

    @property
    def visits(self) -> int:
        """Length of the visit axis that all streams with more than one visit share (1 when there is none)."""
        return max((s.visits for s in self.streams.values()), default=1)

    def inputs(self, task: str | None) -> Inputs:
        """What a method may see for this task: fresh copies, cut at the task's cutoff. Raises UnknownName.

        None is for cohorts without a task (unlabelled records): nothing is cut.

        A visit stays when its time <= cutoff; streams without time stay whole. Unobserved values are 0. Visits that
        nobody has any more are dropped from the end (one always stays): visit-level labels align with the first ones.
        """
        if task is not None and task not in self.tasks:
            raise unknown("task", task, sorted(self.tasks))
        cutoff = None if task is None else self.tasks[task].cutoff
        length = self._length_until(cutoff)
        visits = max(1, int(length.max(initial=0)))
        streams = {
            name: s.until(cutoff, length, visits) if self._on_axis(s) else s.until(cutoff, None, None)
            for name, s in self.streams.items()
        }
        events = self.events
        if events is not None:
            keep = np.ones(len(events.time), bool) if cutoff is None else events.time <= cutoff
            events = events.rows(keep)
        return Inputs(streams, events, length, self.record.copy(), self.subject.copy(), self.site.copy())

    def take(self, index: Int[np.ndarray, "taken"] | Bool[np.ndarray, "records"]) -> Cohort:
        """The cohort of these records, in this order (positions or a mask; copies). A record twice is refused."""
        if index.dtype == bool:
            require(index.shape == self.record.shape, f"take: a mask of {index.size} for {len(self)} records")
            index = np.flatnonzero(index)
        return replace(
            self,
            streams={name: s.take(index) for name, s in self.streams.items()},
            length=self.length[index],
            record=self.record[index],
            subject=self.subject[index],
            site=self.site[index],
            labels={name: a[index] for name, a in self.labels.items()},
            risk={name: a[index] for name, a in self.risk.items()},
            factors={name: a[index] for name, a in self.factors.items()},
            events=None if self.events is None else self.events.take(index),
        )

    def _on_axis(self, stream: Stream) -> bool:
        """Whether `length` counts this stream's visits; static streams and single scans stand apart from it."""
        return stream.time is not None and stream.visits == self.visits

    def _length_until(self, cutoff: float | None) -> Int[np.ndarray, "records"]:
        """Visits that exist and that some stream on the axis has by the cutoff; all of them where none has a time."""
        timed = [s.time for s in self.streams.values() if self._on_axis(s)]
        if cutoff is None or not timed:
            return self.length.copy()
        exists = np.arange(self.visits) < self.length[:, None]
        known = np.any([time <= cutoff for time in timed], axis=0) & exists
        return known.sum(axis=1).astype(self.length.dtype)

    def _check_ids(self) -> None:
        checks.check_ids("record", self.record)
        first, counts = np.unique(self.record, return_counts=True)
        if len(first) != len(self.record):
            require(False, f"record {first[counts > 1][0]}: the id is there {counts.max()} times; ids must be unique")
        checks.check_ids("subject", self.subject, len(self))
        checks.check_ids("site", self.site, len(self))
        checks.check_array("length", self.length, ("int64", "int32"), (len(self),))

    def _check_streams(self) -> None:
        require(len(self.streams) > 0, "a cohort needs at least one stream")
        for name, s in self.streams.items():
            checks.check_name("stream", name)
            require(isinstance(s, Stream), f"stream '{name}': a Stream is needed, not {type(s).__name__}")
            require(len(s.values) == len(self), f"stream '{name}': {len(s.values)} records, the cohort has {len(self)}")
        outside = (self.length < 0) | (self.length > self.visits)
        if outside.any():
            i = int(np.argmax(outside))
            require(False, f"length, record {self.record[i]}: {self.length[i]} is not in 0..{self.visits}")
        for name, s in self.streams.items():
            fits = s.visits in (1, self.visits)
            require(fits, f"stream '{name}': {s.visits} visits, not 1 or {self.visits} (streams share one visit axis)")
            if self._on_axis(s):
                checks.check_times(name, s.time, self.length, self.record)
                checks.check_padding(name, s.observed, self.length, self.record)
            elif s.time is not None:
                checks.check_times(name, s.time, np.ones_like(self.length), self.record)
        if self.events is not None:
            require(len(self.events) == len(self), f"events: {len(self.events)} records, the cohort has {len(self)}")

    def _check_outcomes(self) -> None:
        for name, task in self.tasks.items():
            require(isinstance(task, Task), f"task '{name}': a Task is needed, not {type(task).__name__}")
            require(task.name == name, f"task '{name}': is called '{task.name}' inside")
        for what, arrays in (("labels", self.labels), ("risk", self.risk)):
            for name, array in arrays.items():
                require(name in self.tasks, f"{what} '{name}': no such task (tasks: {', '.join(self.tasks) or 'none'})")
                task = self.tasks[name]
                checks.check_outcome(what, name, task.kind, task.level, array, self.length, self.visits, self.record)
        for name, array in self.factors.items():
            checks.check_name("factor", name)
            good = isinstance(array, np.ndarray) and array.dtype.kind in "fiubU" and array.shape[:1] == (len(self),)
            require(good, f"factor '{name}': an array with {len(self)} records first is needed")
        require(isinstance(self.provenance, Mapping), "provenance: a mapping is needed")


@dataclass(frozen=True, eq=False)
class Scenario(ChecksItself):
    """Cohorts of one experiment; no subject is in two of them, and a stream has the same channels in all."""

    pretrain: Cohort
    train: Cohort
    test: Cohort
    validation: Cohort | None = None
    external: Mapping[str, Cohort] = field(default_factory=dict)
    limits: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        cohorts = self.cohorts()
        checks.check_subjects({name: cohort.subject for name, cohort in cohorts.items()})
        seen: dict[str, tuple[str, tuple[str, ...]]] = {}
        for where, cohort in cohorts.items():
            for name, s in cohort.streams.items():
                first, channels = seen.setdefault(name, (where, s.channels))
                require(s.channels == channels, f"stream '{name}': other channels in '{where}' than in '{first}'")

    def cohorts(self) -> dict[str, Cohort]:
        """All cohorts by name: pretrain, train, validation (if any), test, then the external ones by theirs."""
        own = {"pretrain": self.pretrain, "train": self.train, "validation": self.validation, "test": self.test}
        for name in self.external:
            require(name not in own, f"external cohort '{name}': the name is taken")
        return {name: c for name, c in {**own, **self.external}.items() if c is not None}


def save(cohort: Cohort, path: Path | str) -> None:
    """Write a `.cohort` file: aside, synced, then put in place. The same cohort gives the same bytes."""
    from simlab import cohort_file

    cohort_file.save(cohort, Path(path))


def load(path: Path | str) -> Cohort:
    """Read a `.cohort` file; big members stay on disk, memory-mapped and read-only. Raises DamagedFile by member."""
    from simlab import cohort_file

    return cohort_file.load(Path(path))
