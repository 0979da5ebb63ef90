"""The best areas under the curve of the ICU world's tasks at hour 24, by Monte Carlo, with their errors.

Particles guess each stay's state at hour 24; each goes on to the end by the world's own law, and the share with a
positive label is the risk. Scores come from one half of the particles and weights from the other, so that the area of
the noisy score is measured without bias; it is a lower end, and with scores of half and of a quarter of the particles
the area of noise-free scores is extrapolated (its deficit falls like one over their number). A stay counts as often as
its label is known: nobody asks about the others. One of whose continuations none that scores has a label is scored by
the share of all stays: left out, it would leave those behind whose label is often known.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from simlab.cohort import Cohort
from simlab.environments import icu_dynamics, icu_labels, icu_law, icu_measure, icu_outcomes
from simlab.environments.icu_channels import NAMES, ORGANS, PANELS, TREATMENTS
from simlab.environments.icu_dynamics import Paths, Start
from simlab.environments.icu_knobs import TASKS, IcuSpec
from simlab.environments.icu_law import AHEAD, HOURS, WINDOW
from simlab.errors import OutOfDomain
from simlab.evaluation.auc import rank
from simlab.limits import icu_filter, icu_glasgow
from simlab.limits.icu_filter import Shown

_K, _D, _P = len(TREATMENTS), len(ORGANS), len(PANELS)
_LABELLED = [NAMES.index(name) for name in icu_measure.LABELLED]
_TOGETHER = 2048  # trajectories at a time
FILTERED = 400  # particles of the filter, from which those that go on are taken


def risks(
    spec: IcuSpec, cohort: Cohort, m: int, rng: np.random.Generator, domain: str = "source"
) -> dict[str, Float[np.ndarray, "n m"]]:
    """By task, the label at hour 24 of each of m continuations of each stay (NaN: none); their mean is the risk."""
    law = icu_law.law_of(spec, domain)
    found: dict[str, list[np.ndarray]] = {name: [] for name in TASKS}
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
    return {name: y[name].reshape(len(seen), m) for name in TASKS}


def doses(law: icu_law.Law, seen: Shown, owner: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "nm k"]:
    """A stay's doses where a treatment has run, else drawn."""
    shown = seen.given[:, :WINDOW].max(axis=1)[owner]
    return np.where(shown > 0, shown, icu_dynamics.doses(law, rng.standard_normal((len(owner), _K))))


def future(law: icu_law.Law, start: Start, rng: np.random.Generator) -> Paths:
    """Hours from 24 on, to the end."""
    n, hours = len(start.x), HOURS - WINDOW
    draws = {name: (rng.standard_normal if normal else rng.random)((n, hours, k), np.float32)
             for name, (normal, k) in icu_dynamics.HOURLY.items()}  # fmt: skip
    kept = max(icu_dynamics.kept_hours(law.spec), WINDOW + AHEAD)  # how far sepsis is looked for
    return icu_dynamics.simulate(law, start, draws, kept=kept, first=WINDOW)


def labels(
    law: icu_law.Law, cohort: Cohort, seen: Shown, later: Paths, dose: np.ndarray, owner: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, Float[np.ndarray, " nm"]]:
    """Labels at hour 24 of continued stays, history and future joined. Cultures are not charted: a guess draws them."""
    n = len(owner)
    of_alertness, of_cultures, of_charts = rng.spawn(3)
    state = cohort.streams["state"]
    ran = (seen.given[:, :WINDOW] > 0)[owner]
    own = icu_glasgow.drawn(icu_glasgow.own(cohort, WINDOW), owner, of_alertness)
    past = np.where(state.observed, state.values, np.nan)[:, :WINDOW][:, :, _LABELLED].astype(float)
    bodies = np.stack([state.values[:, 0, NAMES.index(c)] for c in icu_measure.BODY], axis=1)[owner].astype(float)
    grid = np.concatenate([past[owner], charts(law, later, bodies, own, ran[:, -1], rng, of_charts)], axis=1)
    blank = {k: np.concatenate([np.zeros((n, WINDOW, *a.shape[2:]), a.dtype), a], axis=1)
             for k, a in vars(later).items() if k in ("x", "regime", "taken", "looked", "shown", "on")}  # fmt: skip
    blank["on"][:, :WINDOW] = ran
    whole = Paths(**{**vars(later), **blank})
    static = seen.static[owner]
    found = icu_outcomes.ends(static, later.out, later.died, later.last, law.spec.gamma_d, rng.random((n, 4)))
    cultured = icu_outcomes.cultures(icu_outcomes.begun(whole), of_cultures.random(grid.shape[:2], np.float32))
    y = icu_labels.labels(icu_outcomes.course(whole, dose, grid, found, cultured), WINDOW, WINDOW)
    return {name: y[name] if y[name].ndim == 1 else y[name][:, WINDOW - 1] for name in TASKS}


