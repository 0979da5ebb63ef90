"""The hours of ICU stays, one after the other: regime, state, what the policy reads, treatments, the end.

In hour t, in this order: the regime changes and the state moves on (with the treatments of hour t - 1); panels are
taken; the policy reads what is charted by then and treats; the stay may end. `simulate` starts from any state, so that
limits let their particles go on with the same law.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int

from simlab.environments import icu_law
from simlab.environments.icu_channels import CHANNELS, ORGANS, PANELS, TREATMENTS
from simlab.environments.icu_knobs import IcuSpec
from simlab.environments.icu_law import AHEAD, HOURS, WINDOW, Law, chance
from simlab.environments.icu_values import charted, standard

_D, _K, _P = len(ORGANS), len(TREATMENTS), len(PANELS)
BLOCK = 256  # stays at a time; what is drawn does not depend on it
# Children of the generator, in this order for ever: append only. Normal or uniform numbers, and how many of an hour.
HOURLY = {"state": (True, _D), "regime": (False, 1), "panel": (False, _P), "coin": (False, _K), "read": (True, _K),
           "act": (False, _K), "end": (False, 2)}
_PANEL_OF = [list(PANELS).index(c.panel) if c.panel in PANELS else -1 for c in CHANNELS]


@dataclass(frozen=True, eq=False)
class Start:
    """Stays at one hour. read: last charted standard values that the policy looks at (0: none yet)."""

    x: Float[np.ndarray, "n d"]
    regime: Int[np.ndarray, " n"]
    on: Bool[np.ndarray, "n k"]
    read: Float[np.ndarray, "n k"]
    dose: Float[np.ndarray, "n k"]
    frail: Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Paths:
    """What happened in the hours that are kept; hours from `out` on are not there. last: the state in the last hour."""

    x: Float[np.ndarray, "n hours d"]  # float32, like shown
    regime: Int[np.ndarray, "n hours"]
    taken: Bool[np.ndarray, "n hours panels"]
    looked: Bool[np.ndarray, "n hours k"]  # whether what the policy reads was charted
    shown: Float[np.ndarray, "n hours k"]  # its standard value
    on: Bool[np.ndarray, "n hours k"]
    out: Int[np.ndarray, " n"]  # hours in intensive care
    died: Bool[np.ndarray, " n"]  # there
    last: Float[np.ndarray, "n d"]

    def joined(self, others: list[Paths]) -> Paths:
        """These stays and those of others."""
        names = [f.name for f in fields(self)]
        return type(self)(**{k: np.concatenate([getattr(p, k) for p in (self, *others)]) for k in names})


@dataclass(frozen=True, eq=False)
class IcuFactors:
    """The true latents of stays: who they are, their doses, and their paths."""

    static: Float[np.ndarray, "n 4"]
    dose: Float[np.ndarray, "n k"]
    paths: Paths

    def __len__(self) -> int:
        return len(self.static)


def kept_hours(spec: IcuSpec) -> int:
    """Hours of a stay that are kept, labels' look ahead included."""
    return min(HOURS, spec.max_hours + AHEAD)


def sample_factors(n: int, spec: IcuSpec, domain: str, rng: np.random.Generator) -> IcuFactors:
    """The true latents of n stays of one domain. Raises UnknownName for a domain that does not exist."""
    law = icu_law.law_of(spec, domain)
    of_static, of_start, *of_hours = rng.spawn(2 + len(HOURLY))
    static = people(of_static.random((n, 3)), of_static.spawn(1)[0].standard_normal(n))
    drawn = of_start.standard_normal((n, _D + _K + 1))
    dose = doses(law, drawn[:, _D : _D + _K])
    first = starts(law, static, dose, drawn[:, :_D], of_start.spawn(1)[0].random(n))
    draws = dict(zip(HOURLY, of_hours, strict=True))
    parts = []
    for begin in range(0, max(n, 1), BLOCK):
        part = slice(begin, min(begin + BLOCK, n))
        size = part.stop - part.start
        parts.append(simulate(law, rows(first, part), {
            name: (draws[name].standard_normal if normal else draws[name].random)((size, HOURS, k), np.float32)
            for name, (normal, k) in HOURLY.items()}, kept=kept_hours(spec)))  # fmt: skip
    return IcuFactors(static, dose, parts[0].joined(parts[1:]))


