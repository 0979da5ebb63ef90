"""The table [trajectory] of a study: every setting of a backbone, a language model by name, mistakes as one line."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tiny_qwen
from conftest import ROOT, InThisProcess

from simlab.environments.registry import find_world
from simlab.environments.scenario import sample_cohort
from simlab.errors import InvalidStudy, SimlabError, command
from simlab.methods import METHODS
from simlab.models.hour_text import serialise
from simlab.models.windows import windows
from simlab.sweep import driver, keys, plan, study, whole_stays
from simlab.sweep.__main__ import main
from simlab.training.pretrain import Settings
from simlab.training.trajectory_run import predictor
from simlab.training.trajectory_settings import of_study
from simlab.trajectories import arms

TEXT = """
[study]
name = "tiny"
seed = 3
[world]
name = "icu"
[world.knobs]
n_unlab = 12
hours = 30
[axes]
n_labelled = [70]
[compare]
arms = ["clin-jepa", "logistic"]
contrast = ["clin-jepa", "logistic"]
metric = "auc-label"
task = "icu-mortality"
[seeds]
looks = [1]
[train]
steps = 6
batch = 2
depth = 1
n_test = 100
fleet = 1
"""


def built(table: dict[str, Any] | None = None, **sections: Any) -> study.Study:
    return study.build({**tomllib.loads(TEXT), **({} if table is None else {"trajectory": table}), **sections})


@pytest.mark.parametrize(("table", "says"), [
    ({"taw": 0.9}, "unknown key 'taw' in [trajectory]: did you mean tau?"),
    ({"tau": 2}, "trajectory.tau = 2: expected [0, 1]."),
    ({"inner": 0}, "trajectory.inner = 0: expected whole numbers in [1, 1e+08]."),
    ({"heads": 1.5}, "trajectory.heads = 1.5: expected whole numbers"),
    ({"encoder": "lm"}, "trajectory.encoder = 'lm': expected one of tabular, text, llm."),
    ({"clock": 1}, "trajectory.clock = 1: expected true or false."),
    ({"llm": ""}, "trajectory.llm = '': expected text."),
    ({"width": 8}, "trajectory.width: set it in [train]."),
    ({"rate_predictor": 1e-3}, "trajectory.rate_predictor: set it in [train], as learning_rate."),
    ({"learning_rate": 1e-3}, "trajectory.learning_rate: set it in [train]."),
    ({"heads": 3}, "[trajectory], with [train]: heads = 3: expected a divisor of inner, which is 32."),
    ({"max_hours": 24}, "trajectory.max_hours = 24: expected at least 30 with arms that read whole stays"),
    ({"llm": "Qwen/Qwen3-8B"}, "trajectory.llm: nothing reads it with encoder = 'tabular'; leave it out, or set enc"),
    ({"lora_rank": 8}, "trajectory.lora_rank: nothing reads it with encoder = 'tabular'"),
    ({"encoder_depth": 3}, "leave it out, or set encoder = 'text'."),
    ({"masked": 0.5}, "trajectory.masked: nothing reads it in clin-jepa (no stage masks hours); leave it out."),
    ({"regulariser_weight": 2}, "trajectory.regulariser_weight: nothing reads it in clin-jepa (there is no regularise"),
    ({"optimum_stays": -1}, "trajectory.optimum_stays = -1: expected whole numbers in [0, 1e+06]."),
    ({"optimum_particles": 9}, "trajectory.optimum_particles: nothing reads it without optimum_stays; set optimum_st"),
])  # fmt: skip
def test_mistakes_are_one_line_when_the_file_is_read(table: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidStudy) as told:
        built(table)
    assert says in str(told.value) and "\n" not in str(told.value)
    (key, value), = table.items()
    file = tmp_path / "tiny.toml"
    written = str(value).lower() if isinstance(value, (bool, int, float)) else f'"{value}"'
    file.write_text(f"{TEXT}[trajectory]\n{key} = {written}\n", encoding="utf-8")
    with pytest.raises(InvalidStudy, match=r"tiny\.toml: "):
        study.load(str(file))


def test_a_table_that_no_arm_reads_and_tuning_of_whole_stays_are_refused() -> None:
    raw = {"axes": {"w_c": [0.5]}, "compare": {"arms": ["lda", "ridge"], "contrast": ["lda", "ridge"]}}
    with pytest.raises(InvalidStudy, match=r"\[trajectory\] is for arms that read whole stays .* names none"):
        study.build({**raw, "trajectory": {"tau": 0.9}})
    with pytest.raises(InvalidStudy, match=r"design\.kind = 'tune': clin-jepa reads whole stays"):
        built(design={"kind": "tune"}, tune={"trials": 2})
    with pytest.raises(InvalidStudy, match="hours = 24: expected at least 30"):
        built(world={"name": "icu", "knobs": {"hours": 24}})
    assert study.build({**raw, "design": {"kind": "tune"}, "tune": {"trials": 2}}).design.kind == "tune"


@pytest.mark.parametrize(("metric", "hours", "windows", "says"), [
    ("drift-48", 72, 40, "expected a horizon of 6, 12 h, as far as trajectory.max_hours = 40 goes after 24 hours"),
    ("drift-fixed-zero-24", 36, 72, "expected a horizon of 6, 12 h, as far as hours = 36 goes"),
    ("part-underfit-48", 71, 72, "expected a horizon of 6, 12, 24 h"),
    ("drift-49", 72, 72, "expected a horizon of 6, 12, 24, 48 h"), ("drift-fixed", 72, 72, "expected a horizon"),
    ("mase-copy-48", 71, 72, "expected a horizon of 6, 12, 24 h"), ("own-stay-7", 72, 72, "expected a horizon of 6,"),
    ("displacement-throughout-latent", 72, 40, "is taken over 48 hours, trajectory.max_hours is 40."),
    ("drift-48", 72, 72, ""), ("own-stay-12", 36, 72, ""), ("displacement-regime-latent", 48, 48, ""),
    ("auc-mean", 30, 30, ""), ("diag/latent-rank", 30, 30, ""),
])  # fmt: skip
def test_a_metric_that_no_row_will_have_is_told_when_the_study_is_read(
    metric: str, hours: int, windows: int, says: str
) -> None:
    """Horizons are 6, 12, 24, 48 as far as the shorter of stays and windows goes after the context of 24."""
    arms = ["clin-jepa", "clin-jepa-cold"]
    compare = {"arms": arms, "contrast": arms, "metric": metric, "task": "icu-mortality"}
    sections = {"compare": compare, "world": {"name": "icu", "knobs": {"hours": hours}}}
    if not says:
        assert built({"max_hours": windows}, **sections).metric == metric
        return
    with pytest.raises(InvalidStudy) as told:
        built({"max_hours": windows}, **sections)
    assert str(told.value).startswith(f"compare.metric = '{metric}': ") and says in str(told.value)
    assert "\n" not in str(told.value)


def test_an_optimum_is_asked_for_in_its_own_world_and_trains_no_backbone() -> None:
    """The metric that it alone has is refused without it, and so is a world whose law it does not know; a backbone's
    settings are what they are without it, and the stage's key is another."""
    table = {"inner": 16, "optimum_stays": 20, "optimum_particles": 8}
    both = ["clin-jepa", "clin-jepa-cold"]
    compare = {**tomllib.loads(TEXT)["compare"], "arms": both, "contrast": both, "metric": "drift-same-6"}
    asked = built(table, compare=compare)
    assert asked.trajectory == table and study.build(tomllib.loads(study.dump(asked))) == asked
    assert whole_stays.of_backbone(asked.trajectory) == {"inner": 16} == built({"inner": 16}).trajectory
    assert whole_stays.known_by(asked) != whole_stays.known_by(built({"inner": 16}))
    for without in ({}, {"optimum_stays": 0}):
        with pytest.raises(InvalidStudy, match=r"'drift-same-6': .* set trajectory\.optimum_stays\."):
            built(without, compare=compare)
    with pytest.raises(InvalidStudy, match="expected a horizon of 6 h"):
        built(table, compare={**compare, "metric": "own-stay-same-12"})
    with pytest.raises(InvalidStudy, match="'gaussian': clin-jepa reads whole stays by the hour, and needs the world"):
        built(table, world={"name": "gaussian"}, compare={**compare, "metric": "auc", "task": "outcome"})


