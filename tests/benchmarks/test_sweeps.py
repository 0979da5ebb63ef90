"""Sweeps at scale: the machinery's time a cell, and what the stage cache saves, as ratios inside one run."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simlab.sweep import driver, plan, progress, study
from simlab.sweep.job import run_job

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # `closed_form` is imported here and, by name, in workers

import closed_form  # noqa: E402

CELLS = int(os.environ.get("SIMLAB_BENCH_CELLS", "100000"))
TRAINED = int(os.environ.get("SIMLAB_BENCH_TRAINED", "2000"))


def closed(cells: int) -> study.Study:
    across = 100
    return study.build({
        "study": {"name": "closed"},
        "axes": {"w_c": {"low": 0.05, "high": 0.95, "n": cells // across},
                 "n_lab": list(range(100, 100 + 3 * across, 3))},
        "compare": {"arms": ["lda", "cca-lda"], "contrast": ["cca-lda", "lda"]},
        "seeds": {"looks": [1]},
        "train": {"width": 4},
    })


def sqlite_loop(path: Path, trials: int) -> float:
    """Seconds a trial of Optuna's own loop on sqlite, one process, for the same two formulas."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = optuna.create_study(storage=f"sqlite:///{path}", sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: optuna.Trial) -> float:
        w_c = round(0.05 + 0.9 * trial.suggest_int("row", 0, 999) / 999, 10)
        n = trial.suggest_int("n_lab", 100, 400)
        one, two = closed_form.value("cca-lda", w_c, n), closed_form.value("lda", w_c, n)
        trial.set_user_attr("cca-lda", one)
        trial.set_user_attr("lda", two)
        return one - two

    start = time.perf_counter()
    found.optimize(objective, n_trials=trials)
    return (time.perf_counter() - start) / trials


