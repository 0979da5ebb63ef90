"""Labels of the ICU world from its hourly course: the adapter's tasks, by the adapter's rules.

Written afresh from their definitions (docs/data.md, "Labels"), since simlab knows nothing of real data; stays written
as raw tables and read back by the adapter get the same labels (tests/real_data/test_icu_export.py). Early events:
1 if the event is on in one of the next hours, 0 if it is only known to be off there, NaN where nothing is known, where
it is on now, or (switches) where it was on when last known. Thresholds are compared with a tolerance of 1e-9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from simlab.cohort import Task

TINY = 1e-9
DAYS = (7, 14, 30, 90)
# Early events: hours ahead, whether only a beginning counts, meaning.
EARLY = {
    "respiratory-failure": (24, True, "PaO2/FiO2 below 200 within 24 h"),
    "severe-respiratory-failure": (24, True, "PaO2/FiO2 below 100 within 24 h"),
    "circulatory-failure": (8, True, "MAP <= 65 mmHg or a vasoactive drug, with lactate >= 2 mmol/L, within 8 h"),
    "kidney-failure": (48, True, "KDIGO stage 3 (creatinine > 4 mg/dL) within 48 h"),
    "severe-meld": (48, False, "MELD of 30 or more within 48 h"),
}

@dataclass(frozen=True, eq=False)
class Course:
    """What labels are made of. Hours from admission to intensive care; hours of `seen` and `given` from `out` on are
    nothing. seen: values by the hour, NaN where not charted; given: treatments by their channel, 0 where not."""

    died: Float[np.ndarray, " n"]  # in hospital: 1, 0
    death: Float[np.ndarray, " n"]  # hour of a death in hospital, else NaN
    gone: Float[np.ndarray, " n"]  # hour of any death (whole days for one at home), else NaN
    followed: Float[np.ndarray, " n"]  # until when a death would be known
    out: Int[np.ndarray, " n"]
    seen: Mapping[str, Float[np.ndarray, "n hours"]]
    given: Mapping[str, Float[np.ndarray, "n hours"]]
    cultures: Sequence[Sequence[float]]
    antibiotics: Sequence[Sequence[float]]


def tasks(window: int, hours: int) -> dict[str, Task]:
    """The fifteen tasks by name, as the adapter describes them. hours: how far sepsis is looked for."""
    told = {
        "hospital-mortality": f"dies in hospital after the first {window} hours",
        "icu-mortality": f"dies in intensive care after the first {window} hours",
        **{f"mortality-{d}d": f"dies within {d} days of admission to intensive care" for d in DAYS},
        "stay-over-7d": "stays in intensive care for more than 168 hours",
        "sepsis": f"meets Sepsis-3 first after hour {window}, by hour {hours} of the stay",
        "mortality-at-24h": "in intensive care at hour 24, dies there",
    }
    found = {name: Task(name, "binary", "record", float(window), None, said) for name, said in told.items()}
    hourly = {"decompensation": (24, False, "dies in intensive care within 24 h"), **EARLY}
    return found | {name: Task(name, "binary", "visit", None, float(h), said) for name, (h, _, said) in hourly.items()}


def labels(course: Course, window: int, visits: int) -> dict[str, Float[np.ndarray, "..."]]:
    """Every task's labels, (n,) or by hour (n, visits); NaN where there is none."""
    here = (course.death <= course.out).astype(float)
    found = {"hospital-mortality": course.died.copy(), "icu-mortality": here}
    for days in DAYS:
        lost = np.isnan(course.gone) & (course.followed < 24 * days - TINY)
        found[f"mortality-{days}d"] = np.where(lost, np.nan, course.gone <= 24 * days + TINY)
    found["stay-over-7d"] = (course.out > 168).astype(float)
    found["sepsis"] = sepsis(course, window)
    found["mortality-at-24h"] = np.where(course.out >= 24, here, np.nan)
    exists = np.arange(visits) < course.out[:, None]
    soon = (course.death[:, None] <= np.arange(1, visits + 1) + 24 + TINY) & (here[:, None] == 1)
    by_hour = {"decompensation": soon.astype(float)}
    by_hour |= {name: ahead(event(course, name), *EARLY[name][:2])[:, :visits] for name in EARLY}
    return found | {name: np.where(exists, y, np.nan) for name, y in by_hour.items()}