def test_what_a_study_is_asked_is_what_its_arms_measure() -> None:
    assert arms.STUDIED.contexts == (whole_stays.CONTEXT,) and arms.STUDIED.horizons == whole_stays.HORIZONS
    assert arms.STUDIED.span == (0, whole_stays.SPAN)


def test_settings_that_their_own_encoder_reads_are_taken() -> None:
    assert built({"encoder": "text", "encoder_depth": 3}).trajectory["encoder_depth"] == 3
    assert built({"encoder": "llm", "llm": "x", "lora_rank": 2, "lora_alpha": 4, "tokens": 8}).trajectory["tokens"] == 8


def test_a_setting_that_one_of_the_arms_reads_is_taken() -> None:
    arms = ["clin-jepa", "clin-jepa-frozen-encoder", "clin-jepa-sigreg-cold"]
    compare = {"arms": arms, "contrast": arms[:2], "metric": "auc-mean", "task": "icu-mortality"}
    assert built({"masked": 0.5, "regulariser_weight": 2}, compare=compare).trajectory["masked"] == 0.5
    bare = ["clin-jepa-masked-refinement", "clin-jepa-masked-refinement-cold"]
    with pytest.raises(InvalidStudy, match=r"horizon: nothing reads it in masked-refinement, masked-refinement-cold"):
        built({"horizon": 3}, compare={**compare, "arms": bare, "contrast": bare})


