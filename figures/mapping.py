"""Maps at print size, for any figure that shows one: cells with verdicts, zero contour, boundaries and intervals.

`numbers(published, contrasts)` are the plotted numbers; `draw(published, numbers, ...)` draws exactly these. Colour is
the mean difference; words, signs and hatching carry the verdict, so that a map reads in grey.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from figures.style import DIVERGING, MEASURED, PREDICTED, SIGNS, TEXT, WORDS
from simlab.report.maps import Map, maps, show

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    from simlab.report import Axis, Published

Record = dict[str, Any]
MOST_PANELS = 12
WORD, SIGN = 0.34, 0.11  # inches of a cell that leave room for words, for signs
MARKS = {"helps": "^", "hurts": "v", "equivalent": "s", "undecided": "o"}


def numbers(published: Published, contrasts: Sequence[tuple[str, str]] | None = None) -> list[Record]:
    """One record a cell ("cell"), boundary point ("boundary") and point of the fitted surface ("surface")."""
    found: list[Record] = []
    for one in _shown(published, contrasts):
        head = {"panel": one.title}
        names = [one.columns.name, *([one.rows.name] if one.rows else [])]
        for record in one.records:
            found.append({**head, "kind": "cell", **{name: record[f"p_{name}"] for name in names},
                          **{key: record[key] for key in ("verdict", "difference", "low", "high", "predicted")}})
        helped = _decided_rows(one)
        for row, line in enumerate(one.boundary):
            if line is None or not ((row in helped and line["measured"] is not None) or line["predicted"] is not None):
                continue
            measured = line if row in helped else {"measured": None, "low": None, "high": None}
            at = {one.rows.name: one.row_values[row]} if one.rows else {}
            found.append({**head, "kind": "boundary", **at,
                          **{key: measured[key] for key in ("measured", "low", "high")},
                          "predicted": line["predicted"]})
        for point in one.surface:
            found.append({**head, "kind": "surface", **{name: point[f"p_{name}"] for name in names},
                          "difference": point["mean"], "low": point["low"], "high": point["high"]})
    return found


def _shown(published: Published, contrasts: Sequence[tuple[str, str]] | None) -> list[Map]:
    wanted = published.study.contrasts if contrasts is None else tuple(contrasts)
    return [one for one in maps(published) if one.contrast in wanted][:MOST_PANELS]


def _decided_rows(one: Map) -> set[int]:
    """Rows in which some cell helps or hurts: where none does, a change of sign is noise about zero."""
    return {r for r, row in enumerate(one.cells) if any(c and c["verdict"] in ("helps", "hurts") for c in row)}


def draw(published: Published, found: list[Record], width: float = TEXT,
         contrasts: Sequence[tuple[str, str]] | None = None, across: int | None = None) -> Figure:
    """The figure: one panel a map, at this width in inches."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    study, panels = published.study, _shown(published, contrasts)
    across = across or (2 if len(panels) in (2, 4) else min(3, len(panels)))
    down = math.ceil(len(panels) / across)
    tall = max(len(panels[0].row_values), 4 if panels[0].scattered else 1)
    figure = Figure(figsize=(width, 0.75 + down * (0.55 + max(1.0, 0.3 * min(tall, 12)))), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    room = (width * 0.86 - 0.35) / across  # of a panel, in inches
    bound = max([abs(r["difference"]) for r in found if r["kind"] == "cell" and r["difference"] is not None]
                + [study.rope, 1e-6])
    norm = Normalize(-bound, bound)
    for i, axes in enumerate(grid.flat):
        if i >= len(panels):
            axes.set_visible(False)
            continue
        mine = [r for r in found if r["panel"] == panels[i].title]
        if panels[i].scattered:
            _points(axes, panels[i], mine, norm)
        else:
            _cells(axes, panels[i], mine, norm, room / len(panels[i].column_values))
        _surface(axes, panels[i], [r for r in mine if r["kind"] == "surface"])
        _boundary(axes, panels[i], [r for r in mine if r["kind"] == "boundary"])
        title = _title(panels[i])
        size = min(7.5, 7.5 * room / (0.062 * max(map(len, title.splitlines()))))
        axes.set_title(title, loc="left", linespacing=1.2, fontsize=size)
        if i + across >= len(panels):
            label = panels[i].columns.label  # beside those of the panels next to it
            axes.set_xlabel(label, fontsize=min(7, 7.5 * room / (0.066 * len(label))))
        if i % across == 0 and panels[i].rows is not None:
            axes.set_ylabel(panels[i].rows.label)
    bar = figure.colorbar(ScalarMappable(norm, DIVERGING), ax=grid, location="right", aspect=28, pad=0.02)
    bar.set_label(f"difference in {study.measure} ({study.n_seeds} seeds)")
    bar.outline.set_linewidth(0.4)
    bar.ax.axhline(0, color="black", linewidth=0.8)
    signs = not panels[0].scattered and SIGN <= room / len(panels[0].column_values) < WORD
    figure.legend(handles=_legend(published, found, panels[0].scattered, signs), loc="outside lower center", ncols=3,
                  frameon=False, handlelength=2.0, columnspacing=1.4)
    return figure


def _title(one: Map) -> str:
    first, second = one.contrast
    at = "".join(f", {name} = {show(value)}" for name, value in one.at.items())
    return f"{first}\nminus {second}{at}"


def _cells(axes: Axes, one: Map, mine: list[Record], norm: Normalize, wide: float) -> None:
    """The cells, `wide` inches each."""
    import numpy as np

    x, x_edges = positions(one.columns, one.column_values)
    y, y_edges = _down(one)
    if one.columns.log:
        axes.set_xscale("log")
    here = {(r.get(one.rows.name) if one.rows else None, r[one.columns.name]): r for r in mine if r["kind"] == "cell"}
    laid = [[here.get((row, column)) for column in one.column_values] for row in one.row_values]
    means = np.array([[math.nan if r is None or r["difference"] is None else r["difference"] for r in row]
                      for row in laid])
    axes.pcolormesh(x_edges, y_edges, np.ma.masked_invalid(means), cmap=DIVERGING, norm=norm, edgecolors="white",
                    linewidth=0.5, rasterized=means.size > 400)
    words = wide >= WORD
    for r, row in enumerate(laid):
        for c, cell in enumerate(row):
            if cell is None or wide < SIGN:
                continue
            box = (x_edges[c], x_edges[c + 1], y_edges[r], y_edges[r + 1])
            _word(axes, (x[c], y[r]), box, cell, norm, words)
    longest = max(len(show(v)) for v in one.column_values)
    across, down = max(1, math.ceil((0.055 * longest + 0.06) / wide)), max(1, math.ceil(len(y) / 10))
    axes.set_xticks(x[::across], [show(v) for v in one.column_values][::across])
    axes.set_xticks([], minor=True)
    axes.set_yticks(y[::down], [show(v) for v in one.row_values][::down])
    axes.set_xlim(x_edges[0], x_edges[-1])
    axes.set_ylim(y_edges[0], y_edges[-1])


def _word(axes: Axes, at: tuple[float, float], box: tuple[float, ...], cell: Record, norm: Normalize,
          words: bool) -> None:
    """A verdict in its cell, hatched where undecided."""
    import matplotlib as mpl

    if cell["verdict"] == "undecided":
        axes.fill_between(box[:2], box[2], box[3], facecolor="none", hatch="/////", edgecolor="#777777", linewidth=0)
    mean = cell["difference"]
    ground = "white" if mean is None else mpl.colormaps[DIVERGING](norm(mean))
    dark = mean is not None and abs(mean) > 0.6 * float(norm.vmax)
    style = {"ha": "center", "va": "center", "color": "white" if dark else "#222222", "zorder": 6,
             "fontweight": "bold" if cell["verdict"] in ("helps", "hurts") else "normal",
             "bbox": {"facecolor": ground, "edgecolor": "none", "pad": 0.5}}
    up = 0.25 * (box[3] - box[2]) if words else 0.0
    axes.text(at[0], at[1] + up, (WORDS if words else SIGNS)[cell["verdict"]], fontsize=5.4 if words else 6.5, **style)
    if words:
        number = "failed" if mean is None else signed(mean)
        axes.text(at[0], at[1] - up, number, fontsize=5.2, **{**style, "fontweight": "normal"})


def signed(mean: float) -> str:
    """A difference as a map shows it: +.057, −.008, .000."""
    text = f"{mean:+.3f}".replace("0.", ".", 1).replace("-", "−")
    return text if text.strip("+−.0") else ".000"


def _points(axes: Axes, one: Map, mine: list[Record], norm: Normalize) -> None:
    """Cells at points of their own: the mark's shape is the verdict; one axis: the difference with its interval."""
    import numpy as np

    cells = [r for r in mine if r["kind"] == "cell" and r["difference"] is not None]
    x = np.array([_place(one.columns, r[one.columns.name]) for r in cells])
    mean = np.array([r["difference"] for r in cells])
    if one.rows is None:
        ends = np.array([[r["low"] if r["low"] is not None else math.nan for r in cells],
                         [r["high"] if r["high"] is not None else math.nan for r in cells]])
        axes.vlines(x, ends[0], ends[1], color="#444444", linewidth=0.7)
        axes.axhline(0, color="black", linewidth=0.6)
    y = mean if one.rows is None else np.array([_place(one.rows, r[one.rows.name]) for r in cells])
    for word, mark in MARKS.items():
        which = np.array([r["verdict"] == word for r in cells], dtype=bool)
        axes.scatter(x[which], y[which], c=mean[which], marker=mark, s=16, cmap=DIVERGING, norm=norm,
                     edgecolors="#222222", linewidths=0.5, zorder=5)
    for axis, which in ((one.columns, "x"), (one.rows, "y")):
        if axis is not None:
            _scale(axes, axis, which)


def _place(axis: Axis, value: Any) -> float:
    return float(axis.values.index(value)) if axis.words else float(value)


def _scale(axes: Axes, axis: Axis, which: str) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    if axis.words:
        getattr(axes, f"set_{which}ticks")(range(len(axis.values)), axis.values)
    elif axis.log:
        getattr(axes, f"set_{which}scale")("log")
        ticks = getattr(axes, f"{which}axis")
        ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ticks.set_major_formatter("{x:g}")
        ticks.set_minor_formatter(NullFormatter())


def _surface(axes: Axes, one: Map, points: list[Record]) -> None:
    """The fitted surface's zero contour, and the band in which its interval holds zero (dots).

    The contour stands where some cell helps and some hurts; the band stands in any case.
    """
    import numpy as np

    if not points or one.rows is None:
        return
    x, y = (sorted({p[axis.name] for p in points}) for axis in (one.columns, one.rows))
    if len(x) * len(y) != len(points) or min(len(x), len(y)) < 2:
        return
    by = {(p[one.columns.name], p[one.rows.name]): p for p in points}
    mean, low, high = (np.array([[by[a, b][key] for a in x] for b in y], dtype=float)
                       for key in ("difference", "low", "high"))
    if one.row_values != (None,):  # on the evenly spaced rows of a grid
        values = np.array(one.row_values, dtype=float)
        scale = np.log if one.rows.log else np.asarray
        y = np.interp(scale(np.array(y)), scale(values), np.arange(len(values)))
    inside = np.minimum(high, -low)  # above zero where the interval holds zero
    if (inside > 0).any():
        axes.contourf(x, y, inside, levels=[0, math.inf], colors="none", hatches=["......"], zorder=3)
    words = {cell["verdict"] for cell in one.records}
    if mean.min() < 0 < mean.max() and words >= {"helps", "hurts"}:  # else its change of sign is noise about zero
        axes.contour(x, y, mean, levels=[0], colors=MEASURED, linewidths=1.1, zorder=4)


def _boundary(axes: Axes, one: Map, lines: list[Record]) -> None:
    """Measured: a point a row with its interval, joined up. Predicted: diamonds on a dashed line."""
    import numpy as np

    if not lines:
        return
    y, _ = _down(one)
    place = dict(zip(one.row_values, y, strict=True))
    _, edges = positions(one.columns, one.column_values)
    ends = (edges[0], edges[-1])
    at = [(line, place[line.get(one.rows.name) if one.rows else None]) for line in lines]
    measured = [(line, height) for line, height in at if line["measured"] is not None]
    if measured:
        joined = "none" if one.surface else "-"  # the surface's contour joins them
        axes.plot([line["measured"] for line, _ in measured], [height for _, height in measured], color=MEASURED,
                  linewidth=0.9, linestyle=joined, marker="o", markersize=2.6, zorder=8)
    for line, height in measured:
        if line["low"] is None and line["high"] is None:
            continue
        reach = np.clip([ends[0] if line["low"] is None else line["low"],
                         ends[1] if line["high"] is None else line["high"]], *ends)
        axes.plot(reach, [height, height], color=MEASURED, linewidth=0.9, marker="|", markersize=4, zorder=8)
    predicted = [(line["predicted"], height) for line, height in at if line["predicted"] is not None]
    if predicted:
        axes.plot(*zip(*predicted, strict=True), color=PREDICTED, linewidth=1.2, linestyle=(0, (4, 2)), marker="D",
                  markersize=2.6, markerfacecolor="white", zorder=9)


def _down(one: Map) -> tuple[np.ndarray, np.ndarray]:
    """Centres and edges of rows, evenly spaced: values that lie close together are still read."""
    import numpy as np

    return np.arange(len(one.row_values), dtype=float), np.arange(len(one.row_values) + 1) - 0.5


def positions(axis: Axis | None, values: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Centres and edges of an axis's cells: at the values (midpoints between), or evenly spaced for words."""
    import numpy as np

    if axis is None or axis.words:
        return np.arange(len(values), dtype=float), np.arange(len(values) + 1) - 0.5
    at = np.log(np.array(values, dtype=float)) if axis.log else np.array(values, dtype=float)
    step = np.diff(at) if len(at) > 1 else np.array([1.0])
    edges = np.concatenate([[at[0] - step[0] / 2], (at[:-1] + at[1:]) / 2, [at[-1] + step[-1] / 2]])
    return (np.exp(at), np.exp(edges)) if axis.log else (at, edges)


def _legend(published: Published, found: list[Record], scattered: bool, signs: bool) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    kinds = {r["kind"] for r in found}
    handles: list[Any] = []
    if any(r["kind"] == "boundary" and r["measured"] is not None for r in found):
        joined = "none" if "surface" in kinds else "-"
        handles.append(Line2D([], [], color=MEASURED, linestyle=joined, marker="o", markersize=2.6,
                              label="change of sign (bar: 95 %)"))
    if any(r["kind"] == "boundary" and r["predicted"] is not None for r in found):
        handles.append(Line2D([], [], color=PREDICTED, linestyle=(0, (4, 2)), marker="D", markersize=2.6,
                              markerfacecolor="white", label="predicted by theory"))
    if "surface" in kinds:
        handles += [Line2D([], [], color=MEASURED, label="zero of the fitted surface"),
                    Patch(facecolor="white", edgecolor="#333333", hatch="......", linewidth=0, label="its band")]
    if signs:
        handles.append(Line2D([], [], linestyle="none", label="+ helps, − hurts, = equal"))
    if scattered:
        return handles + [Line2D([], [], linestyle="none", marker=mark, markersize=4, markerfacecolor="#bbbbbb",
                                 markeredgecolor="#222222", label=word) for word, mark in MARKS.items()]
    return [*handles, Patch(facecolor="white", hatch="/////", edgecolor="#777777", linewidth=0,
                            label=f"? undecided (margin {published.study.rope:g})")]
