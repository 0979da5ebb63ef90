"""Areas under the ROC curve: from labels, or from the known risk (posterior-weighted), with their standard errors.

In a synthetic world the risk p_i = P(y_i = 1 | inputs) is known, so the label can be replaced by its expectation:

    AUC_w = sum_{i != j} p_i (1 - p_j) [s_i > s_j] / sum_{i != j} p_i (1 - p_j)        (ties count one half)

which has the same target as the label AUC and far less variance (about a ninth at r = .7, K = .2, n = 1000). With p in
{0, 1} it is the ordinary label AUC, so one implementation serves both. O(n log n).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from simlab.errors import OutOfDomain


@dataclass(frozen=True)
class Auc:
    """An area and the parts that its errors are made of.

    `below`: (records,) share of the negatives' weight that record i outranks; `above`: share of the positives' weight
    that outranks record i; `mass`: mean of the weights (the prevalence).
    """

    value: float
    se: float
    below: Float[np.ndarray, "records"]
    above: Float[np.ndarray, "records"]
    mass: float


@dataclass(frozen=True)
class Ranking:
    """The order of scores, found once: every area of the same scores shares it, and sorting is most of the work."""

    order: Int[np.ndarray, "records"]
    starts: Int[np.ndarray, "levels"]  # first place of each distinct score, in order
    level: Int[np.ndarray, "records"]  # of each place

    def lower_and_tied(
        self, weight: Float[np.ndarray, "records"]
    ) -> tuple[Float[np.ndarray, "records"], Float[np.ndarray, "records"]]:
        """For each record: the weight of the records that score strictly lower, and of those that tie (itself too)."""
        mass = np.add.reduceat(weight[self.order], self.starts)
        lower = np.concatenate(([0.0], np.cumsum(mass)[:-1]))
        out_lower, out_tied = np.empty(len(weight)), np.empty(len(weight))
        out_lower[self.order], out_tied[self.order] = lower[self.level], mass[self.level]
        return out_lower, out_tied


def rank(scores: Float[np.ndarray, "records"]) -> Ranking:
    """The ranking of scores on any monotone scale. Raises OutOfDomain when one is not finite."""
    if not np.isfinite(scores).all():
        raise OutOfDomain("an AUC needs finite scores; found NaN or infinity.")
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    first = np.concatenate(([True], ranked[1:] != ranked[:-1]))
    return Ranking(order, np.flatnonzero(first), np.cumsum(first) - 1)


def weighted_auc(scores: Float[np.ndarray, "records"] | Ranking, risk: Float[np.ndarray, "records"]) -> Auc:
    """The posterior-weighted AUC of `scores` (or their ranking) given `risk` in [0, 1], with its standard error.

    The standard error is over the sampling of test records (influence function; for labels it is DeLong's, 1988, up
    to terms of order 1/n). Raises OutOfDomain when scores or risk are not finite, or one class has no weight.
    """
    ranking = scores if isinstance(scores, Ranking) else rank(scores)
    n = len(risk)
    p = np.asarray(risk, dtype=np.float64)
    q = 1.0 - p
    positives, negatives = p.sum(), q.sum()
    if not np.isfinite(p).all():
        raise OutOfDomain("an AUC needs finite risks or labels; found NaN or infinity.")
    if positives <= 0 or negatives <= 0:
        raise OutOfDomain(f"an AUC needs both classes; of {n} records {positives:g} are positive.")
    lower_q, tied_q = ranking.lower_and_tied(q)
    lower_p, tied_p = ranking.lower_and_tied(p)
    numerator = float(p @ (lower_q + 0.5 * (tied_q - q)))
    value = numerator / float(positives * negatives - p @ q)
    below = (lower_q + 0.5 * tied_q) / negatives
    above = (positives - lower_p - 0.5 * tied_p) / positives
    area = Auc(value, 0.0, below, above, float(positives / n))
    return replace(area, se=float(np.sqrt(np.sum(influence(area, p) ** 2)) / n))


def label_auc(scores: Float[np.ndarray, "records"] | Ranking, labels: Float[np.ndarray, "records"]) -> Auc:
    """The ordinary AUC from labels in {0, 1}, with DeLong's standard error. Raises OutOfDomain as `weighted_auc`."""
    return weighted_auc(scores, np.asarray(labels, dtype=np.float64))


def influence(area: Auc, weight: Float[np.ndarray, "records"]) -> Float[np.ndarray, "records"]:
    """Each record's influence on the area; differences of these give paired standard errors on the same records."""
    return weight * (area.below - area.value) / area.mass + (1 - weight) * (area.above - area.value) / (1 - area.mass)


def resampled_areas(
    scores: Mapping[str, Float[np.ndarray, "records"]],
    y: Float[np.ndarray, "records"],
    groups: np.ndarray,
    rng: np.random.Generator,
    draws: int = 1000,
) -> dict[str, Float[np.ndarray, "draws"]]:
    """Label areas of several scores over the same bootstrap samples of whole groups (stays, subjects); NaN for a draw
    with one class. A draw is a weight a record, so that each score is ranked once."""
    _, inverse = np.unique(groups, return_inverse=True)
    n = int(inverse.max()) + 1
    rankings = {name: rank(x) for name, x in scores.items()}
    found = {name: np.full(draws, np.nan) for name in scores}
    for d in range(draws):
        weight = rng.multinomial(n, np.full(n, 1 / n))[inverse].astype(np.float64)
        positive, negative = weight * y, weight * (1 - y)
        mass = positive.sum() * negative.sum()
        if mass > 0:
            for name, ranking in rankings.items():
                lower, tied = ranking.lower_and_tied(negative)
                found[name][d] = positive @ (lower + 0.5 * tied) / mass
    return found