def charts(
    law: icu_law.Law, later: Paths, bodies: Float[np.ndarray, "nm 2"], own: Float[np.ndarray, " nm"],
    before: Bool[np.ndarray, "nm k"], rng: np.random.Generator, of_more: np.random.Generator,
) -> Float[np.ndarray, "nm hours labelled"]:
    """What labels are made of, from hour 24 on, NaN where not charted; AHEAD hours at a time. own: a patient's own
    alertness; before: what ran in hour 23; rng, of_more: of the first AHEAD hours, of the others."""
    n, hours = later.on.shape[:2]
    ventilated = np.concatenate([before[:, None], later.on[:, :-1]], axis=1)[:, :, icu_measure.VENTILATED]
    parts = []
    for begin in range(0, hours, AHEAD):
        part = slice(begin, min(begin + AHEAD, hours))
        shape, source = (n, part.stop - begin, len(NAMES)), of_more if begin else rng
        drawn = source.standard_normal(shape, np.float32), source.random(shape, np.float32)
        alert = icu_measure.SHARE * (own[:, None] + source.standard_normal(shape[:2]))
        some = Paths(**{k: a[:, part] if a.ndim > 1 and k != "last" else a for k, a in vars(later).items()})
        value, there = icu_measure.chart(law, some, bodies, *drawn, alert, WINDOW + begin)
        for name in icu_measure.LOST:  # a part's first hour does not know the hour before
            points = np.where(ventilated[:, part], icu_measure.LOST[name][2], icu_measure.points(name, alert))
            value[:, :, NAMES.index(name)] = points
        parts.append(np.where(there, value, np.nan)[:, :, _LABELLED])
    return np.concatenate(parts, axis=1)


def areas(
    spec: IcuSpec, n: int = 150, m: int = 32, rng: np.random.Generator | None = None, *, domain: str = "source"
) -> dict[str, dict[str, float | None]]:
    """By task: auc (extrapolated), its standard error se (over stays), lower (of the noisy score), prevalence; None
    where no two stays can be of two classes. Raises OutOfDomain for fewer than 8 continuations."""
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
    """The area of one task from the labels of its continuations. Both directions of the halves use the same stays, so
    a stay moves the area by the mean of what it moves in each."""
    half, quarter = y.shape[1] // 2, y.shape[1] // 4
    auc, lower, moved = [], [], []
    for score, weight in ((y[:, :half], y[:, half:]), (y[:, half:], y[:, :half])):
        sick, well = ((weight == label).mean(axis=1) for label in (1, 0))
        if np.count_nonzero(sick + well) < 2 or not sick.sum() * well.sum() > sick @ well:
            return dict.fromkeys(("auc", "lower", "se", "prevalence"))
        (whole, of_whole), (part, of_part) = (asked_auc(_share(y), sick, well) for y in (score, score[:, :quarter]))
        auc.append(2 * whole - part)
        lower.append(whole)
        moved.append(2 * of_whole - of_part)
    return {"auc": min(1.0, float(np.mean(auc))), "lower": float(np.mean(lower)),
            "se": standard_error(np.mean(moved, axis=0)), "prevalence": float(np.nanmean(y))}  # fmt: skip


def _share(y: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
    """The share of a stay's known labels that is positive; where none is known, that of all stays together."""
    positive, known = (y == 1).sum(axis=1), (~np.isnan(y)).sum(axis=1)
    return np.where(known > 0, positive / np.maximum(known, 1), positive.sum() / max(1, known.sum()))


def asked_auc(
    scores: Float[np.ndarray, " n"], sick: Float[np.ndarray, " n"], well: Float[np.ndarray, " n"]
) -> tuple[float, Float[np.ndarray, " n"]]:
    """The area among stays whose label is known, and each stay's influence on it; sick, well: the probabilities that a
    stay has a label and it is 1, or 0 (some stay's first and another's second above 0). Where every label is known it
    is `weighted_auc`."""
    ranking = rank(scores)
    (below_well, tied_well), (below_sick, tied_sick) = map(ranking.lower_and_tied, (well, sick))
    pairs = float(sick.sum() * well.sum())
    value = float(sick @ (below_well + 0.5 * (tied_well - well))) / (pairs - float(sick @ well))
    below = (below_well + 0.5 * tied_well) / well.sum()
    above = 1 - (below_sick + 0.5 * tied_sick) / sick.sum()
    return value, sick * (below - value) / sick.mean() + well * (above - value) / well.mean()


def standard_error(influence: Float[np.ndarray, " n"]) -> float:
    """Over the sampling of stays."""
    return float(np.sqrt(np.sum(influence**2)) / len(influence))
