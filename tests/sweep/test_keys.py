"""Keys of the stages: nothing that a stage reads is left out, and nothing that it does not read is in.

The first is held to what the samplers and trainers do, not to what the keys are made of: wherever a changed knob, seed
or method axis changes a stage's records, its key must have changed.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simlab.cohort import Cohort
from simlab.environments.knob import Choice, Knob
from simlab.environments.registry import find_world
from simlab.environments.scenario import sample_cohort
from simlab.errors import SimlabError
from simlab.methods import METHODS
from simlab.sweep import keys, plan, study
from simlab.sweep.schema import Study
from simlab.training.method import Method, Phase
from simlab.training.pretrain import Settings

ARM = METHODS["vicreg-frozen"]


def small(world: str = "gaussian", name: str = "small", seed: int = 4, **train: Any) -> Study:
    return study.build(
        {
            "study": {"name": name, "seed": seed},
            "world": {"name": world},
            "axes": {"n_lab": [80]},
            "compare": {"arms": ["vicreg-frozen", "lda"], "contrast": ["vicreg-frozen", "lda"]},
            "seeds": {"looks": [2]},
            "train": {"width": 4, "fleet": 2, **train},
        }
    )


def keyed(asked: Study, spec: Any, arm: Method = ARM, seed: int = 0, job: plan.Job | None = None) -> dict[str, str]:
    """The key of each stage of one cell, seed and arm."""
    settings = Settings(**{k: v for k, v in dataclasses.asdict(asked.train).items()
                           if k in Settings.__dataclass_fields__})
    made = keys.Keys(asked, job or plan.jobs(asked)[0], settings)
    fit = made.adaptation(spec, arm, seed)
    source, external = find_world(asked.world).domains
    return {"source-data": made.source(spec, seed), "pretraining": made.pretraining(spec, arm), "adaptation": fit,
            "test": made.evaluation(spec, fit, source), "external": made.evaluation(spec, fit, external)}


def changed(one: dict[str, str], two: dict[str, str]) -> set[str]:
    return {stage for stage in one if one[stage] != two[stage]}


def content(cohort: Cohort) -> dict[str, np.ndarray]:
    """All that a trainer or a measure could read of a cohort."""
    found = {f"{name}/{part}": getattr(s, part) for name, s in cohort.streams.items()
             for part in ("values", "observed", "time") if getattr(s, part) is not None}
    return {**found, "length": cohort.length, **{f"y/{k}": v for k, v in cohort.labels.items()},
            **{f"risk/{k}": v for k, v in cohort.risk.items()}}


def records(world: str, spec: Any, seed: int = 0, entropy: int = 4) -> dict[str, dict[str, np.ndarray]]:
    """The records that each stage reads."""
    stages = {"source-data": ("pretraining-data", spec.n_unlab, "source"),
              "adaptation": ("training-data", spec.n_lab, "source"),
              "test": ("test-data", 12, "source"), "external": ("external-data", 12, "external")}
    return {name: content(sample_cohort(spec, stage, n, entropy, seed, domain, world=world))
            for name, (stage, n, domain) in stages.items()}


def another(knob: Knob, now: Any) -> list[Any]:
    """Values of a knob that are not the present one, inside its domain."""
    if isinstance(knob.domain, Choice):
        return [word for word in knob.domain.words if word != now]
    low, high = knob.sweep or (knob.domain.low, min(knob.domain.high, 9))
    tried = [low + share * (high - low) for share in (0.37, 0.62, 0.81)]
    tried = [round(v) for v in tried] if knob.domain.whole else tried
    return [v for v in tried if v in knob.domain and v != now][:1]


RICH = {  # a setting in which every knob matters
    "gaussian": {"n_unlab": 40, "n_lab": 30, "d_ni": 2, "d_nc": 2, "d_c": 2, "d_u": 2, "d_v": 2, "shortcut": "both",
                 "lambda_s": 0.3, "n_sites": 3, "omega_s": 0.4, "flip": 0.1, "w_c": 0.4,
                 "prevalence_e": 0.4, "prevalence_kind": "threshold", "gain_e": 1.5, "pi_mis": 0.1},
    "plain": {"n_unlab": 40, "n_lab": 30, "d_ni": 2, "d_nc": 2, "prevalence_e": 0.4, "gain_e": 1.5, "condition": 2.0,
              "prevalence_kind": "threshold", "w_c": 0.4, "w_u": 0.2, "w_v": 0.2, "w_x": 0.2},
    "longitudinal": {"n_unlab": 40, "n_lab": 12, "d_ni": 1, "d_nc": 1, "n_visits": 3, "times": "hawkes", "b_h": 0.3,
 "p_miss": 0.2, "gamma_1": 0.3, "gamma_obs": 0.2},
    "blobs": {"n_unlab": 12, "n_lab": 12},
    "archive": {"n_unlab": 40, "n_lab": 12, "n_inc": 12, "d_ni": 1, "d_nc": 1, "n_visits": 3},
}
UPSTREAM = {"source-data": {"source-data", "pretraining", "adaptation", "test", "external"},
            "adaptation": {"adaptation", "test", "external"}, "test": {"test"}, "external": {"external"}}


LONGER = [pytest.param(name, marks=pytest.mark.proof) for name in ("plain", "longitudinal", "blobs", "archive")]


@pytest.mark.parametrize("setting", ["gaussian", *LONGER])
def test_no_knob_moves_records_behind_a_keys_back(setting: str) -> None:
    world = setting if setting in ("longitudinal", "blobs", "archive") else "gaussian"
    where, asked = find_world(world), small(world)
    base = where.spec(**RICH[setting])
    before, told, moved = records(world, base), keyed(asked, base), set()
    for knob in where.knobs:
        for value in another(knob, getattr(base, knob.symbol, knob.default)):
            try:
                spec = where.spec(**{**RICH[setting], knob.symbol: value})
            except SimlabError:  # knobs that contradict each other there
                continue
            after, differs = records(world, spec), changed(told, keyed(asked, spec))
            for stage, found in after.items():
                same = found.keys() == before[stage].keys() and all(
                    np.array_equal(found[k], before[stage][k], equal_nan=found[k].dtype.kind == "f") for k in found)
                if not same:
                    moved.add(knob.symbol)
                    assert UPSTREAM[stage] <= differs, f"{knob.symbol} = {value} changes {stage} but not its key"
    assert len(moved) > 0.6 * len(where.knobs), f"{len(moved)} of {len(where.knobs)}: the setting shows too little"


def test_a_target_knob_leaves_the_sources_limit_where_it_is() -> None:
    """The limit beside a number is kept with it: in the source's cohort it may not depend on the target."""
    where, told = find_world("gaussian"), find_world("gaussian").limit(find_world("gaussian").spec(), "source", "full")
    for change in ({"kappa_e": 0.3}, {"delta_v_e": 0.1}, {"mu_e": 1.0}, {"tau_e": 2.0}, {"mix_e": 0.5}):
        assert where.limit(where.spec(**change), "source", "full") == told


