"""Design "boundary": what a search may ask for, where it starts, its record, and what it costs at most.

Its cells are combinations of the axes' values, of which it computes a few: `design.cells` spread over the map, then
batches where the surface fitted to the primary contrast is least sure of its sign (`simlab.sweep.straddle`). The cells
so far are `Study.points`; `design.rounds` says after which of them a batch ended. Imports no array module.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simlab.errors import InvalidStudy, SimlabError
from simlab.sweep.layout import directions
from simlab.sweep.schema import Axis, Budget, Design, Study, Value

RECORD = "search.jsonl"
START, BATCH, MOST = 9, 4, 100  # cells at the start, cells a batch, cells at most: unless the study says else
MIN_SEEDS = 8  # as `verdicts.MIN_SEEDS`: fewer give no band

Point = tuple[Value, ...]


@dataclass(frozen=True)
class State:
    """What a search's record says: the ends of its batches, the cells, and why it ended ("": it has not)."""

    rounds: tuple[int, ...]
    points: tuple[Point, ...]
    ended: str = ""


def defaults(design: Design) -> Design:
    """The design with the numbers of a search that it leaves out. Raises InvalidStudy without a width."""
    if design.kind != "boundary":
        return design
    if design.width is None:
        raise InvalidStudy("design.kind = 'boundary' needs design.width: how narrow the boundary's band must be, on "
                           "average, for the search to end (along the columns; on a log axis in units of its "
                           "logarithm, where 0.2 is about 20 %).")
    return replace(design, cells=design.cells or START, batch=design.batch or BATCH, around=design.around or "sign")


def check(study: Study) -> None:
    """Refuse a search that could not be made. Raises InvalidStudy."""
    moving = [axis for axis in study.axes if len(axis.values) > 1]
    if not 1 <= len(study.axes) == len(moving) <= 2 or any(isinstance(a.values[0], str) for a in moving):
        raise InvalidStudy("design.kind = 'boundary' needs one or two axes of numbers, each with two values or more: a "
                           f"boundary is a point or a line. Here: {', '.join(axis.name for axis in study.axes)}; fix "
                           "the others in [world.knobs].")
    least = 3 if len(moving) == 1 else 6
    assert study.design.cells is not None
    if not least <= study.design.cells <= min(grid(study), most_cells(study)):
        raise InvalidStudy(f"design.cells = {study.design.cells}: a search over these axes starts from {least} cells "
                           f"or more, and has no more than {min(grid(study), most_cells(study))} "
                           "(the combinations of the axes' values, and budget.cells).")
    if study.n_seeds < MIN_SEEDS:
        raise InvalidStudy(f"seeds.looks ends with {study.n_seeds}: a search needs {MIN_SEEDS} seeds, since fewer give "
                           "no band for the boundary.")


def check_budget(budget: Budget, kind: str) -> Budget:
    """Refuse `budget.cells` where no search would heed it."""
    if budget.cells is not None and kind != "boundary":
        raise InvalidStudy(f"budget.cells is for design.kind = 'boundary', not for '{kind}'.")
    return budget


def grid(study: Study) -> int:
    """Combinations of the axes' values."""
    return math.prod(len(axis.values) for axis in study.axes)


def candidates(study: Study) -> list[Point]:
    """Every cell that the search may ask for, in the order of a grid's cells."""
    return list(itertools.product(*(axis.values for axis in study.axes)))


def most_cells(study: Study) -> int:
    """Cells that the search computes at most, whatever they cost."""
    return study.budget.cells or MOST


def start(study: Study) -> tuple[Point, ...]:
    """The first cells: rows evenly spread over the map, their ends included, and columns evenly spread in each row.

    A grid, as far as `design.cells` allows: few values of the axis across, which may be the one that costs trainings.
    """
    assert study.design.cells is not None
    columns, others = directions(study)
    across, down = _sorted(columns), _sorted(others[0]) if others else ()
    n = study.design.cells
    if not down:
        return tuple((value,) for value in _spread(across, n))
    rows = max(2, min(len(down), math.isqrt(n)), math.ceil(n / len(across)))
    share = [n // rows + (i < n % rows) for i in range(rows)]
    found = [(row, column) for row, k in zip(_spread(down, rows), share, strict=True) for column in _spread(across, k)]
    first = study.axes[0] is columns
    return tuple((column, row) if first else (row, column) for row, column in found)


def _sorted(axis: Axis) -> tuple[Value, ...]:
    return tuple(sorted(axis.values))  # type: ignore[type-var]  # numbers, as `check` has it


def _spread(values: Sequence[Value], n: int) -> list[Value]:
    """n of the values, the ends among them, at even steps."""
    if n == 1:
        return [values[len(values) // 2]]
    return [values[round(i * (len(values) - 1) / (n - 1))] for i in range(n)]


def at_most(study: Study) -> Study:
    """The study as it would be if its search took every cell that it may: for what it costs at most.

    Start cells, then cells that each bring a new value of the axes that cost trainings, as far as the budget reaches.
    """
    found = list(dict.fromkeys([*study.points, *start(study)]))
    staged = [i for i, axis in enumerate(study.axes) if axis.stage == "source"]
    fresh: dict[tuple[Value, ...], list[Point]] = {}
    for point in candidates(study):
        fresh.setdefault(tuple(point[i] for i in staged), []).append(point)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*fresh.values()))
    seen = set(found)
    found += [point for point in turns if point is not None and point not in seen]
    n = max(len(study.points), min(most_cells(study), grid(study)))
    return replace(study, points=tuple(found[:n]), design=replace(study.design, rounds=(n,)))


def with_points(study: Study, rounds: Sequence[int], points: Sequence[Point]) -> Study:
    """The study with these cells, which came in these rounds."""
    return replace(study, points=tuple(points), design=replace(study.design, rounds=tuple(rounds)))


def read(study: Study, path: Path) -> State:
    """The record of a search: its batches so far; the start alone where there is none. A torn last line is left out.

    Raises InvalidStudy for one that is damaged, or that begins with other cells than this study's.
    """
    first = start(study)
    rounds, points, ended = [len(first)], list(first), ""
    for line in lines(path):
        try:
            ended = line.get("ended", "")
            batch = [tuple(point) for point in line.get("points", [])]
        except (AttributeError, TypeError):
            raise InvalidStudy(f"{path} is damaged; delete it, and the search finds its cells again.") from None
        if line.get("batch") == 0 and tuple(batch) != first:
            raise InvalidStudy(f"{path} begins with other cells than study {study.name}; give --out another folder.")
        if line.get("batch", 0) > 0:
            points += batch
            rounds.append(len(points))
    return State(tuple(rounds), tuple(points), ended)


def check_ended(study: Study, path: Path) -> None:
    """Refuse the record of a search that has not ended. Raises SimlabError."""
    if study.design.kind == "boundary" and not read(study, path).ended:
        raise SimlabError(f"{path.parent} is not finished: its search has not ended; run the study first.")


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a record, but for a last one that no newline ends."""
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    except ValueError:
        raise InvalidStudy(f"{path} is damaged; delete it, and the search finds its cells again.") from None
