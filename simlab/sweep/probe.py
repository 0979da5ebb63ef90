"""A tiny slice of a study, timed: a few steps of each recipe's pretraining, each arm's fit and measures in a few cells.

Runs in a worker as a job does (`simlab.sweep.forecast` asks for it), on the study's own sizes, and keeps nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, TypeVar

import numpy as np
import torch

from simlab import methods
from simlab.environments.registry import find_world
from simlab.methods import Method
from simlab.sweep import depends, packing, plan, trajectories, whole_stays
from simlab.sweep.cache import BLOCK
from simlab.sweep.job import _Evaluation
from simlab.sweep.plan import Job
from simlab.sweep.schema import Study
from simlab.sweep.stages import Stages, followed, trained
from simlab.training import search
from simlab.training.loop import POINTS
from simlab.training.points import EXACT
from simlab.training.pretrain import Settings
from simlab.training.run import FAILURES, run_arm
from simlab.training.scores import ProbeScore

FEW, MORE = 2, 6  # pretraining steps that are timed: the difference is what a step costs that is watched as well,
ALONE, LONG = POINTS, 3 * POINTS  # and where that is quick, more: past POINTS steps, most are not watched
QUICK = 0.06  # seconds of a fleet's step
SHORT = 9  # steps of fine-tuning that are timed
AREAS = 0.05  # share of the records of best areas
CELLS = 3  # the first, the middle and the last

T = TypeVar("T")


def probe(study: Study, job: Job) -> list[dict[str, Any]]:
    """One record of seconds: `source` (a seed's unlabelled records), `pretrain` (a fleet, each recipe), `cells` (for
    each cell: `data`, its labels and test cohorts; `limits`; `fits`, `measures` of all arms; in how many `cohorts`),
    `areas` (the best ones of all tasks in one hospital, where arms read whole stays); and `bytes` that a cell and seed,
    and a seed's encoders, take. An arm that fails is left out: its failure costs little, and the run tells it."""
    torch.set_num_threads(job.threads)
    told = {k: v for k, v in asdict(study.train).items() if k in Settings.__dataclass_fields__}
    settings = Settings(**told, device=job.device)
    quick = replace(settings, steps=FEW, finetune_steps=min(SHORT, settings.finetune_steps))
    specs = [plan.cell_spec(study, cell) for cell in _spread(plan.n_cells(study))]
    seed = job.seeds[0]
    found: dict[str, Any] = {"pretrain": [], "cells": [], "encoder_bytes": 0, "curve_bytes": 0, "fit_bytes": 0}
    arms = [methods.find(name) for name in study.arms]
    for place, spec in enumerate(specs):
        one = Job(0, (0,), (seed,), job.device, job.threads)
        stages = Stages(study, one, quick, spec)
        source, (cohort, views) = _timed(lambda s=stages: s.unlabelled(seed))
        found["source"] = max(source, found.get("source", 0.0))
        if place == 0:
            watched = {**views, **followed(cohort)}  # as in a run, whose online probes are read at each point
            for arm in _recipes(arms):
                seconds, size, curve = _pretraining(arm, stages, watched, settings, len(job.seeds))
                found["pretrain"].append(seconds)
                found["encoder_bytes"] += size
                found["curve_bytes"] = max(curve, found["curve_bytes"])
            plain = [arm for arm in arms if not arm.trajectory]
            _cell(Stages(study, one, quick, spec), spec, seed, plain, settings, {**found})  # what a first call costs
        found["cells"].append(_cell(stages, spec, seed, arms, settings, found))
    found["areas"] = _areas(stages, spec) if any(arm.trajectory for arm in arms) else 0.0
    found["fit_bytes"] /= len(specs)
    return [found]


def _cell(stages: Stages, spec: Any, seed: int, arms: list[Method], settings: Settings, found: dict[str, Any]) -> Any:
    """The seconds of one cell and seed; adds to `found` the bytes that its fits take."""
    evaluation = _Evaluation(stages, seed)
    data, _ = _timed(lambda: evaluation.guard(spec))
    fits = measures = 0.0
    domains = evaluation._domains(spec).values()
    views = {"full" if arm.streams == "all" else arm.streams for arm in arms if not arm.trajectory}
    limits, _ = _timed(lambda: [stages.limit(spec, domain, view) for domain in domains for view in views])
    for arm in arms:
        if arm.trajectory:
            continue
        try:
            stages.encoders(arm, seed, spec)
            seconds, (key, fit) = _timed(lambda a=arm: stages.fit(a, spec, seed, run_arm))
            stepped = search.by_steps(arm, settings.encoder) and not arm.trainer.startswith(EXACT)
            fits += seconds * (settings.finetune_steps / stages.settings.finetune_steps if stepped else 1.0)
            more, rows = _timed(lambda a=arm, f=fit, k=key: evaluation.rows(spec, a, f, k))
            measures += more
        except FAILURES:
            continue
        packed = packing.pack_fit(fit)  # and beside it an entry for each cohort in which it is measured
        found["fit_bytes"] += _entry(packed) + BLOCK * len({row["cohort"] for row in rows})
        found["fit_bytes"] += found["curve_bytes"] if arm.pretrained and isinstance(fit.score, ProbeScore) else 0
    training, measuring = _trajectories(stages, spec, seed, arms, settings, evaluation)
    if training and "stays" not in found:  # once: a backbone serves all cells of a source
        found["stays"] = training
        found["pretrain"].append(training * len(stages.job.seeds))
    return {"data": data, "limits": limits, "fits": fits, "measures": measures + measuring, "cohorts": len(domains)}


