"""`simlab.train` on a `.cohort` file: the run folder, finished splits kept, the table with its intervals."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from tqdm import tqdm

from simlab import rng
from simlab.cohort import Cohort, load
from simlab.errors import InvalidCohort
from simlab.evaluation.auc import weighted_auc
from simlab.methods import Method
from simlab.train import folder as run_folder
from simlab.train import health, plasmode
from simlab.train.experiment import (
    FEWEST,
    MAIN,
    Line,
    Plan,
    Split,
    choose_task,
    configured,
    looked_at,
    run_split,
    table,
)
from simlab.train.settings import settings_of
from simlab.training.device import find as find_device
from simlab.training.pretrain import Settings

# Further columns of the table, where a run has them.
EXTRA = {MAIN: "AUC, known risk", "slope": "calibration slope", "offset": "mean risk minus rate"}


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
    truth = plasmode.parse(options.plasmode)
    cohort = load(path)
    task, others = choose_task(cohort, options.task)
    if others and options.task is None and not options.quiet:
        print(f"task {task}, the cohort's first; --task chooses among {', '.join(others)} too", file=sys.stderr)
    if truth is not None:
        cohort, task = plasmode.plant(cohort, task, truth, options.seed), plasmode.TASK
    plan = Plan(task, options.splits, options.test_share, options.labels, options.seed, options.test_among)
    made = "-plasmode" if truth is not None else ""
    folder = options.out or Path("runs") / "train" / f"{path.stem}{made}-{arms[0].name}"
    frozen = {
        "data": path.name,
        "sha256": run_folder.sha256(path),  # a cohort prepared anew under the same name is another run
        "records": len(cohort),
        "arms": [a.name for a in arms],
        "settings": asdict(settings),
        "plasmode": asdict(truth) if truth is not None else None,
        "plan": {k: v for k, v in asdict(plan).items() if k not in ("splits", "test_among")},
    }
    if looked_at(cohort) is not None:
        frozen["test_among"] = plan.test_among
    run_folder.open_folder(folder, frozen)
    done = _splits(folder, cohort, configured(arms, settings), settings, plan, options.quiet)
    failed = {arm: reason for split in done for arm, reason in split.failed.items()}
    whole = [a.name for a in arms if a.name not in failed]
    lines = table(done, whole) if whole else []
    shown = {"task": plan.task, "splits": plan.splits, "table": [asdict(line) for line in lines], "failed": failed}
    never = looked_at(cohort)
    if never is not None:
        shown["fitted"] = _fitted(cohort, never, plan)
    ranks = _mean_diagnostics(done, whole[0]) if whole else {}
    seen = health.summary(_health(done)) if _health(done) else None
    result = {**frozen, **run_folder.provenance(), **shown, "diagnostics": ranks, "health": seen}
    run_folder.save(folder / "result.json", result)
    print(json.dumps(shown, allow_nan=False) if options.json else _text(cohort, plan, done, lines, ranks, folder))
    for arm, reason in failed.items():
        print(f"failed: {arm}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _splits(
    folder: Path, cohort: Cohort, arms: Sequence[Method], settings: Settings, plan: Plan, quiet: bool
) -> list[Split]:
    done = []
    bar = tqdm(range(plan.splits), unit="split", disable=quiet or not sys.stderr.isatty(), file=sys.stderr)
    for index in bar:
        file = run_folder.part(folder, index)
        found = run_folder.read(file)
        split = Split.of(found) if found else None
        if split is None:
            checkpoints = folder / "pretraining" / f"{index:04d}"
            if plasmode.TASK in cohort.risk:  # a fresh draw of labels each time; the records stay
                cohort = plasmode.redraw(cohort, rng.integer(plan.seed, index, "environment"))
            report, kept = bar.set_postfix_str, folder / "artefacts"
            split = run_split(cohort, arms, settings, plan, index, report, checkpoints, kept)
            run_folder.save(file, asdict(split))
            shutil.rmtree(checkpoints, ignore_errors=True)
            if not quiet and not sys.stderr.isatty():
                print(f"split {index + 1}/{plan.splits} done", file=sys.stderr)
        done.append(split)
    return done


def _mean_diagnostics(done: Sequence[Split], arm: str) -> dict[str, float]:
    keys = done[0].diagnostics[arm]
    return {key: float(np.mean([s.diagnostics[arm][key] for s in done])) for key in keys}


def _health(done: Sequence[Split]) -> list[health.Health]:
    return [health.Health(s.verdict, s.health, s.curve) for s in done if s.verdict]


def _text(
    cohort: Cohort, plan: Plan, done: Sequence[Split], lines: Sequence[Line], ranks: dict[str, float], folder: Path
) -> str:
    if not lines:
        return "no arm could be trained on every split"
    y = cohort.labels[plan.task]
    first = lines[0].arm
    risk = cohort.risk.get(plan.task)  # planted labels are drawn anew for each split: what a draw holds on average
    positive = f"{int(np.nansum(y))} positive" if risk is None else f"about {risk.sum():.0f} positive in each draw"
    head = (
        f"task {plan.task}: {int(np.isfinite(y).sum())} labelled records, {positive}, "
        f"{len(np.unique(cohort.subject))} subjects; {plan.splits} splits by subject, about {done[0].n_train} labelled "
        f"records to train and {done[0].n_test} to test"
    )
    extra = [(m, head) for m, head in EXTRA.items() if any(m in line.metrics for line in lines)]
    main = "AUC" if any(m == MAIN for m, _ in extra) else "AUROC"
    difference = f"{first} minus it ({main})"
    heads = ["method", "AUROC", "AUPRC", *(head for _, head in extra), difference, "could have been found"]
    rows = [heads]
    for line in lines:
        gap = str(line.difference) if line.difference else ""
        seen = "" if line.detectable is None else f"{line.detectable:.3f}" if line.detectable < 1 else "nothing"
        more = [str(line.metrics[m]) if m in line.metrics else "" for m, _ in extra]
        rows.append([line.arm, str(line.metrics["auroc"]), str(line.metrics["auprc"]), *more, gap, seen])
    wide = [max(len(row[i]) for row in rows) + 2 for i in range(len(heads))]
    grid = ["".join(text.ljust(w) for text, w in zip(row, wide, strict=True)).rstrip() for row in rows]
    notes = [
        "Intervals: 95 %, Nadeau-Bengio (splits share records). 'Could have been found': the true difference that a "
        "test at 5 % would find with power 80 %.",
        f"Representation of {first}: "
        + (", ".join(f"{k.removeprefix('diag/')} {v:.2f}" for k, v in ranks.items()) or "none")
        + ".",
        "Calibration: slope 1 and a mean risk equal to the rate are right (a slope below 1: risks too extreme; empty: "
        f"the scores are no risks). No slope where a test side has fewer than {FEWEST} of a class.",
        *health.text(first, _health(done)),
        f"Run folder: {folder}",
    ]
    never = looked_at(cohort)
    if never is not None:
        notes.insert(0, _fitted(cohort, never, plan))
    if plasmode.TASK in cohort.risk:
        notes.insert(0, _planted(plasmode.Plasmode(**cohort.provenance["plasmode"]), cohort))
    if "subject" in cohort.provenance:  # where an adapter says what a subject is, the reader of a split must know
        notes.insert(1, f"Subject: {cohort.provenance['subject']}.")
    return "\n".join([head, "", *grid, "", *notes])


def _fitted(cohort: Cohort, never: Bool[np.ndarray, "records"], plan: Plan) -> str:
    """Whether a test side may hold a subject that something in the cohort was fitted on."""
    chosen, others = (len(np.unique(cohort.subject[rows])) for rows in (never, ~never))
    told = f"{cohort.provenance['fitted']['what']} were chosen by looking at {chosen} subjects"
    if plan.test_among == "unseen":
        return f"The cohort's {told}: test sides are drawn among the {others} others (--test-among all: among all)."
    return f"LEAK, asked for with --test-among all: the cohort's {told}, and test sides hold some of them."


def _planted(truth: plasmode.Plasmode, cohort: Cohort) -> str:
    """What was planted, and the best that any score can do."""
    w_c, w_u, w_v = truth.weights
    risk = cohort.risk[plasmode.TASK]
    return (
        f"Plasmode: labels are planted, and drawn anew for each split (shown by both views {w_c:.2f}, the first alone "
        f"{w_u:.2f}, the second alone {w_v:.2f}; h2 {truth.h2:g}, prevalence {truth.prevalence:g}). Best possible AUC "
        f"{truth.limit:.3f}; in these records {weighted_auc(risk, risk).value:.3f}."
    )
