"""The figure of a design whose cells lie at points of their own: one panel a contrast, a mark a cell.

One axis: the paired difference with its interval against it. Two or more: the plane of two of them (any further ones
vary from point to point), the mean difference as colour on the map's diverging scale; the mark's shape is the verdict.
A search for the boundary also shows the surface that it fitted.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from simlab.sweep import plan, style, theory
from simlab.sweep.atlas import Atlas, Panel
from simlab.sweep.layout import directions
from simlab.sweep.schema import Axis, Study
from simlab.sweep.surface import Surface, location, predicted

MEASURED, PREDICTED = "#111111", "#0072B2"  # as `figure`
FINE = (161, 81)  # points along columns and rows at which a fitted surface is drawn
MARKS = {"helps": "^", "hurts": "v", "equivalent": "s", "undecided": "o"}


def draw(atlas: Atlas) -> Figure:
    """The figure: panels in rows of up to three, one colour scale, one legend."""
    across = min(3, len(atlas.panels)) if len(atlas.panels) != 4 else 2
    down = math.ceil(len(atlas.panels) / across)
    figure = Figure(figsize=(style.WIDTH, 1.2 + 2.3 * down), layout="constrained")
    figure.suptitle(style.headline(atlas.study, atlas.standing), fontsize=9.5, fontweight="bold", x=0.01, ha="left")
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    means = [abs(v.mean) for p in atlas.panels for v in p.rows[0].verdicts if math.isfinite(v.mean)]
    bound = max([*means, atlas.study.compare.rope, 1e-6])
    norm = Normalize(-bound, bound)
    x, others = directions(atlas.study)
    others = [axis for axis in others if len(axis.values) > 1]
    for i, axes in enumerate(grid.flat):
        if i >= len(atlas.panels):
            axes.set_visible(False)
            continue
        panel, (first, second) = atlas.panels[i], atlas.panels[i].contrast
        axes.set_title(f"{first}\nminus {second}", loc="left", linespacing=1.25)
        _panel(axes, atlas, panel, x, others[0] if others else None, norm)
        if atlas.study.design.kind == "boundary" and i < len(atlas.surfaces) and atlas.surfaces[i] is not None:
            _boundary(axes, atlas.study, panel, atlas.surfaces[i])
        if i + across >= len(atlas.panels):
            axes.set_xlabel(style.label(x))
        if i % across == 0:
            axes.set_ylabel(style.label(others[0]) if others else f"difference in {style.metric(atlas.study)}")
    if others:
        bar = figure.colorbar(ScalarMappable(norm, style.COLOURS), ax=grid, location="right", shrink=0.9, aspect=25,
                              pad=0.015)
        bar.set_label(f"difference in {style.metric(atlas.study)}, mean of {atlas.study.n_seeds} seeds")
        bar.outline.set_linewidth(0.5)
    figure.legend(handles=_legend(atlas), loc="outside lower center", ncols=4, frameon=False, columnspacing=1.6)
    return figure


def _panel(axes: Axes, atlas: Atlas, panel: Panel, x: Axis, y: Axis | None, norm: Normalize) -> None:
    at = _places(atlas, panel, x)
    verdicts = panel.rows[0].verdicts
    means = np.array([v.mean for v in verdicts])
    if y is None:
        axes.axhspan(-atlas.study.compare.rope, atlas.study.compare.rope, color="#eeeeee", zorder=0)
        axes.axhline(0, color="#888888", linewidth=0.6)
        ends = np.array([[v.low, v.high] for v in verdicts])
        known = np.isfinite(ends).all(axis=1)
        axes.vlines(at[known], ends[known, 0], ends[known, 1], color="#444444", linewidth=0.8)
    else:
        _scale(axes, y, "y")
    height = means if y is None else _places(atlas, panel, y)
    _scale(axes, x, "x")
    for word, mark in MARKS.items():
        mine = np.array([v.verdict == word for v in verdicts]) & np.isfinite(means)
        axes.scatter(at[mine], height[mine], c=means[mine], marker=mark, s=30, cmap=style.COLOURS, norm=norm,
                     edgecolors="#333333", linewidths=0.6, zorder=3)
    failed = ~np.isfinite(means)
    if failed.any():
        bottom = np.full(failed.sum(), 0.0) if y is None else height[failed]
        axes.scatter(at[failed], bottom, marker="x", s=22, color="#333333", linewidths=0.8, zorder=3)


def _boundary(axes: Axes, study: Study, panel: Panel, surface: Surface) -> None:
    """A search's fitted boundary: its band grey, its line solid; dashed: theory. On one axis, the curve."""
    steps = [np.linspace(0, 1, n) for n in FINE[: len(surface.axes)]]
    at = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, len(steps))
    mean, half = surface.band(at)
    axes.use_sticky_edges = False  # marks at the map's edges stay whole
    x = [location(surface.axes[0], u) for u in steps[0]]
    if len(steps) == 1:
        axes.fill_between(x, mean - half, mean + half, color="#cccccc", linewidth=0, zorder=1)
        axes.plot(x, mean, color=MEASURED, linewidth=1.0, zorder=2)
        return
    y = [location(surface.axes[1], v) for v in steps[1]]
    mean, half = (v.reshape(len(x), len(y)).T for v in (mean, half))
    if np.isfinite(half).all():
        axes.contourf(x, y, half - np.abs(mean), levels=[0, np.inf], colors=["#d9d9d9"], zorder=0)
    if mean.min() < 0 < mean.max():
        axes.contour(x, y, mean, levels=[0], colors=[MEASURED], linewidths=1.1, zorder=2)
    lines = [(line.at, row) for row, line in predicted(study, panel.contrast) if line and line.at]
    if lines:
        axes.plot(*zip(*lines, strict=True), color=PREDICTED, linewidth=1.3, linestyle=(0, (4, 2)), zorder=2)


