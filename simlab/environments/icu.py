"""The ICU world: hourly trajectories of intensive-care stays from known dynamics. Equations: docs/icu.md.

    state      five organs' severities, linear-Gaussian with a known Markov chain of regimes        (`icu_law`)
    treatment  five, given by a policy that follows what was charted, or the state; they act         (`icu_dynamics`)
    charts     65 channels in panels, taken more often of the sick; 26 of treatments; statics        (`icu_measure`)
    ends       death and discharge follow the state; then the ward, and home                         (`icu_outcomes`)
    labels     the fifteen tasks of the MIMIC-IV adapter, by its rules                               (`icu_labels`)

Streams, channels, units, tasks and times are those of `real_data.mimic_iv`: one trainer runs on both. With the knob
`events` the cohort can be written out as that release's raw tables. Random numbers: each group of variables has its
own child of the generator, filled stay by stay; labels and outcomes do not disturb what is charted.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from simlab.cohort import Cohort, Stream
from simlab.environments import icu_labels, icu_law, icu_measure, icu_outcomes, icu_raw
from simlab.environments.icu_channels import ACTIONS, CHANNELS, ORGANS, STATIC, TREATMENTS
from simlab.environments.icu_dynamics import IcuFactors, sample_factors
from simlab.environments.icu_knobs import IcuSpec
from simlab.environments.icu_law import AHEAD, DETERIORATING, DOMAINS, WINDOW, Law
from simlab.errors import unknown

AREAS_STAYS = 600  # that best areas are taken over: 25 s of a core, standard errors of .009 to .024

__all__ = ["DOMAINS", "areas", "limit", "limits", "observe", "sample_factors"]


def observe(
    factors: IcuFactors, spec: IcuSpec, domain: str, rng: np.random.Generator, *, first_record: int = 0,
    labelled: bool = True,
) -> Cohort:
    """The cohort that shows these stays: streams "state", "action" (by the hour, hour h at time h + 1) and "static".

    factors: state (NaN never; 0 beyond the stay), regime (-1 beyond), deterioration (the first such hour, -1: none
    shown), dose, effect (of an hour of each treatment on each organ, at the stay's own dose), frailty. No task has an
    exact risk, so there is none (`simlab.limits.icu` estimates it). Raises UnknownName for a domain that is not there.
    """
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    law = icu_law.law_of(spec, domain)
    of_charts, of_outcomes = rng.spawn(2)
    charts = icu_measure.measure(factors, law, of_charts)
    n, visits = len(factors), spec.max_hours
    length = np.minimum(factors.paths.out, visits).astype(np.int64)
    record = np.arange(first_record, first_record + n, dtype=np.int64)
    provenance: dict[str, Any] = {"world": "icu", "domain": domain, "knobs": spec.stage("source"),
                                  "time": "hours since in-time; hour h is [h, h + 1) and carries time h + 1",
                                  "licence": "Synthetic (simlab's ICU world): no patient is behind it",
                                  "organs": list(ORGANS), "regimes": list(icu_law.REGIMES),
                                  "treatments": [t.name for t in TREATMENTS]}
    answers: dict[str, Any] = {}
    if labelled:
        course, found = icu_outcomes.whole_course(factors, charts.grid, spec.gamma_d, of_outcomes)
        tasks = icu_labels.tasks(WINDOW, spec.max_hours + AHEAD)
        answers = {"tasks": tasks, "labels": icu_labels.labels(course, WINDOW, visits)}
        provenance |= {"knobs": asdict(spec)}
        if spec.events == "on":
            provenance |= icu_raw.told(factors, found, list(course.cultures), record)
    return Cohort(
        streams=streams(factors, charts, length),
        events=icu_raw.events_of(factors, charts) if spec.events == "on" else None,
        length=length,
        record=record,
        subject=record.copy(),
        site=np.full(n, domain),
        factors=latents(factors, law, length, visits),
        provenance=provenance,
        **answers,
    )


def streams(factors: IcuFactors, charts: icu_measure.Charts, length: np.ndarray) -> dict[str, Stream]:
    """The three streams."""
    n, visits = charts.values.shape[:2]
    time = np.tile(np.arange(1, visits + 1, dtype=np.float64), (n, 1))
    exists = np.arange(visits) < length[:, None]
    return {
        "state": Stream(charts.values, charts.seen, tuple(c.name for c in CHANNELS),
                        tuple("mL" if c.name == "urine" else c.unit for c in CHANNELS), time),
        "action": Stream(icu_measure.given(factors.paths, factors.dose, visits),
                         np.repeat(exists[:, :, None], len(ACTIONS), axis=2), tuple(a[0] for a in ACTIONS),
                         tuple(a[1] for a in ACTIONS), time.copy()),
        "static": Stream(factors.static[:, None].astype(np.float32), np.ones((n, 1, len(STATIC)), bool),
                         tuple(s[0] for s in STATIC), tuple(s[1] for s in STATIC)),
    }  # fmt: skip


def latents(factors: IcuFactors, law: Law, length: np.ndarray, visits: int) -> dict[str, np.ndarray]:
    """The true factors, of the hours that are shown."""
    exists = np.arange(visits) < length[:, None]
    regime = np.where(exists, factors.paths.regime[:, :visits], -1).astype(np.int8)
    sick = regime == DETERIORATING
    return {
        "state": np.where(exists[:, :, None], factors.paths.x[:, :visits], 0).astype(np.float32),
        "regime": regime,
        "deterioration": np.where(sick.any(axis=1), sick.argmax(axis=1), -1).astype(np.int64),
        "dose": factors.dose,
        "effect": factors.dose[:, :, None] * law.effect,
        "frailty": icu_law.frailty(factors.static),
    }


def limit(spec: IcuSpec, domain: str, view: str) -> float | None:
    """None: no area under the curve is known in closed form here (`simlab.limits.icu` has Monte Carlo ones)."""
    return None


def areas(spec: IcuSpec, domain: str, share: float = 1.0) -> dict[str, float]:
    """The best AUROC of each task at hour 24, by particles on AREAS_STAYS stays (or a share of them, for a timing); no
    task of which one class was met."""
    from simlab.limits import icu_tasks

    found = icu_tasks.areas(spec, max(1, round(AREAS_STAYS * share)), domain=domain)
    return {task: area["auc"] for task, area in found.items() if area["auc"] is not None}


def limits(spec: IcuSpec) -> dict[str, object]:
    """What is best possible in this world: forecasts, treatment effects, tasks."""
    from simlab.limits import icu as known

    return known.limits(spec)
