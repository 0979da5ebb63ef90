"""The command as a user types it: worlds and presets listed, described with their limits, and sampled to a file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clock import over_a_plain_start

import simlab
from simlab.cohort import load
from simlab.environments.__main__ import main
from simlab.environments.knobs import GAUSSIAN_KNOBS
from simlab.environments.presets import PRESETS, from_preset
from simlab.environments.registry import WORLDS
from simlab.environments.scenario import sample_cohort
from simlab.errors import command
from simlab.limits import limits

ROOT = Path(simlab.__file__).parents[1]


def test_help_and_list_are_fast_and_light():
    for option in ("--help", "--list"):
        assert over_a_plain_start(["-m", "simlab.environments", option], below=3) < 3  # seen: 1.2
    code = ("import sys, simlab.environments.describe as d; d.listing_text(d.listing()); "
            "print(sorted({'numpy', 'scipy', 'torch', 'pandas', 'jaxtyping'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_list_names_every_world_and_preset(capsys):
    assert main(["--list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [w["name"] for w in found["worlds"]] == list(WORLDS)
    assert {p.name for p in PRESETS} <= {p["name"] for p in found["presets"]}
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    assert all(p.name in text and p.meaning in text for p in PRESETS)


def test_describe_has_factors_knobs_and_limits(capsys):
    assert main(["--describe", "li2025-mixed", "--set", "kappa_e=0.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not strict JSON"))
    assert found["world"] == "gaussian" and found["factors"]["c"] == [4] and found["streams"]["image"] == [1, 30]
    assert [k["symbol"] for k in found["knobs"]] == [k.symbol for k in GAUSSIAN_KNOBS]
    assert {k["symbol"]: k["value"] for k in found["knobs"]}["kappa_e"] == 0.5
    known = limits(from_preset("li2025-mixed", kappa_e=0.5), n_labelled=())
    assert found["limits"]["external"] == known["external"] and found["risk_given"] == ["image", "clinical"]
    assert main(["--describe", "default", "--set", "shortcut=image", "--set", "lambda_s=0.5"]) == 0
    text = capsys.readouterr().out
    assert "limit inside" in text and "*lambda_s" in text and "shortcut: 1" in text and "cross-modal" in text


@pytest.mark.parametrize("preset", [p.name for p in PRESETS])
def test_every_preset_has_its_limits(preset):
    out = limits(from_preset(preset))
    assert 0.5 <= out["internal"]["cross_modal"] <= out["internal"]["full"] < 1


def test_kamai_presets_are_the_four_regimes():
    """Alignment (CCA) and prediction keep the shared causes, or the nuisance, as each regime says; and so do limits."""
    for name, aligns, predicts in (("both", True, True), ("alignment", True, False), ("prediction", False, True),
                                   ("neither", False, False)):
        out = limits(from_preset(f"kamai-{name}"))
        full = out["internal"]["full"]
        assert (out["internal"]["cross_modal"] == pytest.approx(full)) == aligns
        assert (out["cross_prediction"]["internal"] == pytest.approx(full)) == predicts
        for keeps, value in ((aligns, out["internal"]["cross_modal"]), (predicts, out["cross_prediction"]["internal"])):
            assert keeps or value == pytest.approx(0.5)
        assert out["separation"]["regime_image"] == {
            "both": "both", "alignment": "alignment only", "prediction": "prediction only", "neither": "neither"}[name]


def test_sample_writes_the_cohort_that_the_library_draws(tmp_path, capsys):
    path = tmp_path / "x.cohort"
    assert main(["--sample", "default", "--set", "w_x=0.3", "--cohort", "external", "--records", "200", "--seed", "3",
                 "--out", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    cohort = load(path)
    drawn = sample_cohort(from_preset("default", w_x=0.3), "external-data", 200, 3, 0, "external")
    np.testing.assert_array_equal(cohort.streams["image"].values, drawn.streams["image"].values)
    np.testing.assert_array_equal(cohort.risk["outcome"], drawn.risk["outcome"])
    assert said["records"] == 200 and said["positives"]["outcome"] == drawn.labels["outcome"].sum()
    assert main(["--sample", "gaussian", "--cohort", "pretraining", "--records", "20", "--out", str(path)]) == 0
    assert not load(path).labels and "20 records" in capsys.readouterr().out


@pytest.mark.parametrize(("argv", "said"), [
    ([], "required"), (["--describe", "li2025-mix"], "li2025-mixed"), (["--list", "--describe", "x"], "not allowed"),
    (["--describe", "default", "--set", "w_y=1"], "did you mean"),
    (["--describe", "default", "--set", "w_c"], "KNOB=VALUE"),
    (["--sample", "default"], ".cohort"), (["--sample", "default", "--out", "a.npz"], ".cohort"),
    (["--sample", "default", "--out", "a.cohort", "--records", "0"], "[1, 1e+07]"),
    (["--sample", "default", "--out", "a.cohort", "--cohort", "tset"], "test"),
    (["--describe", "default", "--set", "w_c=.1", "--set", "weight_shared=.1"], "twice"),
    (["--describe", "default", "--set", "lambda_s=.3"], "needs a view"),
    (["--describe", "default", "--out", "f"], "--out goes with --sample"),
    (["--describe", "default", "--cohort", "test"], "--cohort goes with --sample"),
    (["--list", "--records", "5"], "--records goes with --sample"), (["--list", "--set", "w_c=.1"], "--describe"),
    (["--sample", "default", "--out", "/proc/none/a.cohort", "--records", "3"], "cannot be written"),
    (["--sampel", "default"], "--sample"), (["--describe", "longitudinal", "--set", "shortcut_kind=once"], "per_visit"),
])
def test_bad_input_is_one_clear_line_and_status_2(argv, said, capsys):
    assert command(main, argv) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert said in captured.err