def test_knobs_of_a_late_stage_leave_the_keys_before_it() -> None:
    asked, spec = small(), find_world("gaussian").spec
    base = keyed(asked, spec())
    assert changed(base, keyed(asked, spec(kappa_e=0.5))) == {"external"}
    for label in ({"n_lab": 90}, {"flip": 0.1}, {"w_c": 0.7}, {"h2": 0.3}):
        assert changed(base, keyed(asked, spec(**label))) == {"adaptation", "test", "external"}
    assert changed(base, keyed(asked, spec(rel_ci=0.5))) == set(base)
    shown = {"shortcut": "both", "lambda_s": 0.3}  # the label is in the features: its knobs are the source's too
    assert changed(keyed(asked, spec(**shown)), keyed(asked, spec(**shown, h2=0.3))) == set(base)


def test_a_target_knob_moves_the_keys_of_arms_that_are_shown_the_target_and_of_no_other() -> None:
    asked, spec = small(), find_world("gaussian").spec
    for name in ("coral-ridge", "vicreg-continued-frozen", "vicreg-pooled-frozen"):
        arm = METHODS[name]
        base = keyed(asked, spec(), arm)
        assert base["pretraining"] == keyed(asked, spec(), ARM)["pretraining"] or not arm.pretrained
        assert changed(base, keyed(asked, spec(kappa_e=0.5), arm)) == {"adaptation", "test", "external"}
        assert changed(base, keyed(small(n_target=50), spec(), arm)) == {"adaptation", "test", "external"}
    made = keys.Keys(asked, plan.jobs(asked)[0], Settings())
    continued, pooled = METHODS["vicreg-continued-frozen"], METHODS["vicreg-pooled-frozen"]
    told = made.moved(spec(), continued)
    assert told == made.moved(spec(n_lab=90, flip=0.1), continued)  # training labels are none of its records
    others = [made.moved(spec(**more), continued) for more in ({"kappa_e": 0.5}, {"h2": 0.3}, {"rel_ci": 0.5})]
    assert len({told, made.moved(spec(), pooled), *others}) == 5
    assert keyed(small(n_target=50), spec()) == keyed(asked, spec())


