"""The cohort of a MIMIC-IV folder: state, action and static streams by the hour, in-hospital death as the task."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import polars as pl

from real_data import audit, splits
from real_data.account import Account
from real_data.labels import tasks
from real_data.labels.tasks import Course
from real_data.mimic_iv import actions, binning, events, known, layout, microbiology, stays
from real_data.mimic_iv.binning import Hours
from real_data.mimic_iv.stays import Rules
from real_data.mimic_iv.variables import ACTIONS, STATE, STATIC
from simlab.cohort import Cohort, Events, Stream
from simlab.errors import InvalidData

LONGEST_HORIZON = 48  # hours that labels look beyond the last hour kept
# Variables that labels are made of.
LABELLED = ("map", "lactate", "creatinine", "urine", "weight", "bilirubin", "inr", "po2", "fio2", "gcs_eye",
            "gcs_verbal", "gcs_motor", "platelets")  # fmt: skip
RELEASES = {100: "demo 2.2", 299_712: "2.2", 364_627: "3.1"}  # by number of patients


def prepare(folder: Path, rules: Rules, account: Account, say: Callable[[str], None]) -> Cohort:
    """The cohort of a folder under these rules. Raises InvalidData naming the table or column that is wrong.

    Hour h of a stay is [h, h + 1) since its in-time, and its time is h + 1, when all of it is known. Axis 1 has
    rules.max_hours visits at most; a stay's length is its last hour, by out-time or death.
    """
    found = layout.find(folder)
    say(f"MIMIC-IV tables in {found.root}")
    everyone = stays.read(found, account)
    kept = stays.select(everyone, rules, account)
    if not kept.height:
        raise InvalidData(f"no stay in {found.root} meets the rules; attrition: {told(account)}")
    say(f"{kept.height} stays; reading charted values, laboratory values and outputs")
    with tempfile.TemporaryDirectory(prefix="simlab-", ignore_cleanup_errors=True) as scratch:
        read = gather(found, Path(scratch), kept, rules, account, say)
    seen = read.state.observed[:, : rules.window].any(axis=(1, 2))
    stays.note(account, f"with a value in the first {rules.window} h", kept.filter(pl.Series(seen)))
    if not seen.any():
        raise InvalidData(f"no stay in {found.root} has a value; attrition: {told(account)}")
    whole = assemble(found, kept, read, rules, account)
    whole = whole if seen.all() else whole.take(seen)
    account.checks.append(known.check(found, kept, whole))
    return whole


@dataclass(frozen=True)
class Read:
    """What the tables gave for the cohort's stays, in their order."""

    state: Hours
    grid: Hours  # for labels: by the hour of measurement, and for longer
    given: actions.Given
    events: Events | None


def gather(
    found: layout.Layout,
    scratch: Path,
    kept: pl.DataFrame,
    rules: Rules,
    account: Account,
    say: Callable[[str], None],
) -> Read:
    """Read every table once, through files below scratch."""
    longer = rules.max_hours + LONGEST_HORIZON
    state = Hours.empty(kept.height, rules.max_hours, STATE)
    grid = Hours.empty(kept.height, longer, tuple(v for v in STATE if v.name in LABELLED))
    raw: list[pl.DataFrame] = []
    for table, rows in binning.readings(found, scratch, kept, STATE, rules, account):
        of_table = tuple(v for v in STATE if v.table == table)
        state.add(rows, "hour", of_table)
        grid.add(rows, "drawn_hour", of_table)
        if rules.events:
            raw.append(events.of_readings(rows, rules.max_hours))
    say("reading infusions and procedures")
    given = actions.action(found, scratch, kept, ACTIONS, rules, longer, account)
    raw.append(events.of_intervals(given.intervals))
    return Read(state, grid, given, events.assemble(raw, kept.height) if rules.events else None)


def told(account: Account) -> str:
    return ", ".join(f"{row['step']} {row['n']}" for row in account.attrition)


def assemble(
    found: layout.Layout, kept: pl.DataFrame, read: Read, rules: Rules, account: Account
) -> Cohort:
    """The cohort of these stays and their hours."""
    length = np.ceil(kept["end_h"].to_numpy()).clip(1, rules.max_hours).astype(np.int64)
    visits = int(length.max())
    time = np.tile(np.arange(1, visits + 1, dtype=np.float64), (kept.height, 1))
    exists = np.arange(visits) < length[:, None]
    streams = {
        "state": Stream(
            read.state.values[:, :visits],
            read.state.observed[:, :visits],
            tuple(v.name for v in STATE),
            tuple(v.unit for v in STATE),
            time,
        ),
        # An action that nobody charted was not given: that is known for every hour of the stay.
        "action": Stream(
            read.given.values[:, :visits],
            np.repeat(exists[:, :, None], len(ACTIONS), axis=2),
            tuple(a.name for a in ACTIONS),
            tuple(a.unit for a in ACTIONS),
            time.copy(),
        ),
        "static": static(kept),
    }
    subject = kept["subject_id"].to_numpy().astype(np.int64)
    cultures = microbiology.cultures(found, kept, account)
    labels = tasks.labels(course(kept, read, cultures), rules.window, visits)
    return Cohort(
        streams=streams,
        length=length,
        record=kept["stay_id"].to_numpy().astype(np.int64),
        subject=subject,
        site=np.full(kept.height, "BIDMC"),
        tasks=tasks.described(rules.window, read.grid.values.shape[1]),
        labels=labels,
        events=read.events,
        provenance=provenance(found, subject, rules, account) | outcomes(kept, cultures),
    )


