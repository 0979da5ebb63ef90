"""The printed report: means over the same tasks for every arm, the same stays for roll-out and optimum."""

from __future__ import annotations

import math
import re

from simlab.evaluation.decoding import Decoded
from simlab.evaluation.drift import Drift, Parts
from simlab.evaluation.intervals import Interval
from simlab.trajectories import show
from simlab.trajectories.evaluate import Report
from simlab.trajectories.tasks import Scored


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


def test_the_roll_out_is_shown_on_the_optimum_s_stays() -> None:
    """Published x1.5, survivorship ln 1.2, sample ln .5: on the optimum's stays it is 1.5 / 1.2 / .5 = 2.5 times."""
    part = Parts(6, math.log(1.5), math.log(1.2), 0.1, 0.1, 0.1, 0.1, math.log(2.5) - 0.4, math.log(0.5))
    best = Drift(6, 0.3, 0.3, 60, 60, Interval(0.3, 0.2, 0.4))
    text = show.text(report(parts=(part,), best=(best,)))
    same, = (row for row in text.splitlines() if "the same stays" in row)
    assert "+150.0 %" in same and "60/60" in same and "+30.0 % [+20.0 %, +40.0 %]" in text
    whole = show.text(report(parts=(Parts(6, 0.4, 0.1, 0.1, 0.1, 0.1, 0.1, -0.1),), best=(best,)))
    assert "the same stays" not in whole


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
    some = show.text(report(decoded=(*rows, decoded("rr", 1.0, 0.9, None))))
    assert cells(some, "6 ") == ["6", "0.900", "-", "-", "4"]
