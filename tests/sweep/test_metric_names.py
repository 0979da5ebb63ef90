"""The metrics that arms have, by name: what the loader takes is what published tables hold, and no other."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from simlab import methods
from simlab.environments.registry import find_world
from simlab.environments.scenario import sample_cohort
from simlab.errors import InvalidStudy, SimlabError, UnknownName, command
from simlab.methods import METHODS
from simlab.sweep import metrics, study
from simlab.sweep.__main__ import main

BACKBONES = ["clin-jepa", "clin-jepa-cold"]
BARE = "clin-jepa-masked-refinement"  # it trains no predictor
PUBLISHED = ("clin-jepa-ablations", "clin-jepa-cold", "clin-jepa-phases", "clin-jepa-shift")
BESIDE_OPTIMA = "clin-jepa-optimum"


def asked(metric: str, arms: list[str] | None = None, contrast: list[str] | None = None, **more: Any) -> study.Study:
    arms = arms or BACKBONES
    compare = {"arms": arms, "contrast": contrast or arms[:2], "metric": metric, **more.pop("compare", {})}
    world = {"name": "icu", "knobs": more.pop("knobs", {})}
    given = {"world": world, "axes": {"n_labelled": [70]}, "compare": {"task": "icu-mortality", **compare}, **more}
    return study.build(given)


def published(*names: str) -> dict[bool, set[str]]:
    """Metrics with a value in the published tables of whole stays: of arms with a predictor, and of those without."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for name in names:
        table = pq.read_table(ROOT / "results" / name / "results.parquet", columns=["method", "metric", "status"])
        pairs = table.filter(np.array([s == "ok" for s in table["status"].to_pylist()])).group_by(
            ["method", "metric"]).aggregate([]).to_pylist()
        for row in pairs:
            found["masked-refinement" not in row["method"]].add(row["metric"])
    return found


def test_the_names_are_those_of_the_published_rows() -> None:
    """Every name of a backbone's metrics is a row that was computed, and every row's name is taken."""
    assert published(*PUBLISHED) == {True: set(metrics.of_arm(METHODS["clin-jepa"])),
                                     False: set(metrics.of_arm(METHODS[BARE]))}  # fmt: skip
    named = set(metrics.of_arm(METHODS["clin-jepa"], simulated=True))
    assert {*metrics.SIMULATED} <= published(BESIDE_OPTIMA)[True] <= named


def test_what_stands_beside_a_simulated_optimum_is_named_where_one_is_asked_for() -> None:
    with pytest.raises(SimlabError, match="drift-same-48"):
        asked("drift-same-48")
    beside = replace(asked("auc-mean"), trajectory={metrics.STAYS: 20})
    for metric in metrics.SIMULATED:
        mine = replace(beside, compare=replace(beside.compare, metric=metric))
        metrics.check(mine)
        assert "has no predictor" in metrics.lacks(mine, METHODS[BARE])
    assert not {*metrics.SIMULATED} & {*metrics.of_arm(METHODS["clin-jepa"])}


@pytest.mark.parametrize("metric", sorted(metrics.of_arm(METHODS["clin-jepa"])))
def test_each_name_is_taken_of_a_backbone(metric: str) -> None:
    assert asked(metric).metric == metric


def test_names_of_fits_are_those_of_the_published_rows() -> None:
    known = {*metrics.of_arm(METHODS["vicreg-finetuned"])}
    tables = (path for path in (ROOT / "results").glob("*/results.parquet")
              if path.parent.name not in (*PUBLISHED, BESIDE_OPTIMA))  # fmt: skip
    found = set(chain.from_iterable(pq.read_table(path, columns=["metric"])["metric"].unique().to_pylist()
                                    for path in tables)) - {""}
    assert {"auc", "diag/leak-z", "diag/tau"} <= found <= known


@pytest.mark.parametrize(("metric", "near"), [
    ("displacement-foo-latent", "displacement-"), ("displacement-regime-latnt", "displacement-regime-latent"),
    ("drift-fxied-48", "drift-fixed-48"), ("drift-shuffled-48", "drift-fixed-48"), ("mase-line-24", "mase-hour-24"),
    ("auc-rolled-mode", "auc-rolled-mean"), ("auc-latestay", "auc-stay"), ("auc-men", "auc-mean"),
    ("own-saty-6", "own-stay-6"), ("part-underfits-6", "part-underfit-6"), ("steps", "step"),
    ("diag/latent-runk", "diag/latent-rank"), ("part-sample-6", "part-"), ("xyz", "these arms have auc-label, auc-m"),
])  # fmt: skip
def test_a_misspelt_metric_is_one_line_with_the_nearest(metric: str, near: str) -> None:
    with pytest.raises(UnknownName) as told:
        asked(metric)
    assert str(told.value).startswith(f"unknown metric (compare.metric) '{metric}': ") and near in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("metric", ["drift-48", "own-stay-6", "mase-copy-zero-12", "auc-rolled-mean", "step",
                                    "auc-label-rolled", "part-underfit-24"])  # fmt: skip
