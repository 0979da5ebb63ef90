"""Which knobs matter, against functions whose indices are known, with the noise that seeds bring."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from simlab.sweep import designs, sensitivity, study
from simlab.sweep.schema import Axis, Design

# Ishigami & Homma 1990, a = 7, b = .1: closed forms.
FIRST, TOTAL = (0.3139, 0.4424, 0.0), (0.5576, 0.4424, 0.2437)


def ishigami(x: np.ndarray) -> np.ndarray:
    """x: (3, ...), each uniform in (-pi, pi)."""
    return np.sin(x[0]) + 7 * np.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * np.sin(x[0])


def uniform(n: int, low: float = -np.pi, high: float = np.pi) -> list[Axis]:
    return [Axis(f"x{i}", (low, high), "linear", f"x{i}", "labels", True) for i in range(n)]


def column(rows: list[dict[str, float | None]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], dtype=float)


def test_a_grid_has_the_known_indices_whatever_the_noise(rng: np.random.Generator) -> None:
    """24 midpoints an axis; noise of a cell (sd 2) and of a seed (sd 3), eight seeds: the noise adds nothing."""
    at = np.linspace(-np.pi, np.pi, 24, endpoint=False) + np.pi / 24
    truth = ishigami(np.array(np.meshgrid(at, at, at, indexing="ij")))
    noisy = truth[..., None] + rng.normal(0, 2, (24, 24, 24, 8)) + rng.normal(0, 3, 8)
    rows = sensitivity.summarised(sensitivity.grid_indices(noisy))
    assert column(rows, "first_order") == pytest.approx(FIRST, abs=0.01)
    assert column(rows, "total") == pytest.approx(TOTAL, abs=0.01)
    naive = np.var(noisy.mean(axis=(1, 2, 3))) / np.var(noisy.mean(axis=3))
    assert naive < 0.31  # the mean surface by itself holds the noise's variance too


def test_the_intervals_over_seeds_cover(rng: np.random.Generator) -> None:
    """150 grids of 5 x 5 cells, y = 2 x0 + x1 (shares .8 and .2), each seed with slopes of its own: nominal 95 %."""
    at, inside = np.linspace(-1, 1, 5), 0
    for _ in range(150):
        slopes = np.array([2.0, 1.0])[:, None] + rng.normal(0, 0.4, (2, 12))
        y = slopes[0] * at[:, None, None] + slopes[1] * at[:, None] + rng.normal(0, 0.3, (5, 5, 12))
        row = sensitivity.summarised(sensitivity.grid_indices(y))[0]
        inside += row["low"] <= 0.8 <= row["high"]
    assert 0.87 <= inside / 150 <= 0.995


def test_where_nothing_varies_beyond_noise_there_is_no_share(rng: np.random.Generator) -> None:
    rows = sensitivity.summarised(sensitivity.grid_indices(rng.normal(0, 1, (4, 4, 12))))
    assert all(value is None for row in rows for value in row.values())


def test_a_sobol_design_has_the_known_indices(rng: np.random.Generator) -> None:
    """256 points through a Gaussian process: within .05 of the closed forms."""
    axes = uniform(3)
    cells = [{a.name: designs.value(a, u) for a, u in zip(axes, point, strict=True)}
             for point in designs.points(1, 3, 8)]
    x = np.array([[cell[a.name] for a in axes] for cell in cells], dtype=float)
    y = ishigami(x.T)[:, None] + rng.normal(0, 0.3, (256, 8)) + rng.normal(0, 1, 8)
    surface, quality = sensitivity.surrogate(np.array([sensitivity.encoded(axes, cell) for cell in cells]), y)
    rows = sensitivity.summarised(sensitivity.sobol_indices(axes, surface, rng))
    assert quality > 0.9
    assert column(rows, "first_order") == pytest.approx(FIRST, abs=0.05)
    assert column(rows, "total") == pytest.approx(TOTAL, abs=0.05)


def test_a_forest_ranks_an_additive_function(rng: np.random.Generator) -> None:
    """3 x0 + 2 x1 + x2: shares .643, .286, .071. A forest of 100 points smooths: within .12, and in their order."""
    axes = uniform(3, 0.0, 1.0)
    x = rng.random((100, 3))
    cells = [dict(zip(("x0", "x1", "x2"), row, strict=True)) for row in x.tolist()]
    y = (x @ [3, 2, 1])[:, None] + rng.normal(0, 0.1, (100, 3))
    rows = sensitivity.summarised(sensitivity.fanova(axes, cells, y))
    found = column(rows, "first_order")
    assert found == pytest.approx([0.643, 0.286, 0.071], abs=0.12) and list(np.argsort(-found)) == [0, 1, 2]
    assert rows[0]["total"] is None and rows[0]["low"] <= rows[0]["first_order"] <= rows[0]["high"]


def test_places_of_numbers_and_words() -> None:
    axes = [Axis("n", (10, 1000), "log", "n", "labels", True), Axis("kind", ("a", "b"), "choice", "kind", "source")]
    assert sensitivity.encoded(axes, {"n": 100, "kind": "b"}) == pytest.approx([0.5, 0.0, 1.0])


def test_the_records_of_a_run(run, tmp_path: Path, undrawn: None) -> None:
    """The made-up scores of `sweep_fakes`: .1 (w_c - .5) - .03 (n / 200 - 1) for the frozen arm, no interaction."""
    found = run()
    w, n = np.var([0.1 * 0.2, 0.1 * 0.8]), np.var([-0.03 * x / 200 for x in (100, 200, 400)])
    rows = {row["knob"]: row for row in found.sensitivity}
    assert list(rows) == ["w_c", "n_labelled"] and {row["second"] for row in rows.values()} == {"lda"}
    assert rows["w_c"]["total"] == pytest.approx(w / (w + n), abs=0.05)
    assert rows["w_c"]["first_order"] == pytest.approx(rows["w_c"]["total"], abs=0.03)
    assert "vicreg-frozen minus lda: w_c 0.7" in found.text
    assert (tmp_path / "out/sensitivity.csv").read_text(encoding="utf-8").startswith("first,second,knob,first_order,")
    one = replace(found.study, axes=(found.study.axes[0], replace(found.study.axes[1], values=(100,))))
    assert sensitivity.records(one, pa.table({})) == []


def test_a_search_names_its_evaluator(small: study.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {"vicreg-frozen": np.tile(np.arange(6.0)[:, None], 3), "lda": np.zeros((6, 3)), "supervised": None}
    scores["lda"][0] = np.nan  # a cell without a result is left out of a search
    monkeypatch.setattr(sensitivity, "scores", lambda *_: scores)
    cells = tuple(itertools.product(*(axis.values for axis in small.axes)))
    searched = replace(small, design=Design(kind="boundary", cells=6), points=cells)
    rows = sensitivity.records(searched, pa.table({}))
    assert {row["evaluator"] for row in rows} == {sensitivity.FANOVA} and rows[0]["total"] is None
    scores["lda"][:] = np.random.default_rng(0).normal(0, 1, (6, 3))  # noise alone: no share of it is a knob's
    scores["vicreg-frozen"][:] = 0.0
    (row, _) = sensitivity.records(replace(small, design=Design(kind="sobol", cells=6)), pa.table({}))
    assert row["evaluator"].startswith("Gaussian process") and row["total"] is None
    scores["lda"][0] = np.nan
    few = sensitivity.records(small, pa.table({}))  # a grid that lacks a cell has no analysis of variance
    assert {row["evaluator"] for row in few} == {"none: too few whole seeds or cells"}
