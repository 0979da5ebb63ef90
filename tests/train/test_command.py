"""`python -m simlab.train` as a newcomer would use it, mistakes included."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from simlab.cohort import Cohort, Stream, Task, load, save
from simlab.errors import OutOfDomain
from simlab.train import experiment
from simlab.train.__main__ import main

FAST = [
    "--compare",
    "logistic",
    "--splits",
    "2",
    "--quiet",
    "--set",
    "encoder=linear",
    "--set",
    "width=2",
    "--set",
    "steps=5",
    "--set",
    "batch=32",
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simlab.train", *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def file(tmp_path: Path, rng: np.random.Generator) -> Path:
    n = 120
    y = (np.arange(n) % 3 == 0).astype(float)
    values = rng.standard_normal((2, n, 4, 3)).astype(np.float32) + 0.3 * y[None, :, None, None].astype(np.float32)
    time = np.tile(np.arange(4.0), (n, 1))
    stream = {
        name: Stream(values[i], rng.random((n, 4, 3)) < 0.8, ("a", "b", "c"), ("", "", ""), time)
        for i, name in enumerate(("vitals", "labs"))
    }
    cohort = Cohort(
        streams=stream,
        length=np.full(n, 4),
        record=np.arange(n),
        subject=np.arange(n) // 2,
        site=np.full(n, "x"),
        tasks={"death": Task("death", "binary", cutoff=2.0)},
        labels={"death": y},
    )
    save(cohort, tmp_path / "toy.cohort")
    return tmp_path / "toy.cohort"


def test_a_run_prints_and_keeps_its_table(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vicreg-frozen", "--data", str(file), "--out", str(tmp_path / "run"), *FAST]) == 0
    text = capsys.readouterr().out
    assert np.load(tmp_path / "run" / "artefacts" / "0-0-vicreg-frozen.npz")["embedding/clinical"].shape == (30, 2)
    for word in ("vicreg-frozen", "logistic", "AUROC", "AUPRC", "Nadeau-Bengio", "rankme/image", "60 subjects"):
        assert word in text
    saved = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [line["arm"] for line in saved["table"]] == ["vicreg-frozen", "logistic", "mask-only"]
    assert saved["table"][1]["detectable"] > 0


def test_arms_on_tokens_run_on_a_cohort(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Visits up to the cutoff become tokens; a channel that is missing now and then is no obstacle."""
    more = ["--set", "hidden=8", "--set", "depth=1", "--set", "finetune_steps=9", "--set", "missing=zero-filled"]
    out = str(tmp_path / "run")
    more += ["--compare", "random-tokens"]
    assert main(["visit-jepa-partial", "--data", str(file), "--out", out, *FAST, *more]) == 0
    text = capsys.readouterr().out
    for word in ("visit-jepa-partial", "random-tokens", "skill-image", "Verdict"):
        assert word in text


def test_running_again_computes_nothing_and_more_splits_only_the_new(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from simlab.train import cohort_run

    arguments = ["vicreg-frozen", "--data", str(file), "--out", str(tmp_path / "run"), *FAST]
    main(arguments)
    first = capsys.readouterr().out
    ran: list[int] = []
    real = experiment.run_split
    monkeypatch.setattr(cohort_run, "run_split", lambda *a: ran.append(a[4]) or real(*a))
    main(arguments)
    assert ran == [] and capsys.readouterr().out == first
    main([*arguments, "--splits", "3"])
    assert ran == [2]
    damaged = tmp_path / "run" / "parts" / "0001.json"
    damaged.write_text('{"index": 1, "met')
    main([*arguments, "--splits", "3"])
    assert ran == [2, 1] and "computed again" in capsys.readouterr().err
    assert damaged.with_name("0001.json.damaged").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["jepa-frozn", "--data", "DATA"], ["jepa-frozn", "jepa-frozen"]),
        (["lda", "--data", "gausian"], ["gausian", "gaussian"]),
        (["lda", "--data", "missing.cohort"], ["missing.cohort", "does not exist"]),
        (["lda", "--data", "DATA", "--task", "death2"], ["death2", "death"]),
        (["lda", "--data", "DATA", "--set", "widht=3"], ["widht", "width"]),
        (["lda", "--data", "DATA", "--set", "width=x"], ["width", "int"]),
        (["lda", "--data", "DATA", "--set", "width=0"], ["width", "positive"]),
        (["lda", "--data", "DATA", "--set", "width"], ["KEY=VALUE"]),
        (["lda", "--data", "DATA", "--set", "weight_decay=-1"], ["weight_decay", "at least 0"]),
        (["lda", "--data", "DATA", "--set", "batch=1"], ["batch", "at least 2"]),
        (["lda", "--data", "DATA", "--set", "decay=keys"], ["decay", "key or query or none"]),
        (["lda", "--data", "DATA", "--set", "masked=1"], ["masked", "between 0 and 1"]),
        (["lda", "--data", "DATA", "--labels", "1"], ["--labels", "at least 4"]),
        (["lda", "--data", "DATA", "--out", "DATA"], ["toy.cohort", "cannot be used"]),
        (["lda", "--data", "DATA", "--splits", "1"], ["--splits", "at least 2"]),
        (["lda", "--data", "DATA", "--test-share", "2"], ["--test-share"]),
        (["lda", "--data", "gaussian", "--set", "h2=1"], ["h2", "[0, 1)"]),
        (["lda", "--data", "gaussian", "--plasmode", "w_c=1"], ["--plasmode", "--set"]),
        (["lda", "--data", "DATA", "--plasmode", "w_c=2"], ["w_c = 2", "[0, 1]"]),
        (["lda", "--data", "DATA", "--plugin", "no.py"], ["no.py", "does not exist"]),
        (["lda"], ["--data"]),
        (["lda", "--data", "gaussian", "--device", "cuda"], ["cuda", "--device cpu"]),
    ],
)
def test_bad_input_gets_one_clear_line(file: Path, arguments: list[str], words: list[str]) -> None:
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    done = run(*[str(file) if a == "DATA" else a for a in arguments])
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")
    for word in words:
        assert word in done.stderr


