"""Study files: what is read, and every bad input as one line that names it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from simlab import methods
from simlab.errors import InvalidStudy, OutOfDomain, SimlabError, UnknownName
from simlab.sweep import plan, study


def test_quick_is_found_from_anywhere_and_its_knobs_touch_labels_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = study.load("quick")
    assert quick.question and quick.hypothesis and quick.prediction and quick.falsified_if
    assert {axis.stage for axis in quick.axes} == {"labels"}
    assert quick.n_seeds >= 10
    assert plan.trainings(quick) == quick.n_seeds * len(plan.recipes(quick))  # pretrained once a seed


def test_resolving_twice_changes_nothing(small: study.Study) -> None:
    again = study.build(tomllib.loads(study.dump(small)))
    assert again == small
    assert study.difference(tomllib.loads(study.dump(small)), small) is None


def test_toml_keeps_awkward_text() -> None:
    raw = {"study": {"question": 'a "b" \\ c\n\t€ \x7f 𝜅'}, "axes": {"w_c": [0.5]},
           "compare": {"arms": ["lda", "ridge"], "contrast": ["lda", "ridge"]}}
    found = study.build(raw)
    assert study.build(tomllib.loads(study.dump(found))) == found


BAD = [
    ("train.step=5", InvalidStudy, ("step", "did you mean steps")),
    ("trian.steps=5", InvalidStudy, ("trian", "train")),
    ("train.steps=0", InvalidStudy, ("train.steps", "whole numbers")),
    ("train.steps=1.5", InvalidStudy, ("train.steps", "whole")),
    ("train.steps=true", InvalidStudy, ("train.steps",)),
    ("train.encoder=cnn", InvalidStudy, ("train.encoder", "linear")),
    ("n_labeled=5", UnknownName, ("n_labeled", "n_labelled")),
    ("w_c=1.5", OutOfDomain, ("w_c", "[0, 1]")),
    ("w_u=0.5", OutOfDomain, ("sum to one",)),
    ("axes.weight_shared=[0.5]", InvalidStudy, ("twice", "weight_shared")),
    ("world.knobs.w_c=0.5", InvalidStudy, ("w_c", "[axes]")),
    ("axes.w_c=[]", InvalidStudy, ("axes.w_c",)),
    ("axes.w_c=[0.5, 0.5]", InvalidStudy, ("same value twice",)),
    ("axes.w_c={low=0.5, high=0.1, n=3}", InvalidStudy, ("low < high",)),
    ("axes.w_c={low=0.5, high=0.6}", InvalidStudy, ("n missing",)),
    ("axes.w_c={low=0.5, values=[0.1]}", InvalidStudy, ("one of them",)),
    ("design.kind=sobol", InvalidStudy, ("sobol", "design.cells")),
    ("design.kind=boundary", InvalidStudy, ("boundary", "design.width")),
    ("design.cells=8", InvalidStudy, ("design.cells", "sobol", "grid")),
    ("design.batch=8", InvalidStudy, ("design.batch", "tune", "grid")),
    ("design.rounds=[4]", InvalidStudy, ("design.rounds", "has 6")),
    ("design.kind=gird", InvalidStudy, ("gird", "grid")),
    ("world.name=gausian", UnknownName, ("gausian", "gaussian")),
    ("world.preset=li2025-mixd", UnknownName, ("li2025-mixd", "li2025-mixed")),
    ("world.cohort=a.cohort", InvalidStudy, ("cohort", "yet")),
    ('compare.arms=["vicreg-frozn", "lda"]', UnknownName, ("vicreg-frozn", "vicreg-frozen")),
    ('compare.arms=["lda", "lda"]', InvalidStudy, ("twice",)),
    ('compare.contrast=["lda", "ridge"]', InvalidStudy, ("ridge", "compare.arms")),
    ('compare.contrast=["lda", "lda"]', InvalidStudy, ("itself",)),
    ('compare.contrast=["lda"]', InvalidStudy, ("pair",)),
    ("compare.contrast=5", InvalidStudy, ("pair",)),
    ("compare.rope=-1", InvalidStudy, ("compare.rope",)),
    ("compare.metric=AUC!", InvalidStudy, ("compare.metric",)),
    ("seeds.looks=[16, 8]", InvalidStudy, ("increasing",)),
    ("seeds.looks=[0]", InvalidStudy, ("seeds.looks",)),
    ("seeds.look=[8]", InvalidStudy, ("look", "looks")),
    ("study.name=Bad Name", InvalidStudy, ("study.name",)),
    ("study.seed=-1", InvalidStudy, ("study.seed",)),
    ('study.plugins=["none.py"]', InvalidStudy, ("none.py", "does not exist")),
    ("limits.timeout_s=0", InvalidStudy, ("limits.timeout_s",)),
    ("budget.trainings=0", InvalidStudy, ("budget.trainings",)),
    ("steps", InvalidStudy, ("key=value",)),
]


@pytest.mark.parametrize(("override", "kind", "words"), BAD, ids=[b[0] for b in BAD])
def test_bad_input_is_one_clear_error(
    toml: Path, override: str, kind: type[SimlabError], words: tuple[str, ...]
) -> None:
    with pytest.raises(kind) as caught:
        study.load(str(toml), [override])
    for word in words:
        assert word in str(caught.value)


def test_unknown_study_names_the_nearest_and_a_missing_file_itself(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean quick"):
        study.load("quik")
    with pytest.raises(InvalidStudy, match=r"gone\.toml does not exist"):
        study.load(str(tmp_path / "gone.toml"))
    (tmp_path / "torn.toml").write_text("[study\nname", encoding="utf-8")
    with pytest.raises(InvalidStudy, match=r"torn\.toml is not valid TOML"):
        study.load(str(tmp_path / "torn.toml"))


def test_overrides_reach_keys_knobs_and_axes(toml: Path) -> None:
    found = study.load(str(toml), ["train.steps=50", "h2=0.4", "weight_shared=[0.3, 0.6]", "n_lab=100"])
    assert found.train.steps == 50
    assert found.knobs == {"h2": 0.4}
    assert {axis.name: axis.values for axis in found.axes} == {"w_c": (0.3, 0.6), "n_labelled": (100,)}


def test_a_preset_is_its_knobs_and_what_stands_beside_it_takes_their_place(toml: Path) -> None:
    from simlab.environments.presets import from_preset

    axes = ["axes.w_c=[0.2, 0.8]", "n_labelled=[100]"]
    plain = study.load(str(toml), ["world.preset=kamai-alignment", *axes, "d_g=2"])
    assert plain.knobs == {"nu": 0.5, "alpha_g": 3.0, "d_g": 2}  # w_c is an axis
    assert plan.cell_spec(plain, 1) == from_preset("kamai-alignment", w_c=0.8, n_lab=100, d_g=2)
    assert study.build(tomllib.loads(study.dump(plain))) == plain  # resolved: no preset is left in it
    mixed = study.load(str(toml), ["world.preset=li2025-mixed", *axes, "rel_ci=0.5"])
    assert not {"w_u", "w_v"} & set(mixed.knobs) and mixed.knobs["rel_ci"] == 0.5
    assert plan.cell_spec(mixed, 0) == from_preset("li2025-mixed", w_c=0.2, n_lab=100, rel_ci=0.5)
    with pytest.raises(InvalidStudy, match="presets are of the world 'gaussian', not of 'longitudinal'"):
        study.build({"world": {"name": "longitudinal", "preset": "default"}, "axes": {"n_labelled": [100]},
                     "compare": {"arms": ["lda", "ridge"], "contrast": ["lda", "ridge"]}})


def test_ranges_spread_on_their_scale(toml: Path) -> None:
    found = study.load(str(toml), ["axes.n_labelled={low=100, high=10000, n=3}", "axes.w_c={low=0, high=1, n=3}"])
    assert [axis.values for axis in found.axes] == [(0.0, 0.5, 1.0), (100, 1000, 10000)]


def test_a_budget_is_a_count_of_trainings(toml: Path) -> None:
    found = study.load(str(toml), ["budget.trainings=7"])
    with pytest.raises(InvalidStudy, match=r"8 pretrainings.*budget.trainings is 7"):
        plan.check_budget(found)


def test_a_plugin_runs_and_its_method_can_be_an_arm(
    toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    plugin = tmp_path / "mine.py"
    plugin.write_text("from simlab.methods import Method, add\n"
                      "add(Method('mine', 'a method of my own', 'mine:fit', adaptation='closed-form'))\n")
    arms = 'compare.arms=["vicreg-frozen", "lda", "mine"]'
    assert study.load(str(toml), [arms], plugins=[str(plugin)]).arms[-1] == "mine"
    plugin.with_name("bad.py").write_text("1 / 0\n")
    with pytest.raises(InvalidStudy, match=r"bad\.py failed: ZeroDivisionError"):
        study.load(str(toml), plugins=[str(plugin.with_name("bad.py"))])


def test_cells_are_a_pure_function_of_their_index(small: study.Study) -> None:
    assert [plan.cell(small, i) for i in (0, 1, 5)] == [
        {"w_c": 0.2, "n_labelled": 100}, {"w_c": 0.2, "n_labelled": 200}, {"w_c": 0.8, "n_labelled": 400}]
    with pytest.raises(IndexError):
        plan.cell(small, 6)


def test_jobs_hold_each_cell_and_seed_once_and_share_a_pretraining(toml: Path) -> None:
    found = study.load(str(toml), ["axes.nu=[0.0, 0.5]", "axes.kappa_e=[0.5, 1.0]", "seeds.looks=[9]"])
    jobs = plan.jobs(found)
    units = [(cell, seed) for job in jobs for cell in job.cells for seed in job.seeds]
    assert sorted(units) == [(cell, seed) for cell in range(24) for seed in range(9)]
    assert len(plan.source_groups(found)) == 2  # nu alone touches the source data
    for job in jobs:
        assert len({plan.cell(found, cell)["nu"] for cell in job.cells}) == 1
    assert plan.trainings(found) == 2 * 9
    # A shortcut shows the label in the unlabelled views: what shapes the liability then asks for its own pretraining.
    shown = study.load(str(toml), ["world.knobs.shortcut=image", "seeds.looks=[9]"])
    assert len(plan.source_groups(shown)) == 2  # w_c
    assert jobs == plan.jobs(found)


@pytest.mark.parametrize(("key", "value", "near"), [("cohort", "extrnal", "external"), ("task", "outcme", "outcome"),
                                                    ("metric", "aux", "auc")])
def test_a_comparison_that_no_run_could_have_is_refused_before_it(key: str, value: str, near: str) -> None:
    raw = {"axes": {"w_c": {"values": [0.2, 0.8]}}, "seeds": {"looks": [8]},
           "compare": {"arms": ["lda", "ridge"], "contrast": ["lda", "ridge"], key: value}}
    with pytest.raises(UnknownName, match=near):
        study.build(raw)
