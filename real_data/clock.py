"""Hours of a span of time: the same to the last bit, however many rows the engine takes together."""

from __future__ import annotations

import polars as pl

MICROSECOND_H = 1 / 3.6e9  # times this, not over 3.6e9: polars divides one row, and multiplies many by the reciprocal


def in_hours(span: pl.Expr) -> pl.Expr:
    """A duration in hours. Whole hours come out whole (to a million of them), so that floor gives their hour."""
    return span.dt.total_microseconds() * MICROSECOND_H
