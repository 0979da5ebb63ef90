"""A report as text, and as JSON (null where a number does not exist)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from simlab.evaluation import decoding
from simlab.evaluation.drift import Drift
from simlab.evaluation.intervals import Interval
from simlab.trajectories.evaluate import DriftRow, Report, mean_areas
from simlab.trajectories.tasks import FEW

PARTS = ("survivorship", "sample", "nonstationarity", "contraction", "horizon_cost", "underfit", "remainder")
WORDS = {"sample": "its sample", "nonstationarity": "non-stationarity", "horizon_cost": "horizon's own cost"}

BEST = ("best possible: of the best forecast of what is charted, simulated or known; the same variables and stays. "
        "over best: error over its error, of variables that it does not foretell exactly.")
MEAN = "mean: over the tasks in which every arm has an AUROC, the same for all."


def as_json(report: Report) -> str:
    """The whole report as one JSON object."""
    return json.dumps(plain(report), allow_nan=False)


def plain(thing: Any) -> Any:
    """Dataclasses, mappings and tuples as what JSON knows; a number that does not exist is None."""
    if is_dataclass(thing) and not isinstance(thing, type):
        return plain(asdict(thing))
    if isinstance(thing, dict):
        return {str(key): plain(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [plain(value) for value in thing]
    return None if isinstance(thing, float) and not math.isfinite(thing) else thing


def text(report: Report) -> str:
    """The report as tables, each with what its columns mean."""
    blocks = [_shape(report), _drift(report), _parts(report), *_geometry(report), _decoded(report), _tasks(report)]
    if report.notes:
        blocks.append("\n".join(["Notes:", *(f"  {note}" for note in report.notes)]))
    return "\n\n".join(block for block in blocks if block)


def _shape(report: Report) -> str:
    of = report.shape
    return (f"Latents: mean norm {of['norm']:.2f}, effective rank {of['rank']:.1f}, deviation along a stay "
            f"{of['sd']:.3f}, {of['between']:.0%} of the variance between stays.")


def _drift(report: Report) -> str:
    rows = [["context", "actions", "h", "published", "fixed cohort", "stays", "MASE copy", "MASE hour", "MASE line",
             "own stay"]]
    # The reference, and under it the roll-out on its stays where these are some of the fixed cohort.
    for row in (*report.drift, *report.best, *report.same):
        of = row.drift
        rows.append([f"{row.context} h", row.actions, str(of.horizon), _percent(of.naive), _fixed(of),
                     f"{of.active}/{of.matched}", *(_number(x) for x in _worth(row))])
    told = ["Drift: L1 at horizon h over L1 at one hour, minus 1; published: stays still there, fixed cohort: those "
            "there at the last horizon.",
            "MASE: error over that of the last latent, the mean at the hour, a straight line. own stay: nearer to its "
            "own stay than to another (chance .5)."]
    return "\n".join([*told, "", *_columns(rows)])


def _fixed(of: Drift) -> str:
    told = _percent(of.fixed)
    if of.fixed_interval is None:
        return told
    return f"{told} [{_percent(of.fixed_interval.low)}, {_percent(of.fixed_interval.high)}]"


def _worth(row: DriftRow) -> tuple[float | None, ...]:
    return row.mase_copy, row.mase_mean, row.mase_line, row.retrieval


def _parts(report: Report) -> str:
    rows = [["h", "published", *(WORDS.get(name, name) for name in PARTS)]]
    for part in report.parts:
        if part is not None:
            told = [getattr(part, name) for name in PARTS]
            rows.append([str(part.horizon), _percent(math.exp(part.total) - 1),
                         *("-" if x is None else f"{x:+.3f}" for x in told)])
    if len(rows) == 1:
        return ""
    return "\n".join(["What the published drift is made of (natural logarithms; they add up to ln(1 + drift); "
                      f"reference: {report.reference}; its sample: by chance of the stays that it forecasts):", "",
                      *_columns(rows)])


def _geometry(report: Report) -> Iterable[str]:
    for name, ratios in report.geometry.items():
        first = ratios[0]
        rows = [["space", "measure", "as it is", "standardised"]]
        for space in dict.fromkeys(r.space for r in ratios):
            for measure in dict.fromkeys(r.measure for r in ratios):
                both = [r for r in ratios if (r.space, r.measure) == (space, measure)]
                rows.append([space, measure, *(_interval(r.value, r.interval) for r in both)])
        yield "\n".join([f"Displacement, deteriorating over stable, by {name} ({first.deteriorating} and "
                         f"{first.stable} stays of the same span of hours):", "", *_columns(rows)])


def _decoded(report: Report) -> str:
    medians = decoding.medians(report.decoded)
    if not medians:
        return ""
    rows = [["h", "median MASE", "variables"], *([str(h), f"{m:.3f}", str(n)] for h, (m, n) in medians.items())]
    told = ["Variables decoded from forecast latents: error over that of the last value seen, carried forward "
            "(--json: each variable)."]
    best, over = (decoding.medians(report.decoded, of) for of in (lambda row: row.best_mase, decoding.over_best))
    if best:
        told.append(BEST)
        rows[0][2:2] = ["best possible", "over best"]
        for row, h in zip(rows[1:], medians, strict=True):
            whole = best.get(h, (0, 0))[1] == medians[h][1]  # of some of the variables alone it is another median
            row[2:2] = [_number(of[h][0]) if whole and h in of else "-" for of in (best, over)]
    return "\n".join([*told, "", *_columns(rows)])


def _tasks(report: Report) -> str:
    arms = list(dict.fromkeys(row.arm for row in report.tasks))
    if not arms:
        return ""
    rows = [["task", "n", "positive", "best possible", *arms]]
    for task in dict.fromkeys(row.task for row in report.tasks):
        mine = {row.arm: row for row in report.tasks if row.task == task}
        first = next(iter(mine.values()))
        cells = [_interval(row.auroc.value, row.auroc) if row.auroc else "-" for row in mine.values()]
        rows.append([task, str(first.n), str(first.positives), _number(first.limit), *cells])
    rows += _means(report, arms)
    told = {f"  {row.task}, {row.arm}: {row.failed}" if sum(r.task == row.task and bool(r.failed)
            for r in report.tasks) < len(arms) else f"  {row.task}: {row.failed}" for row in report.tasks if row.failed}
    return "\n".join(["Tasks from one frozen backbone (encoded, rolled out) and from labels alone: AUROC [95 %, over "
                      "subjects]; best possible: the AUC of the risk, known or simulated (-: neither).", MEAN, "",
                      *_columns(rows), *sorted(told)])


def _means(report: Report, arms: Sequence[str]) -> list[list[str]]:
    """Every arm's mean over the same tasks: those in which all arms have an AUROC; and, where a world knows the best
    area of some of these alone, over them."""
    by = {(row.task, row.arm): row for row in report.tasks if row.auroc is not None}
    tasks = dict.fromkeys(row.task for row in report.tasks)
    shared = [task for task in tasks if all((task, arm) in by for arm in arms)]
    limits = {task: by[task, arms[0]].limit for task in shared if by[task, arms[0]].limit is not None}

    def row(name: str, over: Sequence[str]) -> list[str]:
        best = _number(sum(limits.values()) / len(limits)) if limits and len(over) == len(limits) else ""
        means = [mean_areas([by[task, arm] for task in over], arm) for arm in arms]
        few = sum(by[task, arms[0]].rarer < FEW for task in over)
        doubt = f", {few} of them with fewer than {FEW} of a class" if few else ""
        return [f"{name} ({len(over)} task{'' if len(over) == 1 else 's'}{doubt})", "", "", best,
                *(_number(found[0] if found else None) for found in means)]

    more = [row("mean, best known", list(limits))] if 0 < len(limits) < len(shared) else []
    return [row("mean", shared), *more]


def _percent(value: float | None) -> str:
    return "null" if value is None else f"{100 * value:+.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _interval(value: float | None, interval: Interval | None) -> str:
    if value is None:
        return "null"
    if interval is None or not math.isfinite(interval.low):
        return f"{value:.3f}"
    return f"{value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, wide, strict=True)).rstrip() for row in rows]
