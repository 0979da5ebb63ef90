"""Tokens: how a cohort's streams become one token for each (stream, visit), for encoders that read sets of tokens.

A source is one stream; it has a token at each visit, or several where it has parts (the channels of a stream whose
channels have features, the patches of a volume that is not one token whole). All records share one grid of tokens,
source by source, within a source visit by visit, within a visit part by part. What is missing is NaN: a feature that
was not observed, or all of them where the visit, or the stream at it, is not there. Fitted on training or unlabelled
records alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float

from simlab.cohort import Inputs, Stream
from simlab.errors import InvalidCohort
from simlab.models.patches import patches
from simlab.models.present import Presentation
from simlab.objectives.views import FOR_LIFE, Places

ROLES = ("image", "clinical")


@dataclass(frozen=True)
class Source:
    """What makes the tokens of one stream (or of one block of its coordinates).

    `features` of each token; `visits` x `parts` tokens; `static`: apart from the visit axis; `partial`: some of a
    token's features may be missing, so that an encoder is told which; `sides`: of a volume that is a token whole, whose
    features are its voxels.
    """

    name: str
    role: str
    features: int
    visits: int
    parts: int = 1
    static: bool = False
    partial: bool = False
    sides: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        return self.visits * self.parts


@dataclass(frozen=True)
class Layout:
    """The grid of tokens that all records share. `follow_up`: the unit in which encoders read time."""

    sources: tuple[Source, ...]
    follow_up: float = 1.0

    @property
    def tokens(self) -> int:
        return sum(s.tokens for s in self.sources)

    @property
    def features(self) -> int:
        """Features of the widest source; the others are padded with NaN to it."""
        return max(s.features for s in self.sources)

    def slices(self) -> list[slice]:
        """The tokens of each source."""
        ends = np.cumsum([0, *(s.tokens for s in self.sources)])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    def places(self) -> Places:
        """Role, visit and block (source and part) of every token."""
        role, visit, block = [], [], []
        before = 0
        for s in self.sources:
            visits = torch.arange(s.visits).repeat_interleave(s.parts)
            visit.append(torch.full_like(visits, FOR_LIFE) if s.static else visits)
            role.append(torch.full_like(visits, ROLES.index(s.role)))
            block.append(before + torch.arange(s.parts).repeat(s.visits))
            before += s.parts
        return Places(torch.cat(role), torch.cat(visit), torch.cat(block))

    def of(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Source and part of every token."""
        source = torch.cat([torch.full((s.tokens,), i) for i, s in enumerate(self.sources)])
        return source, torch.cat([torch.arange(s.parts).repeat(s.visits) for s in self.sources])

    def split(self, blocks: int) -> Layout:
        """The layout whose tokens are blocks of coordinates: sources of one part are cut into at most `blocks`.

        Sources that have parts already keep them: a part is a block, and so is a whole volume. `cut` cuts the values
        accordingly.
        """
        made: list[Source] = []
        for s in self.sources:
            widths = _widths(s, blocks)
            made += [s] if len(widths) == 1 else [
                replace(s, name=f"{s.name}:{i}", features=w) for i, w in enumerate(widths)]
        return replace(self, sources=tuple(made))

    def cut(
        self, values: Float[np.ndarray, "*fleet tokens features"], times: Float[np.ndarray, "*fleet tokens"],
        blocks: int,
    ) -> tuple[Float[np.ndarray, "*fleet more narrow"], Float[np.ndarray, "*fleet more"]]:
        """Values and times of this layout's tokens as those of `split(blocks)`."""
        if blocks < 2:
            return values, times
        narrow = self.split(blocks).features
        parts, when = [], []
        for s, at in zip(self.sources, self.slices(), strict=True):
            start = 0
            for width in _widths(s, blocks):
                block = np.full((*values.shape[:-2], s.tokens, narrow), np.nan, np.float32)
                block[..., :width] = values[..., at, start : start + width]
                parts.append(block)
                when.append(times[..., at])
                start += width
        return np.concatenate(parts, axis=-2), np.concatenate(when, axis=-1)


