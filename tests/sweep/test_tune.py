"""Design "tune": equal budgets, inside the labels, the same trials for any workers and after kills."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import sweep_fakes
from conftest import calls
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from simlab import methods, rng
from simlab.errors import InvalidStudy, SimlabError
from simlab.sweep import driver, job, plan, stages, study, tune, tune_report, tuning
from simlab.sweep.folder import Folder
from simlab.sweep.pool import Outcome
from simlab.sweep.trial import Trial
from simlab.training import search
from simlab.training.pretrain import Settings

TUNE = ["design.kind=tune", "design.batch=4", "tune.trials=10", "w_c=[0.2, 0.8]", "n_labelled=[100]", "seeds.looks=[2]"]


class Here:
    """An engine in this process, which computes in another order than it was asked."""

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, jobs: Sequence[Trial]) -> Iterator[Outcome]:
        for trial in reversed(jobs):
            yield Outcome(trial, "ok", sweep_fakes.tries(None, trial))  # type: ignore[arg-type]


@pytest.fixture
def asked(toml: Path) -> study.Study:
    return study.load(str(toml), TUNE)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "Pool", Here)
    monkeypatch.setattr("simlab.sweep.tune_report._figure", lambda study, curves, path: path.write_bytes(b""))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def go(asked: study.Study, out: Path, **options: Any) -> list[tune.Done]:
    """Tune without the comparison."""
    folder = Folder(out)
    folder.make()
    tune._Tuning(asked, driver.Options(out, workers=1, quiet=True, **options), folder, "none").go()
    return sorted(tune.read(out / tune.RECORD), key=lambda d: (d.cell, d.arm, d.number))


@pytest.mark.usefixtures("here")
def test_every_arm_gets_the_same_budget_and_the_best_is_chosen(asked: study.Study, tmp_path: Path) -> None:
    done = go(asked, tmp_path / "out")
    for cell in (0, 1):
        for arm, n in (("vicreg-frozen", 10), ("supervised", 10), ("lda", 1)):  # lda has nothing to tune
            mine = [d for d in done if (d.cell, d.arm) == (cell, arm)]
            assert [d.number for d in mine] == list(range(n))
            assert len({d.setting for d in mine}) == n
            assert {k for d in mine for k, _ in d.setting} == set(search.names(methods.find(arm), "linear"))
    chosen = {(cell, arm): dict(setting) for cell, arm, setting in tune.choose(asked, done)}
    assert set(chosen) == {(cell, arm) for cell in (0, 1) for arm in asked.arms}
    rows = list(csv.DictReader((tmp_path / "out/trials.csv").open(encoding="utf-8")))
    assert len(rows) == len(done) == 42 and sum(row["chosen"] == "1" for row in rows) == 6
    for (cell, arm), setting in chosen.items():
        mine = [row for row in rows if (row["cell"], row["method"]) == (str(cell), arm)]
        best = max((row for row in mine if row["score"]), key=lambda row: float(row["score"]))
        assert best["chosen"] == "1" and all(float(best[k]) == v for k, v in setting.items())
    failed = [row for row in rows if row["trial"] == "1"]
    assert all(row["score"] == "" and row["error"] == "ValueError: no fit" for row in failed) and len(failed) == 4
    told = tomllib.loads((tmp_path / "out/chosen.toml").read_text(encoding="utf-8"))
    assert told["cell-1"]["knobs"] == {"w_c": 0.8, "n_labelled": 100}
    assert told["cell-1"]["supervised"]["penalty"] == chosen[1, "supervised"]["penalty"]


@pytest.mark.usefixtures("here")
def test_the_record_is_the_same_after_kills_and_repeats_nothing(
    asked: study.Study, tmp_path: Path, fakes: Path
) -> None:
    """lab_practice 1.3: a sampler that is seeded alike again repeats its points (8 unique of 24 in three restarts); a
    line that a kill tore ends the record for ever. Here a kill is what it leaves: fewer lines, the last one torn."""
    whole = go(asked, tmp_path / "whole")
    fakes.unlink()
    lines = (tmp_path / "whole/trials.jsonl").read_bytes().splitlines(keepends=True)
    folder = Folder(tmp_path / "out")
    folder.make()
    for kept in (8, 33):  # lines of the header and of finished trials that stand when the driver is killed
        there = (folder.path / "trials.jsonl").read_bytes().splitlines(keepends=True) if kept > 8 else lines
        (folder.path / "trials.jsonl").write_bytes(b"".join(there[:kept]) + there[kept][:17])
        fakes.unlink(missing_ok=True)
        assert go(asked, folder.path) == whole
        assert len(calls(fakes)) == len(set(calls(fakes))) == 43 - kept
    for name in ("chosen.toml", "trials.csv", "tuning.csv", "importance.csv"):
        assert (folder.path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    go(asked, folder.path)
    assert len(calls(fakes)) == 10  # nothing was left to do
    for torn in (b"", lines[0][:9]):  # killed before the first line was whole
        (folder.path / "trials.jsonl").write_bytes(torn)
        assert go(asked, folder.path) == whole
        head, before = (json.loads(line) for line in (folder.path.joinpath("trials.jsonl").read_bytes().splitlines()[0],
                                                      lines[0]))
        assert head.pop("witness")["problem"] and before.pop("witness")["problem"] and head == before
    (folder.path / "trials.jsonl").write_bytes(lines[0].replace(b'"threads": 1', b'"threads": 2') + lines[1])
    with pytest.raises(InvalidStudy, match="begun with other threads"):
        go(asked, folder.path)


@pytest.mark.usefixtures("here")
def test_trials_that_were_stopped_are_retried_on_request(
    asked: study.Study, tmp_path: Path, fakes: Path
) -> None:
    whole, record = go(asked, tmp_path / "out"), tmp_path / "out" / tune.RECORD
    head, *lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    for line, status in zip(lines[-2:], ("timeout", "killed"), strict=True):
        line |= {"status": status, "scores": [None, None], "error": "stopped"}
    record.write_text("".join(json.dumps(line) + "\n" for line in [head, *lines]), encoding="utf-8")
    fakes.unlink()
    assert sum(d.error == "stopped" for d in go(asked, tmp_path / "out")) == 2 and not calls(fakes)
    assert go(asked, tmp_path / "out", retry_failed=True) == whole  # a trial that failed by itself is not tried again
    assert len(calls(fakes)) == 2


def test_a_batch_follows_from_the_trials_before_it(asked: study.Study) -> None:
    before = [tune.Done(0, "supervised", i, (("penalty", 10.0 ** (i / 2.2 - 3)),), (0.7 - 0.01 * abs(i - 6.6),))
              for i in range(12)]
    first, again = (tune.propose(asked, 0, "supervised", before, 4) for _ in range(2))
    assert first == again and len(set(first)) == 4
    assert set(first).isdisjoint(tune.propose(asked, 0, "supervised", before[:8], 4))
    assert set(first).isdisjoint(tune.propose(asked, 1, "supervised", before, 4))
    # TPE has learnt where the scores are: near 1, not spread over the five decades of the range.
    assert np.mean([abs(np.log10(dict(s)["penalty"])) for s in first]) < 1.25


@pytest.mark.usefixtures("here")
def test_trials_are_studies_that_optuna_reads_and_the_curve_is_theirs(asked: study.Study, tmp_path: Path) -> None:
    done = go(asked, tmp_path / "out")
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "out/tuning.log")))
    assert len(storage.get_all_studies()) == 6
    chosen = {(cell, arm): dict(setting) for cell, arm, setting in tune.choose(asked, done)}
    for arm in ("vicreg-frozen", "supervised"):
        read = optuna.load_study(study_name=f"small/cell-1/{arm}", storage=storage)
        assert len(read.trials) == 10 and read.best_params == chosen[1, arm]
        assert [t.state.name for t in read.trials].count("FAIL") == 1
        best = list(np.maximum.accumulate([t.value for t in read.trials if t.value is not None]))
        rows = list(csv.DictReader((tmp_path / "out/tuning.csv").open(encoding="utf-8")))
        mine = [r for r in rows if (r["cell"], r["method"]) == ("1", arm)]
        assert [float(r["best"]) for r in mine if r["along"] == "budget"] == best
        assert {r["along"] for r in mine} == {"budget", *search.names(methods.find(arm), "linear")}
        assert sum(int(r["trials"]) for r in mine if r["along"] != "budget") % 9 == 0  # each trial once along each


def tiny(*more: str, tmp: Path) -> study.Study:
    path = tmp / "tiny.toml"
    path.write_text('[axes]\nn_labelled = [60, 90]\n[world.knobs]\nn_unlabelled = 80\n[compare]\n'
                    'arms = ["vicreg-frozen", "ridge", "lda"]\ncontrast = ["vicreg-frozen", "lda"]\n'
                    '[design]\nkind = "tune"\n[tune]\ntrials = 2\n[seeds]\nlooks = [2]\n'
                    '[train]\nsteps = 4\nbatch = 16\nfleet = 2\nn_test = 200\n', encoding="utf-8")
    return study.load(str(path), more)


def test_a_trial_sees_nothing_but_labels_and_unlabelled_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its score is scikit-learn's: an LDA's mean AUC over the same five folds."""
    seen: list[tuple[str, str]] = []
    real = stages.sample_cohort

    def watched(spec: Any, stage: str, n: int, entropy: int, seed: int, domain: str = "source", **rest: Any) -> Any:
        seen.append((stage, domain))
        return real(spec, stage, n, entropy, seed, domain, **rest)

    monkeypatch.setattr(stages, "sample_cohort", watched)
    asked = tiny(tmp=tmp_path)
    setting = (("learning_rate", 0.01), ("steps", 3), ("weight_decay", 1e-4), ("width", 3))
    rows = tuning.evaluate(asked, Trial(0, (1,), (0, 1), arm="vicreg-frozen", setting=setting))
    assert all(0 < row["score"] < 1 for row in rows) and [row["seed"] for row in rows] == [0, 1]
    lda = tuning.evaluate(asked, Trial(0, (1,), (0, 1), arm="lda"))
    assert set(seen) == {("pretraining-data", "source"), ("training-data", "source")}
    whole = plan.jobs(asked)[0]
    made = stages.Stages(asked, whole, Settings(), plan.cell_spec(asked, 1))
    for row in lda:
        data = made.labelled(plan.cell_spec(asked, 1), row["seed"])
        x = np.concatenate([data.views["image"], data.views["clinical"]], axis=1).astype(float)
        draw = rng.integer(asked.seed, row["seed"], "tuning") % 2**31
        split = StratifiedGroupKFold(5, shuffle=True, random_state=draw).split(x, data.y, data.subjects)
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=None)
        areas = [roc_auc_score(data.y[out], model.fit(x[ins], data.y[ins]).decision_function(x[out]))
                 for ins, out in split]
        assert row["score"] == pytest.approx(np.mean(areas), abs=1e-6)


