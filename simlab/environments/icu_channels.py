"""What the ICU world charts, as data: MIMIC-IV's hourly channels in the adapter's order, and what each shows.

A channel's standard value is z = loadings'x + noise of variance 1 - |loadings|^2 (times the knob `noise`), where x are
the organs' states (each of variance 1 when stable; higher is worse). Its value lies between `low` and `high`:
value = low + (high - low) / (1 + exp(-(a + b z))), with a and b such that z = 0 is `centre` and the slope there is
`spread`. That is one-to-one, so a value says what its z says. Names, units, items and ranges are those of
`real_data.mimic_iv.variables`; a test holds them equal. Imports no array module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ORGANS = ("circulation", "respiration", "kidney", "liver", "inflammation")
_LETTERS = "crkli"
# Panels that are taken together: probability in an hour, and whether it is the laboratory's.
PANELS = {"vitals": (0.95, False), "neuro": (0.3, False), "oxygen": (0.4, False), "ventilator": (0.6, False),
          "bedside": (0.2, False), "urine": (0.97, False), "gas": (0.12, True), "chemistry": (0.1, True),
          "haematology": (0.08, True), "liver": (0.05, True), "cardiac": (0.02, True)}


@dataclass(frozen=True)
class Channel:
    """One channel of the state stream. loadings: by organ; panel: what it is taken with ("body": on a fixed hour)."""

    name: str
    unit: str
    itemid: int
    low: float
    high: float
    centre: float
    spread: float
    panel: str
    loadings: tuple[float, ...]

    @property
    def decimals(self) -> int:
        """Places that are charted: a hundredth of the spread, or finer."""
        return max(0, math.ceil(-math.log10(self.spread / 100)))

    @property
    def curve(self) -> tuple[float, float]:
        """(a, b) of the value's curve."""
        share = (self.centre - self.low) / (self.high - self.low)
        return math.log(share / (1 - share)), self.spread / ((self.high - self.low) * share * (1 - share))


def _loadings(text: str) -> tuple[float, ...]:
    """'c.5 i-.4' as one loading for each organ."""
    told = {word[0]: float(word[1:]) for word in text.split()}
    return tuple(told.get(letter, 0.0) for letter in _LETTERS)


# name | unit | item | low | high | centre | spread | panel | loadings. "points": a scale; "kg": told by the weight.
_TABLE = """
hr | bpm | 220045 | 1 | 300 | 90 | 16 | vitals | c.5 i.4
sbp | mmHg | 220050 | 1 | 400 | 118 | 18 | vitals | c-.75
dbp | mmHg | 220051 | 1 | 300 | 62 | 12 | vitals | c-.6
map | mmHg | 220052 | 1 | 300 | 80 | 11 | vitals | c-.8
rr | insp/min | 220210 | 1 | 70 | 20 | 5 | vitals | r.6 i.3
spo2 | % | 220277 | 50 | 100 | 96 | 2 | vitals | r-.8
temp | C | 223762 | 32 | 42 | 37.1 | 0.7 | vitals | i.8
gcs_eye | 1 | 220739 | 1 | 4 | 3.5 | 1 | neuro |
gcs_verbal | 1 | 223900 | 1 | 5 | 4 | 1 | neuro |
gcs_motor | 1 | 223901 | 1 | 6 | 5 | 1 | neuro |
fio2 | % | 223835 | 21 | 100 | 40 | 11 | oxygen | r.7
glucose_bedside | mg/dL | 225664 | 5 | 2500 | 140 | 40 | bedside | i.3
glucose | mg/dL | 50931 | 5 | 2500 | 138 | 40 | chemistry | i.3
po2 | mmHg | 50821 | 5 | 800 | 112 | 34 | gas | r-.75
pco2 | mmHg | 50818 | 3 | 250 | 41 | 8 | gas | r.4
ph | 1 | 50820 | 6.3 | 8.2 | 7.38 | 0.06 | gas | c-.4 r-.3 k-.3
lactate | mmol/L | 50813 | 0 | 50 | 1.6 | 0.7 | gas | c.75 l.3
creatinine | mg/dL | 50912 | 0 | 40 | 1.2 | 0.55 | chemistry | k.9
bun | mg/dL | 51006 | 0 | 400 | 25 | 12 | chemistry | k.8
sodium | mEq/L | 50983 | 80 | 220 | 139 | 5 | chemistry |
potassium | mEq/L | 50971 | 0.5 | 15 | 4.2 | 0.5 | chemistry | k.4
bicarbonate | mEq/L | 50882 | 1 | 80 | 24 | 4 | chemistry | c-.3 k-.4
haemoglobin | g/dL | 51222 | 1 | 30 | 9.8 | 1.7 | haematology | c-.2
wbc | K/uL | 51301 | 0 | 1000 | 11.5 | 4.5 | haematology | i.7
platelets | K/uL | 51265 | 0 | 3000 | 190 | 75 | haematology | l-.6 i-.2
bilirubin | mg/dL | 50885 | 0 | 100 | 1 | 0.7 | liver | l.85
inr | 1 | 51237 | 0.3 | 40 | 1.35 | 0.35 | liver | l.7
chloride | mEq/L | 50902 | 40 | 180 | 104 | 6 | chemistry |
calcium | mg/dL | 50893 | 2 | 25 | 8.4 | 0.7 | chemistry |
ionised_calcium | mmol/L | 50808 | 0.2 | 4 | 1.13 | 0.09 | gas |
magnesium | mg/dL | 50960 | 0.1 | 20 | 2.1 | 0.3 | chemistry | k.3
phosphate | mg/dL | 50970 | 0 | 40 | 3.6 | 1.2 | chemistry | k.5
albumin | g/dL | 50862 | 0 | 10 | 3.1 | 0.6 | liver | l-.3 i-.3
bilirubin_direct | mg/dL | 50883 | 0 | 100 | 0.6 | 0.5 | liver | l.7
alt | IU/L | 50861 | 0 | 50000 | 40 | 30 | liver | l.6
ast | IU/L | 50878 | 0 | 50000 | 50 | 38 | liver | l.6
alp | IU/L | 50863 | 0 | 10000 | 90 | 45 | liver | l.4
ldh | IU/L | 50954 | 0 | 50000 | 290 | 140 | cardiac | l.4 c.2
ck | IU/L | 50910 | 0 | 500000 | 160 | 150 | cardiac |
ckmb | ng/mL | 50911 | 0 | 10000 | 5 | 4 | cardiac | c.3
troponin_t | ng/mL | 51003 | 0 | 500 | 0.2 | 0.2 | cardiac | c.4
ntprobnp | pg/mL | 50963 | 0 | 500000 | 3000 | 3000 | cardiac | c.4 k.3
crp | mg/L | 50889 | 0 | 5000 | 60 | 50 | liver | i.8
base_excess | mEq/L | 50802 | -50 | 50 | 0 | 4 | gas | c-.4 k-.4
so2_gas | % | 50817 | 0 | 100 | 95 | 3 | gas | r-.6
fio2_gas | % | 50816 | 21 | 100 | 45 | 14 | gas | r.6
haematocrit | % | 51221 | 5 | 80 | 30 | 5 | haematology | c-.2
rbc | m/uL | 51279 | 0.5 | 12 | 3.3 | 0.6 | haematology | c-.2
pt | s | 51274 | 5 | 300 | 14.5 | 3 | liver | l.7
ptt | s | 51275 | 5 | 300 | 35 | 11 | liver | l.5
fibrinogen | mg/dL | 51214 | 0 | 3000 | 330 | 150 | liver | l-.3 i.4
neutrophils | % | 51256 | 0 | 100 | 78 | 9 | cardiac | i.5
lymphocytes | % | 51244 | 0 | 100 | 12 | 6 | cardiac | i-.4
bands | % | 51144 | 0 | 100 | 3 | 3 | cardiac | i.5
sao2 | % | 220227 | 50 | 100 | 95.5 | 2.5 | gas | r-.6
etco2 | mmHg | 228640 | 10 | 60 | 35 | 5 | ventilator | r.3
peep | cmH2O | 220339 | 0 | 50 | 6.5 | 2.2 | ventilator | r.6
plateau_pressure | cmH2O | 224696 | 0 | 100 | 20 | 5 | ventilator | r.6
tidal_volume | mL | 224684 | 20 | 2500 | 450 | 70 | ventilator |
minute_volume | L/min | 224687 | 0.5 | 60 | 9 | 2.2 | ventilator | r.4
o2_flow | L/min | 223834 | 0 | 100 | 4 | 2.5 | oxygen | r.6
rass | 1 | 228096 | -5 | 4 | -1 | 1 | neuro |
weight | kg | 226512 | 20 | 400 | 82 | 18 | body |
height | cm | 226730 | 100 | 250 | 170 | 10 | body |
urine | mL | 226557 | 0 | 5 | 1 | 0.42 | urine | k-.75
"""
CHANNELS = tuple(
    Channel(name, unit, int(item), float(low), float(high), float(centre), float(spread), panel, _loadings(load))
    for name, unit, item, low, high, centre, spread, panel, load in (
        [cell.strip() for cell in line.split("|")] for line in _TABLE.strip().splitlines())
)
NAMES = tuple(c.name for c in CHANNELS)
POINTS = ("gcs_eye", "gcs_verbal", "gcs_motor", "rass")  # scales: they tell nothing about the state
BODY = ("weight", "height")  # a patient's own numbers, charted on fixed hours
BY_WEIGHT = "urine"  # its curve is in mL/kg; it is charted in mL


