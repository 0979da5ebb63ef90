"""MEDS events into hourly records. Codes known here are those that the standard reserves: MEDS_BIRTH, MEDS_DEATH."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from real_data import audit, leakage, splits
from real_data import meds_channels as vocabulary
from real_data.account import Account
from real_data.clock import in_hours
from real_data.labels import outcomes
from simlab.cohort import Cohort, Events, Stream, Task
from simlab.errors import InvalidData, OutOfDomain

BIRTH, DEATH = "MEDS_BIRTH", "MEDS_DEATH"
VALUES = ("numeric_value", "value")  # the standard's name, and that of flattened copies
DAYS = (7, 14, 30, 90)
YEAR_H = 24 * 365.25
SLACK = 1e-4  # values are stored as float32: one on the edge of its range is inside
COMMON = 0.05  # a code without a time is a static channel when this share of the training subjects has it


@dataclass(frozen=True)
class Rules:
    start: str
    end: str
    window: int = 24
    max_hours: int = 72
    min_age: int = 18
    most: int = 64
    events: bool = True


def prepare(folder: Path, rules: Rules, channels: str | None, account: Account, say: Callable[[str], None]) -> Cohort:
    """The cohort of a MEDS folder. channels: a TOML file, 'mimic-iv', or None: what most training subjects have."""
    for option, pattern in (("--start", rules.start), ("--end", rules.end)):
        try:
            pl.Series([""]).str.contains(pattern)
        except pl.exceptions.ComputeError as error:
            raise OutOfDomain(f"{option} {pattern!r} is no regular expression") from error
    paths = files(folder)
    say(f"{len(paths)} files of events in {folder}")
    with readable(paths):
        return built(folder, paths, rules, channels, account)


def built(folder: Path, paths: list[Path], rules: Rules, channels: str | None, account: Account) -> Cohort:
    """The cohort of these files of events."""
    rows = read(paths)
    spans = records(rows, rules, account)
    side = account.sides = sides(folder, spans["subject_id"].to_numpy())
    inside = within(rows, spans, rules)
    codes = sorted(inside.filter(pl.col("value").is_not_null()).select("code").unique().collect()["code"].to_list())
    if channels is None:
        training = spans.filter(pl.Series(side == "train")).select("subject_id").unique().lazy()
        numeric = inside.filter(pl.col("value").is_not_null()).join(training, on="subject_id", how="semi")
        chosen = vocabulary.of_training(numeric.select("subject_id", "code").unique().collect(), rules.most)
    else:
        chosen = vocabulary.of_mimic_iv() if channels == "mimic-iv" else vocabulary.from_file(Path(channels))
    if not chosen:
        raise InvalidData(f"{folder}: no numeric code in the records of training subjects; use --channels")
    values, observed = hours(inside, vocabulary.table(chosen, codes), chosen, spans.height, rules, account)
    events = raw(inside, spans.height, rules, account) if rules.events else None
    why = "an event has one time; whether a value was known then is for its publisher to say"
    account.checks.append(leakage.Check("laboratory values before their storetime", None, why))
    told = provenance(folder, paths, rules, account)
    told["fitted"] = fitted(spans, side, ("channels", "static channels") if channels is None else ("static channels",))
    return assemble(rows, spans, side, chosen, values, observed, events, rules, told)


def files(folder: Path) -> list[Path]:
    """The event files: below data/ where there is such a folder, else in the folder itself (never metadata/)."""
    inside = folder / "data" if (folder / "data").is_dir() else folder
    found = sorted(p for p in inside.rglob("*.parquet") if "metadata" not in p.relative_to(folder).parts)
    if not found:
        raise InvalidData(f"no MEDS events: looked for *.parquet in {inside}")
    return found


@contextlib.contextmanager
def readable(paths: list[Path]) -> Iterator[None]:
    """Raise InvalidData naming the file where one turns out to be damaged inside: its footer alone is read before."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        for path in paths:
            try:
                pl.scan_parquet(path).select(pl.all().null_count()).collect(engine="streaming")
            except (pl.exceptions.PolarsError, OSError) as damage:
                reason = str(damage).splitlines()[0]
                raise InvalidData(f"{path}: cannot be read to its end ({reason})") from error
        raise


