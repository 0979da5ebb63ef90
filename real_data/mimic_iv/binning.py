"""Charted values into hours: placed in a stay, checked, counted, summed up by hour, item by item.

One pass over a table, in a stream. Sums are kept as whole millionths, which add up to the same bits in any order.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from real_data.account import Account
from real_data.mimic_iv.layout import Layout, integers, numbers, times
from real_data.mimic_iv.stays import Rules, hours
from real_data.mimic_iv.variables import FRACTIONS, Variable

MICRO = 1e6
BOUND = r"^\s*[<>]=?\s*([0-9]+\.?[0-9]*)\s*$"  # a laboratory's "<0.01": the bound itself is taken
SLACK = 1e-9  # a converted value on the edge of its range is inside
OUTSIDE = {"stay_id": "stay not in the cohort", "subject_id": "outside every stay of the cohort"}
VALUE_COLUMN = {"icu/chartevents": "valuenum", "hosp/labevents": "valuenum", "icu/outputevents": "value"}


def state(
    layout: Layout, stays: pl.DataFrame, variables: tuple[Variable, ...], rules: Rules, account: Account
) -> tuple[np.ndarray, np.ndarray]:
    """Values and mask of the state stream, (stays, max_hours, variables) float32 and bool; stays in the given order."""
    shape = (stays.height, rules.max_hours, len(variables))
    values, observed = np.zeros(shape, np.float32), np.zeros(shape, bool)
    for table in sorted({v.table for v in variables}):
        part = tuple(v for v in variables if v.table == table)
        hourly = sum_up(layout, table, stays, part, rules, account)
        for v in part:
            rows = hourly.filter(pl.col("variable") == v.name)
            at = (rows["row"].to_numpy(), rows["hour"].to_numpy(), variables.index(v))
            total = rows["micro"].to_numpy() / MICRO
            values[at] = total / rows["n"].to_numpy() if v.how == "mean" else total
            observed[at] = True
    return values, observed


def sum_up(
    layout: Layout, table: str, stays: pl.DataFrame, variables: tuple[Variable, ...], rules: Rules, account: Account
) -> pl.DataFrame:
    """One table's rows by stay, hour and variable: row (of `stays`), hour, variable, n, micro (the sum in millionths).

    The account is complete: every row of these items is counted here, or dropped for one reason.
    """
    rows = flagged(layout, table, stays, variables, rules)
    groups = rows.group_by("row", "hour", "itemid", "variable", "reason").agg(
        pl.col("inside").sum().cast(pl.Int64).alias("n"),
        pl.col("first").sum().cast(pl.Int64).alias("seen"),
        ((pl.col("copies") - 1) * pl.col("first")).sum().alias("again"),
        (pl.col("micro") * pl.col("inside")).sum().alias("micro"),
    )
    (found,) = layout.collect(table, groups)
    lost = found.filter(pl.col("reason").is_not_null()).group_by("itemid", "reason").agg(pl.col("n").sum())
    for itemid, reason, n in lost.sort("itemid", "reason").iter_rows():
        account.drop(table, str(itemid), reason, n)
    totals = found.group_by("itemid").agg(pl.col("n", "seen", "again").sum()).sort("itemid")
    for itemid, n, seen, again in totals.iter_rows():
        account.drop(table, str(itemid), "duplicate row", again)
        account.drop(table, str(itemid), OUTSIDE[key_of(table)], max(0, seen - n))
    good = found.filter(pl.col("reason").is_null() & (pl.col("n") > 0))
    return good.group_by("row", "hour", "variable").agg(pl.col("n").sum(), pl.col("micro").sum())


def flagged(
    layout: Layout, table: str, stays: pl.DataFrame, variables: tuple[Variable, ...], rules: Rules
) -> pl.LazyFrame:
    """The table's rows of these variables, each with the reason why it may not enter, or null.

    Columns row, hour (null where there is a reason), itemid, variable, reason, copies, micro (the value in millionths),
    inside and first (see `in_stay`). A value that is wrong in itself is counted as such wherever it lies.
    """
    items = item_table(variables)
    rows = once(layout, table, items["itemid"].to_list())
    rows = rows.join(items.lazy(), on="itemid").with_columns(*value())
    rows = in_stay(rows.with_columns(wrong_in_itself().alias("wrong")), table, stays, rules)
    reason = pl.coalesce("wrong", misplaced(rules))
    rows = rows.with_columns(pl.when(pl.col("inside")).then(reason).alias("reason"))
    good = pl.col("inside") & pl.col("reason").is_null()
    return rows.select(
        pl.when(good).then("row").alias("row"),
        pl.when(good).then("hour").alias("hour"),
        "itemid",
        "variable",
        "reason",
        "copies",
        "inside",
        "first",
        pl.when(good).then((pl.col("shown") * MICRO).round().cast(pl.Int64, strict=False)).otherwise(0).alias("micro"),
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
    """The rows of these items (None: all), typed; rows alike in every column read become one, with its `copies`.

    Columns: the table's that are read, but `number` in place of its value columns.
    """
    rows = layout.scan(table)
    columns = rows.collect_schema().names()
    if itemids is not None:
        rows = rows.filter(pl.col("itemid").str.strip_chars().is_in([str(i) for i in itemids]))
    # Typed before they are compared: numbers and times take a third of the memory of their text.
    ids = [c for c in ("subject_id", "stay_id", "itemid", "specimen_id") if c in columns]
    rows = rows.with_columns(
        *integers(*ids), *times(*(c for c in ("charttime", "storetime") if c in columns)), *number(table, columns)
    )
    keys = [*(c for c in columns if c not in ("value", "valuenum")), "number"]
    return rows.group_by(keys).agg(pl.len().cast(pl.Int64).alias("copies"))


def number(table: str, columns: list[str]) -> list[pl.Expr]:
    """`number`, as stored. A laboratory's text such as '<0.01' gives its bound where there is no number."""
    column = VALUE_COLUMN[table]
    shown = numbers(column)[0]
    if column == "valuenum" and "value" in columns:
        shown = pl.coalesce(shown, pl.col("value").str.extract(BOUND, 1).cast(pl.Float64, strict=False))
    return [shown.alias("number")]


