"""The audit's own part for scans and records: leaks looked for in the finished cohort, sources, licence."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from real_data import audit
from real_data.ct_ehr.labels import Label
from real_data.ct_ehr.rules import Rules
from real_data.leakage import SLACK, Check
from simlab.cohort import Cohort

TABLES = (".csv", ".json")
SAME = timedelta(microseconds=1)


def all_of(cohort: Cohort, rules: Rules, told: dict[str, Label], when: list[list[datetime]]) -> list[Check]:
    """Checks that look at the cohort as it is, against the labels' times."""
    return [after_last_visit(cohort), after_label(cohort, told, when), codes_that_say_the_label(cohort, rules)]


def after_last_visit(cohort: Cohort) -> Check:
    """Events later than a record's last visit."""
    name = "events after the last scan"
    if cohort.events is None:
        return Check(name, None, "no events")
    timed = next(s.time for s in cohort.streams.values() if s.time is not None)
    last = timed[np.arange(len(cohort)), cohort.length - 1]
    owner = np.repeat(np.arange(len(cohort)), np.diff(cohort.events.offsets))
    return Check(name, int((cohort.events.time > last[owner] + SLACK).sum()), "")


def after_label(cohort: Cohort, told: dict[str, Label], when: list[list[datetime]]) -> Check:
    """Visits and events later than the time of a record's label."""
    name = "visits or events after the label's time"
    until = [told[str(s)].until if str(s) in told else None for s in cohort.subject.tolist()]
    if not any(until):
        return Check(name, None, "the labels carry no time")
    late = 0
    for n, (moments, end) in enumerate(zip(when, until, strict=True)):
        if end is None:
            continue
        late += sum(m > end + SAME for m in moments)
        if cohort.events is not None:
            part = cohort.events.time[cohort.events.offsets[n] : cohort.events.offsets[n + 1]]
            late += int((part > (end - moments[0]).total_seconds() / 86_400 + SLACK).sum())
    return Check(name, late, "")


def codes_that_say_the_label(cohort: Cohort, rules: Rules) -> Check:
    """Codes of --exclude and --outcome among the events."""
    name = "codes that say the label among the events"
    patterns = [*rules.exclude, *([rules.outcome] if rules.outcome else [])]
    if cohort.events is None:
        return Check(name, None, "no events")
    if not patterns:
        return Check(name, None, "none named; --exclude REGEX leaves out the codes that the label is made of")
    codes = np.unique(cohort.events.code).tolist()
    bad = [c for c in codes if any(re.search(p, c) for p in patterns)]
    return Check(name, len(bad), ", ".join(bad[:3]))


def licence(folder: Path) -> str:
    """The first line of a LICENSE file in the folder or above it."""
    for place in (folder, folder.parent):
        for name in ("LICENSE.txt", "LICENSE", "LICENCE.txt", "LICENCE"):
            if (place / name).is_file():
                lines = (place / name).read_text(encoding="utf-8", errors="replace").splitlines()
                return next((line.strip("# ") for line in lines if line.strip("# ")), f"an empty {name}")
    return "not known (no LICENSE file beside the scans): ask where the files came from"


def licences(folder: Path, record: Path | None) -> str:
    """That of the scans, and that of the record where it lies elsewhere and has another."""
    scans = licence(folder)
    if record is None or licence(record) == scans:
        return scans
    return f"scans: {scans}; record: {licence(record).replace('beside the scans', 'beside the record')}"


def files(folder: Path, record: Path | None) -> dict[str, object]:
    """Sources: tables, and the record's files as record/..., with their sha256; scans together, by number, bytes and a
    hash of their names and sizes.
    """
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    told: dict[str, object] = {
        str(p.relative_to(folder)): {"file": p.name, "bytes": p.stat().st_size, "sha256": audit.sha256(p)}
        for p in found if p.suffix in TABLES
    }  # fmt: skip
    rest = [p for p in found if p.suffix not in TABLES]
    listed = "\n".join(f"{p.relative_to(folder)} {p.stat().st_size}" for p in rest)
    told["scans"] = {"files": len(rest), "bytes": sum(p.stat().st_size for p in rest),
                     "sha256_of_names_and_sizes": hashlib.sha256(listed.encode()).hexdigest()}  # fmt: skip
    for p in sorted(p for p in record.rglob("*") if p.is_file()) if record is not None else ():
        told[f"record/{p.relative_to(record)}"] = {"file": p.name, "bytes": p.stat().st_size, "sha256": audit.sha256(p)}
    return told
