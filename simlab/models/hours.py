"""What some arms read beside the summaries of `present`: the hours themselves, or only what was measured.

Fitted on training records alone, like the presentation. `hours`: every channel at every visit, standardised, the last
known value carried forward (0, the mean, before the first), and whether it was measured. `mask`: which channels were
measured, how often and how lately, never a value: what a clinic's habits alone foretell (Agniel, Kohane and Weber,
BMJ 361, k1479, 2018).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

from simlab.cohort import Inputs, Stream
from simlab.errors import InvalidCohort

KINDS = ("hours", "mask")


@dataclass(frozen=True)
class Reading:
    """What is read (of KINDS), and by name the centre and scale that training records gave.

    `visits`: of each stream where it was fitted. Other records are read as so many: later visits are left out, lacking
    ones were not measured, so that shapes and shares stay those that were fitted.
    """

    kinds: tuple[str, ...]
    scaling: Mapping[str, tuple[Float[np.ndarray, "features"], Float[np.ndarray, "features"]]]
    visits: Mapping[str, int]

    def __call__(self, inputs: Inputs) -> dict[str, Float[np.ndarray, "records ..."]]:
        """`hours` (records, visits, features) and `mask` (records, features), float32, as far as they are asked for.

        Raises InvalidCohort for a stream that is no table of numbers, or was not there when this was fitted.
        """
        made: dict[str, Float[np.ndarray, "records ..."]] = {}
        if not self.kinds:
            return made
        missing = [name for name in inputs.streams if name not in self.visits]
        if missing:
            raise InvalidCohort(f"stream {missing[0]} was not among those that the hours were fitted with.")
        if "hours" in self.kinds:
            parts = [self._hours(name, stream) for name, stream in inputs.streams.items()]
            most = max(part.shape[1] for part in parts)
            made["hours"] = np.concatenate([np.repeat(p, most // p.shape[1], axis=1) for p in parts], axis=2)
        if "mask" in self.kinds:
            centre, scale = self.scaling["mask"]
            made["mask"] = ((measured(inputs, self.visits) - centre) / scale).astype(np.float32)
        return made

    def _hours(self, name: str, stream: Stream) -> Float[np.ndarray, "records visits features"]:
        centre, scale = self.scaling[name]
        seen = sized(stream.observed, self.visits[name])
        values = np.where(seen, (sized(table(name, stream), self.visits[name]) - centre) / scale, 0.0)
        return np.concatenate([carried(values, seen), seen], axis=2).astype(np.float32)


def fit(inputs: Inputs, kinds: Collection[str]) -> Reading:
    """The reading of these kinds (others are passed over), fitted on these inputs. Raises InvalidCohort like it."""
    wanted = tuple(kind for kind in KINDS if kind in kinds)
    visits = {name: stream.visits for name, stream in inputs.streams.items()}
    scaling = {}
    if "hours" in wanted:
        visits_of(inputs)
        for name, stream in inputs.streams.items():
            seen = stream.observed
            count = np.maximum(seen.sum(axis=(0, 1)), 1)
            values = np.where(seen, table(name, stream), 0.0)
            centre = values.sum(axis=(0, 1)) / count
            spread = np.sqrt((np.where(seen, values - centre, 0.0) ** 2).sum(axis=(0, 1)) / count)
            scaling[name] = (centre, np.where(spread > 1e-6, spread, 1.0))
    if "mask" in wanted:
        shown = measured(inputs, visits)
        spread = shown.std(axis=0)
        scaling["mask"] = (shown.mean(axis=0), np.where(spread > 1e-6, spread, 1.0))
    return Reading(wanted, scaling, visits)


def visits_of(inputs: Inputs) -> int:
    """The visits that streams over time share. Raises InvalidCohort where they differ."""
    found = {s.visits for s in inputs.streams.values() if s.visits > 1} or {1}
    if len(found) > 1:
        raise InvalidCohort(f"streams have {', '.join(map(str, sorted(found)))} visits; hour by hour they must agree.")
    return found.pop()


def sized(x: Shaped[np.ndarray, "records _ channels"], visits: int) -> Shaped[np.ndarray, "records visits channels"]:
    """The first so many visits; zeros (not measured) where there are fewer."""
    return np.pad(x[:, :visits], ((0, 0), (0, max(0, visits - x.shape[1])), (0, 0)))


def table(name: str, stream: Stream) -> Float[np.ndarray, "records visits channels"]:
    """A stream's values, float64. Raises InvalidCohort for volumes."""
    if stream.values.ndim != 3:
        raise InvalidCohort(f"stream {name} holds volumes; reading hours needs one number a channel and visit.")
    return stream.floats().astype(np.float64)


def carried(
    values: Float[np.ndarray, "records visits channels"], seen: Bool[np.ndarray, "records visits channels"]
) -> Float[np.ndarray, "records visits channels"]:
    """Each visit's last known value, its own included; 0 before the first."""
    last = np.maximum.accumulate(np.where(seen, np.arange(seen.shape[1])[:, None], -1), axis=1)
    return np.where(last >= 0, np.take_along_axis(values, last.clip(0), axis=1), 0.0)


def measured(inputs: Inputs, visits: Mapping[str, int]) -> Float[np.ndarray, "records features"]:
    """Of every channel, in its stream's first so many visits: the share of visits at which it was measured and the
    last such visit (as a share of all; 0 for never); of a stream of one visit, whether it is known. Never a value."""
    parts = []
    for name, stream in inputs.streams.items():
        seen = sized(stream.observed, visits[name])
        parts.append(seen.mean(axis=1))
        if visits[name] > 1:
            place = np.arange(1, visits[name] + 1)[:, None] / visits[name]
            parts.append(np.where(seen, place, 0.0).max(axis=1))
    return np.concatenate(parts, axis=1)
