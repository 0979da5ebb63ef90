"""What a trajectory report in the ICU world tells of its optima: what few guesses cost, and the tasks' best areas."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from simlab.cohort import Cohort
from simlab.evaluation import drift as drifts
from simlab.limits import icu_charted
from simlab.trajectories import optimum
from simlab.trajectories.evaluate import Plan, Report
from simlab.trajectories.trained import Trained


def few_guesses(
    best: optimum.Optimum, law: Any, backbone: Trained, test: Cohort, plan: Plan, sizes: dict[str, int], say: Any
) -> list[str]:
    """What the simulated optima of forecasts lose by the number of their guesses, a line each."""
    z, most = backbone.encode(test).state, max(plan.horizons)
    first, last = optimum.cost_of_few(best, lambda f: drifts.errors(f, z, test.length, plan.context), test,
                                      plan.context, most)
    say("what few guesses cost the best forecast of charts")
    few = icu_charted.cost_of_few(law, test, plan.context, (1, most), sizes["charted_particles"], best.seed)
    return [f"optimum: {sizes['optimum_stays']} stays, {best.particles} guesses each; with half of them its "
            f"L1 is {first:+.1%} at one hour and {last:+.1%} at {most} h.",
            f"best possible of decoded variables: {sizes['charted_particles']} guesses a stay; with half of them its "
            "error is " + " and ".join(f"{more:+.1%} (standard error {se:.1%}) at {h} h"
                                       for h, (more, se) in few.items()) + "."]


def beside_areas(report: Report, spec: Any, stays: int, seed: int) -> Report:
    """The report with the best possible area beside each task, where one is known or can be simulated."""
    from simlab.limits.icu_tasks import areas

    limits = areas(spec, stays, rng=np.random.default_rng(seed))
    rows = tuple(replace(row, limit=limits[row.task]["auc"]) for row in report.tasks)
    notes = [*report.notes, f"best possible: by particles on {stays} other stays; standard errors "
             + ", ".join(f"{t} {a['se']:.3f}" for t, a in limits.items() if a["se"] is not None) + "."]
    none = [task for task in dict.fromkeys(row.task for row in rows) if limits[task]["auc"] is None]
    if none:
        notes.append(f"no optimum, known or simulated: {'; '.join(none)}.")
    return replace(report, tasks=rows, notes=tuple(notes))
