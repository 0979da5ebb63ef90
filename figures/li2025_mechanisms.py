"""Which mechanism was it? What a hospital can measure, among runs that agree on the four reported AUCs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures.style import LINES, WIDE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data

NAME = "li2025-mechanisms"
INPUTS = ("results/li2025-mechanisms/accuracy.csv", "results/li2025-mechanisms/confusion.csv")


def numbers(accuracy: Path, confusion: Path) -> list[dict[str, Any]]:
    """The accuracies by what is given and by number of records, and the shares of the confusion matrices."""
    found: list[dict[str, Any]] = []
    for path in (accuracy, confusion):
        with path.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        found += [{k: v if k in ("given", "true", "named") else float(v) for k, v in row.items() if k != "home"}
                  for row in rows if row["home"] == "any"]
    return found


def draw(data: Data) -> Figure:
    """Left: balanced accuracy with its interval; right: the confusion matrix of all measures, most records."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    scores = [r for r in data.numbers if "given" in r]
    given = list(dict.fromkeys(r["given"] for r in scores))[::-1]
    sizes = sorted({r["records"] for r in scores})
    for size, (colour, _, mark), shift in zip(sizes, LINES, (-0.15, 0.15), strict=False):
        mine = {r["given"]: r for r in scores if r["records"] == size}
        for place, what in enumerate(given):
            r = mine[what]
            left.plot([r["low"], r["high"]], [place + shift] * 2, color=colour, linewidth=1.1)
            left.plot([r["accuracy"]], [place + shift], color=colour, marker=mark, markersize=3, linestyle="none",
                      label=f"{size:.0f} records of the target" if place == 0 else None)
    left.axvline(scores[0]["chance"], color="#222222", linewidth=0.8, linestyle=(0, (2, 1.5)), label="chance")
    left.set_yticks(range(len(given)), given)
    left.set_xlim(0, 1.02)
    left.set_xlabel("balanced accuracy on held-out seeds")
    left.spines[["top", "right"]].set_visible(False)
    figure.legend(*left.get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
    cells = [r for r in data.numbers if "true" in r and r["records"] == max(sizes)]
    names = sorted({r["true"] for r in cells})
    share = {(r["true"], r["named"]): r["share"] for r in cells}
    grid = [[share.get((true, named), 0.0) for named in names] for true in names]
    right.imshow(grid, cmap="Greys", vmin=0, vmax=1.3)
    for i, row in enumerate(grid):
        for j, value in enumerate(row):
            right.text(j, i, f"{value:.2f}".lstrip("0"), ha="center", va="center", fontsize=6.5,
                       color="white" if value > 0.6 else "black")
    right.set_xticks(range(len(names)), names, rotation=35, ha="right")
    right.set_yticks(range(len(names)), names)
    right.set_xlabel("named")
    right.set_ylabel("true")
    right.set_title(f"all measures, {max(sizes):.0f} records", loc="left")
    return figure
