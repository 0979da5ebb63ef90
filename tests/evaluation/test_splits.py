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


def test_some_subjects_never_leave_the_training_side(rng: np.random.Generator) -> None:
    subjects, y = np.arange(200) // 2, np.repeat(rng.random(100) < 0.3, 2).astype(float)
    never = np.arange(200) == 2 * (np.arange(200) // 2)  # of subjects 0 to 59, one record each says it
    never &= subjects < 60
    for train, test in repeated(subjects, y, 5, 0.25, 7, never):
        assert subjects[test].min() >= 60 and len(np.unique(subjects[test])) == pytest.approx(10, abs=1)
        assert sorted([*train, *test]) == list(range(200))
    with pytest.raises(OutOfDomain, match=r"other 98 subjects .* --test-among all"):
        list(repeated(subjects, y, 1, 0.25, 7, subjects < 98))


def test_too_few_positives_are_refused() -> None:
    with pytest.raises(OutOfDomain, match="3 subjects with"):
        list(repeated(np.arange(50), np.r_[np.ones(3), np.zeros(47)], 1, 0.25, 0))


def test_no_record_at_all_is_told_in_words() -> None:
    with pytest.raises(OutOfDomain, match="0 subjects with and 0 without a positive label"):
        list(repeated(np.empty(0, int), np.empty(0), 1, 0.25, 7))
