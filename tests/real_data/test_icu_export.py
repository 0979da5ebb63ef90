"""Stays of the ICU world written as MIMIC-IV's raw tables and read back by the adapter are the same cohort."""

from __future__ import annotations

import numpy as np
import pytest

from real_data.account import Account
from real_data.mimic_iv import adapter, export
from real_data.mimic_iv.stays import Rules
from real_data.mimic_iv.variables import ACTIONS, STATE, STATIC
from simlab.environments import icu_channels
from simlab.environments.icu_knobs import spec
from simlab.environments.scenario import sample_cohort


def test_channels_items_and_ranges_are_the_adapters():
    assert [(c.name, c.itemid in {i.itemid for i in v.items}) for c, v in zip(icu_channels.CHANNELS, STATE, strict=True)
            ] == [(v.name, True) for v in STATE]
    for c, v in zip(icu_channels.CHANNELS, STATE, strict=True):
        if c.name != icu_channels.BY_WEIGHT:
            assert (c.unit, c.low, c.high) == (v.unit, v.low, v.high)
    assert [a[:2] for a in icu_channels.ACTIONS] == [(a.name, a.unit) for a in ACTIONS]
    assert all(number in a.itemids for (_, _, number), a in zip(icu_channels.ACTIONS, ACTIONS, strict=True))
    assert icu_channels.STATIC == STATIC


@pytest.fixture(scope="module")
def there_and_back(tmp_path_factory):
    """Forty whole stays, sick ones; the cohort, its export prepared, and that prepared with the default hours."""
    world = spec(events="on", max_hours=336, admission_severity=1.0)
    cohort = sample_cohort(world, "test-data", 40, 3, 0, world="icu")
    folder = tmp_path_factory.mktemp("raw")
    export.export(cohort, folder, lambda _: None)
    again = adapter.prepare(folder, Rules(max_hours=336), Account(), lambda _: None)
    return cohort, again, adapter.prepare(folder, Rules(), Account(), lambda _: None)


def test_stays_there_and_back(there_and_back):
    """Values (amounts: to a millionth), masks, lengths, statics, tasks and every label, up to the longest stay."""
    cohort, again, _ = there_and_back
    visits = again.visits
    assert np.array_equal(cohort.record, again.record) and np.array_equal(cohort.subject, again.subject)
    assert np.array_equal(cohort.length, again.length)
    for name, s in cohort.streams.items():
        t = again.streams[name]
        assert (s.channels, s.units) == (t.channels, t.units)
        part = slice(None, min(visits, s.visits))
        assert np.array_equal(s.observed[:, part], t.observed), name
        shown = np.where(s.observed, s.values, 0)[:, part]
        np.testing.assert_allclose(shown, t.values, rtol=1e-6 if name == "action" else 0, atol=0, err_msg=name)
        assert s.time is None or np.array_equal(s.time[:, part], t.time)
    assert cohort.tasks == again.tasks
    for name, y in cohort.labels.items():
        np.testing.assert_array_equal(y if y.ndim == 1 else y[:, :visits], again.labels[name], err_msg=name)
        assert np.nansum(y) > 0, name
    assert np.isnan(cohort.labels["sepsis"]).any() and (cohort.labels["sepsis"] == 0).any()


def test_the_first_hours_of_whole_stays_are_those_of_a_shorter_preparation(there_and_back):
    """Labels look 48 hours beyond what is shown, here as in the adapter; only sepsis is told of another span."""
    cohort, _, short = there_and_back
    visits = short.visits
    assert visits == 72 and np.array_equal(np.minimum(cohort.length, 72), short.length)
    state = cohort.streams["state"]
    assert np.array_equal(state.observed[:, :72], short.streams["state"].observed)
    for name, y in cohort.labels.items():
        if name != "sepsis":
            np.testing.assert_array_equal(y if y.ndim == 1 else y[:, :72], short.labels[name], err_msg=name)
