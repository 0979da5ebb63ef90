"""How a job says how far it is: `report(0.4)`. Does nothing outside a sweep's worker. Imports no array module."""

from __future__ import annotations

from collections.abc import Callable

_sink: Callable[[float], None] | None = None


def report(fraction: float) -> None:
    """Say that this share (0 to 1) of the running job is done. Costs microseconds; call it as often as is natural."""
    if _sink is not None:
        _sink(min(max(float(fraction), 0.0), 1.0))


def attach(sink: Callable[[float], None] | None) -> None:
    """Send reports to `sink` (a worker does this before each job), or nowhere."""
    global _sink
    _sink = sink
