"""What a study holds: frozen dataclasses whose fields carry their domains, and their form as TOML tables.

`simlab.sweep.study` reads files into them. Nothing here imports an array module.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from simlab.environments.knobs import Choice, Interval
from simlab.sweep import fields
from simlab.sweep.fields import setting

Value = float | int | str
Setting = tuple[tuple[str, Value], ...]  # hyperparameters by the names of `Train`, sorted
Chosen = tuple[int, str, Setting]  # (cell, arm, its setting)

TEXTS = ("question", "hypothesis", "prediction", "falsified_if")
SPENDING = ("pocock", "obrien-fleming")  # how alpha is spent over looks (`simlab.sweep.looks`)
DESIGNS = ("grid", "sobol", "boundary", "tune")
SCATTERED = ("sobol", "boundary")  # those whose cells do not fill rows and columns
POSITIVE = Interval(0, math.inf, low_open=True)
COUNT = Interval(1, 100_000_000, whole=True)


@dataclass(frozen=True)
class Axis:
    """One swept knob: its name as the study wrote it (the table's column is `p_<name>`), and its values in order.

    `continuous`: any value between the two in `values` (not in a grid); else those in `values` alone.
    """

    name: str
    values: tuple[Value, ...]
    scale: str  # "linear" | "log" | "choice"
    symbol: str
    stage: str  # what a change of the knob touches: "source" | "labels" | "target"
    continuous: bool = False


@dataclass(frozen=True)
class Compare:
    """Arms, and the contrasts (first minus second) read from one metric of one task in one cohort.

    `rope` is the margin of practical equivalence, in units of the metric; the first contrast is the primary one.
    """

    arms: tuple[str, ...]
    contrasts: tuple[tuple[str, str], ...]
    metric: str = "auc"
    cohort: str = "test"
    task: str = "outcome"
    rope: float = 0.01


@dataclass(frozen=True)
class Train:
    """How the gradient-trained arms are trained; equal for all of them."""

    encoder: str = setting("linear", Choice(("linear", "mlp")), "encoder of each view")
    width: int = setting(8, Interval(1, 4096, whole=True), "width k of the representation of each view")
    hidden: int = setting(64, Interval(1, 8192, whole=True), "hidden units of MLP encoders and predictors")
    steps: int = setting(1200, COUNT, "pretraining steps")
    batch: int = setting(512, Interval(2, 1_000_000, whole=True), "records a pretraining step")
    learning_rate: float = setting(0.002, POSITIVE, "peak learning rate of pretraining")
    weight_decay: float = setting(1e-4, Interval(0, math.inf), "decoupled weight decay of pretraining")
    finetune_steps: int = setting(200, COUNT, "steps of fine-tuning and of training from labels alone")
    penalty: float | None = setting(None, Interval(0, math.inf), "ridge penalty of tuned arms, which else tune it")
    encoder_rate: float = setting(1.0, POSITIVE, "learning rate of fine-tuned encoders as a share of the head's")
    token_encoder: str = setting("transformer", Choice(("transformer", "linear", "mlp")), "encoder of arms on tokens")
    depth: int = setting(2, Interval(1, 64, whole=True), "blocks of the transformer")
    decay: str = setting("key", Choice(("key", "query", "none")), "how old visits fade in its attention")
    missing: str = setting("masked", Choice(("masked", "zero-filled")), "a stream that is missing at a visit")
    readout: str = setting("last", Choice(("last", "mean")), "a record's representation from its tokens")
    masked: float = setting(0.5, Interval(0, 1, low_open=True, high_open=True), "share of a record that is predicted")
    goal: str = setting("whole", Choice(("whole", "target")), "tokens in whose light a token's goal is encoded")
    coordinates: int = setting(6, Interval(2, 4096, whole=True), "blocks of a visit's vector (coordinate view)")
    patch: int = setting(8, Interval(1, 1024, whole=True), "voxels a side of a volume's patches")
    volume: str = setting("patches", Choice(("patches", "cnn")), "tokens of a volume: patches, or one of a 3-D CNN")
    diagnostics: str = setting("summary", Choice(("summary", "full")), "which diagnostics of encoders become metrics")
    fleet: int = setting(4, Interval(1, 4096, whole=True), "seeds trained together as one batched fleet (one job)")
    n_test: int = setting(20_000, Interval(100, 10_000_000, whole=True), "records in each test cohort")
    n_target: int | None = setting(None, Interval(2, 10_000_000, whole=True), "unlabelled target records of arms that "
                                   "use some (none given: as many as the source's)")


@dataclass(frozen=True)
class Design:
    """How cells are chosen: every combination of the axes' values, points of a Sobol sequence between their ends, or
    the combinations that a search for the boundary asks for.

    `rounds` is no choice of the user's: how many cells the study had when it was begun, and each time it was extended.
    """

    kind: str = setting("grid", Choice(DESIGNS), "how cells are chosen")
    cells: int | None = setting(None, COUNT, "number of cells (sobol); cells at the start (boundary)")
    batch: int | None = setting(None, COUNT, "trials of an arm (tune), or cells (boundary), asked for at once")
    width: float | None = setting(None, POSITIVE, "mean width of the boundary's band at which a search ends (boundary)")
    around: str | None = setting(None, Choice(("margin", "sign")), "differences whose places a search seeks: zero and "
                                 "the margin on either side of it, or zero alone (boundary)")
    rounds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What one job may take before it is stopped; outside the promise of identical results."""

    timeout_s: float = setting(1800.0, POSITIVE, "seconds after which a job is stopped as stuck")
    memory_mb: float = setting(8192.0, POSITIVE, "resident memory (MB) above which a job is stopped")


@dataclass(frozen=True)
class Budget:
    """Counts, never seconds."""

    trainings: int | None = setting(None, COUNT, "most pretrainings that the study may cost")
    cells: int | None = setting(None, COUNT, "most cells that a search may ask for (boundary)")


@dataclass(frozen=True)
class Tune:
    trials: int | None = setting(None, COUNT, "tuning trials, equal for all arms (design 'tune')")


@dataclass(frozen=True)
class Study:
    """A complete, checked study. `knobs` and `axes` keep the names that the file used."""

    name: str
    seed: int
    question: str
    hypothesis: str
    prediction: str
    falsified_if: str
    world: str
    knobs: Mapping[str, Value]
    axes: tuple[Axis, ...]
    compare: Compare
    looks: tuple[int, ...]
    spending: str = SPENDING[0]
    design: Design = field(default_factory=Design)
    tune: Tune = field(default_factory=Tune)
    budget: Budget = field(default_factory=Budget)
    limits: Limits = field(default_factory=Limits)
    train: Train = field(default_factory=Train)
    trajectory: Mapping[str, Value | bool] = field(default_factory=dict)  # what [trajectory] gives, as it gives it
    choices: tuple[Chosen, ...] = ()  # of design "tune": what tuning chose, once it has (not in the file)
    points: tuple[tuple[Value, ...], ...] = ()  # of design "boundary": its cells so far (not in the file)
    plugins: tuple[str, ...] = ()  # files executed in the driver and in each worker before anything else

    @property
    def arms(self) -> tuple[str, ...]:
        return self.compare.arms

    @property
    def contrasts(self) -> tuple[tuple[str, str], ...]:
        return self.compare.contrasts

    @property
    def metric(self) -> str:
        return self.compare.metric

    @property
    def n_seeds(self) -> int:
        """Seeds that are run: as many as the last look asks for."""
        return self.looks[-1]


def resolved(study: Study) -> dict[str, Any]:
    """The study as nested TOML tables, every default filled in; `build` of it gives the same study."""
    return {
        "study": {"name": study.name, **{k: getattr(study, k) for k in TEXTS}, "seed": study.seed,
                  **({"plugins": list(study.plugins)} if study.plugins else {})},
        "world": {"name": study.world, "knobs": dict(study.knobs)},
        "axes": {axis.name: _axis(axis) for axis in study.axes},
        "design": _given(replace(study.design, rounds=()) if study.design.kind == "boundary" else study.design),
        "compare": {
            "arms": list(study.arms),
            "contrast": [list(pair) for pair in study.contrasts],
            **{k: getattr(study.compare, k) for k in ("metric", "cohort", "task", "rope")},
        },
        "seeds": {"looks": list(study.looks),
                  **({"spending": study.spending} if study.spending != SPENDING[0] else {})},
        **{k: _given(getattr(study, k)) for k in ("tune", "budget", "limits", "train")},
        **({"trajectory": dict(study.trajectory)} if study.trajectory else {}),
    }


def _axis(axis: Axis) -> dict[str, Any]:
    if axis.continuous:
        return {"low": axis.values[0], "high": axis.values[1], "scale": axis.scale}
    return {"values": list(axis.values), "scale": axis.scale}


def _given(section: Any) -> dict[str, Any]:
    """A section's keys that have a value."""
    found = {key: value for key, value in dataclasses.asdict(section).items() if value is not None and value != ()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def dump(study: Study) -> str:
    """The resolved study as TOML text."""
    return fields.dump(resolved(study))


def difference(frozen: Mapping[str, Any], now: Study) -> str | None:
    """The first field in which a frozen study's tables differ from `now` ("train.steps: 100 there, 50 now"), or None.

    `limits` and `budget` may change: they stop work, and never alter a number. More cells are no difference where they
    leave the earlier ones as they are (docs/sweeps.md, "Designs").
    """
    free = ("limits.", "budget.", "design.rounds")
    old = {k: v for k, v in fields.flatten(frozen).items() if not k.startswith(free)}
    new = {k: v for k, v in fields.flatten(resolved(now)).items() if not k.startswith(free)}
    for tables in (old, new):  # plug-ins may have moved; their contents are checked where results are resumed
        if "study.plugins" in tables:
            tables["study.plugins"] = [str(item).rpartition("/")[2] for item in tables["study.plugins"]]
    for key in [*new, *old]:
        if old.get(key) != new.get(key) and not _extends(key, old.get(key), new.get(key), now):
            return f"{key}: {old.get(key, 'nothing')!r} there, {new.get(key, 'nothing')!r} now{_hint(key, now)}"
    return None


def _extends(key: str, old: Any, new: Any, now: Study) -> bool:
    """Whether the change adds cells behind the earlier ones: more of a sequence, or more values of a grid's first axis
    (the one that turns slowest)."""
    if now.design.kind == "sobol":
        return key == "design.cells" and isinstance(old, int) and old < new
    if now.design.kind == "boundary":  # the boundary is to be known better: the search goes on from where it ended
        return key == "design.width" and isinstance(old, float) and new < old
    first = key == f"axes.{now.axes[0].name}.values" and isinstance(old, list)
    return first and len(old) < len(new) and new[: len(old)] == old


def _hint(key: str, now: Study) -> str:
    if not (key.startswith("axes.") and key.endswith(".values") and now.design.kind in ("grid", "tune")):
        return ""
    return f"; values may only be added at the end of the first axis, {now.axes[0].name}"


def adopt(frozen: Mapping[str, Any], now: Study) -> Study:
    """`now` with the rounds in which its cells came to be, those of the frozen study first: jobs depend on them.

    A search's lie in a record of their own (`simlab.sweep.boundary`).
    """
    if now.design.kind == "boundary":
        return now
    design, axes = frozen.get("design", {}), frozen.get("axes", {})
    grid = math.prod(len(axis.get("values", ())) for axis in axes.values())
    before = design.get("rounds") or [design.get("cells", 0) if design.get("kind") == "sobol" else grid]
    n = n_cells(now)
    rounds = tuple(before) if n <= before[-1] else (*before, n)
    if len(rounds) == 1 or difference(frozen, now) is not None:
        return now
    return replace(now, design=replace(now.design, rounds=rounds))


def n_cells(study: Study) -> int:
    """Cells of a study: those of its sequence, of its search so far, or of its whole grid."""
    if study.design.kind in SCATTERED:
        assert study.design.cells is not None
        return len(study.points) or study.design.cells
    return math.prod(len(axis.values) for axis in study.axes)
