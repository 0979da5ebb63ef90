"""Raw events of a stay: every reading and every interval that the hours were made of, at the time it was known.

Codes are `variable//itemid`, and `variable//itemid//start` and `//stop` for intervals (value: the rate, in the unit an
action is told in). A laboratory value that was drawn before it was known is followed by
`variable//itemid//drawn-before`: how many hours earlier.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from real_data.mimic_iv.binning import MICRO
from real_data.mimic_iv.variables import ACTIONS, STATE
from simlab.cohort import Events

SCHEMA = {"row": pl.Int64, "t": pl.Float64, "code": pl.String, "value": pl.Float64, "unit": pl.String}
ORDER = ("row", "t", "sort", "place", "second")


def of_readings(rows: pl.DataFrame, max_hours: int) -> pl.DataFrame:
    """Events of the readings of the first hours (columns of `binning.readings`), each age behind its value."""
    units = {v.name: v.unit for v in STATE}
    rows = rows.filter(pl.col("hour") < max_hours).sort("row", "t", "variable", "itemid", "micro", "drawn")
    code = pl.format("{}//{}", "variable", "itemid")
    rows = rows.with_columns(code.alias("sort"), pl.int_range(pl.len(), dtype=pl.Int64).alias("place"))
    value = pl.col("micro") / MICRO
    unit = pl.col("variable").replace_strict(units, return_dtype=pl.String)
    base = [pl.col("row").cast(pl.Int64), "t", "place", "sort"]
    told = rows.select(*base, code.alias("code"), value.alias("value"), unit.alias("unit"), second=pl.lit(0))
    age = (pl.col("t") - pl.col("drawn")).alias("value")
    older = rows.filter(pl.col("t") > pl.col("drawn")).select(
        *base, pl.format("{}//drawn-before", "sort").alias("code"), age, pl.lit("h").alias("unit"), second=pl.lit(1)
    )
    return pl.concat([told, older])


def of_intervals(rows: pl.DataFrame) -> pl.DataFrame:
    """Two events for each interval (`actions.Given.intervals`): its start and its stop, both with the speed."""
    units = {a.name: a.unit for a in ACTIONS}
    code = pl.format("{}//{}", "name", "itemid")
    unit = pl.col("name").replace_strict(units, return_dtype=pl.String)
    ends = [
        rows.select(
            "row",
            pl.col(end).alias("t"),
            pl.lit(-1, pl.Int64).alias("place"),
            code.alias("sort"),
            pl.concat_str(code, pl.lit(f"//{end}")).alias("code"),
            pl.col("speed").cast(pl.Float64).alias("value"),
            unit.alias("unit"),
            second=pl.lit(n),
        )
        for n, end in enumerate(("start", "stop"))
    ]
    return pl.concat(ends)


def assemble(parts: list[pl.DataFrame], stays: int) -> Events:
    """The cohort's events, in order of stay and time."""
    rows = pl.concat(parts).sort(*ORDER, "value", nulls_last=True)
    counts = np.bincount(rows["row"].to_numpy(), minlength=stays)
    return Events(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        time=rows["t"].to_numpy().astype(np.float64),
        code=rows["code"].to_numpy().astype(str),
        value=rows["value"].to_numpy().astype(np.float64),
        unit=rows["unit"].to_numpy().astype(str),
    )
