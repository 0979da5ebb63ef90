"""What a study's results may claim, in real git repositories: confirmatory only where nothing speaks against it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TOML, InThisProcess

from simlab.sweep import __main__ as command
from simlab.sweep import driver, standing, study
from simlab.sweep.finish import Summary
from simlab.sweep.folder import Folder
from simlab.sweep.standing import Origin

HOUR = 3600.0


def git(where: Path, *words: str, at: float | None = None) -> None:
    """A git command as an author of no name, at a time."""
    when = {} if at is None else {key: f"{int(at)} +0000" for key in ("GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE")}
    who = {f"GIT_{role}_{key}": "a@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    subprocess.run(["git", "-C", str(where), *words], check=True, capture_output=True,
                   env={**os.environ, **who, **when, "GIT_CONFIG_GLOBAL": os.devnull})


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> Path:
    """A repository with a committed study, an hour old; runs happen in this process, in its folder."""
    root = tmp_path / "lab"
    (root / "studies").mkdir(parents=True)
    (root / "studies/small.toml").write_text(TOML, encoding="utf-8")
    git(root, "init", "-q")
    git(root, "add", "studies")
    git(root, "commit", "-q", "-m", "the study, before its results", at=time.time() - HOUR)
    monkeypatch.chdir(root)
    monkeypatch.setattr(driver, "Pool", InThisProcess)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return root


Run = Callable[..., Summary]


@pytest.fixture
def go(repository: Path) -> Run:
    """Run the repository's study, as the command does."""

    def run(out: str = "runs/small", name: str = "small", overrides: tuple[str, ...] = (), **options: Any) -> Summary:
        path = Path(f"studies/{name}.toml")
        chosen = study.load(str(path), overrides)
        return driver.run(chosen, driver.Options(repository / out, 1, quiet=True, function="sweep_fakes:good",
                                                 origin=Origin(path, overrides), **options))

    return run


def test_a_committed_study_with_fresh_seeds_confirms(go: Run, repository: Path) -> None:
    found = go()
    assert found.standing["kind"] == "confirmatory"
    assert "studies/small.toml was committed" in found.standing["reason"] and "seed 7" in found.standing["reason"]
    manifest = json.loads((repository / "runs/small/manifest.json").read_text(encoding="utf-8"))
    assert manifest["standing"] == found.standing and str(repository) not in json.dumps(manifest["runs"])
    assert found.atlas is not None and found.atlas.standing == "confirmatory"
    assert "\nconfirmatory: studies/small.toml" in found.text and "\nHolm over all 6 cells" in found.text
    again = go()  # nothing is left to compute: the standing is that of the runs that computed
    assert again.jobs_run == 0 and again.standing == found.standing


def test_it_is_committed_but_something_else_speaks_against_it(go: Run, repository: Path) -> None:
    """Overrides; a seed that another run or a published result has used; results that came before."""
    found = go(out="runs/other", overrides=("train.steps=5",))
    assert found.standing == {"kind": "exploratory", "reason":
                              "--set train.steps=5 changed what the study's file says"}
    assert "\nexploratory: --set" in found.text and "\nBenjamini-Hochberg over all" in found.text
    used = go().standing
    assert used["kind"] == "exploratory" and used["reason"].startswith("its seed 7 was used before by runs/other")
    assert go(out="elsewhere/small").standing["reason"].startswith("its seed 7 was used before by runs/")


def test_published_results_count_also_where_the_run_is_gone(go: Run, repository: Path) -> None:
    go(out="runs/first")
    kept = repository / "results/small"
    kept.mkdir(parents=True)
    (repository / "runs/first").rename(repository / "gone")
    (repository / "gone/manifest.json").rename(kept / "manifest.json")
    time.sleep(1.1)  # manifests write whole seconds
    assert "was used before by results/small" in go().standing["reason"]
    fresh = TOML.replace("seed = 7", "seed = 8")
    (repository / "studies/small.toml").write_text(fresh, encoding="utf-8")
    git(repository, "commit", "-qam", "fresh seeds", at=time.time())
    assert go(out="runs/fresh").standing["kind"] == "confirmatory"


def test_a_later_run_of_the_same_seed_leaves_the_first_as_it_is(go: Run, repository: Path) -> None:
    assert go(retry_failed=False).standing["kind"] == "confirmatory"
    time.sleep(1.1)
    assert go(out="runs/again").standing["kind"] == "exploratory"
    (repository / "runs/small/shards/job-00000.parquet").unlink()
    assert go().jobs_run == 1 and go().standing["kind"] == "confirmatory"  # began before runs/again did


