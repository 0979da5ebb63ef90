"""Cohorts and scenarios of a world, each stage from its own stream of the seed tree (`simlab.rng`).

A stage's cohort does not depend on which others are drawn, nor, for its first n records, on how many more follow.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from simlab import rng
from simlab.cohort import Cohort, Scenario
from simlab.environments.registry import find_world
from simlab.errors import unknown

# The stages that draw records. Those for pretraining, in the source and in the target, carry no labels.
COHORT_STAGES = ("pretraining-data", "training-data", "validation-data", "test-data", "external-data",
                 "incomplete-data", "target-data")
UNLABELLED = ("pretraining-data", "target-data")

# Records of stage s and domain d are numbered from (s * 2^10 + d) * 2^32, so that no two cohorts share a record.
_STAGE_BITS, _DOMAIN_BITS = 42, 32


def with_map(spec: Any, entropy: int, seed: int) -> Any:
    """The specification with its observation map's seed: the one given, else this seed's own."""
    if getattr(spec, "map_seed", 0) is not None:
        return spec
    return replace(spec, map_seed=rng.integer(entropy, seed, "environment"))


def sample_cohort(
    spec: Any, stage: str, n: int, entropy: int, seed: int, domain: str = "source", *, world: str = "gaussian"
) -> Cohort:
    """n records of one stage of `COHORT_STAGES`, of one of the world's domains.

    `entropy` is the study's seed, `seed` the index of the repetition. Raises UnknownName for a stage, domain or world
    that does not exist.
    """
    if stage not in COHORT_STAGES:
        raise unknown("stage of records", stage, COHORT_STAGES)
    where = find_world(world)
    if domain not in where.domains:
        raise unknown("domain", domain, where.domains)
    place = where.domains.index(domain)
    spec = with_map(spec, entropy, seed)
    factors = where.sample_factors(n, spec, domain, rng.generator(entropy, seed, stage, place, 0))
    cohort = where.observe(
        factors,
        spec,
        domain,
        rng.generator(entropy, seed, stage, place, 1),
        first_record=(rng.STAGES[stage] << _STAGE_BITS) + (place << _DOMAIN_BITS),
        labelled=stage not in UNLABELLED,
    )
    flip = getattr(spec, "flip", 0.0)
    if stage == "training-data" and flip:
        return _flipped(cohort, flip, rng.generator(entropy, seed, "labels", place))
    return cohort


def _flipped(cohort: Cohort, share: float, generator: np.random.Generator) -> Cohort:
    """The cohort with this share of its binary labels flipped at random; its risk stays that of the true label."""
    wrong = generator.random(len(cohort)) < share
    labels = {name: np.where(wrong, 1 - y, y) for name, y in cohort.labels.items()}
    return replace(cohort, labels=labels, provenance={**cohort.provenance, "flipped": share})


def sample_scenario(
    spec: Any,
    entropy: int,
    seed: int,
    n_test: int = 20_000,
    n_validation: int = 0,
    with_external: bool = True,
    *,
    world: str = "gaussian",
) -> Scenario:
    """All cohorts of one repetition: `spec.n_unlab` records for pretraining, `spec.n_lab` for training, the rest as
    asked, and n_test of every external domain."""

    def cohort(stage: str, n: int, domain: str = "source") -> Cohort:
        return sample_cohort(spec, stage, n, entropy, seed, domain, world=world)

    outside = find_world(world).domains[1:] if with_external else ()
    return Scenario(
        pretrain=cohort("pretraining-data", spec.n_unlab),
        train=cohort("training-data", spec.n_lab),
        validation=cohort("validation-data", n_validation) if n_validation else None,
        test=cohort("test-data", n_test),
        external={name: cohort("external-data", n_test, name) for name in outside},
    )
