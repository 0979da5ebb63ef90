"""What tuning came to, beside the study's table: trials, chosen settings, sensitivity, a figure, an Optuna journal.

    trials.csv        one row a trial: setting, mean out-of-fold AUC over seeds, whether it was chosen
    chosen.toml       each arm's chosen setting in each cell
    tuning.csv        score against budget (best of the first k), and along each hyperparameter in eight equal parts
    tuning.png        the same as curves
    importance.csv    each arm's hyperparameters: their shares of the score's variance (fANOVA), all cells together
    tuning.log        an Optuna journal with one study a cell and arm (optuna-dashboard DIR/tuning.log)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simlab.files import write_aside, write_text
from simlab.sweep import fields, plan, style
from simlab.sweep.schema import Chosen, Study
from simlab.training.search import RANGES

if TYPE_CHECKING:
    from simlab.sweep.tune import Done

TRIALS, CHOSEN, CURVES, FIGURE, JOURNAL, IMPORTANCE = ("trials.csv", "chosen.toml", "tuning.csv", "tuning.png",
                                                       "tuning.log", "importance.csv")
PARTS = 8
Record = dict[str, Any]


def write(study: Study, done: Sequence[Done], chosen: Sequence[Chosen], folder: Path) -> None:
    """Every file, each written aside and moved into place."""
    from simlab.sweep.atlas import as_csv

    ordered = sorted(done, key=lambda d: (d.cell, study.arms.index(d.arm), d.number))
    curves = along_axes(study, ordered)
    write_text(folder / TRIALS, as_csv(trial_records(study, ordered, chosen)))
    write_text(folder / CURVES, as_csv(curves))
    write_text(folder / IMPORTANCE, as_csv(importance(study, ordered)))
    _figure(study, curves, folder / FIGURE)
    _journal(study, ordered, folder / JOURNAL)
    write_text(folder / CHOSEN, fields.dump(_tables(study, ordered, chosen)))


def trial_records(study: Study, done: Sequence[Done], chosen: Sequence[Chosen]) -> list[Record]:
    """One record a trial."""
    names = sorted({name for d in done for name, _ in d.setting})
    best = {(cell, arm): setting for cell, arm, setting in chosen}
    records, taken = [], set()
    for d in done:
        mine = d.setting == best.get((d.cell, d.arm)) and d.score is not None and (d.cell, d.arm) not in taken
        taken |= {(d.cell, d.arm)} if mine else set()
        setting, at = dict(d.setting), {f"p_{k}": v for k, v in plan.cell(study, d.cell).items()}
        records.append({"study": study.name, "cell": d.cell, **at, "method": d.arm, "trial": d.number,
                        **{name: setting.get(name) for name in names},
                        "score": d.score, "seeds": len(d.scores), "chosen": int(mine), "error": d.error})
    return records


def importance(study: Study, done: Sequence[Done]) -> list[Record]:
    """One record an arm and hyperparameter, of arms with two or more: its share of the variance of the trials' scores
    less their cell's mean, over all cells, with an interval over seeds (`simlab.sweep.sensitivity.forests`)."""
    import numpy as np

    from simlab.sweep import sensitivity
    from simlab.sweep.tune import distributions

    records: list[Record] = []
    for arm in study.arms:
        space = distributions(study, arm)
        mine = [d for d in done if d.arm == arm and d.score is not None]
        if len(space) < 2 or len(mine) < 2 * len(space) or study.n_seeds < 3:
            continue
        scores, cells = np.array([d.scores for d in mine], dtype=float), np.array([d.cell for d in mine])
        for cell in set(cells.tolist()):
            scores[cells == cell] -= scores[cells == cell].mean(axis=0)
        found = sensitivity.summarised(sensitivity.forests(space, [dict(d.setting) for d in mine], scores))
        rows = [{"method": arm, "hyperparameter": name, "importance": row["first_order"], "low": row["low"],
                 "high": row["high"], "evaluator": sensitivity.FANOVA}
                for name, row in zip(space, found, strict=True)]
        records += sorted(rows, key=lambda row: -(row["importance"] or 0.0))
    return records