# What the columns that MEDS asks for may hold.
TYPES = {
    "subject_id": (lambda kind: kind.is_integer(), "integers"),
    "time": (lambda kind: kind in (pl.Date, pl.Null) or kind == pl.Datetime, "times"),
    "code": (lambda kind: kind in (pl.String, pl.Categorical, pl.Enum), "words"),
}


def read(paths: list[Path]) -> pl.LazyFrame:
    """All events: subject_id, time, code, value; rows alike in these count once. Raises InvalidData naming the file."""
    frames = []
    for path in paths:
        try:
            names = pl.read_parquet_schema(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InvalidData(f"{path}: cannot be read as parquet ({str(error).splitlines()[0]})") from error
        missing = [c for c in ("subject_id", "time", "code") if c not in names]
        if missing:
            raise InvalidData(f"{path}: no column '{missing[0]}' (it has {', '.join(list(names)[:8])})")
        for column, (good, wanted) in TYPES.items():
            if not good(names[column]):
                raise InvalidData(f"{path}: column '{column}' holds {names[column]}; {wanted} are expected")
        number = next((pl.col(c) for c in VALUES if c in names), pl.lit(None))
        value = number.cast(pl.Float64, strict=False)
        time = pl.col("time").cast(pl.Datetime("us"))
        frames.append(pl.scan_parquet(path).select(pl.col("subject_id").cast(pl.Int64), time, "code",
                                                   pl.when(value.is_finite()).then(value).alias("value")))  # fmt: skip
    return pl.concat(frames).unique()


def records(rows: pl.LazyFrame, rules: Rules, account: Account) -> pl.DataFrame:
    """Records: row, subject_id, begin, end, end_h, age (null: not known), gone_h, followed_h; sorted by subject, begin.

    A record begins with a start event and ends with the subject's next end event, or with death where that is earlier.
    """
    marks = rows.filter(pl.col("time").is_not_null())
    started = marks.filter(pl.col("code").str.contains(rules.start)).select("subject_id", begin="time").unique()
    ended = marks.filter(pl.col("code").str.contains(rules.end)).select("subject_id", end="time").unique()
    life = marks.group_by("subject_id").agg(
        pl.col("time").filter(pl.col("code") == BIRTH).min().alias("born"),
        pl.col("time").filter(pl.col("code") == DEATH).min().alias("dead"),
        pl.col("time").max().alias("last"),
    )
    pairs = started.sort("begin").join_asof(ended.sort("end"), left_on="begin", right_on="end", by="subject_id",
                                            strategy="forward", allow_exact_matches=False,
                                            check_sortedness=False)  # fmt: skip
    found = pairs.join(life, on="subject_id", how="left").collect().sort("subject_id", "begin")

    def since(name: str) -> pl.Expr:
        return in_hours(pl.col(name) - pl.col("begin"))

    age = (-since("born") / YEAR_H).alias("age")
    found = found.with_columns(out_h=since("end"), gone_h=since("dead"), followed_h=since("last")).with_columns(age)
    found = found.with_columns(pl.min_horizontal("out_h", "gone_h").alias("end_h"))
    steps = [
        ("records with a start", pl.lit(True)),
        ("with an end after it", pl.col("end").is_not_null()),
        (f"aged {rules.min_age} or more, where known", pl.col("age").is_null() | (pl.col("age") >= rules.min_age)),
        (f"of at least {rules.window} h", pl.col("out_h") >= rules.window),
        (f"alive at {rules.window} h", pl.col("gone_h").is_null() | (pl.col("gone_h") >= rules.window)),
    ]
    for name, rule in steps:
        found = found.filter(rule)
        account.step(name, found.height, int(found["gone_h"].is_not_null().sum()))
    if not found.height:
        told = ", ".join(f"{s['step']} {s['n']}" for s in account.attrition)
        raise InvalidData(f"no record meets the rules; attrition: {told}")
    return found.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))


