"""Align the views or predict one from the other? Four regimes of correlated nuisance, with 150 labels."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from figures.style import CEILING, LINES, WIDE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "align-or-predict"
INPUTS = ("results/align-or-predict",)
ARMS = {"vicreg-frozen": "align (VICReg), frozen", "mae-frozen": "predict (MAE), frozen",
        "jepa-frozen": "predict an EMA target (JEPA), frozen", "vicreg-finetuned": "align, fine-tuned",
        "supervised": "labels alone, tuned", "lda": "labels alone, least squares"}
NAMES = {(True, True): "both", (True, False): "align", (False, True): "predict", (False, False): "neither"}

MARKS = ({"color": LINES[0][0], "linewidth": 0.9, "linestyle": (0, (4, 1.5))},
         {"color": LINES[1][0], "linewidth": 1.1, "linestyle": (0, (1, 1))})


def numbers(published: Published) -> list[dict[str, Any]]:
    """One record an arm and cell (mean, interval), and one a threshold and amplitude."""
    from simlab.report.scores import scores

    points = {r["cell"]: {"alpha_g": r["p_alpha_g"], "nu": r["p_nu"]} for r in published.verdicts}
    found = [{"series": ARMS[r["method"]], **points[r["cell"]],
              **{key: r[key] for key in ("mean", "low", "high", "limit")}}
             for r in scores(published) if r["method"] in ARMS]
    knobs = dict(published.study.knobs)
    for amplitude in sorted({r["alpha_g"] for r in found}):
        align = math.sqrt(knobs["rel_ci"] * knobs["rel_cc"])
        for series, at in (("threshold of aligning", align),
                           ("threshold of predicting", math.sqrt(knobs["rel_ci"]) / amplitude)):
            found.append({"series": series, "alpha_g": amplitude, "nu": at})
    return found


def draw(data: Data) -> Figure:
    """One panel an amplitude: AUC along the nuisance's correlation, between the two predicted thresholds."""
    from matplotlib.figure import Figure

    amplitudes = sorted({r["alpha_g"] for r in data.numbers})
    figure = Figure(figsize=(WIDE, 4.4), layout="constrained")
    grid = figure.subplots(2, math.ceil(len(amplitudes) / 2), sharex=True, sharey=True)
    handles: dict[str, Any] = {}
    for i, (axes, amplitude) in enumerate(zip(grid.flat, amplitudes, strict=True)):
        mine = [r for r in data.numbers if r["alpha_g"] == amplitude]
        handles |= _panel(axes, mine)
        axes.set_title(f"amplitude alpha_g = {amplitude:g}", loc="left", pad=11)
        axes.spines[["top", "right"]].set_visible(False)
        if i % 2 == 0:
            axes.set_ylabel("AUC, 150 labels")
        if i >= 2:
            axes.set_xlabel("nu: correlation of the nuisance between the views")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False,
                  handlelength=2.6, columnspacing=1.2)
    return figure


def _panel(axes: Axes, mine: list[dict[str, Any]]) -> dict[str, Any]:
    from matplotlib.lines import Line2D

    handles: dict[str, Any] = {}
    for series, (colour, dash, mark) in zip(ARMS.values(), LINES, strict=False):
        line = sorted((r for r in mine if r["series"] == series), key=lambda r: r["nu"])
        at = [r["nu"] for r in line]
        handles[series], = axes.plot(at, [r["mean"] for r in line], color=colour, linestyle=dash, marker=mark,
                                     markersize=2.6, zorder=4)
        axes.fill_between(at, [r["low"] for r in line], [r["high"] for r in line], color=colour, alpha=0.18,
                          linewidth=0)
    ceiling = sorted({(r["nu"], max(s["limit"] for s in mine if s.get("limit") and s["nu"] == r["nu"]))
                      for r in mine if r.get("limit")})
    handles["best possible"], = axes.plot(*zip(*ceiling, strict=True), **CEILING)
    first, last = ceiling[0][0], ceiling[-1][0]
    marks = {r["series"]: r["nu"] for r in mine if r["series"].startswith("threshold")}
    for (series, at), style in zip(marks.items(), MARKS, strict=True):
        if at <= last:
            axes.axvline(at, zorder=2, **style)
        handles[series] = Line2D([], [], **style)
    edges = sorted({first, last, *(at for at in marks.values() if at <= last)})
    for low, high in pairwise(edges):
        middle = (low + high) / 2
        name = NAMES[tuple(middle < at for at in marks.values())]
        axes.text(middle, 1.02, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=6.5)
    return handles

