"""What is read of MIMIC-IV, as data: variables, their items, units, ranges, and how an hour is summed up.

A variable may merge items (an arterial and a cuff pressure). Ranges are inclusive, in the variable's own unit, and are
applied to every single value before anything is averaged. `units` are the spellings that are taken (compared without
case; a missing unit is taken as the item's usual one); any other is dropped and counted, never averaged in.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One itemid of one table; value in the variable's unit = stored * factor + offset."""

    itemid: int
    units: tuple[str, ...]
    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Variable:
    """One channel of the state stream. how: 'mean' or 'sum' over the hour."""

    name: str
    unit: str
    low: float
    high: float
    table: str
    items: tuple[Item, ...]
    how: str = "mean"


def _chart(name: str, unit: str, low: float, high: float, units: str, *itemids: int) -> Variable:
    items = tuple(Item(i, tuple(units.split("|"))) for i in itemids)
    return Variable(name, unit, low, high, "icu/chartevents", items)


def _lab(name: str, unit: str, low: float, high: float, units: str, *itemids: int) -> Variable:
    items = tuple(Item(i, tuple(units.split("|"))) for i in itemids)
    return Variable(name, unit, low, high, "hosp/labevents", items)


STATE = (
    _chart("hr", "bpm", 1, 300, "bpm", 220045),
    _chart("sbp", "mmHg", 1, 400, "mmhg", 220050, 220179, 225309),
    _chart("dbp", "mmHg", 1, 300, "mmhg", 220051, 220180, 225310),
    _chart("map", "mmHg", 1, 300, "mmhg", 220052, 220181, 225312),
    _chart("rr", "insp/min", 1, 70, "insp/min", 220210, 224690),
    _chart("spo2", "%", 50, 100, "%", 220277),
    Variable(
        "temp",
        "C",
        32,
        42,
        "icu/chartevents",
        (Item(223762, ("°c", "c", "deg c")), Item(223761, ("°f", "f", "deg f"), 1 / 1.8, -32 / 1.8)),
    ),
    _chart("gcs_eye", "1", 1, 4, "", 220739),
    _chart("gcs_verbal", "1", 1, 5, "", 223900),
    _chart("gcs_motor", "1", 1, 6, "", 223901),
    # Fractions (0.21 to 1) are turned into percent in `binning`; what lies between 1 and 21 is neither.
    _chart("fio2", "%", 21, 100, "%", 223835),
    _chart("glucose_bedside", "mg/dL", 5, 2500, "mg/dl", 225664, 220621, 226537),
    _lab("glucose", "mg/dL", 5, 2500, "mg/dl", 50931, 50809),
    _lab("po2", "mmHg", 5, 800, "mm hg|mmhg", 50821),
    _lab("pco2", "mmHg", 3, 250, "mm hg|mmhg", 50818),
    _lab("ph", "1", 6.3, 8.2, "units", 50820),
    _lab("lactate", "mmol/L", 0, 50, "mmol/l", 50813),
    _lab("creatinine", "mg/dL", 0, 40, "mg/dl", 50912),
    _lab("bun", "mg/dL", 0, 400, "mg/dl", 51006),
    _lab("sodium", "mEq/L", 80, 220, "meq/l|mmol/l", 50983),
    _lab("potassium", "mEq/L", 0.5, 15, "meq/l|mmol/l", 50971),
    _lab("bicarbonate", "mEq/L", 1, 80, "meq/l|mmol/l", 50882),
    _lab("haemoglobin", "g/dL", 1, 30, "g/dl", 51222),
    _lab("wbc", "K/uL", 0, 1000, "k/ul", 51301),
    _lab("platelets", "K/uL", 0, 3000, "k/ul", 51265),
    _lab("bilirubin", "mg/dL", 0, 100, "mg/dl", 50885),
    _lab("inr", "1", 0.3, 40, "", 51237),
    Variable(
        "urine",
        "mL",
        0,
        5000,
        "icu/outputevents",
        (
            *(
                Item(i, ("ml",))
                for i in (226557, 226558, 226559, 226560, 226561, 226563, 226564, 226565, 226567, 226584, 227489)
            ),
            Item(227488, ("ml",), -1.0),  # irrigant that went in
        ),
        "sum",
    ),
)
FRACTIONS = {"fio2": (0.2, 1.0)}  # stored values in this range are fractions, to be shown in percent


@dataclass(frozen=True)
class Action:
    """One channel of the action stream, from intervals.

    how: 'rate' (mean over the hour of the rate in `unit`), 'amount' (what runs in, in `unit` an hour), or 'on' (share
    of the hour that it is on). units: unit spelling -> factor; 'kg:' before a spelling divides by the patient's weight.
    """

    name: str
    unit: str
    high: float
    table: str
    itemids: tuple[int, ...]
    how: str
    units: tuple[tuple[str, float], ...] = ()


_WEIGHTED = (("mcg/kg/min", 1.0), ("mg/kg/min", 1000.0), ("kg:mcg/min", 1.0), ("kg:mg/min", 1000.0))


def _pressor(name: str, itemid: int, high: float) -> Action:
    return Action(name, "mcg/kg/min", high, "icu/inputevents", (itemid,), "rate", _WEIGHTED)


ACTIONS = (
    _pressor("norepinephrine", 221906, 20),
    _pressor("epinephrine", 221289, 20),
    _pressor("phenylephrine", 221749, 50),
    _pressor("dopamine", 221662, 100),
    _pressor("dobutamine", 221653, 100),
    _pressor("milrinone", 221986, 10),
    Action(
        "vasopressin",
        "units/h",
        60,
        "icu/inputevents",
        (222315,),
        "rate",
        (("units/hour", 1.0), ("units/min", 60.0)),
    ),
    Action("insulin", "units/h", 500, "icu/inputevents", (223258, 223260), "amount", (("units", 1.0),)),
    Action("ventilation_invasive", "1", 1, "icu/procedureevents", (225792,), "on"),
    Action("ventilation_noninvasive", "1", 1, "icu/procedureevents", (225794,), "on"),
)

# Known on arrival in intensive care. Nothing here may be an outcome (see FORBIDDEN).
STATIC = (("age", "years"), ("male", "1"), ("hours_in_hospital", "h"), ("emergency", "1"))
EMERGENCY = ("EW EMER.", "DIRECT EMER.", "URGENT", "EMERGENCY")
FORBIDDEN = ("dod", "deathtime", "dischtime", "outtime", "los", "discharge_location", "hospital_expire_flag")
