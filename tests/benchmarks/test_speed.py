"""Speed as ratios inside one run: ours against a plain reference on the same machine. `make bench` prints them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from simlab import rng as streams
from simlab.environments.gaussian import observe, sample_factors
from simlab.environments.knobs import spec
from simlab.methods import METHODS
from simlab.objectives.vicreg import vicreg
from simlab.training.pretrain import Settings, pretrain

MEMBERS, STEPS = 8, 100
SETTINGS = Settings(encoder="linear", width=4, steps=STEPS, batch=512)


def best(work: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of a few runs."""
    def once() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start
    return min(once() for _ in range(times))


def plain_vicreg(views: dict[str, np.ndarray]) -> None:
    """One model after the other: nn.Linear, AdamW, the same loss, batches and steps."""
    for member in range(MEMBERS):
        image, clinical = (torch.as_tensor(views[role][member]) for role in ("image", "clinical"))
        g = torch.Generator().manual_seed(member)
        one, two = torch.nn.Linear(image.shape[1], 4), torch.nn.Linear(clinical.shape[1], 4)
        optimiser = torch.optim.AdamW([*one.parameters(), *two.parameters()], lr=5e-3)
        for _ in range(STEPS):
            rows = torch.randint(len(image), (512,), generator=g)
            loss = vicreg(one(image[rows])[None], two(clinical[rows])[None]).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


@pytest.mark.benchmark(group="a fleet of 8 linear VICReg models, against one model after the other")
def test_fleet_against_plain_loop(benchmark: BenchmarkFixture) -> None:
    """The fleet must not be slower than the loop that it replaces."""
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    views = {role: draw.standard_normal((MEMBERS, 5000, 30)).astype(np.float32) for role in ("image", "clinical")}
    seeds = [(i, i) for i in range(MEMBERS)]

    def ours() -> object:
        return pretrain(views, METHODS["vicreg-frozen"], SETTINGS, seeds)

    benchmark.pedantic(ours, rounds=3, warmup_rounds=1)
    ratio = best(lambda: plain_vicreg(views)) / best(ours)
    benchmark.extra_info["times as fast as the plain loop"] = round(ratio, 2)
    print(f"\nfleet: {ratio:.2f} times as fast as the plain loop")
    assert ratio > 1


@pytest.mark.benchmark(group="20,000 records of the default world, against the bare normal draws")
def test_sampling_against_bare_draws(benchmark: BenchmarkFixture) -> None:
    """A small multiple of the draws that the records need."""
    world = spec(w_c=0.6)
    draws = 2 * world.d_c + world.d_u + world.d_v + 2 * world.d_g + 1 + world.p_image + world.p_clinical

    def ours() -> object:
        factors = sample_factors(20_000, world, "source", streams.generator(0, 0, "test-data", 0))
        return observe(factors, world, "source", streams.generator(0, 0, "test-data", 1))

    def bare() -> object:
        return np.random.default_rng(0).standard_normal((20_000, draws), dtype=np.float32)

    benchmark.pedantic(ours, rounds=5, warmup_rounds=1)
    ratio = best(ours, 5) / best(bare, 5)
    benchmark.extra_info["times the bare draws"] = round(ratio, 2)
    print(f"\nsampling with risk: {ratio:.2f} times the bare draws")
    assert ratio < 10
