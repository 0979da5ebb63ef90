"""The cells of a study, the jobs that compute them, and what they cost in trainings. No array module for a grid.

Cell i is a pure function of (study, i) (`simlab.sweep.designs`). A job is one group of cells that share every
source-stage knob (so that one pretraining serves them all) times one fleet of seeds; which cells and seeds it holds
follows from the frozen study alone, never from timing or from what remains, because the last bits of a batched product
may depend on the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simlab import methods
from simlab.environments.registry import find_world
from simlab.errors import InvalidStudy
from simlab.sweep import whole_stays
from simlab.sweep.designs import cell
from simlab.sweep.schema import Study, Value, n_cells
from simlab.training.search import touches_pretraining

__all__ = ["Job", "cell", "cell_spec", "check_budget", "columns", "estimate", "fleets", "jobs", "n_cells", "recipes",
           "source_groups", "trainings"]

CELLS_PER_JOB = 256  # fixed for ever: which cells a job holds follows from the frozen study alone


@dataclass(frozen=True)
class Job:
    """One unit of work: these cells, for these seeds.

    The other fields say where it runs, not what it is: device, threads, the stage cache's folder ("": none) and size,
    the folder for artefacts ("": none are kept).
    """

    index: int
    cells: tuple[int, ...]
    seeds: tuple[int, ...]
    device: str = "cpu"
    threads: int = 1
    cache: str = ""
    cache_mb: float = 2048.0
    artefacts: str = ""
    artefact_seeds: tuple[int, ...] | None = None  # None: of every seed

    @property
    def units(self) -> int:
        """Cells times seeds."""
        return len(self.cells) * len(self.seeds)


def cell_spec(study: Study, index: int) -> Any:
    """The complete specification of one cell's world (fixed knobs and axes)."""
    return find_world(study.world).spec({**study.knobs, **cell(study, index)})


def columns(study: Study) -> list[str]:
    """The table's knob columns: `p_<axis name as written>`."""
    return [f"p_{axis.name}" for axis in study.axes]


def source_groups(study: Study) -> list[tuple[int, ...]]:
    """Cells grouped by the values of the axes that touch the source data, in order of first appearance.

    A world's `spec.stage("source")` may name more fields than the knobs of that stage (a shortcut shows the label): an
    axis of one of these counts too.
    """
    first: dict[tuple[Value, ...], int] = {}
    staged = [axis.name for axis in study.axes if axis.stage == "source"]
    for index in range(n_cells(study)):
        point = cell(study, index)
        first.setdefault(tuple(point[name] for name in staged), index)
    specs = [cell_spec(study, index) for index in first.values()]
    touched = {symbol for spec in specs if hasattr(spec, "stage") for symbol in spec.stage("source")}
    source = [axis.name for axis in study.axes if axis.stage == "source" or axis.symbol in touched]
    groups: dict[tuple[Value, ...], list[int]] = {}
    for index in range(n_cells(study)):
        point = cell(study, index)
        groups.setdefault(tuple(point[name] for name in source), []).append(index)
    return [tuple(group) for group in groups.values()]


def fleets(study: Study) -> list[tuple[int, ...]]:
    """The seeds 0 .. last look - 1 in consecutive fleets of `train.fleet`."""
    size = study.train.fleet
    return [tuple(range(start, min(start + size, study.n_seeds))) for start in range(0, study.n_seeds, size)]


def jobs(study: Study, device: str = "cpu", threads: int = 1, cache: str = "", cache_mb: float = 2048.0) -> list[Job]:
    """Every job of the study, in order; together they hold each (cell, seed) exactly once.

    Cells that came in a later round have jobs of their own, behind the earlier ones, which stay as they were.
    """
    groups, ends = source_groups(study), study.design.rounds or (n_cells(study),)
    spans = zip((0, *ends), ends, strict=False)
    within = (tuple(c for c in group if first <= c < last) for first, last in spans for group in groups)
    pairs = [(part, fleet) for group in within for part in _parts(group) for fleet in fleets(study)]
    return [Job(i, part, fleet, device, threads, cache, cache_mb) for i, (part, fleet) in enumerate(pairs)]