@dataclass(frozen=True)
class Treatment:
    """A treatment that acts. gives: channels of the action stream, each with its value at dose 1; reads: the channel
    whose last charted value the policy looks at; base: log odds that it begins in a patient at 0."""

    name: str
    organ: str
    effects: tuple[float, ...]  # on each organ, as a share of the knob tau
    reads: str
    base: float
    dosed: bool  # whether patients get different doses
    gives: tuple[tuple[str, float], ...]


TREATMENTS = (
    Treatment("vasopressor", "circulation", _loadings("c-1 k.2"), "map", -6.0, True, (("norepinephrine", 0.1),)),
    Treatment("ventilation", "respiration", _loadings("r-1 c.2"), "spo2", -6.0, True,
              (("ventilation_invasive", 1.0), ("propofol", 25.0), ("fentanyl", 50.0))),
    Treatment("replacement", "kidney", _loadings("k-1 c.1"), "creatinine", -8.5, False, (("crrt", 1.0),)),
    Treatment("antibiotic", "inflammation", _loadings("i-1 l-.3"), "temp", -5.0, False, (("antibiotic", 1.0),)),
    Treatment("fluid", "circulation", _loadings("c-.6 r.3"), "lactate", -5.5, True, (("crystalloid", 200.0),)),
)
UNDOSED = ("ventilation_invasive", "crrt", "antibiotic")  # on or off, whatever the dose
# Every channel of the action stream: name, unit, item.
ACTIONS = tuple((name, unit, int(item)) for name, unit, item in (line.split() for line in """
norepinephrine mcg/kg/min 221906
epinephrine mcg/kg/min 221289
phenylephrine mcg/kg/min 221749
dopamine mcg/kg/min 221662
dobutamine mcg/kg/min 221653
milrinone mcg/kg/min 221986
vasopressin units/h 222315
insulin units/h 223258
propofol mcg/kg/min 222168
dexmedetomidine mcg/kg/h 225150
fentanyl mcg/h 221744
midazolam mg/h 221668
morphine mg/h 225154
hydromorphone mg/h 221833
ketamine mg/h 221712
furosemide mg/h 221794
heparin units/h 225152
crystalloid mL/h 220949
concentrated_dextrose mL/h 220950
colloid mL/h 220862
blood_products mL/h 225168
antibiotic 1 225798
crrt 1 225802
dialysis 1 225441
ventilation_invasive 1 225792
ventilation_noninvasive 1 225794
""".strip().splitlines()))
STATIC = (("age", "years"), ("male", "1"), ("hours_in_hospital", "h"), ("emergency", "1"))
