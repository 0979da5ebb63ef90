"""The longitudinal world written down a second time, forwards in time: a sampler that shares no code with simlab's.

Times first, then every process from the first visit on, the liability at the last one, shortcut and gaps from it. The
package draws the last visit first and goes backwards; here times do not depend on the liability (gamma_obs = 0).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import norm

from simlab.environments.visit_knobs import LongitudinalSpec
from simlab.limits.visits import Evidence


def visits(s: LongitudinalSpec, external: bool, n: int, rng: np.random.Generator) -> tuple[Evidence, np.ndarray]:
    """What n records of one hospital show along beta, and their labels; n before any resampling."""
    kappa, strength = (s.kappa_e, s.lambda_e) if external else (s.kappa_s, s.lambda_s)
    mu, tau = (s.mu_e, s.tau_e) if external else (0.0, 1.0)
    slopes = np.sqrt(s.h2 * np.array([s.w_c, s.w_u, s.w_v])) * (
        np.array([1, s.delta_u_e, s.delta_v_e]) if external else 1.0)
    time, exists = times(s, n, rng)
    length = exists.sum(1)
    c, u, v = (mu + tau * process(theta, time, rng) for theta in (s.theta_c, s.theta_u, s.theta_v))
    copy = kappa * c + np.sqrt(1 - kappa**2) * process(s.theta_c, time, rng)
    rows, last = np.arange(n), length - 1
    level = sum(a * x[rows, last] for a, x in zip(slopes, (c, u, v), strict=True))
    level = level + np.sqrt(max(1 - slopes @ slopes, 0.0)) * rng.standard_normal(n)

    def read(x: np.ndarray, rel: float) -> np.ndarray:
        return x + np.sqrt(1 / rel - 1) * rng.standard_normal(x.shape)

    c_image, u_image, c_record, v_record = read(c, s.rel_ci), read(u, s.rel_u), read(copy, s.rel_cc), read(v, s.rel_v)
    noise = rng.standard_normal((n, 1 if s.shortcut_kind == "static" else s.n_visits))
    a = np.broadcast_to(strength * level[:, None] + np.sqrt(1 - strength**2) * noise, exists.shape)
    seen = gaps(s, external, level, exists, {"image": (c_image, u_image), "clinical": (c_record, v_record)}, last, rng)
    shown = Evidence(c_image, u_image, c_record, v_record, seen["image"], seen["clinical"], np.where(exists, time, 0.0),
                     length, shortcut=None if s.shortcut == "none" else np.array(a))
    return classes(s, external, shown, level, rng)


def times(s: LongitudinalSpec, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Visit times, and which exist: Poisson and Hawkes by thinning, event by event."""
    if s.times == "regular":
        return np.tile(np.arange(s.n_visits) / s.r_v, (n, 1)), np.ones((n, s.n_visits), bool)
    time, exists = np.full((n, s.n_visits), np.inf), np.zeros((n, s.n_visits), bool)
    base = (1 - s.b_h) * s.r_v
    for i in range(n):
        past, now = [0.0], 0.0
        while len(past) < s.n_visits:
            bound = base + sum(s.b_h * s.omega_h * np.exp(-s.omega_h * (now - p)) for p in past)
            now += rng.exponential(1 / bound)
            if now > s.window:
                break
            rate = base + sum(s.b_h * s.omega_h * np.exp(-s.omega_h * (now - p)) for p in past)
            if rng.uniform() * bound < rate:
                past.append(now)
        time[i, :len(past)], exists[i, :len(past)] = past, True
        time[i, len(past):] = past[-1]
    return time, exists


def process(theta: float, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An Ornstein-Uhlenbeck process of variance one at these times, forwards."""
    x = np.empty(time.shape)
    x[:, 0] = rng.standard_normal(len(time))
    for j in range(1, time.shape[1]):
        kept = np.exp(-theta * (time[:, j] - time[:, j - 1]))
        x[:, j] = kept * x[:, j - 1] + np.sqrt(1 - kept**2) * rng.standard_normal(len(time))
    return x


def gaps(s, external, level, exists, shown, last, rng):
    """Which visits each stream shows: the selection index of docs/visits.md, a by the marginal share in the law."""
    share, rows, out = s.p_miss_e if external else s.p_miss, np.arange(len(level)), {}
    evidence = {}
    for view, (one, two) in shown.items():
        shared, own, rel_c, rel = ((1.0, s.w_u, s.rel_ci, s.rel_u) if view == "image"
                                   else (s.kappa_s, s.w_v, s.rel_cc, s.rel_v))
        spread = np.sqrt(shared**2 * s.w_c * rel_c + own * rel)
        best = shared * np.sqrt(s.w_c) * rel_c * one[rows, last] + np.sqrt(own) * rel * two[rows, last]
        evidence[view] = best / spread if spread > 0 else 0 * best
    for view in shown:
        other = "clinical" if view == "image" else "image"
        out[view] = exists.copy()
        if share > 0 and s.missing_in in (view, "both"):
            w = s.gamma_1 * evidence[other] + s.gamma_2 * evidence[view] + s.gamma_3 * level
            # Means and variances of w are Gaussian facts; here they are taken from many records, so n must be large.
            start = np.sqrt(1 + w.var()) * norm.ppf(share) - w.mean()
            out[view] &= start + w[:, None] + rng.standard_normal(exists.shape) <= 0
    return out


def classes(s, external, shown, level, rng):
    """Labels; where asked for, the threshold moved to a share of positives, or records of a class dropped."""
    y = level > norm.ppf(1 - s.prevalence)
    if not external or s.prevalence_e is None:
        return shown, y
    if s.prevalence_kind == "threshold":
        return shown, level > np.quantile(level, 1 - s.prevalence_e)
    odds, asked = y.sum() / max((~y).sum(), 1), s.prevalence_e / (1 - s.prevalence_e)
    keep = np.flatnonzero(rng.uniform(size=len(y)) < np.where(y, min(asked / odds, 1), min(odds / asked, 1)))
    arrays = {name: x[keep] for name, x in vars(shown).items() if isinstance(x, np.ndarray)}
    return replace(shown, **arrays), y[keep]