def ahead(on: Float[np.ndarray, "n hours"], hours: int, switches: bool) -> Float[np.ndarray, "n hours"]:
    """Labels of events that are 1, 0 or NaN (not known) by the hour."""
    n, size = on.shape
    best = np.full((n, size), np.nan)
    for step in range(1, min(hours, size - 1) + 1):  # the worst that is known of the next hours
        best[:, :-step] = np.fmax(best[:, :-step], on[:, step:])
    if switches:
        best[(best == 1) & (carried(on) == 1)] = np.nan
    best[on == 1] = np.nan
    return best


def carried(values: Float[np.ndarray, "n hours"]) -> Float[np.ndarray, "n hours"]:
    """The last value known by each hour."""
    out = values.copy()
    for t in range(1, out.shape[1]):
        out[:, t] = np.where(np.isnan(out[:, t]), out[:, t - 1], out[:, t])
    return out


def over(values: Float[np.ndarray, "n hours"], hours: int, how: str) -> Float[np.ndarray, "n hours"]:
    """min, max or sum of what is known in this hour and the hours - 1 before; NaN where nothing is."""
    known = ~np.isnan(values)
    count = np.cumsum(known, axis=1)
    if how == "sum":
        total = np.cumsum(np.where(known, values, 0.0), axis=1)
        found = total - _late(total, hours, 0.0)
    else:
        best, blank = (np.minimum, np.inf) if how == "min" else (np.maximum, -np.inf)
        found, span = np.where(known, values, blank), 1
        while span < hours:  # windows of twice the length from two that overlap
            step = min(span, hours - span)
            found, span = best(found, _late(found, step, blank)), span + step
    return np.where(count > _late(count, hours, 0), found, np.nan)


def _late(values: np.ndarray, by: int, blank: float) -> np.ndarray:
    """The values of so many hours before."""
    out = np.full_like(values, blank)
    out[:, by:] = values[:, : max(values.shape[1] - by, 0)]
    return out


def event(course: Course, name: str) -> Float[np.ndarray, "n hours"]:
    """An early task's events by the hour: 1, 0, or NaN where not known or after the stay."""
    seen, given = course.seen, course.given
    replaced = np.logical_or.accumulate(given["crrt"] > 0, axis=1)
    if name.endswith("respiratory-failure"):
        ratio = pf_ratio(seen, given["ventilation_invasive"] > 0)
        bound = 100 if name.startswith("severe") else 200
        on = np.where(np.isnan(ratio), np.nan, ratio < bound - TINY)
    elif name == "circulatory-failure":
        drug, lactate, pressure = given["norepinephrine"] > 0, seen["lactate"], seen["map"]
        bad = (drug | (pressure <= 65 + TINY)) & (lactate >= 2 - TINY)
        good = ~drug & (pressure > 65 + TINY) & (lactate < 2 - TINY)
        on = np.where(bad, 1.0, np.where(good, 0.0, np.nan))
    elif name == "kidney-failure":
        on = kidney(seen, replaced)
    else:
        shown = np.where(replaced, 4.0, carried(seen["creatinine"]))
        parts = [np.log(np.maximum(v, 1)) for v in (carried(seen["bilirubin"]), carried(seen["inr"]), shown)]
        score = 3.78 * parts[0] + 11.2 * parts[1] + 9.57 * parts[2] + 6.43
        fresh = ~np.all([np.isnan(seen[c]) for c in ("bilirubin", "inr", "creatinine")], axis=0)
        on = np.where(fresh & ~np.isnan(score), (score >= 30 - TINY).astype(float), np.nan)
    return np.where(np.arange(on.shape[1]) < course.out[:, None], on, np.nan)


