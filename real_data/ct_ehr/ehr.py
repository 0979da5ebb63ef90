"""Health records in MEDS shape: events of the scanned subjects, as they were known at each scan (as-of join)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from real_data import meds_events
from real_data.account import Account
from real_data.ct_ehr.scans import table
from simlab.cohort import Events, Stream
from simlab.errors import InvalidData, OutOfDomain
from simlab.signatures import Settings, fit

COLUMNS = ("subject", "time", "code", "value", "unit")


def read(folder: Path, account: Account) -> pl.DataFrame:
    """All events with a time: subject (text), time, code, value (null: none), unit (''); rows alike count once.

    Column `unit` is read where a file has it. `subjects.csv` (patient_id, subject_id) names the patients where MEDS
    numbers are not the scans' patient ids. Raises InvalidData naming the file.
    """
    paths = [p for p in meds_events.files(folder) if "labels" not in p.relative_to(folder).parts]
    meds_events.read(paths)  # the checks of columns and types
    frames = []
    for path in paths:
        names = pl.read_parquet_schema(path)
        value = next((pl.col(c) for c in meds_events.VALUES if c in names), pl.lit(None)).cast(pl.Float64, strict=False)
        unit = pl.col("unit").cast(pl.String) if "unit" in names else pl.lit("")
        columns = (
            pl.col("subject_id").cast(pl.Int64).cast(pl.String).alias("subject"),
            pl.col("time").cast(pl.Datetime("us")),
            pl.col("code").cast(pl.String),
            pl.when(value.is_finite()).then(value).alias("value"),
            unit.fill_null("").alias("unit"),
        )
        with meds_events.readable([path]):
            frames.append(pl.read_parquet(path).select(columns))
    rows = pl.concat(frames)
    account.drop("events", "*", "the same row again", rows.height - rows.unique().height)
    rows = rows.unique()
    account.drop("events", "*", "without a time", rows["time"].null_count())
    rows = rows.filter(pl.col("time").is_not_null())
    known = patients(folder)
    if known:
        pairs = pl.DataFrame({"subject": list(known), "patient": list(known.values())})
        rows = rows.join(pairs, on="subject", how="left")
        account.drop("events", "*", "of a number that subjects.csv does not name", rows["patient"].null_count())
        rows = rows.filter(pl.col("patient").is_not_null()).with_columns(subject=pl.col("patient")).drop("patient")
    return rows.select(COLUMNS).sort("subject", "time", "code", "value", nulls_last=True)


def patients(folder: Path | None) -> dict[str, str]:
    """Patient ids by MEDS number, of the record's subjects.csv; {} where there is none. Raises InvalidData."""
    named = None if folder is None else folder / "subjects.csv"
    if named is None or not named.is_file():
        return {}
    rows, (patient, subject) = table(named, (("patient_id",), ("subject_id",)))
    known = {r[subject].strip(): r[patient].strip() for r in rows}
    if not len(rows) == len(known) == len(set(known.values())):
        raise InvalidData(f"{named}: a patient or a number is there twice")
    return known


def matches(rows: pl.DataFrame, pattern: str, option: str) -> pl.Series:
    """Which rows' codes match a regular expression. Raises OutOfDomain for what is none."""
    try:
        return rows["code"].str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        raise OutOfDomain(f"{option} {pattern!r} is no regular expression") from error


def in_known_units(rows: pl.DataFrame, training: set[str], account: Account) -> pl.DataFrame:
    """Rows whose unit is the one that the code has in most training rows; values in others are dropped and counted."""
    valued = rows.filter(pl.col("value").is_not_null())
    counts = valued.filter(pl.col("subject").is_in(list(training))).group_by("code", "unit").len()
    usual = counts.sort("len", "unit", descending=[True, False]).unique("code", keep="first")
    usual = usual.select("code", usual="unit")
    joined = rows.join(usual, on="code", how="left", maintain_order="left")
    wrong = pl.col("value").is_not_null() & pl.col("usual").is_not_null() & (pl.col("unit") != pl.col("usual"))
    strays = joined.filter(wrong).group_by("code", "unit", "usual").len().sort("code", "unit")
    for code, unit, expected, n in strays.iter_rows():
        account.drop("events", code, f"unknown unit '{unit}' ('{expected}' in training)", n)
    return joined.filter(~wrong).select(COLUMNS)


def at_midnight(rows: pl.DataFrame, subjects: list[str], when: list[list[datetime]]) -> int:
    """Events at 00:00 of a day that has a visit: a date without a time of day may mean any hour of it."""
    days = pl.DataFrame({"subject": [s for s, moments in zip(subjects, when, strict=True) for _ in moments],
                         "time": [datetime(m.year, m.month, m.day) for moments in when for m in moments]},
                        schema={"subject": pl.String, "time": pl.Datetime("us")})  # fmt: skip
    return rows.join(days, on=("subject", "time"), how="semi").height


