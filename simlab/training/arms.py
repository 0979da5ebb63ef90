"""The arms with encoders: frozen with a linear probe, fine-tuned, supervised from scratch.

Linear encoders: fine-tuning with a penalty on the departure from the pretrained directions P is a convex problem, and
is solved exactly instead of by steps. f(x) = a' P'x + b'x with penalty |a|^2 / tau^2 + |b|^2 is ridge regression on
x' = (I + tau^2 P P')^(1/2) x (docs/theory.md, 6); tau and the penalty are tuned inside the labels. From
scratch there is no P, and the same problem is ordinary ridge. MLP encoders are trained by the one loop (`finetune.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.linalg import block_diag

from simlab.training import finetune, ridge
from simlab.training.data import Bench, Fit, columns, encoder_diagnostics
from simlab.training.method import Method
from simlab.training.pretrain import ROLES, Encoders
from simlab.training.scores import LinearScore, ProbeScore, side_by_side

# 5 x 7 candidates, as many as a tuned supervised arm tries (`ridge.PENALTIES`); tau = 0 is no pretraining at all.
TAUS = (0.0, 1.0, 2.0, 4.0, 8.0)
FINETUNE_PENALTIES = np.logspace(-2, 1, 7)


def frozen_probe(method: Method, bench: Bench) -> Fit:
    """A linear probe on the frozen representations of what the arm sees: linear discriminant, or ridge, penalty tuned.

    The untuned probe is what the closed form of frozen arms describes; it needs labels well above twice the width.
    """
    encoders = Encoders("identity", {}) if method.encoder == "identity" else bench.encoders
    encoders = replace(encoders, roles=method.roles)
    shown = encoders.represent(bench.train.views)
    grid = ridge.grid(method, bench.settings)
    line = ridge.fit(side_by_side(shown), bench.train.y, bench.train.subjects, grid)
    return Fit(ProbeScore(encoders, line.weights, line.intercept), encoder_diagnostics(bench, encoders))


def finetuned(method: Method, bench: Bench) -> Fit:
    """The pretrained encoders, adapted to the labels together with the head: exactly where the problem is convex (all
    of linear encoders of features moves), else in the one loop."""
    exact = method.reads == "features" and bench.settings.encoder == "linear" and method.adaptation != "frozen-mlp"
    if not exact:
        return finetune.fit(method, bench)
    return convex(method, bench, columns(bench.train.views, method.streams))


def convex(method: Method, bench: Bench, x: Float[np.ndarray, "records features"]) -> Fit:
    """Linear encoders fine-tuned on these features of the labelled records, solved exactly: strength tau and penalty
    are chosen by leaving subjects out."""
    basis = directions(bench.encoders, method.roles)
    best, best_tau = None, 0.0
    for tau in TAUS:
        line = ridge.fit(stretch(x, basis, tau), bench.train.y, bench.train.subjects, FINETUNE_PENALTIES)
        if best is None or line.error < best.error:
            best, best_tau = line, tau
    assert best is not None
    weights = stretch(best.weights[None], basis, best_tau)[0]  # back to the features: the stretch is symmetric
    found = {**encoder_diagnostics(bench, bench.encoders), "diag/tau": best_tau, "diag/penalty": best.penalty}
    return Fit(LinearScore(method.streams, weights), found, scale="none")


def supervised(method: Method, bench: Bench) -> Fit:
    """From scratch on the labels alone, for all streams or one; tuned, or without any regularisation."""
    if bench.settings.encoder == "mlp" or method.reads == "tokens":
        return finetune.fit(method, bench)
    grid = ridge.grid(method, bench.settings)
    line = ridge.fit(columns(bench.train.views, method.streams), bench.train.y, bench.train.subjects, grid)
    return Fit(LinearScore(method.streams, line.weights, line.intercept), {"diag/penalty": line.penalty})


def directions(encoders: Encoders, roles: Sequence[str] = ROLES) -> Float[np.ndarray, "features rank"]:
    """An orthonormal basis of what linear encoders read, these views' features side by side (block diagonal)."""
    blocks = [encoders.parameters[f"{role}.0.weight"][0].cpu().double().numpy() for role in roles]
    u, s, _ = np.linalg.svd(block_diag(*blocks), full_matrices=False)
    return u[:, s > s.max() * 1e-6]


def stretch(
    x: Float[np.ndarray, "records features"], basis: Float[np.ndarray, "features rank"], tau: float
) -> Float[np.ndarray, "records features"]:
    """(I + tau^2 P P')^(1/2) applied to each row, P orthonormal."""
    return x + (np.sqrt(1 + tau**2) - 1) * (x @ basis) @ basis.T