def _trajectories(
    stages: Stages, spec: Any, seed: int, arms: list[Method], settings: Settings, evaluation: _Evaluation
) -> tuple[float, float]:
    """The seconds of training one seed's backbones of whole stays, and of measuring them, from those of the first."""
    mine = [arm for arm in arms if arm.trajectory]
    if not mine:
        return 0.0, 0.0
    from simlab.trajectories import arms as backbones

    whole = backbones.settings(stages.settings.of(mine[0]), whole_stays.of_backbone(stages.study.trajectory))
    few, more = (replace(whole, steps=steps) for steps in (SHORT, 3 * SHORT))
    stays = stages.unlabelled(seed)[0]
    device = stages.settings.device
    short, backbone = _timed(lambda: backbones.train(mine[0], stays, few, seed, device=device))
    longer, _ = _timed(lambda: backbones.train(mine[0], stays, more, seed, device=device))
    labelled = stages.labels(spec, seed)[1]
    measuring = sum(_timed(lambda c=cohort, d=domain: backbones.measure(
        backbone, labelled, c, seed, trajectories.optimum(stages, spec, d, seed, backbone)))[0]
                    for domain, cohort in evaluation.cohorts(spec).values())
    step = max(longer - short, 0.0) / (2 * SHORT)
    return len(mine) * (short + step * (settings.steps - SHORT)), len(mine) * measuring


def _areas(stages: Stages, spec: Any) -> float:
    """The seconds of one hospital's best areas, from those of a share of their records."""
    world = find_world(stages.study.world)
    few = depends.of_areas(spec, home=True)
    world.areas(few, world.domains[0], AREAS / 4)  # what a first call alone costs
    return _timed(lambda: world.areas(few, world.domains[0], AREAS))[0] / AREAS


def _pretraining(
    arm: Method, stages: Stages, views: Any, settings: Settings, members: int
) -> tuple[float, int, int]:
    """Of one fleet's whole pretraining, from a few of its steps: seconds, the bytes of one member's encoders, and those
    of its training curve beyond the slice's (a point a step up to `POINTS`)."""
    presentation = stages.source(stages.job.seeds[0]).presentation
    seeds = [(member, member) for member in range(members)]

    def run(steps: int) -> Any:
        return trained(arm, [views] * members, presentation, replace(settings, steps=steps), seeds)

    try:
        run(1)  # what a first call alone costs
        few, made = _timed(lambda: run(FEW))
        more, later = _timed(lambda: run(MORE))
        step = max(more - few, 0.0) / (MORE - FEW)
        whole = few + step * (settings.steps - FEW)
        if step < QUICK and settings.steps > LONG:  # a run of many steps is watched at POINTS of them alone
            watched, beyond = (_timed(lambda n=n: run(n))[0] for n in (ALONE, LONG))
            whole = watched + max(beyond - watched, 0.0) / (LONG - ALONE) * (settings.steps - ALONE)
    except FAILURES:
        return 0.0, 0, 0
    short, longer = (sum(a.nbytes for a in packing.pack_fleet(one[:1]).values()) for one in (made, later))
    curve = (longer - short) * (min(POINTS, settings.steps) - FEW) // (MORE - FEW)
    return whole, short + curve, curve


def _entry(packed: Mapping[str, np.ndarray] | None) -> int:
    """What an entry of the stage cache takes on disk."""
    return 0 if packed is None else -(-sum(a.nbytes for a in packed.values()) // BLOCK) * BLOCK


def _recipes(arms: Iterable[Method]) -> list[Method]:
    """One arm for each pretraining recipe."""
    return list({arm.recipe: arm for arm in arms if arm.pretrained and not arm.trajectory}.values())


def _spread(n: int) -> list[int]:
    return sorted({round(i * (n - 1) / (CELLS - 1)) for i in range(CELLS)})


def _timed(do: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    found = do()
    return time.perf_counter() - start, found
