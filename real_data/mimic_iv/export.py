"""A cohort back into MIMIC-IV's raw layout, so that preparing it again gives the same cohort.

Only what the cohort holds can be written: its stays, the readings and intervals of their first hours (`events`), the
course that labels come from. Everything is compressed .csv, `hosp/` and `icu/`.
"""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from real_data.mimic_iv.variables import ACTIONS, STATE, WORDS, Action, Item
from simlab.cohort import Cohort
from simlab.errors import InvalidData

AGE = "//drawn-before"
FINISHED = "FinishedRunning"
COLUMNS = {
    "hosp/patients": "subject_id,gender,anchor_age,anchor_year,dod",
    "hosp/admissions": "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,hospital_expire_flag",
    "icu/icustays": "subject_id,hadm_id,stay_id,first_careunit,intime,outtime,los",
    "icu/chartevents": "subject_id,hadm_id,stay_id,charttime,storetime,itemid,value,valuenum,valueuom",
    "hosp/labevents": "labevent_id,subject_id,hadm_id,specimen_id,itemid,charttime,storetime,value,valuenum,valueuom",
    "icu/outputevents": "subject_id,hadm_id,stay_id,charttime,storetime,itemid,value,valueuom",
    "icu/inputevents": "subject_id,hadm_id,stay_id,starttime,endtime,itemid,amount,amountuom,rate,rateuom,orderid,"
    "statusdescription,patientweight",
    "icu/procedureevents": "subject_id,hadm_id,stay_id,starttime,endtime,itemid,orderid,statusdescription",
    "hosp/microbiologyevents": "subject_id,hadm_id,chartdate,charttime,spec_type_desc",
}
Rows = dict[str, list[tuple[object, ...]]]


def export(cohort: Cohort, folder: Path, say: Callable[[str], None]) -> dict[str, int]:
    """Write the tables below folder; gives the number of rows of each. Raises InvalidData where a cohort cannot be."""
    course = cohort.provenance.get("course")
    # The simulated ICU (simlab's world `icu`, knob `events`) tells its course in the same words.
    ours = cohort.provenance.get("adapter") == "real_data.mimic_iv" or cohort.provenance.get("layout") == "mimic-iv"
    if not ours or not isinstance(course, Mapping):
        raise InvalidData("this cohort does not tell its stays' course: only one that real_data.mimic_iv prepared, or "
                          "simlab.environments sampled with --sample icu --set events=on, is written in this layout")
    if cohort.events is None:
        raise InvalidData("the cohort has no raw events (prepared with --no-events): prepare it again with them")
    if any((folder / part).exists() for part in ("hosp", "icu")):
        raise InvalidData(f"{folder} already holds hosp/ or icu/: name another folder")
    told = {s: dict(zip(course["columns"], row, strict=True)) for s, row in course["stays"].items()}
    stays = [told[str(r)] | {"stay_id": str(r)} for r in cohort.record.tolist()]
    rows: Rows = defaultdict(list)
    people(stays, rows)
    cultures = cohort.provenance.get("cultures")
    for n, stay in enumerate(stays):
        part = slice(cohort.events.offsets[n], cohort.events.offsets[n + 1])
        of_stay = list(zip(cohort.events.time[part].tolist(), cohort.events.code[part].tolist(),
                           cohort.events.value[part].tolist(), strict=True))  # fmt: skip
        readings(stay, of_stay, rows)
        intervals(stay, of_stay, rows)
        for hour in (cultures or {}).get(stay["stay_id"], []):
            taken = clock(stay, hour)
            rows["hosp/microbiologyevents"].append((*ids(stay)[:2], taken[:10], taken, "CULTURE"))
    tables = [t for t in COLUMNS if t != "hosp/microbiologyevents" or cultures is not None]
    for table in tables:
        say(f"writing {table}")
        write(folder, table, rows[table])
    return {table: len(rows[table]) for table in tables}


def write(folder: Path, table: str, rows: list[tuple[object, ...]]) -> None:
    """One table as .csv.gz, every field as text."""
    names = COLUMNS[table].split(",")
    text = [tuple("" if cell is None else str(cell) for cell in row) for row in rows]
    frame = pl.DataFrame(text, schema=dict.fromkeys(names, pl.String), orient="row")
    path = folder / f"{table}.csv.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(path, "wb", mtime=0) as f:
        f.write(frame.write_csv().encode())


def ids(stay: Mapping[str, str]) -> tuple[str, str, str]:
    return stay["subject_id"], stay["hadm_id"], stay["stay_id"]


def clock(stay: Mapping[str, str], hour: float) -> str:
    """The time of an hour of the stay, to the second."""
    return str(datetime.fromisoformat(stay["intime"]) + timedelta(seconds=round(hour * 3600)))