def pf_ratio(seen: Mapping[str, np.ndarray], ventilated: Bool[np.ndarray, "n hours"]) -> Float[np.ndarray, "n hours"]:
    """PaO2 over the last known inspired fraction; without any, room air for one who breathes alone."""
    share = carried(seen["fio2"])
    return seen["po2"] / (np.where(np.isnan(share) & ~ventilated, 21.0, share) / 100)


def kidney(seen: Mapping[str, np.ndarray], replaced: Bool[np.ndarray, "n hours"]) -> Float[np.ndarray, "n hours"]:
    """Kidney failure by replacement so far, creatinine, or urine."""
    creatinine, urine = seen["creatinine"], seen["urine"]
    ratio = creatinine / over(creatinine, 169, "min")
    injured = (creatinine - over(creatinine, 49, "min") >= 0.3 - TINY) | (ratio >= 1.5 - TINY)
    by_blood = (ratio >= 3 - TINY) | ((creatinine > 4 + TINY) & injured)
    weight = carried(seen["weight"])

    def rate(hours: int) -> np.ndarray:
        total = over(urine, hours, "sum") / hours / weight
        total[:, : hours - 1] = np.nan
        return total

    dry = over(urine, 12, "sum")
    dry[:, :11] = np.nan
    failing = replaced | by_blood | (rate(24) < 0.3 - TINY) | (dry <= TINY)
    return np.where(failing, 1.0, np.where(~np.isnan(creatinine) | ~np.isnan(rate(6)), 0.0, np.nan))


def organ_score(seen: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> Float[np.ndarray, "n hours"]:
    """SOFA by the hour: each organ's worst of 24 hours, summed; what is not measured counts 0."""
    tube = given["ventilation_invasive"] > 0
    ratio = pf_ratio(seen, tube)
    short = [1.0 * (ratio < bound - TINY) for bound in (400, 300, 200, 100)]
    lungs = short[0] + short[1] + tube * (short[2] + short[3])
    clotting = sum(1.0 * (seen["platelets"] < b - TINY) for b in (150, 100, 50, 20))
    liver = sum(1.0 * (seen["bilirubin"] >= b - TINY) for b in (1.2, 2, 6, 12))
    drug = given["norepinephrine"]
    heart = np.where(drug > 0.1 + TINY, 4.0, np.where(drug > TINY, 3.0, 1.0 * (seen["map"] < 70 - TINY)))
    total = seen["gcs_eye"] + seen["gcs_verbal"] + seen["gcs_motor"]
    brain = sum(1.0 * (total < b - TINY) for b in (15, 13, 10, 6)) * ~(tube & (seen["gcs_verbal"] <= 1))
    day = over(seen["urine"], 24, "sum")
    day[:, :23] = np.nan
    by_urine = 3.0 * (day < 500 - TINY) + (day < 200 - TINY)
    renal = np.maximum(sum(1.0 * (seen["creatinine"] >= b - TINY) for b in (1.2, 2, 3.5, 5)), by_urine)
    return np.sum([over(s, 24, "max") for s in (lungs, clotting, liver, heart, brain, renal)], axis=0)


def sepsis(course: Course, window: int) -> Float[np.ndarray, " n"]:
    """1 where Sepsis-3 is first met after the window, 0 where never, NaN where before its end.

    Suspicion: an antibiotic up to 72 h after a culture, or a culture up to 24 h after an antibiotic; with a SOFA of 2
    or more from 48 h before it to 24 h after.
    """
    score = organ_score(course.seen, course.given)
    found = np.zeros(len(score))
    for i, hours in enumerate(np.minimum(course.out, score.shape[1]).tolist()):
        bad = np.flatnonzero(score[i, :hours] >= 2)
        met = [np.inf]
        for drug in course.antibiotics[i]:
            for culture in course.cultures[i]:
                if -24 - TINY <= drug - culture <= 72 + TINY:
                    at = min(drug, culture)
                    near = bad[(bad >= at - 48 - TINY) & (bad <= at + 24 + TINY)]
                    met += [max(at, float(near[0]))] if len(near) else []
        found[i] = np.nan if min(met) <= window else float(min(met) <= hours)
    return found
