"""SOFA by the hour, suspected infection, and Sepsis-3.

SOFA and Sepsis-3 follow mimic-code's definitions: the worst of the last 24 hours of each organ, what is not measured
counts 0, baseline 0. Suspicion: an antibiotic up to 72 h after a culture, or a culture up to 24 h after an antibiotic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from real_data.labels import TOLERANCE
from real_data.labels.early import rolling
from real_data.labels.failures import DAY, pf_ratio


def steps(
    values: Float[np.ndarray, "stays hours"], bounds: Sequence[float], above: bool
) -> Float[np.ndarray, "stays hours"]:
    """Points: one for each bound that a value reaches (above: >= bound) or falls short of (< bound); 0 if not known."""
    if above:
        return np.sum([values >= b - TOLERANCE for b in bounds], axis=0).astype(float)
    return np.sum([values < b - TOLERANCE for b in bounds], axis=0).astype(float)


def respiration(
    ratio: Float[np.ndarray, "stays hours"], ventilated: Bool[np.ndarray, "stays hours"]
) -> Float[np.ndarray, "stays hours"]:
    """P/F < 400: 1, < 300: 2, and on a ventilator < 200: 3, < 100: 4."""
    return steps(ratio, (400, 300), False) + steps(ratio, (200, 100), False) * ventilated


def circulation(
    mean_pressure: Float[np.ndarray, "stays hours"], given: Mapping[str, Float[np.ndarray, "stays hours"]]
) -> Float[np.ndarray, "stays hours"]:
    """MAP < 70: 1; dopamine or dobutamine: 2; dopamine > 5 or (nor)epinephrine: 3; dopamine > 15 or > 0.1 of those: 4.

    Rates in mcg/kg/min.
    """
    strong = np.maximum(given["norepinephrine"], given["epinephrine"])
    dopamine = given["dopamine"]
    points = (mean_pressure < 70 - TOLERANCE).astype(float)
    points[(dopamine > TOLERANCE) | (given["dobutamine"] > TOLERANCE)] = 2
    points[(dopamine > 5 + TOLERANCE) | (strong > TOLERANCE)] = 3
    points[(dopamine > 15 + TOLERANCE) | (strong > 0.1 + TOLERANCE)] = 4
    return points


def consciousness(
    eye: Float[np.ndarray, "stays hours"],
    verbal: Float[np.ndarray, "stays hours"],
    motor: Float[np.ndarray, "stays hours"],
    ventilated: Bool[np.ndarray, "stays hours"],
) -> Float[np.ndarray, "stays hours"]:
    """Glasgow 13-14: 1, 10-12: 2, 6-9: 3, below 6: 4; 0 where not all three are known.

    A verbal 1 under invasive ventilation is a tube, not a finding: such an hour scores 0, as in mimic-code.
    """
    total = eye + verbal + motor
    tube = ventilated & (verbal <= 1)
    return np.where(tube, 0.0, steps(total, (15, 13, 10, 6), False))


def renal(
    creatinine: Float[np.ndarray, "stays hours"], urine: Float[np.ndarray, "stays hours"]
) -> Float[np.ndarray, "stays hours"]:
    """Creatinine >= 1.2, 2, 3.5, 5 mg/dL: 1 to 4; urine of a whole day < 500 mL: 3, < 200 mL: 4."""
    day = rolling(urine, DAY, "sum")
    day[:, : DAY - 1] = np.nan
    by_urine = 3.0 * (day < 500 - TOLERANCE) + (day < 200 - TOLERANCE)
    return np.maximum(steps(creatinine, (1.2, 2, 3.5, 5), True), by_urine)


def sofa(
    seen: Mapping[str, Float[np.ndarray, "stays hours"]], given: Mapping[str, Float[np.ndarray, "stays hours"]]
) -> Float[np.ndarray, "stays hours"]:
    """SOFA by hour, 0-24: each organ's worst of this hour and the 23 before, summed."""
    tube = given["ventilation_invasive"] > 0
    ventilated = tube | (given["ventilation_noninvasive"] > 0)
    organs = [
        respiration(pf_ratio(seen["po2"], seen["fio2"], ventilated), ventilated),
        steps(seen["platelets"], (150, 100, 50, 20), False),
        steps(seen["bilirubin"], (1.2, 2, 6, 12), True),
        circulation(seen["map"], given),
        consciousness(seen["gcs_eye"], seen["gcs_verbal"], seen["gcs_motor"], tube),
        renal(seen["creatinine"], seen["urine"]),
    ]
    return np.sum([np.nan_to_num(rolling(organ, DAY, "max")) for organ in organs], axis=0)


def suspected(antibiotics: Sequence[float], cultures: Sequence[float]) -> list[float]:
    """Times of suspicion, in order: the earlier of each pair of an antibiotic and a culture near enough."""
    return sorted(
        {
            min(drug, culture)
            for drug in antibiotics
            for culture in cultures
            if -TOLERANCE <= drug - culture <= 72 + TOLERANCE or -TOLERANCE <= culture - drug <= 24 + TOLERANCE
        }
    )


def onset(score: Float[np.ndarray, "hours"], times: Sequence[float]) -> float:
    """When Sepsis-3 is first met: suspicion, and SOFA >= 2 from 48 h before to 24 h after it, both there. NaN: never.

    score: SOFA by hour, of the hours that exist; hour h counts as h. The later of suspicion and of the first such hour.
    """
    met = []
    hours = np.flatnonzero(score >= 2)
    for time in times:
        near = hours[(hours >= time - 48 - TOLERANCE) & (hours <= time + 24 + TOLERANCE)]
        if len(near):
            met.append(max(time, float(near[0])))
    return min(met, default=np.nan)