@pytest.mark.parametrize(("change", "reason"), [
    ("edited", "studies/small.toml differs from what is committed"),
    ("new", "studies/new.toml is not committed"),
    ("staged", "studies/new.toml is not committed"),
])
def test_a_file_that_is_not_as_committed(go: Run, repository: Path, change: str, reason: str) -> None:
    name = "small" if change == "edited" else "new"
    (repository / f"studies/{name}.toml").write_text(TOML + "# edited\n", encoding="utf-8")
    if change == "staged":
        git(repository, "add", "studies/new.toml")
    assert go(name=name).standing == {"kind": "exploratory", "reason": reason}


def test_a_folder_of_before_runs_kept_records_is_judged_by_dates(go: Run, repository: Path) -> None:
    go()
    path = repository / "runs/small/manifest.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    del whole["runs"][0]["witness"]
    path.write_text(json.dumps(whole), encoding="utf-8")
    found = go().standing
    assert found["kind"] == "confirmatory" and "(seen afterwards, by its date)" in found["reason"]
    assert go().standing == found  # kept
    path.write_text(json.dumps(whole), encoding="utf-8")
    (repository / "studies/small.toml").write_text(TOML + "# a remark\n", encoding="utf-8")
    git(repository, "commit", "-qam", "a remark", at=time.time() + 5)
    assert go().standing["reason"] == "the commit of studies/small.toml is dated later than the first results"
    path.write_text(json.dumps(whole), encoding="utf-8")
    bare = driver.run(study.load("studies/small.toml"), driver.Options(repository / "runs/small", 1, quiet=True))
    assert bare.standing["reason"] == "a run of this folder has no record of the study file that it used"


def test_committed_between_its_runs_is_too_late(go: Run, repository: Path) -> None:
    """The first run saw an uncommitted file; later runs of the folder cannot mend that."""
    path = repository / "studies/small.toml"
    path.write_text(TOML + "# edited\n", encoding="utf-8")
    go()
    git(repository, "commit", "-qam", "too late", at=time.time() - HOUR)
    (repository / "runs/small/shards/job-00000.parquet").unlink()
    assert go().standing["reason"] == "studies/small.toml differs from what is committed"


def test_a_file_that_changed_after_the_first_results(go: Run, repository: Path) -> None:
    assert go().standing["kind"] == "confirmatory"
    (repository / "studies/small.toml").write_text(TOML + "# a remark\n", encoding="utf-8")
    git(repository, "commit", "-qam", "a remark")
    (repository / "runs/small/shards/job-00000.parquet").unlink()
    assert go().standing["reason"] == "studies/small.toml changed after the first results"


def test_a_commit_dated_after_the_results_and_cells_that_were_looked_at(go: Run, repository: Path) -> None:
    (repository / "studies/late.toml").write_text(TOML.replace("seed = 7", "seed = 8"), encoding="utf-8")
    git(repository, "add", "studies")
    git(repository, "commit", "-qm", "from the future", at=time.time() + HOUR)
    assert go(out="runs/late", name="late").standing["reason"].endswith("is dated later than the first results")
    looked = repository / "runs/small/artefacts"
    looked.mkdir(parents=True)
    (looked / "0-0-lda.npz").write_bytes(b"")
    assert "looked at (--cell) before the first run" in go().standing["reason"]


def test_no_git_and_no_file(tmp_path: Path, run: Run, undrawn: None) -> None:
    (tmp_path / "small.toml").write_text(TOML, encoding="utf-8")
    assert standing.committed(tmp_path / "small.toml")["problem"] == (
        "small.toml is in no git repository with a commit of it")
    assert "is not there" in standing.committed(tmp_path / "none.toml")["problem"]
    assert standing.judge({})["kind"] == "exploratory" == standing.judge({"runs": [{"started": "2026"}]})["kind"]
    small = study.load(str(tmp_path / "small.toml"))
    assert standing.witness(small, None, Folder(tmp_path))["problem"] == "it was not started from a study file"


def test_the_command_says_it(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["small", "--json", "--quiet", "--workers", "1"], "sweep_fakes:good") == 0
    assert json.loads(capsys.readouterr().out)["standing"]["kind"] == "confirmatory"
    assert command.main(["small", "--set", "h2=0.4", "--out", "runs/noisy", "--workers", "1"], "sweep_fakes:good") == 0
    assert "exploratory: --set h2=0.4 changed what the study's file says" in capsys.readouterr().out
