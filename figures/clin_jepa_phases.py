"""Clin-JEPA's phases on the ICU world: drift, what it is made of, forecasts, tasks and displacement, arm by arm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures.style import LINES, WIDE
from figures.trajectory_rows import limits, record, summary, values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "clin-jepa-phases"
INPUTS = ("results/clin-jepa-phases", "results/clin-jepa-cold")  # the second for the best areas of the same law
PARTS = {"survivorship": "other patients", "nonstationarity": "patients' spread", "contraction": "latents' spread",
         "horizon-cost": "the horizon (linear)", "underfit": "first step (left: poor)",
         "remainder": "roll-out's loss"}
SERIES = (("drift-48", "published form"), ("drift-fixed-48", "fixed cohort"), ("auc-mean", "encoded"),
          ("auc-rolled-mean", "rolled out"), ("displacement-regime-latent", "latents"),
          ("displacement-regime-raw-features", "raw features"), ("mase-hour-6", "6 h ahead"),
          ("mase-hour-48", "48 h ahead"))


def numbers(published: Published, *same: Published) -> list[dict[str, Any]]:
    """One record an arm and metric: mean over seeds, interval; parts of the drift as means; the best possible mean
    area, of this study or another one whose world is the same."""
    found = []
    for metric, series in (*SERIES, *((f"part-{part}-48", part) for part in PARTS)):
        for (arm, _), by_seed in values(published, metric).items():
            found.append(record(series, arm, summary(list(by_seed.values())), metric=metric))
    known = (limits(p, "auc-mean") for p in (published, *same) if _world(p) == _world(published))
    best = next((of for of in known if of), {})
    return found + [record("best possible", "", summary([value]), metric="limit") for value in best.values()]


def _world(published: Published) -> tuple[object, ...]:
    """The law that a study's stays follow, and the labels that its probes have: all of its one cell."""
    study = published.study
    return study.world, tuple(sorted(study.knobs.items())), tuple((axis.name, axis.values) for axis in study.axes)


def draw(data: Data) -> Figure:
    """Five panels that share their rows, the arms in the study's order."""
    from matplotlib.figure import Figure

    arms = list(data.inputs[0].study.arms)
    figure = Figure(figsize=(WIDE, 0.96 + 0.22 * len(arms)), layout="constrained")
    panels = figure.subplots(1, 5, sharey=True, width_ratios=(1, 1.2, 0.9, 0.9, 0.9))
    _points(panels[0], data, arms, ("drift-48", "drift-fixed-48"), "L1 at 48 h\nover 1 h, less 1")
    _bars(panels[1], data, arms)
    _points(panels[2], data, arms, ("mase-hour-6", "mase-hour-48"), "over the mean\nat the hour")
    _points(panels[3], data, arms, ("auc-mean", "auc-rolled-mean"), "mean AUROC,\n15 tasks")
    _points(panels[4], data, arms, ("displacement-regime-latent", "displacement-regime-raw-features"),
            "deteriorating\nover stable")
    for best in (r["mean"] for r in data.numbers if r["metric"] == "limit"):
        panels[3].axvline(best, color="black", linewidth=0.8, linestyle=":", label="best possible", zorder=1)
    _legend(panels[3], 1, len(arms))
    titles = ("drift at 48 h", "what it is made of", "error ahead", "tasks", "displacement")
    for panel, title, line in zip(panels, titles, (0, 0, 1, None, 1), strict=True):
        panel.set_title(title, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
        panel.locator_params(axis="x", nbins=3)
        panel.tick_params(axis="x", labelsize=5.5)
        if line is not None:
            panel.axvline(line, color="#888888", linewidth=0.6, zorder=1)
    panels[0].set_yticks(range(len(arms)), [arm.removeprefix("clin-jepa-") for arm in arms])
    panels[0].invert_yaxis()
    return figure


def _points(panel: Axes, data: Data, arms: list[str], metrics: tuple[str, str], label: str) -> None:
    for place, metric in enumerate(metrics):
        colour, _, mark = LINES[place]
        for r in (r for r in data.numbers if r["metric"] == metric):
            y = arms.index(r["place"]) + (place - 0.5) * 0.28
            low = r["mean"] if r["low"] is None else r["low"]
            high = r["mean"] if r["high"] is None else r["high"]
            panel.plot([low, high], [y, y], color=colour, linewidth=0.9)
            panel.plot([r["mean"]], [y], mark, color=colour, markersize=3, label=r["series"])
    _legend(panel, 1, len(arms))
    panel.set_xlabel(label)


def _bars(panel: Axes, data: Data, arms: list[str]) -> None:
    ends = {arm: [0.0, 0.0] for arm in arms}  # of what is above zero, and below
    for place, (part, words) in enumerate(PARTS.items()):
        for r in (r for r in data.numbers if r["series"] == part):
            side = 0 if r["mean"] > 0 else 1
            panel.barh(arms.index(r["place"]), r["mean"], left=ends[r["place"]][side], height=0.6,
                       color=LINES[place][0], label=words, edgecolor="white", linewidth=0.3)
            ends[r["place"]][side] += r["mean"]
    _legend(panel, 2, len(arms))
    panel.set_xlabel("ln(1 + published drift)\n")


def _legend(panel: Axes, columns: int, rows: int) -> None:
    handles, words = panel.get_legend_handles_labels()
    first = dict(zip(reversed(words), reversed(handles), strict=True))
    order = list(dict.fromkeys(words))
    panel.legend([first[w] for w in order], order, loc="upper center", bbox_to_anchor=(0.5, -2.6 / rows),
                 ncols=columns, frameon=False, fontsize=5.5, handlelength=1.2, columnspacing=0.8)
