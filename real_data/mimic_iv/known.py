"""A second, plain look at when laboratory values were known, to check a cohort with `leakage.known_too_early`."""

from __future__ import annotations

import polars as pl

from real_data.leakage import Check, known_too_early
from real_data.mimic_iv.layout import Layout, integers, times
from real_data.mimic_iv.variables import STATE
from simlab.cohort import Cohort

TABLE = "hosp/labevents"
AT_MOST = 200  # stays that are looked at


def check(layout: Layout, stays: pl.DataFrame, cohort: Cohort) -> Check:
    """Whether a laboratory value of the first stays lies in an hour in which no such row was stored yet."""
    at = stays.head(AT_MOST).select("subject_id", "stay_id", "intime", "end_h")
    items = {i.itemid: v.name for v in STATE if v.table == TABLE for i in v.items}
    rows = layout.scan(TABLE).filter(pl.col("itemid").str.strip_chars().is_in([str(i) for i in items]))
    if "storetime" not in layout.headers[TABLE]:
        return Check("laboratory values before their storetime", None, "the table has no storetime")
    rows = rows.select(*integers("subject_id", "itemid"), *times("charttime", "storetime"))
    rows = rows.filter(pl.col("subject_id").is_in(at["subject_id"].unique().to_list()))
    (found,) = layout.collect(TABLE, rows.join(at.lazy(), on="subject_id"))
    known = pl.max_horizontal("charttime", "storetime") - pl.col("intime")
    found = found.with_columns((known.dt.total_seconds() / 3600).alias("t"))
    hour = pl.when(pl.col("t") == pl.col("end_h")).then(pl.col("t").ceil() - 1).otherwise(pl.col("t").floor())
    found = found.with_columns(hour.cast(pl.Int64).alias("hour"), pl.col("itemid").replace_strict(items).alias("name"))
    told: dict[str, set[tuple[int, int]]] = {name: set() for name in items.values()}
    for name, stay, h in found.select("name", "stay_id", "hour").unique().iter_rows():
        told[name].add((stay, h))
    kept = set(at["stay_id"].to_list())
    return known_too_early(cohort.take(pl.Series(cohort.record).is_in(kept).to_numpy()), "state", told)
