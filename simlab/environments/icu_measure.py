"""What is charted of ICU stays: values and masks by the hour, treatments as channels of the action stream.

The Glasgow scale and RASS follow sedation (a ventilated patient's, which the action stream shows) and a process of
their own: they tell nothing about the state. Weight and height are the patient's own, on admission (weight: daily).
Nothing is late: a laboratory value is known in the hour in which it was drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from simlab.environments.icu_channels import (
    ACTIONS,
    BODY,
    BY_WEIGHT,
    CHANNELS,
    NAMES,
    PANELS,
    POINTS,
    TREATMENTS,
    UNDOSED,
)
from simlab.environments.icu_dynamics import BLOCK, IcuFactors, Paths
from simlab.environments.icu_law import Law
from simlab.environments.icu_values import charted

# What labels are made of, read until 48 hours beyond the last hour kept.
LABELLED = ("map", "lactate", "creatinine", "urine", "weight", "bilirubin", "inr", "po2", "fio2", "gcs_eye",
            "gcs_verbal", "gcs_motor", "platelets")  # fmt: skip
_C = len(NAMES)
VENTILATED = [t.name for t in TREATMENTS].index("ventilation")
_PANEL = np.array([list(PANELS).index(c.panel) if c.panel in PANELS else 0 for c in CHANNELS])
_FIXED = [NAMES.index(name) for name in BODY]
SHARE = 0.7  # alertness is this share of a patient's own number and of the hour's
# Points lost on the Glasgow scales below each of these, and of RASS; a sedated patient's points.
LOST = {"gcs_eye": (4, (-0.6, -1.4, -2.2), 1), "gcs_verbal": (5, (-0.3, -0.9, -1.6, -2.3), 1),
        "gcs_motor": (6, (-0.5, -1.1, -1.7, -2.2, -2.7), 3), "rass": (0, (-0.5, -1.2, -2.0, -2.6), -4)}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Charts:
    """Values (0 where not charted) of the hours that are shown; of those that labels look at, what they need."""

    values: Float[np.ndarray, "n visits channels"]  # float32
    seen: Bool[np.ndarray, "n visits channels"]
    grid: Float[np.ndarray, "n hours labelled"]  # NaN where not charted; as float32 has them


def measure(factors: IcuFactors, law: Law, rng: np.random.Generator) -> Charts:
    """Chart these stays."""
    of_noise, of_coins, of_bodies, of_points = rng.spawn(4)
    n, kept, visits = len(factors), factors.paths.x.shape[1], law.spec.max_hours
    values, seen = np.zeros((n, visits, _C), np.float32), np.zeros((n, visits, _C), bool)
    wanted = [NAMES.index(name) for name in LABELLED]
    grid = np.full((n, kept, len(wanted)), np.nan)
    bodies, alert = of_bodies.standard_normal((n, 2)), of_points.spawn(1)[0].standard_normal(n)
    for begin in range(0, n, BLOCK):
        part = slice(begin, min(begin + BLOCK, n))
        shape = (part.stop - begin, kept, _C)
        block = _block(factors, part)
        drawn = of_noise.standard_normal(shape, np.float32), of_coins.random(shape, np.float32)
        told, there = chart(law, block, body(factors.static[part], bodies[part]), *drawn,
                            SHARE * alert[part, None] + SHARE * of_points.standard_normal(shape[:2]))  # fmt: skip
        values[part], seen[part] = np.where(there, told, 0)[:, :visits], there[:, :visits]
        grid[part] = np.where(there, told, np.nan)[:, :, wanted]
    return Charts(values, seen, grid)


def _block(factors: IcuFactors, part: slice) -> Paths:
    """The paths of some of the stays."""
    return Paths(**{name: x[part] for name, x in vars(factors.paths).items()})


def body(static: Float[np.ndarray, "n 4"], normal: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """Weight (kg) and height (cm), as charted."""
    male = static[:, 1] - 0.5
    weight = np.clip(np.round(80 + 12 * male + 16 * normal[:, 0], 1), 35, 250)
    return np.stack([weight, np.clip(np.rint(169 + 13 * male + 7 * normal[:, 1]), 130, 220)], axis=1)


def chart(
    law: Law, paths: Paths, bodies: Float[np.ndarray, "n 2"], noise: np.ndarray, coin: np.ndarray, alert: np.ndarray,
    first: int = 0,
) -> tuple[Float[np.ndarray, "n hours channels"], Bool[np.ndarray, "n hours channels"]]:
    """Values (float32) and masks of all hours of these paths, which begin at hour `first`."""
    x = paths.x.astype(np.float64)
    z = x @ law.loadings.T + law.noise * noise + law.starts()
    z[:, :, law.reads] = paths.shown
    value = charted(z, range(_C))
    value[:, :, NAMES.index(BY_WEIGHT)] = in_ml(value[:, :, NAMES.index(BY_WEIGHT)], bodies[:, :1])
    ventilated = before(paths.on[:, :, VENTILATED])
    for name in POINTS:
        value[:, :, NAMES.index(name)] = np.where(ventilated, LOST[name][2], points(name, alert))
    value[:, :, _FIXED] = bodies[:, None]
    seen = paths.taken[:, :, _PANEL] & (coin >= law.spec.p_miss)
    seen[:, :, law.reads] = paths.looked
    by_machine = np.array([c.panel == "ventilator" for c in CHANNELS])
    seen &= ~by_machine | ventilated[:, :, None]
    seen[:, :, NAMES.index("o2_flow")] &= ~ventilated
    hour = first + np.arange(x.shape[1])
    seen[:, :, _FIXED] = np.stack([hour % 24 == 0, hour == 0], axis=1)
    return value.astype(np.float32), seen & (hour < paths.out[:, None])[:, :, None]


def points(name: str, alert: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """A scale's points at this alertness, of a patient who is not sedated."""
    full, bounds, _ = LOST[name]
    return full - sum((alert < bound).astype(float) for bound in bounds)


def in_ml(rate: Float[np.ndarray, "n hours"], weight: Float[np.ndarray, "n 1"]) -> Float[np.ndarray, "n hours"]:
    """An hour's urine in mL, to a tenth, from mL/kg."""
    return np.round(rate * weight, 1)


def before(on: Bool[np.ndarray, "n hours"]) -> Bool[np.ndarray, "n hours"]:
    """Whether a treatment ran in the hour before."""
    return np.concatenate([np.zeros_like(on[:, :1]), on[:, :-1]], axis=1)


def given(
    paths: Paths, dose: Float[np.ndarray, "n k"], visits: int
) -> Float[np.ndarray, "n visits actions"]:
    """The action stream, float32: what ran in each hour, in each channel's unit; 0 beyond the stay."""
    names = [name for name, _, _ in ACTIONS]
    on = paths.on[:, :visits] & (np.arange(visits) < paths.out[:, None])[:, :, None]
    out = np.zeros((*on.shape[:2], len(names)), np.float32)
    for k, treatment in enumerate(TREATMENTS):
        for name, one in treatment.gives:
            speed = np.full(len(dose), one) if name in UNDOSED else amount(one, dose[:, k])
            out[:, :, names.index(name)] = on[:, :, k] * speed[:, None]
    return out


def amount(one: float, dose: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """What an hour at these doses gives, in a channel's unit."""
    return np.round(one * dose, 6)
