"""Ridge regression of a label on features, tuned inside its own records by leaving subjects out, exactly.

One singular value decomposition serves every penalty: leaving out subject g changes the residuals r_g to
(I - H_gg)^-1 r_g (the PRESS identity, with the intercept inside H), so cross-validation over subjects costs no refit.
For a single record per subject that is r_i / (1 - h_i). The score of a record is the fitted linear function; its AUC
depends on the direction alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from simlab.training.method import Method
from simlab.training.pretrain import Settings

# In units of records x the features' mean variance; 0: none. Every tuned linear arm tries 35 candidates.
PENALTIES = np.concatenate(([0.0], np.logspace(-3, 2, 34)))


@dataclass(frozen=True)
class Linear:
    """A fitted linear score x @ weights + intercept, and how it was tuned.

    `error`: leave-subject-out mean squared error at the chosen penalty; `penalty`: in the units of `PENALTIES`.
    """

    weights: Float[np.ndarray, "features"]
    intercept: float
    penalty: float
    error: float

    def __call__(self, x: Float[np.ndarray, "records features"]) -> Float[np.ndarray, "records"]:
        return x @ self.weights + self.intercept


def grid(method: Method, settings: Settings) -> Float[np.ndarray, "grid"]:
    """The penalties that an arm tries: none for one that is not tuned, the one that is set, or all of `PENALTIES`."""
    if method.tuning == "none":
        return np.zeros(1)
    return PENALTIES if settings.penalty is None else np.array([settings.penalty])


def fit(
    x: Float[np.ndarray, "records features"],
    y: Float[np.ndarray, "records"],
    subjects: np.ndarray,
    penalties: Float[np.ndarray, "grid"] = PENALTIES,
) -> Linear:
    """The ridge fit with the penalty of least leave-subject-out error (one penalty: no tuning).

    Penalty 0 is least squares of minimum norm; it is LDA's direction. Where records <= features + 1, leaving out is
    undefined at penalty 0, and it is chosen only when it is the only one offered.
    """
    centre = x.mean(axis=0)
    u, s, vt = np.linalg.svd(x - centre, full_matrices=False)
    keep = s > s.max(initial=0.0) * 1e-9 * max(x.shape)
    u, s, vt = u[:, keep], s[keep], vt[keep]
    if not len(s):
        return Linear(np.zeros(x.shape[1]), float(y.mean()), float(penalties[0]), float(np.var(y)))
    projected = u.T @ (y - y.mean())
    unit = float(np.sum(s**2)) / x.shape[1]  # records x mean variance of a feature
    errors = (
        [_left_out_error(u, s, projected, y, subjects, p * unit) for p in penalties] if len(penalties) > 1 else [np.nan]
    )
    best = int(np.nanargmin(errors)) if len(penalties) > 1 else 0
    filtered = s / (s**2 + penalties[best] * unit)
    weights = vt.T @ (filtered * projected)
    return Linear(weights, float(y.mean() - centre @ weights), float(penalties[best]), float(errors[best]))


def _left_out_error(
    u: Float[np.ndarray, "records rank"],
    s: Float[np.ndarray, "rank"],
    projected: Float[np.ndarray, "rank"],
    y: Float[np.ndarray, "records"],
    subjects: np.ndarray,
    penalty: float,
) -> float:
    """Mean squared error when each subject is predicted from all others; infinite where that is undefined."""
    n = len(y)
    if penalty == 0 and n <= len(s) + 2:
        return float("inf")
    shrink = s**2 / (s**2 + penalty)
    residual = y - y.mean() - u @ (shrink * projected)
    leverage = 1 / n + np.einsum("ij,j,ij->i", u, shrink, u)
    left_out = residual / np.maximum(1 - leverage, 1e-9)
    for rows in _repeated(subjects):
        block = np.eye(len(rows)) - 1 / n - (u[rows] * shrink) @ u[rows].T
        left_out[rows] = np.linalg.solve(block + 1e-12 * np.eye(len(rows)), residual[rows])
    return float(np.mean(left_out**2))


def _repeated(subjects: np.ndarray) -> list[np.ndarray]:
    """The rows of each subject that has more than one."""
    _, inverse, count = np.unique(subjects, return_inverse=True, return_counts=True)
    if count.max(initial=1) == 1:
        return []
    return [np.flatnonzero(inverse == g) for g in np.flatnonzero(count > 1)]
