"""A small study whose cells are computed by `sweep_fakes`, and runs of it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from simlab.sweep import driver, progress, study
from simlab.sweep.finish import Summary
from simlab.sweep.plan import Job
from simlab.sweep.pool import Outcome
from simlab.sweep.schema import Study
from simlab.sweep.worker import resolve

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if str(HERE) not in sys.path:  # `sweep_fakes` is imported by tests and, by name, in workers
    sys.path.insert(0, str(HERE))
TOML = """
[study]
name = "small"
question = "Does it work?"
seed = 7
[axes]
w_c = [0.2, 0.8]
n_labelled = [100, 200, 400]
[compare]
arms = ["vicreg-frozen", "supervised", "lda"]
contrast = ["vicreg-frozen", "lda"]
[seeds]
looks = [8]
[train]
fleet = 2
width = 4
"""  # 6 cells, 8 seeds, 4 jobs


PATIENCE = 300.0  # seconds that an event may take on a loaded machine; when all is well nothing waits for it


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Go on as soon as the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited too long for {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie that nobody has reaped does not)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        with contextlib.suppress(OSError):
            os.kill(pid, 0)
            return not Path("/proc/self/stat").exists()
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The log that the jobs of `sweep_fakes` write."""
    monkeypatch.setenv("SWEEP_FAKE_LOG", str(tmp_path / "fake.log"))
    return tmp_path / "fake.log"


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(TOML, encoding="utf-8")
    return path


@pytest.fixture
def small(toml: Path) -> Study:
    return study.load(str(toml))


@pytest.fixture
def run(small: Study, tmp_path: Path) -> Callable[..., Summary]:
    """Run the small study (or another) with a fake job into tmp_path/out (or another folder)."""

    def go(function: str = "good", which: Study | None = None, out: str = "out", **options: Any) -> Summary:
        given = {"workers": 1, "quiet": True, **options}
        return driver.run(which or small, driver.Options(tmp_path / out, function=f"sweep_fakes:{function}", **given))

    return go


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure: it has tests of its own, and takes most of a small run's time."""

    def blank(_: object, png: Path, pdf: Path) -> None:
        png.write_bytes(b"")
        pdf.write_bytes(b"")

    monkeypatch.setattr("simlab.sweep.figure.save", blank)


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the small study, run once and undisturbed by one worker: what every other way must come to."""
    folder = tmp_path_factory.mktemp("calm")
    (folder / "small.toml").write_text(TOML, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_FAKE_LOG", str(folder / "fake.log"))
        patch.setattr("simlab.sweep.figure.save", lambda *_: None)
        options = driver.Options(folder / "out", workers=1, quiet=True, function="sweep_fakes:good")
        return driver.run(study.load(str(folder / "small.toml")), options).digest


@pytest.fixture
def environment(fakes: Path) -> dict[str, str]:
    """The environment of a command run as a process of its own."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE), *filter(None, sys.path)])}


class InThisProcess:
    """In the place of the pool, where torch is imported already: for what is not about processes."""

    def __init__(self, study: Study, function: str, *_: object) -> None:
        self.study, self.function = study, resolve(function)

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *_: object) -> None: ...

    def run(self, jobs: list[Job]) -> Iterator[Outcome]:
        for job in jobs:
            progress.counted()
            yield Outcome(job, "ok", self.function(self.study, job), counts=progress.counted())


def calls(log: Path) -> list[str]:
    """What the fakes wrote, in order."""
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []
