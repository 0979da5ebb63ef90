"""The eight yes-or-no outcomes of a stay and the seven early-event tasks, with their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from real_data.labels import TOLERANCE, failures, outcomes, sepsis
from real_data.labels.early import early_label, last_known
from simlab.cohort import Task

DEATH_DAYS = (7, 14, 30, 90)
AT = 24  # the hour of the early mortality task
# Circulatory failure counts these; phenylephrine is not in the published list.
VASOACTIVE = ("dobutamine", "norepinephrine", "epinephrine", "milrinone", "dopamine", "vasopressin")
# Early events: name, hours ahead, only the beginning of an event, what it is.
EARLY = (
    ("respiratory-failure", 24, True, "PaO2/FiO2 below 200 within 24 h"),
    ("severe-respiratory-failure", 24, True, "PaO2/FiO2 below 100 within 24 h"),
    ("circulatory-failure", 8, True, "MAP <= 65 mmHg or a vasoactive drug, with lactate >= 2 mmol/L, within 8 h"),
    ("kidney-failure", 48, True, "KDIGO stage 3 (creatinine > 4 mg/dL) within 48 h"),
    ("severe-meld", 48, False, "MELD of 30 or more within 48 h"),
)


@dataclass(frozen=True)
class Course:
    """What labels are made of. Hours count from in-time; NaN: not known. Treatments are 0 where not given."""

    died: Float[np.ndarray, "stays"]  # in hospital: 1, 0
    death: Float[np.ndarray, "stays"]  # hour of a death in hospital
    gone: Float[np.ndarray, "stays"]  # hour of any death
    followed: Float[np.ndarray, "stays"]  # until when a death would be known
    out: Float[np.ndarray, "stays"]  # hour of leaving intensive care
    seen: Mapping[str, Float[np.ndarray, "stays hours"]]
    given: Mapping[str, Float[np.ndarray, "stays hours"]]
    cultures: Sequence[Sequence[float]] | None = None  # hours of each stay's cultures; None: nobody noted any
    antibiotics: Sequence[Sequence[float]] = ()  # hours at which each stay's antibiotics start

    @property
    def hours(self) -> Int[np.ndarray, "stays"]:
        """Hours that exist: until death or out-time."""
        return np.ceil(np.fmin(self.out, self.death)).astype(np.int64).clip(1)


def described(window: int, hours: int) -> dict[str, Task]:
    """The tasks by name. window: hours of input of the stay's outcomes; hours: how far sepsis is looked for."""
    told = {
        "hospital-mortality": f"dies in hospital after the first {window} hours",
        "icu-mortality": f"dies in intensive care after the first {window} hours",
        **{f"mortality-{d}d": f"dies within {d} days of admission to intensive care" for d in DEATH_DAYS},
        "stay-over-7d": "stays in intensive care for more than 168 hours",
        "sepsis": f"meets Sepsis-3 first after hour {window}, by hour {hours} of the stay",
    }
    tasks = {name: Task(name, "binary", "record", float(window), None, meaning) for name, meaning in told.items()}
    tasks["mortality-at-24h"] = Task(
        "mortality-at-24h", "binary", "record", float(AT), None, "in intensive care at hour 24, dies there"
    )
    tasks["decompensation"] = Task(
        "decompensation", "binary", "visit", None, 24.0, "dies in intensive care within 24 h"
    )
    for name, ahead, _, meaning in EARLY:
        tasks[name] = Task(name, "binary", "visit", None, float(ahead), meaning)
    return tasks


def labels(course: Course, window: int, visits: int) -> dict[str, Float[np.ndarray, "..."]]:
    """Every task's labels: (stays,) or, hour by hour, (stays, visits); NaN where there is none."""
    in_care = outcomes.died_in_care(course.died, course.death, course.out)
    found = {
        "hospital-mortality": course.died.copy(),
        "icu-mortality": in_care,
        **{f"mortality-{d}d": outcomes.died_within(course.gone, course.followed, d * outcomes.DAY) for d in DEATH_DAYS},
        "stay-over-7d": outcomes.longer_than(course.out, 7 * outcomes.DAY),
        "sepsis": sepsis_after(course, window),
    }
    there = np.fmin(course.out, course.death) >= AT - TOLERANCE
    found["mortality-at-24h"] = np.where(there, in_care, np.nan)
    exists = np.arange(visits) < course.hours[:, None]
    by_hour = {"decompensation": outcomes.dies_soon(course.death, in_care, visits, 24.0)}
    for name, ahead, switches_only, _ in EARLY:
        by_hour[name] = early_label(events(course, name), ahead, switches_only)[:, :visits]
    return found | {name: np.where(exists, label, np.nan) for name, label in by_hour.items()}


def events(course: Course, name: str) -> Float[np.ndarray, "stays hours"]:
    """An early task's hourly events; NaN after the end of the stay."""
    seen, given = course.seen, course.given
    replaced = (given["crrt"] > 0) | (given["dialysis"] > 0)
    if name.endswith("respiratory-failure"):
        ventilated = (given["ventilation_invasive"] > 0) | (given["ventilation_noninvasive"] > 0)
        ratio = failures.pf_ratio(seen["po2"], seen["fio2"], ventilated)
        found = failures.below(ratio, 100 if name.startswith("severe") else 200)
    elif name == "circulatory-failure":
        vasoactive = np.any([given[drug] > 0 for drug in VASOACTIVE], axis=0)
        found = failures.circulatory(seen["map"], vasoactive, seen["lactate"])
    elif name == "kidney-failure":
        found = failures.kidney(seen["creatinine"], seen["urine"], last_known(seen["weight"]), replaced)
    else:
        score = failures.meld(seen["bilirubin"], seen["inr"], seen["creatinine"], replaced)
        found = np.where(np.isnan(score), np.nan, (score >= 30 - TOLERANCE).astype(float))
    return np.where(np.arange(found.shape[1]) < course.hours[:, None], found, np.nan)


def sepsis_after(course: Course, window: int) -> Float[np.ndarray, "stays"]:
    """1 where Sepsis-3 is first met after the window, 0 where never; NaN where before it, or no cultures are known."""
    if course.cultures is None:
        return np.full(len(course.died), np.nan)
    score = sepsis.sofa(course.seen, course.given)
    found = np.zeros(len(score))
    for i, end in enumerate(course.hours):
        times = sepsis.suspected(course.antibiotics[i], course.cultures[i])
        first = sepsis.onset(score[i, : min(end, score.shape[1])], times)
        found[i] = np.nan if first <= window else float(first <= min(end, score.shape[1]))
    return found
