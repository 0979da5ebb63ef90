"""Read-outs of a world: canonical correlations, mutual informations, and how far apart two hospitals lie.

None of these is a knob: shares of variance are (docs/environments.md). Information is in nats. docs/theory.md, 7.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import lru_cache

import numpy as np
from jaxtyping import Complex, Float
from numpy.polynomial.legendre import leggauss
from scipy.special import ndtr, ndtri, xlogy

from simlab.limits.atoms import mmi
from simlab.limits.gaussian import Moments, view_index
from simlab.limits.liability import auc
from simlab.limits.oracles import VIEWS, retained
from simlab.limits.subspace import canonical


def canonical_correlations(law: Moments, least: float = 1e-9) -> list[float]:
    """Correlations of the canonical pairs of image and clinical coordinates, descending; zeros left out."""
    return [float(s) for s in canonical(law)[1] if s > least]


def between_views(law: Moments) -> float:
    """I(z_I; z_C) = -1/2 sum log(1 - rho_i^2), nats; infinite where a cause is seen by both without error."""
    rho = canonical(law)[1]
    return math.inf if np.any(rho >= 1 - 1e-9) else float(-0.5 * np.log1p(-(rho**2)).sum())


def about_liability(law: Moments, view: str = "full") -> float:
    """I(l; z_view) = -1/2 log(1 - R^2), nats."""
    return _information(retained(law, view))


def about_label(law: Moments, view: str = "full") -> float:
    """I(y; z_view) = H(K) - E h(P(y=1|z)), nats: 1-D Gauss-Legendre quadrature over the standardised score."""
    share, k = retained(law, view), law.prevalence_law
    if share >= 1 - 1e-12:
        return float(_entropy(np.array([k]))[0])
    x, w = _rule(400)
    x, w = 9 * x, 9 * w * np.exp(-((9 * x) ** 2) / 2) / np.sqrt(2 * np.pi)
    risk = ndtr((np.sqrt(share) * x + ndtri(k)) / np.sqrt(1 - share))
    return max(float(_entropy(np.array([k]))[0] - w @ _entropy(risk) / w.sum()), 0.0)


def informations(law: Moments) -> dict[str, float | None]:
    """Mutual informations in nats (None where infinite), as docs/theory.md lists them.

    `liability_*`: I(l; view). `liability_image_given_clinical` (and the reverse): I(l; z_I | z_C). `interaction`: I(l;
    z_I) + I(l; z_C) - I(l; z), negative for independent causes. `pid_*`: the minimum-mutual-information decomposition,
    which for a scalar Gaussian target is BROJA's. `label_*`: I(y; view). `views`: I(z_I; z_C).
    """
    full, image, clinical = (about_liability(law, view) for view in VIEWS)
    atoms = mmi(image, clinical, full)
    values = {
        "views": between_views(law),
        "liability_full": full, "liability_image": image, "liability_clinical": clinical,
        "liability_image_given_clinical": full - clinical, "liability_clinical_given_image": full - image,
        "interaction": image + clinical - full,
        **{f"pid_{name}": value for name, value in asdict(atoms).items()},
        **{f"label_{view}": about_label(law, view) for view in VIEWS},
    }
    return {key: float(value) if math.isfinite(value) else None for key, value in values.items()}


@lru_cache(maxsize=8)
def _rule(points: int) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Gauss-Legendre nodes and weights on [-1, 1], computed once (and not to be written to)."""
    return leggauss(points)


def _information(share: float) -> float:
    return math.inf if share >= 1 - 1e-12 else float(-0.5 * np.log1p(-share))


