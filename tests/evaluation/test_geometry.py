"""Displacement on paths that were drawn to be so long, and intervals over stays."""

from __future__ import annotations

import numpy as np
import pytest

from simlab.errors import OutOfDomain
from simlab.evaluation import geometry


def paths(rng: np.random.Generator, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """40 stays that move by 3 along (3, 4)/5 and 40 by 1, over 48 hours: the mean of the last 6 hours is 42/47 of that
    from the first six."""
    far = np.arange(80) < 40
    along = np.linspace(0, 1, 48)[None, :, None] * np.array([0.6, 0.8])
    return np.where(far, 3.0, 1.0)[:, None, None] * along + noise * rng.standard_normal((80, 48, 2)), far


def test_displacement_by_norm(rng: np.random.Generator) -> None:
    path, far = paths(rng)
    assert geometry.displacement(path, (0, 48))[far] == pytest.approx(3 * 42 / 47)
    assert geometry.displacement(path, (0, 48), norm="l1")[~far] == pytest.approx(1.4 * 42 / 47)
    assert geometry.displacement(path, (0, 48), norm="cosine") == pytest.approx(0.0, abs=1e-12)  # the same direction
    assert geometry.path_length(path, (0, 48))[far] == pytest.approx(3.0)
    quarter = np.zeros((1, 12, 2))
    quarter[:, :6, 0], quarter[:, 6:, 1] = 2.0, 5.0
    assert geometry.displacement(quarter, (0, 12), norm="cosine") == pytest.approx(1.0)  # a right angle


def test_a_ratio_of_three_in_every_space_that_shows_it(rng: np.random.Generator) -> None:
    path, far = paths(rng, 0.05)
    spaces = {"latent": path, "raw": np.concatenate([path, 100 * rng.standard_normal((80, 48, 1))], axis=2)}
    found = geometry.compare(spaces, np.full(80, 48), (far, ~far), np.arange(80), rng, draws=200)
    by = {(r.space, r.measure, r.standardised): r for r in found}
    assert len(by) == 16 and all((r.deteriorating, r.stable) == (40, 40) for r in found)
    held = by["latent", "l2", False]
    assert held.value == pytest.approx(3.0, rel=0.03) and held.interval.low < held.value < held.interval.high
    assert by["raw", "l2", False].value == pytest.approx(1.0, abs=0.35)  # one loud channel that says nothing drowns it
    assert by["raw", "l2", True].value > 1.3


def test_the_interval_is_over_stays_of_a_subject_together(rng: np.random.Generator) -> None:
    """Each subject ten times: the interval is that of one stay each (200 draws: an end is known to about 15 %)."""
    distance, far = np.exp(rng.normal(size=40)), np.arange(40) % 2 == 0
    many = [np.repeat(x, 10) for x in (distance, far, ~far, np.arange(40))]
    one = geometry._with_interval(distance, far, ~far, np.arange(40), np.random.default_rng(1), 1000)[1]
    ten = geometry._with_interval(*many, np.random.default_rng(1), 1000)[1]
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high))


def test_short_stays_are_left_out_and_an_empty_group_is_told(rng: np.random.Generator) -> None:
    path, far = paths(rng)
    length = np.where(np.arange(80) % 2 == 0, 48, 20)
    found = geometry.compare({"latent": path}, length, (far, ~far), np.arange(80), rng, draws=20)
    assert (found[0].deteriorating, found[0].stable) == (20, 20)
    with pytest.raises(OutOfDomain, match="0 deteriorating and 80 stable stays reach hour 48"):
        geometry.compare({"latent": path}, np.full(80, 48), (far & ~far, far | ~far), np.arange(80), rng)
    with pytest.raises(OutOfDomain, match="room for twice 6"):
        geometry.displacement(path, (0, 10))
    with pytest.raises(OutOfDomain, match="known: l2, l1, cosine"):
        geometry.displacement(path, (0, 48), norm="max")


def test_one_stay_in_a_group_has_no_interval(rng: np.random.Generator) -> None:
    """A third of the draws lack it: no interval is given rather than a wrong one."""
    path, _ = paths(rng)
    alone = np.arange(80) == 0
    found = geometry.compare({"latent": path}, np.full(80, 48), (alone, ~alone), np.arange(80), rng, draws=100)
    assert found[0].interval is None and found[0].value > 1


def test_stays_that_stand_still_have_no_ratio(rng: np.random.Generator) -> None:
    far = np.arange(80) < 40
    found = geometry.compare({"latent": np.ones((80, 48, 2))}, np.full(80, 48), (far, ~far), np.arange(80), rng)
    assert all(r.value is None and r.interval is None for r in found)
