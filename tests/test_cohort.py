"""The contract refuses what breaks it, each with its own line, and inputs cannot reach the future or the labels."""

from __future__ import annotations

import gc
from dataclasses import fields, replace

import numpy as np
import pytest
from clock import over

from simlab.cohort import Cohort, Events, Scenario, Stream, Task
from simlab.errors import InvalidCohort, UnknownName


def stream(records=3, visits=4, channels=("hr", "rr"), static=False, **changes) -> Stream:
    visits = 1 if static else visits
    rng = np.random.default_rng(0)
    parts = {
        "values": rng.normal(size=(records, visits, len(channels))).astype(np.float32),
        "observed": np.ones((records, visits, len(channels)), bool),
        "channels": tuple(channels),
        "units": ("bpm",) * len(channels),
        "time": None if static else np.tile(np.arange(visits, dtype=np.float64), (records, 1)),
    }
    return Stream(**{**parts, **changes})


def cohort(**changes) -> Cohort:
    events = Events(
        offsets=np.array([0, 2, 2, 5]),
        time=np.array([0.0, 2.0, 0.0, 1.0, 3.0]),
        code=np.array(["a", "b", "a", "c", "é"]),
        value=np.array([1.0, np.nan, 2.0, 3.0, 4.0]),
        unit=np.array(["mg", "", "", "mg", ""]),
    )
    parts = {
        "streams": {"vitals": stream(), "static": stream(channels=("age",), static=True)},
        "length": np.array([4, 4, 4]),
        "record": np.array(["p1", "p2", "p3"]),
        "subject": np.array(["s1", "s1", "s2"]),
        "site": np.array(["x", "x", "x"]),
        "tasks": {"death": Task("death", "binary", cutoff=1.0), "stay": Task("stay", "regression", "visit")},
        "labels": {"death": np.array([0.0, 1.0, np.nan])},
        "risk": {"death": np.array([0.1, 0.9, 0.5])},
        "factors": {"c": np.array([7.0, 8.0, 9.0])},
        "events": events,
    }
    return Cohort(**{**parts, **changes})


def planted(array, at, value):
    array = array.copy()
    array[at] = value
    return array


def with_vitals(**changes) -> dict:
    return {"streams": {"vitals": stream(**changes)}}


GOOD = stream()
REFUSED_STREAMS = {
    "float32": {"values": GOOD.values.astype(np.float64)},
    "dtype int64, not float32": {"values": np.zeros((3, 4, 2), np.int64)},
    "not (records, visits, *features)": {"values": np.zeros(3, np.float32)},
    "third axis must be the channels": {"values": np.zeros((3, 4, 5), np.float32)},
    "observed: shape (3, 3, 2), not (3, 4, 2)": {"observed": np.ones((3, 3, 2), bool)},
    "observed: dtype int64, not bool": {"observed": np.ones((3, 4, 2), np.int64)},
    "NaN or infinity where observed, record 1, visit 2, channel 'rr'": {
        "values": planted(GOOD.values, (1, 2, 1), np.nan)
    },
    "infinity where observed, record 0, visit 0, channel 'hr'": {"values": planted(GOOD.values, (0, 0, 0), np.inf)},
    "units must be a tuple of 2": {"units": ("bpm",)},
    "named twice": {"channels": ("hr", "hr")},
    "static and has one visit, not 4": {"time": None},
    "time: dtype float32": {"time": np.zeros((3, 4), np.float32)},
    "time: shape (3, 2)": {"time": np.zeros((3, 2))},
    "scale: 0": {"scale": 0.0},
    "offset: nan": {"offset": float("nan")},
    "scale and offset are for": {"scale": 2.0},
}


@pytest.mark.parametrize("message", REFUSED_STREAMS)
def test_a_stream_that_breaks_a_rule_is_refused_in_one_line(message):
    with pytest.raises(InvalidCohort) as caught:
        stream(**REFUSED_STREAMS[message])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


