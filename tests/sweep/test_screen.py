"""What a running sweep says of how far it is: no more than what is done, and nothing twice."""

from __future__ import annotations

import pytest

from simlab.sweep import screen
from simlab.sweep.plan import Job


def test_a_running_job_counts_by_its_latest_share(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Two jobs of 3 cells x 2 seeds: each message counts once, whatever came before; time left goes by the speed."""
    clock = iter(float(t) for t in range(0, 1000, 20))
    monkeypatch.setattr(screen.time, "monotonic", lambda: next(clock))
    shown = screen.Screen(total=12, before=0)
    first, second = Job(0, (0, 1, 2), (0, 1)), Job(1, (0, 1, 2), (2, 3))
    for fraction in (0.5, 0.5, 1 / 3, 5 / 6):  # one that comes late takes nothing back
        shown.progress(first, fraction)
    shown.done(first)
    shown.progress(second, 0.5)
    said = [line.split(" cells")[0] for line in capsys.readouterr().err.splitlines()]
    assert said == ["3 of 12", "3 of 12", "3 of 12", "5 of 12", "6 of 12", "9 of 12"]
    shown.progress(second, 2 / 3)
    assert capsys.readouterr().err == "10 of 12 cells x seeds, 28 s left\n"  # 140 s for 10
