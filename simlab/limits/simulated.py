"""Limits of the longitudinal world by Rao-Blackwell Monte Carlo, with their standard errors.

Records are drawn from the world with one cause of each kind (the law of all that bears on the label), and the AUC is
that of a score weighted by the exact risk given the same information: sum of p_i (1 - p_j) over the pairs that it
orders rightly. The generator is fixed, so a limit is a pure function of the specification. Where times are
regular and nothing is missing the closed form is given, and its standard error is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from simlab.environments import visits as world
from simlab.environments.visit_knobs import LongitudinalSpec
from simlab.errors import unknown
from simlab.evaluation.auc import weighted_auc
from simlab.limits.visits import DOMAINS, VIEWS, Evidence, closed_form, law_of, regular_auc, risk

RECORDS = 40_000  # standard error about 0.0008 at an AUC of .85
_SEED = 314159


@dataclass(frozen=True)
class Estimate:
    """An AUC and its Monte-Carlo standard error (0: exact)."""

    value: float
    se: float


def bayes(spec: LongitudinalSpec, domain: str, view: str, records: int = RECORDS) -> Estimate:
    """The Bayes limit of a view ("full", "image", "clinical") in a domain. Raises UnknownName."""
    _check(domain, view)
    if closed_form(spec, domain):
        return Estimate(regular_auc(spec, domain, view), 0.0)
    return simulated(spec, domain, view, records)


def simulated(spec: LongitudinalSpec, domain: str, view: str, records: int = RECORDS) -> Estimate:
    """The Bayes limit of a view by Monte Carlo alone."""
    _check(domain, view)
    law = law_of(spec, domain)
    shown = draw(_key(spec), domain, records).view(view)
    probability = risk(law, shown)
    area = weighted_auc(probability, probability)
    return Estimate(area.value, area.se)


def source_rule(spec: LongitudinalSpec, view: str, records: int = RECORDS) -> Estimate:
    """AUC in the target of the source's Bayes rule: what a perfect learner of the source keeps outside.

    The limit itself, exact where that is, when the target is like the source.
    """
    if spec == spec.without_shift():
        return bayes(spec, "source", view, records)
    _check("external", view)
    shown = draw(_key(spec), "external", records).view(view)
    score = risk(law_of(spec, "source"), shown)
    area = weighted_auc(score, risk(law_of(spec, "external"), shown))
    return Estimate(area.value, area.se)


def _key(spec: LongitudinalSpec) -> LongitudinalSpec:
    """What the draws depend on."""
    return replace(spec.along(), n_lab=2, n_unlab=2)


@lru_cache(maxsize=2)
def draw(spec: LongitudinalSpec, domain: str, records: int, seed: int = _SEED) -> Evidence:
    """What `records` records of this (one-cause) world show along beta."""
    of_factors, of_measures = np.random.default_rng(np.random.SeedSequence(seed)).spawn(2)
    factors = world.sample_factors(records, spec, domain, of_factors)
    return world.measure(factors, spec, domain, of_measures)[2]


def _check(domain: str, view: str) -> None:
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    if view not in VIEWS:
        raise unknown("view", view, VIEWS)
