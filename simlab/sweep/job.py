"""One job of a study: cells that share their source data, for one fleet of seeds. A pure function of (study, job).

Each stage runs as often as its knobs change: unlabelled data and pretraining once a seed, labels, adaptation and test
cohorts once for each setting of their knobs (`simlab.sweep.stages`, with a cache on disk). Arms of equal recipe share
one pretrained encoder; all arms of a (cell, seed) share data, labels and test records.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simlab import methods
from simlab.cohort import Cohort
from simlab.environments.registry import find_world
from simlab.evaluation.auc import label_auc, rank, weighted_auc
from simlab.evaluation.leak import excess
from simlab.methods import Method
from simlab.sweep import artefacts, progress, trajectories
from simlab.sweep.plan import Job, cell_spec
from simlab.sweep.schema import Study
from simlab.sweep.stages import Stages
from simlab.training.data import Fit, Views
from simlab.training.loop import Diverged
from simlab.training.pretrain import Encoders, Settings
from simlab.training.run import FAILURES, reason, run_arm

Row = dict[str, Any]

PRETRAINING_SHARE = 0.3  # of a job's time, for the time left that is shown; nothing depends on it

# (seed, arm, its encoders, the unlabelled records' views, and their cohort): called once a seed and pretrained arm.
Look = Callable[[int, Method, Encoders, Views, Cohort], None]


def run_job(study: Study, job: Job, look: Look | None = None) -> list[Row]:
    """The rows of every (cell, seed, arm) of a job. An arm that fails is one row with its reason; the rest goes on."""
    torch.set_num_threads(job.threads)
    specs = {cell: cell_spec(study, cell) for cell in job.cells}
    settings = Settings(
        **{k: v for k, v in asdict(study.train).items() if k in Settings.__dataclass_fields__}, device=job.device
    )
    arms = [methods.find(name) for name in study.arms]
    stages = Stages(study, job, settings, specs[job.cells[0]])
    if look:
        _show(look, stages, arms)
    rows: list[Row] = []
    for place, seed in enumerate(job.seeds):
        evaluation = _Evaluation(stages, seed)
        for at, (cell, spec) in enumerate(specs.items()):
            if at == 0:
                evaluation.guard(spec)
            for arm in arms:
                made = _arm_rows(stages, arm, cell, spec, evaluation)
                rows.extend({"cell": cell, "seed": seed, "method": arm.name, **row} for row in made)
            done = (place * len(specs) + at + 1) / job.units
            progress.report(PRETRAINING_SHARE + (1 - PRETRAINING_SHARE) * done)
    return rows


def _show(look: Look, stages: Stages, arms: list[Method]) -> None:
    """Show each seed's pretrained encoders; those whose training failed are skipped (their arms' rows say so)."""
    for seed, arm in ((s, a) for s in stages.job.seeds for a in arms if a.pretrained and not a.trajectory):
        try:
            made = stages.encoders(arm, seed)
        except FAILURES:
            continue
        cohort, views = stages.unlabelled(seed)
        look(seed, arm, made, views, cohort)


def _arm_rows(stages: Stages, arm: Method, cell: int, spec: Any, evaluation: _Evaluation) -> list[Row]:
    """Adapt one arm in one cell and seed, and measure it; whatever it raises becomes its one row."""
    try:
        if arm.trajectory:
            return trajectories.rows(stages, arm, spec, evaluation.seed, evaluation.cohorts(spec))
        key, fit = stages.fit(arm, spec, evaluation.seed, run_arm)
        rows = evaluation.rows(spec, arm, fit, key)
        if stages.job.artefacts and evaluation.seed in (stages.job.artefact_seeds or stages.job.seeds):
            encoders = stages.encoders(arm, evaluation.seed, spec) if arm.pretrained else None
            path = Path(stages.job.artefacts) / artefacts.name(cell, evaluation.seed, arm.name)
            artefacts.write(evaluation.artefacts(spec, fit, encoders), path)
        return rows
    except FAILURES as error:
        return [_failure(error)]


def _failure(error: Exception) -> Row:
    """A failed arm as one row: the error's type and first line, nothing that varies from run to run."""
    status = "diverged" if isinstance(error, Diverged) else "failed"
    return {
        "cohort": "",
        "task": "",
        "metric": "",
        "value": None,
        "se": None,
        "n": 0,
        "limit": None,
        "status": status,
        "error": reason(error),
    }