def sides(folder: Path, subject: np.ndarray) -> np.ndarray:
    """Each record's split: the data set's own (metadata/subject_splits.parquet), else by hash.

    Raises InvalidData for a table of splits that is none, or that has a subject in two.
    """
    path = folder / "metadata" / "subject_splits.parquet"
    if not path.is_file():
        return splits.by_subject(subject)
    try:
        told = pl.read_parquet(path).select(pl.col("subject_id").cast(pl.Int64), pl.col("split").cast(pl.String))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidData(f"{path}: no table of subject_id and split ({str(error).splitlines()[0]})") from error
    told = told.unique()
    twice = told.filter(pl.col("subject_id").is_duplicated())
    if twice.height:
        raise InvalidData(f"{path}: subject {twice['subject_id'].min()} is in more than one split")
    told = dict(told.iter_rows())
    return np.array([str(told.get(s, "none")) for s in subject.tolist()])


def within(rows: pl.LazyFrame, spans: pl.DataFrame, rules: Rules) -> pl.LazyFrame:
    """Events of the records' first hours: row, subject_id, t, hour, code, value. At the very end: in the last hour."""
    t = in_hours(pl.col("time") - pl.col("begin"))
    joined = rows.join(spans.lazy().select("row", "subject_id", "begin", "end_h"), on="subject_id")
    joined = joined.with_columns(t.alias("t"))
    joined = joined.filter((pl.col("t") >= 0) & (pl.col("t") <= pl.col("end_h")))
    hour = pl.when(pl.col("t") == pl.col("end_h")).then(pl.col("end_h").ceil() - 1).otherwise(pl.col("t").floor())
    joined = joined.with_columns(hour.cast(pl.Int64).alias("hour")).filter(pl.col("hour") < rules.max_hours)
    return joined.select("row", "subject_id", "t", "hour", "code", "value")


def hours(
    inside: pl.LazyFrame,
    table: pl.DataFrame,
    chosen: list[vocabulary.Channel],
    records: int,
    rules: Rules,
    account: Account,
) -> tuple[np.ndarray, np.ndarray]:
    """Values and mask, (records, max_hours, channels); what is out of range is counted by code."""
    rows = inside.filter(pl.col("value").is_not_null()).join(table.lazy(), on="code")
    stored = pl.col("value")
    fraction = (stored >= pl.col("percent_low")) & (stored <= pl.col("percent_high"))
    percent = pl.when(fraction.fill_null(False)).then(stored * 100).otherwise(stored)
    shown = percent * pl.col("factor") + pl.col("offset")
    measured = pl.when(pl.col("factor") < 0).then(-shown).otherwise(shown)
    good = measured.is_between(pl.col("low") - SLACK, pl.col("high") + SLACK)
    rows = rows.with_columns(shown.alias("shown"), good.alias("good"))
    counts = rows.group_by("code", "good").len().sort("code").collect(engine="streaming")
    for code, good, n in counts.iter_rows():
        account.use("events", code, n) if good else account.drop("events", code, "outside its channel's range", n)
    sums = rows.filter("good").group_by("row", "hour", "channel").agg(pl.col("shown").sum(), pl.len().alias("n"))
    sums = sums.collect(engine="streaming")
    shape = (records, rules.max_hours, len(chosen))
    values, observed = np.zeros(shape, np.float32), np.zeros(shape, bool)
    at = (sums["row"].to_numpy(), sums["hour"].to_numpy(), sums["channel"].to_numpy())
    mean = np.array([c.how == "mean" for c in chosen])[at[2]]
    values[at] = sums["shown"].to_numpy() / np.where(mean, sums["n"].to_numpy(), 1)
    observed[at] = True
    return values, observed


def raw(inside: pl.LazyFrame, records: int, rules: Rules, account: Account) -> Events:
    """The records' events as they are, but for markers of death and of the end, and codes given after discharge."""
    outcome = (pl.col("code") == DEATH) | pl.col("code").str.contains(rules.end)
    coded = pl.col("code").str.contains(leakage.CODED.pattern)
    rows = inside.with_columns(outcome.alias("outcome"), coded.alias("coded")).collect(engine="streaming")
    account.drop("events", "*", "a marker of death or of the end", int(rows["outcome"].sum()))
    account.drop("events", "*", "a code given after discharge", int(rows["coded"].sum()))
    rows = rows.filter(~pl.col("outcome") & ~pl.col("coded")).sort("row", "t", "code", "value", nulls_last=True)
    counts = np.bincount(rows["row"].to_numpy(), minlength=records)
    return Events(
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        rows["t"].to_numpy().astype(np.float64),
        rows["code"].to_numpy().astype(str),
        rows["value"].fill_null(np.nan).to_numpy().astype(np.float64),
        np.full(rows.height, ""),
    )


