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


# Named apart so that no table is longer than a screen; all are channels of the state stream.
MORE_LABS = (
    _lab("chloride", "mEq/L", 40, 180, "meq/l|mmol/l", 50902),
    _lab("calcium", "mg/dL", 2, 25, "mg/dl", 50893),
    _lab("ionised_calcium", "mmol/L", 0.2, 4, "mmol/l", 50808),
    _lab("magnesium", "mg/dL", 0.1, 20, "mg/dl", 50960),
    _lab("phosphate", "mg/dL", 0, 40, "mg/dl", 50970),
    _lab("albumin", "g/dL", 0, 10, "g/dl", 50862),
    _lab("bilirubin_direct", "mg/dL", 0, 100, "mg/dl", 50883),
    _lab("alt", "IU/L", 0, 50_000, "iu/l", 50861),
    _lab("ast", "IU/L", 0, 50_000, "iu/l", 50878),
    _lab("alp", "IU/L", 0, 10_000, "iu/l", 50863),
    _lab("ldh", "IU/L", 0, 50_000, "iu/l", 50954),
    _lab("ck", "IU/L", 0, 500_000, "iu/l", 50910),
    _lab("ckmb", "ng/mL", 0, 10_000, "ng/ml", 50911),
    _lab("troponin_t", "ng/mL", 0, 500, "ng/ml", 51003),
    _lab("ntprobnp", "pg/mL", 0, 500_000, "pg/ml", 50963),
    _lab("crp", "mg/L", 0, 5000, "mg/l", 50889),
    _lab("base_excess", "mEq/L", -50, 50, "meq/l|mmol/l", 50802),
    _lab("so2_gas", "%", 0, 100, "%", 50817),
    _lab("fio2_gas", "%", 21, 100, "%", 50816),
    _lab("haematocrit", "%", 5, 80, "%", 51221),
    _lab("rbc", "m/uL", 0.5, 12, "m/ul", 51279),
    _lab("pt", "s", 5, 300, "sec|s", 51274),
    _lab("ptt", "s", 5, 300, "sec|s", 51275),
    _lab("fibrinogen", "mg/dL", 0, 3000, "mg/dl", 51214),
    _lab("neutrophils", "%", 0, 100, "%", 51256),
    _lab("lymphocytes", "%", 0, 100, "%", 51244),
    _lab("bands", "%", 0, 100, "%", 51144),
)
MORE_CHARTED = (
    _chart("sao2", "%", 50, 100, "%", 220227),
    _chart("etco2", "mmHg", 10, 60, "mmhg|mm hg", 228640),
    _chart("peep", "cmH2O", 0, 50, "cmh2o", 220339, 224700),
    _chart("plateau_pressure", "cmH2O", 0, 100, "cmh2o", 224696),
    _chart("tidal_volume", "mL", 20, 2500, "ml", 224684, 224685, 224686),
    _chart("minute_volume", "L/min", 0.5, 60, "l/min", 224687),
    _chart("o2_flow", "L/min", 0, 100, "l/min", 223834, 227582, 227287),
    _chart("rass", "1", -5, 4, "", 228096),
    Variable(
        "weight",
        "kg",
        20,
        400,
        "icu/chartevents",
        (Item(226512, ("kg",)), Item(224639, ("kg",)), Item(226531, ("lb", "lbs"), 0.45359237)),
    ),
    Variable("height", "cm", 100, 250, "icu/chartevents", (Item(226730, ("cm",)), Item(226707, ("inch", "in"), 2.54))),
)
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
    *MORE_LABS,
    *MORE_CHARTED,
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

    how: 'rate' (mean over the hour of the rate in `unit`), 'amount' (what runs in, in `unit` an hour), 'on' (share of
    the hour that it is on), or 'given' (1 in every hour that it touches). units: unit spelling -> factor; 'kg:' before
    a spelling divides by the patient's weight.
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


# What one unit of a mass or volume is in the smaller one that a channel is told in.
_AMOUNTS = {
    "mcg": (("mcg", 1.0), ("mg", 1000.0)),
    "mg": (("mg", 1.0), ("mcg", 0.001), ("grams", 1000.0)),
    "ml": (("ml", 1.0), ("l", 1000.0)),
    "units": (("units", 1.0),),
}


def _given(name: str, unit: str, high: float, amount: str, *itemids: int) -> Action:
    return Action(name, unit, high, "icu/inputevents", itemids, "amount", _AMOUNTS[amount])


