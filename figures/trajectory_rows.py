"""Rows of arms on whole stays, by metric: what the figures of trajectories share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simlab.report import Published

Values = dict[tuple[str, int], dict[int, float]]  # (arm, cell) -> seed -> value


def values(published: Published, metric: str, cohort: str = "test") -> Values:
    """Every value of a metric of no task, by arm and cell, then seed."""
    table = published.table
    names = ("method", "cell", "seed", "metric", "cohort", "task", "status", "value")
    found: Values = {}
    for method, cell, seed, name, where, task, status, value in zip(
            *(table[column].to_pylist() for column in names), strict=True):
        if (name, where, task, status) == (metric, cohort, published.study.task, "ok") and value is not None:
            found.setdefault((method, cell), {})[seed] = value
    return found


def limits(published: Published, metric: str, cohort: str = "test") -> dict[int, float]:
    """The best possible value of a metric of no task by cell, where the world knows one: the mean over rows, since a
    mean over tasks is over those that a seed's stays have."""
    table, found = published.table, {}
    names = ("cell", "metric", "cohort", "task", "status", "limit")
    for cell, name, where, task, status, limit in zip(*(table[column].to_pylist() for column in names), strict=True):
        if (name, where, task, status) == (metric, cohort, published.study.task, "ok") and limit is not None:
            found.setdefault(cell, []).append(limit)
    return {cell: math.fsum(of) / len(of) for cell, of in found.items()}


def summary(numbers: list[float]) -> dict[str, float | None]:
    """Mean and Student t interval over seeds (None below two)."""
    from scipy import stats

    n = len(numbers)
    mean = math.fsum(numbers) / n
    if n < 2:
        return {"mean": mean, "low": None, "high": None, "seeds": n}
    sd = math.sqrt(math.fsum((x - mean) ** 2 for x in numbers) / (n - 1))
    half = float(stats.t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half, "seeds": n}


def paired(first: dict[int, float], second: dict[int, float]) -> dict[str, float | None]:
    """`summary` of the differences by seed."""
    return summary([first[seed] - second[seed] for seed in sorted(set(first) & set(second))])


def record(series: str, place: Any, found: dict[str, float | None], **more: Any) -> dict[str, Any]:
    """A plotted number."""
    return {"series": series, "place": place, **found, **more}
