"""Pages and figures of other shapes of study: slices, one row, words, points of their own, failures, newer columns."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import browser

from figures import mapping
from simlab.report import maps, open_results
from simlab.report.page import render

Records = list[dict[str, Any]]
STUDY = """[study]
name = "shaped"
question = "Does it work?"
[world]
name = "gaussian"
{axes}
[design]
kind = "{design}"
[compare]
arms = ["vicreg-frozen", "lda", "cca-lda"]
contrast = [["vicreg-frozen", "lda"], ["cca-lda", "lda"]]
metric = "auc"
cohort = "test"
task = "outcome"
rope = 0.01
[seeds]
looks = [8]
"""


def as_csv(records: Records) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def folder(path: Path, axes: dict[str, Any], design: str = "grid", points: Records | None = None,
           boundary: Records = (), surface: Records = (), **more: Any) -> Path:
    """A results folder as a run of that shape would leave it, without a table."""
    text = "".join(f"[axes.{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in axis.items())
                   for name, axis in axes.items())
    path.mkdir()
    (path / "study.toml").write_text(STUDY.format(axes=text, design=design), encoding="utf-8")
    if points is None:
        points = [{}]
        for name, axis in axes.items():
            points = [{**p, name: v} for p in points for v in axis["values"]]
    draws, records = random.Random(1), []
    for pair in (("vicreg-frozen", "lda"), ("cca-lda", "lda")):
        for cell, point in enumerate(points):
            mean = draws.gauss(0, 0.04)
            half = abs(draws.gauss(0.01, 0.005))
            word = ("helps" if mean - half > 0.01 else "hurts" if mean + half < -0.01 else
                    "equivalent" if abs(mean) + half < 0.01 else "undecided")
            failed = cell == 1
            records.append({"first": pair[0], "second": pair[1], "cell": cell,
                            **{f"p_{k}": v for k, v in point.items()},
                            "verdict": "undecided" if failed else word, "difference": "" if failed else mean,
                            "low": "" if failed else mean - half, "high": "" if failed else mean + half,
                            "seeds": 0 if failed else 8, "look": 8, "predicted": "",
                            "reason": "no seed finished" if failed else "", **more})
    (path / "verdicts.csv").write_text(as_csv(records), encoding="utf-8")
    for name, found in (("boundary.csv", boundary), ("surface.csv", surface)):
        if found:
            (path / name).write_text(as_csv(list(found)), encoding="utf-8")
    return path


LABELS = {"values": [75, 150, 300, 600], "scale": "log"}
W = {"values": [0.2, 0.5, 0.8], "scale": "linear"}


def sobol(n: int, *names: str) -> Records:
    draws = random.Random(2)
    drawn = {"n_labelled": lambda: round(math.exp(draws.uniform(4, 7))), "w_c": lambda: round(draws.random(), 3),
             "map": lambda: draws.choice(["linear", "rotated"])}
    return [{name: drawn[name]() for name in names} for _ in range(n)]


def surface(*names: str) -> Records:
    found = []
    for y in (0.0, 0.25, 0.5, 0.75, 1.0):
        for x in (60, 120, 240, 480, 900):
            mean = 0.1 * y - 0.02 * math.log(x / 100)
            at = {f"p_{name}": value for name, value in zip(names, (x, y), strict=True)}
            found.append({"first": "vicreg-frozen", "second": "lda", **at, "mean": mean, "low": mean - 0.01,
                          "high": mean + 0.01})
    return found


RANGES = {"n_labelled": {"low": 55, "high": 1100, "scale": "log"}, "w_c": {"low": 0.0, "high": 1.0, "scale": "linear"}}
SHAPES: dict[str, dict[str, Any]] = {
    "slices": {"axes": {"w_c": W, "n_labelled": LABELS, "h2": {"values": [0.3, 0.7], "scale": "linear"}}},
    "one row": {"axes": {"n_labelled": LABELS}},
    "one cell": {"axes": {"n_labelled": {"values": [300, ], "scale": "log"}, "w_c": {"values": [0.5, 0.6],
                                                                                    "scale": "linear"}}},
    "words": {"axes": {"map": {"values": ["linear", "rotated"], "scale": "choice"},
                       "world": {"values": ["a", "b", "c"], "scale": "choice"}}, "design": "tune"},
    "large": {"axes": {"w_c": {"values": [i / 20 for i in range(20)], "scale": "linear"},
                       "n_labelled": {"values": [50 + 40 * i for i in range(20)], "scale": "log"}}},
    "sobol of three": {"axes": {**RANGES, "map": {"values": ["linear", "rotated"], "scale": "choice"}},
                       "design": "sobol", "points": sobol(40, "n_labelled", "w_c", "map")},
    "sobol of one": {"axes": {"w_c": RANGES["w_c"]}, "design": "sobol", "points": sobol(9, "w_c")},
    "search": {"axes": RANGES, "design": "boundary", "points": sobol(25, "n_labelled", "w_c"),
               "surface": surface("n_labelled", "w_c")},
    "newer": {"axes": {"w_c": W, "n_labelled": LABELS}, "p": 0.031, "adjusted": 0.21, "adjusted_verdict": "undecided",
              "needed": 24,
              "improvement": 0.875},
}


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    """One tab for all shapes; errors of its script are collected."""
    context = browser().new_context(viewport={"width": 1100, "height": 800})
    tab = context.new_page()
    tab.set_default_timeout(10_000)
    tab.problems = []
    tab.on("pageerror", lambda e: tab.problems.append(str(e)))
    yield tab
    context.close()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_page_of_this_shape_can_be_walked_through(shape: str, tmp_path: Path, page: Any) -> None:
    found = open_results(folder(tmp_path / "shaped", **SHAPES[shape]))
    (tmp_path / "page.html").write_text(render(found), encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    shown = maps(found)
    assert page.locator("svg.map").count() == len(shown)
    for number, one in list(enumerate(shown))[:2]:
        cells = page.locator(f"#map-{number} .cell")
        assert cells.count() == len(one.records)
        page.locator(f"#map-{number} .cell[tabindex='0']").focus()
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "End", "Home", "Enter"):
            page.keyboard.press(key)
        assert re.match(r"Cell \d+: ", page.locator(f"#map-{number} .detail h4").inner_text())
    # the cell that has no number says so
    page.locator(".cell[data-i='1']").first.dispatch_event("click")
    assert any("no seed finished" in text for text in page.locator(".detail").all_inner_texts())
    if shape == "newer":
        page.locator("#map-0 .cell[data-i='0']").click()
        said = page.locator("#map-0 .detail").inner_text()
        assert "P = 0.031" in said and "0.21 (then: undecided)" in said and "ahead in 88 % of seeds" in said
        assert not any("p value" in line for line in page.locator("li").all_text_contents())
    if shape == "search":
        assert page.locator("#map-0 svg.map polyline.measured").count() == 1
        assert page.locator("#map-0 svg.map polyline.edge").count() == 2
    assert not page.problems


def test_a_map_of_too_many_cells_is_left_to_the_tables(tmp_path: Path, page: Any) -> None:
    axes = {"w_c": {"values": [i / 100 for i in range(90)], "scale": "linear"},
            "n_labelled": {"values": list(range(50, 120)), "scale": "log"}}
    text = render(open_results(folder(tmp_path / "shaped", axes)))
    assert len(text) < 60_000 and "2 maps have too many cells for a page" in text
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator("svg.map").count() == 0 and page.locator("table").count() >= 1 and not page.problems


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "large"])  # four hundred words take seconds
def test_its_map_can_be_drawn(shape: str, tmp_path: Path) -> None:
    found = open_results(folder(tmp_path / "shaped", **SHAPES[shape]))
    numbers = mapping.numbers(found)
    assert sum(r["kind"] == "cell" for r in numbers) == len(found.verdicts)
    figure = mapping.draw(found, numbers)
    assert sum(axes.get_visible() for axes in figure.axes) == len(maps(found)) + 1  # and the colour bar
    if shape == "search":
        at_zero = [c for axes in figure.axes for c in axes.collections if list(getattr(c, "levels", [])) == [0]]
        assert at_zero  # the zero contour is drawn
