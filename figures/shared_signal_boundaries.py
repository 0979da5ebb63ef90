"""Shared signal against labels: frozen and fine-tuned JEPA against least squares, tuned labels and self-training.

Rows are evenly spaced, unlike the study's own map: the shares .9 and .95 lie too close for words at their true places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures import mapping
from figures.style import DIVERGING, MEASURED, PREDICTED, WIDE, WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "shared-signal-boundaries"
INPUTS = ("results/shared-signal",)
CONTRASTS = {("vicreg-frozen", "lda"): "frozen JEPA − least squares",
             ("vicreg-frozen", "supervised"): "frozen JEPA − tuned labels alone",
             ("vicreg-finetuned", "supervised"): "fine-tuned JEPA − tuned labels alone",
             ("vicreg-finetuned", "self-training"): "fine-tuned JEPA − self-training"}
ROW, COLUMN = "w_c", "n_labelled"
DASHES = (0, (4, 2))


def numbers(published: Published) -> list[dict[str, Any]]:
    """Cells and boundary points of the four contrasts."""
    return [r for r in mapping.numbers(published, tuple(CONTRASTS)) if r["kind"] in ("cell", "boundary")]


def draw(data: Data) -> Figure:
    """Four maps on one colour scale, each with the boundary that theory gives it."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, 5.2), layout="constrained")
    bound = max(abs(r["difference"]) for r in data.numbers if r["kind"] == "cell")
    norm = Normalize(-bound, bound)
    grid = figure.subplots(2, 2, sharex=True, sharey=True)
    for axes, ((first, second), title) in zip(grid.flat, CONTRASTS.items(), strict=True):
        _panel(axes, [r for r in data.numbers if r["panel"] == f"{first} minus {second}"], norm)
        axes.set_title(title, loc="left")
    for axes in grid[:, 0]:
        axes.set_ylabel("share of the signal in both views, w_c")
    for axes in grid[1]:
        axes.set_xlabel("labels")
    bar = figure.colorbar(ScalarMappable(norm, DIVERGING), ax=grid, location="right", aspect=32, pad=0.02)
    bar.set_label(f"difference in AUC ({data.inputs[0].study.n_seeds} seeds)")
    bar.outline.set_linewidth(0.4)
    bar.ax.axhline(0, color="black", linewidth=0.8)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _panel(axes: Axes, mine: list[dict[str, Any]], norm: Normalize) -> None:
    import matplotlib as mpl
    import numpy as np

    cells, colours = [r for r in mine if r["kind"] == "cell"], mpl.colormaps[DIVERGING]
    columns, rows = (sorted({r[name] for r in cells}) for name in (COLUMN, ROW))
    steps = np.log(np.array(columns, dtype=float))  # labels at their places, on a logarithmic axis
    means = np.full((len(rows), len(columns)), np.nan)
    for cell in cells:
        means[rows.index(cell[ROW]), columns.index(cell[COLUMN])] = cell["difference"]
    edges = np.concatenate([[1.5 * steps[0] - 0.5 * steps[1]], (steps[1:] + steps[:-1]) / 2,
                            [1.5 * steps[-1] - 0.5 * steps[-2]]])
    axes.pcolormesh(edges, np.arange(len(rows) + 1) - 0.5, means, cmap=DIVERGING, norm=norm, edgecolors="white",
                    linewidth=0.5)
    for cell in cells:
        c, r = columns.index(cell[COLUMN]), rows.index(cell[ROW])
        if cell["verdict"] == "undecided":
            axes.fill_between(edges[c:c + 2], r - 0.5, r + 0.5, facecolor="none", hatch="/////", edgecolor="#888888",
                              linewidth=0)
        dark = abs(cell["difference"]) > 0.55 * float(norm.vmax)
        style = {"ha": "center", "va": "center", "color": "white" if dark else "#222222", "zorder": 9,
                 "bbox": {"facecolor": colours(norm(cell["difference"])), "edgecolor": "none", "pad": 0.4}}
        decided = cell["verdict"] in ("helps", "hurts")
        axes.text(steps[c], r + 0.27, WORDS[cell["verdict"]], fontsize=5.2, **style,
                  fontweight="bold" if decided else "normal")
        axes.text(steps[c], r - 0.27, mapping.signed(cell["difference"]), fontsize=5.4, **style)
    lines = [r for r in mine if r["kind"] == "boundary"]
    for key, colour, style in (("measured", MEASURED, {"marker": "o"}),
                               ("predicted", PREDICTED, {"marker": "D", "linestyle": DASHES, "mfc": "white"})):
        points = [(np.log(r[key]), rows.index(r[ROW])) for r in lines if r[key] is not None]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, markersize=2.8, zorder=8, **style)
    for line in lines:
        if line["measured"] is not None and line["low"] and line["high"]:
            axes.plot(np.log([line["low"], line["high"]]), [rows.index(line[ROW])] * 2, color=MEASURED, marker="|",
                      markersize=4, linewidth=0.9, zorder=8)
    axes.set_xticks(steps, columns)
    axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
    axes.set_xlim(edges[0], edges[-1])


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [Line2D([], [], color=MEASURED, marker="o", markersize=2.8, label="change of sign (95 %)"),
            Line2D([], [], color=PREDICTED, marker="D", markersize=2.8, linestyle=DASHES, mfc="white",
                   label="its closed form"),
            Patch(facecolor="white", hatch="/////", edgecolor="#888888", linewidth=0,
                  label="? undecided (margin .01)")]
