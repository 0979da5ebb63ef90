"""Whole runs: nothing computed twice, nothing lost, the same table whatever happened on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from conftest import HERE, PATIENCE, alive, calls, wait_for
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from simlab.errors import InvalidStudy, SimlabError
from simlab.sweep import driver, plan, pool, results, study
from simlab.sweep.finish import Summary
from simlab.sweep.folder import Folder

Run = Callable[..., Summary]


pytestmark = pytest.mark.usefixtures("undrawn")


def test_a_run_again_does_nothing_again(run: Run, fakes: Path, tmp_path: Path) -> None:
    first = run()
    assert calls(fakes) == [f"job {i} threads 1" for i in range(4)]
    again = run()
    assert len(calls(fakes)) == 4
    assert (again.jobs_run, again.trainings, again.digest) == (0, 0, first.digest)
    assert (first.jobs_run, first.trainings) == (4, 8)
    journal = (tmp_path / "out" / "journal.log").read_text(encoding="utf-8")
    assert journal.count('"cell"') == 6  # each cell one trial, also after the second run
    present = {path.name for path in (tmp_path / "out").iterdir()}
    assert present >= {"study.toml", "shards", "journal.log", "results.parquet", "manifest.json", "verdicts.csv",
                       "boundary.csv", "map.png", "map.pdf", "run.log"}


def test_digest_is_equal_for_any_workers_and_order(
    run: Run, small: study.Study, monkeypatch: pytest.MonkeyPatch, calm: str
) -> None:
    assert run(out="two", workers=2).digest == calm
    ordered = plan.jobs

    class Backwards(pool.Pool):
        def run(self, jobs: list[plan.Job]) -> Iterator[pool.Outcome]:  # type: ignore[override]
            return super().run(list(reversed(jobs)))

    monkeypatch.setattr(driver, "Pool", Backwards)
    assert run(out="three").digest == calm
    assert ordered(small) == plan.jobs(small)


def test_missing_and_torn_shards_alone_are_computed_again(run: Run, fakes: Path, tmp_path: Path) -> None:
    digest = run().digest
    shards = tmp_path / "out" / "shards"
    (shards / "job-00001.parquet").unlink()
    torn = shards / "job-00002.parquet"
    torn.write_bytes(torn.read_bytes()[:200])
    (shards / "job-00003.parquet.99.tmp").write_bytes(b"half")
    again = run()
    assert calls(fakes)[4:] == ["job 1 threads 1", "job 2 threads 1"]
    assert again.digest == digest
    assert (shards / "job-00002.parquet.damaged").exists()
    assert not list(shards.glob("*.tmp"))


def test_results_never_live_in_the_journal_alone(run: Run, fakes: Path, tmp_path: Path, calm: str) -> None:
    """Deleted, it is written again from the shards by the next run, which computes nothing."""
    run()
    path = tmp_path / "out" / "journal.log"
    before = values(path)
    path.unlink()
    assert run().digest == calm and len(calls(fakes)) == 4
    assert values(path) == before and len(before) == 6


def values(path: Path) -> dict[int, float | None]:
    """Of each cell, as Optuna's own reader has it."""
    read = optuna.load_study(study_name="small", storage=JournalStorage(JournalFileBackend(str(path))))
    return {t.user_attrs["cell"]: t.value for t in read.trials}


def test_a_killed_worker_is_replaced_and_its_job_tried_once_more(run: Run, fakes: Path, calm: str) -> None:
    found = run("dies_once", workers=2)
    assert found.failures == []
    assert sorted(calls(fakes)) == [f"job {i} threads 1" for i in range(4)]
    assert found.digest == calm


def test_a_job_that_always_kills_its_worker_becomes_rows(run: Run, fakes: Path) -> None:
    found = run("dies_always", workers=2)
    assert calls(fakes).count("died") == 2 + 3 * 2  # the whole job, then each arm alone; each tried twice
    assert {f["status"] for f in found.failures} == {"killed"}
    assert "SIGKILL" in found.failures[0]["error"]
    assert len(found.failures) == 6 * 2 * 3  # cells x seeds of the job x arms
    assert found.atlas is not None and found.atlas.panels[0].rows[0].verdicts[0].reason.startswith("fewer than 8 seeds")


def test_one_arm_that_hangs_or_dies_takes_no_other_with_it(
    run: Run, toml: Path, fakes: Path, tmp_path: Path, small: study.Study
) -> None:
    asked = study.load(str(toml), ["limits.timeout_s=1"])
    found = run("one_arm_hangs_another_dies", which=asked, workers=2)
    assert {(f["method"], f["status"], f["error"]) for f in found.failures} == {
        ("lda", "timeout", "stopped after limits.timeout_s = 1"),
        ("supervised", "killed", "the worker died twice (signal SIGKILL)")}
    assert len(found.failures) == 6 * 2 * 2  # cells x seeds of the job x arms
    run(out="well")
    one, two = (results.read(small, tmp_path / out / "results.parquet").to_pylist() for out in ("out", "well"))
    assert [r for r in one if r["status"] == "ok"] == [
        r for r in two if r["method"] == "vicreg-frozen" or r["seed"] not in (2, 3)]
    assert calls(fakes).count("job 1 vicreg-frozen") == 1


