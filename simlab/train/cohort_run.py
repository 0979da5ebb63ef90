"""`simlab.train` on a `.cohort` file: the run folder, finished splits kept, the table with its intervals."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from simlab import __version__
from simlab.cohort import Cohort, load
from simlab.errors import DamagedFile, InvalidCohort, OutOfDomain
from simlab.methods import Method
from simlab.train import health
from simlab.train.experiment import Line, Plan, Split, choose_task, configured, run_split, table
from simlab.train.settings import settings_of
from simlab.training.device import find as find_device
from simlab.training.pretrain import Settings


def run(options: argparse.Namespace, arms: Sequence[Method]) -> int:
    """Run every split that is not done yet, then print and save the table. Returns the exit status."""
    path = Path(options.data)
    if not path.is_file():
        raise InvalidCohort(
            f"{path} does not exist; prepare it first, e.g. python -m real_data.hourly prepare DIR --out {path}."
        )
    find_device(options.device)
    chosen, _ = settings_of(options.set, [])
    settings = Settings(**chosen, device=options.device)  # type: ignore[arg-type]
    torch.set_num_threads(options.threads)
    cohort = load(path)
    plan = Plan(choose_task(cohort, options.task), options.splits, options.test_share, options.labels, options.seed)
    folder = options.out or Path("runs") / "train" / f"{path.stem}-{arms[0].name}"
    frozen = {
        "data": path.name,
        "records": len(cohort),
        "arms": [a.name for a in arms],
        "settings": asdict(settings),
        "plan": {k: v for k, v in asdict(plan).items() if k != "splits"},
    }
    _freeze(folder, frozen)
    done = _splits(folder, cohort, configured(arms, settings), settings, plan, options.quiet)
    lines = table(done, [a.name for a in arms])
    _save(
        folder / "result.json",
        {
            **frozen,
            **_provenance(),
            "table": [asdict(line) for line in lines],
            "diagnostics": _mean_diagnostics(done, arms[0].name),
            "health": health.summary(_health(done)) if done[0].verdict else None,
            "splits": plan.splits,
        },
    )
    if options.json:
        print(
            json.dumps(
                {"task": plan.task, "splits": plan.splits, "table": [asdict(line) for line in lines]}, allow_nan=False
            )
        )
    else:
        print(_text(cohort, plan, done, lines, folder))
    return 0


def _splits(
    folder: Path, cohort: Cohort, arms: Sequence[Method], settings: Settings, plan: Plan, quiet: bool
) -> list[Split]:
    done = []
    bar = tqdm(range(plan.splits), unit="split", disable=quiet or not sys.stderr.isatty(), file=sys.stderr)
    for index in bar:
        file = folder / "splits" / f"{index:04d}.json"
        split = _read(file)
        if split is None:
            checkpoints = folder / "pretraining" / f"{index:04d}"
            split = run_split(cohort, arms, settings, plan, index, lambda arm: bar.set_postfix_str(arm), checkpoints)
            _save(file, asdict(split))
            shutil.rmtree(checkpoints, ignore_errors=True)
            if not quiet and not sys.stderr.isatty():
                print(f"split {index + 1}/{plan.splits} done", file=sys.stderr)
        done.append(split)
    return done


def _freeze(folder: Path, frozen: dict[str, object]) -> None:
    """Write what the run is; refuse a folder that holds another one."""
    (folder / "splits").mkdir(parents=True, exist_ok=True)
    file = folder / "run.json"
    if not file.exists():
        _save(file, frozen)
        return
    try:
        found = json.loads(file.read_text())
    except ValueError:
        raise DamagedFile(f"{file} cannot be read; delete {folder} to start again, or give another --out.") from None
    for key, value in frozen.items():
        if found.get(key) != json.loads(json.dumps(value)):
            raise OutOfDomain(
                f"{folder} holds another run: {key} is {found.get(key)} there and {value} now; give another "
                "--out, or delete the folder."
            )


def _read(file: Path) -> Split | None:
    """A finished split; a file that cannot be read is set aside, said, and computed again."""
    if not file.exists():
        return None
    try:
        raw = json.loads(file.read_text())
        return Split(**{**raw, "curve": tuple(raw["curve"])})
    except (ValueError, TypeError, KeyError):
        aside = file.with_name(file.name + ".damaged")
        file.replace(aside)
        print(f"{file} could not be read: kept as {aside.name}, computed again.", file=sys.stderr)
        return None


def _save(file: Path, content: dict[str, object]) -> None:
    aside = file.with_name(file.name + ".part")
    with aside.open("w") as out:
        json.dump(content, out, indent=1, allow_nan=False)
        out.flush()
        os.fsync(out.fileno())
    aside.replace(file)


def _provenance() -> dict[str, object]:
    return {
        "simlab": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def _mean_diagnostics(done: Sequence[Split], arm: str) -> dict[str, float]:
    keys = done[0].diagnostics[arm]
    return {key: float(np.mean([s.diagnostics[arm][key] for s in done])) for key in keys}


def _health(done: Sequence[Split]) -> list[health.Health]:
    return [health.Health(s.verdict, s.health, s.curve) for s in done if s.verdict]


def _text(cohort: Cohort, plan: Plan, done: Sequence[Split], lines: Sequence[Line], folder: Path) -> str:
    y = cohort.labels[plan.task]
    first = lines[0].arm
    head = (
        f"task {plan.task}: {int(np.isfinite(y).sum())} labelled records, {int(np.nansum(y))} positive, "
        f"{len(np.unique(cohort.subject))} subjects; {plan.splits} splits by subject, about {done[0].n_train} records "
        f"to train and {done[0].n_test} to test"
    )
    rows = [("method", "AUROC", "AUPRC", f"{first} minus it (AUROC)", "could have been found")]
    for line in lines:
        gap = str(line.difference) if line.difference else ""
        seen = f"{line.detectable:.3f}" if line.detectable is not None else ""
        rows.append((line.arm, str(line.metrics["auroc"]), str(line.metrics["auprc"]), gap, seen))
    wide = [max(len(row[i]) for row in rows) + 2 for i in range(5)]
    grid = ["".join(text.ljust(w) for text, w in zip(row, wide, strict=True)).rstrip() for row in rows]
    ranks = ", ".join(f"{k.removeprefix('diag/')} {v:.2f}" for k, v in _mean_diagnostics(done, first).items())
    notes = [
        "Intervals: 95 %, Nadeau-Bengio (splits share records). 'Could have been found': the true difference that a "
        "test at 5 % would find with power 80 %.",
        f"Representation of {first}: {ranks or 'none'}.",
        *health.text(first, _health(done)),
        f"Run folder: {folder}",
    ]
    if "subject" in cohort.provenance:  # where an adapter says what a subject is, the reader of a split must know
        notes.insert(1, f"Subject: {cohort.provenance['subject']}.")
    return "\n".join([head, "", *grid, "", *notes])
