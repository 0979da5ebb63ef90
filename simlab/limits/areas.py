"""AUC limits where the risk is exact but no closed form gives the area: randomised quasi-Monte Carlo, with its error.

The risk of what is shown is a function of four linear statistics of it (`simlab.limits.joint`), so the area is an
integral over four Gaussian numbers given the site (eight for a rule of another hospital). Scrambled Sobol' points
integrate it, positives from one scrambling and negatives from another, so that no point meets itself; the spread over
independent pairs of scramblings is the standard error. Labels are never drawn: the posterior weights them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from simlab.limits.gaussian import view_index
from simlab.limits.joint import Joint, Reader, reader
from simlab.limits.oracles import Oracle
from simlab.limits.subspace import Span, sample_choices

SCRAMBLINGS = 16  # in pairs
LOG_POINTS = 11  # points of one scrambling, all sites together, as a power of two
CHOICES = 12  # draws of a tied span
TIE = 1e-13  # risks nearer than this are one: where the hospital alone is known there are but a few


def weighted_area(score: Float[np.ndarray, " n"], risk: Float[np.ndarray, " n"]) -> float:
    """The AUC of a score over points of equal weight whose labels are known by their risk, over pairs of
    distinct points (a U-statistic: no bias). A constant score has 1/2."""
    if np.ptp(score) < 1e-13:
        return 0.5
    p = risk[np.argsort(score)]
    below = np.cumsum(1 - p) - (1 - p)
    return float(p @ below / (p.sum() * (1 - p).sum() - p @ (1 - p)))


def area(truth: Reader, score: Reader | None = None, log_points: int = LOG_POINTS) -> tuple[float, float]:
    """The AUC in truth's domain, and its standard error, of the risk that `score` (another domain's reader of the same
    coordinates; default: truth itself) gives."""
    law = truth.joint
    weights = truth.weights if score is None else np.hstack([truth.weights, score.weights])
    moved = np.zeros(4) if score is None else (law.law.mean - score.joint.law.mean) @ score.weights
    values, vectors = np.linalg.eigh(weights.T @ law.law.cov @ weights)
    kept = values > 1e-13 * max(float(values.max()), 1e-300)
    root = vectors[:, kept] * np.sqrt(values[kept])
    if not kept.any() or values.max() < 1e-14:
        root = np.zeros((len(values), 1))
    step, plain = law.direction @ weights, replace_prevalence(truth)
    points = max(log_points - int(np.ceil(np.log2(len(law.effects)))), 6)
    sides = []
    for normal in _scrambled(root.shape[1], points):
        base = normal @ root.T
        stats = np.concatenate([base + e * step for e in law.effects])
        risk = plain.risk(stats[:, :4])
        sides.append((risk if score is None else score.risk(stats[:, 4:] + moved), risk))
    found = [_between(*sides[i], *sides[i + 1]) for i in range(0, len(sides), 2)]
    return float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(len(found)))


def _between(score: Float[np.ndarray, " n"], risk: Float[np.ndarray, " n"], other: Float[np.ndarray, " m"],
             its_risk: Float[np.ndarray, " m"]) -> float:
    """The AUC over pairs of points of two independent scramblings, both ways round: no point meets itself, no bias."""
    if max(np.ptp(score), np.ptp(other)) < 1e-13:
        return 0.5
    forth, back = _above(score, risk, other, 1 - its_risk), _above(other, its_risk, score, 1 - risk)
    return float((forth + back) / (risk.sum() * (1 - its_risk).sum() + its_risk.sum() * (1 - risk).sum()))


def _above(score: Float[np.ndarray, " n"], weight: Float[np.ndarray, " n"], other: Float[np.ndarray, " m"],
           its_weight: Float[np.ndarray, " m"]) -> float:
    """Sum of the products of weights over the pairs in which `score` is above `other`; ties count one half."""
    order = np.argsort(other)
    below, ranked = np.concatenate([[0.0], np.cumsum(its_weight[order])]), other[order]
    low, high = np.searchsorted(ranked, score - TIE), np.searchsorted(ranked, score + TIE)
    return float(weight @ (below[low] + below[high])) / 2


def replace_prevalence(truth: Reader) -> Reader:
    """The reader without resampled classes, which move no AUC."""
    total = truth.joint.total
    return replace(truth, joint=replace(truth.joint, total=replace(total, prevalence=total.prevalence_law)))


def _scrambled(dimension: int, log_points: int) -> list[Float[np.ndarray, "n d"]]:
    """Independent scramblings of standard normal Sobol' points, the same every time."""
    from scipy.stats import qmc

    found = []
    for i in range(SCRAMBLINGS):
        points = qmc.Sobol(dimension, scramble=True, rng=np.random.default_rng(20_250_919 + i))
        uniform = points.random_base2(log_points)
        found.append(ndtri(np.clip(uniform, 1e-12, 1 - 1e-12)))
    return found


def view_oracle(source: Joint, target: Joint, view: str) -> Oracle:
    """Limits of a view's features: "full", "image" or "clinical"."""
    shown = view_index(source.law, view)
    return _oracle(*_three(reader(source, shown), reader(target, shown)))


def view_limit(law: Joint, view: str) -> tuple[float, float]:
    """The limit of a view in its own domain, and its standard error."""
    return area(reader(law, view_index(law.law, view)))


def span_oracle(source: Joint, target: Joint, span: Span) -> Oracle:
    """Limits of all functions of the features inside a span; over tied choices, the mean and range of a few draws."""
    if not span.tied:
        return _oracle(*_three(reader(source, basis=span.fixed), reader(target, basis=span.fixed)))
    rows = []
    for basis in sample_choices(span, CHOICES):
        values, errors = _three(reader(source, basis=basis), reader(target, basis=basis), LOG_POINTS - 3)
        rows.append((values, errors))
    values, errors = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    spread = np.sqrt(values.var(0, ddof=1) / len(rows) + (errors**2).mean(0) / len(rows))
    ranges = tuple((float(a), float(b)) for a, b in zip(values.min(0), values.max(0), strict=True))
    return Oracle(*(float(v) for v in values.mean(0)), ranges, float(spread.max()))  # type: ignore[arg-type]


def _three(source: Reader, target: Reader, log_points: int = LOG_POINTS) -> tuple[list[float], list[float]]:
    """(internal, external, source-Bayes external) and their standard errors."""
    pairs = [area(source, None, log_points), area(target, None, log_points), area(target, source, log_points)]
    return [v for v, _ in pairs], [e for _, e in pairs]


def _oracle(values: list[float], errors: list[float]) -> Oracle:
    ranges = tuple((v, v) for v in values)
    return Oracle(*values, ranges, max(errors))  # type: ignore[arg-type]
