"""The cohort of a folder of scans, with or without a health record: visits, images, what was known by then, a label."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from real_data import meds_events, splits
from real_data.account import Account
from real_data.ct_ehr import checks, ehr, labels, layouts
from real_data.ct_ehr.labels import Label
from real_data.ct_ehr.rules import Rules
from real_data.ct_ehr.scans import Scan, Unusable
from simlab.cohort import Cohort, Events, Stream, Task
from simlab.errors import InvalidData


@dataclass(eq=False)
class Visit:
    """One day of a subject: when, and its scans, the one to take first; none where only the record tells of it."""

    when: datetime
    scans: list[Scan]


def prepare(
    folder: Path, record: Path | None, rules: Rules, account: Account, say: Callable[[str], None]
) -> Cohort:
    """The cohort of a folder of scans in `rules.layout`, joined with the MEDS record in the folder `record`.

    One record a subject with a scan; a visit a day of scans (or of a code that is one, `rules.visits`). Times are days
    since the first visit. Raises InvalidData naming what is wrong; single scans and rows that cannot be used are in the
    account.
    """
    scans = layouts.scans(folder, rules, account, say)
    rows = None if record is None else ehr.read(record, account)
    visits = by_day(scans, rows, rules, account)
    account.step("subjects with a scan", len(visits), None)
    told = all_labels(folder, record, scans, rows, visits, rules, account)
    visits = until_label(visits, told, account)
    if not visits:
        raise InvalidData(f"{folder}: no subject has a scan before its label's time")
    known, positives = tell_labels(visits, told, account)
    subjects = sorted(visits, key=lambda s: (not s.isdigit(), int(s) if s.isdigit() else 0, s))
    say(f"{len(subjects)} subjects; reading images")
    when = [[v.when for v in visits[s]] for s in subjects]
    exists, time = in_days(when)
    image, used = images([visits[s] for s in subjects], time, account)
    if not image.observed.any():
        reasons = sorted({r for (t, _, r), _ in account.counts.items() if t == "images"})
        raise InvalidData(f"{folder}: no scan can be shown: {'; '.join(reasons)}")
    account.step("with an image", int(image.observed.any(axis=(1, 2)).sum()), None)
    side = sides(scans, subjects, record, account)
    streams, events = {"image": image} | beside(used, exists, time, rules), None
    fitted: dict[str, object] = {}
    if rows is not None:
        events, more = joined(rows, subjects, when, told, exists, time, side == "train", rules, account)
        streams |= more
        if more:  # simlab.train tests on none of these, the audit checks them
            training = [s for s, one in zip(subjects, side, strict=True) if one == "train"]
            fitted = {"fitted": {"what": " and ".join(f"channels of {name}" for name in more), "subjects": training}}
    if known:
        account.step("with a label", known, positives)
    values = np.array([told[s].value if s in told else np.nan for s in subjects])
    cohort = Cohort(
        streams=streams,
        length=exists.sum(axis=1),
        record=as_ids(subjects),
        subject=as_ids(subjects),
        site=sites(visits, subjects, account),
        tasks={rules.task: task(rules)} if told else {},
        labels={rules.task: values} if told else {},
        events=events,
        provenance={**provenance(folder, record, rules, [w[0] for w in when], subjects, side, account), **fitted},
    )
    account.checks += checks.all_of(cohort, rules, told, when)
    return cohort


def tell_labels(visits: dict[str, list[Visit]], told: dict[str, Label], account: Account) -> tuple[int, int]:
    """How many subjects with a scan have a label, and a positive one; into the account with those that lack the other.

    Raises InvalidData where labels are of other subjects altogether.
    """
    if told and not told.keys() & visits.keys():
        raise InvalidData(f"no subject of the labels (such as {next(iter(told))}) is among the scans' patient ids "
                          f"(such as {next(iter(visits))})")
    account.fact("labels of subjects without a scan", len(told.keys() - visits.keys()))
    account.fact("subjects without a label", len(visits.keys() - told.keys()) if told else 0)
    account.fact("no labels (none beside the files; --labels and --outcome name others)", int(not told))
    known = sum(not math.isnan(told[s].value) for s in visits if s in told)
    positives = sum(told[s].value == 1 for s in visits if s in told)
    account.step("with a scan until the label's time", len(visits), positives)
    return known, positives


def in_days(
    when: list[list[datetime]],
) -> tuple[Bool[np.ndarray, "subjects visits"], Float[np.ndarray, "subjects visits"]]:
    """Which visits each subject has, and when: days since its first one, 0 where there is none."""
    length = np.array([len(w) for w in when], np.int64)
    exists = np.arange(length.max()) < length[:, None]
    time = np.zeros(exists.shape)
    for n, moments in enumerate(when):
        time[n, : len(moments)] = [(m - moments[0]).total_seconds() / 86_400 for m in moments]
    return exists, time


def by_day(
    scans: list[Scan], rows: pl.DataFrame | None, rules: Rules, account: Account
) -> dict[str, list[Visit]]:
    """Visits of every subject with a scan, in order of time."""
    found: dict[str, dict[object, Visit]] = defaultdict(dict)
    for scan in sorted(scans, key=lambda s: (s.subject, s.when.date(), s.rank)):
        visit = found[scan.subject].setdefault(scan.when.date(), Visit(scan.when, []))
        account.fact("further scans of a subject on one day (thinnest slices are taken)", int(bool(visit.scans)))
        visit.scans.append(scan)
    if rows is not None:
        marks = rows.filter(ehr.matches(rows, rules.visits, "--visits")).group_by("subject", "time").len()
        for subject, time, _ in marks.sort("subject", "time").iter_rows():
            if subject in found:
                found[subject].setdefault(time.date(), Visit(time, []))
    visits = {s: sorted(days.values(), key=lambda v: v.when) for s, days in found.items()}
    without = sum(not v.scans for all_of in visits.values() for v in all_of)
    account.fact("visits that the record tells of, without a scan at hand", without)
    return visits


def all_labels(
    folder: Path, record: Path | None, scans: list[Scan], rows: pl.DataFrame | None, visits: dict[str, list[Visit]],
    rules: Rules, account: Account,
) -> dict[str, Label]:
    """Labels by subject: of codes, of the table that is named, or of the one that lies with the files; {} for none."""
    if rules.outcome is not None:
        if rows is None:
            raise InvalidData("--outcome looks for codes: name the record's folder with --ehr")
        marks = rows.filter(ehr.matches(rows, rules.outcome, "--outcome"))
        if not marks.height:
            raise InvalidData(f"--outcome {rules.outcome}: no code of {record} matches it")
        first = dict(marks.group_by("subject").agg(pl.col("time").min()).iter_rows())
        last = dict(rows.group_by("subject").agg(pl.col("time").max()).iter_rows())
        return labels.from_codes(first, last, {s: [v.when for v in vs] for s, vs in visits.items()}, rules.horizon)
    if rules.labels is not None:
        return labels.from_table(rules.labels, account, ehr.patients(record))
    beside_scans: dict[str, Label] = {}
    for scan in scans:
        if "label" in scan.extra:
            word = str(scan.extra["label"]).strip().lower()
            if word not in labels.WORDS:
                raise InvalidData(f"{folder}, scan {scan.key}: label '{word}'; 0, 1 or nothing is expected")
            value = Label(labels.WORDS[word])
            before = beside_scans.setdefault(scan.subject, value)
            if before != value and not (math.isnan(before.value) and math.isnan(value.value)):
                raise InvalidData(f"{folder}, scan {scan.key}: subject {scan.subject} has two labels")
    if beside_scans:
        return beside_scans
    for place in (folder / "labels.csv", *(sorted((record / "labels").glob("*.parquet")) if record else ())):
        if place.is_file():
            return labels.from_table(place, account, ehr.patients(record))
    return {}


def until_label(visits: dict[str, list[Visit]], told: dict[str, Label], account: Account) -> dict[str, list[Visit]]:
    """Visits up to the label's time; subjects of whom none with a scan is left go."""
    kept = {}
    for subject, found in visits.items():
        until = told[subject].until if subject in told else None
        inside = [v for v in found if until is None or v.when <= until]
        account.drop("visits", "*", "after the label's time", len(found) - len(inside))
        for visit in inside:  # a later scan of the same day, that would be shown in place of one that cannot be read
            visit.scans = [s for s in visit.scans if until is None or s.when <= until]
        if any(v.scans for v in inside):
            kept[subject] = inside
    return kept


