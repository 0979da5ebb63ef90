"""What linear encoders learn at their optimum, from moments alone: fixed points and optima that trainers must reach.

Deep linear encoders (Littwin et al. 2024): per mode of covariance lambda and regression coefficient rho, the encoder's
product w rises by dw/dt = lambda w^(3-1/L) - lambda w^3/rho (JEPA, stop-gradient) or lambda w^(2-1/L) - lambda w^3/rho
(reconstruction), time in units of 1/L. Joint embedding and reconstruction (Van Assel et al. 2025): closed forms in the
moments of two views. Weight decay (Tian et al. 2021): the strength at which a self-predicting encoder dies.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float


def jepa_fixed_point(rho: float, depth: int) -> float:
    """Where a mode of an L-layer encoder ends under latent prediction: w* = rho^L."""
    return rho**depth


def reconstruction_fixed_point(rho: float, depth: int) -> float:
    """Where it ends under prediction of the input: w* = rho^(L/(L+1))."""
    return rho ** (depth / (depth + 1))


def jepa_time(covariance: float, rho: float, depth: int, start: float) -> float:
    """When a mode is learnt from layers of scale `start`: (1/lambda) sum_{n=1}^{2L-1} 1/(n rho^(2L-n-1) start^n).

    Its second order holds rho: deeper encoders learn strongly predictable modes first.
    """
    terms = (1 / (n * rho ** (2 * depth - n - 1) * start**n) for n in range(1, 2 * depth))
    return sum(terms) / covariance


def reconstruction_time(covariance: float, depth: int, start: float) -> float:
    """The same under reconstruction, depth > 1: 1/(lambda (L-1) start^(L-1)); rho does not enter."""
    return 1 / (covariance * (depth - 1) * start ** (depth - 1))


def joint_embedding_loss(
    first: Float[np.ndarray, "p p"], second: Float[np.ndarray, "q q"], cross: Float[np.ndarray, "p q"], k: int
) -> float:
    """Least mean |W x - V y|^2 with both sides whitened to k numbers: 2 sum (1 - r_i) over the canonical correlations.

    Two views of one law (first = second): the eigenvalues of S^-1/2 G S^-1/2.
    """
    whitened = inverse_root(first) @ cross @ inverse_root(second)
    return float(2 * np.sum(1 - np.linalg.svd(whitened, compute_uv=False)[:k]))


def reconstruction_loss(
    view: Float[np.ndarray, "p p"], goal: Float[np.ndarray, "q q"], cross: Float[np.ndarray, "q p"], k: int
) -> float:
    """Least mean |D E x - y|^2 at rank k: tr Var(y) - sum_{i<=k} d_i^2, d the singular values of Cov(y, x) S^-1/2."""
    d = np.linalg.svd(cross @ inverse_root(view), compute_uv=False)
    return float(np.trace(goal) - np.sum(d[:k] ** 2))


def nuisance_boundary(nuisance: float, signal: float = 1.0, noise: float = 0.2) -> tuple[float, float]:
    """View noise that a nuisance of this variance needs before it is passed over for a signal of variance `signal` and
    view noise `noise`: (joint embedding, reconstruction). The first ranks by s/(s + a), the second by s^2/(s + a)."""
    joint = nuisance * noise / signal
    return joint, max(0.0, nuisance**2 * (signal + noise) / signal**2 - nuisance)


def decayed_fixed_point(decay: float, noise: float) -> float:
    """Where predictor and encoder of a scalar self-predicting network settle under weight decay; 0 above the threshold
    1/(4 (1 + noise)): [1 + sqrt(1 - 4 decay (1 + noise))] / (2 (1 + noise))."""
    root = 1 - 4 * decay * (1 + noise)
    return (1 + math.sqrt(root)) / (2 * (1 + noise)) if root >= 0 else 0.0


def inverse_root(s: Float[np.ndarray, "p p"]) -> Float[np.ndarray, "p p"]:
    """S^-1/2 on the range of S."""
    values, vectors = np.linalg.eigh(s)
    return (vectors * np.where(values > values.max() * 1e-10, 1 / np.sqrt(np.maximum(values, 1e-300)), 0.0)) @ vectors.T
