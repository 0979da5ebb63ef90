"""Channels of a MEDS cohort: named in a file, the items of the MIMIC-IV adapter, or what training subjects have."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from simlab.errors import InvalidData

KEYS = {"name", "unit", "low", "high", "how", "codes", "percent"}


@dataclass(frozen=True)
class Channel:
    """One channel: codes are (regular expression, factor, offset); what a code says becomes stored * factor + offset.

    Values outside low to high (inclusive, after conversion) are dropped. how: mean or sum of the hour. percent: stored
    values in this range are fractions, and are told in percent.
    """

    name: str
    unit: str
    codes: tuple[tuple[str, float, float], ...]
    low: float = float("-inf")
    high: float = float("inf")
    how: str = "mean"
    percent: tuple[float, float] | None = None


def from_file(path: Path) -> list[Channel]:
    """Channels of a TOML file of [[channel]] tables. Raises InvalidData naming the channel and key that is wrong."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("channel")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidData(f"channels {path}: {error}") from error
    if not isinstance(tables, list) or not tables:
        raise InvalidData(f"channels {path}: at least one [[channel]] is needed")
    return [from_table(path, table) for table in tables]


def from_table(path: Path, table: dict[str, object]) -> Channel:
    """One [[channel]]: name and codes are needed; codes are strings, or tables with match, factor and offset."""
    name = table.get("name", "?")
    if set(table) - KEYS or not {"name", "codes"} <= set(table) or table.get("how", "mean") not in ("mean", "sum"):
        raise InvalidData(f"channels {path}, '{name}': keys are {', '.join(sorted(KEYS))} (how: mean or sum)")
    codes = []
    try:
        for code in table["codes"]:
            said = {"match": code} if isinstance(code, str) else dict(code)
            re.compile(said["match"])
            codes.append((said["match"], float(said.get("factor", 1)), float(said.get("offset", 0))))
        percent = tuple(map(float, table["percent"])) if "percent" in table else None
        low, high = float(table.get("low", "-inf")), float(table.get("high", "inf"))
    except (re.error, KeyError, TypeError, ValueError) as error:
        raise InvalidData(f"channels {path}, '{name}': {error}") from error
    unit, how = str(table.get("unit", "")), str(table.get("how", "mean"))
    return Channel(str(name), unit, tuple(codes), low, high, how, percent)


def of_mimic_iv() -> list[Channel]:
    """The state channels of the MIMIC-IV adapter; a code belongs to an item when one of its parts is the itemid."""
    from real_data.mimic_iv.variables import FRACTIONS, STATE

    return [
        Channel(
            v.name,
            v.unit,
            tuple((rf"(^|//){i.itemid}(//|$)", i.factor, i.offset) for i in v.items),
            v.low,
            v.high,
            v.how,
            FRACTIONS.get(v.name),
        )
        for v in STATE
    ]


def of_training(rows: pl.DataFrame, most: int) -> list[Channel]:
    """The numeric codes that most training subjects have, each a channel of its own. rows: subject_id, code; training
    subjects alone. Ties go by name, so the choice depends on nothing else."""
    counts = rows.group_by("code").agg(pl.col("subject_id").n_unique().alias("n"))
    counts = counts.sort("n", "code", descending=[True, False])
    return [Channel(code, "", ((f"^{re.escape(code)}$", 1.0, 0.0),)) for code in counts["code"].head(most)]


def table(channels: list[Channel], codes: list[str]) -> pl.DataFrame:
    """Each code that belongs to a channel: code, channel (its place), factor, offset, low, high, percent range."""
    rows = []
    for n, channel in enumerate(channels):
        for pattern, factor, offset in channel.codes:
            found = re.compile(pattern)
            low, high = channel.percent or (None, None)
            range_of = (channel.low, channel.high, low, high)
            rows += [(code, n, factor, offset, *range_of) for code in codes if found.search(code)]
    names = ["code", "channel", "factor", "offset", "low", "high", "percent_low", "percent_high"]
    types = [pl.String, pl.Int64, *[pl.Float64] * 6]
    return pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")
