"""The simulated optimum: guesses that are as spread as the truth, a median that is numpy's."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest

from simlab.environments import icu_law
from simlab.environments.icu_channels import NAMES
from simlab.environments.icu_knobs import spec
from simlab.limits.icu import drawn
from simlab.trajectories import optimum

CONTEXT, HORIZONS = 6, 12


class MapAndPressure:
    """A backbone whose latents are two charted channels (0 where they were not)."""

    def encode(self, cohort):
        state = cohort.streams["state"].floats()[:, :, [NAMES.index("map"), NAMES.index("hr")]]
        return SimpleNamespace(state=state, static=np.zeros((len(cohort), 0)))

    def rollout(self, latents, context, horizons, actions, rng):
        raise AssertionError("nobody asks for it")


@pytest.fixture(scope="module")
def world():
    made = spec(max_hours=24, p_miss=0.0)
    return icu_law.law_of(made, "source"), drawn(made, 90, np.random.default_rng(3))


def test_the_truth_lies_anywhere_among_the_guesses(world) -> None:
    """The rank of what was charted among what guesses would show is uniform: mean 1/2 (sd of the mean .03), and the
    mean square deviation 1/12 (a rule that knows less, or is too sure, has another)."""
    law, stays = world
    rng = np.random.default_rng(5)
    x, weight = optimum.guesses(law, stays, CONTEXT, HORIZONS, 40, rng)
    futures = optimum.encodable(law, stays, x, CONTEXT, rng)
    ranks = []
    for channel in ("map", "hr"):
        at = NAMES.index(channel)
        state = futures.streams["state"]
        guess = state.values[:, -1, at].reshape(len(stays), -1)
        taken = state.observed[:, -1, at].reshape(len(stays), -1)
        true, seen = (a[:, CONTEXT + HORIZONS - 1, at] for a in (
            stays.streams["state"].values, stays.streams["state"].observed))
        share = weight[:, :, -1] * taken
        for i in np.flatnonzero(seen):
            below = share[i] @ ((guess[i] < true[i]) + 0.5 * (guess[i] == true[i]))
            ranks.append(below / share[i].sum())
    assert np.mean(ranks) == pytest.approx(0.5, abs=4 * 0.03)
    assert np.var(ranks) == pytest.approx(1 / 12, abs=0.025)


def test_what_was_charted_before_stays_and_treatments_are_those_given(world) -> None:
    law, stays = world
    rng = np.random.default_rng(5)
    few = stays.take(np.arange(4))
    x, _ = optimum.guesses(law, few, CONTEXT, HORIZONS, 3, rng)
    futures = optimum.encodable(law, few, x, CONTEXT, rng)
    owner = np.repeat(np.arange(4), 3)
    for name in ("state", "action"):
        end = CONTEXT if name == "state" else CONTEXT + HORIZONS
        assert (futures.streams[name].floats()[:, :end] == few.streams[name].floats()[owner, :end]).all()


def test_guesses_are_as_alert_as_their_stay_was(world) -> None:
    """Who was charted with 1 point of 6 shows fewer points afterwards than who was charted with 6; a guess that knew
    nothing of its stay would show the same of both."""
    law, stays = world
    few, at = stays.take(np.arange(2)), NAMES.index("gcs_motor")
    state = few.streams["state"]
    state.values[:, :CONTEXT, at], state.observed[:, :CONTEXT, at] = [[1.0], [6.0]], True
    few.streams["action"].values[:] = 0
    rng = np.random.default_rng(5)
    x, _ = optimum.guesses(law, few, CONTEXT, HORIZONS, 30, rng)
    futures = optimum.encodable(law, few, x, CONTEXT, rng).streams["state"]
    low, high = (futures.values[part, CONTEXT:, at][futures.observed[part, CONTEXT:, at]].mean()
                 for part in (slice(0, 30), slice(30, 60)))
    assert low < 4.5 < 5.5 < high


def test_charts_after_the_context_change_no_bit_of_the_forecast(world) -> None:
    """Another stay's charts, values and masks, from hour 6 on: the same forecast. From hour 5 on: another one."""
    law, stays = world
    few = stays.take(np.arange(4))
    forecast = optimum.Optimum(MapAndPressure(), 2, law, particles=6, most=4)
    told = forecast(few, CONTEXT, HORIZONS)
    for first, same in ((CONTEXT, True), (CONTEXT - 1, False)):
        other = deepcopy(few)
        for name in ("values", "observed"):
            whole = getattr(other.streams["state"], name)
            whole[:, first:] = np.roll(getattr(few.streams["state"], name)[:, first:], 1, axis=0)
        assert not np.array_equal(other.streams["state"].values, few.streams["state"].values)
        assert np.array_equal(forecast(other, CONTEXT, HORIZONS), told) == same


def test_the_median_is_numpys_and_minimises_the_weighted_distance(rng: np.random.Generator) -> None:
    z = rng.standard_normal((3, 11, 2, 4))
    assert np.allclose(optimum.weighted_median(z, np.ones((3, 11, 2))), np.median(z, axis=1))
    weight = rng.random((3, 11, 2))
    found = optimum.weighted_median(z, weight)
    cost = (weight[:, :, None, :, None] * np.abs(z[:, :, None] - z[:, None])).sum(axis=1)  # of every guess
    own = (weight[..., None] * np.abs(z - found[:, None])).sum(axis=1)
    assert np.allclose(own, cost.min(axis=1))


def test_stays_that_do_not_last_have_no_forecast(world) -> None:
    law, stays = world
    few = stays.take(np.arange(12))
    few.length[3] = 10
    found = optimum.Optimum(MapAndPressure(), 2, law, particles=4, most=5)(few, CONTEXT, HORIZONS)
    assert np.isfinite(found).all(axis=(1, 2)).tolist() == [True, True, True, False, True, True] + [False] * 6