def _entropy(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Entropy of a coin, nats."""
    return -(xlogy(p, p) + xlogy(1 - p, 1 - p))


# ------------------------------------------------------------------------------------- how far apart two domains lie


def jeffreys(source: Moments, target: Moments, view: str = "full") -> float | None:
    """KL(source, target) + KL(target, source) of the laws of z, nats; None where it is infinite.

    Of the Gaussian laws: a `reweight` prevalence is not in it.
    """
    ratio, shift = _relative(source, target, view)
    if ratio is None:
        return None
    return float(0.5 * np.sum(ratio + 1 / ratio - 2 + shift**2 * (1 + 1 / ratio)))


def domain_auc(source: Moments, target: Moments, view: str = "full") -> float | None:
    """AUC of the best possible classifier of source against target records, from z; 0.5 where nothing moved.

    The likelihood ratio of two Gaussians is quadratic; the difference of its values at an independent target and source
    record is a quadratic form of Gaussians, whose probability of being positive follows from its characteristic
    function f (Gil-Pelaez, Imhof): 1/2 + (1/pi) int_0^inf Im f(u)/u du. Exact up to that quadrature (1e-6). Where only
    the classes were resampled (`reweight`) the ratio is monotone in the risk and the AUC is 1/2 + |K_e - K| (A - 1/2),
    with A the view's AUC limit. None where classes are resampled and something else moved as well.
    """
    ratio, shift = _relative(source, target, view)
    if ratio is None:
        return 1.0
    moved = (np.abs(ratio - 1) > 1e-9) | (np.abs(shift) > 1e-9)
    if target.prevalence != target.prevalence_law:
        return None if moved.any() or not _same_rule(source, target) else _resampled(target, view)
    if not moved.any():
        return 0.5
    ratio, shift = ratio[moved], shift[moved]
    if np.all(np.abs(ratio - 1) <= 1e-9):
        return float(ndtr(np.linalg.norm(shift) / np.sqrt(2)))
    return _imhof(ratio, shift)


def _relative(source: Moments, target: Moments, view: str) -> tuple[
        Float[np.ndarray, " r"] | None, Float[np.ndarray, " r"]]:
    """Target variances and means in coordinates where the source is N(0, I); None where one has mass off the other."""
    shown = view_index(source, view)
    cov_s, cov_t = source.cov[np.ix_(shown, shown)], target.cov[np.ix_(shown, shown)]
    sd = np.sqrt(np.diag(cov_s))
    sd = np.where(sd > 0, sd, 1.0)
    values, vectors = np.linalg.eigh(cov_s / np.outer(sd, sd))
    kept = values > 1e-10
    null, w = vectors[:, ~kept] / sd[:, None], vectors[:, kept] / np.sqrt(values[kept]) / sd[:, None]
    mean = target.mean[shown] - source.mean[shown]
    if np.abs(null.T @ cov_t @ null).max(initial=0) > 1e-8 or np.abs(null.T @ mean).max(initial=0) > 1e-8:
        return None, np.zeros(0)
    ratio, axes = np.linalg.eigh(w.T @ cov_t @ w)
    if ratio.min(initial=1.0) < 1e-9:
        return None, np.zeros(0)
    return ratio, axes.T @ (w.T @ mean)


def _same_rule(source: Moments, target: Moments) -> bool:
    """Whether P(y | z) is the same in both, but for resampling."""
    return bool(np.allclose(source.cov_liability, target.cov_liability, atol=1e-12)
                and math.isclose(source.var_liability, target.var_liability))


def _resampled(target: Moments, view: str) -> float:
    """Domain AUC where the target is the source with its classes resampled."""
    limit = auc(np.sqrt(retained(target, view)), target.prevalence_law)
    return float(0.5 + abs(target.prevalence - target.prevalence_law) * (limit - 0.5))


def _imhof(ratio: Float[np.ndarray, " m"], shift: Float[np.ndarray, " m"], points: int = 24) -> float:
    """P(L(x_target) > L(x_source)) for the log-likelihood ratio L(x) = sum x^2/2 - (x - shift)^2/(2 ratio)."""
    edges = np.concatenate([np.linspace(0, 1, 41), np.geomspace(1, 1e6, 800)[1:]])
    gone = np.abs(_characteristic(edges, ratio, shift)) < 1e-12
    edges = edges[:np.argmax(gone) + 1] if gone.any() else edges
    x, w = _rule(points)
    half = np.diff(edges)[:, None] / 2
    u = (half * x + edges[:-1, None] + half).ravel()
    total = (half * w).ravel() @ (_characteristic(u, ratio, shift).imag / u)
    return float(np.clip(0.5 + total / np.pi, 0.5, 1.0))


def _characteristic(u: Float[np.ndarray, " n"], ratio: Float[np.ndarray, " m"],
                    shift: Float[np.ndarray, " m"]) -> Complex[np.ndarray, " n"]:
    """E exp(i u (L(x_target) - L(x_source))), the two records independent.

    In one direction L = a x^2 + b x + const, a = (1 - 1/ratio)/2, b = shift/ratio. For x ~ N(s, v),
    E exp(iu(a x^2 + b x)) = (1 - 2iuav)^(-1/2) exp((iu(a s^2 + b s) - u^2 b^2 v/2) / (1 - 2iuav)).
    """
    a, b, u = (1 - 1 / ratio) / 2, shift / ratio, u[:, None]

    def one(u: np.ndarray, s: np.ndarray, v: np.ndarray) -> np.ndarray:
        below = 1 - 2j * u * a * v
        return -0.5 * np.log(below) + (1j * u * (a * s**2 + b * s) - u**2 * b**2 * v / 2) / below

    return np.exp((one(u, shift, ratio) + one(-u, np.zeros_like(shift), np.ones_like(ratio))).sum(1))