def events_of(rows: pl.DataFrame, subjects: list[str], begin: list[datetime], end: list[datetime]) -> Events:
    """Events of each subject up to its `end`, times in days since its `begin`."""
    order = pl.DataFrame({"subject": subjects, "row": np.arange(len(subjects)), "begin": begin, "end": end},
                         schema_overrides={"begin": pl.Datetime("us"), "end": pl.Datetime("us")})  # fmt: skip
    joined = rows.join(order, on="subject").filter(pl.col("time") <= pl.col("end"))
    t = (pl.col("time") - pl.col("begin")).dt.total_microseconds() / 8.64e10
    joined = joined.with_columns(t=t).sort("row", "t", "code", "value", nulls_last=True)
    counts = np.bincount(joined["row"].to_numpy(), minlength=len(subjects))
    return Events(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        joined["t"].to_numpy().astype(np.float64),
        joined["code"].to_numpy().astype(str),
        joined["value"].fill_null(np.nan).to_numpy().astype(np.float64),
        joined["unit"].to_numpy().astype(str),
    )


@dataclass(frozen=True, eq=False)
class Known:
    """What each visit knows: its own events, (visit,) records of `events`; and which record and visit each one is."""

    events: Events
    time: Float[np.ndarray, "known"]
    record: Int[np.ndarray, "known"]
    visit: Int[np.ndarray, "known"]


def as_of(
    events: Events, time: Float[np.ndarray, "records visits"], exists: Bool[np.ndarray, "records visits"],
    look_back: float,
) -> Known:
    """For every visit that exists, the record's events in [time - look_back, time] days: the as-of join."""
    record, visit = np.nonzero(exists)
    rows, counts = [np.zeros(0, np.int64)], []
    for r, v in zip(record, visit, strict=True):
        start, end = events.offsets[r], events.offsets[r + 1]
        low = start + np.searchsorted(events.time[start:end], time[r, v] - look_back, "left")
        high = start + np.searchsorted(events.time[start:end], time[r, v], "right")
        rows.append(np.arange(low, high))
        counts.append(high - low)
    index = np.concatenate(rows)
    known = Events(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), events.time[index], events.code[index],
                   events.value[index], events.unit[index])  # fmt: skip
    return Known(known, time[record, visit], record, visit)


def latest(known: Known, training: Bool[np.ndarray, "records"], shape: tuple[int, int],
           time: Float[np.ndarray, "records visits"], least: int) -> tuple[Stream | None, int]:
    """The last value of each numeric code within each visit's look-back, (records, visits, codes).

    Codes that at least `least` training subjects have, by name; None where there is no such code. And how many numeric
    codes fewer have.
    """
    owner = np.repeat(np.arange(len(known.time)), np.diff(known.events.offsets))
    valued = np.isfinite(known.events.value)
    codes, which = np.unique(known.events.code, return_inverse=True)
    use = valued & training[known.record[owner]]
    pairs = np.unique(np.stack([which[use], known.record[owner][use]]), axis=1)
    enough = np.bincount(pairs[0], minlength=len(codes)) >= least
    few = len(np.setdiff1d(which[valued], np.flatnonzero(enough)))
    if not enough.any():
        return None, few
    place = np.where(enough, np.cumsum(enough) - 1, -1)[which]
    keep = valued & (place >= 0)
    values = np.zeros((*shape, int(enough.sum())), np.float32)
    observed = np.zeros(values.shape, bool)
    at = (known.record[owner][keep], known.visit[owner][keep], place[keep])
    values[at] = known.events.value[keep]  # in order of time: of several, the last one stays
    observed[at] = True
    unit = {str(c): str(u) for c, u in zip(known.events.code[keep], known.events.unit[keep], strict=True)}
    names = tuple(str(c) for c in codes[enough])
    return Stream(values, observed, names, tuple(unit[c] for c in names), time), few


def signatures(known: Known, training: Bool[np.ndarray, "records"], shape: tuple[int, int],
               time: Float[np.ndarray, "records visits"], count: int, least: int) -> Stream:
    """Clinical signatures at every visit, of its own look-back alone, fitted on the training subjects' visits.

    Raises OutOfDomain and NotConverged, as `simlab.signatures.fit`.
    """
    settings = Settings(signatures=count, records=least)
    fitted = fit(known.events, training[known.record], settings, np.random.default_rng(0), known.time[:, None])
    found = fitted.read(known.events, known.time[:, None], np.ones((len(known.time), 1), bool))
    values = np.zeros((*shape, count), np.float32)
    observed = np.zeros(values.shape, bool)
    values[known.record, known.visit] = found.values[:, 0]
    observed[known.record, known.visit] = found.observed[:, 0]
    return Stream(values, observed, found.channels, found.units, time)