def test_seeds_studies_and_settings() -> None:
    asked, spec = small(), find_world("gaussian").spec()
    base = keyed(asked, spec)
    assert keyed(small(name="renamed"), spec) == base  # studies share what they have in common
    assert changed(base, keyed(small(seed=5), spec)) == set(base)
    assert changed(base, keyed(asked, spec, seed=1)) == set(base) - {"pretraining"}  # one entry for a fleet of seeds
    assert changed(base, keyed(small(n_test=300), spec)) == {"test", "external"}
    for late in ({"finetune_steps": 7}, {"penalty": 3.0}):
        assert changed(base, keyed(small(**late), spec)) == {"adaptation", "test", "external"}
    tokens = METHODS["visit-jepa-frozen"]
    words = {"encoder": "mlp", "token_encoder": "linear", "decay": "none", "missing": "zero-filled", "readout": "mean",
             "goal": "target", "diagnostics": "full", "volume": "cnn"}
    for field in Settings.__dataclass_fields__:
        if field != "device":
            other = small(**{field: words.get(field, 0.1 if isinstance(getattr(Settings, field), float) else 9)})
            spared = {"pretraining"} if field in ("finetune_steps", "penalty", "encoder_rate", "diagnostics") else set()
            for arm in (ARM, tokens):
                differs = changed(keyed(asked, spec, arm), keyed(other, spec, arm))
                assert differs == set(base) - {"source-data"} - spared, field
    told = keys.Keys(asked, plan.jobs(asked)[0], Settings())
    cut = keys.Keys(asked, plan.jobs(asked)[0], Settings(patch=4))
    assert told.source(spec, 0) == cut.source(spec, 0) != told.source(spec, 0, "tokens")
    assert told.source(spec, 0, "tokens") != cut.source(spec, 0, "tokens")
    job = plan.jobs(asked)[0]
    for change in ({"threads": 2}, {"device": "cuda"}):
        assert changed(base, keyed(asked, spec, job=dataclasses.replace(job, **change))) == set(base)
    other = dataclasses.replace(job, seeds=(0, 1, 2))
    assert changed(base, keyed(asked, spec, job=other)) == set(base) - {"source-data"}
    where = dataclasses.replace(job, index=9, cells=(0,), cache="x", cache_mb=3, artefacts="y")
    assert keyed(asked, spec, job=where) == base
    assert changed(base, keyed(small("longitudinal"), find_world("longitudinal").spec())) == set(base)


