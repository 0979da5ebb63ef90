"""The surface of a contrast over one or two numeric axes, and the band of its boundary.

A Gaussian process (`simlab.sweep.kriging`) through the cells' mean differences, each axis on its own scale. Its weights
are linear in the observations, so the same weights give every seed a surface of its own. Seeds share their draws over
the cells: what they differ by at a point is the surface's error there, correlations and all, and a diagonal noise would
miss most of it. The band is the mean of the seeds' surfaces, plus or minus Student t times the root of their variance
of the mean and of what lies between the cells unseen. The boundary's band is where this one holds zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from simlab.sweep import kriging, plan, theory
from simlab.sweep.kriging import Process
from simlab.sweep.layout import directions, layout, show
from simlab.sweep.schema import Axis, Design, Study, Value
from simlab.sweep.theory import Line
from simlab.sweep.verdicts import ALPHA, DENSE, MIN_SEEDS, Crossing, last_crossing, student

if TYPE_CHECKING:
    from simlab.sweep.atlas import Atlas, Panel

MOST_CELLS = 1600  # of one surface: the algebra grows with their cube
MOST_LEARNT = 80  # cells from which length scales are learnt
MOST_PANELS = 24  # surfaces of a study of many slices or contrasts
GRID = (33, 21)  # points along columns and rows in `surface.csv`
MOST_ROWS = 9  # rows of a search's boundary that are shown in words


@dataclass(frozen=True, eq=False)
class Surface:
    """One contrast's surface over `axes` (columns, then rows where there are any), and each seed's own.

    `differences`: of the cells with a number and the seeds that have all of them; `own`: each cell's variance of the
    mean that is its own (`noise`).
    """

    axes: tuple[Axis, ...]
    process: Process
    differences: Float[np.ndarray, "cells seeds"]
    own: Float[np.ndarray, " cells"]

    def at(self, points: Sequence[Mapping[str, Value]]) -> Float[np.ndarray, "points axes"]:
        """Coordinates of points."""
        return places(self.axes, points)

    def seeds(self, at: Float[np.ndarray, "points axes"]) -> Float[np.ndarray, "points seeds"]:
        """Every seed's surface at these coordinates."""
        return self.process.weights(at) @ self.differences

    def band(
        self, at: Float[np.ndarray, "points axes"], alpha: float = ALPHA, shared: bool = False
    ) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
        """The surface's mean and the half width of its pointwise band, which is infinite below eight whole seeds.

        `shared`: only what the seeds share over the cells, about as narrow as these seeds can make it.
        """
        each = self.seeds(at)
        n = each.shape[1]
        if n < MIN_SEEDS:
            return each.mean(axis=1), np.full(len(at), np.inf)
        scatter = each.var(axis=1, ddof=1) / n
        if shared:
            spread = np.maximum(scatter - self.process.weights(at) ** 2 @ self.own, 0.0)
        else:
            spread = scatter + self.process.unseen(at)
        return each.mean(axis=1), student(alpha, n - 1) * np.sqrt(spread)

    def crossing(self, row: Value | None = None, alpha: float = ALPHA, shared: bool = False) -> Crossing:
        """Where the surface last changes sign along the columns, with the stretch around it that its band holds.

        `low` and `high` are infinite where that stretch reaches beyond the axis; so is each of the two, with no point
        between, where the band leaves no room for a change of sign (`side` says who is ahead).
        """
        columns, steps = self.axes[0], np.linspace(0, 1, DENSE)
        at = np.column_stack([steps, *([np.full(DENSE, coordinate(self.axes[1], row))] if row is not None else [])])
        mean, half = self.band(at, alpha, shared)
        open_ = np.abs(mean) <= half
        where = last_crossing(steps, mean)
        falling = bool(mean[-1] <= 0) if where is not None else bool(mean[-1] <= mean[0])
        if where is not None:
            side = "ahead-below" if falling else "ahead-above"
            i = int(np.searchsorted(steps, where))
            low, high = _reach(steps, mean, half, open_, min(i, DENSE - 1))
            low, high = min(low, where), max(high, where)
            return Crossing(location(columns, where), _end(columns, low), _end(columns, high), side)
        above = (mean[-1] > 0) == falling  # on which side beyond the axis it must be sought
        beyond = math.inf if above else -math.inf
        low, high = (beyond, beyond)
        if open_[-1 if above else 0]:
            low, high = _reach(steps, mean, half, open_, DENSE - 1 if above else 0)
        return Crossing(None, _end(columns, low), _end(columns, high), "ahead" if mean[-1] > 0 else "behind")

    def rows(self) -> tuple[Value | None, ...]:
        """The values of the row axis, ascending; None alone where there is none."""
        return tuple(sorted(self.axes[1].values)) if len(self.axes) > 1 else (None,)  # type: ignore[type-var]

    def width(self, shared: bool = False) -> tuple[float, float]:
        """Mean and largest width of the boundary's band over the rows that it touches, within the axis.

        In units of the column axis, or of its natural logarithm. (0, 0) where it touches none: no change of sign.
        """
        columns = self.axes[0]
        found = [self.crossing(row, shared=shared) for row in self.rows()]
        ends = [tuple(min(max(coordinate(columns, v), 0.0), 1.0) for v in (at.low, at.high))
                for at in found if at.low < math.inf and at.high > -math.inf]
        widths = [(high - low) * extent(columns) for low, high in ends]
        return (float(np.mean(widths)), max(widths)) if widths else (0.0, 0.0)


