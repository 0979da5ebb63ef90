"""What the evaluation of a task may know: the hours until it is asked, the last action, the training stays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import toy_stays

from simlab.cohort import Cohort
from simlab.trajectories import evaluate as evaluation
from simlab.trajectories.evaluate import ROLLED_AT, Plan, evaluate
from simlab.trajectories.landmarks import landmarks
from simlab.trajectories.tasks import encoded

ASKED = 24
PLAN = Plan(contexts=(), horizons=(6,), tasks=("dies", "event"), draws=4, asked=(ASKED,), decode=False)


@dataclass(frozen=True)
class Fed:
    state: np.ndarray
    static: np.ndarray
    action: np.ndarray


class Feeding(toy_stays.Known):
    """The true state and the best forecast of it, moved by the actions that are fed (latents that are the doses). The
    latents of hours from `blind` on are 99. `asked`: (horizons, actions) of each roll-out."""

    def __init__(self, blind: int = 10**9) -> None:
        super().__init__("best")
        self.blind = blind
        self.asked: list[tuple[int, str]] = []

    def encode(self, cohort: Cohort) -> Fed:
        z = super().encode(cohort)
        state = np.where(np.arange(z.state.shape[1])[:, None] < self.blind, z.state, 99.0)
        return Fed(state, z.static, cohort.streams["action"].floats().astype(np.float64))

    def rollout(self, latents: Fed, context: int, horizons: int, actions: str, rng) -> np.ndarray:
        self.asked.append((horizons, actions))
        fed = latents.action[:, context - 1 : context - 1 + horizons]
        fed = fed if actions == "true" else np.repeat(fed[:, :1], horizons, axis=1)
        return super().rollout(latents, context, horizons, actions, rng) + fed


def sides(rng: np.random.Generator) -> tuple[Cohort, Cohort]:
    """Training and test stays that are treated in the hours in which the event is near, as a policy would."""
    both = toy_stays.stays(rng, 80, 40, short=0.0), toy_stays.stays(rng, 120, 40, short=0.0, first=500)
    for cohort in both:
        cohort.streams["action"].values[..., 0] = 3.0 * (cohort.factors["path"][..., 0] > 1)
    return both


def areas(backbone: Feeding, train: Cohort, test: Cohort) -> dict[tuple[str, str], float]:
    return {(row.task, row.arm): row.auroc.value for row in evaluate(backbone, train, test, PLAN).tasks}


def test_tasks_are_rolled_out_on_the_last_action_held(rng: np.random.Generator) -> None:
    """The true actions tell of the hours to come: here the event itself. Every roll-out that a task reads holds the
    last one, on either side, and what is given after the hour asked changes no area."""
    train, test = sides(rng)
    backbone = Feeding()
    told = areas(backbone, train, test)
    assert [actions for horizons, actions in backbone.asked if horizons == max(ROLLED_AT)] == ["held", "held"]
    for cohort in (train, test):
        later = cohort.streams["action"].values[:, ASKED:]
        later[:] = rng.random(later.shape) * 9
    assert areas(Feeding(), train, test) == told


def test_no_latent_after_the_hour_that_is_asked_changes_a_task() -> None:
    """Latents of hour 24 and later are 99: every area is the same; from hour 23 on, none of them is."""
    seeing, blind, late = (areas(Feeding(at), *sides(np.random.default_rng(0))) for at in (10**9, ASKED, ASKED - 1))
    assert seeing == blind and len(seeing) == 4
    assert all(late[row] != area for row, area in seeing.items())


def test_the_recent_mean_is_of_the_hours_before_by_hand(rng: np.random.Generator) -> None:
    """A latent that says its hour, counted from 0: after 24 hours the last is 23 and the mean of 24 is 11.5; after 4
    they are 3 and 1.5; after 30, with 24 back, 29 and 17.5."""
    cohort = toy_stays.stays(rng, 3, short=0.0)
    asked = landmarks(cohort, "event", (4, 24, 30))
    state = np.broadcast_to(np.arange(72.0)[:, None], (3, 72, 1))
    found = encoded(state, np.zeros((3, 0)), asked, 24)
    assert asked.hour.tolist() == [4, 24, 30] * 3
    assert found["last"].ravel().tolist() == [3, 23, 29] * 3
    assert found["recent"].ravel().tolist() == [1.5, 11.5, 17.5] * 3


def test_the_mean_at_the_hour_is_the_training_stays(rng: np.random.Generator) -> None:
    """Training stays of 1 to 8 by the hour, and of 5 times that for seven hours alone: after six hours the means are 21
    (of 7 and 35) and 8. Test stays of 10 in both directions: errors 22 and 4, none of a copy. Stays that go from 10 to
    17: a copy errs by 1 and 2 in a direction, the training's mean by 5 and 9."""
    train, test = toy_stays.stays(rng, 2, hours=8, short=0.0), toy_stays.stays(rng, 2, hours=8, short=0.0)
    train.length[1] = 7
    hours, none = np.arange(8.0)[:, None] * np.ones(2), np.zeros((2, 0))
    known = toy_stays.Seen(np.stack([hours + 1, 5 * (hours + 1)]), none)
    still, rising = (toy_stays.Seen(np.stack([10 + slope * hours] * 2), none) for slope in (0, 1))
    copy, mean, _ = evaluation._beside(still, known, train, test, 6, 2)
    np.testing.assert_allclose(mean, [[22, 4]] * 2)
    assert not copy.any()
    plan = Plan(contexts=(6,), horizons=(1, 2), actions=("true",), draws=2)
    rows = evaluation._drift_rows(toy_stays.Known("copy"), rising, known, train, test, plan, rng)
    assert [row.mase_mean for row in rows] == pytest.approx([1 / 5, 2 / 9])
