"""One job of a study: cells that share their source data, for one fleet of seeds. A pure function of (study, job).

The stages are nested so that each runs as often as its knobs change: unlabelled data and pretraining once a seed,
labels and test cohorts once for each setting of their knobs, adaptation once a cell. Arms of equal recipe share one
pretrained encoder; all arms of a (cell, seed) share data, labels and test records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from simlab import methods, rng
from simlab.cohort import Cohort, Scenario
from simlab.environments.registry import find_world
from simlab.environments.scenario import sample_cohort
from simlab.evaluation.auc import label_auc, rank, weighted_auc
from simlab.evaluation.leak import excess
from simlab.methods import Method
from simlab.models import present, tokens
from simlab.models.present import Presentation
from simlab.models.tokens import Presented
from simlab.sweep import progress
from simlab.sweep.plan import Job, cell_spec
from simlab.sweep.schema import Study
from simlab.training import pretrain, token_encoders, token_pretrain
from simlab.training.data import Bench, Fit, Labelled, Views
from simlab.training.loop import Diverged
from simlab.training.pretrain import ROLES, Encoders, Settings
from simlab.training.run import FAILURES, reason, run_arm

Row = dict[str, Any]
Shown = Presentation | Presented

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
    first = specs[job.cells[0]]
    patch = settings.patch if any(arm.reads == "tokens" for arm in arms) else 0
    shown = {seed: _unlabelled(study, first, seed, patch) for seed in job.seeds}
    unlabelled = {seed: views for seed, (_, _, views) in shown.items()}
    encoders = _pretrain(study, arms, settings, unlabelled, shown[job.seeds[0]][1])
    for seed, arm in ((s, a) for s in job.seeds for a in arms if look and a.pretrained):
        made = encoders[seed, arm.recipe]
        if look and isinstance(made, Encoders):
            look(seed, arm, made, unlabelled[seed], shown[seed][0])
    progress.report(PRETRAINING_SHARE)
    rows: list[Row] = []
    for place, seed in enumerate(job.seeds):
        cohort, presentation, _ = shown[seed]
        evaluation = _Evaluation(study, seed, presentation)
        for at, (cell, spec) in enumerate(specs.items()):
            labelled = _views(study, presentation, spec, "training-data", spec.n_lab, seed)
            if at == 0:
                evaluation.guard(cohort, labelled[1], spec)
            for arm in arms:
                made = _arm_rows(
                    study, arm, spec, labelled, unlabelled[seed], encoders[seed, arm.recipe], settings, evaluation
                )
                rows.extend({"cell": cell, "seed": seed, "method": arm.name, **row} for row in made)
            done = (place * len(specs) + at + 1) / job.units
            progress.report(PRETRAINING_SHARE + (1 - PRETRAINING_SHARE) * done)
    return rows


def _arm_rows(
    study: Study,
    arm: Method,
    spec: Any,
    labelled: tuple[Views, Cohort],
    unlabelled: Mapping[str, np.ndarray],  # other records than the labelled ones: no shared shape to check
    encoders: Encoders | Exception,
    settings: Settings,
    evaluation: _Evaluation,
) -> list[Row]:
    """Adapt one arm in one cell and seed, and measure it; whatever it raises becomes its one row."""
    try:
        if isinstance(encoders, Exception):
            raise encoders
        seed = rng.integer(study.seed, evaluation.seed, "adaptation")
        bench = Bench(_labelled(study, labelled), unlabelled, encoders, settings, seed)
        return evaluation.rows(spec, arm, run_arm(arm, bench))
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


def _unlabelled(study: Study, spec: Any, seed: int, patch: int) -> tuple[Cohort, Shown, Views]:
    """The unlabelled records of a seed, the presentation fitted on them for all its cohorts, and their views; tokens
    among these where arms read them (`patch` above 0)."""
    cohort = sample_cohort(spec, "pretraining-data", spec.n_unlab, study.seed, seed, world=study.world)
    inputs = cohort.inputs(None)
    presentation: Shown = present.fit(inputs, as_is=True)
    if patch:
        presentation = Presented(presentation, tokens.fit(inputs, patch=patch, visits=cohort.visits))
    return cohort, presentation, presentation(inputs)


def _views(
    study: Study, presentation: Shown, spec: Any, stage: str, n: int, seed: int, domain: str = "source"
) -> tuple[Views, Cohort]:
    cohort = sample_cohort(spec, stage, n, study.seed, seed, domain, world=study.world)
    return presentation(cohort.inputs(study.compare.task)), cohort


def _labelled(study: Study, labelled: tuple[Views, Cohort]) -> Labelled:
    views, cohort = labelled
    return Labelled(views, cohort.labels[study.compare.task], cohort.subject)


def _pretrain(
    study: Study, arms: list[Method], settings: Settings, unlabelled: Mapping[int, Views], presentation: Shown
) -> dict[tuple[int, tuple[str, ...]], Encoders | Exception]:
    """One pretraining per distinct recipe and seed, all seeds of the job as one fleet; untrained encoders otherwise.

    A recipe that fails is kept as its error, which becomes the row of each arm that needs it.
    """
    seeds = [(rng.integer(study.seed, s, "initialisation"), rng.integer(study.seed, s, "order")) for s in unlabelled]
    inputs = {role: next(iter(unlabelled.values()))[role].shape[1] for role in ROLES}
    made: dict[tuple[int, tuple[str, ...]], Encoders | Exception] = {}
    for method in {arm.recipe: arm for arm in arms}.values():
        found: list[Encoders] | list[Exception]
        names = ROLES if method.reads == "features" else ("tokens", "times")
        try:
            if method.pretrained:
                views = {name: np.stack([v[name] for v in unlabelled.values()]) for name in names}
                if isinstance(presentation, Presented) and method.reads == "tokens":
                    found = token_pretrain.pretrain(views, presentation.layout, method, settings, seeds)
                else:
                    found = pretrain.pretrain(views, method, settings, seeds)
            elif isinstance(presentation, Presented) and method.reads == "tokens":
                initial = [one for one, _ in seeds]
                found = token_encoders.random_encoders(presentation.layout, method, settings, initial)
            else:
                found = pretrain.random_encoders(inputs, settings, [initial for initial, _ in seeds])
        except FAILURES as error:
            found = [error] * len(seeds)
        made.update({(seed, method.recipe): e for seed, e in zip(unlabelled, found, strict=True)})
    return made


class _Evaluation:
    """Test cohorts of one seed, sampled once for each setting of the knobs that they depend on."""

    def __init__(self, study: Study, seed: int, presentation: Shown) -> None:
        self.study, self.seed, self.presentation = study, seed, presentation
        self._cohorts: dict[tuple[Any, str], tuple[Views, Cohort]] = {}
        self._limits: dict[Any, float | None] = {}

    def guard(self, pretrain: Cohort, train: Cohort, spec: Any) -> None:
        """Refuse cohorts that share a subject (`simlab.cohort.Scenario`): an evaluation on them would mean nothing."""
        external = {"external": self._cohort(spec, "external")[1]} if spec != spec.without_shift() else {}
        Scenario(pretrain=pretrain, train=train, test=self._cohort(spec, "source")[1], external=external)

    def rows(self, spec: Any, arm: Method, fit: Fit) -> list[Row]:
        """Every metric of one fitted arm on the test cohort and, where the target differs, the external one."""
        domains = {"test": "source"}
        if spec != spec.without_shift() or self.study.compare.cohort == "external":
            domains["external"] = "external"
        rows = []
        for name, domain in domains.items():
            views, cohort = self._cohort(spec, domain)
            scores = fit.score(views)
            task = self.study.compare.task
            labels, risk = cohort.labels[task], cohort.risk[task]
            limit = self._limit(spec, domain, "full" if arm.streams == "all" else arm.streams)
            base = {"cohort": name, "task": task, "n": len(cohort), "limit": limit, "status": "ok", "error": ""}
            ranking = rank(scores)
            area, plain = weighted_auc(ranking, risk), label_auc(ranking, labels)
            check = excess(area, plain, risk)
            for metric, value, se in (
                ("auc", area.value, area.se),
                ("auc-label", plain.value, plain.se),
                ("diag/leak-z", check.z, 1.0),
            ):
                rows.append(
                    {
                        **base,
                        "metric": metric,
                        "value": value,
                        "se": se,
                        "limit": None if metric.startswith("diag/") else limit,
                    }
                )
        base = {
            "cohort": "test",
            "task": self.study.compare.task,
            "n": rows[0]["n"],
            "limit": None,
            "status": "ok",
            "error": "",
        }
        rows += [{**base, "metric": k, "value": v, "se": None} for k, v in fit.diagnostics.items() if math.isfinite(v)]
        return rows

    def _cohort(self, spec: Any, domain: str) -> tuple[Views, Cohort]:
        stage = "external-data" if domain == "external" else "test-data"
        depends = spec if domain == "external" else spec.without_shift()
        key = (replace(depends, n_lab=2), domain)  # what these records depend on: never on the number of labels
        if key not in self._cohorts:
            if len(self._cohorts) >= 4:  # settings come in order; a few are enough, and memory stays flat
                self._cohorts.pop(next(iter(self._cohorts)))
            self._cohorts[key] = _views(
                self.study, self.presentation, spec, stage, self.study.train.n_test, self.seed, domain
            )
        return self._cohorts[key]

    def _limit(self, spec: Any, domain: str, view: str) -> float | None:
        """The Bayes limit of what the arm may see, in that cohort (None where the world does not know it)."""
        key = (replace(spec, n_lab=2, map_seed=0), domain, view)
        if key not in self._limits:
            self._limits[key] = find_world(self.study.world).limit(key[0], domain, view)
        return self._limits[key]
