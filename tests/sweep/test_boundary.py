"""The search for a boundary: what it asks for, its record, its ends; the same table whatever happens on the way."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import sweep_fakes
from conftest import TOML, InThisProcess, calls
from matplotlib.contour import ContourSet
from optuna.trial import TrialState

from simlab.errors import InvalidStudy, SimlabError
from simlab.sweep import atlas, boundary, driver, figure, plan, results, scatter, search, study
from simlab.sweep.__main__ import main
from simlab.sweep.finish import Summary
from simlab.sweep.journal import Journal, distribution
from simlab.sweep.plan import Job
from simlab.sweep.pool import Outcome
from simlab.sweep.schema import Study
from simlab.sweep.straddle import REACH, StraddleSampler

SEEK = ["design.kind='boundary'", "design.width=0.25", "w_c={low=0.2, high=0.8, n=5}",
        "n_labelled={low=50, high=1000, scale='log', n=17}"]
ALONE = [*SEEK, "train.fleet=8", "compare.arms=['vicreg-frozen','lda']"]
Search = Callable[..., Summary]


AXES = "w_c = [0.2, 0.8]\nn_labelled = [100, 200, 400]\n"
LABELS = "n_labelled = {low = 50, high = 1000, scale = 'log', n = 17}\n"
SOURCE = "rel_ci = {low = 0.4, high = 0.9}\n" + LABELS  # each value of its first axis costs pretrainings


def load(toml: Path, *more: str, axes: str = "") -> Study:
    """The small study as a search, over other axes where they are given."""
    if not axes:
        return study.load(str(toml), [*ALONE, *more])
    assert AXES in TOML
    other = toml.with_name("other.toml")
    other.write_text(TOML.replace(AXES, axes), encoding="utf-8")
    return study.load(str(other), [*ALONE[:2], ALONE[-1], *more])


@pytest.fixture
def seek(toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> Search:
    """Search with a fake job in this process, into tmp_path/out (or another folder)."""
    monkeypatch.setattr("simlab.sweep.driver.Pool", InThisProcess)

    def go(*more: str, out: str = "out", function: str = "good", axes: str = "", **options: Any) -> Summary:
        given = {"workers": 1, "quiet": True, "function": f"sweep_fakes:{function}", **options}
        return search.run(load(toml, *more, axes=axes), driver.Options(tmp_path / out, **given))

    return go


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    """One search of the small study, run to its end, for all that only look at it."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "small.toml").write_text(TOML, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_FAKE_LOG", str(folder / "fake.log"))
        patch.setattr("simlab.sweep.figure.save", lambda *_: None)
        patch.setattr("simlab.sweep.driver.Pool", InThisProcess)
        options = driver.Options(folder / "out", workers=1, quiet=True, function="sweep_fakes:good")
        return search.run(load(folder / "small.toml"), options)


def record(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "search.jsonl").read_text(encoding="utf-8").splitlines()]


def test_it_starts_on_a_coarse_grid_with_the_corners(toml: Path) -> None:
    found = load(toml)
    at = [tuple(plan.cell(found, i).values()) for i in range(plan.n_cells(found))]
    assert len(at) == 9 and {w for w, _ in at} == {0.2, 0.5, 0.8} and {n for _, n in at} == {50, 224, 1000}
    assert len(boundary.start(load(toml, "design.cells=7"))) == 7
    assert boundary.start(load(toml, "design.cells=8")) == boundary.start(load(toml, "design.cells=8"))
    ranges = load(toml, "w_c={low=0.2, high=0.8}", "n_labelled={low=50, high=60}")
    assert len(ranges.axes[0].values) == 33 and ranges.axes[1].values == tuple(range(50, 61))  # whole numbers, once
    assert len(load(toml, axes=SOURCE).axes[0].values) == 9


@pytest.mark.parametrize(("override", "said"), [
    (["design.width=0"], "design.width"),
    (["design.kind='grid'"], r"design.width is for design.kind = 'boundary', not for 'grid'"),
    (["axes.map=['linear','identity']"], "one or two axes of numbers"),
    (["w_c=[0.5]"], "one or two axes of numbers"),
    (["design.cells=4"], "starts from 6 cells or more"),
    (["design.cells=86"], "has no more than 85"),
    (["budget.cells=8"], "has no more than 8"),
    (["seeds.looks=[7]"], "needs 8 seeds"),
    (["design.around='zero'"], "design.around"),
    (["design.kind='sobol'", "design.cells=4", "budget.cells=5"], "design.width"),
])
def test_bad_input_is_one_clear_error(toml: Path, override: list[str], said: str) -> None:
    with pytest.raises(SimlabError, match=said):
        load(toml, *override)


