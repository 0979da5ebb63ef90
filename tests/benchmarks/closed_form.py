"""A job of the closed-form tier: each number is a formula's, so that what is timed is the machinery around it."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import numpy as np

from simlab.environments.knobs import spec
from simlab.limits import finite
from simlab.limits.gaussian import moments
from simlab.sweep import plan, progress
from simlab.sweep.plan import Job
from simlab.sweep.schema import Study

FORMS = {"lda": "supervised", "cca-lda": "cross_modal"}


@lru_cache(maxsize=512)
def forms(w_c: float) -> dict[str, Any]:
    world = spec(w_c=w_c, n_lab=2, n_unlab=2)
    return finite.methods(world, moments(world, "source"), 4)


def value(arm: str, w_c: float, n: float) -> float:
    """The predicted AUC of an arm."""
    return float(forms(w_c)[FORMS[arm]].curve(np.array([float(n)]))[0])


def run(study: Study, job: Job) -> list[dict[str, Any]]:
    start, found = time.process_time(), []
    for cell in job.cells:
        point = plan.cell(study, cell)
        for arm in study.arms:
            for seed in job.seeds:
                found.append({"cell": cell, "seed": seed, "method": arm, "cohort": "test", "task": "outcome",
                              "metric": "auc", "value": value(arm, point["w_c"], point["n_lab"]), "se": None, "n": 0,
                              "limit": None, "status": "ok", "error": ""})
    progress.count("formula-us", round((time.process_time() - start) * 1e6))
    return found
