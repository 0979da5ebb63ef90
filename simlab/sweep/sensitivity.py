"""Which knobs matter: shares of the variance of a contrast's difference over the study's cells, with intervals.

A first-order index is the share of variance that a knob explains alone, a total index the share that is lost when it is
held fixed, interactions included (Sobol 2001; Saltelli et al. 2010), each knob uniform over its axis as the study
declares it. How they are found depends on the design, and each row names its evaluator:

    grid      the analysis of variance of the grid itself, no surrogate; products of *different* seeds take the place of
              squares, so that noise, common to a seed's cells or not, adds nothing on average
    sobol     a Gaussian process through the cells, `scipy.stats.sobol_indices` on it
    searches  Optuna's fANOVA: a random forest through the cells, first order alone (a search crowds its cells at the
              boundary, so that an average over cells would be one over the search's path)

Intervals leave one seed (of forests: one of up to eight groups of seeds) out at a time, by jackknife and Student t,
since a seed is what was drawn at random. They do not hold a surrogate's own error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from scipy import stats

from simlab import rng
from simlab.sweep import plan
from simlab.sweep.atlas import scores
from simlab.sweep.schema import Axis, Study, Value

GRIDS = ("grid", "tune")
MOST = 512  # cells that a surrogate is fitted through (its time grows with their third power)
DRAWS = 1024  # of each of the matrices of Saltelli's design
TREES, DEPTH = 16, 6  # of the forest: 64 trees or deeper ones cost minutes and move shares by .01 to .02
GROUPS = 8  # of seeds that are left out in turn from a forest, which takes about a second
Indices = tuple[Float[np.ndarray, "samples knobs"], Float[np.ndarray, "samples knobs"]]


def records(study: Study, table: pa.Table) -> list[dict[str, Any]]:
    """One record a contrast and knob that takes more than one value, the largest total (else first-order) index first;
    none for a study of one such knob. Numbers are None where too few seeds finished, or nothing varies beyond noise."""
    moving = [axis for axis in study.axes if len(axis.values) > 1]
    if len(moving) < 2:
        return []
    arms, found = scores(study, table), []
    for first, second in study.contrasts:
        evaluator, summary = _of_contrast(study, moving, arms[first] - arms[second])
        rows = [{"first": first, "second": second, "knob": axis.name, **summary[i], "evaluator": evaluator}
                for i, axis in enumerate(moving)]
        found += sorted(rows, key=lambda row: -(row["total"] or row["first_order"] or 0.0))
    return found


def _of_contrast(
    study: Study, axes: list[Axis], differences: Float[np.ndarray, "cells seeds"]
) -> tuple[str, list[dict[str, float | None]]]:
    """The evaluator's name and each knob's numbers."""
    kind = study.design.kind
    there = np.isfinite(differences).any(axis=1) | (kind in GRIDS)  # a grid needs all its cells
    whole = differences[there][:, np.isfinite(differences[there]).all(axis=0)]
    if whole.shape[1] < 3 or there.sum() < 2 * len(axes):
        return "none: too few whole seeds or cells", [dict.fromkeys(COLUMNS)] * len(axes)
    if kind in GRIDS:
        shape = [len(axis.values) for axis in study.axes if len(axis.values) > 1]
        return "analysis of variance of the grid", summarised(grid_indices(whole.reshape(*shape, -1)))
    cells = np.flatnonzero(there)[:MOST].tolist()  # any beginning of a Sobol sequence is spread evenly
    points, whole = [plan.cell(study, cell) for cell in cells], whole[:MOST]
    if kind == "sobol":
        fit, quality = surrogate(np.array([encoded(axes, point) for point in points]), whole)
        name = f"Gaussian process (leave-one-out R2 {quality:.2f}), scipy.stats.sobol_indices"
        if not quality > 0:
            return name, [dict.fromkeys(COLUMNS)] * len(axes)
        return name, summarised(sobol_indices(axes, fit, rng.generator(study.seed, 0, "bootstrap", 2**20)))
    return FANOVA, summarised(fanova(axes, points, whole))


FANOVA = f"optuna.importance.FanovaImportanceEvaluator, {TREES} trees"
COLUMNS = ("first_order", "first_low", "first_high", "total", "low", "high")


def summarised(indices: Indices) -> list[dict[str, float | None]]:
    """Each knob's indices with 95 % intervals, from samples of which the first has all seeds, the others all but one.

    `low` and `high` are the interval of the total index, or of the first-order one where there is no total.
    """
    columns = []
    for samples in indices:
        n = len(samples) - 1
        spread = np.sqrt((n - 1) / n * np.sum((samples[1:] - samples[1:].mean(axis=0)) ** 2, axis=0))
        half = stats.t.ppf(0.975, n - 1) * spread
        columns += [samples[0], samples[0] - half, samples[0] + half]
    rows = [dict(zip(COLUMNS, map(_number, row), strict=True)) for row in zip(*columns, strict=True)]
    for row in rows:
        if row["total"] is None:
            row["low"], row["high"] = row["first_low"], row["first_high"]
    return rows


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def grid_indices(values: Float[np.ndarray, "..."]) -> Indices:
    """Exact indices of a full grid (an axis a knob, the last axis the seeds), NaN where no variance is beyond noise.

    The variance V_A of the mean over all axes but those in A is a quadratic form Q_A of the surface; with the mean
    surface of S seeds it would hold their noise too. (Q_A(sum_s f_s) - sum_s Q_A(f_s)) / (S (S - 1)) is its mean over
    pairs of different seeds, which is unbiased (a U-statistic).
    """
    *shape, seeds = values.shape
    knobs = tuple(range(len(shape)))
    whole = values.sum(axis=-1, keepdims=True)
    sums = np.concatenate([whole, whole - values], axis=-1)

    def variance(kept: tuple[int, ...]) -> Float[np.ndarray, "samples"]:
        own, each = (np.var(f.mean(axis=tuple(set(knobs) - set(kept)), keepdims=True), axis=knobs)
                     for f in (sums, values))
        n = np.array([seeds, *[seeds - 1] * seeds])
        return (own - np.concatenate([[each.sum()], each.sum() - each])) / (n * (n - 1))

    of_all = variance(knobs)
    spread = np.sqrt((seeds - 1) / seeds * np.sum((of_all[1:] - of_all[1:].mean()) ** 2))
    if of_all[0] <= stats.t.ppf(0.975, seeds - 1) * spread:  # 0 lies within the interval: ratios would mean nothing
        of_all = np.full(seeds + 1, np.nan)
    first = np.stack([variance((knob,)) / of_all for knob in knobs], axis=1)
    total = np.stack([1 - variance(tuple(k for k in knobs if k != knob)) / of_all for knob in knobs], axis=1)
    return first, total


def encoded(axes: Sequence[Axis], point: dict[str, Value]) -> list[float]:
    """A cell's place for a surrogate: a number on its scale between 0 and 1, a word as one number a word (0 or 1)."""
    found: list[float] = []
    for axis in axes:
        value = point[axis.name]
        if isinstance(axis.values[0], str):
            found += [float(value == word) for word in axis.values]
            continue
        scale = math.log if axis.scale == "log" else float
        low, high = scale(min(axis.values)), scale(max(axis.values))
        found.append((scale(value) - low) / (high - low))
    return found