def fitted(axes: Sequence[Axis], points: Sequence[Mapping[str, Value]],
           differences: Float[np.ndarray, "cells seeds"]) -> Surface | None:
    """The surface through these cells (NaN: an arm failed there); None where there are fewer than three with a number.

    Cells without any seed are left out, then seeds with a missing cell, as in `verdicts.boundary`.
    """
    there = np.isfinite(differences).any(axis=1)
    whole = differences[there][:, np.isfinite(differences[there]).all(axis=0)]
    if not 3 <= there.sum() <= MOST_CELLS or not whole.shape[1]:
        return None
    kept = [point for point, known in zip(points, there, strict=True) if known]
    x = places(axes, kept)
    own, mean = noise(whole), whole.mean(axis=1)
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_LEARNT)).round().astype(int))
    kernel = kriging.fit(x[some], mean[some], own[some]).kernel
    tiny = 1e-8 * (kernel.variance + kernel.offset)
    return Surface(tuple(axes), Process.at(kernel, x, own + tiny), whole, own)


def noise(differences: Float[np.ndarray, "cells seeds"]) -> Float[np.ndarray, " cells"]:
    """Variance of each cell's mean that is the cell's own: what it shares with the other cells of its seeds moves the
    whole surface, and is no reason to smooth it.

    Cells' variances, pooled and shrunk (`kriging.shrunk`), times one minus the cells' mean correlation over seeds.
    """
    n, seeds = differences.shape
    variances = differences.var(axis=1, ddof=1) if seeds > 1 else np.zeros(n)
    moving = variances > 0
    k = int(moving.sum())
    if k < 2:
        return variances / seeds
    each = (differences - differences.mean(axis=1, keepdims=True))[moving] / np.sqrt(variances[moving, None])
    shared = (k * each.mean(axis=0).var(ddof=1) - 1) / (k - 1)  # Var(mean of k) = (1 + (k - 1) r)/k
    return kriging.shrunk(variances, seeds - 1) * (1 - min(max(shared, 0.0), 1.0)) / seeds


def extent(axis: Axis) -> float:
    """The axis's length on its scale."""
    low, high = _ends(axis)
    return math.log(high / low) if axis.scale == "log" else high - low


def _ends(axis: Axis) -> tuple[float, float]:
    numbers = [float(v) for v in axis.values]
    return min(numbers), max(numbers)


def places(axes: Sequence[Axis], points: Sequence[Mapping[str, Value]]) -> Float[np.ndarray, "points axes"]:
    """Coordinates of points, from 0 to 1 between the ends of each axis on its scale."""
    rows = [[coordinate(axis, point[axis.name]) for axis in axes] for point in points]
    return np.array(rows, dtype=float).reshape(len(rows), len(axes))


def coordinate(axis: Axis, value: Value | None) -> float:
    """An axis's value as a coordinate from 0 to 1; infinities stay."""
    low, high = _ends(axis)
    number = float(value) if value is not None else math.nan
    if math.isinf(number):
        return number
    return math.log(number / low) / math.log(high / low) if axis.scale == "log" else (number - low) / (high - low)


def location(axis: Axis, u: float) -> float:
    """The axis's value at a coordinate from 0 to 1."""
    low, high = _ends(axis)
    return float(low * (high / low) ** u) if axis.scale == "log" else low + u * (high - low)


def _end(axis: Axis, u: float) -> float:
    return location(axis, u) if math.isfinite(u) else u


def _reach(steps: np.ndarray, mean: np.ndarray, half: np.ndarray, open_: np.ndarray, i: int) -> tuple[float, float]:
    """The stretch around step i in which the band holds zero; an end beyond the last step is infinite."""
    gap = np.abs(mean) - half  # negative where zero lies in the band

    def edge(inner: int, outer: int) -> float:
        return float(steps[inner] + (steps[outer] - steps[inner]) * gap[inner] / (gap[inner] - gap[outer]))

    if not open_[i]:  # the band is narrower than a step: the change of sign lies just before this one
        return float(steps[max(i - 1, 0)]), float(steps[i])
    first, last = i, i
    while first > 0 and open_[first - 1]:
        first -= 1
    while last < len(steps) - 1 and open_[last + 1]:
        last += 1
    low = -math.inf if first == 0 else edge(first, first - 1)
    return low, math.inf if last == len(steps) - 1 else edge(last, last + 1)


