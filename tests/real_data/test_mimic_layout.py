"""Every layout of the same tables gives the same cohort; what cannot be read is refused by name."""

from __future__ import annotations

import gzip

import pytest

from real_data.account import Account
from real_data.mimic_iv import adapter, layout
from real_data.mimic_iv.stays import Rules
from simlab.errors import InvalidData


def prepare(folder, **rules):
    return adapter.prepare(folder, Rules(**rules), Account(), lambda _: None)


LAYOUTS = {
    "compressed": {},
    "plain": {"gz": False},
    "under a version": {"parent": "mimic-iv-3.1"},
    "as downloaded": {"parent": "physionet.org/files/mimiciv/3.1"},
    "all in one folder": {"flat": True},
    "one folder, plain, nested": {"flat": True, "gz": False, "parent": "a/b"},
    "capital headers": {"upper": True},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_cohort(tiny, tmp_path, name):
    tiny.lab(1, 3, 50912, 1.5, "mg/dL")
    cohort = prepare(tiny.write(tmp_path / "here", **LAYOUTS[name]))
    assert cohort.record.tolist() == [11, 12, 21]
    assert cohort.streams["state"].observed.sum() == 4


def test_both_forms_of_a_table_are_refused(tiny, tmp_path):
    root = tiny.write(tmp_path)
    (root / "icu" / "chartevents.csv").write_text("")
    with pytest.raises(InvalidData, match=r"icu/chartevents: both chartevents.csv and chartevents.csv.gz are in .*icu"):
        layout.find(root)


@pytest.mark.parametrize("table", layout.COLUMNS)
def test_a_missing_table_is_named_with_where_it_was_looked_for(tiny, tmp_path, table):
    root = tiny.write(tmp_path)
    part, name = table.split("/")
    (root / part / f"{name}.csv.gz").unlink()
    with pytest.raises(InvalidData, match=rf"table {table} is missing: looked for {name}.csv and .* in {root / part}"):
        layout.find(root)


@pytest.mark.parametrize("table", layout.COLUMNS)
def test_a_missing_column_is_named_with_its_table_and_file(tiny, tmp_path, table):
    header = tiny.tables[table][0]
    gone = layout.COLUMNS[table].split()[-1]
    header[header.index(gone)] = "other"
    root = tiny.write(tmp_path)
    with pytest.raises(InvalidData, match=rf"table {table}: no column '{gone}' in .*{table.split('/')[1]}"):
        layout.find(root)


def test_extra_columns_in_any_order_are_nothing(tiny, tmp_path):
    header, rows = tiny.tables["icu/icustays"]
    tiny.tables["icu/icustays"] = (["extra", *header[::-1]], [["x,\ny", *row[::-1]] for row in rows])
    assert len(prepare(tiny.write(tmp_path))) == 3


def test_a_column_twice_is_refused(tiny, tmp_path):
    header, rows = tiny.tables["hosp/patients"]
    tiny.tables["hosp/patients"] = ([*header, "Gender"], [[*row, "F"] for row in rows])
    with pytest.raises(InvalidData, match="column 'gender' is there twice"):
        layout.find(tiny.write(tmp_path))


def test_two_releases_below_one_folder_are_refused(tiny, tmp_path):
    tiny.write(tmp_path, "mimiciv/2.2")
    tiny.write(tmp_path, "mimiciv/3.1")
    with pytest.raises(InvalidData, match=r"holds 2 releases \(mimiciv/2.2, mimiciv/3.1\): name one"):
        layout.find(tmp_path)
    assert layout.find(tmp_path / "mimiciv" / "3.1").root.name == "3.1"


def test_a_folder_without_tables_says_where_it_looked(tiny, tmp_path):
    with pytest.raises(InvalidData, match=f"looked in {tmp_path}"):
        layout.find(tmp_path)
    tiny.write(tmp_path)
    with pytest.raises(InvalidData, match="name the folder above it"):
        layout.find(tmp_path / "hosp")


@pytest.mark.parametrize("damage", ["empty", "text", "header", "truncated", "short"])
def test_damaged_files_are_named(tiny, tmp_path, damage):
    for hour in range(20 if damage == "short" else 2000):
        tiny.chart(11, hour / 60, 220045, 80 + hour % 7, "bpm")
    root = tiny.write(tmp_path)
    path = root / "icu" / "chartevents.csv.gz"
    whole = path.read_bytes()
    data = {"empty": gzip.compress(b""), "text": b"stay_id,charttime\n", "header": whole[:8], "short": whole[:-40]}
    path.write_bytes(data.get(damage, whole[:-2000]))
    with pytest.raises(InvalidData, match=r"icu/chartevents: .*chartevents.csv.gz (cannot be read|is empty)"):
        prepare(root)


def test_a_table_with_a_header_alone_is_an_empty_table(tiny, tmp_path):
    assert not tiny.rows("icu/inputevents")
    assert not prepare(tiny.write(tmp_path)).streams["action"].values.any()


def test_nul_bytes_and_short_rows_are_no_stack_trace(tiny, tmp_path):
    tiny.chart(11, 1, 220045, "8\x000", "bpm")
    tiny.rows("icu/chartevents").append([11, "2150-01-01 02:00:00"])
    tiny.chart(11, 2, "220\x00045", 80, "bpm")
    times = ("2150-01-01 02:00:00", "2150-01-01 03:00:00")
    tiny.rows("icu/inputevents").append([11, *times, "22\x001906", 1, "mg", 1, "mcg/kg/min", "FinishedRunning", 80])
    root = tiny.write(tmp_path)
    path = root / "icu" / "chartevents.csv.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"\x00" * 50 + b"\n"))
    account = Account()
    adapter.prepare(root, Rules(), account, lambda _: None)
    assert ("icu/chartevents", "220045", "no number") in account.counts
    # The short row and the block of NUL bytes have no item that could be read, nor has an item with a NUL inside.
    assert account.counts["icu/chartevents", "?", "no readable itemid"] == 3
    assert account.counts["icu/inputevents", "?", "no readable itemid"] == 1


@pytest.mark.parametrize(
    ("table", "first"),
    [
        ("icu/chartevents", b"11"), ("icu/chartevents", b"\x00" * 40), ("icu/chartevents", b""),
        ("icu/chartevents", b"11" + b"," * 40), ("icu/procedureevents", b"11"), ("hosp/admissions", b"11"),
    ],
)  # fmt: skip
def test_a_first_row_of_another_length_is_a_row_like_any_other(tiny, tmp_path, table, first):
    """The header says how many columns there are, whatever row follows it."""
    whole = prepare(tiny.write(tmp_path))
    path = tmp_path / f"{table}.csv.gz"
    header, rest = gzip.decompress(path.read_bytes()).split(b"\n", 1)
    path.write_bytes(gzip.compress(header + b"\n" + first + b"\n" + rest))
    found = prepare(tmp_path)
    assert found.record.tolist() == whole.record.tolist()
    assert found.streams["state"].observed.sum() == whole.streams["state"].observed.sum()
