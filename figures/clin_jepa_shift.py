"""A trajectory backbone in another hospital: tasks and roll-outs, hospital B minus A, gap by gap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures.style import LINES, WIDE
from figures.trajectory_rows import paired, record, values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "clin-jepa-shift"
INPUTS = ("results/clin-jepa-shift",)
METRICS = {"auc-mean": "AUROC, mean of 15 tasks", "mase-hour-24": "error at 24 h over A's mean at the hour",
           "drift-fixed-48": "drift at 48 h, fixed cohort"}
GAPS = {"gap_m": "measurement", "gap_p": "policy", "gap_s": "severity"}


def numbers(published: Published) -> list[dict[str, Any]]:
    """One record an arm, cell and metric: B minus A, paired by seed."""
    points = {r["cell"]: r for r in published.verdicts}
    found = []
    for metric in METRICS:
        inside, outside = (values(published, metric, cohort) for cohort in ("test", "external"))
        for (arm, cell), by_seed in outside.items():
            moved = [words for gap, words in GAPS.items() if points[cell][f"p_{gap}"]]
            if moved and (arm, cell) in inside:
                gap = paired(by_seed, inside[arm, cell])
                found.append(record(arm, " + ".join(moved), gap, metric=metric, cell=cell))
    return found


def draw(data: Data) -> Figure:
    """A panel a metric; a row each way in which the hospitals differ."""
    from matplotlib.figure import Figure

    cells = sorted({(len(r["place"].split(" + ")), r["cell"], r["place"]) for r in data.numbers})
    rows = [place for _, _, place in cells]
    arms = list(dict.fromkeys(r["series"] for r in data.numbers))
    figure = Figure(figsize=(WIDE, 2.6), layout="constrained")
    panels = figure.subplots(1, len(METRICS), sharey=True)
    handles: dict[str, Any] = {}
    for panel, (metric, words) in zip(panels, METRICS.items(), strict=True):
        for r in (r for r in data.numbers if r["metric"] == metric):
            place = arms.index(r["series"])
            colour, _, mark = LINES[place]
            y = rows.index(r["place"]) + (place - 0.5) * 0.28
            if r["low"] is not None:
                panel.plot([r["low"], r["high"]], [y, y], color=colour, linewidth=0.9)
            handles[r["series"]], = panel.plot([r["mean"]], [y], mark, color=colour, markersize=3, linestyle="none")
        panel.axvline(0, color="#888888", linewidth=0.6, zorder=1)
        panel.set_title(words, loc="left")
        panel.set_xlabel("hospital B minus A")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(rows)), rows)
    panels[0].invert_yaxis()
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, frameon=False)
    return figure
