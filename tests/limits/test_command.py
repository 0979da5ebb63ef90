"""The command as a user types it: strict JSON with the settled keys, a table, one-line refusals, a fast --help."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from clock import over_a_plain_start

import simlab
from simlab.environments.knobs import GAUSSIAN_KNOBS
from simlab.environments.presets import PRESETS, from_preset
from simlab.errors import OutOfDomain, UnknownName, command
from simlab.limits.__main__ import main

ROOT = Path(simlab.__file__).parents[1]
FOUR = {"full", "image", "clinical", "cross_modal"}


def run(*argv, **more):
    return subprocess.run([sys.executable, *argv], cwd=ROOT, capture_output=True, text=True, timeout=60, **more)


def test_the_command_of_the_issue():
    done = run("-m", "simlab.limits", "--set", "w_c=0.6", "--set", "kappa_e=0.4", "--n-labelled", "100,300,1000",
               "--json")
    assert done.returncode == 0 and done.stderr == ""
    out = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not strict JSON"))
    assert set(out["internal"]) == FOUR == set(out["source_bayes_external"])
    assert set(out["external"]) == FOUR | {"cross_modal_own"}
    assert out["finite"]["n_labelled"] == [100, 300, 1000]
    assert set(out["finite"]) == {"n_labelled", "supervised", "supervised_tuned", "cross_modal",
                                  "cross_modal_finetuned"}
    assert set(out["crossover_n"]) == set(out["crossover_reading"]) == {
        "cross_modal|supervised", "cross_modal|supervised_tuned", "cross_modal_finetuned|supervised_tuned"}
    assert out["crossover_n"]["cross_modal|supervised"] == 196
    assert out["canonical_correlations"] == pytest.approx([0.8] * 4) and out["standard_error"] == 0
    assert {"cross_modal_range", "prevalence_external", "decomposition", "domain_auc", "mutual_information", "pca",
            "cross_prediction", "k", "spec"} <= set(out)
    assert out["internal"]["full"] == pytest.approx(0.875, abs=5e-4)


def test_help_is_fast_and_imports_no_array_module():
    done = run("-m", "simlab.limits", "--help")
    assert done.returncode == 0 and "--n-labelled" in done.stdout
    assert over_a_plain_start(["-m", "simlab.limits", "--help"], below=2) < 2  # seen: .84
    heavy = "{'numpy', 'scipy', 'torch', 'pandas', 'jaxtyping'}"
    for what in ("simlab.limits.__main__", "simlab.limits", "simlab.limits.table", "simlab.environments.presets"):
        done = run("-c", f"import sys, {what}; print(sorted({heavy} & set(sys.modules)))")
        assert done.stdout.strip() == "[]", (what, done.stdout, done.stderr)


def test_table(capsys):
    assert main(["--set", "w_c=0.8", "--n-labelled", "50,300", "--k", "2"]) == 0
    text = capsys.readouterr().out
    for part in ("w_c = 0.8", "limit inside", "source's best rule, outside", "0.8795", "0.7239", "0.5000 to 0.8402",
                 "cross-modal (fine-tuned)", "-  0.8095", "canonical correlations inside: 0.8000 x 4"):
        assert part in text
    assert max(len(line) for line in text.splitlines()) <= 160


def test_list_names_every_knob_and_preset(capsys):
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    for knob in GAUSSIAN_KNOBS:
        assert knob.symbol in text and knob.name in text and str(knob.domain) in text and knob.meaning in text
    assert all(p.name in text and p.meaning in text for p in PRESETS)


def test_names_and_symbols_mean_the_same(capsys):
    outputs = []
    for pair in (("w_c=0.7", "kappa_e=.2"), ("weight_shared=0.7", "coupling_external=0.2")):
        main(["--set", pair[0], "--set", pair[1], "--json"])
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize(("argv", "said"), [
    (["--set", "w_x1=3"], "did you mean"), (["--set", "kapa_e=1"], "kappa_e"), (["--set", "w_c=3"], "[0, 1]"),
    (["--set", "w_c=nan"], "[0, 1]"), (["--set", "w_c"], "KNOB=VALUE"), (["--set", "w_c="], "KNOB=VALUE"),
    (["--set", "w_c=much"], "not a number"), (["--set", "map=cubic"], "identity, linear, mlp"),
    (["--set", "w_c=.1", "--set", "weight_shared=.1"], "twice"), (["--set", "d_c=2.5"], "whole numbers"),
    (["--set", "w_c=.5", "--set", "w_u=.5", "--set", "w_v=.5"], "must sum to one"),
    (["--set", "delta_clin_e=.3", "--set", "kappa_e=.5"], "sets kappa_e"), (["--n-labelled", "10,b"], "100,300,1000"),
    (["--n-labelled", "1"], "[2, 1e+07]"), (["--n-labelled", "100,,3"], "100,300,1000"), (["--k", "31"], "[1, 30]"),
    (["--k", "0"], "[1, 30]"), (["--k", "two"], "whole number"), (["--k", "1,2"], "one whole number"),
    (["--preset", "li2025-share"], "li2025-shared"), (["--preset", "persistence-level"], "--describe persistence-l"),
    (["--bogus"], "--bogus"),
    (["--n-labeled", "5"], "did you mean --n-labelled?"), (["--k"], "expected one argument"),
    (["--set", "d_ni=4000", "--set", "d_nc=4000"], "up to 4096"),
])
def test_bad_input_is_one_clear_line_and_status_2(argv, said, capsys):
    assert command(main, argv) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert said in captured.err


def test_presets():
    assert [p.name for p in PRESETS] == [
        "default", "li2025-shared", "li2025-mixed", "li2025-independent", "li2025-trained-shared",
        "li2025-trained-mixed", "li2025-trained-independent", "kamai-both",
        "kamai-alignment", "kamai-prediction", "kamai-neither"]
    s = from_preset("li2025-shared", kappa_e=0.56)
    assert (s.w_c, s.kappa_e, s.kappa_s, s.prevalence, s.d_ni) == (0.9, 0.56, 1.0, 0.4, 60)
    moved = from_preset("li2025-mixed", w_c=0.2)
    assert (moved.w_c, moved.w_u, moved.w_v) == pytest.approx((0.2, 0.4, 0.4))
    with pytest.raises(UnknownName, match="li2025-mixed"):
        from_preset("li2025-mix")
    with pytest.raises(OutOfDomain):
        from_preset("default", w_c=2.0)
    with pytest.raises(OutOfDomain, match="twice"):
        from_preset("default", w_c=0.2, weight_shared=0.2)