def test_what_an_arm_without_a_predictor_never_has_is_not_read_of_it(metric: str) -> None:
    """In a contrast it is refused; beside contrasts its rows lack that metric, and a line says so."""
    with pytest.raises(InvalidStudy, match=f"'{metric}': {BARE} has no predictor that is trained.*compare.contrast"):
        asked(metric, ["clin-jepa", BARE])
    beside = asked(metric, [*BACKBONES, BARE], BACKBONES)
    assert metrics.empty(beside) == (f"no row of {metric}: {BARE} has no predictor that is trained, and rolls nothing "
                                     "out")
    assert metrics.empty(asked("auc-mean", [*BACKBONES, BARE], BACKBONES)) == ""


@pytest.mark.parametrize(("metric", "arms", "says"), [
    ("auc", BACKBONES, "clin-jepa reads whole stays, and has no such row.*near: auc-"),
    ("diag/rankme/image", BACKBONES, "clin-jepa reads whole stays"), ("diag/leak-z", BACKBONES, "clin-jepa reads"),
    ("auc-mean", ["clin-jepa", "logistic"], "logistic is fitted to one task"),
    ("drift-48", ["ridge", "logistic"], "ridge is fitted to one task, and has areas"),
    ("diag/lidar", ["ridge", "logistic"], r"train\.diagnostics = 'full' alone"),
])  # fmt: skip
def test_a_contrast_has_its_metric_from_both_arms(metric: str, arms: list[str], says: str) -> None:
    with pytest.raises(InvalidStudy, match=says):
        asked(metric, arms)
    assert asked("auc-label", arms).metric == "auc-label"


def test_diagnostics_of_fits_by_setting_cohort_and_plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = ["ridge", "logistic"]
    assert asked("diag/lidar", fits, train={"diagnostics": "full"}).metric == "diag/lidar"
    with pytest.raises(InvalidStudy, match="in cohort 'test' alone"):
        asked("diag/penalty", fits, compare={"cohort": "external"})
    with pytest.raises(UnknownName, match="'diag/penlty': did you mean diag/penalty"):
        asked("diag/penlty", fits)
    for name in ("own-one", "own-two"):  # a plug-in's trainer reports what it likes
        monkeypatch.setitem(METHODS, name, replace(METHODS["ridge"], name=name, trainer="own:fit"))
    assert asked("diag/whatever", ["own-one", "own-two"]).metric == "diag/whatever"
    with pytest.raises(InvalidStudy, match="'diag/whatever': ridge is fitted"):
        asked("diag/whatever", ["own-one", "ridge"])


def test_no_stay_deteriorates_without_regimes() -> None:
    """By the world's own factor, and so there is no displacement by regime."""
    world = find_world("icu")
    stays = sample_cohort(world.spec({"regimes": "off", "hours": 30}), "test-data", 20, 1, 0, world="icu")
    assert not (stays.factors["regime"] == 1).any()
    for definition in ("regime", "throughout"):
        with pytest.raises(InvalidStudy, match="'off': no stay deteriorates"):
            asked(f"displacement-{definition}-latent", knobs={"regimes": "off"})
    assert asked("displacement-death-latent", knobs={"regimes": "off"}).knobs["regimes"] == "off"


@pytest.mark.parametrize("world", ["gaussian", "longitudinal", "hospital"])
def test_whole_stays_need_the_icu_world(world: str) -> None:
    with pytest.raises(InvalidStudy, match=f"'{world}': clin-jepa reads whole stays by the hour"):
        study.build({"world": {"name": world}, "axes": {"n_labelled": [70]}, "compare": {
            "arms": BACKBONES, "contrast": BACKBONES, "metric": "auc-mean"}})


def test_the_command_says_it_in_one_line_and_before_anything(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    words = ["clin-jepa-ablations", "--out", str(tmp_path / "out"), "--set"]
    assert command(main, [*words, "compare.metric=displacement-foo-latent"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "did you mean displacement-" in told and "clin-jepa-ablations.toml: " in told
    assert command(main, [*words, "compare.metric=drift-48"]) == 2
    assert "clin-jepa-masked-refinement has no predictor" in capsys.readouterr().err
    rest = 'compare.contrast=["clin-jepa", "clin-jepa-vicreg"]'
    assert main([*words, "compare.metric=drift-48", "--set", rest, "--dry-run"], "none:none") == 0  # nothing is timed
    assert "metric     no row of drift-48: clin-jepa-masked-refinement has no" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_every_study_here_has_its_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "METHODS", dict(METHODS))  # plug-ins register for this test alone
    monkeypatch.setattr(study, "_RUN", set())
    for path in sorted((ROOT / "studies").glob("*.toml")):
        try:
            found = study.load(str(path))
        except SimlabError as error:
            raise AssertionError(path) from error
        assert metrics.empty(found) == ""
