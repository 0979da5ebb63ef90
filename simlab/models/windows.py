"""Windows of hourly trajectories: what a trajectory encoder reads of a cohort, presented as training records scaled it.

States are what was measured in each hour (every stream over time but "action"), actions what was given, statics the
streams of one visit. Nothing is imputed: an hour holds its own measurements, whether they were made, and how stale
each channel is. A stay of `max_hours` or more gives a window every `stride` hours, a shorter one a single window; below
`min_hours` none (Clin-JEPA: 72, 12, 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from simlab.cohort import Cohort, Inputs, Stream
from simlab.errors import InvalidCohort, OutOfDomain
from simlab.models.hours import table

ACTION = "action"  # the stream of this name is given, all others over time are measured
STALE = 24.0  # hours: a gap counts up to here
FAR = 8.0  # standard deviations: a value is drawn in to here


@dataclass(frozen=True, eq=False)
class Scaling:
    """Of one role: its streams, its channels and units, and what training records gave: (x - centre) / scale."""

    streams: tuple[str, ...]
    channels: tuple[str, ...]
    units: tuple[str, ...]
    centre: Float[np.ndarray, "channels"]
    scale: Float[np.ndarray, "channels"]

    def __call__(self, values: Float[np.ndarray, "*any channels"]) -> Float[np.ndarray, "*any channels"]:
        """Scaled float32, drawn in to FAR deviations."""
        return np.clip((values - self.centre) / self.scale, -FAR, FAR).astype(np.float32)

    def back(self, scaled: Float[np.ndarray, "*any channels"]) -> Float[np.ndarray, "*any channels"]:
        """In the channels' own units."""
        return scaled * self.scale + self.centre


