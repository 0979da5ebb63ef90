"""Where the tables of a MIMIC-IV folder lie, and how each is read: by column name, as text, then given its types.

`hosp/` and `icu/` may lie in the folder itself, below a version or physionet.org parent, or their tables all in one
folder. Every table is checked before any is read: there, in one form only, with its columns.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl

from simlab.errors import InvalidData

T = TypeVar("T")
DEEPEST = 6  # folders below the given one that are searched: physionet.org/files/mimiciv/3.1/hosp is 5
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"

# The columns that are needed, by table; and those that are read where they exist.
COLUMNS = {
    "hosp/patients": "subject_id gender anchor_age anchor_year dod",
    "hosp/admissions": "subject_id hadm_id admittime dischtime deathtime admission_type hospital_expire_flag",
    "icu/icustays": "subject_id hadm_id stay_id first_careunit intime outtime",
    "icu/chartevents": "stay_id charttime itemid valuenum valueuom",
    "hosp/labevents": "subject_id charttime itemid value valuenum valueuom",
    "icu/inputevents": "stay_id starttime endtime itemid amount amountuom rate rateuom statusdescription patientweight",
    "icu/outputevents": "stay_id charttime itemid value valueuom",
    "icu/procedureevents": "stay_id starttime endtime itemid statusdescription",
}
OPTIONAL = {
    "icu/chartevents": "storetime value",
    "hosp/labevents": "storetime specimen_id",
    "icu/inputevents": "storetime orderid",
    "icu/outputevents": "storetime",
    "icu/procedureevents": "storetime orderid",
}
# Tables that are read where they exist: what they alone hold is missing without them, and that is said.
EXTRA = {"hosp/microbiologyevents": "subject_id charttime chartdate spec_type_desc"}


class Missing(InvalidData):
    """A table that is not there."""


@dataclass(frozen=True)
class Layout:
    """The tables of one release: where each lies, and its columns in the file's order (lower case: as spelled)."""

    root: Path
    paths: dict[str, Path]
    headers: dict[str, dict[str, str]]

    def scan(self, table: str) -> pl.LazyFrame:
        """A lazy frame of the table's columns (needed and optional), all text; empty fields are null."""
        header = self.headers[table]
        frame = pl.scan_csv(
            self.paths[table],
            # Named by our own reading of the header, so that nothing of the file is read before a query runs. There it
            # is read again: the header, and not the first row, says how many columns there are.
            schema=dict.fromkeys(header.values(), pl.String),
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
        )
        return frame.select(pl.col(header[c]).alias(c) for c in wanted_columns(table) if c in header)

    def collect(self, table: str, *frames: pl.LazyFrame) -> list[pl.DataFrame]:
        """Run queries over a table in a stream. Raises InvalidData when its file cannot be read to the end."""
        return self._whole(table, lambda: [frame.collect(engine="streaming") for frame in frames])

    def sink(self, table: str, frame: pl.LazyFrame, files: pl.PartitionBy, row_group_size: int) -> None:
        """Write a query over a table to parquet files, in a stream. Raises InvalidData like `collect`."""
        how = {"compression": "uncompressed", "row_group_size": row_group_size, "maintain_order": False, "mkdir": True}
        self._whole(table, lambda: frame.sink_parquet(files, **how))

    def _whole(self, table: str, work: Callable[[], T]) -> T:
        try:
            return work()
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            if "No space left" in reason:
                raise InvalidData(
                    f"table {table}: its scratch files do not fit in {tempfile.gettempdir()} ({reason}); set TMPDIR to "
                    "a folder with room"
                ) from error
            raise InvalidData(f"table {table}: {self.paths[table]} cannot be read to its end ({reason})") from error


def wanted_columns(table: str) -> list[str]:
    return COLUMNS.get(table, EXTRA.get(table, "")).split() + OPTIONAL.get(table, "").split()


def find(folder: Path) -> Layout:
    """The layout of a folder. Raises InvalidData naming the table or column and where it was looked for."""
    root = find_root(folder)
    inside = {p.name.lower(): p for p in root.iterdir() if p.is_dir()}
    paths = {}
    for table in COLUMNS:
        part, name = table.split("/")
        paths[table] = find_table(table, name, inside.get(part, root))
    for table in EXTRA:
        part, name = table.split("/")
        with contextlib.suppress(Missing):
            paths[table] = find_table(table, name, inside.get(part, root))
    return Layout(root, paths, {table: read_header(table, path) for table, path in paths.items()})


