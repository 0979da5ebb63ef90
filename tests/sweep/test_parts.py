"""Parts of a study on many machines, a partial table, one cell by itself, other engines: always the same table."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import HERE, PATIENCE, InThisProcess, calls, wait_for

from simlab.errors import SimlabError, command
from simlab.sweep import plan, results, study
from simlab.sweep.__main__ import main
from simlab.sweep.finish import Summary
from simlab.sweep.folder import Folder

Run = Callable[..., Summary]
FAST = ["--set", "seeds.looks=[2]", "--set", "train.fleet=2", "--set", "train.steps=5", "--set", "train.n_test=600",
        "--set", "n_labelled=[80]", "--set", "n_unlabelled=300", "--quiet", "--workers", "1"]


pytestmark = pytest.mark.usefixtures("undrawn")


def sweep(*words: str, function: str | None = "good") -> int:
    return command(lambda argv: main(argv, function=function and f"sweep_fakes:{function}"), list(words))


def test_parts_are_disjoint_and_together_the_whole(run: Run, fakes: Path, tmp_path: Path, calm: str) -> None:
    for i in (3, 1, 2):
        found = run(out="parts", shard=(i, 3))
        assert found.atlas is None
    assert sorted(calls(fakes)) == [f"job {i} threads 1" for i in range(4)]  # each job once
    assert not (tmp_path / "parts" / "results.parquet").exists()
    collected = run(out="parts", collect=True)
    assert (collected.jobs_run, collected.missing, collected.digest) == (0, 0, calm)
    manifest = json.loads((tmp_path / "parts" / "manifest.json").read_text(encoding="utf-8"))
    assert sorted(entry["part"] for entry in manifest["runs"]) == ["1-of-3", "2-of-3", "3-of-3"]
    assert run(out="parts").digest == calm  # a plain run finds nothing left to do
    assert len(calls(fakes)) == 4


@pytest.mark.parametrize(("field", "value"), [("threads", 2), ("sources", "other"), ("torch", "0.1")])
def test_parts_that_were_computed_differently_are_not_collected(run: Run, tmp_path: Path, field: str, value: object
                                                               ) -> None:
    for i in (1, 2):
        run(shard=(i, 2))
    path = tmp_path / "out" / "manifest.2-of-2.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    place = manifest["runs"][0]["versions"] if field == "torch" else manifest
    assert field in place
    place[field] = value
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(SimlabError, match=f"parts 1-of-2 and 2-of-2 differ in {field} .*{value}"):
        run(collect=True)
    assert not (tmp_path / "out" / "results.parquet").exists()


def test_a_finished_run_says_that_it_has_no_artefacts(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                                     ) -> None:
    run()
    capsys.readouterr()
    run(artefacts=True, quiet=False)
    said = "--artefacts: 4 finished jobs have none and are not computed again; --cell I --seed S"
    assert said in capsys.readouterr().err
    (tmp_path / "out" / "artefacts").mkdir()
    for seed in range(8):
        (tmp_path / "out" / "artefacts" / f"0-{seed}-lda.npz").touch()
    run(artefacts=True, quiet=False)
    assert "--artefacts" not in capsys.readouterr().err


def test_a_part_without_a_job_of_its_own_is_done_at_once(run: Run, toml: Path, tmp_path: Path, calm: str) -> None:
    """An array of 200 parts may be larger than the study: the parts left over end well."""
    assert run(out="parts", shard=(7, 7)).rows == 0
    assert sweep(str(toml), "--out", str(tmp_path / "parts"), "--shard", "6/7") == 0
    for i in (1, 2, 3, 4):
        run(out="parts", shard=(i, 7))
    assert run(out="parts", collect=True).digest == calm


def test_parts_work_side_by_side_but_not_beside_a_whole_run(run: Run, small: study.Study, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out")
    folder.make()
    with folder.lock("1-of-2"):
        run(shard=(2, 2))
        with pytest.raises(SimlabError, match="in use by process"):
            run(shard=(1, 2))
        with pytest.raises(SimlabError, match="in use by process"):
            run()
        assert run(collect=True).missing == 2
    with folder.lock(), pytest.raises(SimlabError, match="in use"):
        run(shard=(1, 2))


def test_collect_reads_what_is_finished_and_computes_nothing(run: Run, fakes: Path, tmp_path: Path, toml: Path,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(str(toml), "--out", str(tmp_path / "none"), "--collect") == 2
    assert "run it first" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    run()
    (tmp_path / "out" / "shards" / "job-00001.parquet").unlink()
    before = calls(fakes)
    assert sweep(str(toml), "--out", str(tmp_path / "out"), "--collect") == 0
    out = capsys.readouterr().out
    assert "partial: 1 jobs are missing" in out and calls(fakes) == before
    table = results.read(study.load(str(toml)), tmp_path / "out" / "results.parquet")
    assert len(table) == 3 * 6 * 2 * 3 * 2  # jobs x cells x seeds x arms x metrics
    assert sweep(str(toml), "--out", str(tmp_path / "out"), "--digest") == 2
    run(shard=(2, 4))  # all jobs are there now, the table is still the partial one
    capsys.readouterr()
    assert sweep(str(toml), "--out", str(tmp_path / "out"), "--digest") == 2
    assert "older than the last jobs" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "said"), [
    (["--shard", "0/3"], "expected I/N"),
    (["--shard", "4/3"], "expected I/N"),
    (["--cell", "0"], "--cell and --seed go together"),
    (["--cell", "99", "--seed", "0"], "--cell 99: study small has 6, numbered from 0 to 5"),
    (["--cell", "0", "--seed", "8"], "--seed 8: study small has 8"),
    (["--collect", "--shard", "1/2"], "give one of them"),
    (["--scheduler", "tcp://x:1"], "add --engine dask"),
])
def test_bad_parts_are_one_line(toml: Path, tmp_path: Path, words: list[str], said: str,
                                capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = sweep(str(toml), "--out", str(tmp_path / "out"), *words)
    except SystemExit as end:  # argparse's own
        code = end.code
    assert code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_cell_again_says_the_same_and_leaves_its_artefacts(
    toml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("driver", "single"):
        monkeypatch.setattr(f"simlab.sweep.{module}.Pool", InThisProcess)
    words = [str(toml), "--out", str(tmp_path / "out"), *FAST]
    assert sweep(*words, "--cell", "1", "--seed", "1", "--json", function=None) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["as_in_table"] is None and first["knobs"] == {"w_c": 0.8, "n_labelled": 80}
    assert {row["method"] for row in first["rows"]} == {"vicreg-frozen", "supervised", "lda"}
    names = sorted(Path(name).name for name in first["files"])
    assert names == ["1-1-lda.npz", "1-1-supervised.npz", "1-1-vicreg-frozen.npz"]
    assert sorted(p.name for p in (tmp_path / "out" / "artefacts").iterdir()) == names
    with np.load(tmp_path / "out" / "artefacts" / names[2], allow_pickle=False) as found:
        assert found["embedding/test"].shape == (500, 8) and found["spectrum/test"].shape == (8,)
        assert 0 <= float(found["readability/c"]) <= 1 and len(found["label/test"]) == 500
        assert found["curve/loss"].shape == found["curve/step"].shape == (5,)
    kept = {name: (tmp_path / "out" / "artefacts" / name).read_bytes() for name in names}
    assert sweep(*words, "--artefacts", function=None) == 0
    assert len(list((tmp_path / "out" / "artefacts").iterdir())) == 2 * 2 * 3  # cells x seeds x arms
    assert {n: (tmp_path / "out" / "artefacts" / n).read_bytes() for n in names} == kept
    capsys.readouterr()
    assert sweep(*words, "--cell", "1", "--seed", "1", function=None) == 0
    assert "the same, bit for bit" in capsys.readouterr().out


def test_dask_carries_jobs_and_survives_a_killed_worker(
    run: Run, fakes: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], calm: str
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    found = run("kills_its_carrier_once", out="dask", workers=2, engine="dask")
    assert "carrier killed" in calls(fakes)
    assert found.failures == [] and found.digest == calm
    done = [line for line in calls(fakes) if line.startswith("job")]
    assert set(done) == {f"job {i} threads 1" for i in range(4)}


@pytest.mark.parametrize("engine", ["local", "dask"])
def test_a_worker_with_other_sources_ends_the_run(
    run: Run, toml: Path, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    """A replaced worker (Dask: every one) would import what is on disk by then: two versions in one table."""
    if engine == "dask":
        pytest.importorskip("distributed")
        monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    plugin = tmp_path / "plugin.py"
    plugin.write_text("x = 1\n", encoding="utf-8")
    asked = study.load(str(toml), plugins=[str(plugin)])
    with pytest.raises(SimlabError, match="a worker's sources differ from the driver's"):
        run("dies_beside_an_edit", which=asked, engine=engine)
    assert 1 not in Folder(tmp_path / "out").finished()  # no failed rows either


def test_dask_that_is_not_there_is_one_line(toml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    words = [str(toml), "--out", str(tmp_path / "out"), "--engine", "dask"]
    monkeypatch.setattr("simlab.sweep.engines.PATIENCE", 1)
    assert sweep(*words, "--scheduler", "tcp://127.0.0.1:9") == 2
    err = capsys.readouterr().err
    assert "no Dask scheduler answers there" in err
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert sweep(*words) == 2
    assert "simlab[cluster]" in capsys.readouterr().err


def test_the_slurm_recipe_is_the_documented_one(tmp_path: Path, toml: Path) -> None:
    """The job script of docs/sweeps.md, run as an array of parts by this shell, gives the whole."""
    text = (HERE.parents[1] / "docs" / "sweeps.md").read_text(encoding="utf-8")
    script = "\n".join(line[4:] for line in text.partition("    #!/bin/bash\n")[2].partition("\n\n")[0].splitlines())
    for said in ("#SBATCH --array=1-200", "#SBATCH --cpus-per-task=1", "--shard $SLURM_ARRAY_TASK_ID/200",
                 "--workers 1", "#SBATCH --time="):
        assert said in script
    assert 'sbatch --dependency=afterany:JOBID --wrap "python -m simlab.sweep my-study --collect --quiet"' in text
    asked = study.load(str(toml))
    (line,) = [line for line in script.splitlines() if line.startswith("python")]
    words = line.replace("$SLURM_ARRAY_TASK_ID/200", "2/4").replace("my-study", str(toml)).split()[3:]
    assert sweep(*words, "--out", str(tmp_path / "out")) == 0
    assert Folder(tmp_path / "out").finished() == {job.index for job in plan.jobs(asked) if job.index % 4 == 1}


def test_a_kill_during_a_write_leaves_no_torn_file(toml: Path, tmp_path: Path, environment: dict[str, str],
                                                   run: Run, calm: str) -> None:
    """The driver dies between the parts of a shard's file; nothing torn is read, and only that job runs again."""
    code = ("import os, signal, sys, pyarrow.parquet as pq\n"
            "from simlab.sweep.__main__ import main\n"
            "write = pq.write_table\n"
            "def dying(table, file, **options):\n"
            "    if 'job-00002' in file.name:\n"
            "        file.write(b'PAR1 half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
            "    write(table, file, **options)\n"
            "pq.write_table = dying\n"
            f"main([{str(toml)!r}, '--out', {str(tmp_path / 'out')!r}, '--workers', '1'], 'sweep_fakes:good')\n")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=PATIENCE,
                          check=False)
    assert done.returncode == -signal.SIGKILL
    folder = Folder(tmp_path / "out")
    assert folder.finished() == {0, 1} and len(list(folder.shards.glob("*.tmp"))) == 1
    log = Path(environment["SWEEP_FAKE_LOG"])
    before = len(calls(log))
    found = run()
    assert [line.split()[1] for line in calls(log)[before:]] == ["2", "3"]
    assert not list(folder.shards.glob("*.tmp")) and found.digest == calm


def test_two_drivers_on_one_folder_the_second_is_refused(toml: Path, tmp_path: Path, environment: dict[str, str],
                                                        fakes: Path, run: Run) -> None:
    line = [sys.executable, str(HERE / "launch.py"), "slow", str(toml), "--out", str(tmp_path / "out"),
            "--workers", "1"]
    first = subprocess.Popen(line, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(calls(fakes)) == 3 or first.poll() is not None, "the third job to begin")
        with pytest.raises(SimlabError, match=f"in use by process {first.pid}"):
            run()
        assert len(calls(fakes)) == 3 and first.poll() is None
    finally:
        first.kill()
        first.wait()
    assert Folder(tmp_path / "out").finished() == {0, 1}
