"""`python -m simlab.train clin-jepa` on a prepared cohort: nothing is learnt from the subjects of the test side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy_stays

from simlab.cohort import save
from simlab.train import trajectory_run
from simlab.train.__main__ import main


class Enough(Exception):
    pass


def test_pretraining_and_probes_learn_from_the_training_subjects_alone(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two stays a subject: what the trainer and the evaluation are given of the first split."""
    cohort = toy_stays.stays(rng, 60, hours=32)
    save(replace(cohort, subject=cohort.record // 2), tmp_path / "toy.cohort")
    given: list[list[int]] = []
    train = trajectory_run.arms.train

    def watched(method, stays, *more):
        given.append(sorted(stays.subject.tolist()))
        return train(method, stays, *more)

    def stop(backbone, mine, held, *more):
        given.extend(sorted(side.subject.tolist()) for side in (mine, held))
        raise Enough

    monkeypatch.setattr(trajectory_run.arms, "train", watched)
    monkeypatch.setattr(trajectory_run, "evaluate", stop)
    small = [f"--set={word}" for word in ("steps=2", "batch=2", "width=4", "hidden=8", "inner=4", "inside=8")]
    with pytest.raises(Enough):
        main(["clin-jepa", "--data", str(tmp_path / "toy.cohort"), "--splits", "2", "--task", "dies", "--out",
              str(tmp_path / "run"), "--quiet", *small])
    pretrained, mine, held = given
    assert pretrained == mine and not set(pretrained) & set(held)
    assert sorted([*mine, *held]) == sorted((cohort.record // 2).tolist())
