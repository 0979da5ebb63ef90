"""Harmonised hourly tables (dyn, sta, outc in parquet) as a cohort: two modalities, statics, one task.

The row of hour h gathers what was charted in [h, h + 1). A visit's time says when all of it is known, so it is h + 1,
and inputs until hour 24 are the rows of hours 0 to 23.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from real_data.account import Account
from real_data.hourly_variables import LABS, MEANINGS, SEX, STATIC, VITALS, Hourly
from simlab.cohort import Cohort, Stream, Task
from simlab.errors import InvalidData, OutOfDomain

LONGEST_HOURS = 24 * 366  # a time beyond this is not hours since admission
HOUR_MS = 3_600_000
DEFAULT_CUTOFF = 24.0  # hours of input, [0, 24), where there is one label a stay


@dataclass(frozen=True)
class Tables:
    """The three tables of a folder. Rows: dyn (stay, hour); sta (stay); outc (stay) or (stay, hour)."""

    dyn: pl.DataFrame
    sta: pl.DataFrame
    outc: pl.DataFrame
    sha256: dict[str, str]


def prepare(
    folder: Path,
    account: Account,
    say: Callable[[str], None],
    outcome: Path | None = None,
    task: str | None = None,
    cutoff: float | None = None,
    at: int | None = None,
) -> Cohort:
    """The cohort of one folder of hourly tables. Raises InvalidData naming the table or column that is not there.

    outcome: an outcome table elsewhere. task: its name (default: the folder's). cutoff: hours of input (default 24 for
    one label a stay; none for hourly labels). at: turn hourly labels into the label at this hour, one a stay, with the
    rows of earlier hours as inputs.
    """
    say(f"reading {folder}")
    tables = read(folder, outcome or folder / "outc.parquet", account)
    name = task or task_name(folder, outcome)
    stays, outc = tables.dyn["stay_id"].unique().sort().to_numpy(), tables.outc
    if at is not None:
        stays, outc = labels_at(at, stays, outc)
        name = task or f"{name}-at-{at}"
    told = describe_task(name, outc, cutoff, at)
    positives = outc.filter(pl.col("label") == 1)["stay_id"].n_unique() if told.kind == "binary" else None
    account.step("stays with an outcome", outc["stay_id"].n_unique(), positives)
    visits = int(tables.dyn.filter(pl.col("stay_id").is_in(stays.tolist()))["hour"].max()) + 1
    rows, hours = place(tables.dyn, stays)
    length = np.zeros(len(stays), np.int64)
    np.maximum.at(length, rows, hours + 1)
    for column in sorted(set(tables.dyn.columns) - {*VITALS, *LABS, "stay_id", "hour"}):
        account.drop("dyn", column, "no such variable", tables.dyn.height - tables.dyn[column].null_count())
    streams = {
        "vitals": dynamic(tables.dyn, VITALS, stays, visits, account),
        "labs": dynamic(tables.dyn, LABS, stays, visits, account),
        "static": static(tables.sta, stays, account),
    }
    labels = place_labels(outc, stays, visits, length, account)
    by_stay = labels.reshape(len(stays), -1)
    positives = int((by_stay == 1).any(axis=1).sum()) if told.kind == "binary" else None
    account.step("with hourly rows", len(stays), positives)
    account.step("with a label", int((~np.isnan(by_stay)).any(axis=1).sum()), positives)
    return Cohort(
        streams=streams,
        length=length,
        record=stays,
        subject=stays.copy(),
        site=np.full(len(stays), "hourly"),
        tasks={name: told},
        labels={name: labels},
        provenance=provenance(tables, account),
    )


def labels_at(at: int, stays: np.ndarray, outc: pl.DataFrame) -> tuple[np.ndarray, pl.DataFrame]:
    """The stays that have a label at this hour, and that label as one a stay."""
    if "hour" not in outc.columns:
        raise OutOfDomain("--at picks one hour of hourly labels, and this outcome table has one label a stay")
    outc = outc.filter(pl.col("hour") == at).drop("hour")
    stays = np.intersect1d(stays, outc["stay_id"].to_numpy())
    if not len(stays):
        raise OutOfDomain(f"--at {at}: no stay has a label at that hour")
    return stays, outc


def describe_task(name: str, outc: pl.DataFrame, cutoff: float | None, at: int | None) -> Task:
    """The task of an outcome table: its kind from the labels, its level from whether they are hourly."""
    kind = kind_of(outc["label"])
    level = "visit" if "hour" in outc.columns else "record"
    meaning = MEANINGS.get((name.split("-at-")[0], kind), "label is 1" if kind == "binary" else "")
    if cutoff is None and level == "record":
        cutoff = DEFAULT_CUTOFF if at is None else float(at)
    return Task(name, kind, level, cutoff, positive=meaning)


def provenance(tables: Tables, account: Account) -> dict[str, object]:
    """Where the cohort comes from and what was done to it."""
    return {
        "adapter": "real_data.hourly",
        "subject": "stay id: the tables carry no patient id, so splits are by stay, which is optimistic",
        # The tables carry none; theirs is that of the set that they were made from.
        "licence": "that of the data set that the tables were made from (the eICU demo: ODbL 1.0; docs/data.md)",
        "time": "hours since admission to intensive care; the row of hour h holds [h, h + 1) and carries the time "
        "h + 1, when all of it is known: inputs until hour 24 hold [0, 24)",
        "sha256": tables.sha256,
        "ranges": {n: [v.low, v.high, v.unit] for n, v in {**VITALS, **LABS, **STATIC}.items()},
        "attrition": account.attrition,
        "dropped": account.dropped,
    }


def task_name(folder: Path, outcome: Path | None) -> str:
    """A task's name: the folder's; or, for an outcome table elsewhere, that of its folder, or its own."""
    path = folder if outcome is None else outcome.parent if outcome.stem.lower() == "outc" else outcome.with_suffix("")
    return re.sub(r"[^A-Za-z0-9_+-]+", "-", path.resolve().name).strip("-") or "outcome"


def read(folder: Path, outcome: Path, account: Account) -> Tables:
    """Read and check the three tables; exact duplicate rows count once, and are counted as dropped."""
    paths = {"dyn": folder / "dyn.parquet", "sta": folder / "sta.parquet", "outc": outcome}
    frames = {name: read_table(name, path, account) for name, path in paths.items()}
    if "time" not in frames["dyn"].columns:
        raise InvalidData(f"{paths['dyn']}: no column 'time' (it has {', '.join(frames['dyn'].columns[:8])}, ...)")
    if "label" not in frames["outc"].columns:
        raise InvalidData(f"{paths['outc']}: no column 'label' (it has {', '.join(frames['outc'].columns[:8])})")
    if not set(frames["dyn"].columns) & {*VITALS, *LABS}:
        raise InvalidData(f"{paths['dyn']}: none of the known variables ({', '.join([*VITALS, *LABS][:8])}, ...)")
    for name, keys in (("dyn", ["stay_id", "hour"]), ("sta", ["stay_id"]), ("outc", ["stay_id", "hour"])):
        frame = frames[name]
        if "time" in frame.columns and name != "sta":
            frame = frames[name] = whole_hours(name, frame, account)
        keys = [k for k in keys if k in frame.columns]
        twice = frame.filter(frame.select(keys).is_duplicated())
        if twice.height:
            at = ", ".join(f"{k} {twice[k][0]}" for k in keys)
            raise InvalidData(f"{paths[name]}: two different rows for {at}")
    if not frames["dyn"].height:
        raise InvalidData(f"{paths['dyn']}: no rows")
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}
    return Tables(frames["dyn"], frames["sta"], frames["outc"], digests)


def read_table(name: str, path: Path, account: Account) -> pl.DataFrame:
    """One parquet table with lower-case column names and an integer stay_id."""
    if not path.is_file():
        folders = sorted(p.parent.name for p in path.parent.glob(f"*/{path.name}"))
        hint = f" (its folders {', '.join(folders[:5])} have one: name one of them)" if folders else ""
        raise InvalidData(f"no table '{name}': looked for {path}{hint}")
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidData(f"{path}: cannot be read as parquet ({str(error).splitlines()[0]})") from error
    frame = frame.rename({c: c.lower() for c in frame.columns})
    if "stay_id" not in frame.columns:
        raise InvalidData(f"{path}: no column 'stay_id' (it has {', '.join(frame.columns[:8])})")
    if not frame["stay_id"].dtype.is_integer():
        raise InvalidData(f"{path}: column 'stay_id' is {frame['stay_id'].dtype}, not integer")
    frame = frame.with_columns(pl.col("stay_id").cast(pl.Int64))
    known = frame.filter(pl.col("stay_id").is_not_null())
    account.drop(name, "stay_id", "no stay id", frame.height - known.height)
    once = known.unique(maintain_order=True)
    account.drop(name, "*", "duplicate row", known.height - once.height)
    return once


def whole_hours(name: str, frame: pl.DataFrame, account: Account) -> pl.DataFrame:
    """`time` as an integer column `hour`; rows before admission are dropped and counted. Refuses other grids."""
    time = frame["time"]
    if time.dtype == pl.Duration:
        exact = pl.col("time").dt.total_milliseconds() / HOUR_MS
    elif time.dtype.is_numeric():
        exact = pl.col("time").cast(pl.Float64)
    else:
        raise InvalidData(f"table '{name}', column 'time': {time.dtype}, not a duration or hours")
    frame = frame.with_columns(exact.alias("exact"))
    # A stored third of an hour's millisecond is rounding; anything more is another grid.
    off = frame.filter((pl.col("exact") - pl.col("exact").round()).abs() > 1 / 3600)
    if off.height:
        raise InvalidData(f"table '{name}', stay {off['stay_id'][0]}: time {off['exact'][0]:g} h is not a whole hour")
    if (frame["exact"].max() or 0) > LONGEST_HOURS:
        raise InvalidData(f"table '{name}': a time of {frame['exact'].max():g} h; hours since admission are expected")
    kept = frame.filter(pl.col("exact").is_not_null() & (pl.col("exact") > -0.5))
    account.drop(name, "time", "before admission or without a time", frame.height - kept.height)
    return kept.with_columns(pl.col("exact").round().cast(pl.Int64).alias("hour")).drop("exact", "time")


def place(dyn: pl.DataFrame, stays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Record and hour of every row of `dyn` that belongs to one of the stays (sorted): two (rows,) int64 arrays."""
    kept = dyn.filter(pl.col("stay_id").is_in(stays.tolist()))
    return np.searchsorted(stays, kept["stay_id"].to_numpy()), kept["hour"].to_numpy()


