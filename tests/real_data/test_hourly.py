"""Hourly tables: the golden counts of the eICU demo, two modalities, and bad tables named."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from real_data import hourly_tables
from real_data.account import Account
from real_data.hourly_variables import LABS, STATIC, VITALS
from simlab.errors import InvalidData, OutOfDomain


def prepare(folder, **options):
    account = Account()
    return hourly_tables.prepare(folder, account, lambda _: None, **options), account


@pytest.fixture
def tables():
    """Three stays of three hours; stay 2 has one hour alone."""
    rows = [(1, 0), (1, 1), (1, 2), (2, 0), (3, 0), (3, 1), (3, 2)]
    dyn = pl.DataFrame(
        {
            "stay_id": [s for s, _ in rows],
            "time": [timedelta(hours=h) for _, h in rows],
            "hr": [80.0, None, 0.0, 90.0, 70.0, 71.0, 72.0],
            "crea": [1.0, None, None, None, 2.0, None, None],
        }
    )
    sta = pl.DataFrame(
        {
            "stay_id": [1, 2, 3],
            "age": [50, 60, None],
            "sex": ["Male", "Female", "?"],
            "height": [170.0, 17.0, 180.0],
        }
    )
    return {"dyn": dyn, "sta": sta, "outc": pl.DataFrame({"stay_id": [1, 2, 3], "label": [0, 1, None]})}


@pytest.fixture
def written(tables, tmp_path):
    """Write the tables into a folder called mortality24, and give it."""

    def write():
        folder = tmp_path / "mortality24"
        folder.mkdir(exist_ok=True)
        for name, frame in tables.items():
            frame.write_parquet(folder / f"{name}.parquet")
        return folder

    return write


def test_golden_counts_of_the_eicu_demo(data_dir):
    cohort, account = prepare(data_dir / "eicu-demo-hourly" / "mortality24")
    assert len(cohort) == 1367
    assert (cohort.labels["mortality24"] == 1).sum() == 70
    assert cohort.tasks["mortality24"].cutoff == 24
    assert (cohort.length == 25).all()
    shown = cohort.inputs("mortality24").streams["vitals"]
    assert shown.visits == 24 and shown.time.max() == 24  # hours [0, 24); the row of hour 24 is known at 25
    assert {name: len(s.channels) for name, s in cohort.streams.items()} == {"vitals": 9, "labs": 39, "static": 4}
    assert account.attrition[-1]["n"] == 1367
    assert account.counts["dyn", "hr", "outside 1 to 300 bpm"] == 2
    assert "by stay" in cohort.provenance["subject"]
    observed = cohort.streams["vitals"].observed[..., cohort.streams["vitals"].channels.index("hr")]
    assert observed.sum() == 32_569 - 2


def test_hourly_labels_make_a_task_by_visit_or_one_label_at_an_hour(data_dir):
    folder = data_dir / "eicu-demo-hourly" / "los"
    cohort, _ = prepare(folder)
    task = cohort.tasks["los"]
    assert (task.kind, task.level, task.cutoff) == ("regression", "visit", None)
    assert len(cohort) == 2267
    assert np.isfinite(cohort.labels["los"]).sum() == 124_094
    part, _ = prepare(folder, at=24)
    task = part.tasks["los-at-24"]
    assert (task.kind, task.level, task.cutoff) == ("regression", "record", 24)
    assert len(part) == np.isfinite(cohort.labels["los"][:, 24]).sum()
    assert part.inputs("los-at-24").streams["vitals"].visits == 24


def test_every_variable_of_the_files_has_a_modality(data_dir):
    columns = pl.read_parquet_schema(data_dir / "eicu-demo-hourly" / "mortality24" / "dyn.parquet").keys()
    assert set(columns) - {"stay_id", "time"} == {*VITALS, *LABS}
    assert not set(VITALS) & set(LABS)


def test_values_land_in_their_hour_and_ranges_are_counted(written):
    cohort, account = prepare(written())
    vitals, labs, static = (cohort.streams[n] for n in ("vitals", "labs", "static"))
    assert vitals.observed[:, :, 0].tolist() == [[True, False, False], [True, False, False], [True, True, True]]
    assert vitals.values[2, :, 0].tolist() == [70, 71, 72]
    assert vitals.time.tolist() == [[1, 2, 3]] * 3
    assert labs.values[:, 0, labs.channels.index("crea")].tolist() == [1, 0, 2]
    assert cohort.length.tolist() == [3, 1, 3]
    assert static.channels == tuple(STATIC)
    assert static.observed[:, 0].tolist() == [
        [True, True, True, False],
        [True, True, False, False],
        [False, False, True, False],
    ]
    assert static.values[0, 0].tolist() == [50, 1, 170, 0]
    assert np.array_equal(cohort.labels["mortality24"], [0, 1, np.nan], equal_nan=True)
    assert account.counts["dyn", "hr", "outside 1 to 300 bpm"] == 1
    assert account.counts["sta", "height", "outside 100 to 250 cm"] == 1
    assert account.counts["sta", "sex", "neither male nor female"] == 1


def test_a_row_is_an_input_once_its_hour_has_ended(written):
    for cutoff, shown in ((1, [70]), (1.5, [70]), (2, [70, 71]), (3, [70, 71, 72])):
        cohort, _ = prepare(written(), cutoff=cutoff)
        assert cohort.inputs("mortality24").streams["vitals"].values[2, :, 0].tolist() == shown
    assert "when all of it is known" in cohort.provenance["time"]


def test_an_outcome_that_is_not_yes_or_no_is_a_regression(tables, written):
    tables["outc"] = tables["outc"].with_columns(label=pl.Series([0.5, 3.0, 12.0]))
    cohort, _ = prepare(written(), task="stay-left")
    assert cohort.tasks["stay-left"].kind == "regression"
    assert cohort.labels["stay-left"].tolist() == [0.5, 3.0, 12.0]


def test_times_in_hours_are_taken_too(tables, written):
    tables["dyn"] = tables["dyn"].with_columns(pl.Series("time", [0.0, 1, 2, 0, 0, 1, 2]))
    assert prepare(written())[0].length.tolist() == [3, 1, 3]


def test_exact_duplicates_count_once_and_early_rows_are_dropped(tables, written):
    early = tables["dyn"].head(1).with_columns(time=timedelta(hours=-2))
    tables["dyn"] = pl.concat([tables["dyn"], tables["dyn"].head(2), early])
    cohort, account = prepare(written())
    assert cohort.length.tolist() == [3, 1, 3]
    assert account.counts["dyn", "*", "duplicate row"] == 2
    assert account.counts["dyn", "time", "before admission or without a time"] == 1


def test_unknown_columns_are_counted(tables, written):
    tables["dyn"] = tables["dyn"].with_columns(mystery=pl.lit(1.0))
    assert prepare(written())[1].counts["dyn", "mystery", "no such variable"] == 7


BAD = {
    "no table 'dyn': looked for .*dyn.parquet": lambda t: t.pop("dyn"),
    "no table 'sta': looked for .*sta.parquet": lambda t: t.pop("sta"),
    "outc.parquet: no column 'label'": lambda t: t.update(outc=t["outc"].rename({"label": "y"})),
    "dyn.parquet: no column 'time'": lambda t: t.update(dyn=t["dyn"].drop("time")),
    "sta.parquet: no column 'stay_id'": lambda t: t.update(sta=t["sta"].drop("stay_id")),
    "none of the known variables": lambda t: t.update(dyn=t["dyn"].drop("hr", "crea")),
    "two different rows for stay_id 1": lambda t: t.update(
        outc=pl.concat([t["outc"], pl.DataFrame({"stay_id": [1], "label": [1]})])
    ),
    "column 'hr': String, not numbers": lambda t: t.update(dyn=t["dyn"].with_columns(hr=pl.lit("high"))),
    "column 'label': String, not numbers": lambda t: t.update(outc=t["outc"].with_columns(label=pl.lit("dead"))),
    "is not a whole hour": lambda t: t.update(dyn=t["dyn"].with_columns(pl.col("time") + timedelta(minutes=30))),
    "hours since admission are expected": lambda t: t.update(
        dyn=t["dyn"].with_columns(time=pl.Series([0.0, 1, 9e9, 0, 0, 1, 2]))
    ),
    "dyn.parquet: no rows": lambda t: t.update(dyn=t["dyn"].head(0)),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_tables_are_named(tables, written, message):
    BAD[message](tables)
    with pytest.raises(InvalidData, match=message):
        prepare(written())


def test_a_damaged_parquet_is_named(written):
    folder = written()
    (folder / "sta.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(InvalidData, match=r"sta.parquet: cannot be read as parquet"):
        prepare(folder)


def test_a_folder_above_the_tables_is_told_which_to_name(written):
    folder = written()
    with pytest.raises(InvalidData, match="its folders mortality24 have one: name one of them"):
        prepare(folder.parent)


def test_another_outcome_table_names_its_own_task(written, tables, tmp_path):
    folder = written()
    tables["outc"].write_parquet(tmp_path / "my outcome.parquet")
    assert list(prepare(folder, outcome=tmp_path / "my outcome.parquet")[0].tasks) == ["my-outcome"]


def test_at_needs_hourly_labels(written):
    with pytest.raises(OutOfDomain, match="one label a stay"):
        prepare(written(), at=3)