def test_without_the_table_a_study_is_what_it_was() -> None:
    """Nothing of it in the frozen file, no difference, the arms' own sizes, and the stage's key without it."""
    plain = built()
    assert "trajectory" not in study.resolved(plain) and "trajectory" not in study.dump(plain)
    assert built({}) == plain and whole_stays.known_by(plain) == {}
    made = of_study(plain.train)
    assert (made.inner, made.heads, made.inside, made.rate_encoder) == (32, 2, 64, 0.001)
    assert made == arms.settings(Settings(learning_rate=0.002, steps=6, batch=2, depth=1, width=8, hidden=64))


def test_a_table_is_read_back_resumes_and_is_part_of_the_key() -> None:
    asked = built({"tau": 0.9, "inner": 16, "clock": False, "rate_encoder": 1, "cache": 10})
    assert study.build(tomllib.loads(study.dump(asked))) == asked
    assert study.difference(tomllib.loads(study.dump(asked)), asked) is None
    assert study.difference(study.resolved(asked), built({"tau": 0.5})) == "trajectory.tau: 0.9 there, 0.5 now"
    assert study.difference(study.resolved(asked), built()).startswith("trajectory.tau: 0.9 there, 'nothing'")
    made = of_study(asked.train, asked.trajectory)
    assert (made.tau, made.inner, made.clock, made.rate_encoder, made.inside) == (0.9, 16, False, 1.0, 64)

    def key(asked: study.Study) -> str:
        job = plan.jobs(asked)[0]
        return keys.Keys(asked, job, Settings()).trajectory(plan.cell_spec(asked, 0), METHODS["clin-jepa"], 0)

    found = [key(asked), key(built()), key(built({"tau": 0.9})), key(built({"tau": 0.8}))]
    assert len(set(found)) == 4 and key(built({"tau": 0.8})) == found[3]


