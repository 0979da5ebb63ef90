"""Which single difference of the target hospital puts JEPA behind imaging alone, and from which strength."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures.style import LINES, WIDE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

FIGURES = {"li2025-reversal": "results/li2025", "li2025-reversal-limits": "results/li2025-limits"}
INPUTS = ("results/li2025", "results/li2025-limits")
ARMS = {"jepa-finetuned": "JEPA, fine-tuned", "vicreg-finetuned": "JEPA (VICReg), fine-tuned",
        "supervised": "both views, tuned", "supervised-unregularised": "both views, unregularised"}
ALONE = "image-only"
PUBLISHED = (0.91 - 0.73, 0.72 - 0.75)  # JEPA minus imaging alone, at home and outside
SHORT = {"all-clinical-slope": "all clinical\nslope", "clinical-slope": "clinical\nslope", "decoupling":
         "proxy\ndecoupling", "acquisition-record": "acquisition,\nrecord", "acquisition-image": "acquisition,\nimage"}


def numbers(main: Published, limits: Published, chosen: str) -> list[dict[str, Any]]:
    """One record a preset, mechanism, strength (0: at home) and arm: its AUC minus imaging alone's, mean and Student t
    interval over paired seeds, and the same of the limits."""
    import numpy as np
    import pyarrow.compute as pc
    from scipy import stats

    published = main if chosen.endswith(main.study.name) else limits
    table = published.table
    kept = table.filter(pc.equal(table["metric"], "auc")).select(
        ["cell", "seed", "method", "cohort", "value", "limit", "p_preset", "p_mechanism", "p_strength"]).to_pylist()
    value = {(r["cell"], r["seed"], r["method"], r["cohort"]): r["value"] for r in kept}
    limit = {(r["cell"], r["method"], r["cohort"]): r["limit"] for r in kept}
    cells = {r["cell"]: (r["p_preset"], r["p_mechanism"], r["p_strength"]) for r in kept}
    found, homes = [], set()
    for cell, (preset, mechanism, strength) in sorted(cells.items()):
        for cohort, at in (("test", 0.0), ("external", strength)):
            if cohort == "test" and (preset, mechanism) in homes:
                continue
            homes.add((preset, mechanism))
            seeds = sorted({s for c, s, _, where in value if c == cell and where == cohort})
            for arm in ARMS:
                gap = np.array([value[cell, s, arm, cohort] - value[cell, s, ALONE, cohort] for s in seeds])
                half = float(stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / np.sqrt(len(gap)))
                mean = float(gap.mean())
                found.append({"preset": preset, "mechanism": mechanism, "strength": at, "arm": arm, "mean": mean,
                              "low": mean - half, "high": mean + half, "seeds": len(gap),
                              "limit": limit[cell, arm, cohort] - limit[cell, ALONE, cohort]})
    return found


def draw(data: Data) -> Figure:
    """A row a preset, a column a mechanism; the difference to imaging alone along the strength."""
    from matplotlib.figure import Figure

    presets = list(dict.fromkeys(r["preset"] for r in data.numbers))
    mechanisms = list(dict.fromkeys(r["mechanism"] for r in data.numbers))
    figure = Figure(figsize=(WIDE, 4.4), layout="constrained")
    grid = figure.subplots(len(presets), len(mechanisms), sharex=True, sharey=True, squeeze=False)
    handles: dict[str, Any] = {}
    for row, preset in zip(grid, presets, strict=True):
        for axes, mechanism in zip(row, mechanisms, strict=True):
            mine = [r for r in data.numbers if (r["preset"], r["mechanism"]) == (preset, mechanism)]
            axes.axhline(0, color="#222222", linewidth=0.7, zorder=1)
            axes.axhspan(-0.4, 0, color="#000000", alpha=0.06, linewidth=0)
            handles["published, outside"] = axes.axhline(PUBLISHED[1], color="#444444", linewidth=0.8,
                                                         linestyle=(0, (1, 1.5)), zorder=2)
            handles["published, at home"], = axes.plot([0], [PUBLISHED[0]], marker="*", markersize=5, color="#444444",
                                                       linestyle="none", zorder=3, clip_on=False)
            for arm, (colour, dash, mark) in zip(ARMS, LINES, strict=False):
                line = sorted((r for r in mine if r["arm"] == arm), key=lambda r: r["strength"])
                at = [r["strength"] for r in line]
                style = {"color": colour, "linestyle": dash, "marker": mark, "markersize": 2, "linewidth": 0.9}
                handles[ARMS[arm]], = axes.plot(at, [r["mean"] for r in line], zorder=4, **style)
                axes.fill_between(at, [r["low"] for r in line], [r["high"] for r in line], color=colour, alpha=0.2,
                                  linewidth=0)
            axes.spines[["top", "right"]].set_visible(False)
            if axes in grid[0]:
                axes.set_title(SHORT.get(mechanism, mechanism), fontsize=6.5)
            if axes in grid[-1]:
                axes.set_xticks([0, 0.5, 1], ["home", ".5", "1"])
        row[0].set_ylabel(preset.removeprefix("li2025-"))
    grid[0][0].set_ylim(-0.22, 0.38)
    grid[-1][len(mechanisms) // 2].set_xlabel("strength of the mechanism", x=-0.1)
    figure.supylabel("AUC minus that of imaging alone", fontsize=7)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False,
                  handlelength=2.4, columnspacing=1.0)
    return figure
