"""Designs: cell i a pure function of (study, i); studies that grow without moving or repeating what they have."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sweep_fakes
from conftest import calls
from scipy.stats import qmc

from simlab.errors import InvalidStudy, SimlabError
from simlab.sweep import atlas, designs, layout, plan, results, scatter, study, textmap, theory
from simlab.sweep.finish import Summary
from simlab.sweep.folder import Folder

Run = Callable[..., Summary]
SOBOL = ["design.kind=sobol", "design.cells=6", "axes.w_c={low=0.1, high=0.9}",
         "axes.n_labelled={low=50, high=800, scale='log'}"]


def more(toml: Path, cells: int, *others: str) -> study.Study:
    return study.load(str(toml), [*SOBOL, *others, f"design.cells={cells}"])


def test_a_points_place_is_its_number_alone_and_the_sequence_is_scipys(toml: Path) -> None:
    """lab_practice 1.3: QMCSampler draws its first point at random, and GridSampler repeats cells with two workers."""
    few, many = more(toml, 5), more(toml, 70)
    assert [plan.cell(few, i) for i in range(5)] == [plan.cell(many, i) for i in range(5)]
    first = np.array(designs.points(few.seed, 2, 4))
    assert np.array_equal(first, np.array(designs.points(few.seed, 2, 7))[:16])
    # One point in each cell of every 2^a x 2^b division, a + b = 4: a (0, 4, 2)-net, as Sobol's theorem has it, with
    # the first point among them, and not an unscrambled (0, 0).
    for a in range(5):
        cells = {(int(x * 2**a), int(y * 2 ** (4 - a))) for x, y in first}
        assert len(cells) == 16
    assert not np.allclose(first[0], qmc.Sobol(2, scramble=False).random(1)[0])
    other = more(toml, 5, "study.seed=8")
    assert plan.cell(other, 0) != plan.cell(few, 0)
    with pytest.raises(IndexError):
        plan.cell(few, 5)


def test_points_lie_on_their_scales(toml: Path) -> None:
    found = more(toml, 64, "axes.map=['linear', 'identity']", "axes.h2=[0.3, 0.5, 0.7, 0.9]")
    at = [plan.cell(found, i) for i in range(64)]
    n = np.array([point["n_labelled"] for point in at])
    assert all(isinstance(v, int) for v in n.tolist()) and n.min() >= 50 and n.max() <= 800
    # Evenly spread in the logarithm: half below sqrt(50 * 800) = 200, and 16 in each quarter but for rounding.
    assert np.histogram(np.log(n), np.log(np.array([49.9, 100, 200, 400, 800.1])))[0] == pytest.approx(16, abs=1)
    assert np.histogram([p["w_c"] for p in at], [0.1, 0.3, 0.5, 0.7, 0.9])[0].tolist() == [16] * 4
    assert sum(p["map"] == "linear" for p in at) == 32  # words share equally
    assert {h: sum(p["h2"] == h for p in at) for h in (0.3, 0.5, 0.7, 0.9)} == {0.3: 16, 0.5: 16, 0.7: 16, 0.9: 16}


@pytest.mark.usefixtures("undrawn")
def test_a_study_grows_without_moving_or_computing_anything_again(
    run: Run, toml: Path, tmp_path: Path, fakes: Path
) -> None:
    """The same table, bit for bit, as one that had all cells from the beginning."""
    few, many = more(toml, 3), more(toml, 5)
    whole = run(which=many, out="whole").digest
    fakes.unlink()
    run(which=few)
    found = run(which=many)
    assert found.digest == whole and len(calls(fakes)) == 8  # four fleets of seeds a round, none of them again
    folder = Folder(tmp_path / "out")
    frozen = folder.read_frozen()
    assert frozen["design"]["rounds"] == [3, 5]
    assert study.build(frozen) == folder.adopt(many)
    with pytest.raises(InvalidStudy, match=r"design\.cells: 5 there, 3 now"):
        run(which=few)


def test_a_grid_grows_at_the_end_of_its_first_axis(toml: Path, tmp_path: Path) -> None:
    """The first axis turns slowest: values at its end are cells at the end, in jobs behind those that there were."""
    folder = Folder(tmp_path)
    jobs: list[plan.Job] = []
    for w, cells in ((["0.8"], 3), (["0.8", "0.2"], 6), (["0.8", "0.2", "0.5"], 9)):
        grown = folder.adopt(study.load(str(toml), [f"w_c=[{', '.join(w)}]"]))
        folder.freeze(grown)
        assert plan.n_cells(grown) == cells and plan.jobs(grown)[: len(jobs)] == jobs
        jobs = plan.jobs(grown)
        units = [(c, s) for job in jobs for c, s in itertools.product(job.cells, job.seeds)]
        assert sorted(units) == [(c, s) for c in range(cells) for s in range(8)]
    assert tomllib.loads((tmp_path / "study.toml").read_text(encoding="utf-8"))["design"]["rounds"] == [3, 6, 9]


def test_what_does_not_only_add_cells_is_refused_by_the_field(toml: Path, tmp_path: Path) -> None:
    grid, sobol = Folder(tmp_path / "grid"), Folder(tmp_path / "sobol")
    for folder, first in ((grid, study.load(str(toml))), (sobol, more(toml, 3))):
        folder.make()
        folder.freeze(first)
    for override, field in ((["n_labelled=[100, 200, 400, 800]"], "axes.n_labelled.values"),
                            (["w_c=[0.1, 0.2, 0.8]"], "axes.w_c.values"), (SOBOL, "axes.w_c.low")):
        with pytest.raises(InvalidStudy, match=field) as caught:
            grid.freeze(study.load(str(toml), override))
        if "values" in field:
            assert "only be added at the end of the first axis, w_c" in str(caught.value)
    with pytest.raises(InvalidStudy, match=r"axes\.w_c\.high: 0\.9 there, 0\.8 now"):
        sobol.freeze(more(toml, 3, "axes.w_c={low=0.1, high=0.8}"))
    grid.check_frozen(study.load(str(toml), ["w_c=[0.2, 0.8, 0.5]"]))
    assert "rounds" not in grid.read_frozen()["design"]  # a question writes nothing


def test_a_frozen_grid_has_the_form_that_it_always_had(small: study.Study) -> None:
    """A study frozen before designs had rounds still resumes: nothing new stands in it until the study grows."""
    tables = study.resolved(small)
    assert tables["design"] == {"kind": "grid"} and tables["tune"] == {}
    assert tables["axes"]["w_c"] == {"values": [0.2, 0.8], "scale": "linear"}
    assert study.difference(tables, small) is None


def test_jobs_of_points_hold_each_cell_once_and_share_what_they_can(toml: Path) -> None:
    labels = more(toml, 6)  # both axes touch labels alone: one pretraining a seed serves all points
    assert len(plan.source_groups(labels)) == 1 and plan.trainings(labels) == 8
    source = more(toml, 6, "axes.nu={low=0, high=0.9}")
    assert len(plan.source_groups(source)) == 6 and plan.trainings(source) == 48
    units = [(c, s) for job in plan.jobs(source) for c, s in itertools.product(job.cells, job.seeds)]
    assert sorted(units) == [(c, s) for c in range(6) for s in range(8)]


@pytest.mark.parametrize(("override", "words"), [
    ("axes.w_c={low=0.1, high=0.9, n=3}", ("n is a grid's", "design.cells")),
    ("axes.w_c={low=0.1}", ("high missing",)),
    ("axes.w_c={low=0.9, high=0.1}", ("low < high",)),
    ("axes.map={low=0, high=1}", ("needs values",)),
    ("axes.n_labelled={low=0, high=10, scale='log'}", ("low > 0",)),
    ("design.cells=0", ("design.cells",)),
    ("design.batch=2", ("design.batch", "tune")),
    ("axes.w_u={low=0.1, high=0.9}", ("sum to one",)),  # at a corner, though not at every point
])
def test_bad_designs_are_one_clear_error(toml: Path, override: str, words: tuple[str, ...]) -> None:
    with pytest.raises(SimlabError) as caught:
        study.load(str(toml), [*SOBOL, override])
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("overrides", [["axes.map=['linear', 'identity']"], ["axes.w_c=[0.5]"]],
                         ids=["three axes, one of words", "one axis that moves"])
def test_points_are_listed_and_drawn(toml: Path, overrides: list[str]) -> None:
    asked = more(toml, 6, *overrides)
    parts = [results.job_table(asked, job, sweep_fakes.one_arm_fails(asked, job)) for job in plan.jobs(asked)]
    found = atlas.build(asked, results.collect(parts))
    text = textmap.points(found)
    lines = text.splitlines()
    assert len([line for line in lines if line.split()[:1] in ([str(i)] for i in range(6))]) == 6
    assert text.isascii() and max(map(len, lines)) <= 100
    records = atlas.verdict_records(found)
    assert [r["cell"] for r in records] == list(range(6)) and {"p_w_c", "p_n_labelled"} < set(records[0])
    assert atlas.boundary_records(found) == []
    panel = scatter.draw(found).axes[0]
    drawn = sum(len(group.get_offsets()) for group in panel.collections if hasattr(group, "get_offset_transform")
                and len(group.get_offsets()))
    assert drawn >= 6  # every cell has its mark, also the failed one


def test_the_prediction_in_a_point_is_theorys(toml: Path) -> None:
    """The closed form in a point is the one of a grid through it (docs/theory.md)."""
    asked = more(toml, 1)
    at = plan.cell(asked, 0)
    grid = study.load(str(toml), [f"w_c={at['w_c']}", f"n_labelled={at['n_labelled']}"])
    point = theory.points(asked, asked.contrasts[0], [plan.cell_spec(asked, 0)])
    line = theory.line(grid, grid.contrasts[0], layout.layout(grid), {"w_c": at["w_c"]})
    assert point is not None and line is not None and abs(point.cells[0]) > 1e-3
    assert point.cells[0] == pytest.approx(line.cells[0], abs=1e-12)
