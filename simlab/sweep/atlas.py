"""From a results table to maps: paired differences, verdicts, measured and predicted boundaries, for each contrast.

The arithmetic is in `verdicts` and `theory`; here the table's rows are laid out as arrays, and results as CSV.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from simlab import rng
from simlab.errors import SimlabError, nearest
from simlab.sweep import multiplicity, plan, surface, theory
from simlab.sweep.layout import Layout, Slice, layout
from simlab.sweep.schema import Study
from simlab.sweep.standing import EXPLORATORY
from simlab.sweep.surface import Surface
from simlab.sweep.theory import Line
from simlab.sweep.verdicts import ALPHA, Crossing, Verdict, boundary, verdict


@dataclass(frozen=True)
class Row:
    """One row of a map: verdicts by column, the measured boundary (None: words, or one column), the predicted one."""

    verdicts: tuple[Verdict, ...]
    measured: Crossing | None
    predicted: Line | None

    @property
    def decided(self) -> bool:
        """Whether some cell is decided "helps" or "hurts": where none is, a change of sign is noise about zero."""
        return any(found.verdict in ("helps", "hurts") for found in self.verdicts)


@dataclass(frozen=True)
class Panel:
    """One contrast on one slice."""

    contrast: tuple[str, str]
    slice: Slice
    rows: tuple[Row, ...]

    @property
    def words(self) -> list[str]:
        return [v.verdict for row in self.rows for v in row.verdicts]


@dataclass(frozen=True)
class Atlas:
    """All maps of a study, the primary contrast first. `standing`: what they may claim, by `simlab.sweep.standing`."""

    study: Study
    layout: Layout
    panels: tuple[Panel, ...]
    standing: str = EXPLORATORY
    scores: Mapping[str, Float[np.ndarray, "cells seeds"]] = field(default_factory=dict)

    @cached_property
    def surfaces(self) -> tuple[Surface | None, ...]:
        """The surface fitted to each panel, as far as there is one (`simlab.sweep.surface`)."""
        with threadpool_limits(1):
            return tuple(surface.of(self.study, panel, self.scores) for panel in self.panels[: surface.MOST_PANELS])

    @property
    def scattered(self) -> bool:
        """Whether cells lie at points of their own instead of in rows and columns (`simlab.sweep.scatter`)."""
        return not self.layout.column_values


def scores(
    study: Study, table: pa.Table, cells: Sequence[int] | None = None
) -> dict[str, Float[np.ndarray, "cells seeds"]]:
    """Each arm's values of the study's metric, cohort and task, for these cells (all); NaN where there is none.

    Raises SimlabError when the table has numbers, but none of this metric, cohort and task.
    """
    ok = table.filter(pc.equal(table["status"], "ok"))
    wanted = {"metric": study.metric, "cohort": study.compare.cohort, "task": study.compare.task}
    kept = ok
    for column, value in wanted.items():
        rest = kept.filter(pc.equal(kept[column], value))
        if len(kept) and not len(rest):
            known = sorted(set(kept[column].to_pylist()))
            near = nearest(value, known)
            raise SimlabError(f"no result has {column} '{value}' (compare.{column}); "
                              + (f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}."))
        kept = rest
    place = {cell: i for i, cell in enumerate(range(plan.n_cells(study)) if cells is None else cells)}
    found = {arm: np.full((len(place), study.n_seeds), np.nan) for arm in study.arms}
    columns = (kept[name].to_pylist() for name in ("method", "cell", "seed", "value"))
    for arm, cell, seed, value in zip(*columns, strict=True):
        found[arm][place[cell], seed] = np.nan if value is None else value
    return found


def build(study: Study, table: pa.Table, standing: str = EXPLORATORY) -> Atlas:
    """Every contrast's maps from the study's whole table."""
    arms, place = scores(study, table), layout(study)
    panels = []
    for number, contrast in enumerate(study.contrasts):
        differences = arms[contrast[0]] - arms[contrast[1]]
        for part, piece in enumerate(place.slices):
            rows = tuple(_row(study, contrast, place, piece, r, differences, (number, part)) for r in
                         range(len(place.row_values)))
            panels.append(Panel(contrast, piece, rows))
    return Atlas(study, place, tuple(panels), standing, arms)


def _row(study: Study, contrast: tuple[str, str], place: Layout, piece: Slice, r: int,
         differences: Float[np.ndarray, "cells seeds"], path: tuple[int, int]) -> Row:
    cells = list(piece.cells[r])
    verdicts = tuple(verdict(differences[cell], study.looks, study.compare.rope, spending=study.spending)
                     for cell in cells)
    if not place.column_values:
        return Row(verdicts, None, theory.points(study, contrast, [plan.cell_spec(study, cell) for cell in cells]))
    point = dict(piece.at)
    if place.rows is not None:
        point[place.rows.name] = place.row_values[r]
    measured = None
    if len(cells) > 1 and not isinstance(place.column_values[0], str):
        draws = rng.generator(study.seed, 0, "bootstrap", *path, r)
        measured = boundary(np.array(place.column_values, dtype=float), differences[cells], draws,
                            log=place.columns.scale == "log")
    return Row(verdicts, measured, theory.line(study, contrast, place, point))


def family(atlas: Atlas) -> list[tuple[float, str]]:
    """For each contrast and cell, in the panels' order: the p value of no difference adjusted over all of them, and the
    word that stands when the words' own p values are adjusted likewise ("undecided" where the cell's word does not).

    The family is every cell of every contrast that the study declares: Holm in a confirmatory study, Benjamini-Hochberg
    in an exploratory one.
    """
    found = [verdict for panel in atlas.panels for row in panel.rows for verdict in row.verdicts]
    p = multiplicity.adjusted(np.array([v.p for v in found]), atlas.standing)
    level = multiplicity.adjusted(np.array([v.level for v in found]), atlas.standing)
    return [(float(a), v.verdict if b <= ALPHA else "undecided") for v, a, b in zip(found, p, level, strict=True)]


def verdict_records(atlas: Atlas) -> list[dict[str, Any]]:
    """One record a contrast and cell: knobs, verdict, paired difference with its interval, seeds, prediction."""
    records, standing = [], iter(family(atlas))
    for panel in atlas.panels:
        for row, cells in zip(panel.rows, panel.slice.cells, strict=True):
            for c, (cell, found) in enumerate(zip(cells, row.verdicts, strict=True)):
                predicted = row.predicted.cells[c] if row.predicted else math.nan
                adjusted, word = next(standing)
                records.append({
                    "first": panel.contrast[0], "second": panel.contrast[1], "cell": cell,
                    **{f"p_{k}": v for k, v in plan.cell(atlas.study, cell).items()},
                    "verdict": found.verdict, "difference": _number(found.mean), "low": _number(found.low),
                    "high": _number(found.high), "seeds": found.seeds, "look": found.look,
                    "predicted": _number(predicted), "reason": found.reason, "p": _number(found.p),
                    "adjusted": adjusted if math.isfinite(found.p) else None, "adjusted_verdict": word,
                    "needed": found.needed, "improvement": _number(found.improvement),
                })
    return records


def boundary_records(atlas: Atlas) -> list[dict[str, Any]]:
    """One record a contrast and row: where the difference changes sign along the columns, measured and predicted.

    A missing end of the interval lies beyond the axis; `side` says who is ahead (`verdicts.Crossing`).
    """
    if atlas.study.design.kind == "boundary":
        return surface.boundary_records(atlas)
    place, records = atlas.layout, []
    for panel in atlas.panels:
        for value, row in zip(place.row_values, panel.rows, strict=True):
            if row.measured is None:
                continue
            knobs = {**panel.slice.at, **({place.rows.name: value} if place.rows else {})}
            line = row.predicted
            records.append({
                "first": panel.contrast[0], "second": panel.contrast[1], **{f"p_{k}": v for k, v in knobs.items()},
                "along": place.columns.name, "measured": row.measured.at, "low": _number(row.measured.low),
                "high": _number(row.measured.high), "side": row.measured.side,
                "predicted": line.at if line else None, "predicted_side": line.side if line else "no closed form",
            })
    return records


def _number(value: float) -> float | None:
    """A finite number, or None (strict JSON and empty CSV fields have no NaN or infinity)."""
    return float(value) if math.isfinite(value) else None


def as_csv(records: list[dict[str, Any]]) -> str:
    """Records as CSV text; numbers in full, missing ones empty."""
    out = io.StringIO()
    if records:
        writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: "" if v is None else v for k, v in record.items()} for record in records)
    return out.getvalue()
