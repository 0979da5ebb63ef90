"""Designs: which point of the axes cell i is, a pure function of (study, i). Imports no array module for a grid.

A grid holds every combination of the axes' values, the last axis turning fastest. A Sobol design is the scrambled
sequence of Sobol and Owen (`scipy.stats.qmc`) in as many dimensions as there are axes, its scramble drawn from the
study's seed: any beginning of it is spread evenly, so more cells are added without moving the earlier ones. A search
for the boundary computes some cells of a grid: a few at its start (`simlab.sweep.boundary`), then those it asks for.
"""

from __future__ import annotations

import math
from functools import lru_cache

from simlab.sweep import boundary
from simlab.sweep.schema import Axis, Study, Value, n_cells

Point = tuple[float, ...]


def cell(study: Study, index: int) -> dict[str, Value]:
    """The axis values of cell `index`, keyed by the axes' names as written. Raises IndexError."""
    n = n_cells(study)
    if not 0 <= index < n:
        raise IndexError(f"cell {index} of {n}")
    if study.design.kind == "boundary":
        point = (study.points or boundary.start(study))[index]
        return {axis.name: value for axis, value in zip(study.axes, point, strict=True)}
    if study.design.kind == "sobol":
        at = points(study.seed, len(study.axes), (n - 1).bit_length())[index]
        return {axis.name: value(axis, u) for axis, u in zip(study.axes, at, strict=True)}
    found: dict[str, Value] = {}
    for axis in reversed(study.axes):
        index, place = divmod(index, len(axis.values))
        found[axis.name] = axis.values[place]
    return {axis.name: found[axis.name] for axis in study.axes}


@lru_cache(maxsize=8)
def points(seed: int, dimensions: int, log2_n: int) -> tuple[Point, ...]:
    """The first 2^log2_n points of the study seed's scrambled Sobol sequence, each in [0, 1)^dimensions."""
    from scipy.stats import qmc

    from simlab import rng

    engine = qmc.Sobol(dimensions, scramble=True, rng=rng.generator(seed, 0, "design"))
    return tuple(map(tuple, engine.random_base2(log2_n).tolist()))


def value(axis: Axis, u: float) -> Value:
    """The axis's value at u in [0, 1): between its ends on its scale, whole-valued knobs rounded; or one of its words
    or numbers, each with an equal share."""
    if not axis.continuous:
        return axis.values[min(int(u * len(axis.values)), len(axis.values) - 1)]
    low, high = axis.values
    assert not isinstance(low, str) and not isinstance(high, str)
    log = axis.scale == "log"
    at = math.exp((1 - u) * math.log(low) + u * math.log(high)) if log else (1 - u) * low + u * high
    near = round(at) if isinstance(low, int) else float(f"{at:.10g}")
    return min(max(near, low), high)
