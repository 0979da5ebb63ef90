"""The whole evaluation of one frozen backbone on one cohort: shape, drift, what drift is made of, geometry, decoded
variables, tasks. What trains the backbone is elsewhere; here it encodes, rolls out, and is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import RidgeCV

from simlab.cohort import Cohort
from simlab.errors import InvalidCohort, OutOfDomain
from simlab.evaluation import decoding, geometry
from simlab.evaluation import drift as drifts
from simlab.trajectories import groups
from simlab.trajectories.landmarks import BACK, CONTEXTS, Landmarks, landmarks
from simlab.trajectories.tasks import ENCODED, ROLLED, Scored, encoded, few_of_a_class, latent_views, rolled, score

ACTIONS = ("true", "zero", "shuffled", "held")
STATE = "state"
ROLLED_AT = (1, 6, 12, 24)
SAME = "true, the same stays"  # as those that the reference forecasts


@runtime_checkable
class Latents(Protocol):
    """What a backbone makes of a cohort's first hours: (stays, hours, D), and (stays, D) of the statics."""

    state: Float[np.ndarray, "stays hours width"]
    static: Float[np.ndarray, "stays width"]


@runtime_checkable
class Frozen(Protocol):
    """A trained backbone as it is used here."""

    def encode(self, cohort: Cohort) -> Latents:
        """The latents of every stay from its first hour on."""
        ...

    def rollout(
        self, latents: Latents, context: int, horizons: int, actions: str, rng: np.random.Generator
    ) -> Float[np.ndarray, "stays horizons width"]:
        """Latents of the hours context .. context + horizons - 1, each fed back, given the true ones before."""
        ...


@dataclass(frozen=True)
class Plan:
    """What is evaluated. `context`: of everything but the drift's further contexts and the tasks' own hours."""

    context: int = 24
    contexts: tuple[int, ...] = (6, 12, 24)
    horizons: tuple[int, ...] = drifts.HORIZONS
    actions: tuple[str, ...] = ACTIONS
    tasks: tuple[str, ...] = ()  # none named: every binary task
    asked: tuple[int, ...] = CONTEXTS
    compare: tuple[str, ...] = ()
    span: tuple[int, int] = (0, 48)
    probe: str = "ridge"
    rolls: bool = True  # whether the backbone has a predictor; without one it is encoded alone
    decode: bool = True
    draws: int = 500
    seed: int = 0


@dataclass(frozen=True)
class DriftRow:
    """Drift of one context and choice of actions at one horizon, with what it is worth beside simple forecasts.

    `step`: L1 at one hour; `mase_copy`, `mase_mean`, `mase_line`: L1 over that of the last latent, the mean at the hour
    and a straight line; `retrieval`: how often the forecast is nearer to its own stay's latent than to another's.
    `actions`: of the roll-out; of another forecast its name.
    """

    context: int
    actions: str
    drift: drifts.Drift
    step: float | None
    mase_copy: float | None
    mase_mean: float | None
    mase_line: float | None
    retrieval: float | None


@dataclass(frozen=True)
class Report:
    """Everything that was measured of one backbone on one cohort. `reference`: which forecast `parts` are laid beside;
    `best`: its own drift rows, on the stays that it forecasts; `same`: the roll-out's (true actions) on these stays,
    none where it forecasts every stay that the roll-out does."""

    shape: Mapping[str, float]
    drift: tuple[DriftRow, ...]
    parts: tuple[drifts.Parts | None, ...]
    reference: str
    best: tuple[DriftRow, ...]
    geometry: Mapping[str, tuple[geometry.Ratio, ...]]
    decoded: tuple[decoding.Decoded, ...]
    tasks: tuple[Scored, ...]
    notes: tuple[str, ...] = field(default=())
    same: tuple[DriftRow, ...] = ()


