"""Presentation: how a cohort's streams become the feature vectors that every arm of a comparison reads.

One presentation serves all arms, so that no comparator is fed better than another, and is fitted on training or
unlabelled records alone. A stream over time is summarised channel by channel (last, mean, minimum, maximum, share of
visits observed) and standardised, a channel never observed shown as the mean. A static stream (one visit) has nothing
to summarise: its values, and whether they are known. A world may ask that a stream of one visit, everything observed,
be shown as it is: its limits are computed in those coordinates, and penalties feel their scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from simlab.cohort import Inputs, Stream
from simlab.errors import InvalidCohort

SUMMARIES = ("last", "mean", "min", "max", "observed")


@dataclass(frozen=True)
class Presentation:
    """Roles (which streams form the "image" and the "clinical" view), and each summarised stream's mean and scale.

    `visits`: of each summarised stream where it was fitted; shares of visits observed are of that many everywhere.
    """

    roles: Mapping[str, tuple[str, ...]]
    scaling: Mapping[str, tuple[Float[np.ndarray, "features"], Float[np.ndarray, "features"]]]
    visits: Mapping[str, int]

    def __call__(self, inputs: Inputs) -> dict[str, Float[np.ndarray, "records _"]]:
        """Each role's features, (records, features) float32. Raises InvalidCohort when a stream is missing."""
        views = {}
        for role, names in self.roles.items():
            missing = [name for name in names if name not in inputs.streams]
            if missing:
                raise InvalidCohort(f"the cohort lacks stream {missing[0]}, which the presentation was fitted with.")
            views[role] = np.concatenate([self._stream(name, inputs.streams[name]) for name in names], axis=1)
        return views

    def _stream(self, name: str, stream: Stream) -> Float[np.ndarray, "records features"]:
        if name not in self.scaling:
            return stream.floats()[:, 0].reshape(len(stream.values), -1)
        centre, scale = self.scaling[name]
        return np.nan_to_num((summarise(stream, self.visits[name]) - centre) / scale).astype(np.float32)


def fit(
    inputs: Inputs, roles: Mapping[str, Sequence[str]] | None = None, *, as_is: bool = False
) -> Presentation:
    """The presentation fitted on these inputs. `roles` defaults to the first stream as "image", the rest as "clinical".

    `as_is`: streams of one visit with everything observed keep their values unscaled (synthetic worlds).
    Raises InvalidCohort when there are fewer than two streams.
    """
    names = list(inputs.streams)
    if len(names) < 2:
        raise InvalidCohort(f"a multimodal comparison needs two streams; the cohort has {', '.join(names) or 'none'}.")
    chosen = {k: tuple(v) for k, v in (roles or {"image": names[:1], "clinical": names[1:]}).items()}
    scaling = {}
    for name in (n for group in chosen.values() for n in group):
        stream = inputs.streams[name]
        if not as_is or stream.visits > 1 or not stream.observed.all():
            summary = summarise(stream)
            known = np.isfinite(summary)
            count = np.maximum(known.sum(axis=0), 1)
            centre = np.where(known, summary, 0).sum(axis=0) / count
            scale = np.sqrt(np.where(known, (summary - centre) ** 2, 0).sum(axis=0) / count)
            scaling[name] = (centre, np.where(scale > 1e-6, scale, 1.0))
    return Presentation(chosen, scaling, {name: inputs.streams[name].visits for name in scaling})


def summarise(stream: Stream, visits: int | None = None) -> Float[np.ndarray, "records features"]:
    """The summaries of each channel over a record's observed visits, float64; NaN for a channel never observed.

    Features: the channels' last values, then means, minima, maxima, and shares of visits observed (never NaN). With a
    single visit: the values, then whether they are observed. `visits`: what the shares are of (default: the stream's
    own visits); a stream of one visit is summarised as one over time where more than one is asked for. Raises
    InvalidCohort for images and volumes: they have no summary of a channel.
    """
    seen = stream.observed
    if stream.values.size != seen.size:
        raise InvalidCohort(f"channel '{stream.channels[0]}' has {stream.values[:1, :1].size} numbers a visit, and "
                            "this method reads one a channel: take an encoder of images, or a layout of vectors.")
    visits = seen.shape[1] if visits is None else visits
    values = np.where(seen, stream.floats().reshape(*seen.shape).astype(np.float64), 0.0)
    count = seen.sum(axis=1)
    ever = count > 0
    if seen.shape[1] == visits == 1:
        return np.concatenate([np.where(ever, values[:, 0], np.nan), ever.astype(np.float64)], axis=1)
    last_visit = seen.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
    last = np.take_along_axis(values, last_visit[:, None], axis=1)[:, 0]
    mean = values.sum(axis=1) / np.maximum(count, 1)
    low = np.where(seen, values, np.inf).min(axis=1)
    high = np.where(seen, values, -np.inf).max(axis=1)
    parts = [np.where(ever, part, np.nan) for part in (last, mean, low, high)]
    return np.concatenate([*parts, count / visits], axis=1)