def find_root(folder: Path) -> Path:
    """The folder that holds hosp/ and icu/, or all tables: the given one, else the only one below it."""
    if is_root(folder):
        return folder
    found = sorted(p for p in below(folder) if is_root(p))
    if len(found) > 1:
        names = ", ".join(str(p.relative_to(folder)) for p in found[:4])
        raise InvalidData(f"{folder} holds {len(found)} releases ({names}): name one of them")
    if not found:
        hint = " (name the folder above it)" if folder.name.lower() in ("hosp", "icu") else ""
        raise InvalidData(
            f"no MIMIC-IV tables: looked in {folder} and {DEEPEST} levels below it for hosp/ and icu/, "
            f"or for icustays.csv.gz{hint}"
        )
    return found[0]


def is_root(folder: Path) -> bool:
    """Whether hosp/ or icu/ lies here, or the table of stays itself (all tables in one folder)."""
    try:
        names = {p.name.lower() for p in folder.iterdir()}
    except OSError:
        return False
    if folder.name.lower() in ("hosp", "icu"):
        return bool(names & {"icustays.csv", "icustays.csv.gz"}) and bool(names & {"patients.csv", "patients.csv.gz"})
    return bool(names & {"hosp", "icu", "icustays.csv", "icustays.csv.gz"})


def below(folder: Path) -> Iterable[Path]:
    """Folders below this one, to a depth of DEEPEST, without following links."""
    start = len(folder.parts)
    for here, folders, _ in os.walk(folder):
        if len(Path(here).parts) - start >= DEEPEST:
            folders.clear()
        yield from (Path(here) / name for name in sorted(folders))


def find_table(table: str, name: str, folder: Path) -> Path:
    """The one file of a table in its folder."""
    wanted = (f"{name}.csv", f"{name}.csv.gz")
    found = sorted(p for p in folder.iterdir() if p.name.lower() in wanted)
    if len(found) > 1:
        raise InvalidData(
            f"table {table}: both {found[0].name} and {found[1].name} are in {folder}; keep one, so that no row is "
            "read twice or from an older copy"
        )
    if not found:
        raise Missing(f"table {table} is missing: looked for {wanted[0]} and {wanted[1]} in {folder}")
    return found[0]


def read_header(table: str, path: Path) -> dict[str, str]:
    """The columns, in lower case, and how the file spells each. Raises InvalidData for an empty file, a column that is
    missing or there twice."""
    try:
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as f:
            line = f.readline(1 << 16)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidData(f"table {table}: {path} cannot be read ({error})") from error
    spelled = next(csv.reader([line.decode("utf-8-sig", "replace")]), [])
    header = [name.strip().lower() for name in spelled]
    if not any(header):
        raise InvalidData(f"table {table}: {path} is empty")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InvalidData(f"table {table}: column '{twice[0]}' is there twice in {path}")
    missing = [name for name in COLUMNS.get(table, EXTRA.get(table, "")).split() if name not in header]
    if missing:
        raise InvalidData(
            f"table {table}: no column '{missing[0]}' in {path} (its columns: {', '.join(header[:12])}"
            f"{', ...' if len(header) > 12 else ''})"
        )
    return dict(zip(header, spelled, strict=True))


def integers(*names: str) -> list[pl.Expr]:
    """These text columns as integers, null where they are not."""
    return [pl.col(n).str.strip_chars().cast(pl.Int64, strict=False) for n in names]


def numbers(*names: str) -> list[pl.Expr]:
    """These text columns as floats, null where they are not finite numbers."""
    parsed = [pl.col(n).str.strip_chars().cast(pl.Float64, strict=False) for n in names]
    return [pl.when(p.is_finite()).then(p) for p in parsed]


def times(*names: str) -> list[pl.Expr]:
    """These text columns as date-times, null where they are not."""
    return [pl.col(n).str.strip_chars().str.to_datetime(TIME_FORMAT, strict=False, time_unit="us") for n in names]


def dates(*names: str) -> list[pl.Expr]:
    """These text columns as date-times, a bare date as its midnight, null where they are neither."""
    days = [pl.col(n).str.strip_chars().str.to_datetime("%Y-%m-%d", strict=False, time_unit="us") for n in names]
    return [pl.coalesce(time, day).alias(n) for time, day, n in zip(times(*names), days, names, strict=True)]
