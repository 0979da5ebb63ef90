"""A cohort written back as the raw layout and prepared again is the same cohort."""

from __future__ import annotations

import csv
import gzip
import json

import numpy as np
import pytest

from real_data.account import Account
from real_data.mimic_iv import __main__ as mimic_iv
from real_data.mimic_iv import adapter, export
from real_data.mimic_iv.stays import Rules
from simlab.cohort import load
from simlab.errors import command


def prepare(folder, **rules):
    return adapter.prepare(folder, Rules(**rules), Account(), lambda _: None)


def assert_same(a, b):
    assert np.array_equal(a.record, b.record) and np.array_equal(a.subject, b.subject)
    assert np.array_equal(a.length, b.length)
    for name, s in a.streams.items():
        t = b.streams[name]
        assert s.channels == t.channels and np.array_equal(s.observed, t.observed), name
        if name == "action":  # an amount is written as speed times duration
            np.testing.assert_allclose(s.values, t.values, rtol=1e-6, atol=1e-6)
        else:
            assert np.array_equal(s.values, t.values), name
    assert set(a.labels) == set(b.labels)
    for name, label in a.labels.items():
        np.testing.assert_array_equal(label, b.labels[name], err_msg=name)


def assert_same_events(a, b):
    """The same readings in the same order; an item that is converted comes back as the variable's plain one."""
    assert np.array_equal(a.offsets, b.offsets)
    np.testing.assert_allclose(a.time, b.time, atol=1e-9)
    variable = [np.array([c.split("//")[0] for c in e.code.tolist()]) for e in (a, b)]
    assert np.array_equal(*variable) and np.array_equal(a.unit, b.unit)
    owner = np.repeat(np.arange(len(a)), np.diff(a.offsets))
    ordered = [np.lexsort((e.value, v, np.round(e.time, 6), owner)) for e, v in zip((a, b), variable, strict=True)]
    shown = [e.value[order] for e, order in zip((a, b), ordered, strict=True)]
    np.testing.assert_allclose(*shown, rtol=1e-9, atol=2e-6)


@pytest.fixture(scope="module")
def there_and_back(data_dir, tmp_path_factory):
    """The demo, whole stays; and what its export gives."""
    cohort = prepare(data_dir / "mimic-iv-demo-2.2", max_hours=600)
    folder = tmp_path_factory.mktemp("export")
    rows = export.export(cohort, folder, lambda _: None)
    return cohort, folder, rows