def static(rows: pl.LazyFrame, spans: pl.DataFrame, side: np.ndarray) -> Stream:
    """Age at the start, and for every code without a time that enough training subjects have: whether it is there."""
    timeless = rows.filter(pl.col("time").is_null()).select("subject_id", "code").unique().collect()
    training = set(spans.filter(pl.Series(side == "train"))["subject_id"].to_list())
    seen = timeless.filter(pl.col("subject_id").is_in(training)).group_by("code").len().sort("code")
    names = [c for c, n in seen.iter_rows() if n >= COMMON * max(1, len(training)) and not leakage.CODED.search(c)]
    has = set(timeless.iter_rows())
    age = spans["age"].fill_null(np.nan).to_numpy()
    columns = [age, *([float((s, c) in has) for s in spans["subject_id"].to_list()] for c in names)]
    values = np.stack([np.asarray(c, np.float32) for c in columns], axis=1)[:, None, :]
    known = np.isfinite(values)
    return Stream(np.where(known, values, 0).astype(np.float32), known, ("age", *names), ("years", *["1"] * len(names)))


def assemble(
    rows: pl.LazyFrame,
    spans: pl.DataFrame,
    side: np.ndarray,
    chosen: list[vocabulary.Channel],
    values: np.ndarray,
    observed: np.ndarray,
    events: Events | None,
    rules: Rules,
    provenance: dict[str, object],
) -> Cohort:
    """The cohort: hourly state, statics, deaths by days (censored at the subject's last event)."""
    length = np.ceil(spans["end_h"].to_numpy()).clip(1, rules.max_hours).astype(np.int64)
    visits = int(length.max())
    time = np.tile(np.arange(1, visits + 1, dtype=np.float64), (len(length), 1))
    state = Stream(values[:, :visits], observed[:, :visits], tuple(c.name for c in chosen),
                   tuple(c.unit for c in chosen), time)  # fmt: skip
    gone, followed = (spans[c].fill_null(np.nan).to_numpy() for c in ("gone_h", "followed_h"))
    tasks = {
        f"mortality-{d}d": Task(f"mortality-{d}d", "binary", "record", float(rules.window), None,
                                f"dies within {d} days of the start") for d in DAYS
    }  # fmt: skip
    subject = spans["subject_id"].to_numpy().astype(np.int64)
    nth = spans.select(pl.int_range(pl.len()).over("subject_id")).to_series().to_list()
    record = np.array([f"{s}-{n}" for s, n in zip(subject.tolist(), nth, strict=True)])
    return Cohort(
        streams={"state": state, "static": static(rows, spans, side)},
        length=length,
        record=record,
        subject=subject,
        site=np.full(len(length), "meds"),
        tasks=tasks,
        labels={f"mortality-{d}d": outcomes.died_within(gone, followed, d * outcomes.DAY) for d in DAYS},
        events=events,
        provenance=provenance | {
            "begins": dict(zip(record.tolist(), spans["begin"].cast(pl.String).to_list(), strict=True)),
            "ends": dict(zip(record.tolist(), spans["end_h"].to_list(), strict=True)),
            "split": {"train": int((side == "train").sum()), "records": len(side)},
        },
    )  # fmt: skip


def fitted(spans: pl.DataFrame, side: np.ndarray, what: tuple[str, ...]) -> dict[str, object]:
    """What was chosen by looking at records, and whose: simlab.train tests on none of these, the audit checks them."""
    looked_at = spans.filter(pl.Series(side == "train"))["subject_id"].unique().sort().to_list()
    return {"what": " and ".join(what), "subjects": looked_at}


def provenance(folder: Path, paths: list[Path], rules: Rules, account: Account) -> dict[str, object]:
    """Where the cohort comes from: files and their sha256, rules, the account."""
    return {
        "adapter": "real_data.meds",
        "files": {
            str(p.relative_to(folder)): {"file": p.name, "bytes": p.stat().st_size, "sha256": audit.sha256(p)}
            for p in paths
        },
        "rules": asdict(rules),
        "time": "hours since the start; hour h is [h, h + 1) and carries time h + 1",
        "attrition": account.attrition,
        "dropped": account.dropped,
    }