def test_every_axis_of_a_method_is_in_its_keys_and_its_name_is_not() -> None:
    asked, spec = small(), find_world("gaussian").spec()
    arm, within = METHODS["jepa-frozen"], METHODS["visit-jepa-frozen"]  # of both streams; of tokens, or of one stream's
    base = keyed(asked, spec, arm)
    values = {"archive": "image",
              "target": "stop-gradient", "against_collapse": "sigreg", "predictor": "linear", "encoder": "mlp",
              "adaptation": "finetuned", "streams": "image", "tuning": "cross-validated",
              "trainer": "simlab.training.arms:finetuned", "reads": "tokens", "width": 6, "outside": "shown",
              "vectors": "mlp", "encoder_rate": 0.5,
              "curriculum": (Phase(0.5, held=("image",)), Phase(0.5))}
    late = {"adaptation", "tuning", "trainer", "outside", "encoder_rate"}
    for field, value in values.items():
        one = within if field in ("streams", "archive", "vectors") else arm
        differs = changed(keyed(asked, spec, one), keyed(asked, spec, dataclasses.replace(one, **{field: value})))
        assert differs == {"adaptation", "test", "external"} | (set() if field in late else {"pretraining"}), field
    for field, value in {"name": "other", "meaning": "words", "theory": None, "search": ("width",)}.items():
        assert keyed(asked, spec, dataclasses.replace(arm, **{field: value})) == base
    told = {f.name for f in dataclasses.fields(Method)}
    assert told == {*values, "view", "trajectory", "name", "meaning", "theory", "search"}  # a new axis: a key too
    stays, made = METHODS["clin-jepa"], keys.Keys(asked, plan.jobs(asked)[0], Settings())
    other = dataclasses.replace(stays, trajectory="no-sync")
    assert made.trajectory(spec, stays, 0) != made.trajectory(spec, other, 0)  # a backbone's curriculum is in its key
    supervised = changed(base, keyed(asked, spec, METHODS["supervised"]))  # the view, which goes with the target
    assert supervised == {"pretraining", "adaptation", "test", "external"}


@pytest.mark.parametrize(("name", "value"), [
    ("VERSIONS", dict.fromkeys(keys.VERSIONS, 2)), ("DTYPE", "float64"), ("libraries", lambda: {"torch": "0"}),
    ("processor", lambda: "another"), ("sources", lambda *_, **__: "changed"),
])
def test_what_computes_is_in_every_key(name: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, spec = small(), find_world("gaussian").spec()
    base = keyed(asked, spec)
    monkeypatch.setattr(keys, name, value)
    assert changed(base, keyed(asked, spec)) == set(base)


def names(modules: tuple[str, ...], plugins: tuple[str, ...] = ()) -> set[str]:
    return {path.stem for path in keys.files(modules, plugins)}


def test_a_stages_sources_are_those_that_it_imports() -> None:
    found = names(("simlab.training.pretrain",))
    assert {"pretrain", "objective", "loop", "fleet", "vicreg", "sigreg", "barlow", "contrastive", "ema"} <= found
    assert not {"verdicts", "figure", "auc", "driver", "visits"} & found
    assert {"visits", "times", "missing"} <= names(("simlab.environments.visits",))
    assert {"unlabelled", "ridge", "scores"} <= names(("simlab.training.unlabelled",))
    assert keys.sources(("simlab.training.pretrain",)) != keys.sources(("simlab.training.arms",))


def test_a_plugin_and_what_lies_beside_it_are_sources(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import helper\nfrom deeper.inside import x\nimport json\n", encoding="utf-8")
    (tmp_path / "helper.py").write_text("y = 1\n", encoding="utf-8")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "inside.py").write_text("x = 1\n", encoding="utf-8")
    (tmp_path / "unused.py").write_text("z = 1\n", encoding="utf-8")
    mine = (str(tmp_path / "mine.py"),)
    assert names((), mine) == {"mine", "helper", "inside"}
    told = []
    for name in ("mine.py", "helper.py", "deeper/inside.py", "unused.py"):
        keys.sources.cache_clear()
        keys.files.cache_clear()
        keys._imports.cache_clear()
        told.append(keys.sources(("simlab.errors",), mine))
        with (tmp_path / name).open("a", encoding="utf-8") as file:
            file.write("# changed\n")
    keys.sources.cache_clear()
    assert len(set(told)) == 4 and keys.sources(("simlab.errors",), mine) == told[3]


def test_what_a_process_computes_whose_sources_were_edited_meanwhile_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loaded module is the old one, its file the new one: an entry under the new file's hash would be stale."""
    (tmp_path / "mine.py").write_text("x = 1\n", encoding="utf-8")

    def told(begun: float, process: bytes) -> str:
        monkeypatch.setattr(keys, "BEGUN", begun)
        monkeypatch.setattr(keys, "_ALONE", process)
        keys.sources.cache_clear()
        return keys.sources((), (str(tmp_path / "mine.py"),))

    late = (tmp_path / "mine.py").stat().st_ctime + 1
    assert told(late, b"one") == told(late, b"two")
    assert len({told(late, b"one"), told(0.0, b"one"), told(0.0, b"two")}) == 3
    keys.sources.cache_clear()