@dataclass(frozen=True, eq=False)
class Presentation:
    """How states, actions and statics are scaled; fitted on training records alone."""

    state: Scaling
    action: Scaling
    static: Scaling


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of stays, padded to the longest; what lies beyond a window's `length` is zero and not observed.

    `state` is scaled, 0 where it was not measured; `gap` the hours since a channel was last measured in the stay (0
    now, 1 for 24 h or more, or never); `action` scaled without centring, so that 0 is no treatment; `static` scaled
    values, then whether each is known; `start` the stay's hour at which the window begins.
    """

    state: Float[np.ndarray, "n hours channels"]
    observed: Bool[np.ndarray, "n hours channels"]
    gap: Float[np.ndarray, "n hours channels"]
    action: Float[np.ndarray, "n hours actions"]
    static: Float[np.ndarray, "n features"]
    length: Int[np.ndarray, "n"]
    start: Int[np.ndarray, "n"]
    record: np.ndarray
    subject: np.ndarray
    presentation: Presentation

    def __len__(self) -> int:
        return len(self.length)

    @property
    def hours(self) -> int:
        """Of the longest window."""
        return self.state.shape[1]

    @property
    def valid(self) -> Bool[np.ndarray, "n hours"]:
        """The hours that exist."""
        return np.arange(self.hours) < self.length[:, None]

    def take(self, index: Int[np.ndarray, "taken"] | Bool[np.ndarray, "n"]) -> Windows:
        """These windows (positions or a mask; copies)."""
        kept = {f.name: getattr(self, f.name)[index] for f in fields(self) if f.name != "presentation"}
        return replace(self, **kept)


def fit(cohort: Cohort | Inputs) -> Presentation:
    """The presentation of these (training) records: mean and deviation of what was measured; actions by the root mean
    square of what was given. A channel that does not vary keeps scale 1. Raises InvalidCohort."""
    inputs = _inputs(cohort)
    state, action, static = _roles(inputs)
    return Presentation(_scaling(inputs, state), _doses(inputs, action), _scaling(inputs, static))


def windows(
    cohort: Cohort | Inputs,
    presentation: Presentation | None = None,
    max_hours: int = 72,
    stride: int = 12,
    min_hours: int = 6,
) -> Windows:
    """The windows of a cohort (whole) or of what a task shows of it; `presentation` None: fitted on these very records.

    Raises InvalidCohort where no stay is long enough or streams are not those that were fitted, OutOfDomain.
    """
    if not (max_hours >= min_hours >= 1 <= stride):
        raise OutOfDomain(f"windows of {max_hours} h every {stride} h from {min_hours} h on: expected max_hours >= "
                          "min_hours >= 1 and a stride of at least 1.")
    inputs = _inputs(cohort)
    presentation = presentation or fit(inputs)
    cut = [(i, first, min(int(n), max_hours)) for i, n in enumerate(inputs.length) if n >= min_hours
           for first in range(0, max(int(n) - max_hours, 0) + 1, stride)]
    if not cut:
        raise InvalidCohort(f"no record has {min_hours} hours (the longest has {int(inputs.length.max(initial=0))}).")
    row, start, length = (np.array(x) for x in zip(*cut, strict=True))
    hour = start[:, None] + np.arange(length.max())
    beyond = np.arange(length.max()) >= length[:, None]
    place = row[:, None], hour.clip(max=max(s.visits for s in inputs.streams.values()) - 1)
    state, seen = _table(inputs, presentation.state)
    given, known = _table(inputs, presentation.action)
    own, there = _table(inputs, presentation.static)
    scaled = np.where(seen, presentation.state(state), np.float32(0))
    doses = np.where(known, presentation.action(given), np.float32(0))
    static = np.concatenate([np.where(there, presentation.static(own), 0), there], axis=2)[:, 0].astype(np.float32)
    shown = {"state": scaled, "observed": seen, "gap": staleness(seen), "action": doses}
    made = {name: x[place] for name, x in shown.items()}
    for x in made.values():
        x[beyond] = 0
    return Windows(**made, static=static[row], length=length, start=start, record=inputs.record[row],
                   subject=inputs.subject[row], presentation=presentation)


def staleness(seen: Bool[np.ndarray, "records hours channels"]) -> Float[np.ndarray, "records hours channels"]:
    """Hours since the last measurement, as a share of STALE and at most 1; 1 before the first."""
    hour = np.arange(seen.shape[1])[:, None]
    last = np.maximum.accumulate(np.where(seen, hour, -1), axis=1)
    gap = np.where(last >= 0, np.minimum((hour - last) / STALE, 1.0), 1.0)
    return gap.astype(np.float32)


def _inputs(cohort: Cohort | Inputs) -> Inputs:
    return cohort.inputs(None) if isinstance(cohort, Cohort) else cohort


def _roles(inputs: Inputs) -> tuple[list[str], list[str], list[str]]:
    """The names of the streams of states, actions and statics."""
    timed = [name for name, s in inputs.streams.items() if s.visits > 1]
    state = [name for name in timed if name != ACTION]
    if not state:
        raise InvalidCohort("no stream over time: a trajectory needs states by the hour.")
    static = [name for name in inputs.streams if name not in timed and name != ACTION]
    return state, [name for name in timed if name == ACTION], static


def _table(
    inputs: Inputs, of: Scaling
) -> tuple[Float[np.ndarray, "records visits channels"], Bool[np.ndarray, "records visits channels"]]:
    """Values and what was observed of a role's streams, side by side. Raises InvalidCohort for others than fitted."""
    for name in of.streams:
        if name not in inputs.streams:
            raise InvalidCohort(f"stream {name} is not there; the presentation was fitted with it.")
    visits = max(inputs.streams[name].visits for name in of.streams or inputs.streams)
    values = [np.zeros((len(inputs), visits, 0))]
    seen = [np.zeros((len(inputs), visits, 0), bool)]
    for name in of.streams:
        values.append(table(name, inputs.streams[name]))
        seen.append(inputs.streams[name].observed)
    if sum(x.shape[2] for x in values) != len(of.channels):
        raise InvalidCohort(f"streams {', '.join(of.streams)} have other channels than the presentation was fitted "
                            "with.")
    return np.concatenate(values, axis=2), np.concatenate(seen, axis=2)


def _named(inputs: Inputs, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    streams: list[Stream] = [inputs.streams[name] for name in names]
    return tuple(c for s in streams for c in s.channels), tuple(u for s in streams for u in s.units)


def _scaling(inputs: Inputs, names: Sequence[str]) -> Scaling:
    channels, units = _named(inputs, names)
    empty = Scaling(tuple(names), channels, units, np.zeros(len(channels)), np.ones(len(channels)))
    values, seen = _table(inputs, empty)
    count = np.maximum(seen.sum(axis=(0, 1)), 1)
    centre = np.where(seen, values, 0.0).sum(axis=(0, 1)) / count
    spread = np.sqrt((np.where(seen, values - centre, 0.0) ** 2).sum(axis=(0, 1)) / count)
    return replace(empty, centre=centre, scale=np.where(spread > 1e-6, spread, 1.0))


def _doses(inputs: Inputs, names: Sequence[str]) -> Scaling:
    channels, units = _named(inputs, names)
    empty = Scaling(tuple(names), channels, units, np.zeros(len(channels)), np.ones(len(channels)))
    values, seen = _table(inputs, empty)
    given = seen & (values != 0)
    size = np.sqrt((np.where(given, values, 0.0) ** 2).sum(axis=(0, 1)) / np.maximum(given.sum(axis=(0, 1)), 1))
    return replace(empty, scale=np.where(size > 1e-6, size, 1.0))
