"""Clinical variables read from latents, and from forecast latents at each horizon: what a rollout knows in mmHg.

A probe a variable learns x_t from the true latent z_t of the same hour, on training stays, and is then laid on forecast
latents of test stays (Clin-JEPA's section 5.4). Reading x_t from z_t itself proves little, since z_t was made from x_t;
what the forecast says of an hour that it has not seen is the number. Beside it: the last value seen, carried forward.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeCV
from sklearn.neural_network import MLPRegressor

from simlab.errors import OutOfDomain
from simlab.evaluation import intervals

KINDS = ("ridge", "mlp")
PENALTIES = np.logspace(-3, 5, 17)
LEAST = 30  # values, of training and of a horizon's test stays, below which a variable is left out
ROWS = 8000  # training hours that a probe reads at most

Probe = Callable[[Float[np.ndarray, "rows width"]], Float[np.ndarray, "rows"]]


@dataclass(frozen=True)
class Decoded:
    """One variable at one horizon: errors in its own unit, over `n` test stays in which it was measured then.

    `mase`: mean absolute error over that of the last value seen, carried forward (stays that have one); its interval is
    over subjects. `mase_decoded`: over that of the probe on the last true latent. `spearman`: rank correlation.
    `best`: the mean absolute error of the best forecast on the same stays, where a world knows it; `best_mase`: over
    the same copies as `mase`.
    """

    variable: str
    horizon: int
    n: int
    mae: float
    rmse: float
    spearman: float | None
    mase: float | None
    interval: intervals.Interval | None
    mase_decoded: float | None
    best: float | None = None
    best_mase: float | None = None


def fit(z: Float[np.ndarray, "rows width"], y: Float[np.ndarray, "rows"], kind: str = "ridge", seed: int = 0) -> Probe:
    """A probe of one variable: ridge in closed form (penalty by leaving one out), or an MLP of the paper's width (512,
    ReLU, without its dropout; a tenth of the rows stops it). Latents and target are standardised on these rows.

    Raises OutOfDomain for another kind.
    """
    if kind not in KINDS:
        raise OutOfDomain(f"probe {kind!r}: known: {', '.join(KINDS)}.")
    centre, scale = z.mean(axis=0), z.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    mean, sd = float(y.mean()), float(y.std()) or 1.0
    x, target = (z - centre) / scale, (y - mean) / sd
    if kind == "ridge":
        model = RidgeCV(alphas=PENALTIES).fit(x, target)
    else:
        model = MLPRegressor(hidden_layer_sizes=(512,), alpha=1e-4, learning_rate_init=1e-3, max_iter=100,
                             early_stopping=True, random_state=seed % 2**31)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a hundred epochs are the paper's, converged or not
            model.fit(x, target)
    return lambda latents: mean + sd * model.predict((latents - centre) / scale)


def decode(
    training: tuple[Float[np.ndarray, "stays hours width"], Float[np.ndarray, "stays hours channels"],
                    Bool[np.ndarray, "stays hours channels"]],
    test: tuple[Float[np.ndarray, "records hours width"], Float[np.ndarray, "records hours channels"],
                Bool[np.ndarray, "records hours channels"]],
    forecast: Float[np.ndarray, "records horizons width"],
    context: int,
    names: Sequence[str],
    subjects: np.ndarray,
    rng: np.random.Generator,
    at: Sequence[int] = (1, 6, 12, 24, 48),
    kind: str = "ridge",
    best: Mapping[int, Float[np.ndarray, "records channels"]] | None = None,
    draws: int = 500,
) -> list[Decoded]:
    """Every variable at every horizon that has LEAST values in training and among the test stays then.

    training, test: latents, values and what was measured (nothing beyond a stay's end) of the same hours; forecast: of
    the test stays from `context`, horizon h at hour context + h - 1. best: by horizon, the best forecast of what is
    measured then (read there alone).
    """
    z, x, seen = training
    latents, values, measured = test
    found: list[Decoded] = []
    for v, name in enumerate(names):
        rows = np.argwhere(seen[:, :, v])
        if len(rows) < LEAST:
            continue
        rows = rows[np.sort(rng.permutation(len(rows))[:ROWS])]
        at_rows = rows[:, 0], rows[:, 1]
        probe = fit(z[at_rows].astype(np.float64), x[at_rows][:, v].astype(np.float64), kind, int(rng.integers(2**31)))
        last = _last_seen(values[:, :context, v], measured[:, :context, v])
        for h in at:
            hour = context + h - 1
            if h > forecast.shape[1] or hour >= values.shape[1] or measured[:, hour, v].sum() < LEAST:
                continue
            there = np.flatnonzero(measured[:, hour, v])
            true = values[there, hour, v].astype(np.float64)
            said = probe(forecast[there, h - 1].astype(np.float64))
            held = probe(latents[there, context - 1].astype(np.float64))
            optimum = None if best is None or h not in best else best[h][there, v].astype(np.float64)
            found.append(_row(name, h, true, said, held, last[there], subjects[there], rng, draws, optimum))
    return found


def _row(
    name: str,
    horizon: int,
    true: Float[np.ndarray, "n"],
    said: Float[np.ndarray, "n"],
    held: Float[np.ndarray, "n"],
    last: Float[np.ndarray, "n"],
    subjects: np.ndarray,
    rng: np.random.Generator,
    draws: int,
    best: Float[np.ndarray, "n"] | None,
) -> Decoded:
    error, known = np.abs(said - true), np.isfinite(last)
    copied = np.abs(last - true)[known]
    mase = interval = None
    if copied.sum() > 0:
        mase = float(error[known].sum() / copied.sum())
        sums = intervals.resampled_sums(np.stack([error[known], copied], axis=1), subjects[known], rng, draws)
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw whose copies are all right is NaN: not counted
            interval = intervals.percentile(mase, sums[:, 0] / sums[:, 1])
    least = least_mase = None
    if best is not None and np.isfinite(best).all():  # of some of the stays alone it would be another's number
        left = np.abs(best - true)
        least = float(left.mean())
        least_mase = None if mase is None else float(left[known].sum() / copied.sum())
    decoded = float(np.abs(held - true).sum())
    varies = min(np.ptp(true), np.ptp(said)) > 0
    return Decoded(name, horizon, len(true), float(error.mean()), float(np.sqrt((error**2).mean())),
                   float(stats.spearmanr(said, true).statistic) if varies else None, mase, interval,
                   float(error.sum()) / decoded if decoded > 0 else None, least, least_mase)


def _last_seen(
    values: Float[np.ndarray, "records hours"], seen: Bool[np.ndarray, "records hours"]
) -> Float[np.ndarray, "records"]:
    """The last value measured, NaN where there is none."""
    place = np.where(seen, np.arange(seen.shape[1]), -1).max(axis=1, initial=-1)
    found = np.take_along_axis(values.astype(np.float64), np.maximum(place, 0)[:, None], axis=1)[:, 0]
    return np.where(place >= 0, found, np.nan)


def medians(
    decoded: Sequence[Decoded], of: Callable[[Decoded], float | None] = lambda row: row.mase
) -> dict[int, tuple[float, int]]:
    """By horizon: the median MASE (or what else is asked of a row) over variables, and how many have one."""
    found: dict[int, list[float]] = {}
    for row in decoded:
        if (value := of(row)) is not None:
            found.setdefault(row.horizon, []).append(value)
    return {h: (float(np.median(v)), len(v)) for h, v in sorted(found.items())}


def over_best(row: Decoded) -> float | None:
    """A variable's error over that of its best forecast; None where there is none, or nothing to forecast."""
    return row.mae / row.best if row.best and row.mase is not None else None


def measured_within(
    seen: Bool[np.ndarray, "records hours channels"], length: Int[np.ndarray, "records"]
) -> Bool[np.ndarray, "records hours channels"]:
    """What was measured in hours that exist."""
    return seen & (np.arange(seen.shape[1]) < length[:, None])[..., None]
