"""The map as a figure: one panel a contrast, PNG and PDF, the same bytes for the same atlas.

Colour is the mean paired difference on a light-centred diverging map that is symmetric about zero; words carry the
verdict, so that the figure reads in grey. Solid with a band: the measured boundary; dashed: the one theory predicts.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from simlab.files import write_aside
from simlab.sweep import scatter
from simlab.sweep.atlas import Atlas, Panel
from simlab.sweep.layout import show
from simlab.sweep.schema import Axis, Value
from simlab.sweep.style import COLOURS, STYLE, WIDTH, headline, label, metric

MEASURED, PREDICTED = "#111111", "#0072B2"
MOST_WORDS = 400  # cells of a panel above which they are too small for words: colour and boundaries alone
MOST_PANELS = 12  # more slices than this stay in the tables
WORDS = {"helps": "helps", "hurts": "hurts", "equivalent": "equiv.", "undecided": "?"}


def save(atlas: Atlas, png: Path, pdf: Path) -> None:
    """Draw the atlas and write both files, each aside and moved into place."""
    with mpl.rc_context(STYLE):
        figure = scatter.draw(atlas) if atlas.scattered else draw(atlas)
        for path, canvas, options in (
            (png, FigureCanvasAgg(figure), {"dpi": 200, "metadata": {"Software": None}}),
            (pdf, FigureCanvasPdf(figure), {"metadata": {"CreationDate": None, "Producer": None, "Creator": "simlab"}}),
        ):
            write_aside(path, partial(canvas.print_figure, format=path.suffix[1:], **options))


def draw(atlas: Atlas) -> Figure:
    """The figure: panels in a grid of up to three columns, one colour scale, one legend."""
    panels = atlas.panels[:MOST_PANELS]
    across = min(3, len(panels)) if len(panels) != 4 else 2
    down = math.ceil(len(panels) / across)
    height = 1.15 + down * (0.75 + max(1.1, 0.36 * min(len(atlas.layout.row_values), 14)))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(headline(atlas.study, atlas.standing), fontsize=9.5, fontweight="bold", x=0.01, ha="left")
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    means = [abs(v.mean) for p in panels for row in p.rows for v in row.verdicts if math.isfinite(v.mean)]
    bound = max([*means, atlas.study.compare.rope, 1e-6])
    norm = Normalize(-bound, bound)
    for i, axes in enumerate(grid.flat):
        if i < len(panels):
            _panel(axes, atlas, panels[i], norm, left=i % across == 0, bottom=i + across >= len(panels))
        else:
            axes.set_visible(False)
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=grid, location="right", shrink=0.9, aspect=25, pad=0.015)
    bar.set_label(f"difference in {metric(atlas.study)}, mean of {atlas.study.n_seeds} seeds")
    bar.outline.set_linewidth(0.5)
    figure.legend(handles=_legend(atlas), loc="outside lower center", ncols=3, frameon=False, handlelength=2.2,
                  columnspacing=1.6)
    return figure


def _panel(axes: Axes, atlas: Atlas, panel: Panel, norm: Normalize, left: bool, bottom: bool) -> None:
    place = atlas.layout
    first, second = panel.contrast
    at = "".join(f", {name} = {show(value)}" for name, value in panel.slice.at.items())
    axes.set_title(f"{first}\nminus {second}{at}", loc="left", linespacing=1.25, pad=13)
    axes.text(0, 1.025, _theory_note(panel), transform=axes.transAxes, fontsize=6.8, color=PREDICTED)
    x, x_edges = _positions(place.columns, place.column_values)
    y, y_edges = _positions(place.rows, place.row_values)
    log = place.columns.scale == "log"
    axes.set_xscale("log" if log else "linear")
    means = np.array([[v.mean for v in row.verdicts] for row in panel.rows])
    small = means.size <= MOST_WORDS
    edges = {"edgecolors": "white", "linewidth": 0.8} if small else {"rasterized": True}
    axes.pcolormesh(x_edges, y_edges, np.ma.masked_invalid(means), cmap=COLOURS, norm=norm, **edges)
    for r, row in enumerate(panel.rows if small else ()):
        for c, found in enumerate(row.verdicts):
            _cell(axes, x[c], y[r], (x_edges[c], x_edges[c + 1], y_edges[r], y_edges[r + 1]), found.verdict, found.mean,
                  norm)
    _boundaries(axes, panel, y, y_edges, x_edges)
    _ticks(axes, x, [show(v) for v in place.column_values], y, [show(v) for v in place.row_values])
    axes.set_xlim(x_edges[0], x_edges[-1])
    axes.set_ylim(y_edges[0], y_edges[-1])
    if bottom:
        axes.set_xlabel(label(place.columns))
    if left and place.rows is not None:
        axes.set_ylabel(label(place.rows))


def _theory_note(panel: Panel) -> str:
    """What the panel shows of theory, in words."""
    lines = [row.predicted for row in panel.rows if row.predicted and row.predicted.side]
    if not lines:
        return "theory: no closed form"
    return "theory: dashed" if any(line.at for line in lines) else "theory: no change of sign"


def _cell(axes: Axes, x: float, y: float, box: tuple[float, float, float, float], verdict: str, mean: float,
          norm: Normalize) -> None:
    """The verdict's word and the difference; hatching where undecided."""
    if verdict == "undecided":
        axes.fill_between(box[:2], box[2], box[3], facecolor="none", hatch="////", edgecolor="#888888", linewidth=0)
    number = f"{mean:+.3f}".replace("0.", ".").replace("-", "−") if math.isfinite(mean) else "failed"
    dark = math.isfinite(mean) and abs(mean) > 0.6 * float(norm.vmax)
    up = 0.26 * (box[3] - box[2])  # the word above, the number below: boundaries pass between
    ground = mpl.colormaps[COLOURS](norm(mean)) if math.isfinite(mean) else "white"
    style = {"ha": "center", "va": "center", "fontsize": 6.2, "color": "white" if dark else "#222222", "zorder": 6,
             "bbox": {"facecolor": ground, "edgecolor": "none", "pad": 0.7}}
    axes.text(x, y + up, WORDS[verdict], fontweight="bold" if verdict in ("helps", "hurts") else "normal", **style)
    axes.text(x, y - up, number, **style)


