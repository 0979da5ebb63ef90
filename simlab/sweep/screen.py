"""What a running sweep says on standard error: a bar on a terminal, else a line every ten seconds. No array module."""

from __future__ import annotations

import sys
import time
from typing import Any

from simlab.sweep.plan import Job

LINE_EVERY = 10.0  # seconds


class Screen:
    """Progress over all cells x seeds of a study, jobs finished earlier included in the count but not in the speed."""

    def __init__(self, total: int, before: int, quiet: bool = False, what: str = "cells x seeds") -> None:
        self.total, self.before, self.quiet, self.what = total, before, quiet, what
        self.finished = float(before)
        self.partial: dict[int, float] = {}  # of running jobs, in cells x seeds
        self.started = self.spoken = time.monotonic()
        self.bar: Any = None
        if not quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=before, unit="cell-seed", leave=False, smoothing=0,
                            dynamic_ncols=True,
                            bar_format="{percentage:3.0f}% |{bar}| {n:.0f}/{total} " + what + ", {remaining} left")

    def progress(self, job: Job, fraction: float) -> None:
        """A running job is this far (0 to 1)."""
        self.partial[job.index] = max(fraction * job.units, self.partial.get(job.index, 0.0))
        self._show()

    def done(self, job: Job) -> None:
        self.partial.pop(job.index, None)
        self.finished += job.units
        self._show()

    def say(self, text: str) -> None:
        """One line for the user, above the bar if there is one."""
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def _show(self) -> None:
        now, at = time.monotonic(), self.finished + sum(self.partial.values())
        if self.bar is not None:
            self.bar.update(max(0.0, at - self.bar.n))
        elif not self.quiet and now - self.spoken >= LINE_EVERY and at < self.total:
            self.spoken = now
            print(f"{at:.0f} of {self.total} {self.what}, {duration(self._left(now, at))} left", file=sys.stderr,
                  flush=True)

    def _left(self, now: float, at: float) -> float | None:
        made = at - self.before
        return (now - self.started) / made * (self.total - at) if made > 0 else None


def duration(seconds: float | None) -> str:
    """Seconds in words: "40 s", "3 min", "2.5 h", "unknown time"."""
    if seconds is None:
        return "unknown time"
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
