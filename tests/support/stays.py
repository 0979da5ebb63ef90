"""Small hourly stays with known dynamics: states follow an autoregression that actions push."""

from __future__ import annotations

import numpy as np

from simlab.cohort import Inputs, Stream


def stays(n: int = 40, hours: int = 14, channels: int = 4, actions: int = 2, least: int = 7, seed: int = 0) -> Inputs:
    """Stays of `least` to `hours` hours; at least one has all of them. Values 60 % observed, in made-up units."""
    rng = np.random.default_rng(seed)
    x = np.zeros((n, hours, 3))
    given = (rng.random((n, hours, actions)) < 0.3) * rng.random((n, hours, actions)) * 5
    push = np.random.default_rng(99).standard_normal((actions, 3)) * 0.2
    x[:, 0] = rng.standard_normal((n, 3))
    for t in range(1, hours):
        x[:, t] = 0.9 * x[:, t - 1] + given[:, t - 1] @ push + 0.2 * rng.standard_normal((n, 3))
    shown = np.random.default_rng(98).standard_normal((3, channels))
    values = 50 + 10 * (x @ shown + 0.2 * rng.standard_normal((n, hours, channels)))
    length = rng.integers(least, hours + 1, n)
    length[0] = hours
    there = (np.arange(hours) < length[:, None])[..., None]
    seen = (rng.random(values.shape) < 0.6) & there
    time = np.tile(np.arange(1.0, hours + 1), (n, 1))
    own = Stream(rng.standard_normal((n, 1, 2)).astype(np.float32) * 9 + 60, rng.random((n, 1, 2)) < 0.9,
                 ("age", "male"), ("years", "1"))
    state = Stream(values.astype(np.float32), seen, tuple(f"lab_{i}" for i in range(channels)), ("mmHg",) * channels,
                   time)
    doses = Stream(given.astype(np.float32), np.broadcast_to(there, given.shape).copy(),
                   tuple(f"drug_{i}" for i in range(actions)), ("mcg/h",) * actions, time)
    return Inputs({"state": state, "action": doses, "static": own}, None, length, np.arange(n), np.arange(n),
                  np.full(n, "x"))
