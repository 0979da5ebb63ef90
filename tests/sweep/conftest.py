"""A small study whose cells are computed by `sweep_fakes`, and runs of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simlab.sweep import driver, study
from simlab.sweep.finish import Summary
from simlab.sweep.schema import Study

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
def environment(fakes: Path) -> dict[str, str]:
    """The environment of a command run as a process of its own."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE), *filter(None, sys.path)])}


def calls(log: Path) -> list[str]:
    """What the fakes wrote, in order."""
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []
