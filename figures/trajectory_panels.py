"""Panels of differences between arms on whole stays: a panel a metric, a row an edit or a hospital."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from figures.style import WIDE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of a record: its colour, mark, the mark's size, and by how much of a row it stands apart.
Look = Callable[[Mapping[str, Any]], tuple[str, str, float, float]]


def panels(
    numbers: Sequence[Mapping[str, Any]], metrics: Mapping[str, str], rows: Sequence[str], look: Look, words: str,
    ticks: int,
) -> Figure:
    """A panel a metric (in words), a row a place: means of differences from nought with their intervals, where they
    have one. words: of the axis below; ticks: of each panel, about."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, 1.3 + 0.17 * len(rows)), layout="constrained")
    drawn = figure.subplots(1, len(metrics), sharey=True)
    handles: dict[str, Any] = {}
    for panel, (metric, title) in zip(drawn, metrics.items(), strict=True):
        for r in (r for r in numbers if r["metric"] == metric):
            colour, mark, size, apart = look(r)
            y = rows.index(r["place"]) + apart
            if r["low"] is not None:
                panel.plot([r["low"], r["high"]], [y, y], color=colour, linewidth=0.9)
            handles[r["series"]], = panel.plot([r["mean"]], [y], mark, color=colour, markersize=size, linestyle="none")
        panel.axvline(0, color="#888888", linewidth=0.6, zorder=1)
        panel.set_title(title, loc="left")
        panel.locator_params(axis="x", nbins=ticks)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(words, fontsize=7)
    drawn[0].set_yticks(range(len(rows)), rows)
    drawn[0].invert_yaxis()
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=3, frameon=False)
    return figure
