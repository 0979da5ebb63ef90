"""The command line: what it prints, where, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from clock import over_a_plain_start
from conftest import ROOT, TOML

from simlab.errors import command
from simlab.sweep import forecast, study
from simlab.sweep.__main__ import main


def sweep(*words: str, function: str = "good") -> int:
    return command(lambda argv: main(argv, function=f"sweep_fakes:{function}"), list(words))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder of a user's own."""
    monkeypatch.chdir(tmp_path)


# Over a start of Python with the standard library alone, about .1 s: half a second is 5 (torch's import alone is 18).
# Seen were 2.0 to 2.6; 4 for --list, which reads and checks 26 studies.
@pytest.mark.parametrize(("words", "allowed"), [(["--help"], 5), (["--list"], 8), (["quick", "--dry-run"], 5),
                                                (["quick", "--print-config"], 5)])  # fmt: skip
def test_light_commands_import_no_array_module_and_answer_at_once(
    words: list[str], allowed: float, environment: dict[str, str]
) -> None:
    code = ("import sys; from simlab.sweep.__main__ import main\n"
            f"try: main({words!r}, function='a:probe is not light')\nexcept SystemExit: pass\n"
            "heavy = {'numpy', 'torch', 'pandas', 'scipy', 'matplotlib', 'optuna', 'pyarrow'} & set(sys.modules)\n"
            "assert not heavy, heavy")
    assert over_a_plain_start(["-c", code], environment, below=allowed) < allowed


