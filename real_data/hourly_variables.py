"""The variables of harmonised hourly tables: which modality each belongs to, its unit and its plausible range.

Names and units follow the YAIB form of these tables. Ranges are inclusive and wide: they catch typing errors and
disconnected sensors (a heart rate of 0, a saturation of 12 %), never a very sick patient. A value outside is taken as
not measured, and counted.
"""

from __future__ import annotations

from typing import NamedTuple


class Hourly(NamedTuple):
    unit: str
    low: float
    high: float


# What is read or counted at the bedside: the first modality.
VITALS = {
    "hr": Hourly("bpm", 1, 300),
    "resp": Hourly("insp/min", 1, 70),
    "sbp": Hourly("mmHg", 1, 400),
    "dbp": Hourly("mmHg", 1, 300),
    "map": Hourly("mmHg", 1, 300),
    "o2sat": Hourly("%", 50, 100),
    "temp": Hourly("C", 25, 45),
    "fio2": Hourly("%", 21, 100),
    "urine": Hourly("mL", 0, 5000),
}

# What a laboratory measures in a sample: the second.
LABS = {
    "alb": Hourly("g/dL", 0, 10),
    "alp": Hourly("IU/L", 0, 10_000),
    "alt": Hourly("IU/L", 0, 50_000),
    "ast": Hourly("IU/L", 0, 50_000),
    "be": Hourly("mmol/L", -50, 50),
    "bicar": Hourly("mmol/L", 1, 80),
    "bili": Hourly("mg/dL", 0, 100),
    "bili_dir": Hourly("mg/dL", 0, 100),
    "bnd": Hourly("%", 0, 100),
    "bun": Hourly("mg/dL", 0, 400),
    "ca": Hourly("mg/dL", 2, 25),
    "cai": Hourly("mmol/L", 0.2, 4),
    "ck": Hourly("IU/L", 0, 500_000),
    "ckmb": Hourly("ng/mL", 0, 10_000),
    "cl": Hourly("mmol/L", 40, 180),
    "crea": Hourly("mg/dL", 0, 40),
    "crp": Hourly("mg/L", 0, 5_000),
    "fgn": Hourly("mg/dL", 0, 3_000),
    "glu": Hourly("mg/dL", 5, 2_500),
    "hgb": Hourly("g/dL", 1, 30),
    "inr_pt": Hourly("1", 0.3, 40),
    "k": Hourly("mmol/L", 0.5, 15),
    "lact": Hourly("mmol/L", 0, 50),
    "lymph": Hourly("%", 0, 100),
    "mch": Hourly("pg", 5, 80),
    "mchc": Hourly("g/dL", 5, 60),
    "mcv": Hourly("fL", 30, 200),
    "methb": Hourly("%", 0, 100),
    "mg": Hourly("mg/dL", 0.1, 20),
    "na": Hourly("mmol/L", 80, 220),
    "neut": Hourly("%", 0, 100),
    "pco2": Hourly("mmHg", 3, 250),
    "ph": Hourly("1", 6.3, 8.2),
    "phos": Hourly("mg/dL", 0, 40),
    "plt": Hourly("K/uL", 0, 3_000),
    "po2": Hourly("mmHg", 5, 800),
    "ptt": Hourly("s", 5, 300),
    "tnt": Hourly("ng/mL", 0, 500),
    "wbc": Hourly("K/uL", 0, 1_000),
}

STATIC = {
    "age": Hourly("years", 0, 120),
    "male": Hourly("1", 0, 1),
    "height": Hourly("cm", 100, 250),
    "weight": Hourly("kg", 20, 400),
}

SEX = {"male": 1.0, "m": 1.0, "female": 0.0, "f": 0.0}

# What label 1, or the number, means in tasks known by the name of their folder.
MEANINGS = {
    ("mortality24", "binary"): "dies in the intensive care unit after the first 24 hours",
    ("los", "regression"): "remaining length of stay in the intensive care unit, hours",
}