class _Evaluation:
    """Test cohorts of one seed, sampled once for each setting of the knobs that they depend on."""

    def __init__(self, stages: Stages, seed: int) -> None:
        self.stages, self.study, self.seed = stages, stages.study, seed
        self.world = find_world(self.study.world)
        self._cohorts: dict[tuple[Any, str], tuple[Views, Cohort]] = {}

    def guard(self, spec: Any) -> None:
        """Refuse cohorts that share a subject (`simlab.cohort.Scenario`): an evaluation on them would mean nothing."""
        shown = {name: self._cohort(spec, domain)[1] for name, domain in self._domains(spec).items()}
        self.stages.guard(spec, self.seed, shown)

    def rows(self, spec: Any, arm: Method, fit: Fit, key: str) -> list[Row]:
        """Every metric of one fitted arm on the test cohort and, where the target differs, the external one."""
        rows: list[Row] = []
        for name, domain in self._domains(spec).items():
            place = self.stages.keys.evaluation(spec, key, domain)
            rows += self.stages.measured(place, partial(self._measure, spec, arm, fit, name, domain))
        base = {**rows[0], "limit": None, "se": None}
        rows += [{**base, "metric": k, "value": v} for k, v in fit.diagnostics.items() if math.isfinite(v)]
        return rows

    def cohorts(self, spec: Any) -> dict[str, tuple[str, Cohort]]:
        """The domain and the records of every cohort that is measured, by the cohort's name."""
        return {name: (domain, self._cohort(spec, domain)[1]) for name, domain in self._domains(spec).items()}

    def artefacts(self, spec: Any, fit: Fit, encoders: Encoders | None) -> dict[str, np.ndarray]:
        """What `simlab.sweep.artefacts` keeps of one fitted arm."""
        cohorts = {name: self._cohort(spec, domain) for name, domain in self._domains(spec).items()}
        return artefacts.gather(fit, cohorts, self.study.compare.task, encoders)

    def _domains(self, spec: Any) -> dict[str, str]:
        """The domain of each cohort that is measured: those of targets where they differ, or are asked for."""
        every = dict(zip(self.world.cohorts, self.world.domains, strict=False))
        source = self.world.cohorts[0]
        if spec != spec.without_shift() or self.study.compare.cohort != source:
            return every
        return {source: every[source]}

    def _measure(self, spec: Any, arm: Method, fit: Fit, name: str, domain: str) -> list[Row]:
        """The metrics of one fitted arm in one cohort."""
        views, cohort = self._cohort(spec, domain)
        scores = fit.score(views)
        task = self.study.compare.task
        labels, risk = cohort.labels[task], cohort.risk.get(task)
        limit = self.stages.limit(spec, domain, "full" if arm.streams == "all" else arm.streams)
        base = {"cohort": name, "task": task, "n": len(cohort), "status": "ok", "error": ""}
        if risk is None:  # nobody knows it (the ICU world): labels alone, of those who have one
            known = ~np.isnan(labels)
            plain = label_auc(scores[known], labels[known])
            return [{**base, "n": int(known.sum()), "metric": m, "value": plain.value, "se": plain.se, "limit": limit}
                    for m in ("auc", "auc-label")]
        ranking = rank(scores)
        area, plain = weighted_auc(ranking, risk), label_auc(ranking, labels)
        check = excess(area, plain, risk)
        measured = (
            ("auc", area.value, area.se, limit),
            ("auc-label", plain.value, plain.se, limit),
            ("diag/leak-z", check.z, 1.0, None),
        )
        return [{**base, "metric": m, "value": value, "se": se, "limit": at} for m, value, se, at in measured]

    def _cohort(self, spec: Any, domain: str) -> tuple[Views, Cohort]:
        source = domain == self.world.domains[0]
        depends = spec.without_shift() if source else spec
        key = (replace(depends, n_lab=2), domain)  # what these records depend on: never on the number of labels
        if key not in self._cohorts:
            if len(self._cohorts) >= 4:  # settings come in order; a few are enough, and memory stays flat
                self._cohorts.pop(next(iter(self._cohorts)))
            stage = "test-data" if source else "external-data"
            self._cohorts[key] = self.stages.sample(spec, stage, self.study.train.n_test, self.seed, domain)
        return self._cohorts[key]
