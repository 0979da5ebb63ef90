"""The one-visit world written down a second time, from its equations alone: a sampler sharing no code with simlab's.

Every factor is drawn record by record and added up; no covariance, no block and no reweighting formula appears, so that
agreement of its labels with the exact limits says something.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from simlab.environments.knobs import GaussianSpec


def records(s: GaussianSpec, external: bool, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Measured coordinates (n, p), image first, and labels (n,) of one hospital; n before any resampling."""
    def knob(symbol: str, inside: object) -> object:
        return getattr(s, symbol) if external else inside

    kappa, nu, eta = knob("kappa_e", s.kappa_s), knob("nu_e", s.nu), knob("eta_e", s.eta_s)
    mu, tau, theta = knob("mu_e", 0.0), knob("tau_e", 1.0), knob("theta_e", 0.0)
    rho, strength = knob("rho_s_e", s.rho_s), knob("lambda_e", s.lambda_s)
    normal = rng.standard_normal
    causes, level, taken = [], np.zeros(n), s.h2 * s.w_x + rho**2
    for d, weight, slope in ((s.d_c, s.w_c, 1.0), (s.d_u, s.w_u, knob("delta_u_e", 1.0)),
                             (s.d_v, s.w_v, knob("delta_v_e", 1.0))):
        beta = np.full(d, d**-0.5)
        x = normal((n, d))
        x += np.outer((tau - 1) * (x @ beta) + mu, beta)
        loading = np.cos(theta) * beta
        if theta:
            loading[:2] += np.sin(theta) * np.array([1, -1]) / 2**0.5
        level += slope * (s.h2 * weight) ** 0.5 * (x @ loading)
        taken += slope**2 * s.h2 * weight
        causes.append(x)
    c, u, v = causes
    effect = sites(knob("n_sites_e", s.n_sites), rng, n) + knob("mu_site_e", 0.0)
    level += (s.h2 * s.w_x) ** 0.5 * u[:, 0] * v[:, 0] + rho * effect + max(1 - taken, 0.0) ** 0.5 * normal(n)
    own = (1 - s.omega_s**2) ** 0.5
    g = normal((n, s.d_g))
    other = nu * g + (1 - nu**2) ** 0.5 * normal(g.shape)
    g, other = (s.alpha_g * (own * x + s.omega_s * effect[:, None]) for x in (g, other))
    a = strength * level + (1 - strength**2) ** 0.5 * normal(n)
    e = normal((n, s.d_c))
    e2 = eta * e + (1 - eta**2) ** 0.5 * normal(e.shape)
    copy = kappa * c + (1 - kappa**2) ** 0.5 * normal(c.shape)
    image = [c + (1 / s.rel_ci - 1) ** 0.5 * e, u + (1 / s.rel_u - 1) ** 0.5 * normal(u.shape), g,
             s.alpha_n * normal((n, s.d_ni)), a[:, None][:, :int(s.shortcut in ("image", "both"))],
             effect[:, None][:, :int(s.site_shown in ("image", "both"))]]
    clinical = [copy + (1 / s.rel_cc - 1) ** 0.5 * e2, v + (1 / s.rel_v - 1) ** 0.5 * normal(v.shape), other,
                s.alpha_n * normal((n, s.d_nc)), a[:, None][:, :int(s.shortcut in ("clinical", "both"))],
                effect[:, None][:, :int(s.site_shown in ("clinical", "both"))]]
    views = {"image": np.hstack(image), "clinical": np.hstack(clinical)}
    if external:
        for name in views:
            if s.acquired in (name, "both"):
                views[name] = acquired(views[name], s)
    return classes(np.hstack(list(views.values())), level, s, external, rng)


def sites(n_sites: int, rng: np.random.Generator, n: int) -> np.ndarray:
    """Each record's site effect: normal scores of variance one, every site as likely."""
    scores = norm.ppf((np.arange(n_sites) + 0.5) / n_sites)
    return (scores / max(scores.std(), 1e-300) if n_sites > 1 else np.zeros(1))[rng.integers(n_sites, size=n)]


def acquired(x: np.ndarray, s: GaussianSpec) -> np.ndarray:
    """Coordinates j and j + p//2 turned into each other, then gain and offset."""
    half, out = x.shape[1] // 2, x.copy()
    for j in range(half):
        out[:, j] = np.cos(s.mix_e) * x[:, j] - np.sin(s.mix_e) * x[:, j + half]
        out[:, j + half] = np.sin(s.mix_e) * x[:, j] + np.cos(s.mix_e) * x[:, j + half]
    return s.gain_e * out + s.offset_e


def classes(z: np.ndarray, level: np.ndarray, s: GaussianSpec, external: bool, rng: np.random.Generator) -> tuple[
        np.ndarray, np.ndarray]:
    """Labels; where asked for, the threshold moved to a share of positives, or records of a class dropped."""
    y = level > norm.ppf(1 - s.prevalence)
    if not external or s.prevalence_e is None:
        return z, y
    if s.prevalence_kind == "threshold":
        return z, level > np.quantile(level, 1 - s.prevalence_e)
    odds, asked = y.sum() / max((~y).sum(), 1), s.prevalence_e / (1 - s.prevalence_e)
    keep = rng.uniform(size=len(y)) < np.where(y, min(asked / odds, 1), min(odds / asked, 1))
    return z[keep], y[keep]
