"""Maps whose boundary is known: closed forms of `simlab.limits` with noise that seeds share over the cells.

cca-lda against lda over w_c and n_labelled. A cell's difference in a seed is the closed form, plus a surface that the
seed adds to all its cells (a plane with random offset and slopes: common random numbers), plus noise of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from simlab.environments.registry import find_world
from simlab.limits import finite
from simlab.limits.gaussian import moments
from simlab.sweep import boundary, plan, search, study, surface
from simlab.sweep.schema import Axis, Study, Value
from simlab.sweep.surface import Surface
from simlab.sweep.verdicts import last_crossing

PAIR = ("cca-lda", "lda")
Points = Sequence[Mapping[str, Value]]


def planted_study(knobs: Mapping[str, float] | None = None, cells: int = 45, start: int = 9, low: int = 75,
                  width: float = 1e-6, seeds: int = 12) -> Study:
    """A search over w_c x n_labelled for this contrast; it ends at so many cells where no width ends it."""
    return study.build({
        "study": {"name": "planted", "seed": 1}, "world": {"knobs": dict(knobs or {})},
        "axes": {"w_c": {"low": 0.3, "high": 0.9, "n": 17}, "n_labelled": {"low": low, "high": 4800, "scale": "log"}},
        "design": {"kind": "boundary", "cells": start, "width": width}, "budget": {"cells": cells},
        "compare": {"arms": list(PAIR), "contrast": list(PAIR)}, "seeds": {"looks": [seeds]}, "train": {"width": 4}})


@dataclass
class Planted:
    """One world's map and one set of seeds. `cell`, `shared`: sd of a cell's mean from its own noise and the seeds'."""

    study: Study
    rng: np.random.Generator
    cell: float = 0.004
    shared: float = 0.004
    steep: float = 0.0  # all noise falls with n as n^-steep (and is as said in the middle of the axis)
    seen: dict[tuple[float, ...], np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.columns, self.rows = self.study.axes[1], self.study.axes[0]
        self.planes = self.rng.normal(size=(self.study.n_seeds, 3)) * self.shared * self.study.n_seeds**0.5
        self.forms: dict[float, tuple[finite.Curve, finite.Curve]] = {}

    def form(self, w: float, n: np.ndarray) -> np.ndarray:
        """The closed form along a row."""
        if w not in self.forms:
            spec, k = find_world("gaussian").spec({**self.study.knobs, "w_c": w}), self.study.train.width
            law = moments(spec, "source")  # as `finite.methods`, without the tuned forms, which take far longer
            pairs = finite._least_squares(*finite._retained_in(law, finite.cca(law, k)), 2 * k, law, 0.0)
            all_ = finite._least_squares(np.ones(1), np.array([finite.retained(law)]), law.p, law, 0.0)
            self.forms[w] = pairs, all_
        pairs, all_ = self.forms[w]
        return pairs(n) - all_(n)

    def plane(self, w: float, n: np.ndarray) -> Float[np.ndarray, "n seeds"]:
        """What each seed adds: sd 1 (times `shared`) in the root mean square over the map."""
        x, y = self._unit(self.columns, n) - 0.5, self._unit(self.rows, np.full(len(n), w)) - 0.5
        return self.scale(n)[:, None] * (np.column_stack([np.full(len(n), 0.8), 1.5 * x, 1.5 * y]) @ self.planes.T)

    def scale(self, n: np.ndarray) -> np.ndarray:
        return (n / 600) ** -self.steep

    def differences(self, points: Points) -> Float[np.ndarray, "cells seeds"]:
        """The paired differences in these cells; the same whenever a cell is asked for again."""
        for point in points:
            w, n = float(point["w_c"]), np.array([float(point["n_labelled"])])
            if (w, *n) not in self.seen:
                sd = self.cell * self.study.n_seeds**0.5 * self.scale(n)
                self.seen[w, *n] = (self.form(w, n) + self.plane(w, n)[0]
                                    + self.rng.normal(0, sd, self.study.n_seeds))
        return np.array([self.seen[float(p["w_c"]), float(p["n_labelled"])] for p in points])

    def truth(self, seeds: bool) -> list[float | None]:
        """log n* in each row, None without: of the closed form, or of what these seeds would show in every cell."""
        found = []
        for w in self.rows.values:
            n = np.geomspace(float(self.columns.values[0]), float(self.columns.values[-1]), 257)
            mean = self.plane(float(w), n).mean(axis=1) if seeds else 0.0
            found.append(last_crossing(np.log(n), self.form(float(w), n) + mean))
        return found

    @staticmethod
    def _unit(axis: Axis, values: np.ndarray) -> np.ndarray:
        return np.array([surface.coordinate(axis, v) for v in values])

    def surface(self, points: Points) -> Surface:
        found = surface.fitted((self.columns, self.rows), points, self.differences(points))
        assert found is not None
        return found

    def search(self, every: bool = True) -> Iterator[Surface]:
        """The surfaces of a search, batch by batch, to its end (or that at its end alone, in less time)."""
        now = replace(self.study, points=boundary.start(self.study))
        while True:
            points = [plan.cell(now, i) for i in range(plan.n_cells(now))]
            if every:
                yield self.surface(points)
            step = search.decide(now, self.differences(points))
            if step.ended:
                if not every:
                    yield self.surface(points)
                return
            now = boundary.with_points(now, (*(now.design.rounds or (len(now.points),)),
                                             len(now.points) + len(step.points)), (*now.points, *step.points))

    def grid(self, down: int, across: int) -> Surface:
        """The surface of an even grid over the same axes."""
        lows, highs = ([float(axis.values[i]) for axis in (self.rows, self.columns)] for i in (0, -1))
        return self.surface([{"w_c": float(w), "n_labelled": float(n)} for w in np.linspace(lows[0], highs[0], down)
                             for n in np.geomspace(lows[1], highs[1], across)])

    def error(self, found: Surface, truth: Sequence[float | None]) -> float:
        """RMSE of log n* over the rows that have one; a boundary not found counts as lying at the axis's end."""
        away = []
        for w, at in zip(self.rows.values, truth, strict=True):
            if at is not None:
                here = found.crossing(w)
                end = float(self.columns.values[-1 if here.side == "ahead" else 0])
                away.append(np.log(here.at or end) - at)
        return float(np.sqrt(np.mean(np.square(away))))

    def covered(self, found: Surface) -> list[bool]:
        """In each row that has a boundary within the axis: whether the band holds the closed form's."""
        crossings = [(found.crossing(w), at) for w, at in zip(self.rows.values, self.truth(seeds=False), strict=True)]
        return [bool(here.low <= np.exp(at) <= here.high) for here, at in crossings if at is not None]
