"""Stays whose hidden state is known, and backbones that are that state: what an evaluation must say is known by hand.

Hidden state AR(1) with phi = .9 in each of three directions; measured with a little noise, half of the hours. Tasks:
"dies" (one label a stay, hour 24) with risk a logistic function of the state at hour 24; "event" (by hour): whether
the first direction exceeds 1 six hours on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simlab.cohort import Cohort, Stream, Task

PHI, NOISE = 0.9, 0.1


def stays(rng: np.random.Generator, n: int, hours: int = 72, short: float = 0.2, first: int = 0) -> Cohort:
    z = rng.standard_normal((n, hours, 3))
    for t in range(1, hours):
        z[:, t] = PHI * z[:, t - 1] + np.sqrt(1 - PHI**2) * z[:, t]
    length = np.where(rng.random(n) < short, 20, hours)
    exists = (np.arange(hours) < length[:, None])[..., None]
    x = (z + NOISE * rng.standard_normal(z.shape)).astype(np.float32)
    seen = (rng.random(z.shape) < 0.5) & exists
    time = np.where(exists[..., 0], np.arange(1.0, hours + 1), 0.0)
    risk = 1 / (1 + np.exp(-2 * z[:, min(23, hours - 1), 0]))
    event = np.full((n, hours), np.nan)
    event[:, : hours - 6] = z[:, 6:, 0] > 1
    event[~exists[..., 0]] = np.nan
    record = np.arange(first, first + n)
    tasks = {"dies": Task("dies", "binary", "record", 24.0), "icu-mortality": Task("icu-mortality", "binary", "record"),
             "event": Task("event", "binary", "visit", None, 6.0)}
    dies = (rng.random(n) < risk).astype(np.float64)
    return Cohort(
        streams={"state": Stream(np.where(seen, x, 0), seen, ("hr", "map", "lactate"), ("bpm", "mmHg", "mmol/L"), time),
                 "action": Stream(np.zeros((n, hours, 1), np.float32), np.repeat(exists, 1, axis=2), ("drug",), ("1",),
                                  time),
                 "static": Stream(rng.standard_normal((n, 1, 1)).astype(np.float32), np.ones((n, 1, 1), bool), ("age",),
                                  ("y",))},
        length=length.astype(np.int64), record=record, subject=record.copy(), site=np.full(n, "a"), tasks=tasks,
        labels={"dies": dies, "icu-mortality": dies, "event": event}, risk={"dies": risk},
        factors={"path": z.astype(np.float32), "regime": (np.abs(z[..., 0]) > 2).astype(np.int64)},
    )


@dataclass(frozen=True)
class Seen:
    state: np.ndarray
    static: np.ndarray


class Known:
    """A backbone whose latents are the true state; `rule`: how it rolls out ("truth", "best", "copy")."""

    def __init__(self, rule: str) -> None:
        self.rule = rule

    def encode(self, cohort: Cohort) -> Seen:
        return Seen(cohort.factors["path"].astype(np.float64), cohort.streams["static"].values[:, 0].astype(np.float64))

    def rollout(self, latents: Seen, context: int, horizons: int, actions: str, rng) -> np.ndarray:
        z = latents.state
        if self.rule == "truth":
            ahead = z[:, context : context + horizons]
            return np.pad(ahead, ((0, 0), (0, horizons - ahead.shape[1]), (0, 0)), mode="edge")
        fade = PHI if self.rule == "best" else 1.0
        return z[:, context - 1 : context] * fade ** np.arange(1, horizons + 1)[:, None]