Surrogate = Callable[[Float[np.ndarray, "queries places"]], Float[np.ndarray, "samples queries"]]


def surrogate(x: Float[np.ndarray, "cells places"], y: Float[np.ndarray, "cells seeds"]) -> tuple[Surrogate, float]:
    """Surfaces through the mean over all seeds and over all but one, and the first one's leave-one-out R2.

    One Gaussian process (squared exponential, a length a knob, white noise), its parameters by marginal likelihood from
    the mean of all seeds; given them a prediction is linear in the values, so the other surfaces cost a product each.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    mean = y.mean(axis=1, keepdims=True)
    means = np.concatenate([mean, (y.sum(axis=1, keepdims=True) - y) / (y.shape[1] - 1)], axis=1)
    level, scale = mean.mean(), max(float(mean.std()), 1e-12)
    means = (means - level) / scale
    kernel = ConstantKernel(1.0, (1e-2, 1e3)) * RBF(np.full(x.shape[1], 0.5), (0.05, 50.0)) + WhiteKernel(1e-2,
                                                                                                     (1e-6, 2.0))
    with np.errstate(all="ignore"):
        fitted = _quietly(lambda: GaussianProcessRegressor(kernel, n_restarts_optimizer=0).fit(x, means[:, 0]))
    smooth = fitted.kernel_.k1
    inverse = np.linalg.inv(fitted.kernel_(x) + 1e-10 * np.eye(len(x)))
    weights = inverse @ means
    left_out = weights[:, 0] / np.diag(inverse)  # Rasmussen & Williams 2006, eq. 5.12
    spread = float(np.var(means[:, 0]))
    quality = 1 - float(np.mean(left_out**2)) / spread if spread > 0 else 0.0
    return lambda queries: (smooth(queries, x) @ weights).T * scale + level, quality


def _quietly(work: Callable[[], Any]) -> Any:
    """The work's result without scikit-learn's warnings that a length lies at its bound (a knob that does nothing)."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return work()


