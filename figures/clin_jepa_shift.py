"""A trajectory backbone in another hospital: tasks and roll-outs, B with a gap minus B without one, gap by gap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from figures.style import LINES
from figures.trajectory_panels import panels
from figures.trajectory_rows import limits, paired, record, values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "clin-jepa-shift"
INPUTS = ("results/clin-jepa-shift",)
METRICS = {"auc-early": "AUROC,\n7 early\nevents", "auc-stay": "AUROC,\n8 outcomes\nof the stay",
           "mase-hour-24": "error at 24 h\nover A's mean\nat the hour",
           "drift-fixed-48": "drift at 48 h,\nfixed\ncohort",
           "displacement-regime-latent": "displacement,\nworse over\nstable",
           "displacement-throughout-latent": "the same,\nover always\nstable"}
HALF = "½"  # of the gap
GAPS = {"gap_m": "measurement", "gap_p": "policy", "gap_s": "severity"}
BEST = "best possible (simulated: ± .02)"


def numbers(published: Published) -> list[dict[str, Any]]:
    """One record an arm, cell and metric: B minus B of the cell without gaps (a second draw of A), paired by seed:
    both are drawn from the same random numbers. Of AUROCs, how the best possible one changes too."""
    points = {r["cell"]: r for r in published.verdicts}
    none = next(cell for cell, r in points.items() if not any(r[f"p_{gap}"] for gap in GAPS))
    found = []
    for metric in METRICS:
        outside, best = values(published, metric, "external"), limits(published, metric, "external")
        for (arm, cell), by_seed in outside.items():
            if cell != none:
                gap = paired(by_seed, outside[arm, none])
                found.append(record(arm, gaps(points[cell]), gap, metric=metric, cell=cell))
        found += [record(BEST, gaps(points[cell]), {"mean": value - best[none], "low": None, "high": None, "seeds": 0},
                         metric=metric, cell=cell) for cell, value in best.items() if cell != none and none in best]
    return found


def gaps(point: Any) -> str:
    """Which gaps a cell has: whole ones and halves."""
    return " + ".join(words if point[f"p_{gap}"] == 1 else f"{HALF} {words}"
                      for gap, words in GAPS.items() if point[f"p_{gap}"])


def draw(data: Data) -> Figure:
    """A panel a metric; a row each way in which the hospitals differ."""
    cells = sorted({(r["place"].count("+"), r["cell"], r["place"]) for r in data.numbers})
    arms = list(dict.fromkeys(r["series"] for r in data.numbers))

    def look(r: Mapping[str, Any]) -> tuple[str, str, float, float]:
        if r["series"] == BEST:
            return "#888888", "|", 7, 0
        place = arms.index(r["series"])
        return *LINES[place][::2], 3, (place - 0.5) * 0.28

    figure = panels(data.numbers, METRICS, [place for _, _, place in cells], look,
                    "hospital B with the gap minus without it, and 95 % interval over seeds", 2)
    for panel in figure.axes:
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
    return figure
