"""What the environment tests share: random specifications, the law of a world written by hand, measures of error."""

from __future__ import annotations

import numpy as np

from simlab.environments.knobs import GaussianSpec, spec

# Normal quantile that 2,000 simultaneous comparisons exceed with probability 1e-3: fixed seeds, so no flakiness either.
MANY = 5.0

# What a knob needs beside it before it may leave its default.
COMPANIONS: dict[str, dict[str, object]] = {
    "lambda_s": {"shortcut": "image"}, "lambda_e": {"shortcut": "image"}, "omega_s": {"n_sites": 2},
    "rho_s": {"n_sites": 2}, "site_shown": {"n_sites": 2}, "rho_s_e": {"n_sites": 2},
    "mu_site_e": {"n_sites": 2, "omega_s": 0.3},
}


def random_spec(seed: int, **fixed: object) -> GaussianSpec:
    """A small world with every continuous source and label knob drawn at random, and a target that differs in all."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet((1, 1, 1))
    knobs: dict[str, object] = {
        "d_c": int(rng.integers(1, 5)), "d_u": int(rng.integers(1, 5)), "d_v": int(rng.integers(1, 5)),
        "d_g": int(rng.integers(0, 3)), "d_ni": int(rng.integers(0, 4)), "d_nc": int(rng.integers(0, 4)),
        "rel_ci": rng.uniform(0.2, 1), "rel_cc": rng.uniform(0.2, 1), "rel_u": rng.uniform(0.2, 1),
        "rel_v": rng.uniform(0.2, 1), "kappa_s": rng.uniform(0.3, 1), "nu": rng.uniform(-0.9, 0.9),
        "alpha_g": rng.uniform(0.3, 3), "alpha_n": rng.uniform(0.3, 3), "h2": rng.uniform(0.3, 0.95),
        "prevalence": rng.uniform(0.1, 0.6), "w_c": float(shares[0]), "w_u": float(shares[1]),
        "kappa_e": rng.uniform(-1, 1), "delta_u_e": rng.uniform(-1, 1), "delta_v_e": rng.uniform(-1, 1),
        "nu_e": rng.uniform(-0.9, 0.9), "mu_e": rng.uniform(-1, 1), "tau_e": rng.uniform(0.5, 1.8),
    }
    return spec({k: float(v) if isinstance(v, float) else v for k, v in {**knobs, **fixed}.items()})


def law_by_hand(s: GaussianSpec, domain: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean (p + 1,) and covariance (p + 1, p + 1) of (z_I, z_C, l), from the equations of docs/environments.md alone.

    Every variable is a row of loadings on independent standard normal sources (and a constant): mean and covariance
    follow by multiplication, without any block formula.
    """
    out = domain == "external"
    kappa, nu = (s.kappa_e, s.nu_e) if out else (s.kappa_s, s.nu)
    mu, tau = (s.mu_e, s.tau_e) if out else (0.0, 1.0)
    du, dv = (s.delta_u_e, s.delta_v_e) if out else (1.0, 1.0)
    widths = {"one": 1, "c": s.d_c, "u": s.d_u, "v": s.d_v, "own": s.d_c, "gi": s.d_g, "gc": s.d_g, "eps": 1,
              "eci": s.d_c, "eu": s.d_u, "ni": s.d_ni, "ecc": s.d_c, "ev": s.d_v, "nc": s.d_nc}
    ends = np.cumsum([0, *widths.values()])
    eye = np.eye(int(ends[-1]))
    basis = {name: eye[a:b] for name, a, b in zip(widths, ends[:-1], ends[1:], strict=True)}

    def cause(name: str) -> np.ndarray:
        d = widths[name]
        beta = np.ones((d, 1)) / np.sqrt(d)
        inside = beta @ (beta.T @ basis[name])
        return basis[name] - inside + tau * inside + mu * beta @ basis["one"]

    c, u, v = cause("c"), cause("u"), cause("v")
    copy = kappa * c + np.sqrt(1 - kappa**2) * basis["own"]
    noise = 1 - s.h2 * (s.w_c + du**2 * s.w_u + dv**2 * s.w_v)
    liability = np.sqrt(noise) * basis["eps"]
    for weight, slope, x in ((s.w_c, 1, c), (s.w_u, du, u), (s.w_v, dv, v)):
        liability = liability + np.sqrt(s.h2 * weight) * slope * x.sum(axis=0, keepdims=True) / np.sqrt(len(x))
    rows = np.concatenate([
        c + np.sqrt(1 / s.rel_ci - 1) * basis["eci"], u + np.sqrt(1 / s.rel_u - 1) * basis["eu"],
        s.alpha_g * basis["gi"], s.alpha_n * basis["ni"],
        copy + np.sqrt(1 / s.rel_cc - 1) * basis["ecc"], v + np.sqrt(1 / s.rel_v - 1) * basis["ev"],
        s.alpha_g * (nu * basis["gi"] + np.sqrt(1 - nu**2) * basis["gc"]), s.alpha_n * basis["nc"],
        liability,
    ])
    return rows[:, 0], rows[:, 1:] @ rows[:, 1:].T


def moment_errors(x: np.ndarray, mean: np.ndarray, cov: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sample mean and covariance of Gaussian x (n, p) minus the truth, in standard errors (exact variances known)."""
    n = len(x)
    centred = x - mean
    var = np.diag(cov)
    spread = np.sqrt((np.outer(var, var) + cov**2) / n)
    return centred.mean(axis=0) / np.sqrt(var / n), (centred.T @ centred / n - cov) / spread


def label_auc(score: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """AUC and its DeLong standard error, for scores without ties."""
    rank = np.argsort(np.argsort(score)) + 1.0
    n1, n0 = int(y.sum()), int((~y).sum())
    within = np.empty(len(score))
    for part in (y, ~y):
        within[part] = np.argsort(np.argsort(score[part])) + 1.0
    beaten = (rank - within)  # members of the other class that score lower
    v1, v0 = beaten[y] / n0, 1 - beaten[~y] / n1
    return float(v1.mean()), float(np.sqrt(v1.var() / n1 + v0.var() / n0))