def images(visits: list[list[Visit]], time: np.ndarray, account: Account) -> tuple[Stream, list[list[Scan | None]]]:
    """The image stream, float16 HU (float32 features), and the scan that each visit shows."""
    values, used = None, [[None] * len(found) for found in visits]
    observed = np.zeros((*time.shape, 1), bool)
    for n, found in enumerate(visits):
        for j, visit in enumerate(found):
            for scan in visit.scans:
                try:
                    shown = scan.show()
                except Unusable as reason:
                    account.drop("images", scan.key, str(reason), 1)
                    continue
                kind = np.float16 if shown.ndim == 3 else np.float32
                if values is None:
                    values = np.zeros((*time.shape, *shown.shape), kind)
                if shown.shape != values.shape[2:]:
                    raise InvalidData(f"scan {scan.key}: shape {shown.shape}, the scans before it {values.shape[2:]}")
                values[n, j], observed[n, j], used[n][j] = shown, True, scan
                break
            else:
                used[n][j] = visit.scans[0] if visit.scans else None
    if values is None:
        values = np.zeros((*time.shape, 1), np.float32)
    if values.ndim == 3:
        k = values.shape[2]
        return Stream(values, np.repeat(observed, k, axis=2), tuple(f"f{i:03d}" for i in range(k)), ("1",) * k,
                      time), used  # fmt: skip
    return Stream(values, observed, ("attenuation",), ("HU",), time), used


