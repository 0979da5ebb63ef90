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
from simlab.sweep import progress, whole_stays

if TYPE_CHECKING:
    from simlab.sweep.stages import Stages


def rows(
    stages: Stages, arm: Method, spec: Any, seed: int, cohorts: Mapping[str, tuple[str, Cohort]]
) -> list[dict[str, Any]]:
    """Every metric of one arm, cell and seed, in every cohort ((domain, records) by name). Raises what training
    raises."""
    from simlab.trajectories import arms

    table = whole_stays.of_backbone(stages.study.trajectory)
    key = stages.keys.trajectory(spec, arm, seed)
    draws = rng.integer(stages.study.seed, seed, "adaptation")

    def backbone() -> Any:
        if key not in stages.backbones:
            progress.count("pretraining")
            given = arms.settings(stages.settings.of(arm), table)
            initial = rng.integer(stages.study.seed, seed, "initialisation")
            stages.backbones[key] = arms.train(arm, stages.unlabelled(seed)[0], given, initial,
                                               device=stages.settings.device)
        return stages.backbones[key]

    made: list[dict[str, Any]] = []
    for name, (domain, cohort) in cohorts.items():
        base = {"cohort": name, "se": None, "limit": None, "status": "ok", "error": ""}

        def measure(base: Any = base, cohort: Cohort = cohort, domain: str = domain) -> list[dict[str, Any]]:
            best = optimum(stages, spec, domain, seed, backbone())
            found = arms.measure(backbone(), stages.labels(spec, seed)[1], cohort, draws, best)
            return [{**base, **row, "task": row["task"] or stages.study.compare.task} for row in found]

        measured = stages.measured(stages.keys.evaluation(spec, key, domain), measure)
        made += arms.beside_best(measured, stages.areas(spec, domain))
    return made


def optimum(stages: Stages, spec: Any, domain: str, seed: int, backbone: Any) -> Any:
    """The best forecast of a backbone's latents in one domain, where the study asks for it, else None. Its guesses of a
    seed's stays are the same for every arm."""
    given = stages.study.trajectory
    if not given.get(whole_stays.STAYS):
        return None
    from simlab.trajectories.optimum import NAME, Optimum, icu_law

    sizes = {"most": given[whole_stays.STAYS]}
    if whole_stays.PARTICLES in given:
        sizes["particles"] = given[whole_stays.PARTICLES]
    return NAME, Optimum(backbone, backbone.backbone.width, icu_law.law_of(spec, domain),
                         seed=rng.integer(stages.study.seed, seed, "bootstrap"), **sizes)