BACKWARDS = np.array([[0.0, 1, 2, 3], [0, 2, 1, 3], [0, 1, 2, 3]])
REFUSED_COHORTS = {
    "record p1: the id is there 2 times": {"record": np.array(["p1", "p1", "p3"])},
    "record: dtype object": {"record": np.array(["p1", "p2", "p3"], object)},
    "subject: 2 ids for 3 records": {"subject": np.array(["s1", "s2"])},
    "site: shape": {"site": np.array([["x"], ["x"], ["x"]])},
    "stream 'vitals': 2 records, the cohort has 3": with_vitals(records=2),
    "stream '../up' name": None,
    "stream 'vitals', record p2: time goes backwards, from 2 at visit 1 to 1 at visit 2": with_vitals(time=BACKWARDS),
    "record p3, visit 3: time nan": with_vitals(time=planted(stream().time, (2, 3), np.nan)),
    "length, record p2: 5 is not in 0..4": {"length": np.array([4, 5, 4])},
    "length, record p1: -1": {"length": np.array([-1, 4, 4])},
    "length: dtype float64": {"length": np.array([4.0, 4, 4])},
    "stream 'vitals', record p3: observed at visit 2, but its length is 2": {"length": np.array([4, 4, 2])},
    "streams share one visit axis": {"streams": {"vitals": stream(), "labs": stream(visits=3)}},
    "at least one stream": {"streams": {}},
    "labels 'death', record p2: 2 is not 0, 1 or NaN": {"labels": {"death": np.array([0.0, 2, 1])}},
    "labels 'death': shape (2,), not (3)": {"labels": {"death": np.zeros(2)}},
    "labels 'death': dtype int64": {"labels": {"death": np.zeros(3, np.int64)}},
    "labels 'sepsis': no such task (tasks: death, stay)": {"labels": {"sepsis": np.zeros(3)}},
    "labels 'stay': shape (3,), not (3, 4)": {"labels": {"stay": np.zeros(3)}},
    "labels 'stay', record p1, visit 1: inf is not finite": {
        "labels": {"stay": planted(np.zeros((3, 4)), (0, 1), np.inf)}
    },
    "risk 'death', record p1: 1.5 is not in [0, 1]": {"risk": {"death": np.array([1.5, 0, 0])}},
    "risk 'death', record p1: nan is not in [0, 1]": {"risk": {"death": np.array([np.nan, 0, 0])}},
    "risk 'stay': is the probability": {"risk": {"stay": np.zeros((3, 4))}},
    "risk 'sepsis': no such task": {"risk": {"sepsis": np.zeros(3)}},
    "task 'b': is called 'a' inside": {"tasks": {"b": Task("a", "binary")}, "labels": {}, "risk": {}},
    "factor 'c': an array with 3 records first": {"factors": {"c": np.zeros(2)}},
    "events: 1 records, the cohort has 3": {
        "events": Events(np.array([0, 0]), np.zeros(0), np.zeros(0, "U1"), np.zeros(0), np.zeros(0, "U1"))
    },
}
REFUSED_COHORTS["stream '../up' name"] = {"streams": {"../up": stream()}}


@pytest.mark.parametrize("message", REFUSED_COHORTS)
def test_a_cohort_that_breaks_a_rule_is_refused_in_one_line(message):
    with pytest.raises(InvalidCohort) as caught:
        cohort(**REFUSED_COHORTS[message])
    assert message.removesuffix(" name") in str(caught.value) or "stream name '../up'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": np.array([0, 3, 2])}, "offsets"),
        ({"offsets": np.array([1, 2])}, "offsets"),
        ({"time": np.array([1.0, 0.0])}, "goes backwards in record 0"),
        ({"time": np.array([0.0, np.nan])}, "not a finite number"),
        ({"value": np.array([np.inf, 0.0])}, "infinity"),
        ({"code": np.array(["a"])}, "events, code"),
        ({"unit": np.array(["a", "b"], object)}, "events, unit"),
    ],
)
def test_events_that_break_a_rule_are_refused(changes, message):
    good = {
        "offsets": np.array([0, 2]),
        "time": np.array([0.0, 1.0]),
        "code": np.array(["a", "b"]),
        "value": np.zeros(2),
        "unit": np.array(["", ""]),
    }
    with pytest.raises(InvalidCohort, match=message):
        Events(**{**good, **changes})