def test_a_first_run_says_what_a_newcomer_needs(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(str(toml)) == 0
    out, err = capsys.readouterr()
    assert "Does vicreg-frozen beat lda?" in out and "helps" in out and "theory" in out
    for said in ("runs/small/results.parquet", "runs/small/map.png", "map.pdf", "next:"):
        assert said in out
    assert "6 cells x 8 seeds" in err and "small" not in err.replace("small:", "").replace("runs/small", "")
    assert max(map(len, out.split("table ")[0].splitlines())) <= 100
    assert sweep(str(toml)) == 0
    assert "nothing was left to compute" in capsys.readouterr().out


@pytest.mark.usefixtures("undrawn")
def test_digest_prints_one_hash_and_computes_nothing(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(str(toml), "--out", "a", "--digest") == 2
    assert not Path("a").exists()
    assert "run it first" in capsys.readouterr().err
    assert sweep(str(toml), "--out", "a", "--json", "--quiet") == 0
    told = json.loads(capsys.readouterr().out)["digest"]
    before = {path: path.stat().st_mtime_ns for path in Path("a").rglob("*")}
    assert sweep(str(toml), "--out", "a", "--digest") == 0
    out, err = capsys.readouterr()
    assert (out, err) == (told + "\n", "")
    assert {path: path.stat().st_mtime_ns for path in Path("a").rglob("*")} == before
    next(Path("a/shards").glob("*.parquet")).unlink()
    assert sweep(str(toml), "--out", "a", "--digest") == 2
    assert "not finished: 1 jobs" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(Path.cwd().rglob("*"))
    assert sweep(str(toml), "--dry-run") == 0
    out = capsys.readouterr().out
    for said in ("6 (2 w_c x 3 n_labelled), 8 seeds, 3 arms", "4 jobs, each a shard", "8 pretrainings",
                 "nothing was written"):
        assert said in out
    assert sweep(str(toml), "--dry-run", "--json", "--workers", "3") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["cells"], facts["trainings"], facts["jobs"], facts["workers"]) == (6, 8, 4, 3)
    assert set(Path.cwd().rglob("*")) == before


@pytest.mark.usefixtures("undrawn")
def test_a_dry_run_counts_what_a_retry_computes_again(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(lambda argv: main(argv, function="sweep_fakes:raises"), [str(toml), "--quiet"]) == 1
    for words, jobs in (([], 0), (["--retry-failed"], 1)):
        capsys.readouterr()
        assert sweep(str(toml), "--dry-run", "--json", *words) == 0
        assert json.loads(capsys.readouterr().out)["jobs_to_do"] == jobs


@pytest.mark.usefixtures("undrawn")
def test_list_counts_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    Path("studies").mkdir()
    Path("studies/small.toml").write_text(TOML, encoding="utf-8")
    Path("studies/broken.toml").write_text("[axes]\nw_x = 1\n", encoding="utf-8")
    assert sweep("--list", "--json") == 0
    found = {entry["study"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {"small", "broken", "quick"} <= set(found)
    assert (found["small"]["done"], found["small"]["missing"]) == (0, 48) and found["small"]["estimated_seconds"] > 0
    assert "broken.toml" in found["broken"]["error"]
    assert sweep("small", "--quiet", function="one_arm_fails") == 1
    capsys.readouterr()
    assert sweep("--list") == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("small"))
    assert line.split() == ["small", "6", "8", "48", "0", "8", "-"]
    Path("runs/small/shards/job-00001.parquet").unlink()
    assert sweep("--list", "--json") == 0
    found = {entry["study"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert (found["small"]["done"], found["small"]["missing"]) == (36, 12) and found["quick"]["estimated_seconds"] > 9


@pytest.mark.usefixtures("undrawn")
def test_a_failed_method_is_a_row_and_exit_status_1(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(str(toml), "--json", function="one_arm_fails") == 1
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert len(told["failed"]) == 8
    assert told["failed"][0] == {"cell": 0, "seed": 0, "method": "lda", "status": "failed",
                                 "error": "ValueError: no fit"}
    first = told["verdicts"][0]
    assert (first["verdict"], first["seeds"]) == ("undecided", 0)
    assert {v["verdict"] for v in told["verdicts"]} > {"undecided"}  # the rest went on
    assert "failed: cell 0, seed 0, lda: failed, ValueError: no fit" in err


@pytest.mark.usefixtures("undrawn")
def test_a_leak_is_exit_status_1(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(str(toml), function="leaks") == 1
    assert "error: leak guard: lda in cohort test" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "said"), [
    (["quik"], "did you mean quick"),
    (["none.toml"], "none.toml does not exist"),
    (["quick", "--set", "n_labeled=5"], "n_labelled"),
    (["quick", "--set", "w_c=2"], "[0, 1]"),
    (["quick", "--plugin", "gone.py"], "gone.py does not exist"),
    (["quick", "--set", "train.steps=-1"], "train.steps"),
    (["quick", "--devcie", "cuda"], "unknown option --devcie: did you mean --device?"),
    (["quick", "--device", "gpu"], "invalid choice"),
    (["quick", "--workers", "-2"], "'-2' is not a positive whole number"),
    (["quick", "--out"], "expected one argument"),
    (["quick", "quick"], "unrecognized arguments: quick"),
])
def test_bad_input_is_one_line_and_exit_status_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(*words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and said in err
    assert not Path("runs").exists()


@pytest.mark.parametrize("words", [["quick"], ["clin-jepa-qwen"], ["quick", "--cell", "0", "--seed", "0"]])
def test_a_device_that_is_not_there_is_one_line_before_anything_is_timed_or_written(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert sweep(*words, "--device", "cuda") == 2
    out, err = capsys.readouterr()
    assert out == "" and not Path("runs").exists()
    assert err == "error: --device cuda: torch finds no CUDA device on this machine; use --device cpu.\n"


def test_an_out_folder_that_cannot_be_made(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("in the way", encoding="utf-8")
    assert sweep(str(toml), "--out", "file/deeper") == 2
    assert "cannot make the folder file/deeper" in capsys.readouterr().err


def test_print_config_is_a_study_that_loads(toml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(str(toml), "--print-config", "--set", "h2=0.3") == 0
    again = tmp_path / "again.toml"
    again.write_text(capsys.readouterr().out, encoding="utf-8")
    assert study.load(str(again)) == study.load(str(toml), ["h2=0.3"])


def test_packaged_studies_are_the_checkouts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert study.available()["quick"] == ROOT / "studies" / "quick.toml"


def test_a_plain_run_says_what_it_will_take(
    toml: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a grid: in one line, without what a search alone knows."""
    foretold = forecast.Forecast(300.0, None, "a slice")
    monkeypatch.setattr("simlab.sweep.__main__._foretell", lambda *_: (foretold, [], [], 1))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simlab.sweep.driver.run", stop)
    assert command(main, [str(toml)]) == 130
    assert "about 5 min (a slice)\n" in capsys.readouterr().err
