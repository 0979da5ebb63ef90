"""Tuning in a worker: one trial of one arm by cross-validation inside the labels, and the comparison at what it chose.

Neither test nor external records are sampled in a trial: it sees what the arm may be trained on, and nothing else.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from simlab import methods
from simlab.evaluation.auc import label_auc, rank
from simlab.sweep import job as jobs
from simlab.sweep import plan, progress
from simlab.sweep.plan import Job
from simlab.sweep.results import failed_row
from simlab.sweep.schema import Setting, Study
from simlab.sweep.stages import Stages
from simlab.sweep.trial import Trial
from simlab.training.baselines import folds
from simlab.training.data import Labelled
from simlab.training.pretrain import Settings
from simlab.training.run import FAILURES, reason, run_arm

UNTUNED = "every tuning trial of it failed (trials.csv says why)"


def at(study: Study, arm: str, setting: Setting) -> Study:
    """The study of this one arm with its hyperparameters set."""
    compare = replace(study.compare, arms=(arm,), contrasts=())
    return replace(study, compare=compare, train=replace(study.train, **dict(setting)), choices=())


def evaluate(study: Study, trial: Trial) -> list[dict[str, Any]]:
    """One row a seed: the out-of-fold AUC of the trial's setting, or the reason why there is none."""
    torch.set_num_threads(trial.threads)
    asked, (cell,) = at(study, trial.arm, trial.setting), trial.cells
    spec, rows = plan.cell_spec(asked, cell), []
    told = {k: v for k, v in asdict(asked.train).items() if k in Settings.__dataclass_fields__}
    for seeds in plan.fleets(asked):  # the fleets of the comparison
        part = Job(trial.index, trial.cells, seeds, trial.device, trial.threads, trial.cache, trial.cache_mb)
        stages = Stages(asked, part, Settings(**told, device=trial.device), spec)
        for seed in seeds:
            try:
                rows.append({"seed": seed, "score": _score(stages, spec, seed, trial.arm), "error": ""})
            except FAILURES as error:
                rows.append({"seed": seed, "score": None, "error": reason(error)})
            progress.report(len(rows) / asked.n_seeds)
    return rows


def _score(stages: Stages, spec: Any, seed: int, name: str) -> float:
    """Mean AUC over five folds of the labelled records (whole subjects left out), the same folds for every trial."""
    arm = methods.find(name)
    whole = stages.bench(arm, spec, seed, "tuning")
    labelled = whole.train
    areas = []
    for inside, outside in folds(whole):
        views = {role: x[inside] for role, x in labelled.views.items()}
        part = Labelled(views, labelled.y[inside], labelled.subjects[inside])
        fit = run_arm(arm, replace(whole, train=part))
        scores = fit.score({role: x[outside] for role, x in labelled.views.items()})
        areas.append(label_auc(rank(scores), labelled.y[outside]).value)
    return float(np.mean(areas))


def compare(study: Study, job: Job) -> list[dict[str, Any]]:
    """The rows of a job, each arm at the setting that tuning chose for it in each cell; a failed one without any."""
    settings = {(cell, arm): setting for cell, arm, setting in study.choices}
    rows = []
    for arm in study.arms:
        groups: dict[Setting, list[int]] = {}
        for cell in job.cells:
            if (cell, arm) in settings:
                groups.setdefault(settings[cell, arm], []).append(cell)
            else:
                rows += [failed_row(cell, seed, arm, "failed", UNTUNED) for seed in job.seeds]
        for setting, cells in groups.items():
            rows += jobs.run_job(at(study, arm, setting), replace(job, cells=tuple(cells)))
    return rows