def test_a_damaged_cohort_is_named(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])
    done = run("lda", "--data", str(file))
    assert done.returncode == 2 and "toy.cohort" in done.stderr and done.stderr.count("\n") == 1


def test_another_run_in_the_folder_is_refused_by_field(file: Path, tmp_path: Path) -> None:
    arguments = ["vicreg-frozen", "--data", str(file), "--out", str(tmp_path / "run"), *FAST]
    assert run(*arguments).returncode == 0
    done = run(*arguments, "--set", "steps=6")
    assert done.returncode == 2 and "settings" in done.stderr
    cohort = load(file)
    save(replace(cohort, labels={"death": 1 - cohort.labels["death"]}), file)  # the same name, other content
    with pytest.raises(OutOfDomain, match="sha256"):
        main(arguments)


def test_a_world_is_a_source_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed by seed, each kept: the same command computes nothing more."""
    from simlab.train import world_run

    settings = [
        word for pair in ("w_c=0.8", "n_unlabelled=600", "encoder=linear", "steps=20") for word in ("--set", pair)
    ]
    arguments = [
        "vicreg-frozen",
        "--data",
        "gaussian",
        "--compare",
        "lda,image-only",
        "--splits",
        "3",
        "--json",
        *settings,
        "--out",
        str(tmp_path / "run"),
    ]
    status = main(arguments)
    captured = capsys.readouterr()
    assert "seed 3/3 done" in captured.err
    monkeypatch.setattr(world_run, "run_job", None)
    assert main(arguments) == status and capsys.readouterr().out == captured.out
    found = json.loads(captured.out)
    assert status == 0 and [line["arm"] for line in found["table"]] == ["vicreg-frozen", "lda", "image-only"]
    limits = {line["arm"]: line["limit"] for line in found["table"]}
    assert limits["lda"] == limits["vicreg-frozen"] == pytest.approx(0.879, abs=5e-4)  # docs/theory.md, 4
    assert limits["image-only"] == pytest.approx(0.842, abs=5e-4)


def test_a_plug_in_adds_a_method(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import simlab\nfrom simlab.methods import Method\n"
        'simlab.register(Method("mine", "my own", "simlab.training.baselines:ridge"))\n'
    )
    listed = run("--list", "--plugin", str(plugin))
    assert listed.returncode == 0 and "mine" in listed.stdout and "my own" in listed.stdout


def test_an_arm_that_fails_does_not_end_the_others(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six labels are too few for a five-fold cross-validation: that arm says so, the others are measured."""
    status = main(
        [
            "lda",
            "--data",
            str(file),
            "--compare",
            "raw-probe,logistic",
            "--labels",
            "6",
            "--splits",
            "2",
            "--quiet",
            "--out",
            str(tmp_path / "run"),
            "--set",
            "encoder=linear",
        ]
    )
    captured = capsys.readouterr()
    assert status == 1
    assert "failed: logistic" in captured.err and "raw-probe" in captured.out


