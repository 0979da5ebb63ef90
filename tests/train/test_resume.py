"""`python -m simlab.train`, killed for good in the middle of a pretraining, and run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from simlab.cohort import Cohort, Stream, Task, save

METHOD = "lejepa-frozen-ridge"  # draws slices, batches and initial weights; its comparator has an EMA target


def cohort(path: Path) -> None:
    draw, n = np.random.default_rng(3), 160
    y = (np.arange(n) % 3 == 0).astype(float)
    values = draw.standard_normal((2, n, 1, 5)).astype(np.float32) + 0.5 * y[None, :, None, None].astype(np.float32)
    streams = {
        name: Stream(values[i], np.ones((n, 1, 5), bool), tuple("abcde"), ("",) * 5)
        for i, name in enumerate(("one", "two"))
    }
    save(Cohort(streams=streams, length=np.ones(n, int), record=np.arange(n), subject=np.arange(n),
                site=np.full(n, "x"), tasks={"death": Task("death", "binary")}, labels={"death": y}), path)  # fmt: skip


@pytest.mark.proof
def test_a_run_killed_for_good_and_run_again_gives_the_uninterrupted_numbers(tmp_path: Path) -> None:
    """SIGKILL while the second split pretrains: every part and the result equal an uninterrupted run's, byte for byte
    (tables, diagnostics, curves at about fifty steps, verdicts)."""
    cohort(tmp_path / "toy.cohort")
    settings = [word for pair in ("width=3", "steps=600", "batch=32") for word in ("--set", pair)]
    command = [sys.executable, "-m", "simlab.train", METHOD, "--data", str(tmp_path / "toy.cohort"), "--splits", "2",
               "--compare", "jepa-frozen-ridge", "--quiet", *settings, "--out"]  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*command, str(whole)], check=True, capture_output=True, timeout=600)

    process = subprocess.Popen([*command, str(broken)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not list((broken / "pretraining" / "0001").glob("*.pt")):  # a quarter of its first pretraining is on disk
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (broken / "parts" / "0001.json").exists() and not (broken / "result.json").exists()
    first = (broken / "parts" / "0000.json").stat().st_mtime_ns

    subprocess.run([*command, str(broken)], check=True, capture_output=True, timeout=600)
    assert (broken / "parts" / "0000.json").stat().st_mtime_ns == first  # computed once
    for name in ("parts/0000.json", "parts/0001.json", "result.json"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes(), name
    assert json.loads((broken / "result.json").read_text())["health"]["curve"]
    assert not list((broken / "pretraining").iterdir())