class Remembering:
    """A backbone whose longest roll-out along the true actions is kept: drift, its parts and decoding ask for the same.
    """

    def __init__(self, backbone: Frozen) -> None:
        self.backbone = backbone
        self._kept: dict[tuple[int, int, int], Any] = {}

    def encode(self, cohort: Cohort) -> Latents:
        return self.backbone.encode(cohort)

    def rollout(
        self, latents: Latents, context: int, horizons: int, actions: str, rng: np.random.Generator
    ) -> Float[np.ndarray, "stays horizons width"]:
        if actions != "true":
            return self.backbone.rollout(latents, context, horizons, actions, rng)
        key = id(latents), context, horizons
        if key not in self._kept:
            self._kept[key] = self.backbone.rollout(latents, context, horizons, actions, rng)
        return self._kept[key]


# A world's simulated optimum: (test stays, context, horizons) -> forecast latents, and its name.
Best = Callable[[Cohort, int, int], Float[np.ndarray, "stays horizons width"]]
# The world's best forecast of what is charted: (test stays, context, horizons) -> by horizon, each channel's value.
BestValues = Callable[[Cohort, int, Sequence[int]], Mapping[int, Float[np.ndarray, "stays channels"]]]


def evaluate(
    backbone: Frozen,
    train: Cohort,
    test: Cohort,
    plan: Plan,
    best: tuple[str, Best] | None = None,
    path: str = "path",
    say: Callable[[str], None] = lambda text: None,
    values: BestValues | None = None,
) -> Report:
    """The report on the test stays. Probes learn on the training stays' latents; nothing is fitted on test stays.

    best: the world's optimum in this latent space, else a direct linear forecast that is fitted on the training stays
    takes its place. path: name of the world's factor that holds the true state. values: the world's best forecast of
    what is charted, beside the decoded variables.
    """
    rng = np.random.default_rng(plan.seed)
    say("encode")
    backbone = Remembering(backbone)
    latents, known = backbone.encode(test), backbone.encode(train)
    notes: list[str] = []
    say("drift")
    reference = best or ("direct linear forecast", linear_forecast(known, latents, train))
    rows, parts, own, same = (), (), (), ()
    if plan.rolls:
        rows = _drift_rows(backbone, latents, known, train, test, plan, rng)
        say("what drift is made of")
        parts, own, same = _parts(backbone, latents, known, train, test, plan, reference, path, rng)
    say("geometry")
    shown = _geometry(latents, train, test, plan, path, rng, notes)
    say("decoded variables")
    decoded = _decoded(backbone, latents, known, train, test, plan, rng, values) if plan.decode and plan.rolls else ()
    scored = tuple(_tasks(backbone, latents, known, train, test, plan, rng, notes, say))
    notes += few_of_a_class(scored)
    return Report(drifts.latent_shape(latents.state, test.length), rows, parts, reference[0], own, shown, decoded,
                  scored, tuple(notes), same)


def _drift_rows(
    backbone: Frozen, latents: Latents, known: Latents, train: Cohort, test: Cohort, plan: Plan,
    rng: np.random.Generator,
) -> tuple[DriftRow, ...]:
    furthest, rows = max(plan.horizons), []
    for context in (c for c in plan.contexts if c < latents.state.shape[1]):
        beside = _beside(latents, known, train, test, context, furthest)
        for actions in plan.actions:
            forecast = backbone.rollout(latents, context, furthest, actions, rng)
            error = drifts.errors(forecast, latents.state, test.length, context)
            found = drifts.drift(error, plan.horizons, test.subject, rng, plan.draws)
            rows += _worth(context, actions, found, forecast, error, latents, beside)
    return tuple(rows)


def _beside(
    latents: Latents, known: Latents, train: Cohort, test: Cohort, context: int, furthest: int
) -> list[Float[np.ndarray, "stays horizons"]]:
    """Errors of the three simple forecasts: the last latent, the mean at the hour, a straight line."""
    z = latents.state
    means = drifts.mean_at_hour(known.state, train.length)
    others = (drifts.copy_forward(z, context, furthest), drifts.at_hours(means, len(z), context, furthest),
              drifts.straight_line(z, context, furthest))
    return [drifts.errors(other, z, test.length, context) for other in others]


