"""The printed report: means over the same tasks for every arm, the same stays for roll-out and optimum."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from simlab.evaluation.decoding import Decoded
from simlab.evaluation.drift import Drift
from simlab.evaluation.intervals import Interval
from simlab.train import trajectory_text
from simlab.trajectories import show, tasks
from simlab.trajectories.evaluate import SAME, DriftRow, Report
from simlab.trajectories.tasks import FEW, Scored, few_of_a_class


def report(**given) -> Report:
    blank = dict(shape={"norm": 1.0, "rank": 2.0, "sd": 1.0, "between": 0.5}, drift=(), parts=(), reference="optimum",
                 best=(), geometry={}, decoded=(), tasks=())
    return Report(**{**blank, **given})


def scored(task: str, arm: str, value: float | None, limit: float | None = None) -> Scored:
    auroc = None if value is None else Interval(value, value - 0.1, value + 0.1)
    return Scored(task, arm, 50, 20, auroc, limit=limit, failed="" if auroc else "too few")


def cells(text: str, start: str) -> list[str]:
    line, = (row for row in text.splitlines() if row.startswith(start))
    return re.split(r"\s{2,}", line)


def test_every_arm_s_mean_is_over_the_same_tasks() -> None:
    """A task that one arm could not learn counts for none: .6 and .8, not .7 and .8."""
    rows = (scored("a", "encoded", 0.5), scored("a", "ridge", 0.7), scored("b", "encoded", 0.7),
            scored("b", "ridge", 0.9), scored("hard", "encoded", 0.9), scored("hard", "ridge", None))
    text = show.text(report(tasks=rows))
    assert cells(text, "mean (2 tasks)") == ["mean (2 tasks)", "0.600", "0.800"]
    assert "the same for all" in text and "mean, best known" not in text


def test_the_best_possible_mean_stands_beside_the_same_tasks() -> None:
    rows = (scored("a", "encoded", 0.5, 0.8), scored("a", "ridge", 0.7, 0.8), scored("sepsis", "encoded", 0.7),
            scored("sepsis", "ridge", 0.9))
    text = show.text(report(tasks=rows))
    assert cells(text, "mean (2 tasks)")[1:] == ["0.600", "0.800"]
    assert cells(text, "mean, best known")[1:] == ["0.800", "0.500", "0.700"]
    assert cells(text, "sepsis")[3] == "-" and "(-: neither)" in text


def test_no_task_that_all_arms_have() -> None:
    text = show.text(report(tasks=(scored("a", "encoded", 0.5), scored("a", "ridge", None))))
    assert cells(text, "mean (")[-3:] == ["mean (0 tasks)", "-", "-"]


def test_the_optimum_and_the_roll_out_on_its_stays_have_every_column() -> None:
    best = DriftRow(24, "optimum", Drift(6, 0.3, 0.3, 60, 60, Interval(0.3, 0.2, 0.4)), 2.0, 0.5, 0.6, 0.7, 0.8)
    same = DriftRow(24, SAME, Drift(6, 1.5, 1.5, 60, 60), 1.0, 0.9, 0.95, 0.2, None)
    text = show.text(report(best=(best,), same=(same,)))
    assert cells(text, "24 h     optimum") == ["24 h", "optimum", "6", "+30.0 %", "+30.0 % [+20.0 %, +40.0 %]",
                                               "60/60", "0.500", "0.600", "0.700", "0.800"]
    assert cells(text, "24 h     true, the same stays") == ["24 h", "true, the same stays", "6", "+150.0 %",
                                                            "+150.0 %", "60/60", "0.900", "0.950", "0.200", "-"]
    assert "the same stays" not in show.text(report(best=(best,)))


def test_too_few_of_a_class_are_told_beside_the_mean() -> None:
    """9 positives of 50, and 9 negatives; 10 of each are enough, unless they are of fewer subjects."""
    def one(task: str, n: int, positives: int) -> Scored:
        return Scored(task, "encoded", n, positives, Interval(0.8, 0.7, 0.9))

    rows = (one("deaths", 50, 9), one("most", 50, 41), one("enough", 20, 10))
    assert "mean (3 tasks, 2 of them with fewer than 10 of a class)" in show.text(report(tasks=rows))
    note, = few_of_a_class(rows)
    assert note == ("fewer than 10 subjects with a positive, or with a negative, at test: deaths (9), most (9): no "
                    "claim about their AUROCs can be made.")
    assert few_of_a_class(rows[2:]) == [] and "fewer than" not in show.text(report(tasks=rows[2:]))
    hours = replace(one("kidney", 113, 23), subjects=(8, 30))
    assert ": kidney (8): no claim" in few_of_a_class((hours,))[0]


def test_an_interval_without_width_is_none() -> None:
    """Two positives that every draw ranks first: 1.000, and nothing of its certainty."""
    none = tasks._interval(1.0, np.ones(50))
    assert none.value == 1.0 and math.isnan(none.low) and math.isnan(none.high)
    row = Scored("deaths", "encoded", 9, 2, none)
    assert cells(show.text(report(tasks=(row,))), "deaths")[-1] == "1.000"
    assert tasks._interval(0.5, np.linspace(0, 1, 41)).high == pytest.approx(0.975)
    assert trajectory_text._three([1.0, 1.0, 1.0]) == "1.000" and "[0.4" in trajectory_text._three([0.5, 0.4, 0.6])


def test_ten_positives_cannot_tell_an_area_of_three_quarters_from_two_thirds() -> None:
    """Hanley and McNeil 1982, equation 1: what the constant's reason says."""
    area, n, many = 0.75, FEW, 10**7
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    se = math.sqrt((area * (1 - area) + (n - 1) * (q1 - area**2) + (many - 1) * (q2 - area**2)) / (n * many))
    assert 1.96 * se == pytest.approx(0.18, abs=0.005)


def decoded(name: str, mae: float, mase: float, best: float | None) -> Decoded:
    """A variable whose last value is off by mae / mase."""
    return Decoded(name, 6, 50, mae, 2.5, 0.4, mase, None, None, best, None if best is None else best * mase / mae)


def test_decoded_variables_stand_beside_their_best_forecast() -> None:
    """Medians over the same variables: MASE .5, .9, 1.1; best possible .4, .6, 1.; error over best 1.25, 1.5, 1.1. A
    variable that is never off (weight) counts for none; without an optimum of every variable there is no column."""
    rows = (decoded("hr", 5.0, 0.5, 4.0), decoded("map", 9.0, 0.9, 6.0), decoded("po2", 11.0, 1.1, 10.0),
            Decoded("weight", 6, 50, 1.0, 1.0, None, None, None, None, 0.0))
    told = show.text(report(decoded=rows))
    assert cells(told, "6 ") == ["6", "0.900", "0.600", "1.250", "3"] and "best possible: of the best forecast" in told
    none = show.text(report(decoded=tuple(decoded(row.variable, row.mae, row.mase, None) for row in rows[:3])))
    assert cells(none, "6 ") == ["6", "0.900", "3"] and "best possible" not in none
    exact = show.text(report(decoded=(*rows, decoded("glasgow", 1.0, 0.9, 0.0))))  # .5, .9, .9, 1.1; 0, .4, .6, 1.
    assert cells(exact, "6 ") == ["6", "0.900", "0.500", "1.250", "4"]
    some = show.text(report(decoded=(*rows, decoded("rr", 1.0, 0.9, None))))
    assert cells(some, "6 ") == ["6", "0.900", "-", "-", "4"]
