"""The rows of a table that are needed, typed, in a file of their own; read back in parts that fit in memory.

One pass over the compressed table, in a stream. A part holds all rows of its stays (or of its subjects), so that
duplicates and sums are found part by part, and memory follows the part, not the release.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from real_data.mimic_iv.layout import Layout, integers, numbers, times
from real_data.mimic_iv.variables import ARTERIAL, SPECIMEN, WORDS

ROWS_AT_ONCE = 750_000
BOUND = r"^\s*[<>]=?\s*([0-9]+\.?[0-9]*)\s*$"  # a laboratory's "<0.01": the bound itself is taken
VALUE_COLUMN = {"icu/chartevents": "valuenum", "hosp/labevents": "valuenum", "icu/outputevents": "value"}
IDS = ("subject_id", "stay_id", "itemid", "specimen_id")


@dataclass(frozen=True)
class Staged:
    """One table's needed rows in parquet: parts by the key that places them (stay or subject)."""

    table: str
    path: Path
    key: str
    rows: int

    @property
    def parts(self) -> int:
        return max(1, math.ceil(self.rows / ROWS_AT_ONCE))

    def read(self) -> Iterator[pl.LazyFrame]:
        """The parts, one after the other; a row is in exactly one (rows without a key: in the first)."""
        frame = pl.scan_parquet(self.path)
        for part in range(self.parts):
            yield frame.filter((pl.col(self.key).fill_null(0) % self.parts) == part) if self.parts > 1 else frame


def key_of(table: str) -> str:
    """Laboratory rows carry a subject, all others a stay."""
    return "stay_id" if table.startswith("icu/") else "subject_id"


def stage(layout: Layout, table: str, itemids: list[int], folder: Path) -> Staged:
    """Write the table's rows of these items, typed, below folder. Raises InvalidData where the file is damaged."""
    path = folder / f"{table.replace('/', '-')}.parquet"
    layout.sink(table, typed(layout, table, itemids), path)
    return Staged(table, path, key_of(table), pl.scan_parquet(path).select(pl.len()).collect().item())


def typed(layout: Layout, table: str, itemids: list[int] | None) -> pl.LazyFrame:
    """The rows of these items (None: all) with their types and, in place of the value columns, `number`."""
    rows = layout.scan(table)
    columns = rows.collect_schema().names()
    item = pl.col("itemid").str.strip_chars()
    if itemids is not None:
        rows = rows.filter(item.is_in([str(i) for i in itemids]))
    rows = rows.with_columns(
        *integers(*(c for c in IDS if c in columns)),
        *times("charttime"),
        *when_stored(table, columns),
        *number(table, columns),
    )
    return rows.select(*(c for c in columns if c not in ("value", "valuenum")), "number")


def when_stored(table: str, columns: list[str]) -> list[pl.Expr]:
    """storetime: a time in the laboratory's table; elsewhere it only tells rows apart, and a hash of it does that."""
    if "storetime" not in columns:
        return []
    return times("storetime") if key_of(table) == "subject_id" else [pl.col("storetime").hash()]


def number(table: str, columns: list[str]) -> list[pl.Expr]:
    """`number`, as stored; where there is none, the bound of a "<0.01", or the number of a scale's words."""
    column = VALUE_COLUMN[table]
    shown = numbers(column)[0]
    if column == "valuenum" and "value" in columns:
        if table == "hosp/labevents":
            shown = pl.coalesce(shown, pl.col("value").str.extract(BOUND, 1).cast(pl.Float64, strict=False))
        else:
            # Words are looked up where there is no number alone: nearly all rows have one.
            silent = pl.when(pl.col("valuenum").is_null()).then("value").str.strip_chars().str.to_lowercase()
            said = pl.concat_str(pl.when(silent.is_not_null()).then("itemid").str.strip_chars(), pl.lit(" "), silent)
            known = {f"{itemid} {word}": float(n) for itemid, words in WORDS.items() for word, n in words.items()}
            shown = pl.coalesce(shown, said.replace_strict(known, default=None, return_dtype=pl.Float64))
    return [shown.alias("number")]


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