def _worth(
    context: int, name: str, found: Sequence[drifts.Drift], forecast: Float[np.ndarray, "stays horizons width"],
    error: Float[np.ndarray, "stays horizons"], latents: Latents, beside: Sequence[Float[np.ndarray, "stays horizons"]],
) -> list[DriftRow]:
    """A row for each horizon: this drift of a forecast, and what the forecast is worth on the stays that `error` has.
    """
    z = latents.state
    matched, step = np.isfinite(error).all(axis=1), error[np.isfinite(error[:, 0]), 0]
    rows = []
    for d in found:
        hour = context + d.horizon - 1
        there = np.flatnonzero(matched) if hour < z.shape[1] else np.array([], dtype=np.int64)
        own = drifts.retrieval(forecast[there, d.horizon - 1], z[there, hour]) if len(there) > 1 else None
        rows.append(DriftRow(context, name, d, float(step.mean()) if len(step) else None,
                             *(drifts.mase(error, other, d.horizon) for other in beside), own))
    return rows


def _parts(
    backbone: Frozen, latents: Latents, known: Latents, train: Cohort, test: Cohort, plan: Plan,
    reference: tuple[str, Best], path: str, rng: np.random.Generator,
) -> tuple[tuple[drifts.Parts | None, ...], tuple[DriftRow, ...], tuple[DriftRow, ...]]:
    """What the published drift at the plan's context is made of, the reference forecast's own rows, and the roll-out's
    on the same stays where the reference does not forecast all that the roll-out does."""
    z, length, context, furthest = latents.state, test.length, plan.context, max(plan.horizons)

    def error(forecast: Any, of: Any) -> Float[np.ndarray, "stays horizons"]:
        return drifts.errors(forecast, of, length, context)

    def spread(of_train: Any, of_test: Any) -> Float[np.ndarray, "stays horizons"]:
        means = drifts.mean_at_hour(of_train, train.length)
        return error(drifts.at_hours(means, len(of_test), context, furthest), of_test)

    best, ahead = reference[1](test, context, furthest), backbone.rollout(latents, context, furthest, "true", rng)
    own, forecast = error(best, z), error(ahead, z)
    states = groups.true_state(train, path), groups.true_state(test, path)
    if all(states):
        outside = spread(*(next(iter(s.values()))[:, : z.shape[1]] for s in states))
    else:
        outside = spread(groups.raw(train, train)[:, : z.shape[1]], groups.raw(train, test)[:, : z.shape[1]])
    made = drifts.apportion(forecast, spread(known.state, z), outside, own, plan.horizons)
    beside = _beside(latents, known, train, test, context, furthest)
    found = drifts.drift(own, plan.horizons, test.subject, rng, plan.draws)
    rows = _worth(context, reference[0], found, best, own, latents, beside)
    covered = np.isfinite(own).all(axis=1)
    if not covered.any() or not (np.isfinite(forecast) & ~np.isfinite(own)).any():
        return tuple(made), tuple(rows), ()
    shared = np.where(covered[:, None], forecast, np.nan)
    apart = np.random.default_rng(plan.seed)  # draws of its own: all others are what they are without these rows
    found = drifts.drift(shared, plan.horizons, test.subject, apart, plan.draws)
    return tuple(made), tuple(rows), tuple(_worth(context, SAME, found, ahead, shared, latents, beside))


def linear_forecast(known: Latents, latents: Latents, train: Cohort) -> Best:
    """Ridge from what is known at the context (last latent, mean so far, statics) to the latents of all horizons, on
    the training stays that have them all: a reference for data without a known optimum."""

    def seen(of: Latents, context: int) -> Float[np.ndarray, "stays _"]:
        return np.concatenate([of.state[:, context - 1], of.state[:, :context].mean(axis=1), of.static], axis=1)

    def forecast(test: Cohort, context: int, horizons: int) -> Float[np.ndarray, "stays horizons width"]:
        given = seen(latents, context).astype(np.float64)
        found = np.full((len(given), horizons, latents.state.shape[2]), np.nan)
        most = min(horizons, known.state.shape[1] - context)
        there = train.length >= context + most
        if most < 1 or there.sum() < 3:
            return found
        x, target = seen(known, context)[there], known.state[there, context : context + most]
        model = RidgeCV(alphas=np.logspace(-2, 5, 8)).fit(x.astype(np.float64), target.reshape(len(x), -1))
        found[:, :most] = model.predict(given).reshape(len(given), most, -1)
        return found

    return forecast


