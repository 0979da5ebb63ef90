"""Variables decoded from latents that hold them: an oracle's errors are noise, a copy's MASE is 1."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from simlab.errors import OutOfDomain
from simlab.evaluation import decoding


def stays(rng: np.random.Generator, n: int = 120, hours: int = 30):
    """Latents that walk; variables 60 + 5 z_0 with noise of 1, and one that nobody measures."""
    z = np.cumsum(rng.standard_normal((n, hours, 3)), axis=1)
    x = np.stack([60 + 5 * z[..., 0] + rng.standard_normal((n, hours)), z[..., 1]], axis=2)
    seen = np.stack([rng.random((n, hours)) < 0.7, np.zeros((n, hours), dtype=bool)], axis=2)
    return z, x, seen


def test_an_oracle_errs_by_the_noise_and_a_held_latent_as_its_copy(rng: np.random.Generator) -> None:
    """Mean |N(0, 1)| is .798: the sd of its mean over 210 stays is .04. What is held has MASE 1 against itself."""
    training, test = stays(rng, 300), stays(rng, 300)
    oracle = decoding.decode(training, test, test[0][:, 6:], 6, ("hr", "never"), np.arange(300), rng, (1, 12), draws=50)
    assert [(d.variable, d.horizon) for d in oracle] == [("hr", 1), ("hr", 12)]
    for row in oracle:
        assert row.mae == pytest.approx(0.798, abs=0.15) and row.rmse == pytest.approx(1.0, abs=0.18)
        assert row.interval.low < row.mase < row.interval.high < 1 and row.spearman > 0.95
    held = np.repeat(test[0][:, 5:6], 24, axis=1)
    copy = decoding.decode(training, test, held, 6, ("hr", "never"), np.arange(300), rng, (1, 12), draws=50)
    assert all(row.mase_decoded == pytest.approx(1.0) for row in copy)
    assert copy[1].mae > 3 * oracle[1].mae
    assert decoding.medians(oracle)[12] == (oracle[1].mase, 1)


def test_the_best_forecast_is_judged_on_the_same_stays_and_copies(rng: np.random.Generator) -> None:
    """A best forecast that is the last value has a MASE of 1, one that is the truth of 0; with one stay missing it is
    none."""
    training, test = stays(rng, 100), stays(rng, 100)
    last = decoding._last_seen(test[1][:, :6, 0], test[2][:, :6, 0])
    there, known = test[2][:, 6, 0], np.isfinite(last)

    def best(values: np.ndarray) -> decoding.Decoded:
        row, = decoding.decode(training, test, test[0][:, 6:], 6, ("hr", "never"), np.arange(100), rng, (1,),
                               best={1: np.stack([values, values], axis=1)}, draws=2)
        return row

    copied = best(np.where(known, last, 60.0))
    assert copied.best_mase == pytest.approx(1.0) and copied.mae < copied.best
    assert copied.best == pytest.approx(np.abs(np.where(known, last, 60.0) - test[1][:, 6, 0])[there].mean())
    assert decoding.over_best(copied) == pytest.approx(copied.mae / copied.best)
    right = best(test[1][:, 6, 0])
    assert right.best == right.best_mase == 0 and decoding.over_best(right) is None
    none = best(np.where(np.arange(100) == np.flatnonzero(there)[3], np.nan, last))
    assert none.best is None and none.best_mase is None and none.mase == copied.mase


def test_ridge_is_scikit_learns_at_the_penalty_it_chooses(rng: np.random.Generator) -> None:
    z = rng.standard_normal((200, 4)) * [1, 10, 100, 0.1]
    y = z @ [1, 0.1, 0.01, 5] + rng.standard_normal(200)
    said = decoding.fit(z, y)(z)
    x = (z - z.mean(axis=0)) / z.std(axis=0)
    close = [np.abs(Ridge(alpha=a).fit(x, y).predict(x) - said).max() for a in decoding.PENALTIES]
    assert min(close) < 1e-8


def test_the_mlp_learns_what_a_line_cannot(rng: np.random.Generator) -> None:
    z = rng.standard_normal((1200, 2))
    y = z[:, 0] * z[:, 1]
    bent, line = (np.mean((decoding.fit(z, y, kind, 1)(z) - y) ** 2) for kind in ("mlp", "ridge"))
    assert bent < 0.3 < 0.8 < line
    with pytest.raises(OutOfDomain, match="known: ridge, mlp"):
        decoding.fit(z, y, "tree")


def test_nothing_beyond_a_stays_end_is_measured() -> None:
    seen = decoding.measured_within(np.ones((2, 4, 1), dtype=bool), np.array([2, 4]))
    assert seen.sum(axis=(1, 2)).tolist() == [2, 4]
