"""Training against plain loops (`workloads.py`), interleaved in one run: on one core in processor time, on two by the
clock. `make bench` prints the ratios; docs/performance.md holds them. Without --benchmark-enable all run a few steps.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import optuna
import pytest
import torch
import workloads
from pytest_benchmark.fixture import BenchmarkFixture

from simlab.objectives import ema
from simlab.training import loop, objective
from simlab.training import pretrain as pretraining

Note = Callable[[str, str], None]
FLEET = {"W1": 4, "W2": 32}  # members trained at once
TARGET = {"W1": 1.3, "W2": 5.0}  # times the plain loop
STEPS = int(os.environ.get("SIMLAB_BENCH_STEPS", "500"))
ROUNDS, TRIALS = 3, 32


def seconds(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start


def product_rate(threads: int) -> float:
    """Floating-point operations a second of 1024 x 1024 matrix products (one thread: of processor time)."""
    torch.set_num_threads(threads)
    a = torch.randn(1024, 1024)
    clock = time.process_time if threads == 1 else time.perf_counter
    return 2 * 1024**3 / min(seconds(lambda: a @ a, clock) for _ in range(10))


def compared(
    theirs: Callable[[], object], ours: Callable[[], object], rounds: int, clock: Callable[[], float]
) -> tuple[float, float, float]:
    """Median ratio of paired rounds, and the best seconds of each."""
    both = np.array([(seconds(theirs, clock), seconds(ours, clock)) for _ in range(rounds)])
    return float(np.median(both[:, 0] / both[:, 1])), *both.min(axis=0)


def said(ratio: float, name: str, steps: int, theirs: float, ours: float, members: int, rate: float) -> str:
    """The ratio, and what share of the matrix-product rate plain and ours reach (seconds of one and of all members)."""
    done = workloads.operations(name) * steps / rate
    return f"{ratio:5.2f}   of the product rate: plain {done / theirs:.1%}, ours {members * done / ours:.1%}"


@pytest.mark.benchmark(group="training against the plain loop, one core")
@pytest.mark.parametrize("name", ["W1", "W2"])
def test_one_core(name: str, benchmark: BenchmarkFixture, note: Note) -> None:
    """At least 1.3 times (W1) and 5 times (W2) as fast a model as one `nn.Module` after the other."""
    steps, rounds, members = (3, 1, 2) if benchmark.disabled else (STEPS, ROUNDS, FLEET[name])
    torch.set_num_threads(1)
    views = workloads.pairs(members)
    one = {role: x[0] for role, x in views.items()}
    workloads.plain(name, **one, steps=3)
    benchmark.pedantic(lambda: workloads.ours(name, views, 3), rounds=1)
    ratio, theirs, ours = compared(
        lambda: workloads.plain(name, **one, steps=steps),
        lambda: workloads.ours(name, views, steps),
        rounds,
        time.process_time,
    )
    ratio *= members
    if benchmark.disabled:
        return
    note(f"{name}, one core, fleet of {members}", said(ratio, name, steps, theirs, ours, members, product_rate(1)))
    assert ratio > TARGET[name]


PIECES = {"batches": (pretraining, "_batches"), "forward": (objective, "loss"), "backward": (torch.Tensor, "backward"),
          "clip": (loop, "clip_members"), "AdamW": (torch.optim.AdamW, "step"), "EMA": (ema, "update"),
          "diagnostics": (objective, "observe")}  # fmt: skip


@pytest.mark.benchmark(group="where a training's time goes")
@pytest.mark.parametrize("name", ["W1", "W2"])
def test_profile(name: str, benchmark: BenchmarkFixture, note: Note, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares of processor time of one fleet on one core, by piece of the loop."""
    steps, members = (3, 2) if benchmark.disabled else (STEPS, FLEET[name])
    spent = dict.fromkeys(PIECES, 0.0)

    def timed(piece: str, work: Callable[..., object]) -> Callable[..., object]:
        def around(*args: object, **more: object) -> object:
            start = time.process_time()
            made = work(*args, **more)
            spent[piece] += time.process_time() - start
            return timed(piece, made) if piece in ("batches", "forward") and callable(made) else made
        return around

    for piece, (place, attribute) in PIECES.items():
        monkeypatch.setattr(place, attribute, timed(piece, getattr(place, attribute)))
    torch.set_num_threads(1)
    views = workloads.pairs(members)
    whole = benchmark.pedantic(lambda: seconds(lambda: workloads.ours(name, views, steps), time.process_time), rounds=1)
    assert all(spent[piece] > 0 for piece in PIECES if piece != "EMA" or name == "W1")
    if not benchmark.disabled:
        note(f"{name}, where the time goes", ", ".join(f"{piece} {s / whole:.0%}" for piece, s in spent.items() if s))


