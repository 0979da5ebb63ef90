"""Fixtures that every folder of tests may use."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """Methods and worlds that plug-ins of a file's tests register are gone after it, whichever file comes next."""
    from simlab import methods  # not above: shapes are checked in what is imported once tests are collected
    from simlab.environments import registry
    from simlab.sweep import study

    kept = [(known, dict(known)) for known in (methods.METHODS, registry.WORLDS)]
    run = set(study._RUN)
    yield
    for known, before in kept:
        known.clear()
        known.update(before)
    study._RUN.clear()
    study._RUN.update(run)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed, fresh for each test."""
    return np.random.default_rng(20261121)