def dynamic(
    dyn: pl.DataFrame, variables: dict[str, Hourly], stays: np.ndarray, visits: int, account: Account
) -> Stream:
    """One modality, (records, visits, variables); a column that the table lacks is a channel nobody observes."""
    rows, hours = place(dyn, stays)
    kept = dyn.filter(pl.col("stay_id").is_in(stays.tolist()))
    values = np.full((len(stays), visits, len(variables)), np.nan, np.float32)
    for channel, (name, variable) in enumerate(variables.items()):
        if name in dyn.columns:
            values[rows, hours, channel] = in_range("dyn", kept[name], variable, account)
    time = np.tile(np.arange(1, visits + 1, dtype=np.float64), (len(stays), 1))
    units = tuple(v.unit for v in variables.values())
    return Stream(np.nan_to_num(values), ~np.isnan(values), tuple(variables), units, time)


def in_range(table: str, column: pl.Series, variable: Hourly, account: Account) -> np.ndarray:
    """A column as float, NaN where missing or outside the variable's range; what is outside is counted."""
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean or column.dtype == pl.Null):
        raise InvalidData(f"table '{table}', column '{column.name}': {column.dtype}, not numbers")
    values = column.cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
    outside = ~np.isnan(values) & ~((values >= variable.low) & (values <= variable.high))
    reason = f"outside {variable.low:g} to {variable.high:g} {variable.unit}"
    account.drop(table, column.name, reason, int(outside.sum()))
    values[outside] = np.nan
    return values