def people(coin: Float[np.ndarray, "n 3"], age: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 4"]:
    """The static stream: whole years, male, hours in hospital before (whole minutes), emergency."""
    years = np.clip(np.rint(65 + 15 * age), 18, 100)
    before = np.rint(-24 * np.log1p(-coin[:, 1]) * 60) / 60
    return np.stack([years, coin[:, 0] < 0.56, before, coin[:, 2] < 0.6], axis=1).astype(np.float64)


def doses(law: Law, normal: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    """Each patient's own doses, to a thousandth; 1 of what is on or off."""
    dosed = np.array([t.dosed for t in TREATMENTS])
    return np.where(dosed, np.round(np.clip(law.dose * np.exp(0.25 * normal), 0.2, 5), 3), 1.0)


def starts(
    law: Law, static: Float[np.ndarray, "n 4"], dose: Float[np.ndarray, "n k"], normal: Float[np.ndarray, "n d"],
    coin: Float[np.ndarray, " n"],
) -> Start:
    """Stays in their first hour: mean mu_0 + g frailty, variance 1 in all."""
    slope = law.spec.g_f
    frail = icu_law.frailty(static)
    x = law.admission + slope * frail[:, None] + np.sqrt(1 - slope**2) * normal
    regime = (coin[:, None] >= np.cumsum(law.begin)[:-1]).sum(axis=1)
    n = len(static)
    return Start(x, regime, np.zeros((n, _K), bool), np.zeros((n, _K)), dose, frail)


def rows(start: Start, part: slice | np.ndarray) -> Start:
    """Some of the stays."""
    return Start(*(getattr(start, f.name)[part] for f in fields(start)))


def moved(
    law: Law, x: Float[np.ndarray, "... d"], regime: Int[np.ndarray, "..."], given: Float[np.ndarray, "... k"]
) -> Float[np.ndarray, "... d"]:
    """The mean of the next hour's state. regime: the next hour's; given: dose of what ran in this hour."""
    return x @ law.step.T + law.drift[regime] + given @ law.effect


def changed(law: Law, regime: Int[np.ndarray, "..."], coin: Float[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
    """The next hour's regimes."""
    return (coin[..., None] >= np.cumsum(law.change, axis=1)[regime][..., :-1]).sum(axis=-1)


def read_panels(taken: Bool[np.ndarray, "n panels"], coin: Float[np.ndarray, "n k"], law: Law) -> np.ndarray:
    """Which of the channels that the policy reads are charted."""
    return taken[:, [_PANEL_OF[c] for c in law.reads]] & (coin >= law.spec.p_miss)


def simulate(law: Law, start: Start, draws: dict[str, np.ndarray], kept: int, first: int = 0) -> Paths:
    """Hours from `first` on, until every stay has ended; those before hour `kept` are recorded.

    start: the stays in hour `first` (its regime and state already drawn) if that is 0, else in the hour before it.
    draws: random numbers of each hour, (n, hours, ...), by name of `HOURLY`.
    """
    n, hours = len(start.x), draws["state"].shape[1]
    size = kept - first
    reads, toward = law.reads, law.toward
    x, regime, on, read = start.x, start.regime, start.on, start.read.copy()
    out, died, last = np.full(n, first + hours), np.zeros(n, bool), np.zeros((n, _D))
    there = np.ones(n, bool)
    kept_x, kept_shown = np.zeros((n, size, _D), np.float32), np.zeros((n, size, _K), np.float32)
    kept_regime, kept_taken = np.zeros((n, size), np.int8), np.zeros((n, size, _P), bool)
    kept_on, kept_looked = (np.zeros((n, size, _K), bool) for _ in range(2))
    loadings, noise, level = law.loadings[reads], law.noise[reads], law.starts()[reads]
    for i in range(hours):
        t = first + i
        if t > 0:
            regime = changed(law, regime, draws["regime"][:, i, 0])
            x = moved(law, x, regime, on * start.dose) + law.shock * draws["state"][:, i]
        taken = draws["panel"][:, i] < chance(icu_law.panel_odds(law, x, t))
        looked = read_panels(taken, draws["coin"][:, i], law)
        shown = x @ loadings.T + noise * draws["read"][:, i] + level
        shown = standard(charted(shown, reads), reads)  # nobody reads more than what is charted
        read = np.where(looked, toward * shown, read)
        on = draws["act"][:, i] < chance(icu_law.policy_odds(law, x, read, on))
        if i < size:
            kept_x[:, i], kept_regime[:, i], kept_taken[:, i], kept_on[:, i] = x, regime, taken, on
            kept_looked[:, i], kept_shown[:, i] = looked, shown
        if t < WINDOW:
            continue
        dies, leaves = icu_law.end_chances(law, x, start.frail)
        dead = draws["end"][:, i, 0] < dies
        ends = there & (dead | (draws["end"][:, i, 1] < leaves) | (i == hours - 1))
        out[ends], died[ends], last[ends] = t + 1, dead[ends], x[ends]
        there &= ~ends
        if not there.any():
            break
    return Paths(kept_x, kept_regime, kept_taken, kept_looked, kept_shown, kept_on, out, died, last)