def along_axes(study: Study, done: Sequence[Done]) -> list[Record]:
    """For each arm in each cell: the best and mean score of the first k trials, and of those in each eighth of the
    trials along each hyperparameter (at its median there)."""
    groups: dict[tuple[int, str], list[Done]] = {}
    for d in done:
        if d.score is not None and d.setting:
            groups.setdefault((d.cell, d.arm), []).append(d)
    return [{"cell": cell, "method": arm, **point} for (cell, arm), mine in groups.items() for point in _curves(mine)]


def _curves(mine: list[Done]) -> Iterator[Record]:
    scores = [d.score or 0.0 for d in mine]
    for k in range(1, len(mine) + 1):
        yield _point("budget", k, scores[:k])
    for name in sorted(dict(mine[0].setting)):
        along = sorted((dict(d.setting)[name], d.score or 0.0) for d in mine)
        parts = min(PARTS, len(along))
        for i in range(parts):
            part = along[i * len(along) // parts:(i + 1) * len(along) // parts]
            yield _point(name, part[len(part) // 2][0], [score for _, score in part])


def _point(along: str, at: float, scores: Sequence[float]) -> Record:
    return {"along": along, "at": at, "best": max(scores), "mean": sum(scores) / len(scores), "trials": len(scores)}


def _tables(study: Study, done: Sequence[Done], chosen: Sequence[Chosen]) -> dict[str, Any]:
    scores = {(d.cell, d.arm, d.setting): d.score for d in reversed(done)}
    tables: dict[str, Any] = {}
    for cell, arm, setting in chosen:
        table = tables.setdefault(f"cell-{cell}", {"knobs": plan.cell(study, cell)})
        table[arm] = {"score": scores[cell, arm, setting], **dict(setting)}
    return tables


def _figure(study: Study, curves: Sequence[Record], path: Path) -> None:
    """A panel for the budget and one for each hyperparameter; a line an arm, its mean over cells where they agree on
    the place (the budget), else its points."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    along = list(dict.fromkeys(record["along"] for record in curves)) or ["budget"]
    across = min(3, len(along))
    down = -(-len(along) // across)
    with mpl.rc_context(style.STYLE):
        figure = Figure(figsize=(style.WIDTH, 0.7 + 1.9 * down), layout="constrained")
        figure.suptitle(f"What tuning found: study {study.name}", fontsize=9.5, fontweight="bold", x=0.01, ha="left")
        grid = figure.subplots(down, across, squeeze=False, sharey=True)
        colours = dict(zip(study.arms, mpl.colormaps["tab10"].colors * 9, strict=False))
        for axes, name in zip(grid.flat, along, strict=False):
            for arm in study.arms:
                mine = [r for r in curves if (r["method"], r["along"]) == (arm, name)]
                for cell in dict.fromkeys(r["cell"] for r in mine):
                    line = [(r["at"], r["best"]) for r in mine if r["cell"] == cell]
                    axes.plot(*zip(*line, strict=True), color=colours[arm], linewidth=0.9, marker=".", markersize=3)
            axes.set_xlabel("trials" if name == "budget" else name.replace("_", " "))
            if name == "budget":
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
                continue
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            if RANGES[name].whole:
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axes.xaxis.set_major_formatter("{x:g}")
        for axes in list(grid.flat)[len(along):]:
            axes.set_visible(False)
        for row in grid:
            row[0].set_ylabel("best out-of-fold AUC")
        shown = [a for a in study.arms if any(r["method"] == a for r in curves)]
        if shown:
            lines = [mpl.lines.Line2D([], [], color=colours[a]) for a in shown]
            figure.legend(lines, shown, loc="outside lower center", ncols=4, frameon=False)
        canvas = FigureCanvasAgg(figure)
        write_aside(path, partial(canvas.print_figure, format="png", dpi=200, metadata={"Software": None}))


def _journal(study: Study, done: Sequence[Done], path: Path) -> None:
    """Every trial in a journal of its own making: a view, written whole each time."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    from simlab.sweep.tune import as_trial, distributions

    new = path.with_name(path.name + ".tmp")
    new.unlink(missing_ok=True)
    storage = JournalStorage(JournalFileBackend(str(new.resolve())))
    for cell, arm in dict.fromkeys((d.cell, d.arm) for d in done):
        one = optuna.create_study(study_name=f"{study.name}/cell-{cell}/{arm}", storage=storage, direction="maximize")
        space = distributions(study, arm)
        one.add_trials([as_trial(d, space) for d in done if (d.cell, d.arm) == (cell, arm)])
    new.replace(path)
