"""Verdicts laid out as maps: for each contrast, one map a setting of the further axes. Plain records in, no arithmetic.

Cells of a grid lie in rows and columns (numbers ascending); those of a Sobol design or a search at points of their own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from simlab.report.outline import Axis, Value, directions
from simlab.report.published import Published, Record


@dataclass(frozen=True)
class Map:
    """One contrast on one slice. `cells[r][c]`: the verdict's record (None: none there); `boundary[r]`: the row's.

    A scattered map has no values along its axes; all its records are in the one row of `cells`, its boundary is empty.
    `surface`: points of the fitted surface on this slice (docs/sweeps.md), with its band.
    """

    contrast: tuple[str, str]
    at: dict[str, Value]
    columns: Axis
    rows: Axis | None
    column_values: tuple[Value, ...]
    row_values: tuple[Value | None, ...]
    cells: tuple[tuple[Record | None, ...], ...]
    boundary: tuple[Record | None, ...]
    surface: tuple[Record, ...]

    @property
    def scattered(self) -> bool:
        return not self.column_values

    @property
    def records(self) -> list[Record]:
        return [cell for row in self.cells for cell in row if cell is not None]

    @property
    def title(self) -> str:
        """The contrast, and where on the further axes."""
        at = "".join(f", {name} = {show(value)}" for name, value in self.at.items())
        return f"{self.contrast[0]} minus {self.contrast[1]}{at}"


def maps(published: Published) -> list[Map]:
    """Every map of a study, the primary contrast's first."""
    study = published.study
    columns, others = directions(study)
    rows, further = (others[0] if others else None), others[1:]
    found = []
    for contrast in study.contrasts:
        verdicts = published.of(published.verdicts, contrast)
        if not study.grid:
            plane = next((axis for axis in others if len(axis.values) > 1), None)
            surface = tuple(published.of(published.surface, contrast))
            found.append(Map(contrast, {}, columns, plane, (), (None,), (tuple(verdicts),), (), surface))
            continue
        for values in itertools.product(*(axis.values for axis in further)):
            at = dict(zip((axis.name for axis in further), values, strict=True))
            found.append(_grid(published, contrast, at, columns, rows, verdicts))
    return found


def _grid(published: Published, contrast: tuple[str, str], at: dict[str, Value], columns: Axis, rows: Axis | None,
          verdicts: list[Record]) -> Map:
    across = ascending(columns)
    down: tuple[Value | None, ...] = ascending(rows) if rows else (None,)
    here = [r for r in verdicts if _lies(r, at)]
    cell = {(r[f"p_{rows.name}"] if rows else None, r[f"p_{columns.name}"]): r for r in here}
    lines = {r.get(f"p_{rows.name}") if rows else None: r for r in published.of(published.boundary, contrast)
             if _lies(r, at)}
    surface = tuple(r for r in published.of(published.surface, contrast) if _lies(r, at))
    return Map(contrast, at, columns, rows, across, down,
               tuple(tuple(cell.get((row, column)) for column in across) for row in down),
               tuple(lines.get(row) for row in down), surface)


def _lies(record: Record, at: dict[str, Value]) -> bool:
    return all(record.get(f"p_{name}") == value for name, value in at.items())


def ascending(axis: Axis) -> tuple[Value, ...]:
    return axis.values if axis.words else tuple(sorted(axis.values))


def show(value: Value | None) -> str:
    """A knob's value as people write it: 0.05, 1200, mlp."""
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:.10g}"