def beside(used: list[list[Scan | None]], exists: np.ndarray, time: np.ndarray, rules: Rules) -> dict[str, Stream]:
    """Streams that the layout itself brings: signatures, and the columns that were asked for."""
    found = [(n, j, scan) for n, row in enumerate(used) for j, scan in enumerate(row) if scan is not None]
    streams = {}
    names = next((s.extra["signature_names"] for _, _, s in found if "signature_names" in s.extra), None)
    wanted = {"signatures": (names, lambda s: s.extra["signatures"]), "clinical": (rules.columns, lambda s: columns(
        s, rules.columns))}  # fmt: skip
    for stream, (channels, read) in wanted.items():
        if not channels:
            continue
        values = np.full((*exists.shape, len(channels)), np.nan, np.float32)
        for n, j, scan in found:
            values[n, j] = read(scan)
        seen = np.isfinite(values)
        streams[stream] = Stream(np.where(seen, values, 0).astype(np.float32), seen, tuple(channels),
                                 ("1",) * len(channels), time)  # fmt: skip
    return streams


def columns(scan: Scan, names: tuple[str, ...]) -> np.ndarray:
    """Numbers of a scan's row, NaN for an empty field. Raises InvalidData."""
    row = scan.extra.get("row") or {}
    missing = [c for c in names if c not in row]
    if missing:
        raise InvalidData(f"--columns: scan {scan.key} has no column '{missing[0]}' (it has {', '.join(row)})")
    return np.array([layouts.number(row[c], f"scan {scan.key}, {c}") if row[c].strip() else np.nan for c in names])


