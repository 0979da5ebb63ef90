"""What benchmarks share: the folder on workers' path, and one table of ratios at the end of `make bench`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))  # spawned workers import `workloads` by name

TABLE = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Add a line (what, ratio) to the table that is printed when the run ends."""
    lines = request.config.stash.setdefault(TABLE, [])
    return lambda what, ratio: lines.append((what, ratio))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(TABLE, [])
    if lines:
        terminalreporter.section("ratios inside this run")
        wide = max(len(what) for what, _ in lines)
        for what, ratio in lines:
            terminalreporter.write_line(f"{what.ljust(wide)}  {ratio}")
