"""Who deteriorates and who is stable, under stated definitions, and the spaces beside which latents are measured.

    regime      (worlds)  deteriorating: the true regime is "deteriorating" in some hour of the span; stable: in none
    throughout  (worlds)  deteriorating: as above; stable: the true regime is "stable" in every hour of the span, so
                          that stays which recover are in neither group
    events                deteriorating: dies in intensive care, or an early event is foretold in some hour of the span;
                          stable: neither, and leaves alive
    death                 deteriorating: dies in intensive care; stable: does not
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from simlab.cohort import Cohort
from simlab.models import hours

DEATH = "icu-mortality"
REGIME = "regime"  # the factor (stays, hours) of a world that has regimes
STABLE, DETERIORATING = 0, 1  # its values; others are neither

Groups = tuple[Bool[np.ndarray, "records"], Bool[np.ndarray, "records"]]


def definitions(cohort: Cohort, span: tuple[int, int]) -> dict[str, Groups]:
    """(deteriorating, stable) under every definition that the cohort has the data for."""
    found: dict[str, Groups] = {}
    first, end = span
    if REGIME in cohort.factors and cohort.factors[REGIME].ndim == 2:
        regime = cohort.factors[REGIME][:, first:end]
        worse = (regime == DETERIORATING).any(axis=1)
        found["regime"] = worse, ~worse
        found["throughout"] = worse, (regime == STABLE).all(axis=1)
    if DEATH not in cohort.labels:
        return found
    dies, lives = cohort.labels[DEATH] == 1, cohort.labels[DEATH] == 0
    early = [y[:, first:end] for name, y in cohort.labels.items() if cohort.tasks[name].level == "visit"]
    if early:
        event = np.any([(y == 1).any(axis=1) for y in early], axis=0)
        found["events"] = dies | event, lives & ~event
    found["death"] = dies, lives
    return found


def raw(train: Cohort, test: Cohort) -> Float[np.ndarray, "records hours features"]:
    """The test stays' measured channels hour by hour, the last value carried on, standardised as training's are.

    Statics and masks are left out: they do not move with the patient.
    """
    moving = [name for name, stream in train.streams.items() if stream.visits > 1]
    reading = hours.fit(train.inputs(None), ("hours",))
    shown = test.inputs(None)
    parts = []
    for name in moving:
        stream = shown.streams[name]
        centre, scale = reading.scaling[name]
        values = np.where(stream.observed, (hours.table(name, stream) - centre) / scale, 0.0)
        parts.append(hours.carried(values, stream.observed))
    found = np.concatenate(parts, axis=2)
    return np.pad(found, ((0, 0), (0, test.visits - found.shape[1]), (0, 0)), mode="edge")


def true_state(cohort: Cohort, name: str) -> Mapping[str, Float[np.ndarray, "records hours width"]]:
    """The world's own latent path by hour, where the cohort has one."""
    path = cohort.factors.get(name)
    return {} if path is None or path.ndim != 3 else {"true state": path.astype(np.float64)}
