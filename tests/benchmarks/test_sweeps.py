"""Sweeps at scale: the machinery's time a cell, and what the stage cache saves, as ratios inside one run."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

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


@pytest.mark.benchmark(group="closed-form cells, against Optuna's own loop on sqlite")
def test_closed_form_cells(benchmark: BenchmarkFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below 2 ms a cell, the last tenth as fast as the first within 1.2 x, memory flat while cells are computed."""
    asked = closed(CELLS)
    seen: list[tuple[float, float]] = []
    keep = driver._Run._keep

    def watched(self: object, outcome: object) -> None:
        keep(self, outcome)
        pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
        seen.append((time.perf_counter(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

    monkeypatch.setattr(driver._Run, "_keep", watched)
    options = driver.Options(tmp_path / "run", workers=1, quiet=True, function="closed_form:run")
    begun, cpu = time.perf_counter(), time.process_time()
    summary = benchmark.pedantic(lambda: driver.run(asked, options), rounds=1)
    whole, cpu = time.perf_counter() - begun, time.process_time() - cpu
    formula = summary.stages["formula-us"]["computed"] / 1e6
    tenth = max(2, len(seen) // 10)
    first = (seen[tenth][0] - seen[1][0]) / (tenth - 1)  # the first job holds the worker's start
    last = (seen[-2][0] - seen[-1 - tenth][0]) / (tenth - 1)
    grown = seen[-2][1] / seen[tenth][1]
    theirs = sqlite_loop(tmp_path / "trials.db", 150)
    each = (whole - formula) / plan.n_cells(asked)
    facts = {"cells": plan.n_cells(asked),
             "driver's processor time, ms a cell": round(1e3 * cpu / plan.n_cells(asked), 3),
             "machinery, ms a cell": round(1e3 * each, 3),
             "end to end, ms a cell": round(1e3 * whole / plan.n_cells(asked), 3),
             "last tenth against first": round(last / first, 2), "driver's memory, last against first": round(grown, 2),
             "driver's peak, MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
             "sqlite loop, ms a trial": round(1e3 * theirs, 1),
             "times as fast as the sqlite loop": round(theirs * plan.n_cells(asked) / whole, 1)}
    benchmark.extra_info.update(facts)
    print("\n", facts)
    assert each < 2e-3 and last < 1.2 * first and grown < 1.2
    assert theirs * plan.n_cells(asked) > whole


@pytest.mark.benchmark(group="trained cells over two shift knobs, the stage cache on, against off")
def test_trained_cells_with_and_without_the_cache(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """The same map twice in one process: with a warm cache nothing is trained."""
    side = max(2, round((TRAINED / 10) ** 0.5))
    spread = {"low": 0.1, "high": 1.0, "n": side}
    asked = study.build({
        "study": {"name": "trained"},
        "world": {"knobs": {"n_unlab": 2000}},
        "axes": {"rel_ci": {"low": 0.5, "high": 0.9, "n": 10}, "kappa_e": spread, "delta_u_e": spread},
        "compare": {"arms": ["vicreg-frozen", "supervised"], "contrast": ["vicreg-frozen", "supervised"],
                    "cohort": "external"},
        "seeds": {"looks": [1]},
        "train": {"width": 4, "steps": 300, "n_test": 1000},
    })

    def go(cache: str) -> tuple[float, dict[str, int]]:
        progress.counted()
        start = time.perf_counter()
        for job in plan.jobs(asked, cache=cache):
            run_job(asked, job)
        return time.perf_counter() - start, progress.counted()

    off, one = go("")
    cold, two = go(str(tmp_path))
    warm, three = benchmark.pedantic(lambda: go(str(tmp_path)), rounds=1)
    facts = {"cells": plan.n_cells(asked), "pretrainings": [c.get("pretraining", 0) for c in (one, two, three)],
             "seconds off, cold, warm": [round(t, 2) for t in (off, cold, warm)],
             "cold against off": round(cold / off, 2), "off against warm": round(off / warm, 2)}
    benchmark.extra_info.update(facts)
    print("\n", facts)
    assert facts["pretrainings"] == [10, 10, 0]
    assert warm < off
