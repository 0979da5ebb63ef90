"""Arms that read whole stays: a backbone trained through its curriculum, and what it is worth as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

import numpy as np

from simlab.cohort import Cohort
from simlab.methods import Method
from simlab.models import windows
from simlab.training import trajectory
from simlab.training.points import curriculum
from simlab.training.pretrain import Settings
from simlab.training.trajectory_settings import of_study
from simlab.trajectories import tasks
from simlab.trajectories.evaluate import Best, Plan, Report, evaluate, mean_areas
from simlab.trajectories.trained import Trained, there

HELD_OUT = 0.1  # share of the unlabelled stays that training watches and never learns from
# Rows of a study: few stays and draws, one context, every task at hour 24, no interval (seeds give it).
STUDIED = Plan(contexts=(24,), actions=("true", "zero"), asked=(24,), decode=False, draws=2)
EARLY = ("mortality-at-24h", "decompensation", "respiratory-failure", "severe-respiratory-failure",
         "circulatory-failure", "kidney-failure", "severe-meld")  # fmt: skip
TRACKS = {"early": lambda task: task in EARLY, "stay": lambda task: task not in EARLY, "mean": lambda task: True}
MEANS = {"auc-label": "auc", f"auc-label-{tasks.ROLLED}": "auc-rolled"}  # a task's AUROC, and what its means are called
NORM = "l2"  # of the displacement in a table's rows


def settings(given: Settings, more: Mapping[str, Any] = MappingProxyType({})) -> trajectory.Settings:
    """A study's settings in the trainer's words; `more`: its table [trajectory]."""
    return of_study(given, more)


def train(
    method: Method, stays: Cohort, given: trajectory.Settings, seed: int, checkpoint: Path | None = None,
    every: int = 0, device: str = "cpu",
) -> Trained:
    """The method's backbone, trained on these unlabelled stays (the last tenth is watched) on a device, from a
    checkpoint where there is one. Raises as the trainer."""
    stays = there(stays)
    held = max(1, round(HELD_OUT * len(stays)))
    shown = windows.windows(stays.take(np.arange(len(stays) - held)), max_hours=given.max_hours)
    watched = windows.windows(stays.take(np.arange(len(stays) - held, len(stays))), shown.presentation,
                              given.max_hours)
    made = trajectory.train(shown, watched, curriculum(method), given, seed, checkpoint=checkpoint, every=every,
                            device=device)
    return Trained(made, shown.presentation)


def measure(
    backbone: Trained, labelled: Cohort, test: Cohort, seed: int, best: tuple[str, Best] | None = None
) -> list[dict[str, Any]]:
    """Rows (task "" where a number is of no task): task, metric, value, n. What a backbone cannot do (roll out
    without a predictor) has no row. best: name and forecast of its latents' optimum; parts of the drift are then laid
    beside it, and there are rows on the stays that it forecasts, whose `limit` is its own number."""
    rolls = backbone.backbone.curriculum.predicts
    labelled, shown = there(labelled), there(test)
    hours = min(backbone.hours, int(labelled.length.max()), int(shown.length.max()))
    horizons = tuple(h for h in STUDIED.horizons if h <= hours - STUDIED.context)  # as far as hours go
    plan = replace(STUDIED, horizons=horizons, seed=seed, rolls=rolls)
    report = evaluate(backbone, labelled, shown, plan, best, path="state")
    found = [*_of_tasks(report), *_of_drift(report), *_of_geometry(report)]
    if best is not None:
        found += _beside(report)
    found += [_row("", f"diag/latent-{name}", value, len(test)) for name, value in report.shape.items()]
    return [row for row in found if row["value"] is not None and math.isfinite(row["value"])]


def _row(task: str, metric: str, value: float | None, n: int, **more: float | None) -> dict[str, Any]:
    return {"task": task, "metric": metric, "value": value, "n": n, **more}


def _of_tasks(report: Report) -> list[dict[str, Any]]:
    rows = []
    for one in (row for row in report.tasks if row.auroc is not None):
        name = "auc-label" if one.arm == tasks.ENCODED else f"auc-label-{one.arm}"
        rows.append(_row(one.task, name, one.auroc.value, one.n))
    for arm, prefix in ((tasks.ENCODED, "auc"), (tasks.ROLLED, "auc-rolled")):
        for track, chosen in TRACKS.items():
            found = mean_areas([row for row in report.tasks if chosen(row.task)], arm)
            if found:
                rows.append(_row("", f"{prefix}-{track}", found[0], found[1]))
    return rows


def _of_drift(report: Report) -> list[dict[str, Any]]:
    rows = []
    for one in report.drift:
        more, h = "" if one.actions == "true" else f"-{one.actions}", one.drift.horizon
        rows += [_row("", f"drift{more}-{h}", one.drift.naive, one.drift.active),
                 _row("", f"drift-fixed{more}-{h}", one.drift.fixed, one.drift.matched),
                 _row("", f"mase-copy{more}-{h}", one.mase_copy, one.drift.active),
                 _row("", f"mase-hour{more}-{h}", one.mase_mean, one.drift.active)]
        if not more:
            rows.append(_row("", f"own-stay-{h}", one.retrieval, one.drift.matched))
    if report.drift:
        rows.append(_row("", "step", report.drift[0].step, report.drift[0].drift.active))
    for part in report.parts:
        if part is not None:
            rows += [_row("", f"part-{name}-{part.horizon}", getattr(part, name), 0) for name in (
                "survivorship", "nonstationarity", "contraction", "horizon_cost", "underfit", "remainder")]
    return [{**row, "metric": row["metric"].replace("_", "-")} for row in rows]


def _beside(report: Report) -> list[dict[str, Any]]:
    """The roll-out on the stays that the simulated optimum forecasts, each number beside the optimum's (`limit`). These
    stays all last, so that the published drift and the fixed cohort's are one."""
    mine = report.same or tuple(row for row in report.drift if row.actions == "true")
    rows = [_row("", f"part-sample-{part.horizon}", part.sample, 0) for part in report.parts if part is not None]
    for place, (one, best) in enumerate(zip(mine, report.best, strict=True)):
        h, n = one.drift.horizon, best.drift.matched
        if not n:
            continue
        if place == 0:
            rows.append(_row("", "step-same", one.step, n, limit=best.step))
        rows += [_row("", f"drift-same-{h}", one.drift.fixed, n, limit=best.drift.fixed),
                 _row("", f"mase-copy-same-{h}", one.mase_copy, n, limit=best.mase_copy),
                 _row("", f"mase-hour-same-{h}", one.mase_mean, n, limit=best.mase_mean),
                 _row("", f"own-stay-same-{h}", one.retrieval, n, limit=best.retrieval)]
    return rows


def _of_geometry(report: Report) -> list[dict[str, Any]]:
    rows = []
    for definition, ratios in report.geometry.items():
        for one in ratios:
            if one.measure == NORM:
                where = one.space.replace(" ", "-") + ("-standardised" if one.standardised else "")
                rows.append(_row("", f"displacement-{definition}-{where}", one.value, one.deteriorating + one.stable))
    return rows


def beside_best(rows: list[dict[str, Any]], best: Mapping[str, float]) -> list[dict[str, Any]]:
    """The rows of one arm and cohort, AUROCs with the best possible one as their limit; a mean's is the mean of its
    tasks', and none where one of them has none."""
    made = [dict(row) for row in rows]
    for label, mean in MEANS.items():
        of_task = [row for row in made if row["metric"] == label]
        for row in of_task:
            row["limit"] = best.get(row["task"])
        for track, chosen in TRACKS.items():
            limits = [row["limit"] for row in of_task if chosen(row["task"])]
            if limits and None not in limits:
                for row in (row for row in made if row["metric"] == f"{mean}-{track}"):
                    row["limit"] = fmean(limits)
    return made


__all__ = ["STUDIED", "beside_best", "curriculum", "measure", "settings", "train"]
