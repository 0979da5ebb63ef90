"""Charted values into hours: placed in a stay, checked, counted, summed up by hour, item by item.

Part by part (`staging`). Sums are kept as whole millionths, which add up to the same bits in any order.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32

from real_data.account import Account
from real_data.mimic_iv import staging
from real_data.mimic_iv.layout import Layout
from real_data.mimic_iv.staging import Staged, key_of
from real_data.mimic_iv.stays import Rules, hours
from real_data.mimic_iv.variables import FRACTIONS, GASES, Variable

MICRO = 1e6
SLACK = 1e-9  # a converted value on the edge of its range is inside
OUTSIDE = {"stay_id": "stay not in the cohort", "subject_id": "outside every stay of the cohort"}


@dataclass(frozen=True)
class Hours:
    """Values of variables by the hour; an hour without any is unobserved and 0."""

    names: tuple[str, ...]
    values: Float32[np.ndarray, "stays hours variables"]
    observed: Bool[np.ndarray, "stays hours variables"]

    @classmethod
    def empty(cls, stays: int, hours: int, variables: tuple[Variable, ...]) -> Hours:
        shape = (stays, hours, len(variables))
        return cls(tuple(v.name for v in variables), np.zeros(shape, np.float32), np.zeros(shape, bool))

    def add(self, rows: pl.DataFrame, hour: str, variables: tuple[Variable, ...]) -> None:
        """Fill in the hours of these rows: mean or sum of `micro` by row (of the stays), hour and variable.

        All rows of a stay and variable come in one call. Rows after the last hour are passed over.
        """
        places = {v.name: self.names.index(v.name) for v in variables if v.name in self.names}
        here = (pl.col(hour) < self.values.shape[1]) & pl.col("variable").is_in(list(places))
        rows = rows.select("row", hour, "variable", "micro").filter(here)
        sums = rows.group_by("row", hour, "variable").agg(pl.len().alias("n"), pl.col("micro").sum())
        mean = sums["variable"].is_in([v.name for v in variables if v.how == "mean"]).to_numpy()
        total = sums["micro"].to_numpy() / MICRO
        column = sums["variable"].replace_strict(places, return_dtype=pl.Int64).to_numpy()
        at = (sums["row"].to_numpy(), sums[hour].to_numpy(), column)
        self.values[at] = np.where(mean, total / sums["n"].to_numpy(), total)
        self.observed[at] = True


def readings(
    layout: Layout, folder: Path, stays: pl.DataFrame, variables: tuple[Variable, ...], rules: Rules, account: Account
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Good rows of every table, part by part: (table, rows), staged below folder.

    Columns row (of `stays`), variable, itemid, hour, t, drawn_hour, drawn, micro. t and hour: when the value was known,
    in hours since in-time; drawn and drawn_hour: when it was measured (a laboratory's specimen; never before 0). All of
    the stay, also after rules.max_hours. The account is complete: every row is used in the streams, or dropped for one
    reason.
    """
    foreign = staging.not_arterial(layout)
    for table in sorted({v.table for v in variables}):
        part_of = tuple(v for v in variables if v.table == table)
        items = item_table(part_of)
        staged = staging.stage(layout, table, staging.typed(layout, table, items["itemid"].to_list()), folder)
        for rows in staged.read():
            yield table, sound(staged, rows, items, stays, rules, account, foreign)
        shutil.rmtree(staged.folder, ignore_errors=True)


