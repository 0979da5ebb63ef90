"""The hook for arms that read whole stays: their backbone is trained once a seed, and measured in every cohort.

Such an arm has no fit of one task: drift, displacement and the AUROC of every task are rows of the table, each a metric
(docs/methods/clin-jepa.md). Rows that are of no task stand under the study's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simlab import rng
from simlab.cohort import Cohort
from simlab.methods import Method
from simlab.sweep import progress

if TYPE_CHECKING:
    from simlab.sweep.stages import Stages


def rows(
    stages: Stages, arm: Method, spec: Any, seed: int, cohorts: Mapping[str, tuple[str, Cohort]]
) -> list[dict[str, Any]]:
    """Every metric of one arm, cell and seed, in every cohort ((domain, records) by name). Raises what training
    raises."""
    from simlab.trajectories import arms

    key = stages.keys.trajectory(spec, arm, seed)
    draws = rng.integer(stages.study.seed, seed, "adaptation")

    def backbone() -> Any:
        if key not in stages.backbones:
            progress.count("pretraining")
            given = arms.settings(stages.settings.of(arm), stages.study.trajectory)
            initial = rng.integer(stages.study.seed, seed, "initialisation")
            stages.backbones[key] = arms.train(arm, stages.unlabelled(seed)[0], given, initial,
                                               device=stages.settings.device)
        return stages.backbones[key]

    made: list[dict[str, Any]] = []
    for name, (domain, cohort) in cohorts.items():
        base = {"cohort": name, "se": None, "limit": None, "status": "ok", "error": ""}

        def measure(base: Any = base, cohort: Cohort = cohort) -> list[dict[str, Any]]:
            found = arms.measure(backbone(), stages.labels(spec, seed)[1], cohort, draws)
            return [{**base, **row, "task": row["task"] or stages.study.compare.task} for row in found]

        measured = stages.measured(stages.keys.evaluation(spec, key, domain), measure)
        made += arms.beside_best(measured, stages.areas(spec, domain))
    return made
