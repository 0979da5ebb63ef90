"""The account an adapter gives: who was left out at each step, and which rows were dropped, from where and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from real_data.leakage import Check
from simlab.cohort import Cohort

MANY = 4  # items of one table that share a reason are told in one line


@dataclass
class Account:
    """Filled while data are read; printed as tables or as one JSON object, and kept in the cohort's provenance."""

    attrition: list[dict[str, object]] = field(default_factory=list)
    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    used: Counter[tuple[str, str]] = field(default_factory=Counter)
    facts: dict[str, int] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)  # of an adapter that can look at its files again
    sides: np.ndarray | None = None  # (records,) the split of each record, where the data set brings its own

    def step(self, name: str, n: int, positives: int | None) -> None:
        """After this step n records remain, of which so many are positive (None: not known or not a yes/no matter)."""
        self.attrition.append({"step": name, "n": n, "positives": positives})

    def drop(self, table: str, item: str, reason: str, n: int) -> None:
        """n rows of this item did not enter, for this reason. Zero rows leave no line."""
        if n:
            self.counts[table, item, reason] += n

    def use(self, table: str, item: str, n: int) -> None:
        """n rows of this item entered."""
        self.used[table, item] += n

    def fact(self, what: str, n: int) -> None:
        """Something that is neither dropped nor quite as usual happened n more times; zero leaves no line."""
        if n:
            self.facts[what] = self.facts.get(what, 0) + int(n)

    @property
    def dropped(self) -> list[dict[str, object]]:
        return [{"table": t, "item": i, "reason": r, "n": n} for (t, i, r), n in sorted(self.counts.items())]


def summary(cohort: Cohort, account: Account) -> dict[str, object]:
    """The object that `prepare --json` prints: records, subjects, positives by task, attrition, dropped."""
    binary = [name for name, task in cohort.tasks.items() if task.kind == "binary"]
    return {
        "records": len(cohort),
        "subjects": len(set(cohort.subject.tolist())),
        "positives": {name: int((cohort.labels[name] == 1).sum()) for name in binary if name in cohort.labels},
        "attrition": account.attrition,
        "dropped": account.dropped,
    }


def as_text(cohort: Cohort, account: Account) -> str:
    """The same for a person: the cohort, how full its streams are, attrition, and what was dropped."""
    said = summary(cohort, account)
    lines = [f"{said['records']} records of {said['subjects']} subjects", "", "task"]
    for name, task in cohort.tasks.items():
        whole = "everything in the record" if task.level == "record" else "causal, visit by visit"
        until = whole if task.cutoff is None else f"inputs until hour {task.cutoff:g}"
        known = f"{said['positives'][name]} positive" if name in said["positives"] else task.kind
        lines.append(f"  {name}: {known}; {until}")
    lines += ["", "stream"]
    for name, s in cohort.streams.items():
        # Of the visits that exist, not of the padding.
        visits = int(cohort.length.sum()) if s.time is not None else len(cohort)
        share = s.observed.sum() / max(1, visits * len(s.channels))
        most = f"{s.visits} visits at most" if s.visits > 1 else "1 visit"
        lines.append(f"  {name}: {len(s.channels)} channels, {most}, {share:.0%} observed")
    lines += ["", "attrition", *_table([[r["step"], r["n"], r["positives"]] for r in account.attrition])]
    if account.dropped:
        head = ["table", "item", "reason", "n"]
        lines += ["", "dropped rows (item by item with --json)", *_table([head, *_merged(account)])]
    else:
        lines += ["", "no rows were dropped"]
    return "\n".join(lines)


def _merged(account: Account) -> list[list[object]]:
    """Dropped rows for a person: one line for a reason that many items of a table share."""
    groups: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for (table, item, reason), n in sorted(account.counts.items()):
        groups.setdefault((table, reason), []).append((item, n))
    rows = []
    for (table, reason), found in groups.items():
        if len(found) >= MANY:
            found = [(f"{len(found)} items", sum(n for _, n in found))]
        rows += [[table, item, reason, n] for item, n in found]
    return rows


def _table(rows: list[list[object]]) -> list[str]:
    """Rows as aligned lines: text to the left, numbers to the right."""
    text = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    numbers = [isinstance(cell, int) for cell in rows[-1]]
    return [
        "  " + "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numbers, strict=True)).rstrip()
        for row in text
    ]
