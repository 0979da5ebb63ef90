"""The tree of random streams: every stage of a cell draws from its own, so none disturbs another.

One `SeedSequence` per (study seed, seed index); fixed stage ids below it. Adding a draw to one stage, or asking for
more labels, never moves the numbers of another stage: that is what makes differences between arms paired, and surfaces
smooth. numpy `Generator` for worlds, `torch.Generator` for trainers. Nothing here is global.
"""

from __future__ import annotations

import numpy as np

# Fixed for ever: a new stage gets a new number, an old number is never reused.
STAGES = {
    "environment": 0,  # mixing matrices, sites
    "pretraining-data": 1,
    "training-data": 2,
    "validation-data": 3,
    "test-data": 4,
    "external-data": 5,
    "initialisation": 6,
    "order": 7,  # mini-batch order in pretraining
    "adaptation": 8,  # folds, fine-tuning
    "labels": 9,  # label noise and other draws that touch labels alone
    "bootstrap": 10,
    "design": 11,  # the scramble of a Sobol design
    "tuning": 12,  # folds and proposals of hyperparameter tuning
    "incomplete-data": 13,  # further labelled records, of which a stream was never collected
    "target-data": 14,  # unlabelled records of the target, for arms that are shown some
}


def sequence(entropy: int, seed: int, stage: str, *path: int) -> np.random.SeedSequence:
    """The seed sequence of one stage of one seed. Raises KeyError for a stage that is not in `STAGES`."""
    return np.random.SeedSequence(entropy=entropy, spawn_key=(seed, STAGES[stage], *path))


def generator(entropy: int, seed: int, stage: str, *path: int) -> np.random.Generator:
    """A numpy generator for one stage of one seed; `path` separates streams inside a stage."""
    return np.random.default_rng(sequence(entropy, seed, stage, *path))


def integer(entropy: int, seed: int, stage: str, *path: int) -> int:
    """A 63-bit integer of one stage of one seed, for generators that want one (`torch.Generator.manual_seed`)."""
    return int(sequence(entropy, seed, stage, *path).generate_state(1, np.uint64)[0] >> 1)