def sobol_indices(axes: Sequence[Axis], surface: Surrogate, draws: np.random.Generator) -> Indices:
    """First-order and total indices of surfaces over the axes, each knob uniform on its axis (Saltelli et al. 2010)."""
    from simlab.sweep.designs import value

    def at(u: Float[np.ndarray, "knobs queries"]) -> Float[np.ndarray, "samples queries"]:
        points = [{axis.name: value(axis, float(v)) for axis, v in zip(axes, row, strict=True)} for row in u.T]
        return surface(np.array([encoded(axes, point) for point in points]))

    found = stats.sobol_indices(func=at, n=DRAWS, dists=[stats.uniform()] * len(axes), rng=draws)
    return np.atleast_2d(found.first_order), np.atleast_2d(found.total_order)


def fanova(axes: Sequence[Axis], points: Sequence[dict[str, Value]], y: Float[np.ndarray, "cells seeds"]) -> Indices:
    """First-order indices of knobs by Optuna's fANOVA."""
    from optuna import distributions as d

    space = {}
    for axis in axes:
        if not axis.continuous:
            space[axis.name] = d.CategoricalDistribution(axis.values)
        elif isinstance(axis.values[0], int):
            space[axis.name] = d.IntDistribution(*axis.values, log=axis.scale == "log")
        else:
            space[axis.name] = d.FloatDistribution(*axis.values, log=axis.scale == "log")
    return forests(space, [{axis.name: point[axis.name] for axis in axes} for point in points], y)


def forests(space: dict[str, Any], params: Sequence[dict[str, Any]], y: Float[np.ndarray, "trials seeds"]) -> Indices:
    """First-order indices of the parameters of Optuna trials, by its fANOVA (Hutter et al. 2014): shares of the
    variance of a random forest over the search space. No total indices."""
    groups = np.array_split(np.arange(y.shape[1]), min(y.shape[1], GROUPS))
    samples = [y.mean(axis=1), *(np.delete(y, group, axis=1).mean(axis=1) for group in groups)]
    first = np.array([_forest(space, params, sample) for sample in samples])
    return first, np.full_like(first, np.nan)


def _forest(
    space: dict[str, Any], params: Sequence[dict[str, Any]], values: Float[np.ndarray, "trials"]
) -> list[float]:
    """Optuna's main effects of each parameter on these values, in the order of the space."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    study.add_trials([optuna.trial.create_trial(value=float(v), params=p, distributions=space)
                      for p, v in zip(params, values, strict=True)])
    found = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, max_depth=DEPTH, seed=0).evaluate(study)
    return [float(found[name]) for name in space]
