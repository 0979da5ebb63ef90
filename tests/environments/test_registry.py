"""Worlds are found by name, listed without array modules, and a plug-in may add its own."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from simlab.environments.knobs import GAUSSIAN_KNOBS, spec
from simlab.environments.registry import WORLDS, World, find_world, register_world
from simlab.environments.scenario import sample_cohort
from simlab.errors import OutOfDomain, UnknownName


def test_the_gaussian_world_is_whole():
    world = find_world("gaussian")
    assert world.knobs is GAUSSIAN_KNOBS and world.domains == ("source", "external")
    s = world.spec(w_c=0.5, d_ni=2)
    rng = np.random.default_rng(0)
    for domain in world.domains:
        cohort = world.observe(world.sample_factors(20, s, domain, rng), s, domain, rng, first_record=100)
        assert len(cohort) == 20 and cohort.record[0] == 100
    with pytest.raises(UnknownName, match="external"):
        world.sample_factors(3, s, "extrenal", rng)


def test_unknown_world_gets_the_nearest_name():
    with pytest.raises(UnknownName, match="gaussian"):
        find_world("gausian")


def test_a_plugin_adds_a_world(monkeypatch):
    from simlab.environments import gaussian

    monkeypatch.setattr("simlab.environments.registry.WORLDS", dict(WORLDS))
    own = SimpleNamespace(
        DOMAINS=("source",), sample_factors=gaussian.sample_factors, observe=gaussian.observe, limits=lambda s: None
    )
    world = register_world(World("own", GAUSSIAN_KNOBS, spec, own))
    assert find_world("own") is world and world.limits(spec()) is None
    assert len(sample_cohort(spec(d_ni=1), "test-data", 5, 0, 0, world="own")) == 5
    register_world(world)
    with pytest.raises(OutOfDomain, match="exists already"):
        register_world(World("own", (), spec, own))


def test_worlds_are_listed_without_array_modules():
    code = "import sys, simlab.environments.registry as r; r.find_world('gaussian'); print('numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
