"""What `python -m simlab.train clin-jepa` prints: the first report, and over splits the mean AUROC of every task."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simlab.evaluation import intervals
from simlab.methods import Method
from simlab.train.trajectory_parts import Part


def shown(method: Method, options: argparse.Namespace, parts: Sequence[Part]) -> dict[str, Any]:
    """What is printed as JSON: the first report, and over splits the mean AUROC of every task and arm."""
    return {"method": method.name, "data": options.data, "splits": len(parts), "report": parts[0]["report"],
            "tasks": _over_splits(parts, options.test_share)}


def _over_splits(parts: Sequence[Part], share: float) -> list[dict[str, Any]]:
    """Mean AUROC over splits with Nadeau-Bengio intervals, and the encoded arm minus each; one split has none."""
    if len(parts) < 2:
        return []
    n_train, n_test = round(1000 * (1 - share)), round(1000 * share)  # the correction needs their ratio alone
    rows = []
    areas = [{(r["task"], r["arm"]): r["auroc"] and r["auroc"]["value"] for r in part["report"]["tasks"]}
             for part in parts]
    for task, arm in dict.fromkeys(row for found in areas for row in found):
        of, base = ([found.get((task, name)) for found in areas] for name in (arm, "encoded"))
        both = [(a, b) for a, b in zip(of, base, strict=True) if a is not None and b is not None]
        if len(both) < 2:
            continue
        values, first = np.array(both).T
        found, _ = intervals.nadeau_bengio(values, n_train, n_test)
        gap, se = intervals.nadeau_bengio(first - values, n_train, n_test)
        rows.append({"task": task, "arm": arm, "splits": len(both), "auroc": [found.value, found.low, found.high],
                     "encoded_minus_it": None if arm == "encoded" else [gap.value, gap.low, gap.high],
                     "detectable": None if arm == "encoded" else intervals.minimum_detectable(se, len(both) - 1)})
    return rows


def page(
    method: Method, options: argparse.Namespace, parts: Sequence[Part], found: dict[str, Any], folder: Path
) -> str:
    """What is printed: the first report, and over splits every task and arm. found: of `shown`."""
    head = f"{method.name} on {options.data}" + (f", split 1 of {len(parts)}" if len(parts) > 1 else "")
    blocks = [head, parts[0]["text"]]
    if found["tasks"]:
        lines = [f"Over {len(parts)} splits by subject, AUROC (Nadeau-Bengio, 95 %):", ""]
        for row in found["tasks"]:
            gap = row["encoded_minus_it"]
            more = f"   encoded minus it {_three(gap)}, detectable {row['detectable']:.3f}" if gap else ""
            lines.append(f"  {row['task']:28s}{row['arm']:14s}{_three(row['auroc'])}{more}")
        blocks.append("\n".join(lines))
    return "\n\n".join([*blocks, f"Run folder: {folder}"])


def _three(values: Sequence[float]) -> str:
    """An estimate and its interval; one without width (all splits alike) tells nothing."""
    return f"{values[0]:.3f} [{values[1]:.3f}, {values[2]:.3f}]" if values[1] < values[2] else f"{values[0]:.3f}"