def value() -> list[pl.Expr]:
    """`shown`: the number in the variable's unit; `unit_known`: whether its unit is one of the item's."""
    number = pl.col("number")
    for name, (low, high) in FRACTIONS.items():
        fraction = (pl.col("variable") == name) & (number >= low) & (number <= high)
        number = pl.when(fraction).then(number * 100).otherwise(number)
    unit = pl.col("valueuom").str.strip_chars().str.to_lowercase()
    known = unit.is_null() | (unit == "") | pl.col("units").list.contains(unit)
    return [(number * pl.col("factor") + pl.col("offset")).alias("shown"), known.alias("unit_known")]


def wrong_in_itself() -> pl.Expr:
    """Why a value may not enter wherever it lies: its unit, no number, its range. Null when it may."""
    # What is subtracted (irrigant) is held to the range as it was measured.
    measured = pl.when(pl.col("factor") < 0).then(-pl.col("shown")).otherwise("shown")
    return (
        pl.when(~pl.col("unit_known"))
        .then(pl.format("unknown unit '{}'", pl.col("valueuom")))
        .when(measured.is_null())
        .then(pl.lit("no number"))
        .when((measured < pl.col("low") - SLACK) | (measured > pl.col("high") + SLACK))
        .then(pl.col("outside"))
    )


def key_of(table: str) -> str:
    """Laboratory rows carry a subject, all others a stay."""
    return "stay_id" if table.startswith("icu/") else "subject_id"


def in_stay(rows: pl.LazyFrame, table: str, stays: pl.DataFrame, rules: Rules) -> pl.LazyFrame:
    """Rows joined with their stay: `row` (its place in `stays`), `t` (hours since intime), hour, los_h, death_h.

    By stay_id where the table has one. A laboratory row has none, and its hadm_id is often empty: it meets all stays of
    its subject and belongs to the one that holds its time. `inside`: this is the row's stay (or the value is wrong in
    itself, and is counted once). `first`: of all copies of a row that meets several stays, the one that counts it.
    """
    key = key_of(table)
    at = stays.with_row_index("row").select(
        "row", key, "intime", "end_h", "los_h", "death_h", pl.col(key).is_first_distinct().alias("first")
    )
    joined = rows.join(at.lazy(), on=key, how="left").with_columns(
        hours("charttime", "intime").alias("t"), pl.col("first").fill_null(True)
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
        .then(pl.lit(f"after hour {rules.max_hours}"))
    )
