"""The best areas under the curve of the ICU world's tasks at hour 24, by Monte Carlo, with their errors.

Particles guess each stay's state at hour 24; each goes on to the end by the world's own law, and the share with a
positive label is the risk. Scores come from one half of the particles and weights from the other, so that the area of
the noisy score is measured without bias; it is a lower end, and with scores of half and of a quarter of the particles
the area of noise-free scores is extrapolated (its deficit falls like one over their number). A stay counts as often as
its label is known: nobody asks about the others.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from simlab.cohort import Cohort
from simlab.environments import icu_dynamics, icu_labels, icu_law, icu_measure, icu_outcomes
from simlab.environments.icu_channels import NAMES, ORGANS, PANELS, TREATMENTS
from simlab.environments.icu_dynamics import Paths, Start
from simlab.environments.icu_knobs import TASKS, IcuSpec
from simlab.environments.icu_law import AHEAD, HOURS, WINDOW
from simlab.errors import OutOfDomain
from simlab.evaluation.auc import rank
from simlab.limits import icu_filter
from simlab.limits.icu_filter import Shown

ASKED = tuple(name for name in TASKS if name != "sepsis")  # the Glasgow scale's own process is not filtered
_K, _D, _P = len(TREATMENTS), len(ORGANS), len(PANELS)
_TOGETHER = 2048  # trajectories at a time
FILTERED = 400  # particles of the filter, from which those that go on are taken


def risks(
    spec: IcuSpec, cohort: Cohort, m: int, rng: np.random.Generator, domain: str = "source"
) -> dict[str, Float[np.ndarray, "n m"]]:
    """By task, the label at hour 24 of each of m continuations of each stay (NaN: none); their mean is the risk."""
    law = icu_law.law_of(spec, domain)
    found: dict[str, list[np.ndarray]] = {name: [] for name in ASKED}
    at_once = max(1, _TOGETHER // m)
    for begin in range(0, len(cohort), at_once):
        part = cohort.take(np.arange(begin, min(begin + at_once, len(cohort))))
        for name, y in continued(law, part, m, rng).items():
            found[name].append(y)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def continued(
    law: icu_law.Law, cohort: Cohort, m: int, rng: np.random.Generator
) -> dict[str, Float[np.ndarray, "n m"]]:
    """The same for a few stays at once."""
    seen = icu_filter.shown(cohort)
    at = icu_filter.weighed(law, seen, icu_filter.particles(law, seen, WINDOW, max(m, FILTERED), rng))
    at = at.resampled(rng, always=True)
    pick = rng.permuted(np.tile(np.arange(at.x.shape[1]), (len(seen), 1)), axis=1)[:, :m]
    x, regime, read = (np.take_along_axis(a, pick.reshape(*pick.shape, *[1] * (a.ndim - 2)), axis=1).reshape(
        len(seen) * m, *a.shape[2:]) for a in (at.x, at.regime, at.read))  # fmt: skip
    owner = np.repeat(np.arange(len(seen)), m)
    on = seen.given[owner, WINDOW - 1] > 0
    dose = doses(law, seen, owner, rng)
    later = future(law, Start(x, regime, on, read, dose, icu_law.frailty(seen.static)[owner]), rng)
    y = labels(law, cohort, seen, later, dose, owner, rng)
    return {name: y[name].reshape(len(seen), m) for name in ASKED}


def doses(law: icu_law.Law, seen: Shown, owner: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "nm k"]:
    """A stay's doses where a treatment has run, else drawn."""
    shown = seen.given[:, :WINDOW].max(axis=1)[owner]
    return np.where(shown > 0, shown, icu_dynamics.doses(law, rng.standard_normal((len(owner), _K))))


def future(law: icu_law.Law, start: Start, rng: np.random.Generator) -> Paths:
    """Hours from 24 on, to the end."""
    n, hours = len(start.x), HOURS - WINDOW
    draws = {name: (rng.standard_normal if normal else rng.random)((n, hours, k), np.float32)
             for name, (normal, k) in icu_dynamics.HOURLY.items()}  # fmt: skip
    return icu_dynamics.simulate(law, start, draws, kept=WINDOW + AHEAD, first=WINDOW)


