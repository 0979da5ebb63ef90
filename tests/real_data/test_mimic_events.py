"""Known when, given what, and the raw events that the hours are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from real_data.account import Account
from real_data.mimic_iv import adapter, layout, staging
from real_data.mimic_iv.stays import Rules
from real_data.mimic_iv.variables import ACTIONS, STATE
from simlab.errors import InvalidData


@pytest.fixture
def prepared(tiny, tmp_path):
    count = iter(range(99))

    def run(**rules):
        account = Account()
        folder = tiny.write(tmp_path / str(next(count)))
        return adapter.prepare(folder, Rules(**rules), account, lambda _: None), account

    return run


def value(cohort, stay, hour, name):
    s = cohort.streams["state" if name in cohort.streams["state"].channels else "action"]
    row, channel = cohort.record.tolist().index(stay), s.channels.index(name)
    return float(s.values[row, hour, channel]) if s.observed[row, hour, channel] else None


def events_of(cohort, stay):
    e, row = cohort.events, cohort.record.tolist().index(stay)
    part = slice(e.offsets[row], e.offsets[row + 1])
    return [(round(float(t), 3), c, float(v), u) for t, c, v, u in
            zip(e.time[part], e.code[part], e.value[part], e.unit[part], strict=True)]  # fmt: skip


def with_columns(tiny, table, *names):
    """Add columns to a table's header; rows that are added afterwards are given whole."""
    tiny.tables[table][0].extend(names)
    return tiny.rows(table)


def at(hour):
    from datetime import datetime, timedelta

    return str(datetime(2150, 1, 1) + timedelta(seconds=round(hour * 3600)))


def test_a_laboratory_value_is_known_at_its_storetime(tiny, prepared):
    labs = with_columns(tiny, "hosp/labevents", "storetime")
    labs.append([1, "", at(5.5), 50912, 1.1, 1.1, "mg/dL", at(7.5)])
    labs.append([1, "", at(9.5), 50912, 1.3, 1.3, "mg/dL", ""])
    labs.append([1, "", at(39.5), 50912, 1.4, 1.4, "mg/dL", at(41)])  # known after the stay: never
    cohort, account = prepared()
    assert [value(cohort, 11, h, "creatinine") for h in (5, 7, 9, 39)] == [None, pytest.approx(1.1), pytest.approx(1.3),
                                                                           None]  # fmt: skip
    assert account.facts["laboratory values without storetime, taken at charttime"] == 1
    drawn, _ = prepared(labs_at="charttime")
    assert value(drawn, 11, 5, "creatinine") == pytest.approx(1.1)
    told = [e for e in events_of(cohort, 11) if "creatinine" in e[1]]
    assert told[0] == (7.5, "creatinine//50912", pytest.approx(1.1), "mg/dL")
    assert told[1] == (7.5, "creatinine//50912//drawn-before", 2.0, "h")
    assert told[2][0] == 9.5 and len(told) == 3


def test_inputs_hold_no_value_that_was_not_yet_known(tiny, prepared):
    labs = with_columns(tiny, "hosp/labevents", "storetime")
    labs.append([1, "", at(23.5), 50912, 9.0, 9.0, "mg/dL", at(24.5)])
    shown = prepared()[0].inputs("hospital-mortality")
    state = shown.streams["state"]
    assert not state.observed[:, :, state.channels.index("creatinine")].any()
    assert not any("creatinine" in code for code in shown.events.code)
    leaking = prepared(labs_at="charttime")[0].inputs("hospital-mortality").streams["state"]
    assert leaking.observed[0, 23, state.channels.index("creatinine")]


def test_the_scales_words_are_taken_where_there_is_no_number(tiny, prepared):
    for hour, itemid, words, number in (
        (1, 220739, "Spontaneously", ""),
        (1, 223900, "No Response-ETT", ""),
        (2, 223901, " obeys COMMANDS ", ""),
        (3, 223901, "Obeys Commands", 4),
        (4, 223901, "waves", ""),
    ):
        tiny.rows("icu/chartevents").append([11, at(hour), at(hour), itemid, words, number, ""])
    cohort, account = prepared()
    shown = [value(cohort, 11, h, n) for h, n in ((1, "gcs_eye"), (1, "gcs_verbal"), (2, "gcs_motor"), (3, "gcs_motor"),
                                                  (4, "gcs_motor"))]  # fmt: skip
    assert shown == [4, 1, 6, 4, None]
    assert account.counts["icu/chartevents", "223901", "no number"] == 1


def test_gases_of_other_than_arterial_blood_do_not_enter(tiny, prepared):
    labs = with_columns(tiny, "hosp/labevents", "specimen_id")
    for specimen, kind, po2 in ((1, "ART.", 90), (2, "VEN.", 40), (3, "", 70)):
        labs.append([1, "", at(specimen), 50821, po2, po2, "mm Hg", specimen])
        labs.append([1, "", at(specimen), 52033, kind, "", "", specimen])
    labs.append([1, "", at(2), 50813, 3.0, 3.0, "mmol/L", 2])  # lactate of venous blood is lactate
    cohort, account = prepared()
    assert [value(cohort, 11, h, "po2") for h in (1, 2, 3)] == [90, None, 70]
    assert value(cohort, 11, 2, "lactate") == 3
    assert account.counts["hosp/labevents", "50821", "specimen not arterial"] == 1


