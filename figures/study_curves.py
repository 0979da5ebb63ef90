"""A published study's scores along its map's columns: each arm's mean with its interval, below the best possible."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from figures.mapping import positions
from figures.style import CEILING, LINES, TEXT
from simlab.report.maps import maps, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Map, Published

NAME = "{study}-curves"
INPUTS = ("results/{study}",)
MOST_ARMS, MOST_PANELS = len(LINES), 9


def numbers(published: Published) -> list[dict[str, Any]]:
    """One record an arm and cell: mean, interval, seeds, and the limit of all streams there ("ceiling")."""
    from simlab.report.scores import scores

    found = []
    kept = [record for record in scores(published) if record["method"] in arms(published)]
    ceilings: dict[int, float] = {}
    for record in kept:
        if record["limit"] is not None:
            ceilings[record["cell"]] = max(record["limit"], ceilings.get(record["cell"], -math.inf))
    names = [axis.name for axis in published.study.axes]
    points = {r["cell"]: {name: r[f"p_{name}"] for name in names} for r in published.verdicts}
    for record in kept:
        found.append({"method": record["method"], "cell": record["cell"], **points[record["cell"]],
                      **{key: record[key] for key in ("mean", "low", "high", "seeds")},
                      "ceiling": ceilings.get(record["cell"])})
    return found


def arms(published: Published) -> list[str]:
    """The arms of the contrasts, in their order: the primary one's first."""
    return list(dict.fromkeys(arm for pair in published.study.contrasts for arm in pair))[:MOST_ARMS]


def share_shown(published: Published) -> str:
    """How many of the study's arms have a line, and which these are; "" where all have one."""
    shown, every = len(arms(published)), len(published.study.arms)
    which = "the first that the contrasts name" if shown == MOST_ARMS else "those that the contrasts name"
    return f"{shown} of {every} arms: {which}" if shown < every else ""


def draw(data: Data) -> Figure:
    """One panel a row of the first map (the first nine; the primary slice), one line an arm."""
    from matplotlib.figure import Figure

    published, one = data.inputs[0], maps(data.inputs[0])[0]
    panels = [row for row in enumerate(one.row_values)][:MOST_PANELS]
    across = min(3, len(panels))
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(TEXT, 0.55 + 1.55 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    handles: dict[str, Any] = {}
    for i, axes in enumerate(grid.flat):
        if i >= len(panels):
            axes.set_visible(False)
            continue
        handles |= _panel(axes, published, one, panels[i][0], data.numbers)
        if one.rows is not None and not one.scattered:
            axes.set_title(f"{one.rows.name} = {show(panels[i][1])}", loc="left")
        if i + across >= len(panels):
            axes.set_xlabel(one.columns.label)
            axes.tick_params(labelbottom=True)
            if across == 3 and len(one.column_values) > 6:
                axes.set_xticks(axes.get_xticks(), [text.get_text() if n % 2 else "" for n, text in
                                                    enumerate(axes.get_xticklabels())])
        if i % across == 0:
            axes.set_ylabel(f"{published.study.measure}, {published.study.cohort}")
        axes.spines[["top", "right"]].set_visible(False)
    if one.at:
        figure.suptitle(", ".join(f"{name} = {show(value)}" for name, value in one.at.items()), fontsize=8)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=_columns(list(handles)),
                  frameon=False, handlelength=2.6, columnspacing=1.2, title=share_shown(published) or None,
                  title_fontsize=6.5, alignment="left")
    return figure


def _columns(names: list[str]) -> int:
    """How many columns of a legend of these names fit the figure's width: four at most."""
    for n in (4, 3, 2):
        rows, more = divmod(len(names), n)  # the first columns hold one more
        ends = [i * rows + min(i, more) for i in range(n + 1)]
        if sum(max(map(len, names[a:b]), default=0) + 7 for a, b in pairwise(ends)) <= 110:
            return n
    return 1


def _panel(axes: Axes, published: Published, one: Map, row: int, found: list[dict[str, Any]]) -> dict[str, Any]:
    cells = [record["cell"] for record in one.cells[row] if record is not None]
    order = {cell: place for place, cell in enumerate(cells)}
    handles: dict[str, Any] = {}
    x_of = dict(zip(one.column_values, positions(one.columns, one.column_values)[0], strict=True))
    for arm, (colour, dash, mark) in zip(arms(published), LINES, strict=False):
        mine = sorted((r for r in found if r["method"] == arm and r["cell"] in order), key=lambda r: order[r["cell"]])
        mine = [r for r in mine if r["mean"] is not None]
        at = [x_of.get(r[one.columns.name], r[one.columns.name]) for r in mine]
        line = "none" if one.scattered else dash
        mean = [r["mean"] for r in mine]
        handles[arm], = axes.plot(at, mean, color=colour, linestyle=line, marker=mark, markersize=2.4, zorder=4)
        if not one.scattered:
            axes.fill_between(at, [r["low"] for r in mine], [r["high"] for r in mine], color=colour, alpha=0.18,
                              linewidth=0)
    ceiling = {x_of.get(r[one.columns.name], r[one.columns.name]): r["ceiling"] for r in found
               if r["cell"] in order and r["ceiling"] is not None}
    if ceiling:
        at = sorted(ceiling)
        style = {**CEILING, **({"linestyle": "none", "marker": "_", "markersize": 5} if one.scattered else {})}
        handles["best possible"], = axes.plot(at, [ceiling[x] for x in at], zorder=3, **style)
    if one.columns.log:
        axes.set_xscale("log")
    if not one.scattered:
        axes.set_xticks([x_of[v] for v in one.column_values], [show(v) for v in one.column_values])
        axes.set_xticks([], minor=True)
    return handles