def sound(
    staged: Staged,
    rows: pl.LazyFrame,
    items: pl.DataFrame,
    stays: pl.DataFrame,
    rules: Rules,
    account: Account,
    foreign: list[int],
) -> pl.DataFrame:
    """The good rows of one part (columns as in `readings`); all others are counted in the account."""
    rows = staging.unread(rows, staged.table, account)
    whole = flagged(staging.once(rows), staged.table, items, stays, rules, foreign).collect(engine="streaming")
    inside = whole.filter(pl.col("inside"))
    lost = inside.filter(pl.col("reason").is_not_null()).group_by("itemid", "reason").len().sort("itemid", "reason")
    for itemid, reason, n in lost.iter_rows():
        account.drop(staged.table, str(itemid), reason, n)
    totals = whole.group_by("itemid").agg(
        pl.col("inside").sum().cast(pl.Int64).alias("n"),
        pl.col("first").sum().cast(pl.Int64).alias("seen"),
        ((pl.col("copies") - 1) * pl.col("first")).sum().alias("again"),
    )
    for itemid, n, seen, again in totals.sort("itemid").iter_rows():
        account.drop(staged.table, str(itemid), "duplicate row", again)
        account.drop(staged.table, str(itemid), OUTSIDE[staged.key], max(0, seen - n))
    good = inside.filter(pl.col("reason").is_null() | (pl.col("reason") == later(rules)))
    known = good.filter(pl.col("reason").is_null())
    for itemid, n in known.group_by("itemid").len().sort("itemid").iter_rows():
        account.use(staged.table, str(itemid), n)
    if staged.key == "subject_id":
        account.fact("laboratory values without storetime, taken at charttime", known["untold"].sum())
    return good.select("row", "variable", "itemid", "hour", "t", "drawn_hour", "drawn", "micro")


def flagged(
    rows: pl.LazyFrame, table: str, items: pl.DataFrame, stays: pl.DataFrame, rules: Rules, foreign: list[int]
) -> pl.LazyFrame:
    """Rows (each once) with the reason why they may not enter, or null.

    Columns as in `readings`, and reason, copies, inside and first (see `in_stay`), untold (no storetime). A value that
    is wrong in itself is counted as such wherever it lies.
    """
    unit = pl.col("valueuom").str.strip_chars().str.to_lowercase()
    spelled = items.select("itemid", pl.col("units").alias("unit")).explode("unit").drop_nulls()
    spelled = spelled.with_columns(pl.lit(True).alias("spelled")).unique()
    rows = rows.with_columns(unit.alias("unit")).join(items.drop("units").lazy(), on="itemid")
    rows = rows.join(spelled.lazy(), on=["itemid", "unit"], how="left").with_columns(*value())
    wrong = wrong_in_itself()
    if foreign and "specimen_id" in rows.collect_schema().names():
        gas = pl.col("itemid").is_in(list(GASES)) & pl.col("specimen_id").is_in(foreign)
        wrong = pl.when(gas.fill_null(False)).then(pl.lit("specimen not arterial")).otherwise(wrong)
    rows = in_stay(rows.with_columns(wrong.alias("wrong")), table, stays, rules)
    reason = pl.coalesce("wrong", misplaced(rules))
    return rows.select(
        "row",
        "variable",
        "itemid",
        "hour",
        "t",
        "drawn",
        pl.min_horizontal("hour", pl.col("drawn").floor().cast(pl.Int64)).alias("drawn_hour"),
        (pl.col("shown") * MICRO).round().cast(pl.Int64, strict=False).alias("micro"),
        pl.when(pl.col("inside")).then(reason).alias("reason"),
        "copies",
        "inside",
        "first",
        "untold",
    )


def item_table(variables: tuple[Variable, ...]) -> pl.DataFrame:
    """One row an item: itemid, its variable, range, conversion, spellings of its unit."""
    rows = [
        {
            "itemid": item.itemid,
            "variable": v.name,
            "low": float(v.low),
            "high": float(v.high),
            "factor": float(item.factor),
            "offset": float(item.offset),
            "units": list(item.units),
            "outside": f"outside {v.low:g} to {v.high:g} {v.unit}",
        }
        for v in variables
        for item in v.items
    ]
    return pl.DataFrame(rows, schema_overrides={"itemid": pl.Int64, "units": pl.List(pl.String)})


def once(layout: Layout, table: str, itemids: list[int] | None) -> pl.LazyFrame:
    """The rows of these items (None: all), typed; rows alike in every column read become one, with its `copies`."""
    return staging.once(staging.typed(layout, table, itemids))


