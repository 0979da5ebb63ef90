"""Windows of stays: cut by the rule, scaled by training records alone, nothing beyond a window's length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stays import stays

from simlab.errors import InvalidCohort, OutOfDomain
from simlab.models.windows import FAR, fit, staleness, windows


def test_a_long_stay_gives_a_window_every_stride_a_short_one_itself_a_shorter_none() -> None:
    inputs = stays(n=4, hours=30)
    inputs = replace(inputs, length=np.array([30, 29, 10, 5]))
    made = windows(inputs, max_hours=10, stride=8, min_hours=6)
    assert list(zip(made.record.tolist(), made.start.tolist(), made.length.tolist(), strict=True)) == [
        (0, 0, 10), (0, 8, 10), (0, 16, 10), (1, 0, 10), (1, 8, 10), (1, 16, 10), (2, 0, 10)]
    whole = windows(inputs, made.presentation, max_hours=30)
    for window in range(len(made)):
        row, first, length = made.record[window], made.start[window], made.length[window]
        for name in ("state", "observed", "gap", "action"):
            expected = getattr(whole, name)[list(whole.record).index(row), first : first + length]
            np.testing.assert_array_equal(getattr(made, name)[window, :length], expected)


def test_what_was_measured_is_standardised_and_nothing_is_imputed() -> None:
    inputs = stays(n=200)
    made = windows(inputs)
    known = [made.state[..., c][made.observed[..., c]] for c in range(4)]
    np.testing.assert_allclose([x.mean() for x in known], 0, atol=1e-5)
    np.testing.assert_allclose([x.std() for x in known], 1, atol=1e-4)
    assert (made.state[~made.observed] == 0).all()
    doses = made.action[..., 0][made.action[..., 0] != 0]
    np.testing.assert_allclose(np.sqrt((doses**2).mean()), 1, rtol=1e-5)
    back = made.presentation.state.back(made.state)[made.observed]
    state = inputs.streams["state"]
    np.testing.assert_allclose(back, state.values[state.observed], rtol=1e-5, atol=1e-4)


def test_nothing_lies_beyond_a_window_s_length() -> None:
    made = windows(stays())
    for x in (made.state, made.observed, made.gap, made.action):
        assert not x[~made.valid].any()
    assert made.valid.sum() == made.length.sum()


def test_staleness_by_hand() -> None:
    seen = np.array([[0, 1, 0, 0, 1, 0]], bool)[..., None]
    assert (staleness(seen)[0, :, 0] * 24).tolist() == [24, 0, 1, 2, 0, 1]
    assert staleness(np.array([[1] + [0] * 40], bool)[..., None]).max() == 1


def test_scaling_is_the_training_s_and_other_records_move_nothing() -> None:
    training, other = stays(), stays(n=9, seed=5)
    shown = fit(training)
    made = windows(other, shown)
    assert made.presentation is shown
    state = other.streams["state"]
    wild = replace(state, values=state.values * 1e6)
    far = windows(replace(other, streams={**other.streams, "state": wild}), shown)
    assert np.abs(far.state).max() == FAR
    np.testing.assert_array_equal(far.action, made.action)


def test_without_actions_or_statics_and_what_is_refused() -> None:
    inputs = stays()
    alone = replace(inputs, streams={"state": inputs.streams["state"]})
    made = windows(alone)
    assert made.action.shape == (40, 14, 0) and made.static.shape == (40, 0)
    with pytest.raises(InvalidCohort, match="stream action is not there"):
        windows(alone, fit(inputs))
    with pytest.raises(InvalidCohort, match="no record has 20 hours"):
        windows(inputs, min_hours=20)
    with pytest.raises(OutOfDomain, match="max_hours >= min_hours"):
        windows(inputs, max_hours=4)
    with pytest.raises(InvalidCohort, match="no stream over time"):
        fit(replace(inputs, streams={"static": inputs.streams["static"]}))
