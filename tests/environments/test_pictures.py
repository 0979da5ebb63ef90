"""Every knob of every world has its entry and its picture in the docs, and the pictures can be drawn."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from figures import knobs as drawing
from figures.knob_table import SHEETS, Picture
from simlab.environments.knob import check
from simlab.environments.knobs import GAUSSIAN_KNOBS
from simlab.environments.registry import WORLDS, find_world
from simlab.environments.visit_knobs import VISIT_KNOBS
from simlab.errors import command

DOCS = Path(__file__).parents[2] / "docs"
RENDERED = ("blobs", "ehr", "hospital", "nodules", "icu")  # on pages of their own: test_rendered_docs, test_icu
PAGES = {"gaussian": ("environments.md", GAUSSIAN_KNOBS), "longitudinal": ("visits.md", VISIT_KNOBS)}


def shown(world):
    return [picture.symbol for where, _, pictures in SHEETS.values() if where == world for picture in pictures]


@pytest.mark.parametrize("world", PAGES)
def test_every_knob_has_one_picture_and_one_entry(world):
    page, knobs = PAGES[world]
    assert sorted(shown(world)) == sorted(knob.symbol for knob in knobs)
    text = (DOCS / page).read_text(encoding="utf-8")
    for knob in knobs:
        assert f"| `{knob.name}` | `{knob.symbol}` |" in text
    assert set(WORLDS) == {*PAGES, *RENDERED, "archive"}  # knobs of time under other names: test_archive


def test_every_picture_is_there_beside_its_knobs_and_small():
    for name, (world, title, pictures) in SHEETS.items():
        file = DOCS / "pictures" / f"knobs-{name}.png"
        content = file.read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) < 100_000, name
        text = (DOCS / PAGES[world][0]).read_text(encoding="utf-8")
        line = next(line for line in text.splitlines() if f"](pictures/knobs-{name}.png)" in line)
        assert title in line
        legend = text[text.index(line):].split("\n\n")[1]  # the paragraph after it names the knobs
        assert set(re.findall(r"`([a-z0-9_]+)`", legend)) >= {picture.symbol for picture in pictures}, name
    assert len(list((DOCS / "pictures").glob("knobs-*.png"))) == len(SHEETS)


@pytest.mark.parametrize("picture", [p for _, _, pictures in SHEETS.values() for p in pictures], ids=lambda p: p.symbol)
def test_a_picture_compares_two_values_of_its_knob(picture):
    world = next(where for where, _, pictures in SHEETS.values() if picture in pictures)
    knob = next(k for k in find_world(world).knobs if k.symbol == picture.symbol)
    assert check(knob, picture.low) != check(knob, picture.high) and picture.view in drawing.VIEWS
    assert drawing.build(picture, world, picture.low) != drawing.build(picture, world, picture.high)


def test_a_sheet_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "SAMPLE", 300)
    monkeypatch.setitem(SHEETS, "measurement", ("gaussian", "One", (Picture("rel_ci", 0.2, 0.9, "scatter", (
        "c", "c in image")), Picture("kappa_e", 1.0, 0.2, "profile"))))
    assert drawing.main(["measurement", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "knobs-measurement.png").read_bytes().startswith(b"\x89PNG")


def test_bad_input_and_a_light_start(capsys):
    assert command(drawing.main, ["measurements"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "measurement" in captured.err
    code = "import sys, figures.knobs; print(sorted({'numpy', 'matplotlib', 'scipy', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
