"""Boundary tables of every label: what is on a threshold, one step on either side, and what is not known."""

from __future__ import annotations

import numpy as np
import pytest

from real_data.labels import failures, outcomes, sepsis, tasks
from real_data.labels.early import early_label, rolling
from real_data.labels.tasks import Course

NAN = np.nan


def row(*values):
    return np.array([values], dtype=float)


def parse(text):
    return row(*(NAN if word == "-" else float(word) for word in text.split()))


EVENTS = "- 1 - - 0 0 - - - - - 0 0 0 - - 1 - 1 - 0 0 0 - 1 0 1"
PUBLISHED = {
    True: "1 - 0 0 0 - - 0 0 0 0 0 1 1 1 1 - - - 0 1 1 1 1 - 1 -",
    False: "1 - 0 0 0 - - 0 0 0 0 0 1 1 1 1 - 1 - 0 1 1 1 1 - 1 -",
}


@pytest.mark.parametrize("switches_only", [True, False])
def test_the_published_vectors_of_the_generic_label(switches_only):
    found = early_label(parse(EVENTS), 4, switches_only)
    np.testing.assert_array_equal(found, parse(PUBLISHED[switches_only]))


def test_the_label_of_an_hour_does_not_see_the_hour_or_what_lies_beyond_the_horizon():
    assert early_label(row(0, NAN, NAN, 1), 2, True)[0].tolist()[1] == 1
    np.testing.assert_array_equal(early_label(row(0, NAN, NAN, 1), 2, True), row(NAN, 1, 1, NAN))
    np.testing.assert_array_equal(early_label(row(0, NAN, NAN, 1), 3, True), row(1, 1, 1, NAN))
    np.testing.assert_array_equal(early_label(row(1, 0, 0), 1, False), row(NAN, 0, NAN))


def test_labels_do_not_depend_on_the_past_unless_only_beginnings_count(rng):
    """Shuffling the hours before t changes no label at t or later; values at t + horizon + 1 change none at t."""
    events = rng.choice([0.0, 1.0, NAN], size=(20, 40))
    shuffled = events.copy()
    shuffled[:, :20] = rng.permuted(events[:, :20], axis=1)
    np.testing.assert_array_equal(early_label(events, 5, False)[:, 20:], early_label(shuffled, 5, False)[:, 20:])
    late = events.copy()
    late[:, 26:] = 1 - late[:, 26:]
    for mode in (True, False):
        np.testing.assert_array_equal(early_label(events, 5, mode)[:, :21], early_label(late, 5, mode)[:, :21])


def test_windows_hold_both_ends():
    values = row(*range(10))
    assert rolling(values, 3, "min")[0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]
    assert rolling(row(1, NAN, 2), 2, "sum")[0].tolist() == [1, 1, 2]
    long = np.full((1, 60), NAN)
    long[0, 0], long[0, 48], long[0, 49] = 1.0, 1.3, 1.3
    stage = failures.kidney_injury(long)[0]
    assert (stage[48], stage[49]) == (1, 0)  # 48 hours before belongs to the window, 49 does not


@pytest.mark.parametrize(
    ("po2", "fio2", "ventilated", "below_200", "below_100"),
    [
        (80, 40, True, 0, 0),  # 200: not below
        (79.999999, 40, True, 1, 0),
        (40, 40, True, 1, 0),  # 100
        (39.9, 40, True, 1, 1),
        (42, NAN, False, 0, 0),  # room air: 42 / 0.21 = 200
        (41, NAN, False, 1, 0),
        (41, NAN, True, NAN, NAN),  # on a ventilator without FiO2: not known
        (NAN, 40, True, NAN, NAN),
        (80 * (1 - 1e-15), 40, True, 0, 0),  # rounding is no failure
    ],
)
def test_respiratory_failure(po2, fio2, ventilated, below_200, below_100):
    ratio = failures.pf_ratio(row(po2), row(fio2), np.array([[ventilated]]))
    np.testing.assert_array_equal(failures.below(ratio, 200), row(below_200))
    np.testing.assert_array_equal(failures.below(ratio, 100), row(below_100))


def test_the_last_charted_fraction_of_oxygen_is_taken_never_a_later_one():
    ratio = failures.pf_ratio(row(90, 90, 90), row(NAN, 50, NAN), np.zeros((1, 3), bool))
    assert ratio[0].tolist() == pytest.approx([90 / 0.21, 180, 180])