def test_few_labels_change_the_labels_and_not_the_overlap_of_splits(
    file: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """A budget of labels is met exactly with both classes; the Nadeau-Bengio ratio stays that of the split's sides."""
    y = (rng.random(90) < 0.2).astype(float)
    for labels in (4, 5, 30):
        plan = experiment.Plan("death", labels=labels)
        chosen = experiment._labelled(y, plan, 0)
        assert len(set(chosen)) == labels and 2 <= y[chosen].sum() <= labels - 2
    splits = [
        experiment.Split(i, {"a": {"auroc": v, "auprc": v}}, {"a": {}}, {}, 90, n, 30, ())
        for i, (v, n) in enumerate([(0.5, 4), (0.6, 4)])
    ]
    half = experiment.table(splits, ["a"])[0].metrics["auroc"]
    se = np.sqrt((1 / 2 + 30 / 90) * np.var([0.5, 0.6], ddof=1))
    assert half.high == pytest.approx(min(1.0, 0.55 + 12.7062 * se), rel=1e-4)


def test_splits_count_labelled_records_on_both_sides(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Nadeau-Bengio ratio is of like to like, where labels are missing too."""
    from simlab.methods import METHODS
    from simlab.training.data import Fit
    from simlab.training.pretrain import Settings

    cohort = load(file)
    y = np.where(np.arange(len(cohort)) % 5 < 3, cohort.labels["death"], np.nan)
    monkeypatch.setattr(experiment, "run_arm", lambda arm, bench: Fit(lambda views: views["image"][:, 0]))
    settings, plan = Settings(width=2, hidden=4), experiment.Plan("death")
    arms = [METHODS["mask-only"]]
    split = experiment.run_split(replace(cohort, labels={"death": y}), arms, settings, plan, 0, lambda _: None)
    assert split.n_side == split.n_train and split.n_side + split.n_test == np.isfinite(y).sum()


def test_a_regression_cohort_is_refused_clearly(tmp_path: Path, rng: np.random.Generator) -> None:
    n = 20
    stream = {
        k: Stream(rng.random((n, 1, 2)).astype(np.float32), np.ones((n, 1, 2), bool), ("a", "b"), ("", ""))
        for k in ("one", "two")
    }
    save(
        Cohort(
            streams=stream,
            length=np.ones(n, int),
            record=np.arange(n),
            subject=np.arange(n),
            site=np.full(n, "x"),
            tasks={"los": Task("los", "regression")},
            labels={"los": rng.random(n)},
        ),
        tmp_path / "los.cohort",
    )
    done = run("lda", "--data", str(tmp_path / "los.cohort"))
    assert done.returncode == 2 and "no binary task" in done.stderr


@pytest.mark.parametrize(("method", "word"), [("vicreg-frozen", "healthy"), ("unguarded-frozen", "full collapse")])
def test_a_healthy_and_a_collapsed_run_say_so(
    method: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The collapsed run's loss falls all the while; its verdict and deviations tell. Factors are known here, and what a
    page needs is kept: 500 embeddings, spectrum, deviations, readability and curves."""
    options = "--compare lda --splits 2 --set n_unlabelled=2000 --set w_c=0.8 --set encoder=linear --set width=4"
    more = "--set steps=300 --set learning_rate=0.02"
    assert main([method, "--data", "gaussian", *options.split(), *more.split(), "--json", "--out", str(tmp_path)]) == 0
    health = json.loads(capsys.readouterr().out)["health"]
    assert health["verdicts"] == {word: 2}
    first, last = health["curve"][0], health["curve"][-1]
    assert last["loss"] < first["loss"]
    if word == "healthy":
        assert health["numbers"]["readable/c/image"] > 0.3 > 0.1 > health["numbers"]["readable/u/image"]
        assert last["sd-max-image"] > 0.5 and health["numbers"]["lidar"] > 2
    else:
        assert last["sd-max-image"] < 0.02
    kept = np.load(tmp_path / "artefacts" / f"0-1-{method}.npz", allow_pickle=False)
    assert kept["embedding/image"].shape == (500, 4) and len(kept["spectrum/clinical"]) == 4
    assert len(kept["curve/loss"]) == len(kept["curve/step"]) == len(health["curve"])
    assert (kept["deviation/image"].max() > 0.5) == (word == "healthy")
    read = np.mean([np.load(tmp_path / "artefacts" / f"0-{s}-{method}.npz")["readability/c/image"] for s in (0, 1)])
    assert float(read) == pytest.approx(health["numbers"]["readable/c/image"])


def test_without_a_task_the_first_is_taken_and_named(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = load(file)
    tasks = {**cohort.tasks, "late": Task("late", "binary", cutoff=3.0), "los": Task("los", "regression")}
    labels = {**cohort.labels, "late": 1 - cohort.labels["death"], "los": np.ones(len(cohort))}
    save(replace(cohort, tasks=tasks, labels=labels), tmp_path / "two.cohort")
    argv = ["lda", "--data", str(tmp_path / "two.cohort"), "--compare", "", "--splits", "2", "--set", "steps=1"]
    assert main([*argv, "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr()
    assert "task death, the cohort's first; --task chooses among late too" in told.err
    assert told.out.startswith("task death: ")


@pytest.mark.parametrize(("positives", "told"), [(9, False), (10, True)])
def test_no_calibration_slope_of_a_few_positives(positives: int, told: bool) -> None:
    y = (np.arange(60) < positives).astype(float)
    found = experiment.measures(np.sin(np.arange(60.0)), "logit", y, None)
    assert ("slope" in found) is told and "offset" in found
