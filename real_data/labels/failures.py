"""What an hour's event is: respiratory, circulatory and kidney failure, and a high MELD.

Each gives 1, 0 or NaN (not known) by hour. Inputs are hourly values (NaN: not measured), treatments 0 where not given.
Source: the outcome definitions of eth-mds/icu-features as collected in the project's fact sheets.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from real_data.labels import TOLERANCE
from real_data.labels.early import last_known, rolling

ROOM_AIR = 21.0  # % of oxygen in room air
DAY, WEEK = 24, 168


def pf_ratio(
    po2: Float[np.ndarray, "stays hours"],
    fio2: Float[np.ndarray, "stays hours"],
    ventilated: Bool[np.ndarray, "stays hours"],
) -> Float[np.ndarray, "stays hours"]:
    """PaO2 (mmHg) over the inspired fraction, where PaO2 is measured.

    fio2 in percent: the last one that was charted. Where none was: room air for one who is not ventilated; not known
    for one who is.
    """
    fraction = last_known(fio2)
    fraction = np.where(np.isnan(fraction) & ~ventilated, ROOM_AIR, fraction)
    return po2 / (fraction / 100)


def below(values: Float[np.ndarray, "stays hours"], threshold: float) -> Float[np.ndarray, "stays hours"]:
    """1 where value < threshold, 0 where it is known and is not."""
    return np.where(np.isnan(values), np.nan, (values < threshold - TOLERANCE).astype(float))


def circulatory(
    mean_pressure: Float[np.ndarray, "stays hours"],
    vasoactive: Bool[np.ndarray, "stays hours"],
    lactate: Float[np.ndarray, "stays hours"],
) -> Float[np.ndarray, "stays hours"]:
    """1 where MAP <= 65 mmHg or a vasoactive drug runs, and lactate >= 2 mmol/L; 0 where both are good; else NaN."""
    low = vasoactive | (mean_pressure <= 65 + TOLERANCE)
    high = lactate >= 2 - TOLERANCE
    good = ~vasoactive & (mean_pressure > 65 + TOLERANCE) & (lactate < 2 - TOLERANCE)
    return np.where(low & high, 1.0, np.where(good, 0.0, np.nan))


def kidney_injury(creatinine: Float[np.ndarray, "stays hours"]) -> Float[np.ndarray, "stays hours"]:
    """KDIGO stage by creatinine (mg/dL), 0-3, where it is measured (as in mimic-code's kdigo_stages).

    The baseline is the lowest of the last 7 days. 3: >= 3 x it, or >= 4.0 with a rise (>= 0.3 in 48 h, or 1.5 x);
    2: >= 2 x; 1: a rise.
    """
    ratio = creatinine / rolling(creatinine, WEEK + 1, "min")
    rise = creatinine - rolling(creatinine, 2 * DAY + 1, "min")
    injured = (rise >= 0.3 - TOLERANCE) | (ratio >= 1.5 - TOLERANCE)
    stage = injured.astype(float)
    stage[ratio >= 2 - TOLERANCE] = 2
    stage[(ratio >= 3 - TOLERANCE) | ((creatinine >= 4 - TOLERANCE) & injured)] = 3
    return np.where(np.isnan(creatinine), np.nan, stage)


def urine_rate(
    urine: Float[np.ndarray, "stays hours"], weight: Float[np.ndarray, "stays hours"], hours: int
) -> Float[np.ndarray, "stays hours"]:
    """Urine (mL) of the last `hours` hours in mL/kg/h; NaN before that hour, without a weight, or none charted."""
    total = rolling(urine, hours, "sum")
    total[:, : hours - 1] = np.nan
    return total / hours / weight


def kidney_injury_by_urine(
    urine: Float[np.ndarray, "stays hours"], weight: Float[np.ndarray, "stays hours"]
) -> Float[np.ndarray, "stays hours"]:
    """KDIGO stage by urine, 0-3. 3: < 0.3 mL/kg/h for 24 h or none for 12 h; 2: < 0.5 for 12 h; 1: < 0.5 for 6 h."""
    six, twelve, day = (urine_rate(urine, weight, h) for h in (6, 12, DAY))
    dry = rolling(urine, 12, "sum")
    dry[:, :11] = np.nan
    stage = np.where(np.isnan(six), np.nan, (six < 0.5 - TOLERANCE).astype(float))
    stage[(stage < 2) & (twelve < 0.5 - TOLERANCE)] = 2
    stage[(day < 0.3 - TOLERANCE) | (dry <= TOLERANCE)] = 3
    return stage


def kidney(
    creatinine: Float[np.ndarray, "stays hours"],
    urine: Float[np.ndarray, "stays hours"],
    weight: Float[np.ndarray, "stays hours"],
    replaced: Bool[np.ndarray, "stays hours"],
) -> Float[np.ndarray, "stays hours"]:
    """The early-event kidney failure: renal replacement so far; creatinine >= 3 x the lowest of 7 days, or > 4 mg/dL
    (not >=, as in KDIGO) with a rise; urine < 0.3 mL/kg/h for 24 h; none for 12 h. NaN where neither is known."""
    ratio = creatinine / rolling(creatinine, WEEK + 1, "min")
    injured = kidney_injury(creatinine) >= 1
    by_blood = (ratio >= 3 - TOLERANCE) | ((creatinine > 4 + TOLERANCE) & injured)
    by_urine = kidney_injury_by_urine(urine, weight)
    ever = np.maximum.accumulate(replaced, axis=1)
    known = ~np.isnan(creatinine) | ~np.isnan(by_urine)
    failing = ever | by_blood | (by_urine == 3)
    return np.where(failing, 1.0, np.where(known, 0.0, np.nan))


def meld(
    bilirubin: Float[np.ndarray, "stays hours"],
    inr: Float[np.ndarray, "stays hours"],
    creatinine: Float[np.ndarray, "stays hours"],
    replaced: Bool[np.ndarray, "stays hours"],
) -> Float[np.ndarray, "stays hours"]:
    """3.78 ln bilirubin + 11.2 ln INR + 9.57 ln creatinine + 6.43, each at least 1 (mg/dL, 1, mg/dL).

    Creatinine counts as 4 once the kidney was replaced. Known in an hour in which one of the three is measured, with
    the last known of the others.
    """
    ever = np.maximum.accumulate(replaced, axis=1)
    measured = ~(np.isnan(bilirubin) & np.isnan(inr) & np.isnan(creatinine))
    shown = np.where(ever, 4.0, last_known(creatinine))
    logs = [np.log(np.fmax(last_known(v), 1.0) + 0 * last_known(v)) for v in (bilirubin, inr, shown)]
    return np.where(measured, 3.78 * logs[0] + 11.2 * logs[1] + 9.57 * logs[2] + 6.43, np.nan)
