"""Closed-form limits of many settings: the reduction to beta as a ratio to the dense path. `make bench` prints it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from simlab.environments.knobs import GaussianSpec, spec
from simlab.limits.fast import fast_limits
from simlab.limits.gaussian import moments
from simlab.limits.oracles import VIEWS, span_oracle, view_oracle
from simlab.limits.subspace import cca

CELLS = 4_000


def seconds(work: Callable[[], object]) -> float:
    """Of the faster of two runs."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def worlds(n: int) -> list[GaussianSpec]:
    """n settings of the default world, of 60 features: w_c and kappa_e at random."""
    draw = np.random.default_rng(0)
    return [spec(w_c=float(draw.uniform()), kappa_e=float(draw.uniform(-1, 1))) for _ in range(n)]


def dense(world: GaussianSpec) -> None:
    """The same three AUCs of views and canonical pairs by linear algebra on all features (no finite-label formula)."""
    source, target = moments(world, "source"), moments(world, "external")
    for view in VIEWS:
        view_oracle(source, target, view)
    span_oracle(source, target, cca(source, world.d_c))


@pytest.mark.benchmark(group="limits of many settings, against the dense path")
def test_reduction_against_dense_path(benchmark: BenchmarkFixture) -> None:
    """At least a thousand settings a second, and many times the dense path."""
    few, many = worlds(30), worlds(CELLS)
    benchmark.pedantic(lambda: fast_limits(many, (100, 300)), rounds=2, warmup_rounds=1)
    ours = CELLS / seconds(lambda: fast_limits(many, (100, 300)))
    theirs = len(few) / seconds(lambda: [dense(world) for world in few])
    benchmark.extra_info["settings a second"] = round(ours)
    benchmark.extra_info["times the dense path"] = round(ours / theirs, 1)
    print(f"\nlimits: {ours:.0f} settings a second, {ours / theirs:.1f} times the dense path ({theirs:.0f} a second)")
    assert ours > 1000 and ours > 5 * theirs
