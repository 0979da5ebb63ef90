"""MEDS: the demo's release gives what the raw tables give, and any other vocabulary is as good."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from real_data import leakage, meds, meds_events, splits
from real_data.account import Account
from real_data.mimic_iv import adapter
from real_data.mimic_iv.stays import Rules
from simlab.cohort import load
from simlab.errors import InvalidData, command

ICU = ("^ICU_ADMISSION", "^ICU_DISCHARGE")


@pytest.fixture(scope="module")
def both(data_dir):
    """The demo from raw tables (laboratory values when drawn, as its MEDS release has them) and from MEDS."""
    raw = adapter.prepare(
        data_dir / "mimic-iv-demo-2.2", Rules(labs_at="charttime", events=False), Account(), lambda _: None
    )
    rules = meds_events.Rules(*ICU, events=False)
    return raw, meds_events.prepare(data_dir / "mimic-iv-demo-meds", rules, "mimic-iv", Account(), lambda _: None)


def test_the_demo_from_meds_is_the_demo_from_raw_tables(both):
    raw, found = both
    assert np.array_equal(raw.subject, found.subject) and np.array_equal(raw.length, found.length)
    a, b = raw.streams["state"], found.streams["state"]
    assert a.channels == b.channels and a.units == b.units
    compared = 0
    for n, channel in enumerate(a.channels):
        seen, told = a.observed[:, :, n], b.observed[:, :, n]
        if channel in ("po2", "pco2"):  # the release does not say which blood a gas is of: the raw tables do
            assert not (seen & ~told).any()
            continue
        assert np.array_equal(seen, told), channel
        np.testing.assert_allclose(a.values[:, :, n][seen], b.values[:, :, n][seen], rtol=1e-5, atol=1e-5)
        compared += int(seen.sum())
    assert compared > 60_000


def test_labels_never_contradict_each_other_where_both_know(both):
    raw, found = both
    for days, positives in ((7, 7), (14, 11), (30, 18), (90, 24)):
        a, b = raw.labels[f"mortality-{days}d"], found.labels[f"mortality-{days}d"]
        known = ~np.isnan(a) & ~np.isnan(b)
        assert np.array_equal(a[known], b[known])
        assert ((b == 1).sum(), known.sum() >= 80) == (positives, True)


class Hospital:
    """A made-up MEDS data set with a vocabulary that no other has."""

    def __init__(self, subjects=40):
        self.rows: list[tuple] = []
        for s in range(subjects):
            self.add(s, None, "kön:kvinna" if s % 2 else "kön:man")
            self.add(s, -40 * 365.25 * 24, "MEDS_BIRTH")
            self.add(s, 0, "intensiv/in")
            self.add(s, 48, "intensiv/ut")
            for hour in range(48):
                self.add(s, hour + 0.5, "puls|slag/min", 80 + s % 5)

    def add(self, subject, hour, code, value=None):
        time = None if hour is None else datetime(2100, 1, 1) + timedelta(hours=hour)
        self.rows.append((subject, time, code, value))

    def write(self, folder, shards=2, value="numeric_value"):
        schema = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, value: pl.Float32}
        frame = pl.DataFrame(self.rows, schema=schema, orient="row")
        (folder / "data" / "train").mkdir(parents=True)
        (folder / "metadata").mkdir()
        for n in range(shards):
            frame.filter(pl.col("subject_id") % shards == n).write_parquet(folder / "data" / "train" / f"{n}.parquet")
        pl.DataFrame({"code": ["x"]}).write_parquet(folder / "metadata" / "codes.parquet")
        return folder


RULES = ("^intensiv/in$", "^intensiv/ut$")


def prepare(folder, channels=None, **rules):
    account = Account()
    return meds_events.prepare(folder, meds_events.Rules(*RULES, **rules), channels, account, lambda _: None), account


def test_any_vocabulary_is_read(tmp_path):
    made = Hospital()
    made.add(3, 5.5, "puls|slag/min", 100.0)
    made.add(3, 5.5, "puls|slag/min", 100.0)  # alike: once
    made.add(4, 30, "MEDS_DEATH")
    made.add(5, 10, "MEDS_DEATH")  # in the window: not in the cohort
    cohort, account = prepare(made.write(tmp_path))
    assert (len(cohort), cohort.streams["state"].channels) == (39, ("puls|slag/min",))
    row = cohort.record.tolist().index("3-0")
    assert cohort.streams["state"].values[row, 5, 0] == pytest.approx((83 + 100) / 2)
    static = cohort.streams["static"]
    assert static.channels == ("age", "kön:kvinna", "kön:man")
    assert static.values[row, 0].tolist() == pytest.approx([40, 1, 0], abs=0.01)
    dead = cohort.record.tolist().index("4-0")
    assert cohort.labels["mortality-7d"][dead] == 1 and cohort.length[dead] == 30
    assert np.isnan(cohort.labels["mortality-7d"][row])  # nobody looked after hour 48
    assert not np.isin(cohort.events.code, ["MEDS_DEATH", "intensiv/ut"]).any()
    assert account.attrition[-1]["n"] == 39
    assert all(not c.leaks for c in leakage.all_of(cohort, splits.by_subject(cohort.subject)))


def test_the_vocabulary_is_that_of_training_subjects(tmp_path):
    made = Hospital()
    sides = splits.by_subject(np.arange(40))
    for s in range(40):
        if sides[s] != "train":
            made.add(s, 1.5, "only/outside", 1.0)
    made.add(int(np.flatnonzero(sides == "train")[0]), 1.5, "once/in/training", 1.0)
    cohort, _ = prepare(made.write(tmp_path))
    assert cohort.streams["state"].channels == ("puls|slag/min", "once/in/training")
    assert cohort.provenance["fitted"]["subjects"] == np.flatnonzero(sides == "train").tolist()


def test_the_data_sets_own_splits_are_taken(tmp_path):
    made = Hospital()
    made.add(0, 1.5, "of/nought", 1.0)
    folder = made.write(tmp_path)
    told = pl.DataFrame({"subject_id": list(range(40)), "split": ["held_out", *["train"] * 39]})
    told.write_parquet(folder / "metadata" / "subject_splits.parquet")
    cohort, account = prepare(folder)
    assert cohort.streams["state"].channels == ("puls|slag/min",)
    assert account.sides.tolist() == ["held_out", *["train"] * 39]  # what the audit looks at


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"subject_id": [0, 1, 1], "split": ["train", "train", "held_out"]}, "subject 1 is in more than one split"),
        ({"subject_id": [0, 1]}, "no table of subject_id and split"),
    ],
)
def test_a_table_of_splits_that_contradicts_itself_is_refused(tmp_path, told, words):
    folder = Hospital().write(tmp_path)
    pl.DataFrame(told).write_parquet(folder / "metadata" / "subject_splits.parquet")
    with pytest.raises(InvalidData, match=words):
        prepare(folder)


def test_codes_given_after_discharge_do_not_enter(tmp_path):
    made = Hospital()
    made.add(1, 3, "DIAGNOSIS//ICD//10//J96")
    cohort, account = prepare(made.write(tmp_path))
    assert account.counts["events", "*", "a code given after discharge"] == 1
    assert not np.char.find(cohort.events.code, "DIAGNOSIS") .max() >= 0


def test_channels_of_a_file(tmp_path):
    made = Hospital()
    made.add(2, 7.2, "temp:F", 98.6)
    made.add(2, 7.4, "temp:F", 986.0)
    (tmp_path / "c.toml").write_text(
        '[[channel]]\nname = "temp"\nunit = "C"\nlow = 30\nhigh = 43\n'
        'codes = [{match = "^temp:F$", factor = 0.5555555556, offset = -17.7777777778}, "^temp:C$"]\n'
    )
    cohort, account = prepare(made.write(tmp_path / "d"), str(tmp_path / "c.toml"))
    state = cohort.streams["state"]
    assert (state.channels, state.units, int(state.observed.sum())) == (("temp",), ("C",), 1)
    assert state.values[2, 7, 0] == pytest.approx(37.0, abs=1e-4)
    assert account.counts["events", "temp:F", "outside its channel's range"] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", r"at least one \[\[channel\]\]"), ('[[channel]]\nname = "a"', "keys are"), ("[[", "c.toml"),
     ('[[channel]]\nname = "a"\ncodes = ["("]', "'a'"), ('[[channel]]\nname = "a"\ncodes = []\nlow = "x"', "'a'")],
)  # fmt: skip
def test_a_wrong_file_of_channels_is_named(tmp_path, text, expected):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(InvalidData, match=expected):
        prepare(Hospital().write(tmp_path / "d"), str(tmp_path / "c.toml"))


def test_the_command(tmp_path, capsys):
    folder = Hospital().write(tmp_path / "d", value="value")
    out = tmp_path / "m.cohort"
    arguments = ["prepare", str(folder), "--start", RULES[0], "--end", RULES[1], "--quiet"]
    assert command(meds.main, [*arguments, "--out", str(out)]) == 0
    assert "40 records of 40 subjects" in capsys.readouterr().out
    assert len(load(out)) == 40
    for wrong in (["--window", "0"], ["--most", "0"], ["--start", "^nothing"], ["--start", "("]):
        assert command(meds.main, [*arguments, "--out", str(tmp_path / "no.cohort"), *wrong]) == 2
        said = capsys.readouterr()
        assert said.err.startswith("error:") and said.err.count("\n") == 1
    assert not (tmp_path / "no.cohort").exists()


def test_files_that_are_no_events_are_named(tmp_path):
    with pytest.raises(InvalidData, match="no MEDS events"):
        prepare(tmp_path)
    pl.DataFrame({"subject_id": [1]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(InvalidData, match="no column 'time'"):
        prepare(tmp_path)
    events = {"subject_id": [1], "time": [datetime(2150, 1, 1)], "code": ["HR"], "numeric_value": [1.0]}
    for column, wrong in (("subject_id", ["x"]), ("time", ["yesterday"]), ("code", [7])):
        pl.DataFrame({**events, column: wrong}).write_parquet(tmp_path / "x.parquet")
        with pytest.raises(InvalidData, match=f"x.parquet: column '{column}' holds"):
            prepare(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidData, match="cannot be read as parquet"):
        prepare(tmp_path)


def test_a_file_that_is_damaged_inside_is_named(tmp_path, capsys):
    """Its footer is whole, so that only reading the rows tells."""
    folder = Hospital().write(tmp_path / "d")
    path = folder / "data" / "train" / "1.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:40] + b"\0" * 200 + whole[240:])
    arguments = ["prepare", str(folder), "--start", RULES[0], "--end", RULES[1], "--out", str(tmp_path / "no.cohort")]
    assert command(meds.main, [*arguments, "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "1.parquet: cannot be read to its end" in said and said.count("\n") == 1
