"""When patients come: regular, Poisson and self-exciting (Hawkes) visit times, drawn exactly and without rejection.

The first visit is at time 0. After it, visits come with intensity

    mu(l) + sum over earlier visits of b omega exp(-omega (t - t_i)),
    mu(l) = (1 - b) r_v exp(gamma_obs l - gamma_obs^2/2)

(b = 0: Poisson; gamma_obs = 0: whatever the liability), until `n_visits` are made or the window ends. What exceeds
mu fades exponentially, so the next visit is the earlier of two, one of the fading part and one of the constant part,
both with closed-form inverses (Dassios and Zhao 2013): two uniforms a visit, so that times move smoothly with knobs.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from simlab.environments.visit_knobs import LongitudinalSpec
from simlab.limits.missing import base_rate
from simlab.limits.visits import regular_times


def draw(
    spec: LongitudinalSpec, liability: Float[np.ndarray, " n"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "n J"], Int[np.ndarray, " n"]]:
    """Visit times in years, 0 beyond a record's visits, and how many visits each record has (at least one)."""
    n = len(liability)
    if spec.times == "regular":
        return np.tile(regular_times(spec), (n, 1)), np.full(n, spec.n_visits)
    uniform = 1 - rng.random((n, spec.n_visits, 2))  # in (0, 1]
    time = np.zeros((n, spec.n_visits))
    rate, excited = base_rate(spec, liability), np.zeros(n)
    for j in range(1, spec.n_visits):
        excited = excited + spec.b_h * spec.omega_h
        wait = _wait(rate, excited, spec.omega_h, uniform[:, j, 0], uniform[:, j, 1])
        excited = excited * np.exp(-spec.omega_h * wait)
        time[:, j] = time[:, j - 1] + wait
    inside = time <= spec.window
    return np.where(inside, time, 0.0), inside.sum(axis=1)


def _wait(
    rate: Float[np.ndarray, " n"],
    excited: Float[np.ndarray, " n"],
    decay: float,
    one: Float[np.ndarray, " n"],
    two: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Time to the next event of intensity rate + excited exp(-decay t), from two uniforms in (0, 1]."""
    constant = -np.log(two) / rate
    left = 1 + decay * np.log(one) / np.where(excited > 0, excited, 1.0)
    comes = (excited > 0) & (left > 0)
    fading = np.where(comes, -np.log(np.where(comes, left, 1.0)) / decay, np.inf)
    return np.minimum(constant, fading)
