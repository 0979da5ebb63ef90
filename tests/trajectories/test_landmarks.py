"""Questions of tasks: who is asked, what is shown, and nothing of what comes later."""

from __future__ import annotations

import numpy as np
import pytest
import toy_stays

from simlab.errors import InvalidCohort, UnknownName
from simlab.trajectories.landmarks import landmarks
from simlab.trajectories.tasks import encoded


def test_a_record_task_asks_those_who_are_there_at_its_cutoff(rng: np.random.Generator) -> None:
    cohort = toy_stays.stays(rng, 60)
    asked = landmarks(cohort, "dies")
    assert asked.row.tolist() == np.flatnonzero(cohort.length >= 24).tolist() and set(asked.hour) == {24}
    assert (asked.y == cohort.labels["dies"][asked.row]).all() and (asked.risk == cohort.risk["dies"][asked.row]).all()
    shown = asked.cohort.streams["state"]
    assert (shown.values == cohort.streams["state"].values[asked.row, :24]).all()
    assert asked.cohort.streams["hour"].values.ravel().tolist() == [24.0] * len(asked.row)


def test_a_cutoff_beyond_the_hours_that_are_kept_is_their_last(rng: np.random.Generator) -> None:
    cohort = toy_stays.stays(rng, 20, hours=20)
    asked = landmarks(cohort, "dies")
    assert cohort.tasks["dies"].cutoff == 24 and set(asked.hour) == {20}
    assert asked.row.tolist() == np.flatnonzero(cohort.length == 20).tolist()
    assert encoded(cohort.streams["state"].values, np.zeros((20, 1)), asked, 6)["last"].shape[0] == len(asked.row)


def test_a_task_by_hour_is_asked_at_some_hours_and_shown_a_day(rng: np.random.Generator) -> None:
    """Hours before admission were not measured; a label is that of the last hour shown."""
    cohort = toy_stays.stays(rng, 60)
    asked = landmarks(cohort, "event", (6, 48))
    late = asked.hour == 48
    assert (cohort.length[asked.row[late]] >= 48).all() and (~late).sum() == 60
    assert (asked.y == cohort.labels["event"][asked.row, asked.hour - 1]).all()
    early = asked.cohort.streams["state"].observed[~late]
    assert not early[:, :18].any()
    assert (early[:, 18:] == cohort.streams["state"].observed[asked.row[~late], :6]).all()
    shown = asked.cohort.streams["state"].values[late]
    assert (shown == cohort.streams["state"].values[asked.row[late], 24:48]).all()
    assert len(np.unique(asked.cohort.record)) == len(asked.row)
    assert (asked.subjects == cohort.subject[asked.row]).all()


def test_what_comes_later_changes_no_question(rng: np.random.Generator) -> None:
    cohort = toy_stays.stays(rng, 20, short=0.0)
    before = landmarks(cohort, "event", (24,)).cohort.streams["state"].values.copy()
    cohort.streams["state"].values[:, 24:] = 99
    assert (landmarks(cohort, "event", (24,)).cohort.streams["state"].values == before).all()


def test_labels_that_nobody_knows_are_not_asked_for(rng: np.random.Generator) -> None:
    cohort = toy_stays.stays(rng, 20)
    cohort.labels["event"][3] = np.nan
    assert 3 not in landmarks(cohort, "event").row
    with pytest.raises(InvalidCohort, match="no stay has a label at hour 70"):
        landmarks(cohort, "event", (70,))
    with pytest.raises(UnknownName, match="did you mean event"):
        landmarks(cohort, "evnt")
