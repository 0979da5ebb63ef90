"""The map as text and as a figure, and theory beside it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from simlab.sweep import figure, layout, study, textmap, theory
from simlab.sweep.atlas import boundary_records, verdict_records
from simlab.sweep.finish import Summary

Run = Callable[..., Summary]


def test_text_is_a_grid_that_reads_in_black_and_white(run: Run) -> None:
    text = run().text
    lines = text.splitlines()
    assert lines[0] == "Does vicreg-frozen beat lda?  auc in cohort 'test', 8 seeds, margin 0.01"
    head = next(line for line in lines if line.split()[:1] == ["w_c"])
    assert head.split() == ["w_c", "100", "200", "400", "measured", "(95", "%)", "theory"]
    rows = [line for line in lines if line.split()[:1] in (["0.8"], ["0.2"])]
    assert [row.split()[0] for row in rows] == ["0.8", "0.2"]  # high above low, as in the figure
    for row in rows:
        cells = row[: head.index("measured")].replace("|", " ").split()[1:]
        assert len(cells) == 3 and set(cells) <= set(textmap.WORDS.values())
        assert row.index("helps" if "helps" in row else "hurts") > 0
    ends = [m.end() for m in re.finditer(r"\d+", head[: head.index("measured")])]
    assert all(row[end - 1] != " " and row[end : end + 1] in (" ", "") for row in rows for end in ends)
    assert text.isascii() and max(map(len, lines)) <= 100
    assert re.search(r"helps \d+  hurts \d+  equivalent \d+  undecided \d+  \(of 6 cells\)", text)


def test_the_mark_stands_where_theory_says() -> None:
    line = theory.Line(np.zeros(3), 150.0, "ahead-below")
    assert textmap.mark_at(line, (100, 200, 400)) == 1
    assert textmap.mark_at(None, (100, 200, 400)) is None
    assert [textmap.rounded(v) for v in (131.6, 0.5561, 4578.0, 92.3, 0.0)] == ["132", "0.556", "4580", "92.3", "0"]


def test_records_hold_every_cell_and_row(run: Run) -> None:
    atlas = run().atlas
    assert atlas is not None
    records = verdict_records(atlas)
    assert len(records) == 6 and {r["cell"] for r in records} == set(range(6))
    assert all(r["low"] < r["difference"] < r["high"] for r in records)
    assert records[0]["predicted"] is not None
    assert all(0 <= r["p"] <= r["adjusted"] <= 1 and 0 <= r["improvement"] <= 1 for r in records)
    stay = {r["adjusted_verdict"] for r in records if r["verdict"] == "undecided"}
    assert stay <= {"undecided"} and any(r["adjusted_verdict"] in ("helps", "hurts") for r in records)
    assert all((r["needed"] is None) or r["verdict"] == "undecided" for r in records)
    rows = boundary_records(atlas)
    assert [r["p_w_c"] for r in rows] == [0.2, 0.8] and rows[0]["along"] == "n_labelled"


def test_theory_is_each_contrasts_own(toml: Path) -> None:
    """The crossings of docs/theory.md (9): 458/196/109 against LDA; 132 and none against tuned ridge."""
    found = study.load("quick")
    place = layout.layout(found)

    def crossing(second: str, w: float) -> tuple[float | None, str]:
        line = theory.line(found, ("vicreg-frozen", second), place, {"w_c": w})
        assert line is not None
        return line.at, line.side

    for w, n in ((0.8, 458), (0.6, 196), (0.4, 109)):
        at, side = crossing("lda", w)
        assert at == pytest.approx(n, abs=1) and side == "ahead-below"
    assert crossing("supervised", 0.8)[0] == pytest.approx(132, abs=1)
    assert crossing("supervised", 0.6) == (None, "behind")
    assert theory.line(found, ("vicreg-frozen", "image-only"), place, {"w_c": 0.8}) is None
    small = study.load(str(toml), ["compare.cohort=external"])
    assert theory.line(small, small.contrasts[0], layout.layout(small), {"w_c": 0.8}) is None


def test_theory_along_another_axis(toml: Path) -> None:
    found = study.load(str(toml), ["axes.n_labelled=[300]", "axes.w_c=[0.1, 0.4, 0.9]", "train.width=4000"])
    place = layout.layout(found)
    assert (place.columns.name, place.row_values) == ("w_c", (300,))  # along what moves
    wide = theory.line(found, found.contrasts[0], place, {"n_labelled": 300})
    assert wide is not None and np.isnan(wide.cells).all() and wide.at is None and wide.side == ""
    raw = study.resolved(study.load(str(toml)))
    raw["axes"] = {"w_c": {"values": [0.1, 0.4, 0.9]}}
    raw["world"]["knobs"] = {"n_labelled": 300}
    single = study.build(raw)
    line = theory.line(single, single.contrasts[0], layout.layout(single), {})
    assert line is not None and line.side == "ahead-above" and 0.6 < (line.at or 0) < 0.8


def test_further_axes_are_slices(toml: Path) -> None:
    found = study.load(str(toml), ["axes.h2=[0.3, 0.7]"])
    place = layout.layout(found)
    assert (place.columns.name, place.rows and place.rows.name) == ("n_labelled", "w_c")
    assert [piece.at for piece in place.slices] == [{"h2": 0.3}, {"h2": 0.7}]
    cells = [cell for piece in place.slices for row in piece.cells for cell in row]
    assert sorted(cells) == list(range(12))


def test_figure_bytes_width_and_fonts(run: Run, tmp_path: Path) -> None:
    found = run()
    assert found.atlas is not None
    for name in ("a", "b"):
        figure.save(found.atlas, tmp_path / f"{name}.png", tmp_path / f"{name}.pdf")
    for kind in ("png", "pdf"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/Subtype /Type3" not in pdf and b"/Subtype /Type42" not in pdf.replace(b"/Type0", b"")
    assert b"/FontFile2" in pdf  # TrueType is embedded
    box = re.search(rb"/MediaBox \[\s*0 0 ([\d.]+)", pdf)
    assert box is not None and float(box[1]) / 72 == pytest.approx(figure.WIDTH)
    pixels = imread(tmp_path / "a.png")
    assert pixels.shape[1] == round(figure.WIDTH * 200)


@pytest.mark.parametrize("overrides", [
    ["axes.h2=[0.3, 0.7]"],
    ["w_c=0.5"],
    ["axes.map=[\"linear\", \"identity\"]", "n_lab=[100]"],
    ["axes.kappa_e=[0, 0.5, 1.0]", "n_lab=[100, 200]"],
], ids=["slices", "one row", "words", "three axes"])
def test_other_shapes_of_study_are_drawn(run: Run, toml: Path, overrides: list[str]) -> None:
    found = run(which=study.load(str(toml), overrides))
    assert found.atlas is not None and found.text.isascii()
    assert found.folder.png.stat().st_size > 10_000
