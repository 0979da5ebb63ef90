"""ICU stays as MIMIC-IV tells them: raw readings and intervals, and the course of each stay, which `export` writes."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
from jaxtyping import Float

from simlab.cohort import Events
from simlab.environments.icu_channels import ACTIONS, CHANNELS, TREATMENTS, UNDOSED
from simlab.environments.icu_dynamics import IcuFactors
from simlab.environments.icu_measure import Charts, amount
from simlab.environments.icu_outcomes import Ends

BEGAN = datetime(2150, 1, 1)
COLUMNS = ("subject_id", "hadm_id", "first_careunit", "intime", "outtime", "admittime", "dischtime", "deathtime",
           "dod", "gender", "anchor_age", "anchor_year", "admission_type", "hospital_expire_flag",
           "last_discharge")  # fmt: skip
_PLACES = {"urine": 1, "weight": 1, "height": 0, "gcs_eye": 0, "gcs_verbal": 0, "gcs_motor": 0, "rass": 0}


def events_of(factors: IcuFactors, charts: Charts) -> Events:
    """Every reading (in the middle of its hour) and the start and stop of every interval, by stay and time."""
    stay, hour, channel = np.nonzero(charts.seen)
    places = 10.0 ** np.array([_PLACES.get(c.name, c.decimals) for c in CHANNELS])[channel]
    value = np.rint(charts.values[stay, hour, channel].astype(np.float64) * places) / places
    parts = [(stay, hour + 0.5, np.array([f"{c.name}//{c.itemid}" for c in CHANNELS])[channel], value,
              np.array([c.unit for c in CHANNELS])[channel])]  # fmt: skip
    visits = charts.values.shape[1]
    on = factors.paths.on[:, :visits] & (np.arange(visits) < factors.paths.out[:, None])[:, :, None]
    edge = np.diff(np.pad(on, ((0, 0), (1, 1), (0, 0))).astype(np.int8), axis=1)
    item = {name: (unit, number) for name, unit, number in ACTIONS}
    for k, treatment in enumerate(TREATMENTS):
        for name, one in treatment.gives:
            speed = np.full(len(on), one) if name in UNDOSED else amount(one, factors.dose[:, k])
            for sign, end in ((1, "start"), (-1, "stop")):
                stay, hour = np.nonzero(edge[:, :, k] == sign)
                code = np.full(len(stay), f"{name}//{item[name][1]}//{end}")
                parts.append((stay, hour.astype(float), code, speed[stay], np.full(len(stay), item[name][0])))
    stay, time, code, value, unit = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((code, time, stay))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(stay, minlength=len(on)))]).astype(np.int64)
    return Events(offsets, time[order], code[order], value[order], unit[order])


def told(
    factors: IcuFactors, found: Ends, cultured: list[list[float]], record: np.ndarray
) -> dict[str, object]:
    """The provenance that export reads: by stay, times and outcomes as the raw tables have them."""
    keys = [str(r) for r in record.tolist()]
    out = factors.paths.out.astype(float)
    return {
        "layout": "mimic-iv",
        "course": {"columns": list(COLUMNS),
                   "stays": {key: _row(key, factors.static[i], out[i], found, i) for i, key in enumerate(keys)}},
        "cultures": dict(zip(keys, cultured, strict=True)),
        "ends": dict(zip(keys, out.tolist(), strict=True)),
        "discharges": dict(zip(keys, found.discharge.tolist(), strict=True)),
    }  # fmt: skip


def _row(key: str, static: Float[np.ndarray, " 4"], out: float, found: Ends, i: int) -> list[str | None]:
    """One stay's course, in the order of COLUMNS."""
    came = BEGAN + timedelta(hours=int(found.clock[i]))
    left, death = came + timedelta(hours=float(found.discharge[i])), found.death[i]
    died = None if np.isnan(death) else came + timedelta(hours=float(death))
    inside = bool(found.in_hospital[i])
    return [key, key, "Medical Intensive Care Unit", str(came), str(came + timedelta(hours=out)),
            str(came - timedelta(minutes=round(float(static[2]) * 60))), str(left), str(died) if inside else None,
            None if died is None else str(died.date()), "M" if static[1] else "F", str(int(static[0])),
            str(came.year), "EW EMER." if static[3] else "ELECTIVE", str(int(inside)), str(left)]  # fmt: skip
