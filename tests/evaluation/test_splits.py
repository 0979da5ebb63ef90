"""Splits by subject."""

from __future__ import annotations

import numpy as np
import pytest

from simlab.errors import OutOfDomain
from simlab.evaluation.splits import repeated


def test_no_subject_is_on_both_sides_and_classes_keep_their_share(rng: np.random.Generator) -> None:
    subjects = rng.integers(0, 120, 300)
    y = (rng.random(300) < 0.2).astype(float)
    y[:5] = np.nan
    for train, test in repeated(subjects, y, 5, 0.25, seed=3):
        assert not set(subjects[train]) & set(subjects[test])
        assert sorted([*train, *test]) == list(range(300))
        assert np.nansum(y[test]) >= 2 and np.nansum(y[train]) >= 2


def test_a_split_does_not_depend_on_how_many_there_are(rng: np.random.Generator) -> None:
    subjects, y = np.arange(100), (rng.random(100) < 0.3).astype(float)
    few, many = list(repeated(subjects, y, 2, 0.25, 7)), list(repeated(subjects, y, 6, 0.25, 7))
    for a, b in zip(few, many, strict=False):
        np.testing.assert_array_equal(a[1], b[1])
    assert not np.array_equal(many[0][1], many[1][1])


def test_too_few_positives_are_refused() -> None:
    with pytest.raises(OutOfDomain, match="3 subjects with"):
        list(repeated(np.arange(50), np.r_[np.ones(3), np.zeros(47)], 1, 0.25, 0))
