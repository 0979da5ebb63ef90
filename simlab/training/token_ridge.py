"""Linear token encoders adapted to labels exactly, where the gradient's steps would only approach a convex optimum.

A linear encoder read out by the mean is linear in x, the mean over a role's tokens of what they hold. So fine-tuning
with a penalty on the departure from pretrained directions P is ridge regression on (I + tau^2 P P')^(1/2) x, as for
encoders of features (`simlab.training.arms`, docs/theory.md, 6), and from scratch it is ridge regression on x.

Supervised pretraining on further labelled records is ridge too, and P what it found: each role's weights, one direction
a role. A role that was never shown has none. Their labels are not among `n_labelled`; `diag/more-labels` counts them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import block_diag

from simlab.errors import OutOfDomain
from simlab.training import ridge
from simlab.training.arms import FINETUNE_PENALTIES, TAUS, stretch
from simlab.training.data import Bench, Fit, Labelled, Views, encoder_diagnostics
from simlab.training.incomplete import further
from simlab.training.method import Method
from simlab.training.scores import ProbeScore
from simlab.training.token_encoders import TokenEncoders

Basis = Float[np.ndarray, "features rank"]


def scratch(method: Method, bench: Bench) -> Fit:
    """Ridge on what the tokens of the roles that the arm sees hold, 35 penalties."""
    encoders = _linear(method, bench)
    line = _line(encoders, method, bench.train, ridge.grid(method, bench.settings))
    return Fit(_score(encoders, method, line.weights, line.intercept), {"diag/penalty": line.penalty})


def finetuned(method: Method, bench: Bench) -> Fit:
    """The pretrained encoders and the head, 5 tau x 7 penalties."""
    encoders = _linear(method, bench)
    rows = [_weights(encoders, role).T if role in method.pretraining_roles else None for role in method.roles]
    fit = _near(method, bench, encoders, _basis(encoders, method, rows))
    return replace(fit, diagnostics={**encoder_diagnostics(bench, bench.encoders), **fit.diagnostics})


def zero_filled(method: Method, bench: Bench) -> Fit:
    """Pretrained on labelled images with zeros in the place of the clinical record, then fine-tuned."""
    return _twice(method, bench, "zero_filled")


def masked(method: Method, bench: Bench) -> Fit:
    """Pretrained on labelled images alone, then fine-tuned."""
    return _twice(method, bench, "masked")


def complete(method: Method, bench: Bench) -> Fit:
    """Pretrained on the same records with their clinical record, then fine-tuned."""
    return _twice(method, bench, "complete")


def _twice(method: Method, bench: Bench, how: str) -> Fit:
    encoders, more = _linear(method, bench), further(method, bench, how)
    first = _line(encoders, method, more, ridge.grid(method, bench.settings))
    parts = [first.weights[None, a:b] for a, b in _columns(encoders, method)]
    found = [part if np.linalg.norm(part) > 1e-6 * np.linalg.norm(first.weights) else None for part in parts]
    fit = _near(method, bench, encoders, _basis(encoders, method, found))
    return replace(fit, diagnostics={**fit.diagnostics, "diag/more-labels": float(len(more.y)),
                                     "diag/more-penalty": first.penalty})


def _near(method: Method, bench: Bench, encoders: TokenEncoders, basis: Basis) -> Fit:
    """Ridge in which the basis is cheap: the tau and the penalty of least leave-subject-out error."""
    x = _shown(encoders, method, bench.train.views)
    tried = [(ridge.fit(stretch(x, basis, tau), bench.train.y, bench.train.subjects, FINETUNE_PENALTIES), tau)
             for tau in TAUS]
    line, tau = min(tried, key=lambda one: one[0].error)
    weights = stretch(line.weights[None], basis, tau)[0]  # back to the features: the stretch is symmetric
    return Fit(_score(encoders, method, weights, line.intercept), {"diag/tau": tau, "diag/penalty": line.penalty})


def _line(encoders: TokenEncoders, method: Method, records: Labelled, grid: np.ndarray) -> ridge.Linear:
    return ridge.fit(_shown(encoders, method, records.views), records.y, records.subjects, grid)


def _linear(method: Method, bench: Bench) -> TokenEncoders:
    """The bench's encoders. Raises OutOfDomain where they are not linear in the mean of a role's tokens."""
    encoders, settings = bench.encoders, bench.settings
    whole = isinstance(encoders, TokenEncoders) and all(
        s.parts == 1 and not s.sides and not s.partial for s in encoders.encoder.layout.sources)
    if not whole or settings.token_encoder != "linear" or settings.readout != "mean":
        raise OutOfDomain(f"method {method.name} solves linear token encoders: it needs token_encoder = linear, "
                          "readout = mean, one stream a role, and tokens of which all or nothing was observed.")
    assert isinstance(encoders, TokenEncoders)
    if sorted(s.role for s in encoders.encoder.layout.sources) != ["clinical", "image"]:
        raise OutOfDomain(f"method {method.name} needs one stream a role.")
    return encoders


def _place(encoders: TokenEncoders, role: str) -> int:
    """Which source is this role's."""
    return [s.role for s in encoders.encoder.layout.sources].index(role)