@pytest.mark.benchmark(group="training against the plain loop, two cores")
@pytest.mark.parametrize("name", ["W1", "W2"])
def test_two_cores(name: str, benchmark: BenchmarkFixture, note: Note) -> None:
    """The plain loop with two threads; ours as sweeps run it, two one-thread workers with a fleet each."""
    if benchmark.disabled:
        pytest.skip("a timing on two processes: make bench")
    members = FLEET[name]
    views = [workloads.pairs(members, seed) for seed in (0, 1)]
    one = {role: x[0] for role, x in views[0].items()}
    with multiprocessing.get_context("spawn").Pool(2, torch.set_num_threads, (1,)) as pool:
        def fleets() -> None:
            pool.starmap(workloads.timed, [(name, v, STEPS) for v in views], chunksize=1)

        pool.starmap(workloads.timed, [(name, v, 3) for v in views], chunksize=1)
        torch.set_num_threads(2)
        benchmark.pedantic(lambda: None, rounds=1)
        ratio, theirs, ours = compared(
            lambda: workloads.plain(name, **one, steps=STEPS), fleets, ROUNDS, time.perf_counter
        )
    ratio *= 2 * members
    rate = product_rate(2)
    note(f"{name}, two cores, two fleets of {members}", said(ratio, name, STEPS, theirs, ours, 2 * members, rate))
    assert ratio > TARGET[name]


@pytest.mark.benchmark(group="32 trials with a probe, two cores, against study.optimize")
def test_trials(benchmark: BenchmarkFixture, note: Note) -> None:
    """W3: data, W2 and a probe for each of 32 trials. Optuna's own loop with two threads; ours: two fleets of 16."""
    if benchmark.disabled:
        pytest.skip("a timing on two processes: make bench")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def loop() -> None:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        study.optimize(lambda trial: workloads.probed_plainly(trial.suggest_int("seed", 0, 10**6), STEPS), TRIALS)

    with multiprocessing.get_context("spawn").Pool(2) as pool:
        def ours() -> None:
            pool.map(workloads.probed, [(0, TRIALS // 2, STEPS), (1, TRIALS // 2, STEPS)], chunksize=1)

        pool.map(workloads.probed, [(0, 1, 1), (1, 1, 1)], chunksize=1)  # both workers have imported torch
        torch.set_num_threads(2)
        benchmark.pedantic(lambda: None, rounds=1)
        ratio, _, _ = compared(loop, ours, 1, time.perf_counter)
    torch.set_num_threads(1)
    note("W3, two cores, against study.optimize", f"{ratio:5.2f}")
    assert ratio > 3


CHILD = """
import resource, sys
from simlab.sweep import plan, study
from simlab.sweep.job import run_job
members = int(sys.argv[1])
if members:
    asked = study.build({
        "study": {"name": "memory"}, "axes": {"w_c": {"values": [0.8]}}, "seeds": {"looks": [members]},
        "compare": {"arms": ["jepa-frozen", "vicreg-frozen"], "contrast": ["jepa-frozen", "vicreg-frozen"]},
        "train": {"encoder": "mlp", "width": 32, "hidden": 128, "steps": 20, "fleet": members},
    })
    run_job(asked, plan.jobs(asked)[0])
if sys.platform == "linux":  # ru_maxrss begins with the parent's peak there
    print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 2**10)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.benchmark(group="peak memory of a worker")
def test_memory(benchmark: BenchmarkFixture, note: Note) -> None:
    """A job of the default world (MLPs of W1's size): below 2 GB for 16 seeds in one fleet; what a member adds."""
    if benchmark.disabled:
        pytest.skip("processes of their own: make bench")
    benchmark.pedantic(lambda: None, rounds=1)

    def peak(members: int) -> float:
        """MiB; without a member: what the imports take."""
        command = [sys.executable, "-c", CHILD, str(members)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    base, one, many = peak(0), peak(1), peak(16)
    growth = f"{(many - one) / 15:.0f} a member"
    sizes = f"imports {base:.0f}, one seed {one:.0f}, 16 {many:.0f}: {growth}"
    note("peak memory of a worker, default world (MiB)", sizes)
    assert many < 2000


@pytest.mark.benchmark(group="256 small models on a GPU, against the plain loop there")
def test_gpu(benchmark: BenchmarkFixture, note: Note) -> None:
    """At least 50 times as fast a model as the plain loop on the same GPU."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    members, steps = (4, 3) if benchmark.disabled else (256, 200)
    views = workloads.pairs(members)
    one = {role: x[0] for role, x in views.items()}

    def done(work: Callable[[], object]) -> None:
        work()
        torch.cuda.synchronize()

    done(lambda: workloads.plain("W2", **one, steps=3, device="cuda"))
    benchmark.pedantic(lambda: done(lambda: workloads.ours("W2", views, 3, "cuda")), rounds=1)
    ratio, _, _ = compared(
        lambda: done(lambda: workloads.plain("W2", **one, steps=steps, device="cuda")),
        lambda: done(lambda: workloads.ours("W2", views, steps, "cuda")),
        1 if benchmark.disabled else 3,
        time.perf_counter,
    )
    note(f"W2, one GPU, fleet of {members}", f"{ratio * members:5.1f}")
    assert benchmark.disabled or ratio * members > 50