def course(kept: pl.DataFrame, read: Read, cultures: list[list[float]] | None) -> Course:
    """What labels are made of: outcomes, and the hours by time of measurement, beyond those that are kept."""
    died, death, gone, followed, out = (
        kept[c].cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
        for c in ("died", "death_h", "gone_h", "followed_h", "los_h")
    )
    grid = np.where(read.grid.observed, read.grid.values, np.nan).astype(np.float64)
    given = read.given.longer.astype(np.float64)
    antibiotics: list[list[float]] = [[] for _ in range(kept.height)]
    starts = read.given.doses.filter(pl.col("name") == "antibiotic").select("row", "start").unique()
    for row, start in starts.sort("row", "start").iter_rows():
        antibiotics[row].append(start)
    return Course(
        died, death, gone, followed, out,
        seen={name: grid[:, :, n] for n, name in enumerate(read.grid.names)},
        given={a.name: given[:, :, n] for n, a in enumerate(ACTIONS)},
        cultures=cultures,
        antibiotics=antibiotics,
    )  # fmt: skip


def static(kept: pl.DataFrame) -> Stream:
    """What is known on arrival, (stays, 1, channels)."""
    names = tuple(name for name, _ in STATIC)
    values = kept.select(pl.col(names).cast(pl.Float64).fill_null(np.nan)).to_numpy().astype(np.float32)[:, None, :]
    observed = np.isfinite(values)
    return Stream(np.where(observed, values, 0).astype(np.float32), observed, names, tuple(unit for _, unit in STATIC))


def provenance(found: layout.Layout, subject: np.ndarray, rules: Rules, account: Account) -> dict[str, object]:
    """Where the cohort comes from and what was done: files, rules, split, ranges, attrition, dropped rows."""
    files = {
        table: {"file": path.name, "bytes": path.stat().st_size, "sha256": audit.sha256(path)}
        for table, path in found.paths.items()
    }
    (patients,) = found.collect("hosp/patients", found.scan("hosp/patients").select(pl.col("subject_id").n_unique()))
    n = int(patients.item())
    return {
        "adapter": "real_data.mimic_iv",
        "release": RELEASES.get(n, f"unknown, {n} patients"),
        "licence": licence(found.root, n),
        "files": files,
        "rules": asdict(rules),
        "time": "hours since in-time; hour h is [h, h + 1) and carries time h + 1",
        "split": splits.described(subject),
        "ranges": {v.name: [v.low, v.high, v.unit] for v in STATE},
        "attrition": account.attrition,
        "dropped": account.dropped,
    }


def licence(root: Path, patients: int) -> str:
    """The first line of the folder's LICENSE.txt, else what the release is known to come under."""
    for path in (root / "LICENSE.txt", root.parent / "LICENSE.txt"):
        if path.is_file():
            lines = [line.strip("# ") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
            return next((line for line in lines if line), "an empty LICENSE.txt")
    if patients == 100:
        return "Open Data Commons Open Database License v1.0"
    return "PhysioNet Credentialed Health Data License 1.5.0 (a prepared cohort is the data: never pass it on)"


# What of a stay its labels come from, as the files have it; no method is ever shown it (`Cohort.inputs`).
COURSE = ("subject_id", "hadm_id", "first_careunit", "intime", "outtime", "admittime", "dischtime", "deathtime",
          "dod", "gender", "anchor_age", "anchor_year", "admission_type", "hospital_expire_flag",
          "last_discharge")  # fmt: skip


def outcomes(kept: pl.DataFrame, cultures: list[list[float]] | None) -> dict[str, object]:
    """By stay id: the course of the stay (for `export` and the audit), when it ends, when the patient is discharged."""
    keys = [str(k) for k in kept["stay_id"].to_list()]
    as_stored = kept.select(pl.col(COURSE).cast(pl.String).str.strip_suffix(".000000")).rows()
    discharge = kept.select(stays.hours("dischtime", "intime")).to_series().to_list()
    return {
        "course": {"columns": list(COURSE), "stays": dict(zip(keys, map(list, as_stored), strict=True))},
        "cultures": None if cultures is None else dict(zip(keys, cultures, strict=True)),
        "ends": dict(zip(keys, kept["end_h"].to_list(), strict=True)),
        "discharges": {k: h for k, h in zip(keys, discharge, strict=True) if h is not None},
    }