def without_numbers(path, itemids):
    """Take the numbers of these items away from a table, so that only their words are left; gives how many rows."""
    with gzip.open(path, "rt", newline="") as f:
        rows = list(csv.DictReader(f))
    mine = [row for row in rows if row["itemid"] in itemids]
    assert not any(row["value"][0].isdigit() for row in mine)
    for row in mine:
        row["valuenum"] = ""
    with gzip.open(path, "wt", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return len(mine)


def test_the_demo_there_and_back_with_words_for_the_glasgow_scale(there_and_back):
    """Chart rows as real releases have them: words, a charttime, a storetime. All of the stays, every label."""
    cohort, folder, rows = there_and_back
    assert rows["icu/icustays"] == 117 and rows["hosp/patients"] == 88
    assert without_numbers(folder / "icu" / "chartevents.csv.gz", ("220739", "223900", "223901")) > 3000
    again = prepare(folder, max_hours=600)
    assert_same(cohort, again)
    assert_same_events(cohort.events, again.events)


def test_storetimes_and_charttimes_come_back(there_and_back):
    """The last hour of input of a stay holds no laboratory value that was stored later, in either."""
    cohort, folder, _ = there_and_back
    with gzip.open(folder / "hosp" / "labevents.csv.gz", "rt", newline="") as f:
        labs = list(csv.DictReader(f))
    later = [row for row in labs if row["storetime"] > row["charttime"]]
    assert len(later) > 0.9 * len(labs) and all(row["storetime"] >= row["charttime"] for row in labs)
    by_draw = prepare(folder, max_hours=24, labs_at="charttime", events=False)
    state, drawn = cohort.streams["state"], by_draw.streams["state"]
    n = state.channels.index("creatinine")
    assert (state.observed[:, :24, n] != drawn.observed[:, :, n]).any()


@pytest.fixture
def busy(tiny):
    """A made-up hospital with everything in it that could get lost."""
    tiny.tables["hosp/labevents"][0].append("storetime")
    labs = tiny.rows("hosp/labevents")
    for hour, value in ((3, 1.0), (3, 1.0), (20, 1.7)):
        labs.append([1, "", at(hour), 50912, value, value, "mg/dL", at(hour + 1.5)])
    labs.append([1, "", at(-2), 50912, 0.7, 0.7, "mg/dL", at(0.5)])  # drawn before the stay, known in it
    tiny.chart(11, 2.25, 223761, 98.6, "°F")
    tiny.chart(11, 3.25, 226531, 180, "")
    tiny.chart(11, 4.5, 223835, 0.4, "")
    for _ in range(2):
        tiny.chart(11, 5.5, 220179, 120, "mmHg")
    tiny.rows("icu/outputevents").extend([[11, at(6.1), 226559, 300, "ml"], [11, at(6.2), 227488, 100, "ml"]])
    tiny.infuse(11, 1.5, 30.25, 221906, 0.1, "mcg/kg/min")
    tiny.infuse(11, 2, 8, 221906, 0.1, "mcg/kg/min")
    tiny.infuse(11, 2, 8, 225158, "", "", 1000 / 3, "ml")
    tiny.infuse(21, 29, 50, 225798, "", "", 1, "dose")
    tiny.rows("icu/procedureevents").append([11, at(3), at(39), 225802, "", ""])
    tiny.add("hosp/microbiologyevents", "subject_id,charttime,chartdate,spec_type_desc", [])
    tiny.rows("hosp/microbiologyevents").extend([[2, at(28), at(0), "BLOOD"], [2, "", at(-12), "URINE"]])
    tiny.rows("hosp/admissions").append([1, 19, at(900), at(950), "", "ELECTIVE", 0])
    return tiny


def at(hour):
    from datetime import datetime, timedelta

    return str(datetime(2150, 1, 1) + timedelta(seconds=round(hour * 3600)))


def test_everything_of_a_small_hospital_there_and_back(busy, tmp_path):
    cohort = prepare(busy.write(tmp_path / "in"))
    export.export(cohort, tmp_path / "out", lambda _: None)
    again = prepare(tmp_path / "out")
    assert_same(cohort, again)
    assert_same_events(cohort.events, again.events)
    export.export(again, tmp_path / "twice", lambda _: None)
    assert_same(again, prepare(tmp_path / "twice"))


def test_the_command(busy, tmp_path, capsys):
    folder, out = busy.write(tmp_path / "in"), tmp_path / "a.cohort"
    assert mimic_iv.main(["prepare", str(folder), "--out", str(out), "--quiet"]) == 0
    capsys.readouterr()
    assert mimic_iv.main(["export", str(out), "--out", str(tmp_path / "back"), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["icu/icustays"] == 3
    assert mimic_iv.main(["prepare", str(tmp_path / "back"), "--out", str(tmp_path / "b.cohort"), "--quiet"]) == 0
    assert_same(load(out), load(tmp_path / "b.cohort"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["export", "{tmp}/none.cohort", "--out", "{tmp}/x"], "is not a file"),
        (["export", "{tmp}/in/hosp/patients.csv.gz", "--out", "{tmp}/x"], "error:"),
        (["export", "{tmp}/hours.cohort", "--out", "{tmp}/x"], "no raw events"),
        (["export", "{tmp}/whole.cohort", "--out", "{tmp}/in"], "already holds hosp/ or icu/"),
        (["export", "{tmp}/whole.cohort", "--out", "{tmp}/whole.cohort"], "is a file, not a folder"),
        (["export", "{tmp}/whole.cohort"], "--out"),
    ],
)
def test_mistakes_get_one_line_and_no_file(tiny, tmp_path, capsys, arguments, expected):
    folder = tiny.write(tmp_path / "in")
    for name, extra in (("whole", []), ("hours", ["--no-events"])):
        mimic_iv.main(["prepare", str(folder), "--out", str(tmp_path / f"{name}.cohort"), "--quiet", *extra])
    capsys.readouterr()
    try:
        status = command(mimic_iv.main, [a.format(tmp=tmp_path) for a in arguments])
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr()
    assert status == 2 and expected in said.err and "Traceback" not in said.err
    assert not (tmp_path / "x").exists()


def test_a_cohort_of_another_adapter_is_refused(data_dir, tmp_path, capsys):
    from real_data import hourly

    out = tmp_path / "e.cohort"
    hourly.main(["prepare", str(data_dir / "eicu-demo-hourly" / "mortality24"), "--out", str(out), "--quiet"])
    assert command(mimic_iv.main, ["export", str(out), "--out", str(tmp_path / "x")]) == 2
    assert "only one that real_data.mimic_iv prepared" in capsys.readouterr().err
