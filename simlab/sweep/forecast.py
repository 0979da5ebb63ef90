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
from simlab.environments.registry import World, find_world
from simlab.sweep import boundary, depends, plan, whole_stays
from simlab.sweep.plan import Job
from simlab.sweep.pool import Pool
from simlab.sweep.schema import Study

PROBE = "simlab.sweep.probe:probe"
ROW_BYTES, SHARD_BYTES = 14, 9000  # of a results table: a row, compressed, and a shard's file around them
ENTRY = 4096  # of the stage cache, at least
EACH = ("data", "limits", "fits", "measures", "cohorts")  # of a cell, in a timed slice
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
    """Seconds of the jobs from those of a slice: each stage as often as `counts` says; jobs in as many rounds as the
    workers need, on cores that there are."""
    n, size = counts(study, todo), len(todo[0].seeds)
    each = {key: sum(cell.get(key, 0) for cell in times["cells"]) / len(times["cells"]) for key in EACH}
    work = times["source"] * n["source"] + sum(times["pretrain"]) * n["pretraining"] / size
    work += plan.moved(study, todo) * sum(times["pretrain"]) / max(1, len(times["pretrain"])) / size
    work += each["fits"] * n["fit"] + each["limits"] * n["limit"] + times.get("areas", 0.0) * n["areas"]
    home, away = 1 / each["cohorts"], 1 - 1 / each["cohorts"]  # their shares of the records that are measured
    work += each["data"] * (home * n["home"] + away * n["away"])
    work += each["measures"] * (home * n["fit"] + away * n["unit"])
    busy = max(1, min(workers, len(todo), os.cpu_count() or 1))
    rounds = math.ceil(len(todo) / busy) * busy / len(todo)  # the last round may leave workers idle
    return plan.START + work / busy * rounds


def counts(study: Study, todo: Sequence[Job]) -> dict[str, int]:
    """How often these jobs compute each stage, a seed counting as one; what several share through the stage cache (else
    within a job alone) counts once.

    By what a stage follows from: source data and pretraining (a fleet of the same seeds) from the fields of the source;
    a fit, measured at home, from all fields but the target's (from these too, where an arm looks at the target); a
    limit from all but the number of labels, whatever the seed; test records at home and away, which are sampled in each
    job, likewise; best areas, of arms that read whole stays, as limits, but those at home not from the target's.
    """
    world = find_world(study.world)
    arms = [methods.find(arm) for arm in study.arms]
    outside = any(arm.outside != "none" for arm in arms)  # then knobs of the target fit arms anew
    stays = any(arm.trajectory for arm in arms)
    counted = ("source", "pretraining", "fit", "limit", "areas", "home", "away")
    seen: dict[str, set[Any]] = {key: set() for key in counted}
    specs = {cell: plan.cell_spec(study, cell) for job in todo for cell in job.cells}
    told = {cell: _told(world, spec) for cell, spec in specs.items()}
    for job in todo:
        shared = "" if job.cache else job.index
        for cell in job.cells:
            source, before, whole, home, away = told[cell]
            seen["limit"].add((shared, away))
            seen["areas"].update((shared, *one) for one in (_areas(study, world, specs[cell]) if stays else ()))
            seen["pretraining"].update((shared, source, job.seeds, seed) for seed in job.seeds)
            for seed in job.seeds:
                seen["source"].add((shared, source, seed))
                seen["fit"].add((shared, whole if outside else before, seed))
                seen["home"].add((job.index, home, seed))
                seen["away"].add((job.index, away, seed))
    return {key: len(found) for key, found in seen.items()} | {"unit": sum(job.units for job in todo)}


def spared(study: Study, todo: Sequence[Job]) -> int:
    """Of the pretrainings that `plan.trainings` counts for these jobs, those that the stage cache holds by then."""
    if study.design.kind == "tune":
        return 0
    return plan.trainings(study, todo) - plan.moved(study, todo) - counts(study, todo)["pretraining"] * len(
        plan.recipes(study))


def _told(world: World, spec: Any) -> tuple[str, ...]:
    """What stages of this cell follow from, as texts: the source; all before the target; all; and the last two without
    the number of labels."""
    before, every = depends.before_target(world, spec), depends.fields(spec)
    fewer = ({k: v for k, v in one.items() if k != "n_lab"} for one in (before, every))
    return tuple(map(depends.canonical, (depends.source(world, spec), before, every, *fewer)))


def _areas(study: Study, world: World, spec: Any) -> list[tuple[str, str]]:
    """The cohorts of this cell whose best areas are asked for, and what those follow from."""
    source, *targets = world.cohorts
    measured = targets if spec != spec.without_shift() or study.compare.cohort != source else []
    return [(name, depends.canonical(depends.fields(depends.of_areas(spec, name == source))))
            for name in (source, *measured)]


def disk(study: Study, todo: Sequence[Job], times: Mapping[str, Any]) -> float:
    """MB of the table with its shards, and of the stage cache, which stays below its size."""
    n = counts(study, todo)
    table = n["unit"] * len(study.arms) * ROWS * ROW_BYTES * 2 + len(todo) * SHARD_BYTES
    moved = plan.moved(study, todo) / max(1, len(plan.recipes(study)))
    kept = n["fit"] * times["fit_bytes"] + (n["unit"] - n["fit"]) * len(study.arms) * ENTRY
    kept += (n["pretraining"] + moved) * times["encoder_bytes"]
    cache = min(kept / 1e6, todo[0].cache_mb) if todo[0].cache else 0.0
    return table / 1e6 + cache


def at_most(study: Study, seconds: float | None) -> dict[str, Any]:
    """What a search costs at most: cells, pretrainings, and seconds, from those that its next cells will take (None:
    not known)."""
    most = boundary.at_most(study)
    trainings = max(plan.trainings(study), min(plan.trainings(most), study.budget.trainings or math.inf))
    now, then = (plan.estimate(s, plan.jobs(s), 1, {})[0] for s in (study, most))
    return {"cells_at_most": plan.n_cells(most), "trainings_at_most": trainings,
            "seconds_at_most": None if None in (seconds, now, then) else round(seconds * then / now) if seconds else 0}


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