def sqlite_trainings(asked: study.Study, path: Path, trials: int) -> float:
    """Processor seconds a trial of Optuna's own loop on sqlite over the same map: each trial trains its cell's arms."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = optuna.create_study(storage=f"sqlite:///{path}", sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: optuna.Trial) -> float:
        cell = trial.suggest_int("cell", 0, plan.n_cells(asked) - 1)
        rows = run_job(asked, plan.Job(0, (cell,), (0,)))
        value = {r["method"]: r["value"] for r in rows if r["metric"] == "auc" and r["cohort"] == "external"}
        for arm, area in value.items():
            trial.set_user_attr(arm, area)
        return value["vicreg-frozen"] - value["supervised"]

    start = time.process_time()
    found.optimize(objective, n_trials=trials)
    return (time.process_time() - start) / trials


def processor_seconds() -> float:
    """Of this process and of the workers that it has ended: what work takes, whatever else the machine does."""
    mine, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 1
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.benchmark(group="closed-form cells, against Optuna's own loop on sqlite")
def test_closed_form_cells(benchmark: BenchmarkFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machinery below 2 ms a cell, the last tenth as fast as the first within 1.2 x, memory flat while cells are made.

    The machinery's time is processor time of driver and worker, all of it (imports, table, verdicts, figure) but the
    formulas': wall clock would measure what else runs. Seconds of wall clock stand beside it.
    """
    asked = closed(CELLS if benchmark.enabled else 600)
    seen: list[tuple[float, float, float]] = []  # after each job: wall clock, the driver's processor time, its memory
    tell = driver.Run._tell

    def watched(self: object, *told: object) -> None:
        tell(self, *told)
        seen.append((time.perf_counter(), time.process_time(), resident_mb()))

    monkeypatch.setattr(driver.Run, "_tell", watched)
    options = driver.Options(tmp_path / "run", workers=1, quiet=True, function="closed_form:run")
    begun, used = time.perf_counter(), processor_seconds()
    summary = benchmark.pedantic(lambda: driver.run(asked, options), rounds=1)
    whole, used = time.perf_counter() - begun, processor_seconds() - used
    formula = summary.stages["formula-us"]["computed"] / 1e6
    n = plan.n_cells(asked)
    kept = seen[-summary.jobs_run:]  # before these: what an earlier run had finished
    assert len(kept) == summary.jobs_run == len(plan.jobs(asked))
    if not benchmark.enabled:  # in the ordinary suite: that it runs
        return
    tenths = np.array_split(np.array(kept), min(10, len(kept) // 2))
    first, last = tenths[0], tenths[-1]
    wall, mine = (float((last[-1, i] - last[0, i]) / (first[-1, i] - first[0, i])) for i in (0, 1))
    memory = float(last[-1, 2] / first[-1, 2])
    theirs = sqlite_loop(tmp_path / "trials.db", 150)
    each = (used - formula) / n
    facts = {"cells": n, "machinery, ms a cell (processor)": round(1e3 * each, 3),
             "formulas, ms a cell (processor)": round(1e3 * formula / n, 3),
             "end to end, ms a cell (wall clock)": round(1e3 * whole / n, 3),
             "last tenth against first (driver's processor)": round(mine, 2),
             "last tenth against first (wall clock)": round(wall, 2),
             "driver's memory, last tenth against first": round(memory, 2),
             "driver's peak, MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
             "sqlite loop, ms a trial (wall clock)": round(1e3 * theirs, 1),
             "times as fast as the sqlite loop": round(theirs * n / whole, 1)}
    benchmark.extra_info.update(facts)
    print("\n", facts)
    assert each < 2e-3 and mine < 1.2 and memory < 1.2
    assert theirs * n > whole


@pytest.mark.benchmark(group="trained cells over two shift knobs, the stage cache on, against off")
def test_trained_cells_with_and_without_the_cache(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """The same map in one process with the cache off, cold and warm, beside Optuna's loop, whose trials share nothing.

    With a warm cache nothing is trained. Off is fast too: a job trains once for all its cells; the cache serves other
    jobs, runs and studies.
    """
    sources, steps = (10, 300) if benchmark.enabled else (2, 3)
    side = max(2, round((TRAINED / 10) ** 0.5)) if benchmark.enabled else 2
    spread = {"low": 0.1, "high": 1.0, "n": side}
    asked = study.build({
        "study": {"name": "trained"},
        "world": {"knobs": {"n_unlab": 2000}},
        "axes": {"rel_ci": {"low": 0.5, "high": 0.9, "n": sources}, "kappa_e": spread, "delta_u_e": spread},
        "compare": {"arms": ["vicreg-frozen", "supervised"], "contrast": ["vicreg-frozen", "supervised"],
                    "cohort": "external"},
        "seeds": {"looks": [1]},
        "train": {"width": 4, "steps": steps, "n_test": 1000},
    })

    def go(cache: str) -> tuple[float, dict[str, int]]:
        progress.counted()
        start = time.process_time()
        for job in plan.jobs(asked, cache=cache):
            run_job(asked, job)
        return time.process_time() - start, progress.counted()

    off, one = go("")
    cold, two = go(str(tmp_path))
    warm, three = benchmark.pedantic(lambda: go(str(tmp_path)), rounds=1)
    assert [c.get("pretraining", 0) for c in (one, two, three)] == [sources, sources, 0]
    if not benchmark.enabled:
        return
    theirs = sqlite_trainings(asked, tmp_path / "trials.db", 6) * plan.n_cells(asked)
    facts = {"cells": plan.n_cells(asked), "pretrainings": [c.get("pretraining", 0) for c in (one, two, three)],
             "processor seconds off, cold, warm": [round(t, 2) for t in (off, cold, warm)],
             "cold against off": round(cold / off, 2), "off against warm": round(off / warm, 2),
             "sqlite loop, processor seconds for as many cells": round(theirs),
             "times as fast as the sqlite loop (cold)": round(theirs / cold, 1)}
    benchmark.extra_info.update(facts)
    print("\n", facts)
    assert warm < off and cold < theirs
