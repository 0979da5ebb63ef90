"""Labels without signatures against signatures without labels: each pretraining against the zero-filled one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures.style import CEILING, LINES, WIDE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "incomplete-data"
INPUTS = ("results/incomplete-data",)
AGAINST = "label-ridge-zero-filled"
ARMS = {
    "data2vec-modality-exact": "JEPA, complete archive, modality masked",
    "data2vec-both-exact": "JEPA, complete archive, modality or visits",
    "modality-vicreg-exact": "complete archive, between modalities (VICReg)",
    "visit-vicreg-exact": "complete archive, between visits (VICReg)",
    "image-data2vec-visit-exact": "JEPA, archive of images alone",
    "tokens-ridge": "labels alone",
    "label-ridge-complete": "further labels with signatures (a ceiling)",
}


def numbers(published: Published) -> list[dict[str, Any]]:
    """One record an arm and cell: the paired difference to zero-filled supervised pretraining, with its interval."""
    found = []
    for r in published.verdicts:
        sign = 1 if r["second"] == AGAINST else -1
        arm = r["first"] if sign > 0 else r["second"]
        if arm not in ARMS or AGAINST not in (r["first"], r["second"]):
            continue
        ends = sorted(sign * r[key] for key in ("low", "high"))
        found.append({"series": ARMS[arm], "n_incomplete": r["p_n_incomplete"], "n_labelled": r["p_n_labelled"],
                      "w_c": r["p_w_c"], "difference": sign * r["difference"], "low": ends[0], "high": ends[1],
                      "seeds": r["seeds"], "equivalent": r["verdict"] == "equivalent", "needed": r["needed"]})
    return found


def draw(data: Data) -> Figure:
    """Rows: labels of complete records. Columns: further labels of images. Filled marks: decided equivalent."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    few, further = (sorted({r[key] for r in data.numbers}) for key in ("n_labelled", "n_incomplete"))
    figure = Figure(figsize=(WIDE, 4.6), layout="constrained")
    grid = figure.subplots(len(few), len(further), sharex=True, sharey=True, squeeze=False)
    handles: dict[str, Any] = {}
    for row, n in enumerate(few):
        for column, more in enumerate(further):
            axes = grid[row][column]
            axes.axhspan(-0.01, 0.01, color="#dddddd", linewidth=0)
            axes.axhline(0, color="#222222", linewidth=0.6)
            for series, (colour, dash, mark) in zip(ARMS.values(), LINES, strict=False):
                line = sorted((r for r in data.numbers if r["series"] == series and r["n_labelled"] == n
                               and r["n_incomplete"] == more), key=lambda r: r["w_c"])
                at, mean = [r["w_c"] for r in line], [r["difference"] for r in line]
                style = CEILING if "ceiling" in series else {"color": colour, "linestyle": dash, "marker": mark,
                                                             "markersize": 3.4, "markeredgewidth": 0.7,
                                                             "markerfacecolor": "white"}
                handles[series], = axes.plot(at, mean, zorder=4, **style)
                axes.fill_between(at, [r["low"] for r in line], [r["high"] for r in line], alpha=0.13, linewidth=0,
                                  color=style["color"])
                same = [r for r in line if r["equivalent"]]
                axes.plot([r["w_c"] for r in same], [r["difference"] for r in same], linestyle="none", marker=mark,
                          markersize=3.4, color=colour, zorder=5)
            axes.set_title(f"{n:g} complete labels, {more:g} labelled images", loc="left")
            axes.spines[["top", "right"]].set_visible(False)
            if row == len(few) - 1:
                axes.set_xlabel("w_c: share of the signal that both views show")
        grid[row][0].set_ylabel("AUC minus that of zero-filled\nsupervised pretraining")
    handles["filled: decided equivalent (within .01, grey)"] = Line2D([], [], linestyle="none", marker="o",
                                                                      markersize=3.4, color="#222222")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, frameon=False,
                  handlelength=2.6, columnspacing=1.2)
    return figure
