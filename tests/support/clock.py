"""Times as ratios inside one run, in processor seconds: a test of speed knows no machine, nor who else uses it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import simlab

ROOT = Path(simlab.__file__).parents[1]
# What a command line imports of the standard library: the plain reference that a light command is held against.
PLAIN = "import argparse, dataclasses, hashlib, importlib.metadata, json, multiprocessing.connection, tomllib, zipfile"


def over_a_plain_start(words: Sequence[str], environment: Mapping[str, str] | None = None, *, below: float) -> float:
    """Processor seconds of `python WORDS` over those of a start that imports the standard library alone.

    The least of up to five pairs (the first may compile modules), fewer where one is already `below`. Raises
    CalledProcessError where the command fails.
    """
    least = float("inf")
    for _ in range(5):
        plain = _child(["-c", PLAIN], environment)
        least = min(least, _child(words, environment) / plain)
        if least < below:
            break
    return least


def over(ours: Callable[[], object], plain: Callable[[], object], repeats: int = 5) -> float:
    """Processor seconds of one piece of work over those of another, taken in turn, the least of each."""
    best = [float("inf")] * 2
    for _ in range(repeats):
        for i, work in enumerate((ours, plain)):
            start = time.process_time()
            work()
            best[i] = min(best[i], time.process_time() - start)
    return best[0] / best[1]


def _child(words: Sequence[str], environment: Mapping[str, str] | None) -> float:
    """User and system seconds of that process alone, its own children included."""
    child = subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)  # fmt: skip
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, words, stderr=said)
    return used.ru_utime + used.ru_stime
