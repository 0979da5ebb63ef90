"""From cohorts to tokens: gaps, padding, parts and patches, and blocks of coordinates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simlab.cohort import Cohort, Stream
from simlab.environments.registry import find_world
from simlab.environments.scenario import sample_cohort
from simlab.errors import InvalidCohort
from simlab.models import tokens
from simlab.models.patches import corners, patches


def cohort(rng: np.random.Generator, n: int = 50, visits: int = 4, **more: Stream) -> Cohort:
    length = rng.integers(1, visits + 1, n)
    time = np.where(np.arange(visits) < length[:, None], np.arange(visits) * 1.5 + 2.0, 0.0)
    exists = np.arange(visits) < length[:, None]

    def stream(p: int) -> Stream:
        seen = np.repeat((exists & (rng.random((n, visits)) < 0.8))[:, :, None], p, axis=2)
        values = (5 + 3 * rng.standard_normal((n, visits, p))).astype(np.float32)
        return Stream(values, seen, tuple(f"c{i}" for i in range(p)), ("1",) * p, time)

    who = np.arange(n)
    return Cohort({"ct": stream(6), "labs": stream(3), **more}, length, who, who, np.full(n, "x"))


def test_tokens_are_the_observed_values_standardised(rng: np.random.Generator) -> None:
    inputs = cohort(rng).inputs(None)
    made = tokens.fit(inputs)
    shown = made(inputs)
    assert shown["tokens"].shape == (50, 8, 6) and shown["times"].shape == (50, 8)
    seen = inputs.streams["labs"].observed
    labs = shown["tokens"][:, 4:, :3]
    np.testing.assert_array_equal(np.isfinite(labs), seen)
    np.testing.assert_allclose(np.nanmean(labs, axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(np.nanstd(labs, axis=(0, 1)), 1, atol=1e-5)
    assert np.isnan(shown["tokens"][:, 4:, 3:]).all()  # a narrower source is padded
    exists = np.arange(4) < inputs.length[:, None]
    np.testing.assert_array_equal(np.isfinite(shown["times"][:, :4]), exists)
    assert made.layout.follow_up == pytest.approx(4.5)  # three intervals of 1.5
    np.testing.assert_allclose(shown["times"][:, 1][exists[:, 1]], 1 / 3, rtol=1e-6)


def test_later_records_are_shown_on_the_same_grid(rng: np.random.Generator) -> None:
    """Fewer visits are padded; of more, the latest stay; nothing is fitted anew."""
    made = tokens.fit(cohort(rng).inputs(None))
    few, many = cohort(rng, visits=2).inputs(None), cohort(rng, visits=7).inputs(None)
    assert np.isnan(made(few)["tokens"][:, 2:4]).all()
    shown = made(many)["tokens"]
    centre, scale = made.scaling["ct"]
    i = int(np.argmax(many.length))
    expected = (many.streams["ct"].values[i, -1] - centre[0]) / scale[0]
    kept = many.streams["ct"].observed[i, -1]
    np.testing.assert_allclose(shown[i, 3][kept], expected[kept], rtol=1e-5)


def test_streams_for_life_and_parts(rng: np.random.Generator) -> None:
    history = Stream(rng.standard_normal((50, 1, 2)).astype(np.float32), np.ones((50, 1, 2), bool), ("a", "b"),
                     ("", ""))  # fmt: skip
    layout = tokens.fit(cohort(rng, history=history).inputs(None)).layout
    where = layout.places()
    assert where.visit.tolist() == [0, 1, 2, 3] * 2 + [-1] and where.role.tolist() == [0] * 4 + [1] * 5
    spec = find_world("gaussian").spec(tokens=3)
    world = sample_cohort(spec, "pretraining-data", 200, 1, 0)
    layout = tokens.fit(world.inputs(None)).layout
    assert [s.parts for s in layout.sources] == [3, 3] and layout.places().block.tolist() == [0, 1, 2, 3, 4, 5]


def test_patches_are_what_a_convolution_reads() -> None:
    """A linear map of the patches against torch's Conv3d of the same weights, kernel = stride."""
    g = torch.Generator().manual_seed(0)
    volume, weight = torch.randn(2, 8, 4, 12, generator=g), torch.randn(5, 1, 4, 4, 4, generator=g)
    found = patches(volume, 4) @ weight.flatten(1).T
    expected = torch.nn.functional.conv3d(volume[:, None], weight, stride=4)
    torch.testing.assert_close(found, expected.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4)
    assert corners(8, 4, 12, 4).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [1, 0, 0], [1, 0, 1], [1, 0, 2]]
    with pytest.raises(InvalidCohort, match=r"8x4x12 .* patches of 3"):
        patches(volume, 3)


def test_a_volume_becomes_patch_tokens(rng: np.random.Generator) -> None:
    n = 10
    volume = Stream(rng.integers(0, 255, (n, 1, 8, 8, 8)).astype(np.uint8), np.ones((n, 1, 1), bool), ("ct",), ("HU",),
                    scale=2.0)  # fmt: skip
    vector = Stream(rng.standard_normal((n, 1, 3)).astype(np.float32), np.ones((n, 1, 3), bool), tuple("abc"),
                    ("",) * 3)  # fmt: skip
    who = np.arange(n)
    inputs = Cohort({"ct": volume, "ehr": vector}, np.ones(n, int), who, who, np.full(n, "x")).inputs(None)
    made = tokens.fit(inputs, patch=4)
    shown = made(inputs)["tokens"]
    assert shown.shape == (n, 9, 64) and made.layout.sources[0].parts == 8
    assert np.isfinite(shown[:, :8]).all() and abs(shown[:, :8].mean()) < 1e-4


def test_blocks_of_coordinates_hold_what_the_visit_held(rng: np.random.Generator) -> None:
    inputs = cohort(rng).inputs(None)
    made = tokens.fit(inputs)
    shown = made(inputs)
    split = made.layout.split(4)
    values, times = made.layout.cut(shown["tokens"], shown["times"], 4)
    assert [s.features for s in split.sources] == [2, 2, 1, 1, 1, 1, 1] and values.shape == (50, 28, 2)
    assert split.tokens == 28 and len(set(split.places().block.tolist())) == 7
    back = np.concatenate([values[:, at, : s.features] for s, at in zip(split.sources[:4], split.slices()[:4],
                                                                        strict=True)], axis=2)  # fmt: skip
    np.testing.assert_array_equal(back, shown["tokens"][:, :4])
    np.testing.assert_array_equal(times[:, :4], shown["times"][:, :4])
