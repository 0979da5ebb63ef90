"""What the limit tests share: a sampler written from the equations alone, rank AUCs with their error, toy laws."""

from __future__ import annotations

import numpy as np

from simlab.environments.knobs import GaussianSpec
from simlab.limits.gaussian import Moments


def draw(s: GaussianSpec, n: int, seed: int, external: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """n draws of (z, l) from the equations of docs/environments.md, factor by factor; nothing of simlab is used."""
    rng = np.random.default_rng(seed)
    kappa, nu, mu, tau = (s.kappa_e, s.nu_e, s.mu_e, s.tau_e) if external else (s.kappa_s, s.nu, 0.0, 1.0)
    du, dv = (s.delta_u_e, s.delta_v_e) if external else (1.0, 1.0)

    def cause(d: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((n, d))
        beta = np.ones(d) / np.sqrt(d)
        x = x + np.outer((tau - 1) * (x @ beta) + mu, beta)
        return x, x @ beta

    def seen(x: np.ndarray, rel: float) -> np.ndarray:
        return x + np.sqrt(1 / rel - 1) * rng.standard_normal(x.shape)

    (c, bc), (u, bu), (v, bv) = cause(s.d_c), cause(s.d_u), cause(s.d_v)
    own = rng.standard_normal(c.shape)
    g = rng.standard_normal((n, s.d_g))
    g2 = nu * g + np.sqrt(1 - nu**2) * rng.standard_normal((n, s.d_g))
    left = 1 - s.h2 * (s.w_c + du**2 * s.w_u + dv**2 * s.w_v)
    l = (np.sqrt(s.h2) * (np.sqrt(s.w_c) * bc + du * np.sqrt(s.w_u) * bu + dv * np.sqrt(s.w_v) * bv)
         + np.sqrt(left) * rng.standard_normal(n))
    image = [seen(c, s.rel_ci), seen(u, s.rel_u), s.alpha_g * g, s.alpha_n * rng.standard_normal((n, s.d_ni))]
    clinical = [seen(kappa * c + np.sqrt(1 - kappa**2) * own, s.rel_cc), seen(v, s.rel_v), s.alpha_g * g2,
                s.alpha_n * rng.standard_normal((n, s.d_nc))]
    return np.hstack(image + clinical), l


def rank_auc(score: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """AUC by ranks and an upper bound of its standard error, sqrt(A(1-A)/min(n1, n0))."""
    ranks = np.empty(len(score))
    ranks[np.argsort(score, kind="stable")] = np.arange(1, len(score) + 1)
    n1, n0 = int(y.sum()), int((~y).sum())
    a = (ranks[y].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)
    return float(a), float(np.sqrt(max(a * (1 - a), 0.01) / min(n1, n0)))


def toy(cov: np.ndarray, m: np.ndarray, prevalence: float, image: int) -> Moments:
    """A law with these second moments; the first `image` coordinates are the image's. Threshold from K, Var(l) = 1."""
    from scipy.stats import norm
    p = len(m)
    parts = {"image": slice(0, image), "clinical": slice(image, p), "n_image": slice(0, 0), "n_clinical": slice(p, p)}
    return Moments(np.zeros(p), cov.astype(float), m, 0.0, 1.0, float(norm.ppf(1 - prevalence)), prevalence, prevalence,
                   parts["image"], parts["clinical"], parts)
