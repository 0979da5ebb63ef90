"""The law of the ICU world in one hospital: its matrices and rates, from the knobs. Equations: docs/icu.md.

    x(t+1) = A x(t) + (1 - phi) level(r(t+1)) + (on(t) dose) B + sqrt(1 - phi^2) w(t),   A = phi exp(omega K)

K is antisymmetric, so A A' = phi^2 I and the stationary covariance is the identity for any coupling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import expm

from simlab.environments.icu_channels import CHANNELS, NAMES, ORGANS, PANELS, TREATMENTS, Channel
from simlab.environments.icu_knobs import IcuSpec
from simlab.errors import unknown

DOMAINS = ("source", "external")
HOURS, WINDOW, AHEAD = 336, 24, 48  # the longest stay; no stay ends before this hour is over; how far labels look ahead
REGIMES = ("stable", "deteriorating", "recovering")
STABLE, DETERIORATING, RECOVERING = range(3)
_START = (0.5, 0.25, 0.25)
_LEVELS = (0.0, 1.0, -0.8)  # of the knob `level`
_ORGAN_LEVELS = (1.0, 0.9, 0.8, 0.6, 1.0)
SLOPE, HABIT = 1.5, 8.0  # of the policy: log odds per unit of what it looks at, and of what already runs
_ADMISSION = 3.0  # log odds by which laboratory panels are taken more often in the first hour
# Log hazard an hour of a patient at 0, its slopes on the mean state and on frailty: of death, of discharge.
DEATH, DISCHARGE = (-10.4, 3.5, 1.1), (-4.9, -1.8, -0.2)
_D = len(ORGANS)
# Which organ drives which: inflammation the circulation, circulation kidney and liver, respiration the circulation.
_DRIVES = ((4, 0, 1.0), (0, 2, 1.0), (0, 3, 0.5), (1, 0, 0.5), (4, 1, 0.5))


@dataclass(frozen=True, eq=False)
class Law:
    """One hospital's law. `policy`: log odds of starting each treatment; `panel`: of taking each panel."""

    spec: IcuSpec
    step: Float[np.ndarray, "d d"]  # A
    effect: Float[np.ndarray, "k d"]  # B: of an hour at dose 1
    shock: float  # standard deviation of what is new in an hour
    drift: Float[np.ndarray, "regimes d"]
    change: Float[np.ndarray, "regimes regimes"]
    begin: Float[np.ndarray, " regimes"]
    admission: float
    policy: Float[np.ndarray, " k"]
    dose: float
    panel: Float[np.ndarray, " panels"]
    informative: float
    offset: float  # of the laboratory's analysers, standard deviations
    loadings: Float[np.ndarray, "channels d"]
    noise: Float[np.ndarray, " channels"]  # standard deviation of a channel's own noise

    @property
    def reads(self) -> list[int]:
        """The channel that each treatment's policy looks at."""
        return [NAMES.index(t.reads) for t in TREATMENTS]

    @property
    def toward(self) -> Float[np.ndarray, " k"]:
        """1 where that channel rises as its organ worsens, else -1."""
        at = [ORGANS.index(t.organ) for t in TREATMENTS]
        return np.sign(self.loadings[self.reads, at])

    def starts(self) -> Float[np.ndarray, " channels"]:
        """What each channel reads, in standard values, where its state is 0: the analysers' offset."""
        return np.array([self.offset if in_laboratory(c) else 0.0 for c in CHANNELS])


def in_laboratory(channel: Channel) -> bool:
    """Whether a channel is the laboratory's."""
    return channel.panel in PANELS and PANELS[channel.panel][1]


def law_of(spec: IcuSpec, domain: str) -> Law:
    """The law of "source" or "external". Raises UnknownName for another domain."""
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    measuring, treating, sicker = spec.gaps(domain)
    turn = np.zeros((_D, _D))
    for source, target, weight in _DRIVES:
        turn[target, source] += weight
        turn[source, target] -= weight
    switching = spec.regimes == "switching"
    falls = min(1.0, spec.p_det * (1 + sicker))
    change = np.array([[1 - falls, falls, 0.0], [0.005, 0.97, 0.025], [0.015, 0.005, 0.98]]) if switching else np.eye(3)
    odds = np.array([np.log(p / (1 - p)) for p, _ in PANELS.values()]) + np.log(spec.odds_m)
    laboratory = np.array([lab for _, lab in PANELS.values()])
    own = np.array([1 - sum(w * w for w in c.loadings) for c in CHANNELS])
    return Law(
        spec,
        step=spec.phi * expm(spec.omega * turn),
        effect=(1 - spec.phi) * spec.tau * np.array([t.effects for t in TREATMENTS]),
        shock=float(np.sqrt(1 - spec.phi**2)),
        drift=(1 - spec.phi) * spec.level * np.outer(_LEVELS, _ORGAN_LEVELS) * switching,
        change=change,
        begin=np.array(_START if switching else (1.0, 0.0, 0.0)),
        admission=spec.mu_0 + sicker,
        policy=np.array([t.base for t in TREATMENTS]) + 1.5 * (1 - spec.lambda_p) - 1.5 * treating,
        dose=1 + 0.5 * treating,
        panel=odds - 1.5 * measuring * laboratory,
        informative=spec.iota * (1 + measuring),
        offset=0.5 * measuring,
        loadings=np.array([c.loadings for c in CHANNELS]),
        noise=spec.noise * np.sqrt(own),
    )


def severity(x: Float[np.ndarray, "... d"]) -> Float[np.ndarray, "..."]:
    """The mean of the organs' states: what death, discharge and informative measurement follow."""
    return x.mean(axis=-1)


def frailty(static: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Of age and emergency admission (columns 0 and 3 of the static stream), mean 0 and variance near 1."""
    return np.sqrt(0.7) * (static[:, 0] - 65) / 15 + np.sqrt(0.3) * (static[:, 3] - 0.6) / np.sqrt(0.24)


def chance(odds: np.ndarray) -> np.ndarray:
    """The probability of log odds."""
    return 1 / (1 + np.exp(-odds))


def panel_odds(law: Law, x: Float[np.ndarray, "... d"], hour: int) -> Float[np.ndarray, "... panels"]:
    """Log odds that each panel is taken in an hour, of patients in state x."""
    laboratory = np.array([lab for _, lab in PANELS.values()])
    return law.panel + laboratory * (law.informative * severity(x)[..., None] + _ADMISSION * (hour == 0))


def policy_odds(
    law: Law, x: Float[np.ndarray, "... d"], read: Float[np.ndarray, "... k"], on: np.ndarray
) -> Float[np.ndarray, "... k"]:
    """Log odds that each treatment runs in an hour. read: the last charted standard values, the sick ones positive;
    on: whether it ran the hour before."""
    hidden = x[..., [ORGANS.index(t.organ) for t in TREATMENTS]]
    looked = (1 - law.spec.c_p) * read + law.spec.c_p * hidden
    return law.policy + law.spec.lambda_p * SLOPE * looked + HABIT * on


def end_chances(
    law: Law, x: Float[np.ndarray, "... d"], frail: Float[np.ndarray, "..."]
) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities that a patient in state x dies in an hour, and, else, leaves after it."""
    sick = law.spec.sigma * severity(x)
    return tuple(-np.expm1(-np.exp(np.minimum(base + slope * sick + more * frail, 3.0)))
                 for base, slope, more in (DEATH, DISCHARGE))  # type: ignore[return-value]  # fmt: skip
