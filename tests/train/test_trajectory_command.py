"""`python -m simlab.train clin-jepa` as a newcomer would use it: a prepared cohort, the ICU world, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy_stays

from simlab.cohort import Cohort, save
from simlab.errors import OutOfDomain, SimlabError
from simlab.evaluation import drift
from simlab.sweep import keys
from simlab.train import trajectory_run
from simlab.train.__main__ import main
from simlab.training.loop import Diverged
from simlab.training.trajectory_run import Run
from simlab.trajectories.evaluate import Report
from simlab.trajectories.trained import Trained

SMALL = ["--set", "steps=8", "--set", "batch=4", "--set", "width=8", "--set", "hidden=16", "--set", "inner=8",
         "--set", "heads=2", "--set", "inside=16", "--set", "depth=1", "--quiet", "--compare", "ridge"]


def told_arms(rows: dict) -> list[str]:
    return [arm for _, arm in rows]


def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The evaluations from now on, by their number of training stays."""
    calls: list[int] = []
    plain = trajectory_run.evaluate

    def one(backbone: Trained, train: Cohort, *rest: Any) -> Report:
        calls.append(len(train))
        return plain(backbone, train, *rest)

    monkeypatch.setattr(trajectory_run, "evaluate", one)
    return calls


def test_a_prepared_cohort_over_two_splits(
    tmp_path: Path, rng: np.random.Generator, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "toy.cohort"
    save(toy_stays.stays(rng, 60, hours=32), file)
    run = ["clin-jepa", "--data", str(file), "--splits", "2", "--task", "dies", "--out", str(tmp_path / "run"), *SMALL]
    assert main([*run, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["report"]["reference"] == "direct linear forecast"
    assert {row["context"] for row in told["report"]["drift"]} == {6, 12, 24}
    assert {row["drift"]["horizon"] for row in told["report"]["drift"]} == {6}  # as far as 32 hours go
    assert {row["actions"] for row in told["report"]["drift"]} == {"true", "zero", "shuffled", "held"}
    best, = told["report"]["best"]
    assert best["actions"] == "direct linear forecast" and min(best["mase_copy"], best["mase_line"]) > 0
    assert told["report"]["same"] == []  # it forecasts all stays
    rows = {(row["task"], row["arm"]): row for row in told["tasks"]}
    assert rows["dies", "encoded"]["splits"] == 2 and rows["dies", "encoded"]["encoded_minus_it"] is None
    low, value, high = (rows["dies", "ridge"]["encoded_minus_it"][i] for i in (1, 0, 2))
    assert low <= value <= high and set(told_arms(rows)) == {"encoded", "rolled", "ridge", "mask-only"}
    assert json.loads((tmp_path / "run" / "result.json").read_text())["tasks"] == told["tasks"]
    # As if it had been killed before the table was written: splits are read back, table and result are the same bytes.
    files = [tmp_path / "run" / name for name in ("result.json", "report.txt")]
    before = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    calls = evaluations(monkeypatch)
    assert main([*run, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == told and [file.read_bytes() for file in files] == before
    assert not calls


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
                 "over best", "best possible of decoded variables: 200 guesses a stay"):
        assert word in shown
    assert "no optimum" not in shown and "fewer than 10 subjects with a positive, " in shown
    told = json.loads((tmp_path / "run" / "result.json").read_text())["report"]
    assert told["parts"][-1]["remainder"] + told["parts"][-1]["underfit"] is not None
    assert all(0 <= row["best"] <= row["mae"] + 0.3 * row["rmse"] for row in told["decoded"])
    for best, same in zip(told["best"], told["same"], strict=True):
        assert best["drift"]["active"] == same["drift"]["active"] == 30
        assert best["step"] < same["step"]
        for column in ("mase_copy", "mase_mean", "mase_line"):
            assert 0 < best[column] < same[column]
        assert best["retrieval"] > 0.5
    limits = {row["task"]: row["limit"] for row in told["tasks"]}
    assert limits["severe-meld"] > 0.5 and limits["sepsis"] > 0.5


@pytest.mark.parametrize(("words", "says"), [
    (["--data", "icu", "--set", "stepz=3"], "did you mean steps"),
    (["--data", "icu", "--set", "steps=a"], "expected a value of type int"),
    (["--data", "icu", "--set", "steps=0"], r"steps = 0: expected whole numbers in \[1, "),
    (["--data", "icu", "--set", "encoder=tabula"], "encoder = tabula: expected one of tabular, text, llm"),
    (["--data", "icu", "--set", "clock=yes"], "expected true or false"),
    (["--data", "gaussian"], "needs hourly stays"),
    (["--data", "none.cohort"], "does not exist; prepare it first"),
    (["--data", "icu", "--compare", "supervised"], "--compare supervised"),
    (["--data", "icu", "--labels", "50"], "not for trajectories"),
    (["--data", "icu", "--set", "rate_predictor=0"], r"rate_predictor = 0: expected \(0, inf\]"),
    (["--data", "icu", "--set", "clip=0"], r"clip = 0: expected \(0, inf\]"),
    (["--data", "icu", "--set", "dropout=1"], r"dropout = 1: expected \[0, 1\)"),
    (["--data", "icu", "--set", "heads=3"], "heads = 3: expected a divisor of inner, which is 32"),
    (["--data", "icu", "--set", "n_test=0"], "n_test = 0: expected a whole number of at least 1"),
    (["--data", "icu", "--set", "areas_stays=7"], "areas_stays = 7: expected a whole number of at least 8"),
    (["--data", "icu", "--task", "kidney-failur"], "did you mean kidney-failure"),
    (["--data", "icu", "--splits", "3"], "a world is one seed"),
    (["--data", "icu", "--set", "max_hours=12", "--set", "n_unlab=8", "--set", "n_lab=8", "--set", "n_test=8"],
     "max_hours = 12: expected at least 24, the hour at which hospital-mortality is asked"),
    (["--data", "icu", "--compare", "xgb"], r"unknown method 'xgb': none of \d+ names is near. python -m simlab"),
    (["--data", "icu", "--set", "llm=x"], "llm = x: nothing reads it with encoder = 'tabular'; leave it out, or set"),
    (["--data", "icu", "--set", "hidden=9", "--set", "encoder=text"], "hidden = 9: nothing reads it with encoder"),
    (["--data", "icu", "--set", "width=9", "--set", "encoder=llm"], "or set encoder = 'tabular' or 'text'"),
    (["--data", "icu", "--set", "masked=.5"], r"masked = .5: nothing reads it in clin-jepa \(no stage masks hours"),
    (["--data", "icu", "--set", "severity_gap=1"], "severity_gap = 1: it is of the other hospital"),
])  # fmt: skip
def test_mistakes_are_one_line(words: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(SimlabError, match=says):
        main(["clin-jepa", *words, "--out", str(tmp_path / "run")])


def test_what_is_simulated_for_roll_outs_is_unread_without_a_predictor(tmp_path: Path) -> None:
    for key in trajectory_run.OF_ROLLING:
        with pytest.raises(OutOfDomain, match=rf"{key} = 9: nothing reads it in masked-refinement \(nothing is rolled"):
            main(["clin-jepa-masked-refinement", "--data", "icu", "--set", f"{key}=9", "--out", str(tmp_path)])


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


class Killed(BaseException):
    """As a signal would."""


@pytest.fixture
def toy(tmp_path: Path, rng: np.random.Generator) -> Path:
    save(toy_stays.stays(rng, 30, hours=24), tmp_path / "toy.cohort")
    return tmp_path / "toy.cohort"


def shape_alone(backbone: Trained, train: Cohort, test: Cohort, *_: Any) -> Report:
    """In the place of the whole evaluation: of the latents alone, whose every bit is in their mean."""
    z = backbone.encode(test).state
    return Report({**drift.latent_shape(z, test.length), "mean": float(z.mean())}, (), (), "", (), {}, (), ())


def command(file: Path, out: Path) -> list[str]:
    return ["clin-jepa", "--data", str(file), "--splits", "2", "--task", "dies", "--out", str(out), *SMALL, "--compare",
            ""]  # fmt: skip


def test_a_killed_run_goes_on_and_gives_the_same_bits(
    toy: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the second split's training: the first is neither trained nor evaluated again, the second goes on from
    what was saved; table and result are an uninterrupted run's, byte for byte. A finished run trains nothing."""
    monkeypatch.setattr(trajectory_run, "evaluate", shape_alone)
    assert main(command(toy, tmp_path / "whole")) == 0
    told = capsys.readouterr().out
    assert "effective rank" in told
    total, steps, draw = 10, [], Run.draw  # 8 steps, and phase 0

    def counted(run: Run, step: int) -> Any:
        if len(steps) == total + 7:
            raise Killed
        steps.append(step)
        return draw(run, step)

    broken = tmp_path / "broken"
    monkeypatch.setattr(Run, "draw", counted)
    with pytest.raises(Killed):
        main(command(toy, broken))
    assert steps == [*range(total), *range(7)] and not (broken / "result.json").exists()
    with pytest.raises(SimlabError, match=r"holds another run: settings\.steps is 8 there and 9 now; give"):
        main([*command(toy, broken), "--set", "steps=9"])
    with pytest.raises(SimlabError, match=r"holds another run: test_share is 0\.25 there and 0\.5 now"):
        main([*command(toy, broken), "--test-share", "0.5"])
    with pytest.raises(SimlabError, match=r"holds another run: threads is 1 there and 2 now"):
        main([*command(toy, broken), "--threads", "2"])
    steps.clear()
    calls = evaluations(monkeypatch)
    elsewhere = toy.parent / "down" / ".." / toy.name  # the same records by another spelling of their path
    (toy.parent / "down").mkdir()
    assert main(command(elsewhere, broken)) == 0
    told = told.replace(str(toy), str(elsewhere))
    assert steps == list(range(7, total)) and len(calls) == 1, "the first split is not evaluated again"
    assert capsys.readouterr().out == told.replace(str(tmp_path / "whole"), str(broken))
    written = (broken / "result.json").read_text().replace(str(elsewhere), str(toy))
    assert written == (tmp_path / "whole" / "result.json").read_text()
    assert not (broken / "pretraining").exists()
    steps.clear()
    assert main([*command(toy, broken), "--json"]) == 0 and not steps
    shown = json.loads(capsys.readouterr().out)
    assert shown["splits"] == 2 and shown["report"] == json.loads((broken / "result.json").read_text())["report"]
    assert main(command(toy, broken)) == 0
    assert capsys.readouterr().out == told.replace(str(tmp_path / "whole"), str(broken))


def test_a_finished_split_of_other_code_or_damaged_is_evaluated_again(
    toy: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trajectory_run, "evaluate", shape_alone)
    calls, run = evaluations(monkeypatch), command(toy, tmp_path / "run")
    assert main(run) == 0 and len(calls) == 2
    told = capsys.readouterr().out

    def again(**patched: Any) -> int:
        calls.clear()
        (tmp_path / "run" / "result.json").unlink()
        with monkeypatch.context() as patch:
            for name, value in patched.items():
                patch.setattr(keys, name, lambda *_, value=value: value)
            assert main(run) == 0
        assert capsys.readouterr().out == told
        return len(calls)

    assert again() == 0 and again(libraries={"torch": "1"}) == 2 and again(sources="other") == 2
    (tmp_path / "run" / "parts" / "0000.json").write_text("{")
    assert again(sources="other") == 1
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(SimlabError, match=r"holds another run: settings\.steps is 8 there and 9 now"):
        main([*run, "--set", "steps=9"])


def test_the_device_is_the_training_s_and_part_of_the_run(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not there is told before records are read; a run of another is refused, and one that was begun before
    runs told theirs is the CPU's."""
    out, asked = tmp_path / "run", []

    def train(*given: Any) -> None:
        asked.append(given[-1])
        raise Killed

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OutOfDomain, match="torch finds no CUDA device on this machine; use --device cpu"):
        main([*command(toy, out), "--device", "cuda"])
    assert not out.exists()
    monkeypatch.setattr(trajectory_run, "find_device", lambda name: None)  # as if it were there
    monkeypatch.setattr(trajectory_run.arms, "train", train)
    with pytest.raises(Killed):
        main([*command(toy, out), "--device", "cuda"])
    assert asked == ["cuda"]
    (out / "result.json").write_text("{}")
    with pytest.raises(OutOfDomain, match="another run: device is cuda there and cpu now"):
        main(command(toy, out))
    before = json.loads((out / "run.json").read_text())
    assert before.pop("device") == "cuda"
    (out / "run.json").write_text(json.dumps(before))
    with pytest.raises(OutOfDomain, match="another run: device is cpu there and cuda now"):
        main([*command(toy, out), "--device", "cuda"])
    with pytest.raises(Killed):
        main(command(toy, out))
    assert asked == ["cuda", "cpu"]


def test_how_finely_optima_are_simulated_may_be_corrected_until_there_is_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its training: another size of the optimum goes on from it, another of the data is another run; with
    a result the optimum's is one too, named."""
    run = ["clin-jepa", "--data", "icu", "--out", str(tmp_path), *SMALL, "--set", "n_unlab=12", "--set", "n_lab=4",
           "--set", "n_test=4"]  # fmt: skip
    steps, draw = [], Run.draw

    def killed(*_: Any) -> None:
        raise Killed

    def counted(run: Run, step: int) -> Any:
        steps.append(step)
        return draw(run, step)

    monkeypatch.setattr(trajectory_run, "evaluate", killed)
    monkeypatch.setattr(Run, "draw", counted)
    with pytest.raises(Killed):
        main(run)
    assert steps and (tmp_path / "pretraining" / "0000.pt").exists()
    steps.clear()
    with pytest.raises(Killed):
        main([*run, "--set", "optimum_stays=30"])
    assert not steps
    assert json.loads((tmp_path / "run.json").read_text())["optima"]["optimum_stays"] == 30
    with pytest.raises(OutOfDomain, match=r"another run: sizes\.n_test is 4 there and 5 now; give another"):
        main([*run, "--set", "n_test=5"])
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(OutOfDomain, match=r"another run: optima\.optimum_stays is 30 there and 60 now; give another"):
        main(run)


def test_a_language_model_that_is_not_there_is_told_before_any_stay_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="needs the extra llm")
    pytest.importorskip("peft", reason="needs the extra llm")
    monkeypatch.setattr(trajectory_run, "sample_cohort", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SimlabError, match="neither a folder nor a model that can be fetched"):
        main(["clin-jepa", "--data", "icu", "--set", "encoder=llm", "--set", f"llm={tmp_path / 'empty'}", "--out",
              str(tmp_path / "run")])


def test_other_records_under_the_same_name_are_another_run(
    toy: Path, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(run: Run, step: int) -> None:
        if step == 3:
            raise Killed
        return draw(run, step)

    draw = Run.draw
    monkeypatch.setattr(Run, "draw", killed)
    with pytest.raises(Killed):
        main(command(toy, tmp_path / "run"))
    save(toy_stays.stays(rng, 31, hours=24), toy)
    with pytest.raises(SimlabError, match="holds another run: sha256 is"):
        main(command(toy, tmp_path / "run"))


@pytest.mark.parametrize(("windows", "stays", "world", "says"), [
    (72, 336, True, "stays have up to 336 h (--set hours), windows 72 (--set max_hours)"),
    (72, 336, False, "stays have up to 336 h, windows 72 (--set max_hours)"),
    (168, 72, True, "windows may have 168 h (--set max_hours), but the world keeps 72 h of a stay (--set hours)"),
    (168, 72, False, ""), (72, 72, True, ""),
])  # fmt: skip
def test_windows_that_are_no_stay_long_are_said(windows: int, stays: int, world: bool, says: str) -> None:
    told = trajectory_run._hours(windows, stays, world)
    assert says in told[0] if says else told == []
