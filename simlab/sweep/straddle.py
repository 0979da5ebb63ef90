"""An Optuna sampler that looks for a boundary: the straddle rule on a surface fitted to the finished trials.

A trial is a cell; its per-seed differences are the user attribute `differences`. The next cell is, of those not asked
for yet, the one with the largest REACH sd - |mean - level| (Bryan, Nichol, Genovese, Schneider, Miller & Wasserman
2005): where the surface may well lie on the other side of the level. Cells of a batch that are still running count as
seen, with the mean that the surface has there (Desautels, Krause & Burdick 2014), so that a batch spreads out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study as Trials
from optuna.trial import FrozenTrial, TrialState

from simlab.sweep.journal import distribution
from simlab.sweep.schema import Axis, Value
from simlab.sweep.surface import Surface, fitted, places

REACH = 3.0  # standard deviations: more than the 1.96 of the straddle rule, as in level-set estimation (Gotovos 2013)
Cell = Mapping[str, Value]


class StraddleSampler(BaseSampler):
    """Asks for cells among `candidates` (axis values by name) near the boundary at these levels of the difference.

    `axes`: columns, then rows. A function of the trials in the study alone: no randomness.
    """

    def __init__(self, axes: Sequence[Axis], candidates: Sequence[Cell], levels: Sequence[float]) -> None:
        self.axes, self.candidates, self.levels = tuple(axes), list(candidates), tuple(levels)
        self.wanted = float("nan")  # the acquisition of the cell that was asked for last
        self._places = places(self.axes, self.candidates)
        self._fitted: tuple[Any, Surface | None] = ((), None)  # the last surface: a batch asks for it again and again

    def infer_relative_search_space(self, study: Trials, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {axis.name: distribution(axis) for axis in self.axes}

    def sample_relative(self, study: Trials, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        """The next cell. Raises ValueError where no candidate is left, or nothing finished to learn from."""
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number and t.params]
        surface = self.surface(others)
        asked = {self._key(t.params) for t in others}
        free = np.array([i for i, cell in enumerate(self.candidates) if self._key(cell) not in asked])
        if surface is None or not len(free):
            raise ValueError("no cell is left to ask for" if surface is not None else "no trial has finished")
        running = places(self.axes, [t.params for t in others if t.state == TrialState.RUNNING])
        rule = self.acquisition(surface, self._places[free], running)
        best = int(np.argmax(rule))
        self.wanted = float(rule[best])
        return dict(self.candidates[free[best]])

    def sample_independent(self, study: Trials, trial: FrozenTrial, param_name: str,
                           param_distribution: BaseDistribution) -> Any:
        """A parameter of the same cell: all of them belong together."""
        return self.sample_relative(study, trial, {})[param_name]

    def surface(self, trials: Sequence[FrozenTrial]) -> Surface | None:
        """The surface through the finished trials."""
        done = [t for t in trials if t.state == TrialState.COMPLETE]
        key = tuple((self._key(t.params), tuple(t.user_attrs["differences"])) for t in done)
        if done and key != self._fitted[0]:
            known = np.array([t.user_attrs["differences"] for t in done], dtype=float)  # None: NaN
            self._fitted = key, fitted(self.axes, [t.params for t in done], known)
        return self._fitted[1] if done else None

    def acquisition(self, surface: Surface, at: Float[np.ndarray, "cells axes"],
                    running: Float[np.ndarray, "k axes"]) -> Float[np.ndarray, " cells"]:
        """The straddle rule at these places, once the running ones are seen."""
        mean, process = surface.seeds(at).mean(axis=1), surface.process
        if len(running):
            process = process.with_points(running, np.full(len(running), float(np.median(process.noise))))
        away = np.min([np.abs(mean - level) for level in self.levels], axis=0)
        return REACH * np.sqrt(process.variance(at)) - away

    def _key(self, cell: Cell) -> tuple[Value, ...]:
        return tuple(cell[axis.name] for axis in self.axes)