def _geometry(
    latents: Latents, train: Cohort, test: Cohort, plan: Plan, path: str, rng: np.random.Generator, notes: list[str]
) -> dict[str, tuple[geometry.Ratio, ...]]:
    spaces = {"latent": latents.state, "raw features": groups.raw(train, test), **groups.true_state(test, path)}
    found = {}
    for name, (worse, stable) in groups.definitions(test, plan.span).items():
        try:
            found[name] = tuple(geometry.compare(spaces, test.length, (worse, stable), test.subject, rng, plan.span,
                                                 draws=plan.draws))
        except OutOfDomain as error:
            notes.append(f"geometry, {name}: {error}")
    return found


def _decoded(
    backbone: Frozen, latents: Latents, known: Latents, train: Cohort, test: Cohort, plan: Plan,
    rng: np.random.Generator, values: BestValues | None,
) -> tuple[decoding.Decoded, ...]:
    if STATE not in test.streams:
        return ()

    def side(of: Latents, cohort: Cohort) -> tuple[Any, Any, Any]:
        stream, visits = cohort.streams[STATE], of.state.shape[1]
        seen = decoding.measured_within(stream.observed[:, :visits], cohort.length)
        return of.state, stream.floats()[:, :visits], seen

    furthest = max(plan.horizons)
    forecast = backbone.rollout(latents, plan.context, furthest, "true", rng)
    at = tuple(dict.fromkeys((1, *plan.horizons)))
    best = None if values is None else values(test, plan.context, at)
    return tuple(decoding.decode(side(known, train), side(latents, test), forecast, plan.context,
                                 test.streams[STATE].channels, test.subject, rng, at, plan.probe, best, plan.draws))


def _tasks(
    backbone: Frozen, latents: Latents, known: Latents, train: Cohort, test: Cohort, plan: Plan,
    rng: np.random.Generator, notes: list[str], say: Callable[[str], None],
) -> list[Scored]:
    binary = [t.name for t in test.tasks.values() if t.kind == "binary" and t.name in train.tasks]
    memory: dict[tuple[str, int], Any] = {}

    def ahead(side: str, of: Latents, contexts: Sequence[int]) -> dict[int, Any]:
        for context in contexts:
            if (side, context) not in memory:
                most = max(ROLLED_AT)
                memory[side, context] = backbone.rollout(of, context, most, "held", rng)
        return {context: memory[side, context] for context in contexts}

    def probed(side: str, of: Latents, asked: Landmarks) -> tuple[Any, ...]:
        contexts = [int(c) for c in np.unique(asked.hour)]
        now = encoded(of.state, of.static, asked, BACK)
        return (now, rolled(ahead(side, of, contexts), of.static, asked, ROLLED_AT)) if plan.rolls else (now,)

    found: list[Scored] = []
    for task in plan.tasks or binary:
        say(task)
        try:
            asked = landmarks(train, task, plan.asked), landmarks(test, task, plan.asked)
        except InvalidCohort as error:
            notes.append(str(error))
            continue
        read = probed("train", known, asked[0]), probed("test", latents, asked[1])
        frozen = {}
        for place, name in enumerate((ENCODED, ROLLED)[: len(read[0])]):
            views, scaling = latent_views(read[0][place])
            frozen[name] = views, latent_views(read[1][place], scaling)[0]
        found += score(*asked, frozen, plan.compare, plan.seed, plan.draws, rng)
    return found


def mean_areas(rows: Sequence[Scored], arm: str) -> tuple[float, int] | None:
    """The mean AUROC of an arm over the tasks in which it has one, and how many these are."""
    values = [row.auroc.value for row in rows if row.arm == arm and row.auroc is not None]
    return (float(np.mean(values)), len(values)) if values else None