def value() -> list[pl.Expr]:
    """`shown`: the number in the variable's unit; `unit_known`: whether its unit is one of the item's."""
    number = staging.said()
    for name, (low, high) in FRACTIONS.items():
        fraction = (pl.col("variable") == name) & (number >= low) & (number <= high)
        number = pl.when(fraction).then(number * 100).otherwise(number)
    known = pl.col("unit").is_null() | (pl.col("unit") == "") | pl.col("spelled").fill_null(False)
    return [(number * pl.col("factor") + pl.col("offset")).alias("shown"), known.alias("unit_known")]


def wrong_in_itself() -> pl.Expr:
    """Why a value may not enter wherever it lies: its unit, no number, its range. Null when it may."""
    # What is subtracted (irrigant) is held to the range as it was measured.
    measured = pl.when(pl.col("factor") < 0).then(-pl.col("shown")).otherwise("shown")
    return (
        pl.when(~pl.col("unit_known"))
        # Words are made of the odd units alone: there are few.
        .then(pl.format("unknown unit '{}'", pl.when(~pl.col("unit_known")).then("valueuom")))
        .when(measured.is_null())
        .then(pl.lit("no number"))
        .when((measured < pl.col("low") - SLACK) | (measured > pl.col("high") + SLACK))
        .then(pl.col("outside"))
    )


def in_stay(rows: pl.LazyFrame, table: str, stays: pl.DataFrame, rules: Rules) -> pl.LazyFrame:
    """Rows joined with their stay: `row` (its place in `stays`), `t` (hours since intime), hour, los_h, death_h.

    A laboratory value counts from its storetime, when it was known, not from its charttime, when it was drawn.

    By stay_id where the table has one. A laboratory row has none, and its hadm_id is often empty: it meets all stays of
    its subject and belongs to the one that holds its time. `inside`: this is the row's stay (or the value is wrong in
    itself, and is counted once). `first`: of all copies of a row that meets several stays, the one that counts it.
    """
    key = key_of(table)
    at = stays.with_row_index("row").select(
        "row", key, "intime", "end_h", "los_h", "death_h", pl.col(key).is_first_distinct().alias("first")
    )
    told = "storetime" in rows.collect_schema().names()
    stored = pl.col("storetime") if told and key == "subject_id" else pl.lit(None, pl.Datetime("us"))
    known = pl.max_horizontal("charttime", stored) if rules.labs_at == "storetime" else pl.col("charttime")
    known = pl.when(pl.col("charttime").is_not_null()).then(known)
    rows = rows.with_columns(known.alias("known"), stored.is_null().alias("untold"))
    joined = rows.join(at.lazy(), on=key, how="left").with_columns(
        hours("known", "intime").alias("t"),
        hours("charttime", "intime").clip(0).alias("drawn"),
        pl.col("first").fill_null(True),
    )
    t, wrong = pl.col("t"), pl.col("wrong").is_not_null()
    held = pl.col("row").is_not_null()
    if key == "subject_id":
        held = held & (t >= 0) & (t <= pl.col("los_h"))
    inside = pl.when(wrong).then(pl.col("first")).otherwise(held.fill_null(False))
    # A value at the very end of a stay belongs to its last hour.
    last = pl.when(t == pl.col("end_h")).then(pl.col("end_h").ceil() - 1)
    hour = pl.coalesce(last, t.floor()).cast(pl.Int64)
    joined = joined.with_columns(inside.alias("inside"), hour.alias("hour"))
    return joined.filter(pl.col("inside") | pl.col("first"))


def misplaced(rules: Rules) -> pl.Expr:
    """Why a row of a stay may not enter its hours: its time. Null when it may."""
    t = pl.col("t")
    return (
        pl.when(t.is_null())
        .then(pl.lit("no usable time"))
        .when(t < 0)
        .then(pl.lit("before the stay"))
        .when(t > pl.col("death_h"))
        .then(pl.lit("after death"))
        .when(t > pl.col("los_h"))
        .then(pl.lit("after out-time"))
        .when(pl.col("hour") >= rules.max_hours)
        .then(pl.lit(later(rules)))
    )


def later(rules: Rules) -> str:
    """The reason of rows that only labels look at."""
    return f"after hour {rules.max_hours}"
