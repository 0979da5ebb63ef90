"""When cultures were taken: what suspected infection is made of, and nothing else. Results are never read."""

from __future__ import annotations

import polars as pl

from real_data.account import Account
from real_data.mimic_iv.layout import Layout, dates, integers
from real_data.mimic_iv.stays import hours

TABLE = "hosp/microbiologyevents"
BEFORE = 72.0  # hours before the stay in which a culture still belongs to a suspicion


def cultures(layout: Layout, stays: pl.DataFrame, account: Account) -> list[list[float]] | None:
    """Hours (since in-time) of each stay's cultures, from 72 h before it to its end; None where there is no such table.

    Where the time is empty the day is taken, from its midnight, and counted.
    """
    if TABLE not in layout.paths:
        account.fact("tables that are missing: hosp/microbiologyevents (no label of sepsis)", 1)
        return None
    rows = layout.scan(TABLE).with_columns(*integers("subject_id"), *dates("charttime", "chartdate"))
    (found,) = layout.collect(TABLE, rows.select("subject_id", "charttime", "chartdate").unique())
    at = stays.with_row_index("row").select("row", "subject_id", "intime", "end_h")
    found = found.join(at, on="subject_id").with_columns(pl.coalesce("charttime", "chartdate").alias("taken"))
    found = found.with_columns(hours("taken", "intime").alias("t"))
    near = found.filter((pl.col("t") >= -BEFORE) & (pl.col("t") <= pl.col("end_h")))
    account.fact("cultures with a day and no time", near["charttime"].null_count())
    out: list[list[float]] = [[] for _ in range(stays.height)]
    for row, t in near.select("row", "t").unique().sort("row", "t").iter_rows():
        out[row].append(t)
    return out