def _parts(group: tuple[int, ...]) -> list[tuple[int, ...]]:
    """A group in parts that end within reason; parts share their pretraining through the stage cache."""
    return [group[start:start + CELLS_PER_JOB] for start in range(0, len(group), CELLS_PER_JOB)]


def recipes(study: Study) -> list[tuple[str, ...]]:
    """The distinct pretraining recipes among the arms (one that is pooled from the beginning has no other training)."""
    found = (methods.find(arm) for arm in study.arms)
    return list(dict.fromkeys(method.recipe for method in found if method.pretrained and method.outside != "pooled"))


def trainings(study: Study, todo: Sequence[Job] | None = None) -> int:
    """Pretrainings that these jobs cost at most (all jobs when not given): seeds of each source group x recipes."""
    wanted = jobs(study) if todo is None else todo
    if study.design.kind == "tune":  # each arm at its own setting, in each cell
        arms = [arm for arm in map(methods.find, study.arms) if arm.pretrained]
        asked = sum((study.tune.trials or 0) if touches_pretraining(arm) else 1 for arm in arms)
        tuning = asked * n_cells(study) * study.n_seeds if todo is None else 0
        return tuning + len(arms) * sum(job.units for job in wanted)
    of = {cell: number for number, group in enumerate(source_groups(study)) for cell in group}
    before = sum(len(seeds) for _, seeds in {(of[job.cells[0]], job.seeds) for job in wanted}) * len(recipes(study))
    return before + moved(study, wanted)


def moved(study: Study, todo: Sequence[Job]) -> int:
    """Trainings on records of the target that these jobs cost at most: each seed, for each setting of all knobs but
    those of training labels alone, and each way of moving a recipe."""
    arms = (arm for arm in map(methods.find, study.arms) if arm.moves_outside)
    ways = {(*arm.recipe, arm.outside) for arm in arms}
    axes = [axis.name for axis in study.axes if axis.symbol not in ("n_lab", "flip")]
    if not ways:
        return 0
    points = {(tuple(cell(study, i)[name] for name in axes), job.seeds) for job in todo for i in job.cells}
    return sum(len(seeds) for _, seeds in points) * len(ways)


def check_budget(study: Study) -> None:
    """Refuse a study whose plan costs more pretrainings than its budget. Raises InvalidStudy."""
    if study.design.kind == "boundary":  # a search stops by itself: its start must be within the budget
        study = replace(study, points=(), design=replace(study.design, rounds=()))
    allowed, needed = study.budget.trainings, trainings(study)
    if allowed is not None and needed > allowed:
        start = " for its first cells" if study.design.kind == "boundary" else ""
        raise InvalidStudy(f"study {study.name} needs {needed} pretrainings{start}, its budget.trainings is {allowed}; "
                           "raise the budget, or take fewer seeds, source-stage values or recipes.")


# Rough seconds on one core of a common machine, for a study that has not run here before: one pretraining step of one
# seed with 512 records, one fit and scoring of one arm, and a worker's start.
_STEP, _FIT, START = 0.0015, 0.05, 4.0


def estimate(study: Study, todo: Sequence[Job], workers: int, manifest: Mapping[str, Any]) -> tuple[float | None, str]:
    """Seconds that these jobs may take on so many workers, and what the guess rests on (an earlier run, or nothing).

    None for a language model that has not run here: nothing is loaded, fetched or timed for a guess.
    """
    runs = [run for run in manifest.get("runs", []) if run.get("units") and run.get("seconds")]
    units = sum(job.units for job in todo)
    if runs:
        one = runs[-1]["seconds"] * runs[-1]["workers"] / runs[-1]["units"]
        return units * one / workers, "from the last run here"
    model = whole_stays.language_model(study)
    if model and todo:
        return None, f"{model} is not loaded for a guess: it reads up to {whole_stays.texts(study):,} texts"
    size = study.train.batch / 512 * max(1.0, study.train.width * study.train.hidden / 2048)
    fresh = study.design.kind == "tune" and len(todo) == len(jobs(study))  # its trials are still to come
    work = trainings(study, None if fresh else todo) * study.train.steps * _STEP * size + units * len(study.arms) * _FIT
    return (work / workers + START if todo else 0.0), "a rough guess; a first run will tell"
