"""Presentation: one view of the data for every arm, fitted on training records alone."""

from __future__ import annotations

import numpy as np
import pytest

from simlab.cohort import Cohort, Stream, Task
from simlab.errors import InvalidCohort
from simlab.models import present


def cohort(rng: np.random.Generator, n: int = 40) -> Cohort:
    observed = rng.random((n, 6, 3)) < 0.6
    observed[:, :, 2] &= rng.random((n, 1)) < 0.7  # a channel that some records never have
    time = np.tile(np.arange(6.0), (n, 1))
    return Cohort(
        streams={
            "vitals": Stream(
                rng.normal(80, 10, (n, 6, 3)).astype(np.float32), observed, ("a", "b", "c"), ("", "", ""), time
            ),
            "static": Stream(
                np.stack([rng.normal(65, 12, (n, 1)), rng.integers(0, 2, (n, 1))], axis=2).astype(np.float32),
                np.ones((n, 1, 2), bool),
                ("age", "sex"),
                ("year", ""),
            ),
        },
        length=np.full(n, 6),
        record=np.arange(n),
        subject=np.arange(n),
        site=np.full(n, "x"),
        tasks={"t": Task("t", "binary", cutoff=3.0)},
        labels={"t": (np.arange(n) % 2).astype(float)},
    )


def test_summaries_by_hand(rng: np.random.Generator) -> None:
    data = cohort(rng)
    stream = data.streams["vitals"]
    found = present.summarise(stream)
    assert found.shape == (40, 15)
    for i in range(40):
        for c in range(3):
            seen = stream.values[i, stream.observed[i, :, c], c]
            row = found[i, c::3]
            assert row[4] == pytest.approx(len(seen) / 6)
            if len(seen):
                np.testing.assert_allclose(row[:4], [seen[-1], seen.mean(), seen.min(), seen.max()], rtol=1e-6)
            else:
                assert np.isnan(row[:4]).all()


def test_training_records_are_standardised_and_gaps_are_the_mean(rng: np.random.Generator) -> None:
    inputs = cohort(rng).inputs("t")
    views = present.fit(inputs)(inputs)
    assert np.isfinite(views["image"]).all()
    never = ~inputs.streams["vitals"].observed[:, :, 2].any(axis=1)
    assert never.any()
    np.testing.assert_array_equal(views["image"][never][:, [2, 5, 8, 11]], 0)
    known = views["image"][~never][:, 2]
    assert abs(known.mean()) < 1e-5 and known.std() == pytest.approx(1, abs=1e-5)


def test_what_follows_the_cutoff_changes_nothing(rng: np.random.Generator) -> None:
    data = cohort(rng)
    before = present.fit(data.inputs("t"))(data.inputs("t"))
    late = data.streams["vitals"].time > 3
    data.streams["vitals"].values[late] = 1e6
    after = present.fit(data.inputs("t"))(data.inputs("t"))
    np.testing.assert_array_equal(before["image"], after["image"])


def test_a_fitted_presentation_does_not_look_at_new_records(rng: np.random.Generator) -> None:
    data = cohort(rng)
    fitted = present.fit(data.take(np.arange(30)).inputs("t"))
    alone, together = fitted(data.take(np.array([35])).inputs("t")), fitted(data.inputs("t"))
    np.testing.assert_array_equal(alone["image"][0], together["image"][35])


def test_one_modality_is_refused(rng: np.random.Generator) -> None:
    data = cohort(rng)
    inputs = data.inputs("t")
    del inputs.streams["static"]
    with pytest.raises(InvalidCohort, match="two streams"):
        present.fit(inputs)


def test_complete_statics_are_standardised_too_and_a_later_gap_is_the_mean(rng: np.random.Generator) -> None:
    """Ages beside z-scores would drown under any penalty; a gap that training never had must not read as age 0."""
    data = cohort(rng)
    fitted = present.fit(data.take(np.arange(30)).inputs("t"))
    train = fitted(data.take(np.arange(30)).inputs("t"))["clinical"]
    np.testing.assert_allclose(train[:, :2].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train[:, :2].std(axis=0), 1, atol=1e-5)
    data.streams["static"].observed[35, 0, 0] = False
    later = fitted(data.take(np.array([35])).inputs("t"))["clinical"]
    assert later[0, 0] == 0


def test_only_a_world_keeps_its_coordinates(rng: np.random.Generator) -> None:
    inputs = cohort(rng).inputs("t")
    raw = present.fit(inputs, as_is=True)(inputs)["clinical"]
    np.testing.assert_array_equal(raw, inputs.streams["static"].values[:, 0])


def test_volumes_have_no_summary_and_are_refused_in_one_line():
    volume = Stream(np.zeros((3, 2, 4, 4), np.float32), np.ones((3, 2, 1), bool), ("attenuation",), ("HU",),
                    np.tile([0.0, 1.0], (3, 1)))
    with pytest.raises(InvalidCohort, match="'attenuation' has 16 numbers a visit"):
        present.summarise(volume)
