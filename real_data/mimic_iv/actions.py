"""Infusions and procedures, which are intervals, into hours: the mean rate, the amount or the share of each hour."""

from __future__ import annotations

import numpy as np
import polars as pl

from real_data.account import Account
from real_data.mimic_iv.layout import Layout, integers, numbers, times
from real_data.mimic_iv.stays import Rules, hours
from real_data.mimic_iv.variables import Action

REWRITTEN = "rewritten"  # an order that another row replaced
LIGHTEST_KG = 2.0  # a "weight" of 1 kg marks a rate that was never by weight


def action(
    layout: Layout, stays: pl.DataFrame, actions: tuple[Action, ...], rules: Rules, account: Account
) -> np.ndarray:
    """Values of the action stream, (stays, max_hours, actions) float32: 0 in an hour without the action."""
    values = np.zeros((stays.height, rules.max_hours, len(actions)))
    for table in sorted({a.table for a in actions}):
        rows = intervals(layout, table, stays, [i for a in actions if a.table == table for i in a.itemids], account)
        for a in actions:
            if a.table == table:
                add(values[:, :, actions.index(a)], rows.filter(pl.col("itemid").is_in(a.itemids)), a, rules, account)
    return values.astype(np.float32)


def intervals(layout: Layout, table: str, stays: pl.DataFrame, itemids: list[int], account: Account) -> pl.DataFrame:
    """The table's rows of these items in the cohort's stays: row (of `stays`), itemid, start and stop in hours since
    intime, ended (the stay's end_h), and amounts and rates where the table has them. In a fixed order."""
    rows = layout.scan(table)
    columns = rows.collect_schema().names()
    rows = rows.filter(pl.col("itemid").str.strip_chars().is_in([str(i) for i in itemids]))
    rows = rows.group_by(columns).agg(pl.len().cast(pl.Int64).alias("copies"))
    measured = [c for c in ("amount", "rate", "patientweight") if c in columns]
    rows = rows.with_columns(*integers("stay_id", "itemid"), *times("starttime", "endtime"), *numbers(*measured))
    at = stays.with_row_index("row").select("row", "stay_id", "intime", pl.col("end_h").alias("ended")).lazy()
    rows = rows.join(at, on="stay_id", how="left").with_columns(
        hours("starttime", "intime").alias("start"), hours("endtime", "intime").alias("stop")
    )
    (found,) = layout.collect(table, rows)
    for itemid, n in found.group_by("itemid").agg((pl.col("copies") - 1).sum()).sort("itemid").iter_rows():
        account.drop(table, str(itemid), "duplicate row", n)
    return found.sort("row", "itemid", "start", "stop", *measured, nulls_last=True)


def add(out: np.ndarray, rows: pl.DataFrame, a: Action, rules: Rules, account: Account) -> None:
    """Add one action's intervals to its hours, out (stays, max_hours), in place; what cannot enter is counted."""
    speed = {"rate": rate, "amount": amount, "on": lambda *_: (pl.lit(1.0), pl.lit(None, pl.String))}[a.how](a)
    status = pl.col("statusdescription").str.strip_chars().str.to_lowercase()
    reason = (
        pl.when(pl.col("row").is_null())
        .then(pl.lit("stay not in the cohort"))
        .when(status == REWRITTEN)
        .then(pl.lit("rewritten"))
        .when(pl.col("start").is_null() | pl.col("stop").is_null())
        .then(pl.lit("no usable time"))
        .when(pl.col("stop") <= pl.col("start"))
        .then(pl.lit("no duration"))
        .when(pl.col("stop") <= 0)
        .then(pl.lit("before the stay"))
        .when(pl.col("start") >= pl.col("ended"))
        .then(pl.lit("after death or out-time"))
        .when(pl.col("start") >= rules.max_hours)
        .then(pl.lit(f"after hour {rules.max_hours}"))
        .when(speed[1].is_not_null())
        .then(speed[1])
        .when((speed[0] < 0) | (a.how == "rate") & (speed[0] > a.high))
        .then(pl.lit(f"outside 0 to {a.high:g} {a.unit}"))
    )
    rows = rows.with_columns(speed[0].alias("speed"), reason.alias("reason"))
    lost = rows.filter(pl.col("reason").is_not_null()).group_by("itemid", "reason").len().sort("itemid", "reason")
    for itemid, why, n in lost.iter_rows():
        account.drop(a.table, str(itemid), why, n)
    good = rows.filter(pl.col("reason").is_null())
    start = good["start"].to_numpy().clip(0, None)
    stop = np.minimum(np.minimum(good["stop"].to_numpy(), good["ended"].to_numpy()), rules.max_hours)
    spread(out, good["row"].to_numpy(), start, stop, good["speed"].to_numpy())
    if a.how == "on":
        np.minimum(out, 1.0, out=out)  # two overlapping rows do not make it more than on
    over = out > a.high
    account.drop(a.table, a.name, f"hours above {a.high:g} {a.unit}, set to it", int(over.sum()))
    out[over] = a.high


def spread(out: np.ndarray, row: np.ndarray, start: np.ndarray, stop: np.ndarray, speed: np.ndarray) -> None:
    """Add speed * (share of each hour that lies in [start, stop)) to out[row, hour], in the order of the rows."""
    first, beyond = np.floor(start).astype(np.int64), np.ceil(stop).astype(np.int64)
    counts = np.maximum(beyond - first, 0)
    which = np.repeat(np.arange(len(row)), counts)
    hour = first[which] + np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = np.minimum(stop[which], hour + 1) - np.maximum(start[which], hour)
    np.add.at(out, (row[which], hour), speed[which] * share)


def rate(a: Action) -> tuple[pl.Expr, pl.Expr]:
    """The rate in the action's unit, and why there is none (null when there is one)."""
    unit = pl.col("rateuom").str.strip_chars().str.to_lowercase()
    shown, known = pl.lit(None, pl.Float64), pl.lit(False)
    weight = pl.col("patientweight")
    weighed = weight >= LIGHTEST_KG
    no_weight = pl.lit(False)
    for spelling, factor in a.units:
        by_weight = spelling.startswith("kg:")
        this = unit == spelling.removeprefix("kg:")
        value = pl.col("rate") * factor / weight if by_weight else pl.col("rate") * factor
        # A milligram rate "per kg" of a 1 kg patient is off by a factor nobody can know.
        doubtful = ~weighed.fill_null(False) if by_weight or factor >= 1000 else pl.lit(False)
        shown = pl.when(this & ~doubtful).then(value).otherwise(shown)
        known, no_weight = known | this, no_weight | (this & doubtful)
    why = (
        pl.when(pl.col("rate").is_null())
        .then(pl.lit("no rate"))
        .when(~known.fill_null(False))
        .then(pl.format("unknown unit '{}'", pl.col("rateuom").fill_null("")))
        .when(no_weight)
        .then(pl.lit("no usable weight"))
    )
    return shown, why


def amount(a: Action) -> tuple[pl.Expr, pl.Expr]:
    """The amount an hour in the action's unit, spread evenly over the interval, and why there is none."""
    unit = pl.col("amountuom").str.strip_chars().str.to_lowercase()
    factors = dict(a.units)
    factor = unit.replace_strict(factors, default=None, return_dtype=pl.Float64)
    why = (
        pl.when(pl.col("amount").is_null())
        .then(pl.lit("no amount"))
        .when(factor.is_null())
        .then(pl.format("unknown unit '{}'", pl.col("amountuom").fill_null("")))
    )
    return pl.col("amount") * factor / (pl.col("stop") - pl.col("start")), why