def joined(
    rows: pl.DataFrame, subjects: list[str], when: list[list[datetime]], told: dict[str, Label], exists: np.ndarray,
    time: np.ndarray, training: np.ndarray, rules: Rules, account: Account,
) -> tuple[Events, dict[str, Stream]]:
    """Events until each subject's last visit, and the streams of what each visit knew: latest values, signatures."""
    here = rows.filter(pl.col("subject").is_in(subjects))
    if rows.height and not here.height:
        other = rows["subject"][0]
        raise InvalidData(f"no subject of the record (such as {other}) is among the scans' patient ids (such as "
                          f"{subjects[0]}): name them in subjects.csv (patient_id, subject_id) of the MEDS folder")
    account.drop("events", "*", "of a subject without a scan", rows.height - here.height)
    marks = ehr.matches(here, rules.visits, "--visits")
    account.fact("codes that mark a visit (no events of the cohort)", int(marks.sum()))
    here = here.filter(~marks)
    for option, pattern in [("--exclude", p) for p in rules.exclude] + [("--outcome", rules.outcome)] * bool(
            rules.outcome):  # fmt: skip
        hit = ehr.matches(here, str(pattern), option)
        account.fact(f"{option} {pattern} matches no code", int(not hit.any()))
        account.drop("events", "*", f"says the label ({option} {pattern})", int(hit.sum()))
        here = here.filter(~hit)
    ends = [w[-1] for w in when]
    late = pl.DataFrame({"subject": subjects, "end": ends, "until": [
        told[s].until if s in told else None for s in subjects]}, schema_overrides={
            "end": pl.Datetime("us"), "until": pl.Datetime("us")})  # fmt: skip
    held = here.join(late, on="subject", maintain_order="left")
    after_label = (held["time"] > held["until"]).fill_null(False)
    after_last = (held["time"] > held["end"]) & ~after_label
    account.drop("events", "*", "after the label's time", int(after_label.sum()))
    account.drop("events", "*", "after the last scan", int(after_last.sum()))
    here = here.filter(~(after_label | after_last))
    here = ehr.in_known_units(here, {s for s, t in zip(subjects, training, strict=True) if t}, account)
    account.fact("events dated 00:00 on a scan's day (of a time not told, perhaps: taken as known by then)",
                 ehr.at_midnight(here, subjects, when))  # fmt: skip
    events = ehr.events_of(here, subjects, [w[0] for w in when], ends)
    account.use("events", "*", len(events.time))
    account.fact("subjects without an event in the record", int((np.diff(events.offsets) == 0).sum()))
    known = ehr.as_of(events, time, exists, rules.look_back)
    streams = {}
    values, few = ehr.latest(known, training, exists.shape, time, rules.least)
    account.fact(f"codes with values that fewer than {rules.least} training subjects show (--least; events only)", few)
    if values is not None:
        streams["clinical"] = values
    if rules.signatures:
        streams["signatures"] = ehr.signatures(known, training, exists.shape, time, rules.signatures, rules.least)
    return events, streams


def sides(scans: list[Scan], subjects: list[str], record: Path | None, account: Account) -> np.ndarray:
    """Each subject's split: of the layout (test_set), of the record's own table of splits, else by hash."""
    test = {s.subject: bool(s.extra["test"]) for s in scans if "test" in s.extra}
    if test:
        account.sides = np.array(["test" if test.get(s) else "train" for s in subjects])
        return account.sides
    if record is not None and (record / "metadata" / "subject_splits.parquet").is_file() and all(
            s.isdigit() for s in subjects):  # fmt: skip
        account.sides = meds_events.sides(record, np.array(subjects, np.int64))
        return account.sides
    return splits.by_subject(as_ids(subjects))


def as_ids(subjects: list[str]) -> np.ndarray:
    """Numbers where every id is one as it is written, else text."""
    plain = all(s.isdigit() and str(int(s)) == s and int(s) < 2**63 for s in subjects)
    return np.array(subjects, np.int64) if plain else np.array(subjects)


def sites(visits: dict[str, list[Visit]], subjects: list[str], account: Account) -> np.ndarray:
    """Where each subject's last scan was made."""
    found = []
    for s in subjects:
        names = [scan.site for visit in visits[s] for scan in visit.scans[:1]]
        account.fact("subjects scanned at several sites (the last counts)", int(len(set(names)) > 1))
        found.append(names[-1])
    return np.array(found)


def task(rules: Rules) -> Task:
    if rules.outcome is None:
        return Task(rules.task, "binary", "record", None, None, "as the table of labels says")
    return Task(rules.task, "binary", "record", None, rules.horizon,
                f"a code that matches {rules.outcome} within {rules.horizon:g} days of the last scan before it")


def provenance(
    folder: Path, record: Path | None, rules: Rules, begins: list[datetime], subjects: list[str], side: np.ndarray,
    account: Account,
) -> dict[str, object]:
    """Where the cohort comes from: rules, layout, the account; and when each subject's first visit was."""
    return {
        "adapter": "real_data.ct_ehr",
        "rules": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(replace(rules)).items()},
        "time": "days since the subject's first visit",
        "field_mm": layouts.width(folder, rules),
        "codes": "dated",
        "begins": {s: b.isoformat() for s, b in zip(subjects, begins, strict=True)},
        "split": {str(name): int((side == name).sum()) for name in np.unique(side)},
        "licence": checks.licences(folder, record),
        "files": checks.files(folder, record),
        "attrition": account.attrition,
        "dropped": account.dropped,
    }
