"""Channels of a set of events, and what every channel says at given instants (cross-sections of records).

Each cross-section is computed from its own record's events up to its own instant, by itself: neither later events nor
other records can touch a bit of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from simlab.cohort import Events
from simlab.errors import InvalidData
from simlab.signatures.curves import reading
from simlab.signatures.settings import Channel, Settings


def kind_of(code: str, valued: bool, settings: Settings) -> str:
    """Which kind of channel an event belongs to."""
    if valued:
        return "measurement"
    return "medication" if code.startswith(settings.medications) else "condition"


def keys(events: Events) -> tuple[list[tuple[str, str, bool]], Int[np.ndarray, " events"], Int[np.ndarray, " events"]]:
    """Distinct (code, unit, whether it has a value), which of them each event is, and each event's record."""
    valued = np.isfinite(events.value)
    unit = np.where(valued, events.unit, "")
    parts = [np.unique(part, return_inverse=True) for part in (events.code, unit)]
    number = (parts[0][1] * max(len(parts[1][0]), 1) + parts[1][1]) * 2 + valued
    _, first, which = np.unique(number, return_index=True, return_inverse=True)
    table = [(str(events.code[i]), str(unit[i]), bool(valued[i])) for i in first]
    record = np.repeat(np.arange(len(events)), np.diff(events.offsets))
    return table, which, record


def vocabulary(events: Events, settings: Settings) -> tuple[Channel, ...]:
    """Channels that at least `settings.records` records show, in order of kind, code and unit."""
    table, which, record = keys(events)
    shown = np.unique(np.stack([which, record]), axis=1)[0]
    count = np.bincount(shown, minlength=len(table))
    found = [Channel(code, unit, kind_of(code, valued, settings))
             for (code, unit, valued), n in zip(table, count, strict=True) if n >= settings.records]
    return tuple(sorted(found, key=lambda c: (c.kind, c.code, c.unit)))


def channel_of(events: Events, channels: Sequence[Channel], settings: Settings) -> Int[np.ndarray, " events"]:
    """Each event's channel, -1 for none.

    Raises InvalidData for a measurement of a known code in a unit that the channels do not have, unless
    `settings.strays` is "drop".
    """
    index = {(c.code, c.unit, c.kind): i for i, c in enumerate(channels)}
    units: dict[str, list[str]] = {}
    for c in channels:
        if c.kind == "measurement":
            units.setdefault(c.code, []).append(c.unit)
    table, which, _ = keys(events)
    place = np.full(len(table), -1, np.int64)
    for i, (code, unit, valued) in enumerate(table):
        place[i] = index.get((code, unit, kind_of(code, valued, settings)), -1)
        if valued and place[i] < 0 and code in units and settings.strays == "refuse":
            raise InvalidData(f"events: '{code}' comes in unit '{unit}', but was fitted in '{', '.join(units[code])}'; "
                              "convert it, or set strays = drop to leave such values out.")
    return place[which]


def cross_sections(
    events: Events,
    channels: Sequence[Channel],
    records: Int[np.ndarray, " m"],
    times: Float[np.ndarray, " m"],
    settings: Settings,
) -> tuple[Float[np.ndarray, "m channels"], Bool[np.ndarray, " m"]]:
    """What every channel says of record `records[i]` at time `times[i]` (NaN: nothing), and whether it has a history.

    Units: conditions events a day, measurements their own, medications a number in [0, 1]. Raises InvalidData.
    """
    place = channel_of(events, channels, settings)
    days, values = events.time / settings.day, events.value.astype(np.float64)
    out = np.full((len(records), len(channels)), np.nan)
    known = np.zeros(len(records), bool)
    for i, (record, now) in enumerate(zip(records, times / settings.day, strict=True)):
        start, end = events.offsets[record], events.offsets[record + 1]
        end = start + np.searchsorted(days[start:end], now, side="right")
        if end == start:
            continue
        known[i] = True
        here = place[start:end]
        order = np.argsort(here, kind="stable")
        order = order[np.searchsorted(here[order], 0) :]
        at, first = np.unique(here[order], return_index=True)
        for channel, rows in zip(at, np.split(order, first)[1:], strict=True):
            out[i, channel] = reading(channels[channel].kind, days[start + rows], values[start + rows], float(now),
                                      float(days[start]), settings.window, settings.least, settings.decay)
    return out, known
