"""Real files where they are at hand, and a tiny made-up MIMIC-IV to plant faults in."""

from __future__ import annotations

import csv
import gzip
import io
import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of openly licensed real files: $SIMLAB_DATA, else ../shared/data beside the repository."""
    named = os.environ.get("SIMLAB_DATA")
    folder = Path(named) if named else Path(__file__).parents[2].parent / "shared" / "data"
    if folder.is_dir():
        return folder
    why = f"no real data: {folder} is not a folder (set SIMLAB_DATA to one; docs/data.md says what lies in it)"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(why)
    pytest.skip(why)


class Tiny:
    """Tables of a made-up MIMIC-IV, by name: (header, rows). Change them, then `write` them in any layout."""

    def __init__(self) -> None:
        self.tables: dict[str, tuple[list[str], list[list[object]]]] = {}
        patients = [
            [1, "F", 50, 2150, ""],
            [2, "M", 60, 2150, "2150-01-02"],
            [3, "F", 17, 2150, ""],
            [4, "M", 70, 2150, ""],
        ]
        self.add("hosp/patients", "subject_id,gender,anchor_age,anchor_year,dod", patients)
        admissions = [
            [1, 10, at(-5), at(100), "", "ELECTIVE", 0],
            [2, 20, at(0), at(40), at(30), "EW EMER.", 1],
            [3, 30, at(0), at(60), "", "URGENT", 0],
            [4, 40, at(0), at(12), "", "URGENT", 0],
        ]
        self.add(
            "hosp/admissions",
            "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,hospital_expire_flag",
            admissions,
        )
        stays = [
            [1, 10, 11, "MICU", at(0), at(40), 1.67],
            [1, 10, 12, "MICU", at(50), at(80), 1.25],
            [2, 20, 21, "CCU", at(0), at(36), 1.5],
            [3, 30, 31, "CCU", at(0), at(50), 2.1],
            [4, 40, 41, "CCU", at(0), at(10), 0.4],
        ]
        self.add("icu/icustays", "subject_id,hadm_id,stay_id,first_careunit,intime,outtime,los", stays)
        self.add("icu/chartevents", "stay_id,charttime,storetime,itemid,value,valuenum,valueuom", [])
        self.add("hosp/labevents", "subject_id,hadm_id,charttime,itemid,value,valuenum,valueuom", [])
        self.add(
            "icu/inputevents",
            "stay_id,starttime,endtime,itemid,amount,amountuom,rate,rateuom,statusdescription,patientweight",
            [],
        )
        self.add("icu/outputevents", "stay_id,charttime,itemid,value,valueuom", [])
        self.add("icu/procedureevents", "stay_id,starttime,endtime,itemid,statusdescription,ORIGINALRATE", [])
        for stay in (11, 12, 21):
            self.chart(stay, (50 if stay == 12 else 0) + 0.5, 220045, 80, "bpm")

    def add(self, table: str, header: str, rows: list[list[object]]) -> None:
        self.tables[table] = (header.split(","), rows)

    def rows(self, table: str) -> list[list[object]]:
        return self.tables[table][1]

    def chart(self, stay: int, hour: float, itemid: int, number: object, unit: str = "") -> None:
        self.rows("icu/chartevents").append([stay, at(hour), at(hour + 0.2), itemid, number, number, unit])

    def lab(self, subject: int, hour: float, itemid: int, number: object, unit: str = "", value: object = None) -> None:
        value = number if value is None else value
        self.rows("hosp/labevents").append([subject, "", at(hour), itemid, value, number, unit])

    def infuse(self, stay, start, stop, itemid, rate, unit, amount="", amount_unit="", status="FinishedRunning", kg=80):
        row = [stay, at(start), at(stop), itemid, amount, amount_unit, rate, unit, status, kg]
        self.rows("icu/inputevents").append(row)

    def write(self, root: Path, parent: str = "", flat: bool = False, gz: bool = True, upper: bool = False) -> Path:
        """Write the tables below root/parent; flat: all in one folder; upper: headers in capitals. Returns root."""
        for table, (header, rows) in self.tables.items():
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\r\n" if upper else "\n")
            writer.writerows([[h.upper() for h in header] if upper else header, *rows])
            name = (table.split("/")[1] if flat else table) + (".csv.gz" if gz else ".csv")
            path = root / parent / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = text.getvalue().encode()
            path.write_bytes(gzip.compress(data) if gz else data)
        return root


def at(hour: float) -> str:
    """A time of the made-up hospital, in hours since the first in-time."""
    from datetime import datetime, timedelta

    return str(datetime(2150, 1, 1) + timedelta(seconds=round(hour * 3600)))


@pytest.fixture
def tiny() -> Tiny:
    return Tiny()
