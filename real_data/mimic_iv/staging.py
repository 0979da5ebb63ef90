"""The rows of a table that are needed, typed, in files of their own; read back in parts that fit in memory.

One pass over the compressed table, in a stream that sends each row to the file of its part. A part holds all rows of
its stays (or of its subjects), so that duplicates and sums are found part by part, and memory follows the part, not
the release. Nothing here may look at more than a row at a time, or the stream would gather the whole table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from real_data.account import Account
from real_data.mimic_iv.layout import Layout, integers, numbers, times
from real_data.mimic_iv.variables import ARTERIAL, SPECIMEN, WORDS

# A part is so many bytes of the table's file: about a million needed rows of a release.
BYTES_AT_ONCE = {".gz": 32_000_000, ".csv": 400_000_000}
MOST_PARTS = 128  # files that are written at once; each holds back ROW_GROUP rows at most
ROW_GROUP = 50_000
BOUND = r"^\s*[<>]=?\s*([0-9]+\.?[0-9]*)\s*$"  # a laboratory's "<0.01": the bound itself is taken
VALUE_COLUMN = {"icu/chartevents": "valuenum", "hosp/labevents": "valuenum", "icu/outputevents": "value"}
IDS = ("subject_id", "stay_id", "itemid", "specimen_id")


@dataclass(frozen=True)
class Staged:
    """One table's needed rows in parquet files below folder: parts by the key that places them (stay or subject)."""

    table: str
    folder: Path
    key: str
    empty: pl.DataFrame  # no row, all columns: what a table without needed rows gives

    def read(self) -> Iterator[pl.LazyFrame]:
        """The parts, one after the other; a row is in exactly one (rows without a key: in the first)."""
        found = sorted(self.folder.glob("part=*"))
        for part in found:
            yield pl.scan_parquet(sorted(part.glob("*.parquet")), hive_partitioning=False)
        if not found:
            yield self.empty.lazy()


def key_of(table: str) -> str:
    """Laboratory rows carry a subject, all others a stay."""
    return "stay_id" if table.startswith("icu/") else "subject_id"


def parts_of(path: Path) -> int:
    """Into how many parts the rows of this file go."""
    at_once = BYTES_AT_ONCE[".gz" if path.name.lower().endswith(".gz") else ".csv"]
    return min(MOST_PARTS, max(1, math.ceil(path.stat().st_size / at_once)))


def stage(layout: Layout, table: str, rows: pl.LazyFrame, folder: Path) -> Staged:
    """Write these rows of the table below folder, in one pass. Raises InvalidData where the file is damaged."""
    staged = Staged(table, folder / table.replace("/", "-"), key_of(table), rows.collect_schema().to_frame())
    place = pl.col(staged.key).fill_null(0) % parts_of(layout.paths[table])
    files = pl.PartitionBy(staged.folder, key=place.alias("part"), include_key=False)
    layout.sink(table, rows, files, row_group_size=ROW_GROUP)
    return staged


def typed(layout: Layout, table: str, itemids: list[int] | None) -> pl.LazyFrame:
    """The rows of these items (None: all) with their types and, in place of the value columns, `number` and `word`.

    number: as stored, or the bound of a laboratory's "<0.01". word: what a scale's row says that has no number.
    """
    rows = layout.scan(table)
    columns = rows.collect_schema().names()
    if itemids is not None:
        rows = rows.filter(of_items(itemids))
    rows = rows.with_columns(
        *integers(*(c for c in IDS if c in columns)),
        *times("charttime"),
        *when_stored(table, columns),
        *number(table, columns),
    )
    return rows.select(*(c for c in columns if c not in ("value", "valuenum")), "number", "word")


def of_items(itemids: list[int]) -> pl.Expr:
    """Rows of these items, and rows whose item cannot be read: those are counted, not passed over (`unread`)."""
    item = pl.col("itemid")
    damaged = item.is_null() | item.str.contains("\x00", literal=True)  # a row cut short; NUL bytes
    return item.str.strip_chars().is_in([str(i) for i in itemids]) | damaged


def unread(rows: pl.LazyFrame, table: str, account: Account) -> pl.LazyFrame:
    """The staged rows that have an item; the others are counted."""
    lost = rows.filter(pl.col("itemid").is_null()).select(pl.len()).collect().item()
    account.drop(table, "?", "no readable itemid", lost)
    return rows.filter(pl.col("itemid").is_not_null()) if lost else rows


def when_stored(table: str, columns: list[str]) -> list[pl.Expr]:
    """storetime: a time in the laboratory's table; elsewhere it only tells rows apart, and a hash of it does that."""
    if "storetime" not in columns:
        return []
    return times("storetime") if key_of(table) == "subject_id" else [pl.col("storetime").hash()]


def number(table: str, columns: list[str]) -> list[pl.Expr]:
    """The expressions `number` and `word` (see `typed`). Text is looked at where there is no number alone."""
    column = VALUE_COLUMN[table]
    shown, word = numbers(column)[0], pl.lit(None, pl.String)
    if column == "valuenum" and "value" in columns:
        silent = pl.when(shown.is_null()).then("value")
        if table == "hosp/labevents":
            shown = pl.coalesce(shown, silent.str.extract(BOUND, 1).cast(pl.Float64, strict=False))
        else:
            scale = pl.col("itemid").str.strip_chars().is_in([str(i) for i in WORDS])
            word = pl.when(scale).then(silent).str.strip_chars().str.to_lowercase()
    return [shown.alias("number"), word.alias("word")]


def said() -> pl.Expr:
    """`number`, or where there is none that of the scale's word."""
    known = {f"{itemid} {word}": float(n) for itemid, words in WORDS.items() for word, n in words.items()}
    words = pl.format("{} {}", "itemid", "word").replace_strict(known, default=None, return_dtype=pl.Float64)
    return pl.coalesce("number", words)


def once(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows alike in every column become one, with its `copies`."""
    return rows.group_by(rows.collect_schema().names()).agg(pl.len().cast(pl.Int64).alias("copies"))


def not_arterial(layout: Layout) -> list[int]:
    """Specimens that the laboratory calls other than arterial; none where the table has no specimens."""
    if "specimen_id" not in layout.headers["hosp/labevents"]:
        return []
    rows = layout.scan("hosp/labevents").filter(pl.col("itemid").str.strip_chars() == str(SPECIMEN))
    kind = pl.col("value").str.strip_chars().str.to_uppercase()
    rows = rows.filter(kind.is_not_null() & (kind != ARTERIAL) & (kind != "___") & (kind != ""))
    (found,) = layout.collect("hosp/labevents", rows.select(*integers("specimen_id")))
    return sorted(set(found["specimen_id"].drop_nulls().to_list()))