def people(stays: Iterable[Mapping[str, str]], rows: Rows) -> None:
    """Patients, admissions and stays. A later discharge, until which a patient was followed, is an admission too."""
    patients, admissions = {}, {}
    for s in stays:
        patients[s["subject_id"]] = (s["subject_id"], s["gender"], s["anchor_age"], s["anchor_year"], s["dod"])
        admissions[s["hadm_id"]] = (*ids(s)[:2], s["admittime"], s["dischtime"], s["deathtime"], s["admission_type"],
                                    s["hospital_expire_flag"])  # fmt: skip
        los = datetime.fromisoformat(s["outtime"]) - datetime.fromisoformat(s["intime"])
        days = round(los.total_seconds() / 86_400, 6)
        rows["icu/icustays"].append((*ids(s), s["first_careunit"], s["intime"], s["outtime"], days))
        if s["last_discharge"] and s["last_discharge"] != s["dischtime"]:
            key = f"9{s['subject_id']}"
            admissions[key] = (s["subject_id"], key, s["last_discharge"], s["last_discharge"], None, "ELECTIVE", 0)
    rows["hosp/patients"] = list(patients.values())
    rows["hosp/admissions"] = list(admissions.values())


def readings(stay: Mapping[str, str], events: list[tuple[float, str, float]], rows: Rows) -> None:
    """Charted values, laboratory values and outputs of one stay.

    Two readings that are alike get different storetimes (specimens, in the laboratory): both were there.
    """
    again: dict[tuple[str, float, float], int] = defaultdict(int)
    begin, key = datetime.fromisoformat(stay["intime"]), ids(stay)
    for n, (time, code, value) in enumerate(events):
        if code.count("//") != 1:
            continue
        table, item, unit, words = ITEMS[code]
        # Readings are kept to the millionth: what lies beyond is binary noise.
        stored = repr(round((value - item.offset) / item.factor, 6))
        known = str(begin + timedelta(seconds=round(time * 3600)))
        if table == "hosp/labevents":
            older = events[n + 1][2] if n + 1 < len(events) and events[n + 1][1] == code + AGE else 0.0
            nth = len(rows[table]) + 1
            drawn = str(begin + timedelta(seconds=round((time - older) * 3600)))
            rows[table].append((nth, *key[:2], nth, item.itemid, drawn, known, stored, stored, unit))
            continue
        noted = str(begin + timedelta(seconds=round(time * 3600) + again[code, time, value]))
        again[code, time, value] += 1
        if table == "icu/chartevents":
            said = words.get(value, stored)
            rows[table].append((*key, known, noted, item.itemid, said, stored, unit))
        else:
            rows[table].append((*key, known, noted, item.itemid, stored, unit))


def intervals(stay: Mapping[str, str], events: list[tuple[float, str, float]], rows: Rows) -> None:
    """Infusions and procedures of one stay: each start with the first stop of its item and speed that follows."""
    open_: dict[tuple[str, float], list[float]] = defaultdict(list)
    for time, code, value in events:
        name, _, end = code.rpartition("//")
        if end == "start":
            open_[name, value].append(time)
        elif end == "stop" and open_[name, value]:
            begin = open_[name, value].pop(0)
            action, itemid = name.split("//")
            given(stay, ACTION[action], itemid, begin, time, value, rows)


def given(
    stay: Mapping[str, str], a: Action, itemid: str, begin: float, stop: float, speed: float, rows: Rows
) -> None:
    """One interval, in the action's own unit. orderid keeps two that are alike apart."""
    order = len(rows[a.table]) + 1
    when = (*ids(stay), clock(stay, begin), clock(stay, stop), itemid)
    unit = next((spelling for spelling, factor in a.units if factor == 1 and not spelling.startswith("kg:")), "")
    if a.table == "icu/procedureevents":
        rows[a.table].append((*when, order, FINISHED))
    elif a.how == "rate":
        rows[a.table].append((*when, "", "", repr(speed), unit, order, FINISHED, ""))
    elif a.how == "amount":
        rows[a.table].append((*when, repr(speed * (stop - begin)), unit, "", "", order, FINISHED, ""))
    else:
        rows[a.table].append((*when, 1, "dose", "", "", order, FINISHED, ""))


def plain(items: tuple[Item, ...], item: Item) -> Item:
    """The item itself, or, where its values were converted, one of the variable that is stored as it is told."""
    if abs(item.factor) == 1 and not item.offset:
        return item
    return next((i for i in items if i.factor == 1 and not i.offset), item)


# By event code: table, the item it is written as, its unit, and what its numbers are called.
ITEMS = {
    f"{v.name}//{i.itemid}": (
        v.table,
        plain(v.items, i),
        (plain(v.items, i).units or ("",))[0],
        {number: words.capitalize() for words, number in reversed(WORDS.get(i.itemid, {}).items())},
    )
    for v in STATE
    for i in v.items
}
ACTION = {a.name: a for a in ACTIONS}