def test_the_comparison_is_of_the_arms_at_what_they_chose(tmp_path: Path) -> None:
    """Row for row what a plain study of that one arm with these settings gives."""
    asked = tiny(tmp=tmp_path)
    choices = tuple((cell, arm, setting) for cell in (0, 1) for arm, setting in (
        ("vicreg-frozen", (("steps", 3 + cell), ("width", 2))), ("ridge", (("penalty", 3.0 + cell),)), ("lda", ())))
    whole = plan.jobs(asked)[0]
    rows = tuning.compare(tune.replace(asked, choices=choices), whole)
    for cell, arm, setting in choices:
        mine = [row for row in rows if (row["cell"], row["method"]) == (cell, arm)]
        alone = tiny("design.kind=grid", f'compare.arms=["{arm}", "raw-probe"]',
                     f'compare.contrast=["{arm}", "raw-probe"]', *(f"train.{k}={v}" for k, v in setting), tmp=tmp_path)
        same = [row for row in job.run_job(alone, whole) if (row["cell"], row["method"]) == (cell, arm)]
        assert mine == same and len(mine) >= 6
    assert all(row["value"] == 3.0 + row["cell"] for row in rows
               if row["method"] == "ridge" and row["metric"] == "diag/penalty")
    # An arm none of whose trials came to a score is rows with the reason; the others are what they are beside it.
    less = tuning.compare(tune.replace(asked, choices=tuple(c for c in choices if c[1] != "ridge")), whole)
    assert [row for row in less if row["method"] != "ridge"] == [row for row in rows if row["method"] != "ridge"]
    failed = [row for row in less if row["method"] == "ridge"]
    assert len(failed) == 2 * 2 and {row["error"] for row in failed} == {tuning.UNTUNED}
    done = [tune.Done(cell, arm, i, (), (None if arm == "ridge" else 0.7,) * 2, "ValueError: no fit")
            for cell in (0, 1) for arm in asked.arms for i in range(2)]
    assert {arm for _, arm, _ in tune.choose(asked, done)} == {"vicreg-frozen", "lda"}
    assert not any(r["chosen"] for r in tune.tune_report.trial_records(asked, done, tune.choose(asked, done))
                   if r["method"] == "ridge")


