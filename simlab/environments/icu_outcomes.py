"""What becomes of ICU stays: the ward, home, death in either; and the course that labels are made of.

After intensive care a patient spends a while on the ward and may die there; at home there is a hazard of death. Both
follow the mean state on leaving intensive care (knob gamma_d) and frailty. A death is known until a year after
discharge; one at home carries a date alone, so that it counts whole days.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from simlab.environments.icu_channels import ACTIONS, TREATMENTS
from simlab.environments.icu_dynamics import IcuFactors, Paths
from simlab.environments.icu_labels import Course
from simlab.environments.icu_law import chance, frailty, severity
from simlab.environments.icu_measure import LABELLED, given

DAY, YEAR = 24.0, 365 * 24.0
WARD, HOME = -4.0, -7.8  # log odds of death on the ward, log hazard a day at home, at a mean state and frailty of 0
_ANTIBIOTIC = [t.name for t in TREATMENTS].index("antibiotic")
CULTURED = 0.8  # share of the antibiotics begun that a culture goes with


@dataclass(frozen=True, eq=False)
class Ends:
    """Hours from admission to intensive care: discharge from hospital, death (NaN: none within the follow-up)."""

    clock: Int[np.ndarray, " n"]  # hour of the day at which they came
    discharge: Float[np.ndarray, " n"]
    death: Float[np.ndarray, " n"]
    in_hospital: Bool[np.ndarray, " n"]

    @property
    def gone(self) -> Float[np.ndarray, " n"]:
        """The hour of death as it is known: at home, midnight of its day counted from that of admission."""
        days = np.floor((self.clock + self.death) / DAY) * DAY
        return np.where(self.in_hospital, self.death, days)


def ends(
    static: Float[np.ndarray, "n 4"], out: Int[np.ndarray, " n"], died: Bool[np.ndarray, " n"],
    last: Float[np.ndarray, "n d"], slope: float, coin: Float[np.ndarray, "n 4"],
) -> Ends:
    """Ward and home after stays of `out` hours that ended in state `last`. slope: the knob gamma_d."""
    sick, frail = slope * severity(last), frailty(static)
    ward = np.ceil(1 - 72 * np.log1p(-coin[:, 0]))
    discharge = np.where(died, out, out + ward)
    there = died | (coin[:, 1] < chance(WARD + 1.2 * sick + 0.8 * frail))
    hazard = np.exp(np.minimum(HOME + 0.8 * sick + 0.7 * frail, 3.0)) / DAY
    home = discharge - np.log1p(-coin[:, 2]) / hazard
    death = np.where(there, discharge, np.where(home <= discharge + YEAR - DAY, home, np.nan))
    return Ends(np.floor(24 * coin[:, 3]).astype(np.int64), discharge.astype(float), death, there)


def cultures(starts: list[list[float]], coin: Float[np.ndarray, "n hours"]) -> list[list[float]]:
    """The hours of cultures: with most of the antibiotics that are begun."""
    return [[t for t in times if coin[i, int(t)] < CULTURED] for i, times in enumerate(starts)]


def begun(paths: Paths) -> list[list[float]]:
    """The hours at which each stay's antibiotics begin."""
    on = paths.on[:, :, _ANTIBIOTIC] & (np.arange(paths.on.shape[1]) < paths.out[:, None])
    first = on & ~np.concatenate([np.zeros_like(on[:, :1]), on[:, :-1]], axis=1)
    found: list[list[float]] = [[] for _ in range(len(on))]
    for i, t in zip(*np.nonzero(first), strict=True):
        found[i].append(float(t))
    return found


def course(
    paths: Paths, dose: Float[np.ndarray, "n k"], grid: Float[np.ndarray, "n hours labelled"], found: Ends,
    cultured: list[list[float]],
) -> Course:
    """What labels are made of."""
    hours = grid.shape[1]
    names = [name for name, _, _ in ACTIONS]
    stream = given(paths, dose, hours)
    return Course(
        died=found.in_hospital.astype(float),
        death=np.where(found.in_hospital, found.death, np.nan),
        gone=found.gone,
        followed=found.discharge + YEAR,
        out=paths.out,
        seen={name: grid[:, :, i] for i, name in enumerate(LABELLED)},
        given={name: stream[:, :, names.index(name)].astype(np.float64)
               for name in ("norepinephrine", "ventilation_invasive", "crrt")},
        cultures=cultured,
        antibiotics=begun(paths),
    )  # fmt: skip


def whole_course(
    factors: IcuFactors, grid: Float[np.ndarray, "n hours labelled"], slope: float, rng: np.random.Generator
) -> tuple[Course, Ends]:
    """The course and the ends of these stays."""
    of_ends, of_cultures = rng.spawn(2)
    paths = factors.paths
    found = ends(factors.static, paths.out, paths.died, paths.last, slope, of_ends.random((len(factors), 4)))
    coin = of_cultures.random(grid.shape[:2], np.float32)
    return course(paths, factors.dose, grid, found, cultures(begun(paths), coin)), found
