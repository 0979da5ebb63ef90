"""How a job says how far it is, `report(0.4)`, and what it did, `count("pretraining", 4)`. Imports no array module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

_sink: Callable[[float], None] | None = None
_counts: Counter[str] = Counter()


def report(fraction: float) -> None:
    """Say that this share (0 to 1) of the running job is done. Costs microseconds; call it as often as is natural."""
    if _sink is not None:
        _sink(min(max(float(fraction), 0.0), 1.0))


def attach(sink: Callable[[float], None] | None) -> None:
    """Send reports to `sink` (a worker does this before each job), or nowhere."""
    global _sink
    _sink = sink


def count(what: str, times: int = 1) -> None:
    """Note that something was done (a stage computed, or found in the cache); the run's manifest says how often."""
    _counts[what] += times


def counted() -> dict[str, int]:
    """What was counted since the last call."""
    found = dict(_counts)
    _counts.clear()
    return found
