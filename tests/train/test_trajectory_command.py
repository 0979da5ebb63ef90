"""`python -m simlab.train clin-jepa` as a newcomer would use it: a prepared cohort, the ICU world, mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import toy_stays

from simlab.cohort import save
from simlab.errors import SimlabError
from simlab.train.__main__ import main
from simlab.training.loop import Diverged

SMALL = ["--set", "steps=8", "--set", "batch=4", "--set", "width=8", "--set", "hidden=16", "--set", "inner=8",
         "--set", "heads=2", "--set", "inside=16", "--set", "depth=1", "--quiet", "--compare", "ridge"]


def told_arms(rows: dict) -> list[str]:
    return [arm for _, arm in rows]


def test_a_prepared_cohort_over_two_splits(tmp_path: Path, rng: np.random.Generator, capsys) -> None:
    file = tmp_path / "toy.cohort"
    save(toy_stays.stays(rng, 60, hours=32), file)
    run = ["clin-jepa", "--data", str(file), "--splits", "2", "--task", "dies", "--out", str(tmp_path / "run"), *SMALL]
    assert main([*run, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["report"]["reference"] == "direct linear forecast"
    assert {row["context"] for row in told["report"]["drift"]} == {6, 12, 24}
    assert {row["drift"]["horizon"] for row in told["report"]["drift"]} == {6}  # as far as 32 hours go
    assert {row["actions"] for row in told["report"]["drift"]} == {"true", "zero", "shuffled", "held"}
    rows = {(row["task"], row["arm"]): row for row in told["tasks"]}
    assert rows["dies", "encoded"]["splits"] == 2 and rows["dies", "encoded"]["encoded_minus_it"] is None
    low, value, high = (rows["dies", "ridge"]["encoded_minus_it"][i] for i in (1, 0, 2))
    assert low <= value <= high and set(told_arms(rows)) == {"encoded", "rolled", "ridge", "mask-only"}
    assert json.loads((tmp_path / "run" / "result.json").read_text())["tasks"] == told["tasks"]


@pytest.mark.proof
def test_stays_that_are_all_shorter_than_the_cohort_s_axis(
    tmp_path: Path, rng: np.random.Generator, capsys
) -> None:
    """The axis has 72 hours, the longest stay 40: evaluated as far as stays go."""
    cohort = toy_stays.stays(rng, 60)
    np.minimum(cohort.length, 40, out=cohort.length)
    cohort.labels["event"][:, 40:] = np.nan
    for name in ("state", "action"):
        for array in (cohort.streams[name].values, cohort.streams[name].observed, cohort.streams[name].time):
            array[:, 40:] = 0
    save(cohort, tmp_path / "toy.cohort")
    assert main(["clin-jepa", "--data", str(tmp_path / "toy.cohort"), "--task", "dies", "--out", str(tmp_path / "run"),
                 *SMALL, "--json"]) == 0
    drift = json.loads(capsys.readouterr().out)["report"]["drift"]
    assert {row["drift"]["horizon"] for row in drift} == {6, 12} and all(row["drift"]["matched"] for row in drift)


@pytest.mark.proof
def test_the_world_beside_its_optima(tmp_path: Path, capsys) -> None:
    """The whole of it, small: the optimum is there and no roll-out beats it by more than its own noise."""
    run = ["clin-jepa", "--data", "icu", "--out", str(tmp_path / "run"), *SMALL, "--set", "n_unlab=60", "--set",
           "n_lab=120", "--set", "n_test=120", "--set", "optimum_stays=30", "--set", "areas_stays=60"]
    assert main(run) == 0
    shown = capsys.readouterr().out
    for word in ("simulated optimum", "survivorship", "by regime", "true state", "best possible", "rolled",
                 "no optimum, known or simulated: decoded variables; sepsis."):
        assert word in shown
    told = json.loads((tmp_path / "run" / "result.json").read_text())["report"]
    assert told["parts"][-1]["remainder"] + told["parts"][-1]["underfit"] is not None
    limits = {row["task"]: row["limit"] for row in told["tasks"]}
    assert limits["severe-meld"] > 0.5 and limits["sepsis"] is None


@pytest.mark.parametrize(("words", "says"), [
    (["--data", "icu", "--set", "stepz=3"], "did you mean steps"),
    (["--data", "icu", "--set", "steps=a"], "expected a value of type int"),
    (["--data", "icu", "--set", "steps=0"], "expected a positive number"),
    (["--data", "icu", "--set", "encoder=tabula"], "known: tabular, text, llm"),
    (["--data", "icu", "--set", "clock=yes"], "expected true or false"),
    (["--data", "gaussian"], "needs hourly stays"),
    (["--data", "none.cohort"], "does not exist; prepare it first"),
    (["--data", "icu", "--compare", "supervised"], "--compare supervised"),
    (["--data", "icu", "--labels", "50"], "not for trajectories"),
    (["--data", "icu", "--set", "rate_predictor=0"], "expected a positive number"),
    (["--data", "icu", "--set", "clip=0"], "expected a positive number"),
    (["--data", "icu", "--set", "dropout=1"], "expected a share below 1"),
    (["--data", "icu", "--task", "kidney-failur"], "did you mean kidney-failure"),
    (["--data", "icu", "--splits", "3"], "a world is one seed"),
    (["--data", "icu", "--device", "cuda"], "on the CPU alone"),
])  # fmt: skip
def test_mistakes_are_one_line(words: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(SimlabError, match=says):
        main(["clin-jepa", *words, "--out", str(tmp_path / "run")])


def test_a_run_that_failed_leaves_its_folder_free(tmp_path: Path) -> None:
    """The command that was corrected is not refused as another run."""
    for phi in ("2", "3"):
        with pytest.raises(SimlabError, match=f"phi .* = {phi}"):
            main(["clin-jepa", "--data", "icu", "--set", f"phi={phi}", "--out", str(tmp_path / "run")])
    (tmp_path / "run" / "result.json").write_text("{}")
    with pytest.raises(SimlabError, match="holds another run"):
        main(["clin-jepa", "--data", "icu", "--set", "phi=4", "--out", str(tmp_path / "run")])


def test_a_run_that_diverges_names_this_command_s_key(tmp_path: Path, rng: np.random.Generator) -> None:
    save(toy_stays.stays(rng, 40, hours=32), tmp_path / "toy.cohort")
    run = ["clin-jepa", "--data", str(tmp_path / "toy.cohort"), "--out", str(tmp_path / "run"), *SMALL, "--set"]
    with pytest.raises(Diverged, match=r"lower --set rate_predictor \(now 1e\+30\) or --set rate_encoder") as told:
        main([*run, "rate_predictor=1e30"])
    assert "train." not in str(told.value) and "\n" not in str(told.value)


def test_an_arm_of_whole_stays_is_no_comparator(tmp_path: Path) -> None:
    with pytest.raises(SimlabError, match="run it as METHOD"):
        main(["logistic", "--data", "icu", "--compare", "clin-jepa", "--out", str(tmp_path)])
