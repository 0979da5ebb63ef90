"""The supervised sequence classifiers and the mask-only floor: what they read, and what they cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simlab.errors import InvalidCohort
from simlab.evaluation.auc import label_auc
from simlab.methods import METHODS
from simlab.models.sequence import KINDS
from simlab.training import sequence
from simlab.training.data import Bench, Labelled
from simlab.training.pretrain import Settings, random_encoders
from simlab.training.run import run_arm

TRAIN, HELD = 120, 1000


def bench_of(views: dict[str, np.ndarray], y: np.ndarray) -> Bench:
    settings = Settings(width=2, hidden=4)
    encoders = random_encoders({"image": 1, "clinical": 1}, settings, [3])[0]
    flat = {role: np.zeros((TRAIN, 1), np.float32) for role in ("image", "clinical")}
    early = flat | {k: v[:TRAIN] for k, v in views.items()}
    return Bench(Labelled(early, y[:TRAIN], np.arange(TRAIN)), flat, encoders, settings, 11)


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_finds_the_order_of_events_and_nothing_in_coins(
    kind: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pulse early or late: mean, minimum, maximum and last value are the same, only the hour differs. Coins: within
    four standard deviations (.0183) of 1/2."""
    monkeypatch.setattr(sequence, "STEPS", 45)
    monkeypatch.setattr(sequence, "HIDDEN", 16)
    monkeypatch.setattr(sequence, "RATE", 1e-2)
    monkeypatch.setattr(sequence, "PENALTIES", (1e-3,))
    n = TRAIN + HELD
    late = rng.random(n) < 0.5
    x = np.zeros((n, 6, 2), np.float32)
    x[np.arange(n), np.where(late, 4, 1), 0] = 3
    x += 0.3 * rng.standard_normal(x.shape).astype(np.float32)
    for y, low, high in ((late.astype(float), 0.9, 1.0), (rng.integers(0, 2, n).astype(float), 0.427, 0.573)):
        fit = run_arm(METHODS[kind], bench_of({"hours": x}, y))
        assert low <= label_auc(fit.score({"hours": x[TRAIN:]}), y[TRAIN:]).value <= high


def test_the_floor_reads_the_mask_alone(rng: np.random.Generator) -> None:
    n = TRAIN + HELD
    mask = rng.standard_normal((n, 4)).astype(np.float32)
    y = (mask[:, 0] + 0.5 * rng.standard_normal(n) > 0).astype(float)
    bench = bench_of({"mask": mask}, y)
    fit = run_arm(METHODS["mask-only"], bench)
    assert label_auc(fit.score({"mask": mask[TRAIN:]}), y[TRAIN:]).value > 0.8
    other = {role: rng.standard_normal((TRAIN, 1)).astype(np.float32) for role in ("image", "clinical")}
    blind = replace(bench, train=replace(bench.train, views={**bench.train.views, **other}))
    same = run_arm(METHODS["mask-only"], blind)
    np.testing.assert_array_equal(fit.score({"mask": mask}), same.score({"mask": mask}))


@pytest.mark.parametrize("name", [*KINDS, "mask-only"])
def test_where_hours_or_masks_are_not_shown_that_is_said(name: str, rng: np.random.Generator) -> None:
    with pytest.raises(InvalidCohort, match="prepared cohort"):
        run_arm(METHODS[name], bench_of({}, (np.arange(TRAIN) % 2).astype(float)))