def test_a_language_models_files_are_part_of_the_key(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    asked = built({"encoder": "llm", "llm": str(tmp_path)})
    before = whole_stays.known_by(asked)
    assert before == whole_stays.known_by(asked)
    (tmp_path / "config.json").write_text("{ }")
    assert whole_stays.known_by(asked) != before


@pytest.fixture
def qwen() -> study.Study:
    return study.load(str(ROOT / "studies" / "clin-jepa-qwen.toml"))


def test_the_papers_sizes_are_a_study(qwen: study.Study) -> None:
    """The published count of the predictor's parameters; what `--dry-run` says is counted here by hand."""
    given = of_study(qwen.train, qwen.trajectory)
    made = predictor(given, qwen.train.width)
    total = 0
    for shape in made.shapes().values():
        total += shape[0] * (shape[1] if len(shape) == 2 else 1)
    assert total == 92_514_304
    assert (given.encoder, given.llm, given.tau, given.reduction) == ("llm", "Qwen/Qwen3-8B", 0.996, "sum")
    # Of 8,000 steps: .3 phase 0, .15 warm-up, .45 joint and .15 alignment (each read twice), .25 finalisation; the
    # others' .45 masked (twice) and .55 predictor. 16 windows of 72 hours: 145 texts each.
    steps = (2400 + 1200 + 2 * 3600 + 2 * 1200 + 2000) + (2400 + 2 * 3600 + 4400) + (2400 + 4400)
    assert whole_stays.texts(qwen) == 8 * steps * 16 * 145


def test_its_dry_run_loads_nothing(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.chdir(ROOT)
    assert main(["clin-jepa-qwen", "--dry-run", "--out", str(tmp_path / "none")]) == 0
    told = capsys.readouterr().out
    assert "24 pretrainings" in told and "reads up to 668,160,000 texts" in told and not (tmp_path / "none").exists()


def test_without_the_extra_or_the_model_one_line_and_no_job(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    run = ["clin-jepa-qwen", "--quiet", "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "transformers", None)
        assert command(main, run) == 2
    assert "encoder = 'llm' needs transformers: pip install 'simlab[llm]'" in capsys.readouterr().err
    pytest.importorskip("transformers", reason="needs the extra llm")
    pytest.importorskip("peft", reason="needs the extra llm")
    (tmp_path / "empty").mkdir()
    for words in ([], ["--cell", "0", "--seed", "0"]):
        assert command(main, [*run, "--set", f"trajectory.llm={tmp_path / 'empty'}", *words]) == 2
        told = capsys.readouterr().err
        assert "neither a folder nor a model that can be fetched" in told and told.count("\n") == 1
    assert not list((tmp_path / "out").rglob("*.parquet")) and not (tmp_path / "out" / "study.toml").exists()


@pytest.mark.proof
def test_a_language_model_in_a_folder_goes_through_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a study file to rows of drift and tasks; weights that are missing are told before any job."""
    world = find_world("icu")
    stays = sample_cohort(world.spec({"hours": 30}), "pretraining-data", 6, 1, 0, world="icu")
    model, tokeniser = tiny_qwen.made(serialise(windows(stays))[0])
    for made in (model, tokeniser):
        made.save_pretrained(tmp_path / "qwen")
    file = tmp_path / "tiny.toml"
    table = {"encoder": "llm", "llm": str(tmp_path / "qwen"), "lora_rank": 2, "lora_alpha": 4, "tokens": 24, "inner": 8,
             "heads": 2, "inside": 8, "tau": 0.9, "reduction": "sum", "dropout": 0.1}
    lines = (f'{key} = {value!r}' for key, value in table.items())
    file.write_text("\n".join([TEXT, "[trajectory]", *lines]), encoding="utf-8")
    monkeypatch.setattr(driver, "Pool", InThisProcess)
    monkeypatch.setattr("simlab.sweep.figure.save", lambda *_: None)
    out = tmp_path / "out"
    assert main([str(file), "--out", str(out), "--quiet", "--no-cache"]) == 0
    rows = pq.read_table(out / "results.parquet").to_pylist()
    assert {row["status"] for row in rows} == {"ok"}
    metrics = {row["metric"] for row in rows if row["method"] == "clin-jepa"}
    assert {"drift-6", "auc-mean", "step", "diag/latent-rank"} <= metrics
    next((tmp_path / "qwen").glob("*.safetensors")).unlink()
    assert main([str(file), "--out", str(out), "--quiet", "--no-cache"]) == 0  # nothing is left to do
    with pytest.raises(SimlabError, match="its folder holds no weights"):
        driver.run(study.load(str(file)), driver.Options(tmp_path / "other", workers=1, quiet=True))
    assert replace(study.load(str(file)), trajectory={}) == built()
