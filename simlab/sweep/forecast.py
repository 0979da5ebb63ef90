"""What a run will take: seconds and disk, from an earlier run here, or from a timed slice of it. No array module.

The forecast of a run stands in `manifest.json` beside the seconds that it took; the end of the run says how wrong it
was.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simlab import methods
from simlab.sweep import boundary, plan, whole_stays
from simlab.sweep.plan import Job
from simlab.sweep.pool import Pool
from simlab.sweep.schema import Study

PROBE = "simlab.sweep.probe:probe"
ROW_BYTES, SHARD_BYTES = 14, 9000  # of a results table: a row, compressed, and a shard's file around them
ROWS = 6  # a cell, seed and arm: three metrics in each cohort, and diagnostics


@dataclass(frozen=True)
class Forecast:
    """Seconds on so many workers, MB in the folder with its stage cache, and what they rest on (None: not known)."""

    seconds: float | None
    disk_mb: float | None
    basis: str


def forecast(study: Study, todo: Sequence[Job], workers: int, manifest: Mapping[str, Any], probe: bool) -> Forecast:
    """Of these jobs. `probe`: time a slice of the study (seconds) where no earlier run tells; else a rough guess."""
    known = any(run.get("units") and run.get("seconds") for run in manifest.get("runs", []))
    if not todo or known or not probe or study.design.kind == "tune" or whole_stays.language_model(study):
        seconds, basis = plan.estimate(study, todo, workers, manifest)
        return Forecast(seconds, None, basis)
    begun = time.monotonic()
    with Pool(study, PROBE, 1, todo[0].threads) as pool:
        (outcome,) = pool.run(todo[:1])
    took = time.monotonic() - begun
    if outcome.status != "ok":
        seconds, basis = plan.estimate(study, todo, workers, manifest)
        return Forecast(seconds, None, f"{basis} (the probe ended: {outcome.error})")
    (times,) = outcome.rows
    return Forecast(whole(study, todo, workers, times), disk(study, todo, times),
                    f"from a slice that was timed in {took:.0f} s")


def whole(study: Study, todo: Sequence[Job], workers: int, times: Mapping[str, Any]) -> float:
    """Seconds of the jobs from those of a slice.

    Source data and pretraining once a seed and source group; labels, fits and measurements once a seed for each setting
    of the knobs that they depend on; jobs in as many rounds as the workers need, on cores that there are.
    """
    of = {cell: number for number, group in enumerate(plan.source_groups(study)) for cell in group}
    fleets = {(of[job.cells[0]], job.seeds) for job in todo}
    trained = sum(times["source"] * len(seeds) + sum(times["pretrain"]) * len(seeds) / len(todo[0].seeds)
                  for _, seeds in fleets)
    each = {key: sum(cell[key] for cell in times["cells"]) / len(times["cells"]) for key in times["cells"][0]}
    trained += plan.moved(study, todo) * sum(times["pretrain"]) / max(1, len(times["pretrain"])) / len(todo[0].seeds)
    outside = any(methods.find(arm).outside != "none" for arm in study.arms)  # then knobs of the target fit arms anew
    target = set() if outside else {axis.name for axis in study.axes if axis.stage == "target"}
    fitted = sum(len(_settings(study, job, target)) * len(job.seeds) for job in todo)
    units = sum(job.units for job in todo)
    work = trained + fitted * each["fits"] + units * (each["data"] + each["measures"])
    busy = max(1, min(workers, len(todo), os.cpu_count() or 1))
    rounds = math.ceil(len(todo) / busy) * busy / len(todo)  # the last round may leave workers idle
    return plan.START + work / busy * rounds


def _settings(study: Study, job: Job, target: set[str]) -> set[tuple[Any, ...]]:
    """The distinct settings of a job's knobs but those that touch the target alone."""
    points = (plan.cell(study, cell) for cell in job.cells)
    return {tuple(value for name, value in point.items() if name not in target) for point in points}


def disk(study: Study, todo: Sequence[Job], times: Mapping[str, Any]) -> float:
    """MB of the table with its shards, and of the stage cache, which stays below its size."""
    units = sum(job.units for job in todo)
    table = units * len(study.arms) * ROWS * ROW_BYTES * 2 + len(todo) * SHARD_BYTES
    kept = units * times["fit_bytes"] + plan.trainings(study, todo) * times["encoder_bytes"] / max(
        1, len(plan.recipes(study)))
    cache = min(kept / 1e6, todo[0].cache_mb) if todo[0].cache else 0.0
    return table / 1e6 + cache


def at_most(study: Study, seconds: float | None) -> dict[str, Any]:
    """What a search costs at most: cells, pretrainings, and seconds, from those that its next cells will take."""
    most = boundary.at_most(study)
    trainings = max(plan.trainings(study), min(plan.trainings(most), study.budget.trainings or math.inf))
    now, then = (plan.estimate(s, plan.jobs(s), 1, {})[0] for s in (study, most))
    return {"cells_at_most": plan.n_cells(most), "trainings_at_most": trainings,
            "seconds_at_most": round(seconds * then / now) if seconds else 0}


def search_words(study: Study) -> str:
    """A search's least and most in words."""
    most = at_most(study, 0.0)
    return (f"least {plan.n_cells(study)} cells and {plan.trainings(study)} pretrainings, most {most['cells_at_most']} "
            f"and {most['trainings_at_most']}, {study.n_seeds} seeds")


def verdict(foretold: float | None, took: float) -> str:
    """How wrong a forecast was, in words; "" where there was none."""
    if not foretold or took <= 0:
        return ""
    ratio = took / foretold
    return f"{ratio:.1f} times the {foretold:.0f} s that were foretold"
