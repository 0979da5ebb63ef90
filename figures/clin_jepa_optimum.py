"""Clin-JEPA's drift, error and retrieval at 48 hours beside the best possible ones of each arm's own latents."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from figures.style import LINES, WIDE
from figures.trajectory_rows import paired, record, summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "clin-jepa-optimum"
INPUTS = ("results/clin-jepa-optimum",)
BESIDE = ("drift-same-48", "mase-hour-same-48", "own-stay-same-48")  # roll-out and optimum side by side
LN, LN_BEST = "ln(1 + drift)", "ln(1 + optimum's drift)"
LOSS = {"loss-1": "at 1 h", "loss-48": "at 48 h"}  # error over the optimum's
ROLLED, BEST, APART = "roll-out", "its optimum", "roll-out less its optimum"
BySeed = dict[int, float]


def numbers(published: Published) -> list[dict[str, Any]]:
    """One record an arm and series: mean over seeds, interval. Of logarithms and losses also the first arm's less each
    other's, paired."""
    made = [record(series, arm, summary(list(of.values())), metric=metric)
            for (metric, series), by_arm in _series(published).items() for arm, of in by_arm.items()]
    first, *others = published.study.arms
    for (metric, series), by_arm in _series(published).items():
        made += [record(f"{series}, {first} less it", arm, paired(by_arm[first], by_arm[arm]), metric=metric)
                 for arm in others]
    return made


def _series(published: Published) -> dict[tuple[str, str], dict[str, BySeed]]:
    """(metric, series) -> arm -> seed -> number."""
    both = {metric: _pairs(published, metric) for metric in (*BESIDE, "step-same", "mase-copy-same-48")}
    made: dict[tuple[str, str], dict[str, BySeed]] = {}
    for metric in BESIDE:
        made[metric, ROLLED] = _each(both[metric], lambda mine, best: mine)
        made[metric, BEST] = _each(both[metric], lambda mine, best: best)
        made[metric, APART] = _each(both[metric], lambda mine, best: mine - best)
    drift = both["drift-same-48"]
    made["drift-same-48", LN] = _each(drift, lambda mine, best: math.log1p(mine))
    made["drift-same-48", LN_BEST] = _each(drift, lambda mine, best: math.log1p(best))
    for metric, of in (("loss-1", "step-same"), ("loss-48", "mase-copy-same-48")):
        made[metric, LOSS[metric]] = _each(both[of], lambda mine, best: mine / best)
    return made


def _each(pairs: dict[str, dict[int, tuple[float, float]]], made: Any) -> dict[str, BySeed]:
    return {arm: {seed: made(*pair) for seed, pair in by_seed.items()} for arm, by_seed in pairs.items()}


def _pairs(published: Published, metric: str) -> dict[str, dict[int, tuple[float, float]]]:
    """(value, limit) by arm and seed."""
    names = ("method", "seed", "metric", "cohort", "status", "value", "limit")
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for arm, seed, name, where, status, value, limit in zip(
            *(published.table[column].to_pylist() for column in names), strict=True):
        if (name, where, status) == (metric, "test", "ok"):
            found.setdefault(arm, {})[seed] = value, limit
    return found


def draw(data: Data) -> Figure:
    """Five panels that share their rows, the arms in the study's order."""
    from matplotlib.figure import Figure

    arms = list(data.inputs[0].study.arms)
    figure = Figure(figsize=(WIDE, 2.3), layout="constrained")
    panels = figure.subplots(1, 5, sharey=True, width_ratios=(1.2, 1, 1, 1, 1))
    beside = ((ROLLED, 0), (BEST, 1))
    _points(panels[0], data, arms, [("drift-same-48", *one) for one in beside], "L1 at 48 h over 1 h, less 1", 0)
    _points(panels[1], data, arms, [("drift-same-48", APART, 2)], "paired difference", 0)
    _points(panels[2], data, arms, [("loss-1", LOSS["loss-1"], 3), ("loss-48", LOSS["loss-48"], 4)],
            "L1 over the optimum's", 1)
    _points(panels[3], data, arms, [("mase-hour-same-48", *one) for one in beside], "L1 over the mean's", 1)
    _points(panels[4], data, arms, [("own-stay-same-48", *one) for one in beside], "nearer its own stay", 0.5)
    titles = ("drift at 48 h", "less its optimum", "roll-out's loss", "MASE, hour, 48 h", "retrieval, 48 h")
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(arms)), [arm.removeprefix("clin-jepa-") for arm in arms])
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    for panel in (panels[0], panels[2]):
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=2, frameon=False, fontsize=5.5,
                     handlelength=1.2, columnspacing=0.8)
    return figure


def _points(
    panel: Axes, data: Data, arms: list[str], shown: list[tuple[str, str, int]], label: str, line: float
) -> None:
    """Means and intervals of (metric, series, look)."""
    for place, (metric, series, look) in enumerate(shown):
        colour, _, mark = LINES[look]
        rows = [r for r in data.numbers if (r["metric"], r["series"]) == (metric, series)]
        up = (place - (len(shown) - 1) / 2) * 0.28
        for r in rows:
            y = arms.index(r["place"]) + up
            panel.plot([r["low"], r["high"]], [y, y], color=colour, linewidth=0.9)
        panel.plot([r["mean"] for r in rows], [arms.index(r["place"]) + up for r in rows], mark, color=colour,
                   markersize=3, linestyle="none", label=series)
    panel.axvline(line, color="#888888", linewidth=0.6, zorder=1)
    panel.set_xlabel(label)