def test_a_stuck_and_a_hoarding_job_are_stopped(run: Run, toml: Path) -> None:
    stuck = run("hangs", which=study.load(str(toml), ["limits.timeout_s=1"]), out="stuck", workers=2)
    assert {(f["status"], f["error"]) for f in stuck.failures} == {("timeout", "stopped after limits.timeout_s = 1")}
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is watched where /proc is")
    hoard = run("hoards", which=study.load(str(toml), ["limits.memory_mb=300"]), out="hoard", workers=2)
    assert {(f["status"], f["error"]) for f in hoard.failures} == {("killed", "stopped above limits.memory_mb = 300")}


def test_a_job_that_raises_becomes_rows_and_is_retried_on_request(
    run: Run, fakes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run("raises")
    assert {f["error"] for f in found.failures} == {"ValueError: the planted fault"}
    assert run("good").failures == found.failures  # a failure is a result: not computed again unasked
    assert run("good", retry_failed=True, collect=True).failures == found.failures  # nor where nothing is computed
    before = len(calls(fakes))
    assert run("good", retry_failed=True).failures == []
    assert calls(fakes)[before:] == ["job 1 threads 1"]


def test_what_diverges_raises_or_never_ends_are_rows_and_the_rest_goes_on(run: Run, toml: Path) -> None:
    found = run("diverges_raises_and_hangs", which=study.load(str(toml), ["limits.timeout_s=2"]), workers=2)
    reasons = {(f["status"], f["error"].partition(":")[0]) for f in found.failures}
    assert reasons == {("diverged", "Diverged"), ("failed", "RuntimeError"),
                       ("timeout", "stopped after limits.timeout_s = 2")}
    units = 6 * 2  # cells x seeds of each job
    assert len(found.failures) == units * (1 + 3 + 3)
    assert found.rows == units * ((1 + 2 * 2) + 3 + 3 + 3 * 2)  # a failed arm one row, a measured one its two metrics


def test_an_unloadable_job_is_one_error(run: Run) -> None:
    with pytest.raises(SimlabError, match="cannot load sweep_fakes:missing: AttributeError"):
        run("missing")
    with pytest.raises(SimlabError, match="not one of its own"):
        run("alien", out="alien")


def test_a_changed_study_is_refused_by_its_field(run: Run, toml: Path, tmp_path: Path) -> None:
    run()
    with pytest.raises(InvalidStudy, match=r"train\.steps: 1200 there, 50 now.*--out another"):
        run(which=study.load(str(toml), ["train.steps=50"]))
    with pytest.raises(InvalidStudy, match=r"begun with --threads 1, now 2"):
        run(threads=2)
    run(which=study.load(str(toml), ["limits.timeout_s=99"]))  # a limit changes no number
    (tmp_path / "out" / "study.toml").write_text("[torn", encoding="utf-8")
    with pytest.raises(InvalidStudy, match=r"study\.toml cannot be read"):
        run()


def test_a_second_driver_on_a_folder_is_refused(run: Run, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out")
    folder.make()
    with folder.lock(), pytest.raises(SimlabError, match=rf"in use by process {os.getpid()}"):
        run()
    run()  # and let in when the first is gone


def test_a_full_disk_keeps_what_is_finished(run: Run, fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = results.write_shard

    def full(which: study.Study, job: plan.Job, table: object, path: Path) -> None:
        if job.index == 2:
            raise OSError(28, "No space left on device")
        real(which, job, table, path)  # type: ignore[arg-type]

    monkeypatch.setattr(results, "write_shard", full)
    with pytest.raises(SimlabError, match=r"no space left.*2 of 4 jobs are finished and kept"):
        run()
    monkeypatch.setattr(results, "write_shard", real)
    before = len(calls(fakes))
    run()
    assert [line.split()[1] for line in calls(fakes)[before:]] == ["2", "3"]


def test_a_leak_is_said_loudly(run: Run) -> None:
    assert run().leak == ""
    assert "lda in cohort test" in run("leaks", out="leaky").leak


def _start(toml: Path, out: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    words = ["slow", str(toml), "--out", str(out), "--workers", "2"]
    with out.with_suffix(".err").open("wb") as errors:
        return subprocess.Popen([sys.executable, str(HERE / "launch.py"), *words], env=environment, stderr=errors)


def _worker_pids(log: Path) -> set[int]:
    return {int(line.split()[-1]) for line in calls(log)}


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=["killed", "ctrl-c", "terminated"])
def test_when_the_driver_ends_its_workers_end_and_finished_jobs_stay(
    toml: Path, tmp_path: Path, fakes: Path, environment: dict[str, str], run: Run, end: signal.Signals, calm: str
) -> None:
    driving = _start(toml, tmp_path / "out", environment)
    try:
        wait_for(lambda: len(calls(fakes)) == 4 or driving.poll() is not None, "the last two jobs to begin")
        driving.send_signal(end)
        code = driving.wait(timeout=PATIENCE)
    finally:
        driving.kill()
    message = (tmp_path / "out.err").read_text(encoding="utf-8")
    assert code == (-signal.SIGKILL if end == signal.SIGKILL else 130), message
    if end != signal.SIGKILL:
        assert "interrupted: 2 of 4 jobs are finished and kept in" in message
    wait_for(lambda: not any(alive(pid) for pid in _worker_pids(fakes)), "the workers to end")
    assert Folder(tmp_path / "out").finished() == {0, 1}
    resumed = run()
    assert calls(fakes)[4:] == ["job 2 threads 1", "job 3 threads 1"]
    assert resumed.digest == calm


def test_a_request_to_stop_is_not_lost_where_python_swallows_it(
    toml: Path, tmp_path: Path, fakes: Path, environment: dict[str, str]
) -> None:
    """Ctrl-C that arrives inside a finaliser is printed and forgotten by Python; the run ends all the same."""
    code = ("import signal, sys\n"
            "from simlab.errors import command\n"
            "from simlab.sweep.__main__ import main\n"
            "from simlab.sweep.pool import Pool\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "class Finalised:\n"
            "    def __del__(self): signal.raise_signal(signal.SIGINT)\n"
            "hear = Pool._hear\n"
            "def heard(self, worker, waiting):\n"
            "    Finalised()\n"
            "    return hear(self, worker, waiting)\n"
            "Pool._hear = heard\n"
            f"words = [{str(toml)!r}, '--out', {str(tmp_path / 'out')!r}, '--workers', '1']\n"
            "sys.exit(command(lambda argv: main(argv, function='sweep_fakes:slow'), words))\n")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True,
                          timeout=PATIENCE, check=False)
    assert done.returncode == 130 and "interrupted: " in done.stderr


def test_a_workers_start_is_not_its_jobs_time(
    run: Run, toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a loaded machine a worker takes seconds to start; the limit is on the job that it then computes."""
    monkeypatch.setenv("SWEEP_FAKE_START", "1.5")
    assert run("good", which=study.load(str(toml), ["limits.timeout_s=1"])).failures == []


def test_the_manifest_says_how_the_table_came_about(run: Run, tmp_path: Path) -> None:
    found = run()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["digest"] == found.digest and manifest["failed"] == 0 and manifest["device"] == "cpu"
    (entry,) = manifest["runs"]
    assert {"started", "seconds", "trainings", "versions", "cpu", "system"} <= set(entry)
    assert entry["trainings"] == 8 and {"torch", "numpy", "python", "simlab"} <= set(entry["versions"])
    run()
    assert len(json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["runs"]) == 1


def test_a_table_is_not_finished_with_other_code(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is finished is shown and said to be older; what is missing is not filled in by another version."""
    first = run()
    monkeypatch.setattr(driver.provenance, "sources", lambda study: "another")
    again = run()
    assert again.digest == first.digest
    (tmp_path / "out" / "shards" / sorted(p.name for p in (tmp_path / "out" / "shards").glob("*.parquet"))[0]).unlink()
    with pytest.raises(InvalidStudy, match="other sources"):
        run()
    monkeypatch.undo()
    monkeypatch.setenv("SWEEP_FAKE_LOG", str(tmp_path / "fake.log"))
    run(out="parts", shard=(1, 4))
    monkeypatch.setattr(driver.provenance, "sources", lambda study: "a third")
    with pytest.raises(InvalidStudy, match="other sources"):
        run(out="parts", shard=(2, 4))  # a part of its own, of the same table


def test_the_sources_hash_sees_a_plugin_change(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("# one\n")
    raw = {"study": {"plugins": [str(plugin)]}, "axes": {"w_c": {"values": [0.5]}}, "seeds": {"looks": [8]},
           "compare": {"arms": ["lda", "ridge"], "contrast": ["lda", "ridge"]}}
    asked = study.build(raw)
    before = driver.provenance.sources(asked)
    assert driver.provenance.sources(asked) == before
    plugin.write_text("# two\n")
    assert driver.provenance.sources(asked) != before
