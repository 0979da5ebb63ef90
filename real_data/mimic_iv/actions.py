"""Infusions and procedures, which are intervals, into hours: the mean rate, the amount or the share of each hour."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float32

from real_data.account import Account
from real_data.mimic_iv.layout import Layout, integers, numbers, times
from real_data.mimic_iv.staging import of_items, once, stage, unread
from real_data.mimic_iv.stays import Rules, hours
from real_data.mimic_iv.variables import Action

REWRITTEN = "rewritten"  # an order that another row replaced
DOSE = {"row": pl.Int64, "name": pl.String, "start": pl.Float64}
INTERVAL = {"row": pl.Int64, "name": pl.String, "itemid": pl.Int64, "start": pl.Float64, "stop": pl.Float64,
            "speed": pl.Float64}  # fmt: skip
LIGHTEST_KG = 2.0  # a "weight" of 1 kg marks a rate that was never by weight


@dataclass(frozen=True)
class Given:
    """What was given: by the hour, of whole stays' first hours (for labels), and each interval that counted.

    intervals: row (of `stays`), name, itemid, start, stop (hours since in-time), speed (in the action's unit).
    doses: row, name, start of what is given or not (an antibiotic), of the longer hours: what labels look at.
    """

    values: Float32[np.ndarray, "stays max_hours actions"]
    longer: Float32[np.ndarray, "stays hours actions"]
    intervals: pl.DataFrame
    doses: pl.DataFrame


def action(
    layout: Layout,
    folder: Path,
    stays: pl.DataFrame,
    actions: tuple[Action, ...],
    rules: Rules,
    longer_hours: int,
    account: Account,
) -> Given:
    """The action stream (0 in an hour without the action), the same for so many hours, and the intervals."""
    values = np.zeros((stays.height, rules.max_hours, len(actions)))
    longer = np.zeros((stays.height, longer_hours, len(actions)))
    wide = replace(rules, max_hours=longer_hours)
    kept, doses = [pl.DataFrame(schema=INTERVAL)], [pl.DataFrame(schema=DOSE)]
    for table in sorted({a.table for a in actions}):
        part_of = [a for a in actions if a.table == table]
        for rows in intervals(layout, folder, table, stays, [i for a in part_of for i in a.itemids], account):
            for a in part_of:
                mine, n = rows.filter(pl.col("itemid").is_in(a.itemids)), actions.index(a)
                if mine.is_empty():
                    continue
                far = add(longer[:, :, n], mine, a, wide, Account())
                good = add(values[:, :, n], mine, a, rules, account)
                name = pl.lit(a.name).alias("name")
                kept.append(good.select(pl.col("row").cast(pl.Int64), name, "itemid", "start", "stop", "speed"))
                if a.how == "given":
                    doses.append(far.select(pl.col("row").cast(pl.Int64), name, "start"))
    return Given(values.astype(np.float32), longer.astype(np.float32), pl.concat(kept), pl.concat(doses))


def intervals(
    layout: Layout, folder: Path, table: str, stays: pl.DataFrame, itemids: list[int], account: Account
) -> Iterator[pl.DataFrame]:
    """The table's rows of these items, part by part: row (of `stays`), itemid, start and stop in hours since intime,
    ended (the stay's end_h), and amounts and rates where the table has them. In a fixed order."""
    rows = layout.scan(table)
    columns = rows.collect_schema().names()
    rows = rows.filter(of_items(itemids))
    measured = [c for c in ("amount", "rate", "patientweight") if c in columns]
    rows = rows.with_columns(*integers("stay_id", "itemid"), *times("starttime", "endtime"), *numbers(*measured))
    staged = stage(layout, table, rows, folder)
    at = stays.with_row_index("row").select("row", "stay_id", "intime", pl.col("end_h").alias("ended")).lazy()
    for part in staged.read():
        placed = once(unread(part, table, account)).join(at, on="stay_id", how="left").with_columns(
            hours("starttime", "intime").alias("start"), hours("endtime", "intime").alias("stop")
        )
        found = placed.collect(engine="streaming")
        for itemid, n in found.group_by("itemid").agg((pl.col("copies") - 1).sum()).sort("itemid").iter_rows():
            account.drop(table, str(itemid), "duplicate row", n)
        yield found.sort("row", "itemid", "start", "stop", *measured, nulls_last=True)
    shutil.rmtree(staged.folder, ignore_errors=True)


def add(out: np.ndarray, rows: pl.DataFrame, a: Action, rules: Rules, account: Account) -> pl.DataFrame:
    """Add one action's intervals to its hours, out (stays, max_hours), in place; what cannot enter is counted.

    Gives the rows that entered, with start and stop cut to the stay and its hours, and `speed` in the action's unit.
    """
    constant = pl.lit(1.0), pl.lit(None, pl.String)
    speed = rate(a) if a.how == "rate" else amount(a) if a.how == "amount" else constant
    rows = rows.with_columns(speed[0].alias("speed"), refused(a, speed[1], rules).alias("reason"))
    lost = rows.filter(pl.col("reason").is_not_null()).group_by("itemid", "reason").len().sort("itemid", "reason")
    for itemid, why, n in lost.iter_rows():
        account.drop(a.table, str(itemid), why, n)
    good = rows.filter(pl.col("reason").is_null()).with_columns(
        pl.col("start").clip(0), pl.min_horizontal("stop", "ended", pl.lit(float(rules.max_hours))).alias("stop")
    )
    for itemid, n in good.group_by("itemid").len().sort("itemid").iter_rows():
        account.use(a.table, str(itemid), n)
    spread(out, *(good[c].to_numpy() for c in ("row", "start", "stop", "speed")), whole=a.how == "given")
    if a.how in ("on", "given"):
        np.minimum(out, 1.0, out=out)  # two overlapping rows do not make it more than on
    over = out > a.high
    account.drop(a.table, a.name, f"hours above {a.high:g} {a.unit}, set to it", int(over.sum()))
    out[over] = a.high
    return good


def refused(a: Action, unusable: pl.Expr, rules: Rules) -> pl.Expr:
    """Why an interval may not enter; null when it may. unusable: why it has no speed (column `speed`), or null."""
    status = pl.col("statusdescription").str.strip_chars().str.to_lowercase()
    speed = rate(a)[0] if a.how == "rate" else amount(a)[0] if a.how == "amount" else pl.lit(1.0)
    return (
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
        .when(unusable.is_not_null())
        .then(unusable)
        .when((speed < 0) | (a.how == "rate") & (speed > a.high))
        .then(pl.lit(f"outside 0 to {a.high:g} {a.unit}"))
    )


def spread(
    out: np.ndarray, row: np.ndarray, start: np.ndarray, stop: np.ndarray, speed: np.ndarray, whole: bool = False
) -> None:
    """Add speed * (share of each hour that lies in [start, stop)) to out[row, hour], in the order of the rows.

    whole: an hour that is touched counts in full.
    """
    first, beyond = np.floor(start).astype(np.int64), np.ceil(stop).astype(np.int64)
    counts = np.maximum(beyond - first, 0)
    which = np.repeat(np.arange(len(row)), counts)
    hour = first[which] + np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = np.minimum(stop[which], hour + 1) - np.maximum(start[which], hour)
    np.add.at(out, (row[which], hour), speed[which] * (1.0 if whole else share))


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
