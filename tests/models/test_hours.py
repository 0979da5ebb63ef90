"""Hours and masks: carried forward, fitted where they are fitted, and a mask that no value can change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simlab.cohort import Inputs, Stream
from simlab.errors import InvalidCohort
from simlab.models import hours


@pytest.fixture
def inputs(rng: np.random.Generator) -> Inputs:
    time = np.tile(np.arange(1.0, 6), (30, 1))
    seen = rng.random((30, 5, 2)) < 0.5
    values = (10 + 3 * rng.standard_normal((30, 5, 2))).astype(np.float32)
    age = Stream(rng.standard_normal((30, 1, 1)).astype(np.float32), np.ones((30, 1, 1), bool), ("age",), ("years",))
    return of({"labs": Stream(values, seen, ("a", "b"), ("", ""), time), "static": age})


def of(streams: dict[str, Stream]) -> Inputs:
    n = len(next(iter(streams.values())).values)
    return Inputs(streams, None, np.full(n, 5), np.arange(n), np.arange(n), np.full(n, "x"))


def test_the_last_known_value_is_carried_by_hand() -> None:
    seen = np.array([[[0], [1], [0], [1], [0]]], bool)
    found = hours.carried(np.array([[[7.0], [2.0], [9.0], [5.0], [9.0]]]), seen)
    assert found[0, :, 0].tolist() == [0, 2, 2, 5, 5]


def test_hours_are_standardised_values_and_their_mask(inputs: Inputs) -> None:
    shown = hours.fit(inputs, ["hours", "features"])(inputs)
    assert list(shown) == ["hours"] and shown["hours"].shape == (30, 5, 2 * 2 + 2)
    stream = inputs.streams["labs"]
    np.testing.assert_array_equal(shown["hours"][:, :, 2:4], stream.observed)
    known = shown["hours"][:, :, :2][stream.observed[:, :, :2]]
    assert abs(known.mean()) < 1e-5 and abs(known.std() - 1) < 0.01


def test_a_mask_is_counts_and_places_alone(inputs: Inputs) -> None:
    stream = inputs.streams["labs"]
    raw = hours.measured(inputs, {"labs": 5, "static": 1})
    np.testing.assert_allclose(raw[:, :2], stream.observed.mean(axis=1))
    last = [max([v + 1 for v in range(5) if stream.observed[7, v, c]], default=0) / 5 for c in range(2)]
    np.testing.assert_allclose(raw[7, 2:4], last)
    other = replace(stream, values=(stream.values * -3 + 100).astype(np.float32))
    changed = of({**inputs.streams, "labs": other})
    reading = hours.fit(inputs, ["mask"])
    np.testing.assert_array_equal(reading(inputs)["mask"], reading(changed)["mask"])


def test_a_shorter_or_longer_test_side_is_read_as_the_fitted_number_of_visits(inputs: Inputs) -> None:
    """Five visits fitted: three are the same as five of which two were not measured, seven as their first five."""
    reading = hours.fit(inputs, ["hours", "mask"])
    stream = inputs.streams["labs"]

    def read(values, seen):
        time = np.tile(np.arange(1.0, seen.shape[1] + 1), (30, 1))
        return reading(of({**inputs.streams, "labs": Stream(values, seen, ("a", "b"), ("", ""), time)}))

    unseen = stream.observed & (np.arange(5) < 3)[:, None]
    more = [np.concatenate([x, x[:, :2]], axis=1) for x in (stream.values, stream.observed)]
    short = read(stream.values[:, :3], stream.observed[:, :3])
    for made, same in ((short, read(stream.values, unseen)), (read(*more), reading(inputs))):
        assert made["hours"].shape == (30, 5, 6)
        for kind in ("hours", "mask"):
            np.testing.assert_array_equal(made[kind], same[kind])


def test_a_mask_is_there_where_streams_have_different_visits_and_hours_are_not(inputs: Inputs) -> None:
    time = np.tile([1.0, 2.0], (30, 1))
    scan = Stream(np.zeros((30, 2, 1), np.float32), np.ones((30, 2, 1), bool), ("ct",), ("1",), time)
    both = of({**inputs.streams, "ct": scan})
    assert hours.fit(both, ["mask"])(both)["mask"].shape == (30, 4 + 1 + 2)
    with pytest.raises(InvalidCohort, match="2, 5 visits"):
        hours.fit(both, ["hours"])


def test_volumes_are_refused(inputs: Inputs) -> None:
    ct = Stream(np.zeros((30, 1, 1, 4, 4), np.float32), np.ones((30, 1, 1), bool), ("ct",), ("HU",))
    with pytest.raises(InvalidCohort, match="volumes"):
        hours.fit(of({"ct": ct}), ["hours"])