CRYSTALLOIDS = (220949, 225158, 225159, 225161, 225823, 225825, 225827, 225828, 225941, 226364, 226375)
BLOOD_PRODUCTS = (225168, 225170, 225171, 220970, 226367, 226368, 226369, 226370, 226371, 226372, 227070, 227071,
                  227072)  # fmt: skip
# The category Antibiotics of d_items without drugs against viruses and fungi.
ANTIBIOTICS = (
    225798, 225840, 225842, 225843, 225845, 225847, 225850, 225851, 225853, 225855, 225859,
    225860, 225862, 225863, 225865, 225866, 225868, 225875, 225876, 225877, 225879, 225881,
    225883, 225884, 225886, 225888, 225889, 225890, 225892, 225893, 225895, 225898, 225899,
    225900, 225902, 227691, 229059, 229061, 229064, 229587,
)  # fmt: skip

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
    Action("propofol", "mcg/kg/min", 300, "icu/inputevents", (222168,), "rate", _WEIGHTED),
    Action("dexmedetomidine", "mcg/kg/h", 10, "icu/inputevents", (225150, 229420), "rate", (("mcg/kg/hour", 1.0),)),
    _given("fentanyl", "mcg/h", 5000, "mcg", 221744, 225942),
    _given("midazolam", "mg/h", 200, "mg", 221668),
    _given("morphine", "mg/h", 200, "mg", 225154),
    _given("hydromorphone", "mg/h", 100, "mg", 221833),
    _given("ketamine", "mg/h", 1000, "mg", 221712),
    _given("furosemide", "mg/h", 500, "mg", 221794, 228340),
    _given("heparin", "units/h", 50_000, "units", 225152),
    _given("crystalloid", "mL/h", 10_000, "ml", *CRYSTALLOIDS),
    _given("concentrated_dextrose", "mL/h", 5000, "ml", 220950, 220952, 228140),
    _given("colloid", "mL/h", 10_000, "ml", 220862, 220864, 225174, 225795, 225796, 226365, 226376),
    _given("blood_products", "mL/h", 20_000, "ml", *BLOOD_PRODUCTS),
    Action("antibiotic", "1", 1, "icu/inputevents", ANTIBIOTICS, "given"),
    Action("crrt", "1", 1, "icu/procedureevents", (225802, 225803, 225809, 225955), "on"),
    Action("dialysis", "1", 1, "icu/procedureevents", (225441, 225805), "on"),
    Action("ventilation_invasive", "1", 1, "icu/procedureevents", (225792,), "on"),
    Action("ventilation_noninvasive", "1", 1, "icu/procedureevents", (225794,), "on"),
)

# Known on arrival in intensive care. Nothing here may be an outcome (see FORBIDDEN).
STATIC = (("age", "years"), ("male", "1"), ("hours_in_hospital", "h"), ("emergency", "1"))
EMERGENCY = ("EW EMER.", "DIRECT EMER.", "URGENT", "EMERGENCY")
FORBIDDEN = ("dod", "deathtime", "dischtime", "outtime", "los", "discharge_location", "hospital_expire_flag")

# What the Glasgow scale says in words, where a table has words and no number ('No Response-ETT': a tube, charted as 1).
WORDS = {
    220739: {"none": 1, "to pain": 2, "to speech": 3, "spontaneously": 4},
    223900: {
        "no response": 1,
        "no response-ett": 1,
        "incomprehensible sounds": 2,
        "inappropriate words": 3,
        "confused": 4,
        "oriented": 5,
    },
    223901: {
        "no response": 1,
        "abnormal extension": 2,
        "abnormal flexion": 3,
        "flex-withdraws": 4,
        "localizes pain": 5,
        "obeys commands": 6,
    },
}
GASES = (50821, 50818)  # pressures that mean what they say in arterial blood alone
SPECIMEN, ARTERIAL = 52033, "ART."  # the laboratory's row that names the kind of blood

# Items that say that care is being withdrawn or limited: they foretell death trivially. None is a channel, and none may
# become one (code status, comfort and palliative care plans, the organ bank told).
CARE_LIMITS = (223758, 228687, 229784, 224859, 227954, 229150, 229152, 229154, 229155, 228130)
# Tables that are coded after discharge: their codes are known at dischtime, never at admission.
CODED_AT_DISCHARGE = ("diagnoses_icd", "procedures_icd", "drgcodes", "hcpcsevents")