def _features(encoders: TokenEncoders, role: str) -> int:
    return encoders.encoder.layout.sources[_place(encoders, role)].features


def _columns(encoders: TokenEncoders, method: Method) -> list[tuple[int, int]]:
    """Where each role's features lie among those of all."""
    return list(pairwise(np.cumsum([0, *(_features(encoders, role) for role in method.roles)]).tolist()))


def _weights(encoders: TokenEncoders, role: str) -> Float[np.ndarray, "features width"]:
    return encoders.parameters[f"encoder.source{_place(encoders, role)}.0.weight"][0].double().numpy()


def _shown(encoders: TokenEncoders, method: Method, views: Views) -> Float[np.ndarray, "records features"]:
    """The mean over each role's seen tokens of what they hold, the roles side by side; 0 where it has none."""
    batch = encoders.inputs(views, method.roles)
    values, seen = batch.values[0].double().numpy(), batch.seen[0].numpy()
    slices, parts = encoders.encoder.layout.slices(), []
    for role in method.roles:
        at, width = slices[_place(encoders, role)], _features(encoders, role)
        there = seen[:, at, None]
        parts.append((values[:, at, :width] * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1))
    return np.concatenate(parts, axis=1)


def _basis(encoders: TokenEncoders, method: Method, found: list[np.ndarray | None]) -> Basis:
    """An orthonormal basis of the directions (rows) found in each role, None for nothing; the roles' features side by
    side."""
    blocks = [np.zeros((_features(encoders, role), 0)) if own is None else own.T
              for role, own in zip(method.roles, found, strict=True)]
    u, s, _ = np.linalg.svd(block_diag(*blocks), full_matrices=False)
    return u[:, s > s.max(initial=0.0) * 1e-6]


def _score(
    encoders: TokenEncoders, method: Method, weights: Float[np.ndarray, "features"], intercept: float
) -> ProbeScore:
    """The linear function as encoders of one number a role."""
    parameters = {}
    for role, (a, b) in zip(method.roles, _columns(encoders, method), strict=True):
        name = f"encoder.source{_place(encoders, role)}.0"
        parameters[f"{name}.weight"] = torch.as_tensor(weights[None, a:b, None], dtype=torch.float32)
        parameters[f"{name}.bias"] = torch.zeros(1, 1, 1)
    for i, source in enumerate(encoders.encoder.layout.sources):  # a role that the arm does not see
        parameters.setdefault(f"encoder.source{i}.0.weight", torch.zeros(1, source.features, 1))
        parameters.setdefault(f"encoder.source{i}.0.bias", torch.zeros(1, 1, 1))
    own = replace(encoders, encoder=replace(encoders.encoder, width=1), parameters=parameters, curve=(),
                  roles=method.roles)
    return ProbeScore(own, np.ones(len(method.roles)), intercept)
