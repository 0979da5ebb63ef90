"""Each arm's score in each cell, from the table: mean over seeds, its interval, and the limit. No pandas, no torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow.compute as pc

from simlab.report.published import Published

ALPHA = 0.05


def scores(published: Published) -> list[dict[str, Any]]:
    """One record an arm and cell of the study's metric, cohort and task: mean, low, high (Student t over seeds; None
    below two), seeds, and `limit`: the Bayes limit of the streams that the arm may see (mean over seeds)."""
    study, table = published.study, published.table
    wanted = pc.and_(pc.equal(table["status"], "ok"), pc.is_valid(table["value"]))
    for column in ("metric", "cohort", "task"):
        wanted = pc.and_(wanted, pc.equal(table[column], getattr(study, column)))
    kept = table.filter(wanted)
    groups: dict[tuple[str, int], list[tuple[float, float]]] = {}
    columns = (kept[name].to_pylist() for name in ("method", "cell", "value", "limit"))
    for method, cell, value, limit in zip(*columns, strict=True):
        groups.setdefault((method, cell), []).append((value, math.nan if limit is None else limit))
    order = {arm: place for place, arm in enumerate(study.arms)}
    return [_summary(method, cell, np.array(values)) for (method, cell), values in
            sorted(groups.items(), key=lambda item: (order.get(item[0][0], 0), item[0][1]))]


def _summary(method: str, cell: int, values: np.ndarray) -> dict[str, Any]:
    from scipy import stats

    n, mean = len(values), float(values[:, 0].mean())
    half = math.nan
    if n > 1:
        half = float(stats.t.ppf(1 - ALPHA / 2, n - 1) * values[:, 0].std(ddof=1) / math.sqrt(n))
    limits = values[np.isfinite(values[:, 1]), 1]
    ends = (None, None) if math.isnan(half) else (mean - half, mean + half)
    return {"method": method, "cell": cell, "mean": mean, "low": ends[0], "high": ends[1], "seeds": n,
            "limit": float(limits.mean()) if len(limits) else None}
