"""`simlab.train` on a synthetic world: the same arms on fresh seeds, beside the limit of what each may see."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from tqdm import tqdm

from simlab.cohort import Cohort
from simlab.environments import knobs
from simlab.environments.registry import find_world
from simlab.errors import unknown
from simlab.evaluation.intervals import Interval
from simlab.methods import Method
from simlab.sweep.job import Row, run_job
from simlab.sweep.plan import Job
from simlab.sweep.schema import Compare, Study, Train
from simlab.train import folder as run_folder
from simlab.train import health
from simlab.train.settings import settings_of
from simlab.training.data import Views
from simlab.training.device import find as find_device
from simlab.training.pretrain import Encoders


def run(options: argparse.Namespace, arms: Sequence[Method]) -> int:
    """One cell of a study, seed by seed in this process; a finished seed is kept. Prints each arm's AUC, its limit, and
    its difference to the method."""
    find_device(options.device)
    world = find_world(options.data)
    names = [name for k in world.knobs for name in dict.fromkeys((k.name, k.symbol))]
    chosen, texts = settings_of(options.set, names)
    values = {key: knobs.parse(knobs.find(key, world.knobs), text) for key, text in texts.items()}
    if options.labels:
        values["n_labelled"] = options.labels
    world.spec(**values)
    task = options.task or world.tasks[0]
    if task not in world.tasks:
        raise unknown("task", task, list(world.tasks), f"World {options.data} has no other.")
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
        compare=Compare(tuple(a.name for a in arms), (), task=task),
        looks=(options.splits,),
        train=Train(**chosen),
    )  # type: ignore[arg-type]
    folder = options.out or Path("runs") / "train" / f"{options.data}-{arms[0].name}"
    frozen = {
        "world": options.data,
        "arms": [a.name for a in arms],
        "knobs": values,
        "train": asdict(study.train),
        "seed": options.seed,
        "device": options.device,
        **({"task": task} if task != "outcome" else {}),
    }
    run_folder.open_folder(folder, frozen)
    parts = [_seed(folder, study, seed, options, arms[0]) for seed in _progress(options)]
    rows = [row for part in parts for row in part["rows"]]
    found = [health.Health(h["verdict"], h["numbers"], tuple(h["curve"])) for part in parts for h in part["health"]]
    failed = [row for row in rows if row["status"] != "ok"]
    table = [_line(rows, arm.name, arms[0].name) for arm in arms if any(_is(r, arm.name) for r in rows)]
    shown = {
        "task": task,
        "seeds": options.splits,
        "table": table,
        "health": health.summary(found) if found else None,
    }
    run_folder.save(folder / "result.json", {**frozen, **run_folder.provenance(), **shown})
    if options.json:
        print(json.dumps(shown, allow_nan=False))
    else:
        ranks = _health(rows, arms[0].name)
        known = any(r["metric"] == "diag/leak-z" for r in rows)
        print(_text(options.data, options.splits, table, arms[0].name, ranks, folder, known))
        print("\n".join(health.text(arms[0].name, found)))
    for row in failed:
        print(f"failed: {row['method']} (seed {row['seed']}): {row['error']}", file=sys.stderr)
    return 1 if failed else 0


def _progress(options: argparse.Namespace) -> Iterable[int]:
    """The seeds, with a bar on a terminal and a line each elsewhere."""
    terminal = sys.stderr.isatty()
    for seed in tqdm(range(options.splits), unit="seed", disable=options.quiet or not terminal, file=sys.stderr):
        yield seed
        if not options.quiet and not terminal:
            print(f"seed {seed + 1}/{options.splits} done", file=sys.stderr)


def _seed(
    folder: Path, study: Study, seed: int, options: argparse.Namespace, first: Method
) -> dict[str, list[dict[str, Any]]]:
    """One seed's rows and the health of the first arm's encoders: those kept in the folder, or computed and kept."""
    file = run_folder.part(folder, seed)
    kept = run_folder.read(file)
    if kept is not None and isinstance(kept.get("rows"), list) and isinstance(kept.get("health"), list):
        return kept
    found: list[health.Health] = []

    def look(_: int, arm: Method, encoders: Encoders, views: Views, cohort: Cohort) -> None:
        if arm.name == first.name:
            found.append(health.examine(encoders, views, cohort.subject, cohort.factors, cohort.site))
            arrays = health.artefacts(encoders, views, cohort.record, cohort.factors, cohort.site)
            run_folder.save_arrays(folder / "artefacts" / f"0-{seed}-{arm.name}.npz", arrays)

    rows = run_job(study, Job(0, (0,), (seed,), options.device, options.threads), look)
    seen = [
        {
            "verdict": h.verdict,
            "numbers": {k: v for k, v in h.numbers.items() if math.isfinite(v)},
            "curve": [dict(point) for point in h.curve],
        }
        for h in found
    ]
    made = {"rows": rows, "health": seen}
    run_folder.save(file, made)
    return made


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


def _text(world: str, seeds: int, table: Sequence[dict[str, object]], first: str, health: str, folder: Path,
          known_risk: bool = True) -> str:
    wide = max(22, *(len(str(line["arm"])) for line in table)) + 2 if table else 24
    lines = [
        f"world {world}, {seeds} seeds, {'posterior-weighted AUC' if known_risk else 'AUC from labels'} on 20,000 test "
        "records",
        "",
        f"{'method':{wide}s}{'AUC':26s}{'limit':10s}{first} minus it",
    ]
    for line in table:
        gap = str(Interval(*line["difference"])) if line["difference"] else ""  # type: ignore[misc]
        limit = "unknown" if line["limit"] is None else f"{line['limit']:.3f}"
        lines.append(f"{line['arm']:{wide}s}{Interval(*line['auc'])!s:26s}{limit:<10s}{gap}")  # type: ignore[misc]
    return "\n".join(
        [
            *lines,
            "",
            "Intervals: 95 %, Student t over seeds.",
            f"Representation of {first}: {health or 'none'}.",
            f"Run folder: {folder}",
        ]
    )