def test_a_width_must_be_stated(toml: Path) -> None:
    with pytest.raises(InvalidStudy, match=r"needs design\.width"):
        study.load(str(toml), ["design.kind='boundary'"])
    with pytest.raises(InvalidStudy, match=r"budget\.cells is for design.kind = 'boundary'"):
        study.load(str(toml), ["budget.cells=5"])


def test_the_sampler_asks_for_the_largest_straddle_and_a_batch_spreads_out(toml: Path) -> None:
    """A plane whose sign changes on a line: with Optuna's own ask, each cell is the arg max of the rule, computed here
    from the surface; none is asked for twice; all of a batch lie near the line, apart from each other."""
    found = load(toml)
    axes = (found.axes[1], found.axes[0])
    cells = [dict(zip(("w_c", "n_labelled"), point, strict=True)) for point in boundary.candidates(found)]
    sampler, space = StraddleSampler(axes, cells, (0.0,)), {axis.name: distribution(axis) for axis in found.axes}
    trials = optuna.create_study(direction="maximize", sampler=sampler)

    def gap(cell: dict[str, Any]) -> float:
        return 0.05 * (cell["w_c"] - 0.5) - 0.03 * np.log(cell["n_labelled"] / 200)

    def done(cell: dict[str, Any]) -> optuna.trial.FrozenTrial:
        noise = np.random.default_rng(int(cell["n_labelled"] * 100 * cell["w_c"])).normal(0, 0.004, 8)
        return optuna.trial.create_trial(state=TrialState.COMPLETE, value=gap(cell), params=cell, distributions=space,
                                         user_attrs={"differences": (gap(cell) + noise).tolist()})

    first = [plan.cell(found, i) for i in range(9)]
    trials.add_trials([done(cell) for cell in first])
    surface = sampler.surface(trials.trials)
    assert surface is not None
    asked: list[dict[str, Any]] = []
    for _ in range(6):
        free = [cell for cell in cells if cell not in first and cell not in asked]
        at, process = surface.at(free), surface.process
        if asked:
            process = process.with_points(surface.at(asked), np.full(len(asked), np.median(process.noise)))
        rule = REACH * np.sqrt(process.variance(at)) - np.abs(surface.seeds(at).mean(axis=1))
        asked.append(trials.ask(space).params)
        assert asked[-1] == free[int(np.argmax(rule))]
    assert len({tuple(cell.values()) for cell in asked}) == 6 and len({cell["w_c"] for cell in asked}) >= 3
    assert np.mean([abs(gap(cell)) for cell in asked]) < 0.5 * np.mean([abs(gap(cell)) for cell in cells])
    with pytest.raises(ValueError, match="no trial has finished"):
        optuna.create_study(sampler=StraddleSampler(axes, cells, (0.0,))).ask(space)