def static(sta: pl.DataFrame, stays: np.ndarray, account: Account) -> Stream:
    """Age, sex, height and weight, (records, 1, 4)."""
    sta = sta.filter(pl.col("stay_id").is_in(stays.tolist()))
    rows = np.searchsorted(stays, sta["stay_id"].to_numpy())
    if "sex" in sta.columns:
        words = sta["sex"].cast(pl.String).str.to_lowercase()
        male = words.replace_strict(SEX, default=None, return_dtype=pl.Float64)
        account.drop("sta", "sex", "neither male nor female", int((words.is_not_null() & male.is_null()).sum()))
        sta = sta.with_columns(male.alias("male"))
    values = np.full((len(stays), 1, len(STATIC)), np.nan, np.float32)
    for channel, (name, variable) in enumerate(STATIC.items()):
        if name in sta.columns:
            values[rows, 0, channel] = in_range("sta", sta[name], variable, account)
    return Stream(np.nan_to_num(values), ~np.isnan(values), tuple(STATIC), tuple(v.unit for v in STATIC.values()))


def kind_of(label: pl.Series) -> str:
    """binary where every label is 0, 1 or missing; else regression. Refuses labels that are not numbers."""
    if not (label.dtype.is_numeric() or label.dtype == pl.Boolean):
        raise InvalidData(f"table 'outc', column 'label': {label.dtype}, not numbers")
    return "binary" if label.drop_nulls().cast(pl.Float64).is_in([0.0, 1.0]).all() else "regression"


def place_labels(
    outc: pl.DataFrame, stays: np.ndarray, visits: int, length: np.ndarray, account: Account
) -> np.ndarray:
    """Labels, (records,) or (records, visits) float64, NaN where there is none."""
    kept = outc.filter(pl.col("stay_id").is_in(stays.tolist()))
    account.drop("outc", "label", "stay without hourly rows", outc.height - kept.height)
    rows = np.searchsorted(stays, kept["stay_id"].to_numpy())
    given = kept["label"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    if "hour" not in kept.columns:
        labels = np.full(len(stays), np.nan)
        labels[rows] = given
        return labels
    hours = kept["hour"].to_numpy()
    inside = hours < length[rows]
    account.drop("outc", "label", "after the last hourly row", int((~inside).sum()))
    labels = np.full((len(stays), visits), np.nan)
    labels[rows[inside], hours[inside]] = given[inside]
    return labels
