"""The `prepare` commands as a newcomer meets them: output, exit status, what a mistake leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from clock import over_a_plain_start

from real_data import command_line, hourly
from real_data.mimic_iv import __main__ as mimic_iv
from simlab.cohort import load
from simlab.errors import MissingExtra, command

ROOT = Path(__file__).parents[2]


def run(main, *arguments) -> int:
    return command(main, [str(a) for a in arguments])


@pytest.mark.parametrize("module", ["real_data.hourly", "real_data.mimic_iv"])
def test_help_is_quick_and_imports_no_array_module(module):
    code = (
        f"import sys, runpy; sys.argv = ['x', 'prepare', '--help']\n"
        f"try: runpy.run_module('{module}', run_name='__main__')\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert not {'numpy', 'polars', 'torch', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--out FILE" in done.stdout
    assert over_a_plain_start(["-c", code], below=2) < 2  # seen: .6


def test_mimic_prints_one_json_object_and_writes_a_cohort(tiny, tmp_path, capsys):
    out = tmp_path / "made" / "tiny.cohort"
    assert run(mimic_iv.main, "prepare", tiny.write(tmp_path / "in"), "--out", out, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said) == {"records", "subjects", "positives", "attrition", "dropped"}
    assert (said["records"], said["subjects"], said["positives"]["hospital-mortality"]) == (3, 2, 1)
    assert set(said["attrition"][0]) == {"step", "n", "positives"}
    assert all(set(row) == {"table", "item", "reason", "n"} for row in said["dropped"])
    cohort = load(out)
    assert len(cohort) == 3
    assert cohort.provenance["dropped"] == said["dropped"]
    first = out.read_bytes()
    assert run(mimic_iv.main, "prepare", tmp_path / "in", "--out", out) == 0
    assert out.read_bytes() == first
    assert "attrition" in capsys.readouterr().out


def test_hours_are_72_unless_asked(tiny, tmp_path):
    for more, hours in (((), 72), (("--max-hours", 30), 30)):
        out = tmp_path / f"{hours}.cohort"
        assert run(mimic_iv.main, "prepare", tiny.write(tmp_path / str(hours)), "--out", out, "--quiet", *more) == 0
        assert load(out).provenance["rules"]["max_hours"] == hours
        assert load(out).streams["state"].visits <= hours


def test_hourly_prints_a_summary(data_dir, tmp_path, capsys):
    folder = data_dir / "eicu-demo-hourly" / "mortality24"
    assert run(hourly.main, "prepare", folder, "--out", tmp_path / "e.cohort", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["records"], said["positives"]) == (1367, {"mortality24": 70})
    assert run(hourly.main, "prepare", folder, "--out", tmp_path / "e.cohort") == 0
    text = capsys.readouterr()
    assert "1367 records of 1367 subjects" in text.out
    assert "licence: that of the data set that the tables were made from (the eICU demo: ODbL 1.0" in text.out
    assert text.err.strip() == f"reading {folder}"
    assert run(hourly.main, "prepare", folder, "--out", tmp_path / "e.cohort", "--quiet") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("main", "arguments", "expected"),
    [
        (mimic_iv.main, ["prepare", "{tmp}/nowhere", "--out", "{tmp}/a.cohort"], "does not exist"),
        (mimic_iv.main, ["prepare", "{tmp}/file", "--out", "{tmp}/a.cohort"], "is a file, not a folder"),
        (mimic_iv.main, ["prepare", "{tmp}", "--out", "{tmp}"], "is a folder: name the file to write"),
        (mimic_iv.main, ["prepare", "{tmp}", "--out", "{tmp}/a.cohort"], "no MIMIC-IV tables: looked in"),
        (mimic_iv.main, ["prepare", "{tmp}", "--out", "{tmp}/a.cohort", "--window", "99"], "--window 99: 1 to"),
        (mimic_iv.main, ["prepare", "{tmp}", "--out", "{tmp}/a.cohort", "--window", "-1"], "--window -1: 1 to"),
        (mimic_iv.main, ["prepare", "{tmp}", "--out", "{tmp}/a.cohort", "--max-hours", "-5"], "--max-hours -5: 1 to"),
        (mimic_iv.main, ["prepare", "{tmp}", "--out", "{tmp}/a.cohort", "--min-age", "-3"], "--min-age -3: 0 to 120"),
        (mimic_iv.main, ["prepare", "{tmp}", "--out", "{tmp}/a.cohort", "--min-age", "old"], "invalid int value"),
        (mimic_iv.main, ["prepare", "{tmp}", "--uot", "{tmp}/a.cohort"], "unknown option --uot: did you mean --out?"),
        (mimic_iv.main, ["prepare", "{tmp}", "--out", "{tmp}/a.cohort", "--min-aeg=4"], "did you mean --min-age?"),
        (mimic_iv.main, [], "ACTION"),
        (mimic_iv.main, ["prepare", "{tmp}"], "--out"),
        (mimic_iv.main, ["prepaer", "{tmp}", "--out", "{tmp}/a.cohort"], "prepare"),
        (hourly.main, ["prepare", "{tmp}", "--out", "{tmp}/a.cohort"], "no table 'dyn': looked for"),
        (hourly.main, ["prepare", "{tmp}", "--out", "{tmp}/file/a.cohort"], "--out"),
        (hourly.main, ["prepare", "{tmp}", "--out", "{tmp}/a.cohort", "--cutoff", "-1"], "--cutoff -1"),
        (hourly.main, ["prepare", "{tmp}", "--out", "{tmp}/a.cohort", "--cutoff", "0.5"], "1 or more"),
        (hourly.main, ["prepare", "{tmp}", "--out", "{tmp}/a.cohort", "--cutoff", "nan"], "1 or more"),
        (hourly.main, ["prepare", "{tmp}", "--out", "{tmp}/a.cohort", "--at", "-3"], "--at -3: 1 or more"),
        (hourly.main, ["prepare", "{tmp}", "--out", "{tmp}/a.cohort", "--cutof", "x"], "--cutoff"),
    ],
)
def test_mistakes_get_one_line_status_2_and_no_file(main, arguments, expected, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(main, *[a.format(tmp=tmp_path) for a in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert expected in said.err
    (line,) = (line for line in said.err.splitlines() if not line.startswith("reading "))
    assert line.startswith("error: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_a_refusal_in_the_middle_leaves_no_file(tiny, tmp_path, capsys):
    root = tiny.write(tmp_path / "in")
    path = root / "icu" / "inputevents.csv.gz"
    path.write_bytes(path.read_bytes()[:-12])
    assert run(mimic_iv.main, "prepare", root, "--out", tmp_path / "a.cohort", "--json") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "error: table icu/inputevents" in said.err
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_an_old_polars_is_refused(monkeypatch):
    import polars

    monkeypatch.setattr(polars, "__version__", "1.36.1")
    with pytest.raises(MissingExtra, match=r"polars 1.36.1 .* 1.38 or newer"):
        command_line.need_polars()


def test_every_set_has_its_address_size_access_licence_and_citation():
    """docs/data.md: no cell of the table of sets is empty, and each open set has a command that fetches it."""
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    part = text.split("## What there is")[1].split("\n## ")[0]
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("| ")]
    sets = [row for row in rows if len(row) == 6 and row[0] not in ("set", "any other MEDS data set")]
    assert len(sets) >= 5 and all(all(row) for row in sets)
    assert all("open" in row[3] or "credentialed" in row[3] for row in sets)
    fetched = [row for row in rows if len(row) == 2 and "`" in row[1]]
    assert len(fetched) >= sum(row[3] == "open" for row in sets) + 1