@pytest.mark.usefixtures("undrawn")
def test_a_whole_run_and_what_is_refused_before_it(asked: study.Study, toml: Path, tmp_path: Path, fakes: Path) -> None:
    options = driver.Options(tmp_path / "out", workers=2, quiet=True)
    with pytest.raises(SimlabError, match="not tuned yet: 0 of 10 trials of vicreg-frozen in cell 0"):
        tune.run(asked, driver.Options(tmp_path / "out", shard=(1, 2), quiet=True))
    found = tune.run(asked, options, "sweep_fakes:tries", "sweep_fakes:good")
    assert found.failures == [] and found.atlas is not None and len(calls(fakes)) == 42 + found.jobs_run
    assert all(line.endswith("threads 1") for line in calls(fakes))
    assert (tmp_path / "out/tuning.png").stat().st_size > 10_000
    again = tune.run(asked, options, "sweep_fakes:tries", "sweep_fakes:good")
    assert again.digest == found.digest and again.jobs_run == 0
    assert json.loads((tmp_path / "out/trials.jsonl").read_text(encoding="utf-8").splitlines()[0])["device"] == "cpu"
    with pytest.raises(InvalidStudy, match=r"tune\.trials: 10 there, 11 now"):
        tune.run(study.load(str(toml), [*TUNE, "tune.trials=11"]), options)
    with pytest.raises(InvalidStudy, match=r"needs tune\.trials"):
        study.load(str(toml), ["design.kind=tune"])
    # What it costs at most: a trial of vicreg-frozen and the comparison, in two cells and seeds, a pretraining each.
    assert plan.trainings(asked) == (10 + 1) * 2 * 2


def test_hyperparameters_that_matter_are_named(asked: study.Study) -> None:
    """60 random trials in two cells of different level: the score moves with the learning rate, and with nothing else;
    the cells' levels are taken out."""
    generator, space = np.random.default_rng(1), tune.distributions(asked, "vicreg-frozen")
    done = []
    for number in range(60):
        at = {name: np.exp(generator.uniform(np.log(d.low), np.log(d.high))) for name, d in space.items()}
        at = {name: round(v) if isinstance(space[name], optuna.distributions.IntDistribution) else float(v)
              for name, v in at.items()}
        level = 0.7 + 0.2 * (number % 2) + 0.02 * np.log10(at["learning_rate"])
        done.append(tune.Done(number % 2, "vicreg-frozen", number, tuple(sorted(at.items())),
                              tuple(level + generator.normal(0, 0.002, 4))))
    rows = tune_report.importance(replace(asked, looks=(4,)), done)
    assert [row["method"] for row in rows] == ["vicreg-frozen"] * len(space)  # the other arms have no trials
    first, *others = rows
    assert first["hyperparameter"] == "learning_rate" and first["importance"] > 0.6 and first["low"] > 0.5
    assert all(row["importance"] < 0.15 for row in others) and "Fanova" in first["evaluator"]
