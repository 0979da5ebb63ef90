"""Jobs that stand in for training: quick, deterministic, or broken on purpose. Run in a sweep's workers.

Each call leaves a line in the file named by SWEEP_FAKE_LOG, so that tests can count what was computed.
"""

from __future__ import annotations

import math
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from simlab.sweep import plan, progress
from simlab.sweep.cache import Cache
from simlab.sweep.plan import Job
from simlab.sweep.schema import Study
from simlab.sweep.trial import Trial


def _log(text: str) -> None:
    with Path(os.environ["SWEEP_FAKE_LOG"]).open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def _mark(name: str) -> bool:
    """True the first time that this name is asked for (across processes)."""
    try:
        os.close(os.open(f"{os.environ['SWEEP_FAKE_LOG']}.{name}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def row(cell: int, seed: int, method: str, value: float | None, metric: str = "auc", **more: Any) -> dict[str, Any]:
    return {"cell": cell, "seed": seed, "method": method, "cohort": "test", "task": "outcome", "metric": metric,
            "value": value, "se": 0.001, "n": 1000, "limit": 0.9, "status": "ok", "error": "", **more}


def score(study: Study, cell: int, seed: int, arm: str) -> float:
    """A made-up AUC: the frozen arm gains with w_c and loses with labels; noise from (cell, seed, arm) alone."""
    point = plan.cell(study, cell)
    w, n = float(point.get("w_c", 0.5)), float(point.get("n_labelled", 300))
    noise = random.Random(f"{cell}-{seed}-{arm}").gauss(0, 0.004)
    shared = random.Random(f"{cell}-{seed}").gauss(0, 0.02)  # common to the arms of a seed: paired away
    return 0.75 + shared + noise + (0.1 * (w - 0.5) - 0.03 * (n / 200 - 1) if arm.endswith("frozen") else 0.0)


def rows(study: Study, job: Job) -> list[dict[str, Any]]:
    found = []
    for cell in job.cells:
        for seed in job.seeds:
            for arm in study.arms:
                found.append(row(cell, seed, arm, score(study, cell, seed, arm)))
                found.append(row(cell, seed, arm, 0.1, metric="diag/leak-z"))
    random.Random(job.index).shuffle(found)  # the table does not depend on a job's own order
    return found


def good(study: Study, job: Job) -> list[dict[str, Any]]:
    _log(f"job {job.index} threads {os.environ['OMP_NUM_THREADS']}")
    progress.report(0.5)
    return rows(study, job)


if "SWEEP_FAKE_START" in os.environ:  # a worker that is slow to start
    time.sleep(float(os.environ["SWEEP_FAKE_START"]))


def hammer(folder: str, worker: int) -> int:
    """Ask for and fill the same few cache entries again and again; how many of 60 were right, 0 if any was damaged."""
    cache, good = Cache(folder, limit_mb=0.5), 0
    for i in range(60):
        key = f"{i % 7:064x}"
        with cache.claim(key):
            found = cache.get(key)
            if found is None:
                cache.put(key, {"x": np.full(4000, i % 7)})
        good += found is None or bool((found["x"] == i % 7).all())
    return good * (cache.damaged == 0)


def slow(study: Study, job: Job) -> list[dict[str, Any]]:
    _log(f"job {job.index} pid {os.getpid()}")
    if job.index >= 2:
        time.sleep(60)
    return rows(study, job)


def dies_once(study: Study, job: Job) -> list[dict[str, Any]]:
    if job.index == 1 and _mark("died"):
        os.kill(os.getpid(), signal.SIGKILL)
    return good(study, job)


def dies_always(study: Study, job: Job) -> list[dict[str, Any]]:
    if job.index == 1:
        _log("died")
        os.kill(os.getpid(), signal.SIGKILL)
    return good(study, job)


def hangs(study: Study, job: Job) -> list[dict[str, Any]]:
    if job.index == 1:
        _log("hung")
        time.sleep(600)
    return good(study, job)


def one_arm_hangs_another_dies(study: Study, job: Job) -> list[dict[str, Any]]:
    """In job 1: one arm never ends, one kills its worker each time, the third is well."""
    _log(f"job {job.index} {' '.join(study.arms)}")
    if job.index == 1 and "lda" in study.arms:
        time.sleep(600)
    if job.index == 1 and "supervised" in study.arms:
        os.kill(os.getpid(), signal.SIGKILL)
    return rows(study, job)


def hoards(study: Study, job: Job) -> list[dict[str, Any]]:
    if job.index == 1:
        _log("hoarded")
        hoard = bytearray(os.urandom(1 << 20) * 400)
        time.sleep(600)
        del hoard
    return good(study, job)


def raises(study: Study, job: Job) -> list[dict[str, Any]]:
    if job.index == 1 and (_mark("raised") or not os.environ.get("SWEEP_FAKE_HEALS")):
        raise ValueError("the planted fault\nwith a second line")
    return good(study, job)


def one_arm_fails(study: Study, job: Job) -> list[dict[str, Any]]:
    _log(f"job {job.index}")
    bad = {"value": None, "se": None, "limit": None, "n": 0, "status": "failed", "error": "ValueError: no fit",
           "cohort": "", "task": "", "metric": ""}
    kept = [r for r in rows(study, job) if not (r["method"] == "lda" and r["cell"] == 0)]
    return kept + [row(0, seed, "lda", None) | bad for seed in job.seeds if 0 in job.cells]


def leaks(study: Study, job: Job) -> list[dict[str, Any]]:
    found = good(study, job)
    return [r | {"value": 9.0} if r["metric"] == "diag/leak-z" and r["method"] == "lda" else r for r in found]


def alien(study: Study, job: Job) -> list[dict[str, Any]]:
    return [row(999, 0, "lda", 0.5)]


def kills_its_carrier_once(study: Study, job: Job) -> list[dict[str, Any]]:
    """Kills the process that started this one (a Dask worker) in the middle of a job, once."""
    if job.index == 1 and _mark("carrier"):
        _log("carrier killed")
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)  # this worker's pipe ends now, and with it this process
    return good(study, job)


def diverges_raises_and_hangs(study: Study, job: Job) -> list[dict[str, Any]]:
    """Job 0 diverges in one arm, job 1 raises, job 2 never ends, the last is well."""
    if job.index == 0:
        bad = {"value": None, "se": None, "limit": None, "n": 0, "status": "diverged", "cohort": "", "task": "",
               "metric": "", "error": "Diverged: vicreg diverged at step 3: the loss is [nan]; lower it."}
        kept = [r for r in good(study, job) if r["method"] != "vicreg-frozen"]
        return kept + [row(c, s, "vicreg-frozen", None) | bad for c in job.cells for s in job.seeds]
    if job.index == 1:
        raise RuntimeError("no fit")
    return hangs(study, Job(1, job.cells, job.seeds)) if job.index == 2 else good(study, job)


def tries(study: Study, trial: Trial) -> list[dict[str, Any]]:
    """A tuning trial whose score peaks at learning_rate = .01, penalty = 1 and width = 8."""
    _log(f"trial {trial.cells[0]} {trial.arm} {trial.number} threads {os.environ['OMP_NUM_THREADS']}")
    best = {"learning_rate": 0.01, "penalty": 1.0, "width": 8}
    away = sum(math.log10(float(v) / best[k]) ** 2 for k, v in trial.setting if k in best)
    bad = trial.number == 1  # one trial of each arm fails in one seed, and so has no score
    return [{"seed": s, "score": None if bad and s else 0.8 - 0.05 * away - 0.001 * s,
             "error": "ValueError: no fit" if bad and s else ""} for s in trial.seeds]


def dies_beside_an_edit(study: Study, job: Job) -> list[dict[str, Any]]:
    """Job 1 edits the study's plug-in and kills its worker, as a person and a machine may."""
    if job.index == 1:
        with Path(study.plugins[0]).open("a", encoding="utf-8") as file:
            file.write("# edited\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return good(study, job)
