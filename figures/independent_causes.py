"""From shared to independent causes: each mask against labels alone, at six persistences of causes and nuisance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures.style import LINES, WIDE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "independent-causes"
INPUTS = ("results/independent-causes",)
ALONE = "tokens-ridge"
ARMS = {
    "data2vec-modality-exact": "modality masked, EMA",
    "data2vec-visit-exact": "visits masked, EMA",
    "data2vec-both-exact": "either by a coin, EMA",
    "modality-vicreg-exact": "between modalities, VICReg",
    "visit-vicreg-exact": "between visits, VICReg",
}


def numbers(published: Published) -> list[dict[str, Any]]:
    """One record an arm and cell: the paired difference to labels alone with its interval, and the word for it."""
    keys = ("difference", "low", "high", "seeds", "verdict")
    return [{"series": ARMS[r["first"]], "alpha_cause": r["p_alpha_cause"], "alpha_nuis": r["p_alpha_nuis"],
             "w_c": r["p_w_c"], **{key: r[key] for key in keys}}
            for r in published.verdicts if r["second"] == ALONE and r["first"] in ARMS]


def draw(data: Data) -> Figure:
    """Rows and columns: the share of themselves that causes, and the nuisance, keep from visit to visit."""
    from matplotlib.figure import Figure

    causes, nuisance = (sorted({r[key] for r in data.numbers}) for key in ("alpha_cause", "alpha_nuis"))
    figure = Figure(figsize=(WIDE, 4.3), layout="constrained")
    grid = figure.subplots(len(causes), len(nuisance), sharex=True, sharey=True, squeeze=False)
    handles: dict[str, Any] = {}
    for row, alpha_cause in enumerate(causes):
        for column, alpha_nuis in enumerate(nuisance):
            axes = grid[row][column]
            axes.axhspan(-0.01, 0.01, color="#dddddd", linewidth=0)
            axes.axhline(0, color="#222222", linewidth=0.6)
            for series, (colour, dash, mark) in zip(ARMS.values(), LINES, strict=False):
                line = sorted((r for r in data.numbers if r["series"] == series and r["alpha_cause"] == alpha_cause
                               and r["alpha_nuis"] == alpha_nuis), key=lambda r: r["w_c"])
                at = [r["w_c"] for r in line]
                handles[series], = axes.plot(at, [r["difference"] for r in line], color=colour, linestyle=dash,
                                             marker=mark, markersize=3, zorder=4)
                axes.fill_between(at, [r["low"] for r in line], [r["high"] for r in line], color=colour, alpha=0.15,
                                  linewidth=0)
            axes.set_title(f"causes keep {alpha_cause:g}, nuisance {alpha_nuis:g}", loc="left")
            axes.spines[["top", "right"]].set_visible(False)
        grid[row][0].set_ylabel("AUC, fine-tuned minus labels alone")
    grid[-1][len(nuisance) // 2].set_xlabel("w_c: share of the signal that both views show")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False,
                  handlelength=2.6, columnspacing=1.2)
    return figure