@pytest.mark.parametrize(
    ("pressure", "drug", "lactate", "event"),
    [
        (65, False, 2.0, 1),
        (65.1, False, 2.0, NAN),
        (65, False, 1.99, NAN),
        (65.1, False, 1.99, 0),
        (90, True, 2.0, 1),
        (90, True, 1.0, NAN),
        (NAN, True, 2.0, 1),
        (NAN, False, 2.0, NAN),
        (NAN, False, 1.0, NAN),
        (60, False, NAN, NAN),
        (65 + 1e-12, False, 2 - 1e-12, 1),
    ],
)
def test_circulatory_failure(pressure, drug, lactate, event):
    found = failures.circulatory(row(pressure), np.array([[drug]]), row(lactate))
    np.testing.assert_array_equal(found, row(event))


@pytest.mark.parametrize(
    ("before", "now", "stage", "failure"),
    [
        (0.9, 1.2, 1, 0),  # 1.2 - 0.9 is 0.29999999999999993
        (0.9, 1.19, 0, 0),
        (1.0, 1.5, 1, 0),
        (1.0, 1.99, 1, 0),
        (1.0, 2.0, 2, 0),
        (1.0, 2.99, 2, 0),
        (1.0, 3.0, 3, 1),
        (3.7, 4.0, 3, 0),  # KDIGO: >= 4.0; the early event: > 4
        (3.7, 4.1, 3, 1),
        (3.9, 4.1, 0, 0),  # above 4 without a rise
        (NAN, 4.5, 0, 0),
    ],
)
def test_kidney_failure_by_creatinine(before, now, stage, failure):
    creatinine, unknown = row(before, now), row(NAN, NAN)
    assert failures.kidney_injury(creatinine)[0, 1] == stage
    none = np.zeros((1, 2), bool)
    assert failures.kidney(creatinine, unknown, unknown, none)[0, 1] == failure


@pytest.mark.parametrize(
    ("rate", "hours", "stage"),
    [
        (0.5, 6, 0), (0.49, 5, NAN), (0.49, 6, 1), (0.49, 11, 1), (0.49, 12, 2), (0.5, 24, 0), (0.3, 24, 2),
        (0.29, 23, 2), (0.29, 24, 3), (0.0, 11, 1), (0.0, 12, 3),
    ],
)  # fmt: skip
def test_kidney_injury_by_urine(rate, hours, stage):
    urine, weight = np.full((1, hours), rate * 80), np.full((1, hours), 80.0)
    np.testing.assert_array_equal(failures.kidney_injury_by_urine(urine, weight)[0, -1], stage)


def test_twelve_dry_hours_count_though_the_last_six_were_better():
    urine = np.repeat([[0.3, 0.6]], 6, axis=1) * 80  # .45 mL/kg/h over 12 hours, .6 over the last 6
    assert failures.kidney_injury_by_urine(urine, np.full((1, 12), 80.0))[0, -1] == 2


def test_urine_that_nobody_charted_is_not_no_urine():
    unknown = np.full((1, 30), NAN)
    assert np.isnan(failures.kidney(unknown, unknown, np.full((1, 30), 80.0), np.zeros((1, 30), bool))).all()


def test_a_replaced_kidney_failed_for_good():
    replaced = np.array([[False, True, False]])
    found = failures.kidney(row(1, NAN, 1), row(NAN, NAN, NAN), row(NAN, NAN, NAN), replaced)
    np.testing.assert_array_equal(found, row(0, 1, 1))


def test_meld():
    no = np.zeros((1, 1), bool)
    assert failures.meld(row(0.5), row(0.9), row(0.8), no)[0, 0] == pytest.approx(6.43)  # nothing counts below 1
    expected = 3.78 * np.log(3) + 11.2 * np.log(2) + 9.57 * np.log(1.5) + 6.43
    assert failures.meld(row(3), row(2), row(1.5), no)[0, 0] == pytest.approx(expected)
    dialysed = failures.meld(row(3), row(2), row(1.5), ~no)[0, 0]
    assert dialysed == pytest.approx(3.78 * np.log(3) + 11.2 * np.log(2) + 9.57 * np.log(4) + 6.43)
    two = np.zeros((1, 2), bool)
    assert np.isnan(failures.meld(row(3, NAN), row(NAN, NAN), row(1, NAN), two)).all()
    known = failures.meld(row(3, NAN, NAN), row(2, NAN, NAN), row(1.5, NAN, 1.5), np.zeros((1, 3), bool))
    np.testing.assert_array_equal(np.isnan(known), [[False, True, False]])


@pytest.mark.parametrize(
    ("death", "followed", "label"),
    [
        (168.0, 9000, 1), (168.0 + 1e-12, 9000, 1), (168.01, 9000, 0), (NAN, 9000, 0), (NAN, 168, 0), (NAN, 167.9, NAN),
        (100, 50, 1),
    ],
)  # fmt: skip
def test_death_within_seven_days_and_censoring(death, followed, label):
    found = outcomes.died_within(np.array([float(death)]), np.array([float(followed)]), 168)
    np.testing.assert_array_equal(found, [label])