def labels(
    law: icu_law.Law, cohort: Cohort, seen: Shown, later: Paths, dose: np.ndarray, owner: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, Float[np.ndarray, " nm"]]:
    """Labels at hour 24 of continued stays, history and future joined."""
    n, shape = len(owner), (len(owner), AHEAD, len(NAMES))
    state = cohort.streams["state"]
    bodies = np.stack([state.values[:, 0, NAMES.index(c)] for c in icu_measure.BODY], axis=1)[owner].astype(float)
    value, there = icu_measure.chart(law, later, bodies, rng.standard_normal(shape, np.float32),
                                     rng.random(shape, np.float32), rng.standard_normal(shape[:2]), WINDOW)
    wanted = [NAMES.index(name) for name in icu_measure.LABELLED]
    past = np.where(state.observed, state.values, np.nan)[:, :WINDOW][:, :, wanted].astype(float)
    grid = np.concatenate([past[owner], np.where(there, value, np.nan)[:, :, wanted]], axis=1)
    ran = (seen.given[:, :WINDOW] > 0)[owner]
    blank = {k: np.concatenate([np.zeros((n, WINDOW, *a.shape[2:]), a.dtype), a], axis=1)
             for k, a in vars(later).items() if k in ("x", "regime", "taken", "looked", "shown", "on")}  # fmt: skip
    blank["on"][:, :WINDOW] = ran
    whole = Paths(**{**vars(later), **blank})
    static = seen.static[owner]
    found = icu_outcomes.ends(static, later.out, later.died, later.last, law.spec.gamma_d, rng.random((n, 4)))
    course = icu_outcomes.course(whole, dose, grid, found, [[] for _ in range(n)])
    y = icu_labels.labels(course, WINDOW, WINDOW)
    return {name: y[name] if y[name].ndim == 1 else y[name][:, WINDOW - 1] for name in ASKED}


def areas(
    spec: IcuSpec, n: int = 150, m: int = 32, rng: np.random.Generator | None = None, *, domain: str = "source"
) -> dict[str, dict[str, float | None]]:
    """By task: auc (extrapolated), lower (of the noisy score), se (over stays), prevalence; None where one class
    alone was met, and for sepsis, of which no risk is known. Raises OutOfDomain for fewer than 8 continuations."""
    if m < 8 or m % 4:
        raise OutOfDomain(f"areas: m = {m}; a multiple of 4, at least 8, is needed.")
    rng = np.random.default_rng(1) if rng is None else rng
    of_stays, of_risks = rng.spawn(2)
    from simlab.limits.icu import drawn

    cohort = drawn(spec, n, of_stays, domain)
    found: dict[str, dict[str, float | None]] = {name: dict.fromkeys(("auc", "lower", "se", "prevalence")) for name in
                                                 TASKS}  # fmt: skip
    for name, y in risks(spec, cohort, m, of_risks, domain).items():
        found[name] = _area(y[~np.isnan(y).all(axis=1)])
    return found


def _area(y: Float[np.ndarray, "n m"]) -> dict[str, float | None]:
    """The area of one task from the labels of its continuations."""
    half, quarter = y.shape[1] // 2, y.shape[1] // 4
    ends = [(y[:, :half], y[:, half:]), (y[:, half:], y[:, :half])]
    whole, part = [], []
    for score, weight in ends:
        known = ~np.isnan(score[:, :quarter]).all(axis=1) & ~np.isnan(weight).all(axis=1)
        sick, well = ((weight[known] == label).mean(axis=1) for label in (1, 0))
        if not (sick.sum() > 0 and well.sum() > 0):
            return dict.fromkeys(("auc", "lower", "se", "prevalence"))
        whole.append(asked_auc(np.nanmean(score[known], axis=1), sick, well))
        part.append(asked_auc(np.nanmean(score[known][:, :quarter], axis=1), sick, well))
    lower, few = (float(np.mean([value for value, _ in parts])) for parts in (whole, part))
    return {"auc": min(1.0, 2 * lower - few), "lower": lower, "se": float(np.mean([se for _, se in whole])),
            "prevalence": float(np.nanmean(y))}  # fmt: skip


def asked_auc(
    scores: Float[np.ndarray, " n"], sick: Float[np.ndarray, " n"], well: Float[np.ndarray, " n"]
) -> tuple[float, float]:
    """The area among stays whose label is known, and its standard error over stays; sick, well: the probabilities that
    a stay has a label and it is 1, or 0. Where every label is known it is `weighted_auc`."""
    ranking = rank(scores)
    (below_well, tied_well), (below_sick, tied_sick) = map(ranking.lower_and_tied, (well, sick))
    pairs = float(sick.sum() * well.sum())
    value = float(sick @ (below_well + 0.5 * (tied_well - well))) / (pairs - float(sick @ well))
    below = (below_well + 0.5 * tied_well) / well.sum()
    above = 1 - (below_sick + 0.5 * tied_sick) / sick.sum()
    moved = sick * (below - value) / sick.mean() + well * (above - value) / well.mean()
    return value, float(np.sqrt(np.sum(moved**2)) / len(scores))