def _widths(source: Source, blocks: int) -> list[int]:
    """Features of each block of a source: as equal as they can be."""
    if source.parts > 1 or source.sides or blocks < 2:
        return [source.features]
    return [len(part) for part in np.array_split(np.arange(source.features), min(blocks, source.features))]


@dataclass(frozen=True)
class Tokeniser:
    """A fitted way from a cohort's inputs to the arrays "tokens" and "times" (`Layout`)."""

    layout: Layout
    scaling: Mapping[str, tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]]
    patch: int | None

    def __call__(self, inputs: Inputs) -> dict[str, Float[np.ndarray, "records ..."]]:
        """"tokens" (records, tokens, features) and "times" (records, tokens), float32, NaN for what is not there.

        Times are in units of the follow-up, since the record's first visit; NaN for what has none. A record with more
        visits than the layout keeps its latest. Raises InvalidCohort when a stream is missing or has another shape.
        """
        n = len(inputs)
        shown = np.full((n, self.layout.tokens, self.layout.features), np.nan, np.float32)
        times = np.full((n, self.layout.tokens), np.nan, np.float32)
        start = _first_times(inputs)
        for source, at in zip(self.layout.sources, self.layout.slices(), strict=True):
            if source.name not in inputs.streams:
                raise InvalidCohort(f"the cohort lacks stream {source.name}, which the tokens were fitted with.")
            stream = inputs.streams[source.name]
            made = parts_of(stream, self.patch)
            centre, scale = self.scaling[source.name]
            if made.shape[2:] != (source.parts, source.features):
                raise InvalidCohort(f"stream {source.name}: {made.shape[2]} parts of {made.shape[3]} features a visit; "
                                    f"the tokens were fitted with {source.parts} of {source.features}.")
            made = ((made - centre) / scale).astype(np.float32)
            when = _times(stream, inputs, source.static)
            made, when = _latest(made, when, inputs.length, source)
            shown[:, at, : source.features] = made.reshape(n, source.tokens, source.features)
            when = ((when - start[:, None]) / self.layout.follow_up).astype(np.float32)
            times[:, at] = np.repeat(when, source.parts, axis=1)
        return {"tokens": shown, "times": times}


@dataclass(frozen=True)
class Presented:
    """Features and tokens of a cohort in one mapping: what arms of both kinds read."""

    features: Presentation
    tokeniser: Tokeniser

    @property
    def layout(self) -> Layout:
        return self.tokeniser.layout

    def __call__(self, inputs: Inputs) -> dict[str, Float[np.ndarray, "records ..."]]:
        return {**self.features(inputs), **self.tokeniser(inputs)}


def fit(
    inputs: Inputs, roles: Mapping[str, Sequence[str]] | None = None, *, patch: int | None = 8,
    visits: int | None = None,
) -> Tokeniser:
    """The tokeniser fitted on these inputs: each feature to mean 0 and deviation 1 over the observed (a volume as a
    whole). `roles` as in `present.fit`; `patch`: voxels a side of a volume's patches, None for a volume that is one
    token whole; `visits` of the grid (default: as many as these inputs have; a fleet's members need one number)."""
    names = list(inputs.streams)
    chosen = {k: tuple(v) for k, v in (roles or {"image": names[:1], "clinical": names[1:]}).items()}
    axis = max(s.visits for s in inputs.streams.values())
    sources, scaling = [], {}
    for role, name in ((r, n) for r in ROLES for n in chosen[r]):
        stream = inputs.streams[name]
        made = parts_of(stream, patch)
        volume = stream.values.ndim == 5
        over = None if volume else (0, 1)
        known = np.isfinite(made)
        count = np.maximum(known.sum(axis=over), 1)
        centre = np.where(known, made, 0).sum(axis=over, dtype=np.float64) / count
        spread = np.sqrt(np.where(known, (made - centre) ** 2, 0).sum(axis=over, dtype=np.float64) / count)
        scaling[name] = (np.asarray(centre), np.where(spread > 1e-6, spread, 1.0))
        some = known.any(axis=3)
        static = stream.visits == 1 and (stream.time is None or axis > 1)
        grid = 1 if static else visits or made.shape[1]
        sources.append(Source(name, role, made.shape[3], grid, made.shape[2], static,
                              bool((known.all(axis=3) != some).any()),
                              stream.values.shape[2:] if volume and patch is None else ()))
    return Tokeniser(Layout(tuple(sources), _follow_up(inputs)), scaling, patch)