@pytest.mark.parametrize(
    ("died", "death", "out", "label"),
    [(1, 30, 30, 1), (1, 30.1, 30, 0), (1, NAN, 30, NAN), (0, NAN, 30, 0), (1, 10, 30, 1), (NAN, NAN, 30, NAN)],
)
def test_death_in_intensive_care(died, death, out, label):
    found = outcomes.died_in_care(np.array([float(died)]), np.array([float(death)]), np.array([float(out)]))
    np.testing.assert_array_equal(found, [label])


@pytest.mark.parametrize(("out", "label"), [(168.0, 0), (168.1, 1), (20.0, 0), (NAN, NAN)])
def test_a_stay_of_more_than_seven_days(out, label):
    np.testing.assert_array_equal(outcomes.longer_than(np.array([out]), 168), [label])


def test_decompensation_is_death_in_the_next_day_and_never_missing():
    found = outcomes.dies_soon(np.array([30.0, NAN, 30.0]), np.array([1.0, 0.0, 0.0]), 8, 24.0)
    assert found[0].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]  # hour 5 is over at 6, 24 hours before
    assert not found[1:].any() and not np.isnan(found).any()


@pytest.mark.parametrize(
    ("score", "points"),
    [
        (lambda: sepsis.respiration(row(400, 399, 300, 299, 199, 99), np.zeros((1, 6), bool)), [0, 1, 1, 2, 2, 2]),
        (lambda: sepsis.respiration(row(200, 199, 100, 99), np.ones((1, 4), bool)), [2, 3, 3, 4]),
        (
            lambda: sepsis.steps(row(150, 149, 100, 99, 50, 49, 20, 19), (150, 100, 50, 20), False),
            [0, 1, 1, 2, 2, 3, 3, 4],
        ),
        (lambda: sepsis.steps(row(1.19, 1.2, 2, 6, 12, NAN), (1.2, 2, 6, 12), True), [0, 1, 2, 3, 4, 0]),
        (lambda: sepsis.renal(row(1.19, 1.2, 2, 3.5, 5), row(*[NAN] * 5)), [0, 1, 2, 3, 4]),
    ],
)  # fmt: skip
def test_points_of_sofa(score, points):
    assert score()[0].tolist() == points


@pytest.mark.parametrize(("urine", "points"), [(500, 0), (499, 3), (200, 3), (199, 4)])
def test_points_of_a_days_urine(urine, points):
    hours = np.full((1, 24), urine / 24)
    assert sepsis.renal(np.full((1, 24), NAN), hours)[0, -1] == points
    assert sepsis.renal(np.full((1, 24), NAN), hours)[0, -2] == 0  # not a whole day yet


@pytest.mark.parametrize(
    ("given", "pressure", "points"),
    [
        ({}, 70, 0), ({}, 69, 1), ({"dopamine": 5}, 90, 2), ({"dobutamine": 1}, 90, 2), ({"dopamine": 5.1}, 90, 3),
        ({"norepinephrine": 0.1}, 90, 3), ({"epinephrine": 0.11}, 90, 4), ({"dopamine": 15}, 90, 3),
        ({"dopamine": 15.1}, 90, 4), ({}, NAN, 0),
    ],
)  # fmt: skip
def test_points_of_the_circulation(given, pressure, points):
    rates = {n: row(given.get(n, 0)) for n in ("norepinephrine", "epinephrine", "dopamine", "dobutamine")}
    assert sepsis.circulation(row(pressure), rates)[0, 0] == points


@pytest.mark.parametrize(
    ("scale", "tube", "points"),
    [((4, 5, 6), False, 0), ((4, 4, 6), False, 1), ((4, 4, 5), False, 1), ((3, 4, 5), False, 2),
     ((3, 3, 4), False, 2), ((3, 2, 4), False, 3), ((2, 1, 3), False, 3), ((1, 1, 3), False, 4),
     ((1, 1, 3), True, 0), ((NAN, 1, 3), False, 0)],
)  # fmt: skip
def test_points_of_consciousness(scale, tube, points):
    eye, verbal, motor = (row(v) for v in scale)
    assert sepsis.consciousness(eye, verbal, motor, np.array([[tube]]))[0, 0] == points


@pytest.mark.parametrize(
    ("drug", "culture", "times"),
    [(72, 0, [0]), (72.1, 0, []), (0, 24, [0]), (0, 24.1, []), (10, 10, [10]), (5, -60, [-60])],
)
def test_suspicion_of_infection(drug, culture, times):
    assert sepsis.suspected([drug], [culture]) == times


def test_sepsis_begins_when_both_are_there():
    score = np.zeros(100)
    score[40:] = 2
    assert sepsis.onset(score, [20.0]) == 40
    assert sepsis.onset(score, [16.0]) == 40  # 24 hours after belongs
    assert np.isnan(sepsis.onset(score, [15.0]))
    assert sepsis.onset(score, [60.0]) == 60
    assert np.isnan(sepsis.onset(score, []))