def of(study: Study, panel: Panel, scores: Mapping[str, Float[np.ndarray, "cells seeds"]]) -> Surface | None:
    """The surface of a panel's map; None where the map is not over numbers, or has too few or too many cells."""
    moving = [axis for axis in study.axes if len(axis.values) > 1]
    columns, others = directions(study)
    axes = (columns, *others[:1]) if others and len(others[0].values) > 1 else (columns,)
    search = study.design.kind == "boundary"
    if any(isinstance(axis.values[0], str) for axis in axes) or not moving:
        return None
    if study.design.kind == "sobol" or (not search and (len(axes) < 2 or min(len(a.values) for a in axes) < 3)):
        return None
    cells = [cell for row in panel.slice.cells for cell in row]
    if len(cells) > MOST_CELLS:
        return None
    first, second = panel.contrast
    return fitted(axes, [plan.cell(study, cell) for cell in cells], scores[first][cells] - scores[second][cells])


def records(atlas: Atlas) -> list[dict[str, Any]]:
    """`surface.csv`: for each contrast and slice, the surface with its band on an even grid of its axes' scales."""
    found = []
    for panel, surface in zip(atlas.panels, atlas.surfaces, strict=False):
        if surface is None:
            continue
        steps = [np.linspace(0, 1, n).tolist() for n in GRID[: len(surface.axes)]]
        at = np.array([(c, *r) for r in ([(v,) for v in steps[1]] if len(steps) > 1 else [()]) for c in steps[0]])
        mean, half = surface.band(at)
        for u, m, h in zip(at, mean, half, strict=True):
            place = {f"p_{axis.name}": _short(location(axis, v)) for axis, v in zip(surface.axes, u, strict=True)}
            known = math.isfinite(h)
            found.append({"first": panel.contrast[0], "second": panel.contrast[1],
                          **{f"p_{k}": v for k, v in panel.slice.at.items()}, **place, "mean": _short(m),
                          "low": _short(m - h) if known else None, "high": _short(m + h) if known else None})
    return found


def _short(value: float) -> float:
    """Six digits: a drawing needs no more, and the file stays small."""
    return float(f"{value:.6g}")


def boundary_records(atlas: Atlas) -> list[dict[str, Any]]:
    """`boundary.csv` of a search: the fitted surface's change of sign in each row, and the one that theory predicts."""
    found = []
    for panel, surface in zip(atlas.panels, atlas.surfaces, strict=False):
        for value, line in predicted(atlas.study, panel.contrast) if surface else ():
            at = surface.crossing(value)  # type: ignore[union-attr]
            low, high = (end if math.isfinite(end) else None for end in (at.low, at.high))
            row = {f"p_{surface.axes[1].name}": value} if value is not None else {}  # type: ignore[union-attr]
            found.append({"first": panel.contrast[0], "second": panel.contrast[1], **row,
                          "along": surface.axes[0].name, "measured": at.at, "low": low,  # type: ignore[union-attr]
                          "high": high, "side": at.side, "predicted": line.at if line else None,
                          "predicted_side": line.side if line else "no closed form"})
    return found


def predicted(study: Study, contrast: tuple[str, str]) -> list[tuple[Value | None, Line | None]]:
    """Theory's change of sign along the columns, in each row of the grid whose cells a search may ask for."""
    place = layout(replace(study, design=Design(), points=()))
    names = [{} if place.rows is None else {place.rows.name: value} for value in place.row_values]
    return [(value, theory.line(study, contrast, place, point))  # type: ignore[arg-type]
            for value, point in zip(place.row_values, names, strict=True)]


def text(atlas: Atlas) -> str:
    """A search's boundary in words: a few rows of each contrast, measured and predicted."""
    blocks, everything = [], boundary_records(atlas)
    for first, second in atlas.study.contrasts:
        mine = [r for r in everything if (r["first"], r["second"]) == (first, second)]
        some = [mine[i] for i in sorted({round(v) for v in np.linspace(0, len(mine) - 1, MOST_ROWS)})] if mine else []
        if not some:
            continue
        columns, others = directions(atlas.study)
        name = others[0].name if others else ""
        lines = [f"{first} minus {second} changes sign at {columns.name}:",
                 f"{name:>14}  {'measured (95 %)':<28}theory"]
        lines += [f"{show(r.get(f'p_{name}')):>14}  {_measured(r, columns):<28}{_theory(r)}" for r in some]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _measured(record: Mapping[str, Any], columns: Axis) -> str:
    low, high = _ends(columns)
    if record["measured"] is None and record["low"] is None and record["high"] is None:
        return f"none: {record['side']}"
    ends = (f"<{low:g}" if record["low"] is None else f"{record['low']:.3g}",
            f">{high:g}" if record["high"] is None else f"{record['high']:.3g}")
    at = "none" if record["measured"] is None else f"{record['measured']:.3g}"
    return f"{at} ({ends[0]} to {ends[1]})"


def _theory(record: Mapping[str, Any]) -> str:
    if record["predicted"] is not None:
        return f"{record['predicted']:.3g}"
    said = record["predicted_side"]
    return {"": "-", "no closed form": said, "level": "level"}.get(said, f"none: {said}")