def test_fluids_sedation_antibiotics_and_dialysis(tiny, prepared):
    tiny.infuse(11, 1, 3, 225158, "", "", 500, "ml")
    tiny.infuse(11, 1, 2, 225828, "", "", 1, "L")
    tiny.infuse(11, 2, 3, 222168, 50, "mcg/kg/min")
    tiny.infuse(11, 2, 4, 225942, "", "", 0.2, "mg")
    tiny.infuse(11, 4.5, 4.52, 225798, "", "", 1, "dose")
    tiny.infuse(11, 5, 6, 225837, "", "", 1, "dose")  # against a virus
    tiny.infuse(11, 6, 7, 220862, "", "", 100, "gallons")
    tiny.rows("icu/procedureevents").append([11, at(3), at(5.5), 225802, "", ""])
    cohort, account = prepared()
    assert [value(cohort, 11, h, "crystalloid") for h in range(4)] == pytest.approx([0, 1250, 250, 0])
    assert value(cohort, 11, 2, "propofol") == pytest.approx(50)
    assert value(cohort, 11, 3, "fentanyl") == pytest.approx(100)
    assert [value(cohort, 11, h, "antibiotic") for h in (3, 4, 5)] == [0, 1, 0]
    assert [value(cohort, 11, h, "crrt") for h in range(2, 7)] == pytest.approx([0, 1, 1, 0.5, 0])
    assert account.counts["icu/inputevents", "220862", "unknown unit 'gallons'"] == 1
    names = [a.name for a in ACTIONS]
    assert len(set(names)) == len(names) and not {v.name for v in STATE} & set(names)


def test_sepsis_is_looked_for_beyond_the_hours_that_are_kept(tiny, prepared):
    """Labels look 48 hours further: at the antibiotic too, as at cultures and organs."""
    tiny.add("hosp/microbiologyevents", "subject_id,charttime,chartdate,spec_type_desc", [])
    tiny.rows("hosp/microbiologyevents").append([1, at(34), at(0), "BLOOD"])
    tiny.infuse(11, 35, 36, 225798, "", "", 1, "dose")
    tiny.lab(1, 36, 51265, 90, "K/uL")
    for hours in (30, 72):
        cohort, _ = prepared(max_hours=hours)
        assert cohort.labels["sepsis"][cohort.record.tolist().index(11)] == 1


def test_events_are_the_readings_and_the_intervals_in_order_of_time(tiny, prepared):
    tiny.chart(11, 2.25, 223761, 98.6, "°F")
    tiny.infuse(11, 1.5, 3, 221906, 0.2, "mcg/kg/min")
    tiny.chart(11, 39.9, 220045, 81, "bpm")
    cohort, _ = prepared(max_hours=30)
    assert events_of(cohort, 11) == [
        (0.5, "hr//220045", 80, "bpm"),
        (1.5, "norepinephrine//221906//start", pytest.approx(0.2), "mcg/kg/min"),
        (2.25, "temp//223761", pytest.approx(37.0), "C"),
        (3.0, "norepinephrine//221906//stop", pytest.approx(0.2), "mcg/kg/min"),
    ]
    assert prepared(events=False)[0].events is None


def test_many_parts_give_the_same_bits(tiny, prepared, monkeypatch):
    rng = np.random.default_rng(1)
    for _ in range(600):
        stay, subject = [(11, 1), (12, 1), (21, 2), (31, 3), (99, 9)][rng.integers(5)]
        tiny.chart(stay, float(rng.uniform(-3, 90)), 220045, float(rng.integers(0, 200)), "bpm")
        tiny.lab(subject, float(rng.uniform(-3, 90)), 50912, 1.25, "mg/dL")
        tiny.infuse(stay, float(rng.uniform(0, 5)), float(rng.uniform(6, 40)), 221906, 0.1, "mcg/kg/min")
    tiny.rows("icu/chartevents").append(["", at(1), at(1), 220045, 1, 1, "bpm"])
    one, all_at_once = prepared()
    monkeypatch.setattr(staging, "parts_of", lambda path: 3)
    many, in_parts = prepared()
    assert in_parts.dropped == all_at_once.dropped and in_parts.used == all_at_once.used
    for name in ("state", "action"):
        assert one.streams[name].values.tobytes() == many.streams[name].values.tobytes()
    assert np.array_equal(one.events.time, many.events.time) and np.array_equal(one.events.code, many.events.code)


def test_a_scratch_file_is_never_left(tiny, prepared, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    prepared()
    assert not list((tmp_path / "scratch").iterdir())


def test_a_full_disk_is_not_called_a_damaged_table(tiny, prepared, tmp_path, monkeypatch):
    """What polars says where the scratch folder is full; whatever was written is taken away again."""
    import tempfile

    def full(*_, **__):
        raise OSError("No space left on device (os error 28)")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(layout.pl.LazyFrame, "sink_parquet", full)
    with pytest.raises(InvalidData, match=r"scratch files do not fit in .*scratch .*TMPDIR"):
        prepared()
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize(("patients", "release"), [(100, "demo 2.2"), (299_712, "2.2"), (364_627, "3.1")])
def test_the_release_is_known_by_its_patients(patients, release):
    assert adapter.RELEASES[patients] == release


def test_columns_that_releases_added_or_renamed_are_nothing(tiny, tmp_path):
    """v2.2 has provider and caregiver columns, v3.1 longer language strings; both are read by name."""
    for table in ("icu/chartevents", "icu/inputevents"):
        header, rows = tiny.tables[table]
        tiny.tables[table] = (["caregiver_id", *header], [[7, *row] for row in rows])
    header, rows = tiny.tables["hosp/admissions"]
    tiny.tables["hosp/admissions"] = ([*header, "language", "race", "admit_provider_id"],
                                      [[*row, "Kabuverdianu, Portuguese", "WHITE", "P1"] for row in rows])  # fmt: skip
    found = layout.find(tiny.write(Path(tmp_path)))
    assert len(adapter.prepare(found.root, Rules(), Account(), lambda _: None)) == 3