@pytest.fixture
def course():
    names = ("map", "lactate", "creatinine", "urine", "weight", "bilirubin", "inr", "po2", "fio2", "gcs_eye",
             "gcs_verbal", "gcs_motor", "platelets")  # fmt: skip
    drugs = (*tasks.VASOACTIVE, "crrt", "dialysis", "ventilation_invasive", "ventilation_noninvasive")

    def make(stays=2, hours=96, **changes):
        fields = {
            "died": np.zeros(stays), "death": np.full(stays, NAN), "gone": np.full(stays, NAN),
            "followed": np.full(stays, 9999.0), "out": np.full(stays, 50.0),
            "seen": {n: np.full((stays, hours), NAN) for n in names},
            "given": {n: np.zeros((stays, hours)) for n in drugs},
            "cultures": [[] for _ in range(stays)], "antibiotics": [[] for _ in range(stays)],
        }  # fmt: skip
        return Course(**(fields | changes))

    return make


def test_every_task_has_a_label_and_none_lies_beyond_the_stay(course):
    made = course()
    made.given["crrt"][0, 10:] = 1
    found, told = tasks.labels(made, 24, 72), tasks.described(24, 96)
    assert set(found) == set(told) and len(told) == 15
    for name, task in told.items():
        assert found[name].shape == ((2,) if task.level == "record" else (2, 72))
        if task.level == "visit":
            assert np.isnan(found[name][:, 50:]).all()
    assert found["kidney-failure"][0, 9] == 1 and np.isnan(found["kidney-failure"][0, 10])


def test_sepsis_before_the_window_is_not_asked_for(course):
    made = course(stays=3, cultures=[[1.0], [30.0], [30.0]], antibiotics=[[2.0], [31.0], []])
    made.seen["platelets"][:, 5] = 90.0
    made.seen["platelets"][:, 26] = 90.0
    np.testing.assert_array_equal(tasks.labels(made, 24, 72)["sepsis"], [NAN, 1, 0])
    assert np.isnan(tasks.labels(course(cultures=None), 24, 72)["sepsis"]).all()


def known(course, task, visits=96):
    return np.flatnonzero(tasks.labels(course, 24, visits)[task][0] == 1).tolist()


@pytest.mark.parametrize(
    ("task", "seen", "first", "others"),
    [
        ("respiratory-failure", {"po2": 199, "fio2": 100}, 36, {"po2": 200}),
        ("severe-respiratory-failure", {"po2": 99, "fio2": 100}, 36, {"po2": 100}),
        ("circulatory-failure", {"map": 65, "lactate": 2}, 52, {"map": 66}),
        ("kidney-failure", {"creatinine": 4.1}, 12, {"creatinine": 4.0}),
        ("severe-meld", {"bilirubin": 10, "inr": 2, "creatinine": 2.101}, 12, {"creatinine": 2.1}),
    ],
)
def test_each_early_task_has_its_event_and_its_hours(course, task, seen, first, others):
    """The event at hour 60 alone: hours from 60 - horizon to 59 are 1; one step short of the threshold, none is.

    MELD: 3.78 ln 10 + 11.2 ln 2 + 6.43 = 22.897, so that 30 is reached at a creatinine of exp(7.103 / 9.57) = 2.1006.
    """
    for values, hours in ((seen, list(range(first, 60))), (seen | others, [])):
        made = course(out=np.full(2, 80.0))
        made.seen["creatinine"][:, 0] = 1.5 if task == "kidney-failure" else NAN
        for name, value in values.items():
            made.seen[name][:, 60] = value
        assert known(made, task) == hours


def test_phenylephrine_is_no_vasoactive_drug_of_the_published_list(course):
    made = course(out=np.full(2, 80.0))
    made.seen["lactate"][:, 60] = made.seen["map"][:, 60] = 90.0
    made.given["phenylephrine"] = np.ones((2, 96))
    assert known(made, "circulatory-failure") == []
    made.given["milrinone"][:, 60] = 1.0
    assert known(made, "circulatory-failure") == list(range(52, 60))


@pytest.mark.parametrize(
    ("out", "death", "label"),
    [(24, NAN, 0), (23.9, NAN, NAN), (50, 24, 1), (50, 23.9, NAN), (50, 50, 1), (50, 50.1, 0)],
)
def test_mortality_at_24_hours_asks_those_who_are_there(course, out, death, label):
    died = np.full(2, float(not np.isnan(death)))
    made = course(out=np.full(2, float(out)), death=np.full(2, float(death)), died=died)
    np.testing.assert_array_equal(tasks.labels(made, 6, 72)["mortality-at-24h"], [label, label])
