"""One label a subject: from a table, or from the record's own codes within a horizon."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from real_data.account import Account
from real_data.ct_ehr.scans import day, table
from simlab.errors import InvalidData

SUBJECT = ("subject_id", "patient_id", "pid", "subject")
VALUE = ("boolean_value", "label", "lung_cancer", "cancer")
DATE = ("prediction_time", "label_date", "date")
WORDS = {"1": 1.0, "true": 1.0, "1.0": 1.0, "0": 0.0, "false": 0.0, "0.0": 0.0, "": math.nan, "nan": math.nan}


@dataclass(frozen=True)
class Label:
    """0, 1 or NaN, and the time after which nothing may be an input (None: no such time)."""

    value: float
    until: datetime | None = None


def from_table(path: Path, account: Account, patients: Mapping[str, str] | None = None) -> dict[str, Label]:
    """Labels by subject of a CSV file, or of a MEDS label file (parquet: subject_id, prediction_time, boolean_value).

    patients: patient ids by MEDS number, for a MEDS file; a number that is not among them stays as it is. A subject
    named twice counts once, until its earliest time. Raises InvalidData for two labels of one subject, a word that
    is no label, a column that is missing.
    """
    found: dict[str, Label] = {}
    for where, subject, word, date in rows_of(path):
        if word.strip().lower() not in WORDS:
            raise InvalidData(f"{path}, {where}: label '{word}'; 0, 1 or nothing is expected")
        if path.suffix == ".parquet" and patients:
            subject = patients.get(subject, subject)
        value = WORDS[word.strip().lower()]
        until = moment(date, f"{path}, {where}") if date else None
        before = found.get(subject)
        if before is not None:
            if before.value != value and not (math.isnan(before.value) and math.isnan(value)):
                raise InvalidData(f"{path}, {where}: subject {subject} has two labels; one a subject is expected")
            account.fact("subjects with several rows of labels (the earliest time holds)", 1)
            until = min((t for t in (before.until, until) if t is not None), default=None)
        found[subject] = Label(value, until)
    if not found:
        raise InvalidData(f"{path}: no label in it")
    return found


def rows_of(path: Path) -> list[tuple[str, str, str, str]]:
    """(where it stands, subject, label, time) of every row, as text."""
    if path.suffix == ".parquet":
        try:
            frame = pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InvalidData(f"{path}: cannot be read as parquet ({str(error).splitlines()[0]})") from error
        names = []
        for group in (SUBJECT, VALUE, DATE):
            have = [c for c in group if c in frame.columns]
            if not have:
                raise InvalidData(f"{path}: no column '{' or '.join(group)}' (it has {', '.join(frame.columns[:8])})")
            names.append(have[0])
        text = frame.select(pl.col(names).cast(pl.String).fill_null(""))
        return [(f"row {n}", *row) for n, row in enumerate(text.iter_rows(), 1)]
    rows, (subject, value) = table(path, (SUBJECT, VALUE))
    date = next((c for c in DATE if rows and c in rows[0]), None)
    return [(f"line {n}", row[subject].strip(), row[value], row[date].strip() if date else "")
            for n, row in enumerate(rows, 2)]  # fmt: skip


def moment(text: str, what: str) -> datetime:
    """A date (its 00:00) or a date and time. Raises InvalidData."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        return day(text, what)


def from_codes(
    outcome: dict[str, datetime], last: dict[str, datetime], visits: dict[str, list[datetime]], horizon: float
) -> dict[str, Label]:
    """Labels by subject: whether the outcome's first code comes within `horizon` days of the last visit before it.

    outcome: first such code of a subject; last: its last event of any code; visits: its scans. 0 asks that the record
    goes on for the horizon; otherwise, and with the outcome before the first visit, the label is not known (NaN).
    """
    found = {}
    for subject, times in visits.items():
        first = outcome.get(subject)
        before = [t for t in times if first is None or t < first]
        if not before:
            found[subject] = Label(math.nan, first)
            continue
        end = max(before) + timedelta(days=horizon)
        if first is not None and first <= end:
            found[subject] = Label(1.0, max(before))
        else:
            followed = last.get(subject) is not None and last[subject] >= end
            found[subject] = Label(0.0 if followed else math.nan, max(before))
    return found
