"""How a study's cells lie on a map: rows, columns, and one slice a setting of any further axes. No array module."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from simlab.sweep.schema import SCATTERED, Axis, Study, Value, n_cells


@dataclass(frozen=True)
class Slice:
    """One map: `cells[r][c]` is the cell at the r-th row and c-th column; `at` holds the further axes' values."""

    at: dict[str, Value]
    cells: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Layout:
    """Columns: the number of labels where it is swept, else the last axis. Rows: the first axis left (None: one row).

    Axes of a single value come last in both choices, so that a slice through a map is still drawn along what moves.

    Numbers ascend along both; words keep the study's order. Points of a Sobol design or a search do not lie in rows
    and columns: one slice holds all of them in one row, and the values are empty.
    """

    columns: Axis
    rows: Axis | None
    column_values: tuple[Value, ...]
    row_values: tuple[Value | None, ...]
    slices: tuple[Slice, ...]


def layout(study: Study) -> Layout:
    """The maps of a study."""
    columns, others = directions(study)
    rows, further = (others[0] if others else None), others[1:]
    if study.design.kind in SCATTERED:
        return Layout(columns, rows, (), (None,), (Slice({}, (tuple(range(n_cells(study))),)),))
    index = {point: i for i, point in enumerate(itertools.product(*(axis.values for axis in study.axes)))}
    across = ascending(columns)
    down: tuple[Value | None, ...] = ascending(rows) if rows else (None,)

    def cell(at: dict[str, Value], row: Value | None, column: Value) -> int:
        point = {**at, columns.name: column, **({rows.name: row} if rows and row is not None else {})}
        return index[tuple(point[axis.name] for axis in study.axes)]

    slices = []
    for values in itertools.product(*(axis.values for axis in further)):
        at = dict(zip((axis.name for axis in further), values, strict=True))
        slices.append(Slice(at, tuple(tuple(cell(at, row, column) for column in across) for row in down)))
    return Layout(columns, rows, across, down, tuple(slices))


def directions(study: Study) -> tuple[Axis, list[Axis]]:
    """The axis along a map's columns, and the others in the order of their claim to its rows."""
    moving = [axis for axis in study.axes if len(axis.values) > 1] or list(study.axes)
    columns = next((axis for axis in moving if axis.symbol == "n_lab"), moving[-1])
    return columns, sorted((axis for axis in study.axes if axis is not columns), key=lambda a: len(a.values) == 1)


def ascending(axis: Axis) -> tuple[Value, ...]:
    """An axis's values, numbers sorted."""
    return axis.values if isinstance(axis.values[0], str) else tuple(sorted(axis.values))


def show(value: Value | None) -> str:
    """A knob's value as people write it: 0.05, 1200, mlp."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.10g}"