def parts_of(stream: Stream, patch: int | None) -> Float[np.ndarray, "records visits parts features"]:
    """A stream's values by visit and part, NaN where unobserved: a vector is one part, each channel that has features
    is a part, and so is each patch of a volume, or the volume whole. Raises InvalidCohort for any other shape."""
    values, shown = stream.floats(), stream.shown()
    if values.ndim == 3:
        values, shown = values[:, :, None, :], shown[:, :, None, :]
    elif values.ndim == 5:
        n, visits, *sides = values.shape
        if patch is None:
            made = values.reshape(n * visits, 1, -1)
        else:
            made = patches(torch.from_numpy(values.reshape(n * visits, *sides)), patch).numpy()
        seen = np.broadcast_to(stream.observed[:, :, :1, None], (n, visits, *made.shape[1:]))
        return np.where(seen, made.reshape(n, visits, *made.shape[1:]), np.nan)
    elif values.ndim != 4:
        raise InvalidCohort(f"a stream of shape {values.shape} cannot be cut into tokens: a vector, channels with "
                            "features, or a volume of one channel at each visit is needed.")
    return np.where(shown, values, np.nan)


def _times(stream: Stream, inputs: Inputs, static: bool) -> Float[np.ndarray, "records visits"]:
    """Each visit's time, NaN where a record has no such visit, or the stream no time."""
    shape = stream.values.shape[:2]
    if stream.time is None:
        return np.full(shape, np.nan)
    exists = np.ones(shape, bool) if static else np.arange(shape[1]) < inputs.length[:, None]
    return np.where(exists, stream.time.astype(np.float64), np.nan)


def _first_times(inputs: Inputs) -> Float[np.ndarray, "records"]:
    """Each record's first time; 0 where it has none."""
    return _reduced(inputs, np.fmin.reduce)


def _follow_up(inputs: Inputs) -> float:
    """The 95 % quantile of the time from a record's first visit to its last; 1 where no record has two."""
    spans = _reduced(inputs, np.fmax.reduce) - _reduced(inputs, np.fmin.reduce)
    typical = float(np.quantile(spans, 0.95)) if len(spans) else 0.0
    return typical if typical > 0 else 1.0


def _reduced(inputs: Inputs, how: Callable[..., np.ndarray]) -> Float[np.ndarray, "records"]:
    times = [_times(s, inputs, s.visits == 1) for s in inputs.streams.values()]
    return np.nan_to_num(how(np.concatenate(times, axis=1), axis=1))


def _latest(
    made: Float[np.ndarray, "records visits parts features"], when: Float[np.ndarray, "records visits"],
    length: np.ndarray, source: Source,
) -> tuple[Float[np.ndarray, "records kept parts features"], Float[np.ndarray, "records kept"]]:
    """Exactly the layout's number of visits: padded at the end, or each record's latest ones."""
    visits = made.shape[1]
    if visits < source.visits:
        more = source.visits - visits
        made = np.pad(made, ((0, 0), (0, more), (0, 0), (0, 0)), constant_values=np.nan)
        return made, np.pad(when, ((0, 0), (0, more)), constant_values=np.nan)
    rows = np.maximum(length - source.visits, 0)[:, None] + np.arange(source.visits)
    if source.static or visits == source.visits:
        rows = np.broadcast_to(np.arange(source.visits), (len(made), source.visits))
    return np.take_along_axis(made, rows[:, :, None, None], axis=1), np.take_along_axis(when, rows, axis=1)