@pytest.mark.parametrize(
    "arguments", [("a b", "binary"), ("a", "ordinal"), ("a", "binary", "nodule"), ("a", "binary", "record", np.inf)]
)
def test_a_task_that_breaks_a_rule_is_refused(arguments):
    with pytest.raises(InvalidCohort, match="task"):
        Task(*arguments)


def test_padding_may_hold_anything_but_an_observation():
    length = np.array([4, 4, 1])
    observed = stream().observed.copy()
    observed[2, 1:] = False
    values = planted(stream().values, (2, 3, 0), np.nan)
    time = planted(stream().time, (2, 2), -5.0)
    cohort(streams={"vitals": stream(observed=observed, values=values, time=time)}, length=length)


def test_volumes_are_one_channel_and_may_be_stored_small():
    values = np.full((2, 1, 3, 3, 3), 10, np.uint8)
    observed = np.array([[[True]], [[False]]])
    ct = Stream(values, observed, ("ct",), ("HU",), scale=4.0, offset=-1000.0)
    decoded = ct.floats()
    assert decoded.dtype == np.float32
    assert (decoded[0] == -960).all() and (decoded[1] == 0).all()
    with pytest.raises(InvalidCohort, match="int16"):
        Stream(values.astype(np.int16), observed, ("ct",), ("HU",))


def test_subjects_in_two_cohorts_of_a_scenario_are_refused():
    whole = cohort()
    first, last = whole.take(np.array([0, 1])), whole.take(np.array([2]))
    other = replace(last, subject=np.array(["s9"]))
    assert list(Scenario(first, last, other).cohorts()) == ["pretrain", "train", "test"]
    with pytest.raises(InvalidCohort, match="subject s2 is in two cohorts: 'train' and 'there'"):
        Scenario(first, last, other, external={"there": last})
    renamed = replace(other, streams={"vitals": stream(records=1, channels=("hr", "sbp"))})
    with pytest.raises(InvalidCohort, match="other channels in 'test' than in 'pretrain'"):
        Scenario(first, last, renamed)


def test_take_keeps_what_belongs_together():
    part = cohort().take(np.array([2, 0]))
    assert part.record.tolist() == ["p3", "p1"]
    assert part.events.code.tolist() == ["a", "c", "é", "a", "b"]
    assert part.events.offsets.tolist() == [0, 3, 5]
    assert part.factors["c"].tolist() == [9.0, 7.0]
    assert np.array_equal(part.streams["vitals"].values, cohort().streams["vitals"].values[[2, 0]])
    assert cohort().take(np.array([False, True, False])).record.tolist() == ["p2"]
    with pytest.raises(InvalidCohort, match="p1: the id is there 2 times"):
        cohort().take(np.array([0, 0]))
    with pytest.raises(InvalidCohort, match="a mask of 2"):
        cohort().take(np.array([True, False]))


def test_inputs_end_at_the_cutoff():
    shown = cohort().inputs("death")
    vitals = shown.streams["vitals"]
    assert vitals.values.shape == (3, 2, 2)  # times 0 and 1 of 0..3
    assert np.array_equal(vitals.values, cohort().streams["vitals"].values[:, :2])
    assert shown.length.tolist() == [2, 2, 2]
    assert shown.events.code.tolist() == ["a", "a", "c"]
    assert shown.events.offsets.tolist() == [0, 1, 1, 3]
    assert shown.streams["static"].values.shape == (3, 1, 1)
    assert cohort().inputs("stay").streams["vitals"].visits == 4
    with pytest.raises(UnknownName, match="did you mean death"):
        cohort().inputs("deth")


