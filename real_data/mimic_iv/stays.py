"""Intensive-care stays with what is known of each, and the cohort's rules applied one by one, counted."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from real_data.account import Account
from real_data.clock import in_hours
from real_data.mimic_iv.layout import Layout, dates, integers, numbers, times
from real_data.mimic_iv.variables import EMERGENCY
from simlab.errors import InvalidData

FOLLOWED_DAYS = 365


@dataclass(frozen=True)
class Rules:
    """Who belongs to the cohort. window: hours of input, and the shortest stay. max_hours: hours kept of a stay.

    labs_at: 'storetime', when a laboratory value was known, or 'charttime', when it was drawn (which leaks). events:
    raw events beside the hours.
    """

    window: int = 24
    max_hours: int = 72
    min_age: int = 18
    first_stay: bool = False
    labs_at: str = "storetime"
    events: bool = True


def hours(later: str, earlier: str) -> pl.Expr:
    """Hours from one date-time column to another."""
    return in_hours(pl.col(later) - pl.col(earlier))


def read(layout: Layout, account: Account) -> pl.DataFrame:
    """All stays with a patient, an admission and usable times: one row a stay, sorted by subject, intime, stay.

    Columns beside the files' own: age; los_h, death_h (hours from intime; null when nobody noted a death); died (0, 1
    or null); end_h, the hour after which nothing belongs to the stay: out-time, or death where that is earlier;
    and those of `follow_up`.
    """
    anchors = integers("anchor_year", "anchor_age")
    patients = table(layout, "hosp/patients", account, ["subject_id"], dates("dod"), anchors)
    typed = times("admittime", "dischtime", "deathtime"), numbers("hospital_expire_flag")
    admissions = table(layout, "hosp/admissions", account, ["hadm_id", "subject_id"], *typed)
    stays = table(layout, "icu/icustays", account, ["stay_id", "hadm_id", "subject_id"], times("intime", "outtime"))
    for name, frame, key in (("hosp/patients", patients, "subject_id"), ("icu/icustays", stays, "stay_id")):
        refuse_twice(layout, name, frame, key)
    refuse_twice(layout, "hosp/admissions", admissions, "hadm_id")
    flags = admissions["hospital_expire_flag"].drop_nulls().unique().to_list()
    if set(flags) - {0.0, 1.0}:
        raise InvalidData(f"table hosp/admissions, column 'hospital_expire_flag': {flags}; 0 and 1 are expected")
    whole = stays.join(admissions.drop("subject_id"), on="hadm_id", how="left")
    whole = whole.join(patients, on="subject_id", how="left")
    sex = pl.col("gender").str.strip_chars().str.to_uppercase()
    whole = whole.with_columns(
        (pl.col("anchor_age") + pl.col("intime").dt.year() - pl.col("anchor_year")).cast(pl.Float64).alias("age"),
        hours("outtime", "intime").alias("los_h"),
        hours("deathtime", "intime").alias("death_h"),
        hours("intime", "admittime").alias("hours_in_hospital"),
        pl.col("hospital_expire_flag").alias("died"),
        sex.replace_strict({"M": 1.0, "F": 0.0}, default=None, return_dtype=pl.Float64).alias("male"),
        pl.col("admission_type").is_in(EMERGENCY).cast(pl.Float64).alias("emergency"),
    )
    whole = follow_up(whole.with_columns(pl.min_horizontal("los_h", "death_h").alias("end_h")), admissions)
    note(account, "intensive-care stays", whole)
    known = whole.filter(pl.col("admittime").is_not_null() & pl.col("anchor_age").is_not_null())
    note(account, "with a patient and an admission", known)
    usable = known.filter(pl.col("los_h") > 0)
    note(account, "with out-time after in-time", usable)
    return usable.sort("subject_id", "intime", "stay_id")


def follow_up(stays: pl.DataFrame, admissions: pl.DataFrame) -> pl.DataFrame:
    """Stays with gone_h, the hour of any death (null: none known), and followed_h, until when a death would be known.

    A death that carries only a date (dod) counts whole days between the dates. A death date is in the files up to a
    year after the subject's last discharge (mimic-code, issue 1798); of one who died in hospital at an hour that nobody
    noted nothing is known after the stay.
    """
    last = admissions.group_by("subject_id").agg(pl.col("dischtime").max().alias("last_discharge"))
    days = (pl.col("dod").dt.truncate("1d") - pl.col("intime").dt.truncate("1d")).dt.total_hours().cast(pl.Float64)
    whole = stays.join(last, on="subject_id", how="left", maintain_order="left")
    whole = whole.with_columns(
        (pl.col("last_discharge") + pl.duration(days=FOLLOWED_DAYS)).alias("until"),
        pl.coalesce("death_h", days).alias("gone_h"),
    )
    unclear = (pl.col("died") == 1) & pl.col("gone_h").is_null()
    followed = pl.when(unclear.fill_null(False)).then("los_h").otherwise(hours("until", "intime"))
    return whole.with_columns(pl.coalesce(followed, "los_h").alias("followed_h")).drop("until")


def table(layout: Layout, name: str, account: Account, keys: list[str], *typed: list[pl.Expr]) -> pl.DataFrame:
    """A small table whole, with its types; rows without a key are dropped, exact duplicates count once."""
    frame = layout.scan(name).with_columns(*integers(*keys), *(e for group in typed for e in group))
    (rows,) = layout.collect(name, frame)
    keyed = rows.drop_nulls(keys)
    account.drop(name, keys[0], "no usable id", rows.height - keyed.height)
    once = keyed.unique(maintain_order=True)
    account.drop(name, "*", "duplicate row", keyed.height - once.height)
    return once


def refuse_twice(layout: Layout, name: str, frame: pl.DataFrame, key: str) -> None:
    """Two different rows with one id contradict each other."""
    twice = frame.filter(pl.col(key).is_duplicated())
    if twice.height:
        raise InvalidData(f"table {name}: two different rows with {key} {twice[key][0]} in {layout.paths[name]}")


def note(account: Account, step: str, stays: pl.DataFrame) -> None:
    account.step(step, stays.height, int((stays["died"] == 1).sum()))


def select(stays: pl.DataFrame, rules: Rules, account: Account) -> pl.DataFrame:
    """The stays that the rules keep, with a line of attrition for each rule."""
    window = float(rules.window)
    dead_before = (pl.col("death_h") < 0) | (pl.col("dod") < pl.col("intime").dt.truncate("1d"))
    steps = [
        (f"aged {rules.min_age} or more", pl.col("age") >= rules.min_age),
        ("alive on arrival", ~dead_before.fill_null(False)),
        (f"in intensive care for at least {window:g} h", pl.col("los_h") >= window),
        (f"alive at {window:g} h", pl.col("death_h").is_null() | (pl.col("death_h") >= window)),
    ]
    for name, rule in steps:
        stays = stays.filter(rule)
        note(account, name, stays)
    if rules.first_stay:
        stays = stays.unique("subject_id", keep="first", maintain_order=True)
        note(account, "first such stay of the subject", stays)
    return stays