def _places(atlas: Atlas, panel: Panel, axis: Axis) -> Float[np.ndarray, " cells"]:
    """Where each cell lies along an axis: at its value, or evenly spaced for words."""
    values = [plan.cell(atlas.study, cell)[axis.name] for cell in panel.slice.cells[0]]
    words = isinstance(axis.values[0], str)
    return np.array([axis.values.index(v) if words else v for v in values], dtype=float)


def _scale(axes: Axes, axis: Axis, which: str) -> None:
    if isinstance(axis.values[0], str):
        getattr(axes, f"set_{which}ticks")(range(len(axis.values)), axis.values)
        getattr(axes, f"set_{which}lim")(-0.5, len(axis.values) - 0.5)
        return
    if axis.scale == "log":
        getattr(axes, f"set_{which}scale")("log")
        ticks = getattr(axes, f"{which}axis")
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ticks.set_major_formatter("{x:g}")
        ticks.set_minor_formatter(NullFormatter())


def _legend(atlas: Atlas) -> list[Line2D | Patch]:
    """The verdicts' marks; of a search also what its lines mean."""
    lines: list[Line2D | Patch] = []
    if atlas.study.design.kind == "boundary":
        what = "change of sign" if len(atlas.study.axes) > 1 else "difference"
        lines = [Line2D([], [], color=MEASURED, linewidth=1.1, label=f"{what}, fitted"),
                 Patch(facecolor="#d9d9d9", label="its 95 % band")]
        if any(theory.keys(atlas.study, pair) for pair in atlas.study.contrasts) and len(atlas.study.axes) > 1:
            lines.append(Line2D([], [], color=PREDICTED, linewidth=1.3, linestyle=(0, (4, 2)),
                                label="change of sign, theory"))
    rope = f" at a margin of {atlas.study.compare.rope:g}"
    return [*lines, *(Line2D([], [], linestyle="none", marker=mark, markersize=5, markerfacecolor="#bbbbbb",
                   markeredgecolor="#333333", label=word + (rope if word == "undecided" else ""))
            for word, mark in MARKS.items())]