def test_inputs_hide_the_unobserved_and_the_late_visits_of_slower_streams():
    observed = planted(stream().observed, (0, 0, 0), False)
    late = planted(stream().time, (1, slice(1, None)), 50.0)
    whole = cohort(streams={"vitals": stream(observed=observed), "labs": stream(time=late)})
    shown = whole.inputs("death")
    assert shown.streams["vitals"].values[0, 0, 0] == 0
    labs = shown.streams["labs"]
    assert not labs.observed[1, 1].any() and not labs.values[1, 1].any()
    assert labs.time.max() <= 1.0  # how late the value came is of the future, too
    assert shown.length.tolist() == [2, 2, 2]


def test_a_record_without_a_visit_by_the_cutoff_has_length_zero():
    late = stream().time + 50
    shown = cohort(streams={"vitals": stream(time=late)}).inputs("death")
    assert shown.length.tolist() == [0, 0, 0]
    assert shown.streams["vitals"].visits == 1
    assert not shown.streams["vitals"].observed.any() and not shown.streams["vitals"].time.any()


def test_a_single_scan_stands_apart_from_the_visit_axis():
    time = np.array([[0.0], [9.0], [1.0]])
    ct = Stream(np.ones((3, 1, 2, 2, 2), np.float32), np.ones((3, 1, 1), bool), ("ct",), ("HU",), time)
    shown = cohort(streams={"vitals": stream(), "ct": ct}).inputs("death").streams["ct"]
    assert shown.observed[:, 0, 0].tolist() == [True, False, True]
    assert not shown.values[1].any()


def reachable(start: object) -> list[np.ndarray]:
    """Every array that can be walked to from an object: fields, containers, closures and the bases of views."""
    seen, found, todo = set(), [], [start]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, type) or type(item).__name__ in ("module", "function"):
            continue
        seen.add(id(item))
        if isinstance(item, np.ndarray):
            found.append(item)
            todo += [item.base] if item.base is not None else []
        todo += gc.get_referents(item)
    return found


def test_inputs_cannot_reach_labels_or_the_future():
    secret = 31337.0
    whole = cohort()
    marked = whole.streams["vitals"].values.copy()
    marked[:, 2:] = secret
    whole = replace(
        whole,
        streams={"vitals": stream(values=marked), "static": whole.streams["static"]},
        factors={"c": np.full(3, secret)},
        labels={"death": np.array([0.0, 1.0, 1.0])},
    )
    shown = whole.inputs("death")
    arrays = reachable(shown)
    assert len(arrays) >= 10
    ours = [a for s in whole.streams.values() for a in (s.values, s.observed, s.time) if a is not None]
    ours += [whole.length, whole.record, whole.subject, whole.site, *whole.labels.values(), *whole.risk.values()]
    ours += [getattr(whole.events, f.name) for f in fields(whole.events)]
    for array in arrays:
        assert array.base is None
        assert not any(np.shares_memory(array, own) for own in ours)
        assert array.dtype.kind not in "fiu" or secret not in array
    shown.streams["vitals"].values[:] = -1.0
    assert (whole.streams["vitals"].values != -1.0).all()
    assert not hasattr(shown, "labels") and not hasattr(shown, "risk") and not hasattr(shown, "factors")


def test_an_unobserved_value_reaches_no_method():
    secret = 31337.0
    s = stream(values=np.full((3, 4, 2), secret, np.float32), observed=np.zeros((3, 4, 2), bool))
    shown = cohort(streams={"vitals": s}).inputs("stay")
    assert not shown.streams["vitals"].values.any()


def test_building_twenty_thousand_records_is_cheap():
    n = 20_000
    s = stream(records=n, visits=1, channels=tuple(f"x{i}" for i in range(30)), static=True)
    ids = np.arange(n)

    def build():
        tasks, labels = {"y": Task("y", "binary")}, {"y": np.zeros(n)}
        none = np.zeros(n, np.int64)
        Cohort({"image": s, "clinical": s}, none + 1, ids, ids, none, tasks=tasks, labels=labels).inputs("y")

    # Against drawing as many values: seen .1.
    assert over(build, lambda: np.random.default_rng(0).normal(size=(n, 60))) < 1