def _boundaries(axes: Axes, panel: Panel, y: Float[np.ndarray, " rows"], y_edges: Float[np.ndarray, " y_edges"],
                x_edges: Float[np.ndarray, " x_edges"]) -> None:
    """Measured: a stroke through each row with its interval as a bar. Predicted: a dashed stroke; both joined up."""
    crossings = [(r, row.measured) for r, row in enumerate(panel.rows) if row.decided and row.measured]
    measured = [(found.at, y[r]) for r, found in crossings if found.at]
    predicted = [(row.predicted.at, y[r]) for r, row in enumerate(panel.rows) if row.predicted and row.predicted.at]
    if measured:
        axes.plot(*zip(*measured, strict=True), color=MEASURED, linewidth=0.9, marker="o", markersize=3.2, zorder=4)
    for r, found in crossings:
        if found.at and not (math.isinf(found.low) and math.isinf(found.high)):
            ends = np.clip([found.low, found.high], x_edges[0], x_edges[-1])
            axes.plot(ends, [y[r], y[r]], color=MEASURED, linewidth=1.0, marker="|", markersize=5, zorder=4)
    if predicted:
        axes.plot(*zip(*predicted, strict=True), color=PREDICTED, linewidth=1.3, linestyle=(0, (4, 2)), marker="D",
                  markersize=3, zorder=5)


def _positions(axis: Axis | None, values: tuple[Value | None, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Centres and edges of the cells of an axis: at the values (midpoints between), or evenly spaced for words."""
    if axis is None or isinstance(values[0], str):
        return np.arange(len(values), dtype=float), np.arange(len(values) + 1) - 0.5
    at = np.array(values, dtype=float)
    log = axis.scale == "log"
    at = np.log(at) if log else at
    step = np.diff(at) if len(at) > 1 else np.array([1.0])
    edges = np.concatenate([[at[0] - step[0] / 2], (at[:-1] + at[1:]) / 2, [at[-1] + step[-1] / 2]])
    return (np.exp(at), np.exp(edges)) if log else (at, edges)


def _ticks(axes: Axes, x: np.ndarray, x_names: list[str], y: np.ndarray, y_names: list[str]) -> None:
    across, down = (max(1, math.ceil(len(at) / 14)) for at in (x, y))  # names that do not run into each other
    axes.set_xticks(x[::across], x_names[::across])
    axes.set_xticks([], minor=True)
    axes.set_yticks(y[::down], y_names[::down])
    axes.tick_params(length=2, width=0.5)


def _legend(atlas: Atlas) -> list[Line2D | Patch]:
    rope = atlas.study.compare.rope
    return [
        Line2D([], [], color=MEASURED, linewidth=1.3, marker="o", markersize=3.2,
               label="change of sign, measured (95 %)"),
        Line2D([], [], color=PREDICTED, linewidth=1.5, linestyle=(0, (4, 2)), marker="D", markersize=3,
               label="change of sign, theory"),
        Patch(facecolor="white", hatch="////", edgecolor="#888888", linewidth=0,
              label=f"undecided at a margin of {rope:g}"),
    ]