def test_it_ends_at_the_width_and_says_so(searched: Summary, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted boundary of the fake job: n* = 200 (1 + (w_c - .5)/.3). Run again, it computes nothing."""
    found, out = searched, searched.folder.path
    lines = record(out)
    widths = [line["width"] for line in lines[1:]]  # before each batch, and at the end: narrow enough twice, first here
    assert lines[-1]["ended"] == "width" and max(widths[-2:]) <= 0.25
    assert all(max(pair) > 0.25 for pair in itertools.pairwise(widths[:-1]))
    assert [line["batch"] for line in lines[:-1]] == list(range(len(lines) - 1))
    assert all(len(line["points"]) == len(line["acquisition"]) == 4 for line in lines[1:-1])
    table = found.folder.read_manifest()
    assert table["search"] == lines[-1] and found.atlas is not None and found.missing == 0
    rows = {r["p_w_c"]: r for r in atlas.boundary_records(found.atlas)}
    for w in (0.5, 0.65, 0.8):
        assert rows[w]["low"] <= 200 * (1 + (w - 0.5) / 0.3) <= rows[w]["high"]
    assert "search ended: the band" in found.text and "changes sign at n_labelled" in found.text
    assert found.folder.surface.read_text().startswith("first,second,p_n_labelled,p_w_c,mean,low,high\n")
    monkeypatch.setattr("simlab.sweep.figure.save", lambda *_: None)
    again = search.run(load(out.parent / "small.toml"), driver.Options(out, quiet=True, function="sweep_fakes:none"))
    assert (again.digest, again.jobs_run, again.trainings) == (found.digest, 0, 0) and record(out) == lines


class Stops(InThisProcess):
    """Loses its driver after so many jobs in all."""

    left = 0

    def run(self, jobs: list[Job]) -> Iterator[Outcome]:
        for outcome in super().run(jobs):
            yield outcome  # kept
            Stops.left -= 1
            if Stops.left <= 0:
                raise KeyboardInterrupt


def test_kills_and_a_lost_record_change_nothing_and_repeat_nothing(
    seek: Search, tmp_path: Path, fakes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after each third job (in the middle of batches), a torn line in the record, then the record lost."""
    calm = seek("train.fleet=4", out="calm")
    fakes.unlink()
    monkeypatch.setattr("simlab.sweep.driver.Pool", Stops)
    for _ in range(100):
        Stops.left = 3
        try:
            found = seek("train.fleet=4")
        except KeyboardInterrupt:
            with (tmp_path / "out" / "search.jsonl").open("a", encoding="utf-8") as file:
                file.write('{"batch": 9, "poi')
            continue
        break
    assert found.digest == calm.digest and record(tmp_path / "out") == record(tmp_path / "calm")
    done = calls(fakes)
    assert len(done) == len(set(done)) == len(plan.jobs(found.study))
    (tmp_path / "out" / "search.jsonl").unlink()
    assert seek("train.fleet=4").digest == calm.digest and len(calls(fakes)) == len(done)
    assert record(tmp_path / "out") == record(tmp_path / "calm")


def test_a_batch_follows_from_the_table_alone(searched: Summary) -> None:
    """Advance from the whole table's first rows, in any order, is what the run asked for."""
    found = searched
    rounds = found.study.design.rounds
    now = boundary.with_points(found.study, rounds[:2], found.study.points[: rounds[1]])
    table = results.read(found.study, found.folder.table)
    part = table.filter([cell < rounds[1] for cell in table["cell"].to_pylist()])
    step = search.advance(now, part.take(list(range(len(part)))[::-1]))
    assert step.points == found.study.points[rounds[1]: rounds[2]]


def test_a_narrower_width_goes_on_and_a_wider_is_refused(seek: Search, tmp_path: Path, fakes: Path) -> None:
    seek()
    before, had = len(record(tmp_path / "out")), len(calls(fakes))
    more = seek("design.width=0.15")
    assert len(record(tmp_path / "out")) > before and len(calls(fakes)) > had
    assert more.digest == seek("design.width=0.15", out="whole").digest
    with pytest.raises(InvalidStudy, match=r"design\.width: 0\.15 there, 0\.25 now"):
        seek()
    with pytest.raises(InvalidStudy, match=r"axes\.w_c\.values"):
        seek("w_c=[0.2,0.5,0.8]")


def test_the_budget_of_trainings_ends_it(seek: Search, tmp_path: Path) -> None:
    """A source-stage axis: each new value costs eight pretrainings; a batch is cut to what is left."""
    found = seek("design.width=0.01", "budget.trainings=40", "budget.cells=40", axes=SOURCE)
    values = {point[0] for point in found.study.points}
    assert plan.trainings(found.study) == 8 * len(values) <= 40
    assert record(tmp_path / "out")[-1]["ended"] in ("trainings", "cells")
    tight = seek("design.width=0.01", "budget.trainings=24", "budget.cells=40", out="tight", axes=SOURCE)
    assert plan.trainings(tight.study) == 24 and record(tmp_path / "tight")[-1]["ended"] == "trainings"
    with pytest.raises(InvalidStudy, match="needs 24 pretrainings for its first cells"):
        seek("budget.trainings=23", out="poor", axes=SOURCE)


def test_it_ends_where_there_is_no_boundary_and_where_the_cells_end(seek: Search, tmp_path: Path) -> None:
    seek("n_labelled={low=600, high=1000, scale='log', n=9}", out="none")
    assert record(tmp_path / "none")[-1]["ended"] == "no boundary"
    found = seek("design.width=0.0001", "budget.cells=15", out="cells")
    assert record(tmp_path / "cells")[-1]["ended"] == "cells" and plan.n_cells(found.study) == 15
    seek("design.width=0.0001", "w_c=[0.4,0.5,0.6]", "n_labelled=[100,200,400,500]", out="all")
    assert record(tmp_path / "all")[-1]["ended"] == "every cell"


def test_one_axis_is_a_search_too(seek: Search, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = seek("w_c=0.5", "design.cells=5", "design.width=0.2", axes=LABELS)
    assert found.atlas is not None
    (row,) = atlas.boundary_records(found.atlas)
    assert row["low"] <= 200 <= row["high"] and row["side"] == "ahead-below"
    monkeypatch.undo()
    figure.save(found.atlas, tmp_path / "one.png", tmp_path / "one.pdf")
    assert (tmp_path / "one.png").stat().st_size > 5000


def test_cells_without_a_number_are_left_out(seek: Search) -> None:
    """The arm fails in cell 0: the surface does without it, nothing asks for it again, and the search still ends."""
    found = seek(function="one_arm_fails")
    assert {row["cell"] for row in found.failures} == {0}
    assert len(set(found.study.points)) == len(found.study.points)


def test_the_journal_holds_its_trials(searched: Summary) -> None:
    trials = Journal(searched.study, searched.folder.journal)
    assert trials.done == dict.fromkeys(range(plan.n_cells(searched.study)), "COMPLETE")


def test_the_command(toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None,
                     capsys: pytest.CaptureFixture[str]) -> None:
    """--dry-run says least and most, --collect a part, --digest waits for the end, --shard is refused."""
    monkeypatch.setattr("simlab.sweep.driver.Pool", Stops)
    sets = [text for key in ALONE for text in ("--set", key)]
    words, out = [str(toml), *sets, "--out", str(tmp_path / "out")], "sweep_fakes:good"
    assert main([*words, "--dry-run"], function=out) == 0
    assert "least 9 cells and 8 pretrainings, most 85 and 8" in capsys.readouterr().out
    assert main([*words, "--dry-run", "--json"], function=out) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["cells"], facts["cells_at_most"], facts["trainings_at_most"]) == (9, 85, 8)
    with pytest.raises(InvalidStudy, match="has no parts to share out"):
        main([*words, "--shard", "1/2"], function=out)
    Stops.left = 2
    with pytest.raises(KeyboardInterrupt, match="2 of 2 jobs are finished"):
        main(words, function=out)
    assert main([*words, "--collect"], function=out) == 0
    assert "changes sign at n_labelled" in capsys.readouterr().out
    with pytest.raises(SimlabError, match="its search has not ended"):
        main([*words, "--digest"], function=out)
    Stops.left = 10**6
    assert main(words, function=out) == 0
    capsys.readouterr()
    assert main([*words, "--digest"], function=out) == 0
    assert len(capsys.readouterr().out.strip()) == 64
    assert main([*words, "--dry-run"], function=out) == 0
    assert "0 are to do" in capsys.readouterr().out


def test_the_map_of_a_search_shows_its_boundary(searched: Summary) -> None:
    """Solid where the fitted surface changes sign (at the planted n* = 200 for w_c = .5), dashed where theory does."""
    assert searched.atlas is not None
    axes = scatter.draw(searched.atlas).axes[0]
    (line,) = [c for c in axes.collections if isinstance(c, ContourSet) and not c.filled]
    x, y = np.concatenate([path.vertices for path in line.get_paths()]).T
    assert np.interp(0.5, y, x) == pytest.approx(200, rel=0.15)
    assert [found for found in axes.lines if found.is_dashed()]
    assert "change of sign, fitted" in [text.get_text() for text in axes.figure.legends[0].get_texts()]


def test_fakes_say_what_they_plant() -> None:
    """The fake's closed form, on which the tests above rest."""
    assert "0.1 * (w - 0.5) - 0.03 * (n / 200 - 1)" in Path(sweep_fakes.__file__).read_text(encoding="utf-8")
