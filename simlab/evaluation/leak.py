"""The leak guard: does a score know more about the test labels than its inputs allow?

Given the inputs, a label is a coin with the known risk, whatever the score. So the label AUC minus the posterior-
weighted AUC of the same score on the same cases has mean zero unless the score has seen the labels
(docs/sweeps.md, "The statistics"). The comparison with the Bayes limit could not tell: no score beats the risk's own
weighted AUC, leak or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from simlab.errors import LeakDetected
from simlab.evaluation.auc import Auc, Ranking, label_auc, rank, weighted_auc

FAMILY_WISE = 0.01  # chance that a whole run without any leak trips the guard


@dataclass(frozen=True)
class Leak:
    """Label AUC minus posterior-weighted AUC, its standard error given the inputs, and their ratio."""

    excess: float
    se: float
    z: float


def leak(
    scores: Float[np.ndarray, "records"] | Ranking,
    labels: Float[np.ndarray, "records"],
    risk: Float[np.ndarray, "records"],
) -> Leak:
    """The excess of the label AUC over the posterior-weighted AUC on the same cases. Raises OutOfDomain as they do."""
    ranking = scores if isinstance(scores, Ranking) else rank(scores)
    return excess(weighted_auc(ranking, risk), label_auc(ranking, labels), risk)


def excess(weighted: Auc, labelled: Auc, risk: Float[np.ndarray, "records"]) -> Leak:
    """The leak of two areas of the same scores on the same cases.

    First order in the labels: excess = mean((y - p) h), h = (below - AUC)/K - (above - AUC)/(1 - K), whose variance
    given the inputs is sum p (1 - p) h^2 / n^2.
    """
    h = (weighted.below - weighted.value) / weighted.mass - (weighted.above - weighted.value) / (1 - weighted.mass)
    se = float(np.sqrt(np.sum(risk * (1 - risk) * h**2)) / len(risk))
    difference = labelled.value - weighted.value
    return Leak(difference, se, difference / se if se > 0 else 0.0)


def threshold(rows: int, family_wise: float = FAMILY_WISE) -> float:
    """The |z| beyond which one of `rows` comparisons trips the guard (two-sided Bonferroni: any dependence)."""
    return float(-ndtri(family_wise / (2 * max(rows, 1))))


def check(z: Sequence[float], names: Sequence[str], family_wise: float = FAMILY_WISE) -> None:
    """Raise LeakDetected when any of these z-values trips the guard, naming the worst.

    Only a positive excess is a leak; a negative one of that size means labels and risk do not belong together, and is
    refused with the same force.
    """
    if not len(z):
        return
    values = np.asarray(z, dtype=np.float64)
    worst = int(np.argmax(np.abs(values)))
    limit = threshold(len(values), family_wise)
    if abs(values[worst]) > limit:
        kind = "knows the test labels" if values[worst] > 0 else "contradicts the known risk"
        raise LeakDetected(
            f"leak guard: {names[worst]} {kind}: its label AUC minus its posterior-weighted AUC is "
            f"{values[worst]:+.1f} standard errors; with {len(values)} comparisons the limit is {limit:.1f}. "
            "Its results are not to be trusted."
        )
