"""`simlab.train` on a synthetic world: the same arms on fresh seeds, beside the limit of what each may see."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from simlab.cohort import Cohort
from simlab.environments import knobs
from simlab.environments.registry import find_world
from simlab.errors import OutOfDomain
from simlab.evaluation.intervals import Interval
from simlab.methods import Method
from simlab.sweep.job import Row, run_job
from simlab.sweep.plan import jobs
from simlab.sweep.schema import Compare, Study, Train
from simlab.train import health
from simlab.train.settings import settings_of
from simlab.training.data import Views
from simlab.training.device import find as find_device
from simlab.training.pretrain import Encoders


def run(options: argparse.Namespace, arms: Sequence[Method]) -> int:
    """One cell of a study, run in this process; prints each arm's AUC, its limit and its difference to the method."""
    find_device(options.device)
    world = find_world(options.data)
    names = [name for k in world.knobs for name in dict.fromkeys((k.name, k.symbol))]
    chosen, texts = settings_of(options.set, names)
    values = {key: knobs.parse(knobs.find(key, world.knobs), text) for key, text in texts.items()}
    if options.labels:
        values["n_labelled"] = options.labels
    world.spec(**values)
    if options.task not in (None, "outcome"):
        raise OutOfDomain(f"--task {options.task}: a world has one task, outcome.")
    study = Study(
        name=f"train-{options.data}",
        seed=options.seed,
        question="",
        hypothesis="",
        prediction="",
        falsified_if="",
        world=options.data,
        knobs=values,
        axes=(),
        compare=Compare(tuple(a.name for a in arms), ()),
        looks=(options.splits,),
        train=Train(**chosen),
    )  # type: ignore[arg-type]
    found: list[health.Health] = []

    def look(seed: int, arm: Method, encoders: Encoders, views: Views, cohort: Cohort) -> None:
        if arm.name == arms[0].name:
            found.append(health.examine(encoders, views, cohort.subject, cohort.factors))

    rows = [row for job in jobs(study, options.device, options.threads) for row in run_job(study, job, look)]
    failed = [row for row in rows if row["status"] != "ok"]
    table = [_line(rows, arm.name, arms[0].name) for arm in arms if any(_is(r, arm.name) for r in rows)]
    if options.json:
        print(
            json.dumps(
                {
                    "task": "outcome",
                    "seeds": options.splits,
                    "table": table,
                    "health": health.summary(found) if found else None,
                },
                allow_nan=False,
            )
        )
    else:
        print(_text(options.data, options.splits, table, arms[0].name, _health(rows, arms[0].name)))
        print("\n".join(health.text(arms[0].name, found)))
    for row in failed:
        print(f"failed: {row['method']} (seed {row['seed']}): {row['error']}")
    if options.out:
        Path(options.out).mkdir(parents=True, exist_ok=True)
        (Path(options.out) / "result.json").write_text(json.dumps(table, indent=1, allow_nan=False))
    return 1 if failed else 0


def _is(row: Row, arm: str, metric: str = "auc", cohort: str = "test") -> bool:
    return row["method"] == arm and row["metric"] == metric and row["cohort"] == cohort


def _line(rows: Sequence[Row], arm: str, first: str) -> dict[str, object]:
    """An arm's mean AUC over seeds with its Student t interval, its limit, and the paired difference to the first."""
    value = {r["seed"]: r["value"] for r in rows if _is(r, arm)}
    base = {r["seed"]: r["value"] for r in rows if _is(r, first)}
    shared = sorted(set(value) & set(base))
    gap = [base[s] - value[s] for s in shared]
    limit = next(r["limit"] for r in rows if _is(r, arm))
    return {
        "arm": arm,
        "auc": _t(list(value.values())),
        "limit": limit,
        "difference": None if arm == first or len(gap) < 2 else _t(gap),
    }


def _t(values: list[float]) -> list[float]:
    mean, n = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return [mean, mean - half, mean + half]


def _health(rows: Sequence[Row], arm: str) -> str:
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["method"] == arm and row["metric"].startswith("diag/") and row["metric"] != "diag/leak-z":
            found.setdefault(row["metric"].removeprefix("diag/"), []).append(row["value"])
    return ", ".join(f"{k} {np.mean(v):.2f}" for k, v in found.items())


def _text(world: str, seeds: int, table: Sequence[dict[str, object]], first: str, health: str) -> str:
    lines = [
        f"world {world}, {seeds} seeds, posterior-weighted AUC on 20,000 test records",
        "",
        f"{'method':24s}{'AUC':26s}{'limit':10s}{first} minus it",
    ]
    for line in table:
        gap = str(Interval(*line["difference"])) if line["difference"] else ""  # type: ignore[misc]
        lines.append(f"{line['arm']:24s}{Interval(*line['auc'])!s:26s}{line['limit']:<10.3f}{gap}")  # type: ignore[misc]
    return "\n".join(
        [*lines, "", "Intervals: 95 %, Student t over seeds.", f"Representation of {first}: {health or 'none'}."]
    )
