"""Best-possible AUCs: of all features, of one view, and of what a linear pretrainer keeps; inside and outside.

Everything is a correlation r between a linear score and the liability, turned into an AUC by g(r, K) (docs/theory.md,
3 and 4). In a domain with covariance S of z and m = Cov(z, l)/sd(l): a score w'z has r = w'm / sqrt(w'S w); the best
within columns A has r^2 = m'A (A'S A)^-1 A'm. No limit here is simulated but the Haar means that `subspace` says are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from simlab.limits.gaussian import Moments, only, solve, view_index
from simlab.limits.liability import auc
from simlab.limits.subspace import Span, average, canonical, cca, used

VIEWS = ("full", "image", "clinical")


@dataclass(frozen=True)
class Oracle:
    """AUC limits of one set of features. `external`: best weights on the target; `source_bayes_external`: the source's.

    Ranges are (infimum, supremum) over the choices that a tie leaves, for the three in this order; equal without one.
    """

    internal: float
    external: float
    source_bayes_external: float
    ranges: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    standard_error: float


@dataclass(frozen=True)
class Decomposition:
    """What an AUC loses between two hospitals, in three terms that add up to it (section 4).

    `irreducible`: the limit itself moved. `transfer`: the source's best rule is not the target's. `learning`: the
    method falls short of the source's best rule (negative where it transfers better than that rule does).
    """

    irreducible: float
    transfer: float
    learning: float | None = None

    @property
    def total(self) -> float:
        """The limit inside minus the AUC outside (of the method, or of the source-Bayes rule where there is none)."""
        return self.irreducible + self.transfer + (self.learning or 0.0)


def decompose(internal: float, external: float, source_bayes_external: float,
              achieved: float | None = None) -> Decomposition:
    """The three-term decomposition of AUC*_source - AUC_external(method): all four arguments are AUCs.

    Without `achieved` (the method's external AUC) the learning term is None.
    """
    learning = None if achieved is None else source_bayes_external - achieved
    return Decomposition(internal - external, external - source_bayes_external, learning)


def correlation_of(law: Moments, weights: Float[np.ndarray, " p"]) -> float:
    """r between the score weights'z and the liability (0 for a constant score)."""
    variance = float(weights @ law.cov @ weights)
    if variance <= 0:
        return 0.0
    return float(np.clip(weights @ law.standardised_cov / np.sqrt(variance), -1, 1))


def bayes_weights(law: Moments, view: str = "full") -> Float[np.ndarray, " p"]:
    """Weights of the Bayes rule of a view, w = S^-1 m on its coordinates and zero elsewhere."""
    shown = view_index(law, view)
    weights = np.zeros(law.p)
    weights[shown] = solve(law.cov[np.ix_(shown, shown)], law.cov_liability[shown])
    return weights


def retained(law: Moments, view: str = "full") -> float:
    """R^2 = m'S^-1 m: the share of the liability's variance that a view's best linear score explains."""
    return float(np.clip(bayes_weights(law, view) @ law.cov_liability / law.var_liability, 0, 1))


def view_oracle(source: Moments, target: Moments, view: str) -> Oracle:
    """Limits of a view's features: "full", "image" or "clinical"."""
    values = (auc(np.sqrt(retained(source, view)), source.prevalence_law),
              auc(np.sqrt(retained(target, view)), target.prevalence_law),
              auc(correlation_of(target, bayes_weights(source, view)), target.prevalence_law))
    low = tuple((float(v), float(v)) for v in values)
    return Oracle(*(float(v) for v in values), low, 0.0)  # type: ignore[arg-type]


def span_oracle(source: Moments, target: Moments, span: Span) -> Oracle:
    """Limits of features inside a span that was found on the source: Haar means, with ranges, where it is tied."""
    rows, span = used(span)
    source, target = only(source, rows), only(target, rows)
    result = average(span, (source, target), span_aucs(source, target))
    ranges = tuple((float(a), float(b)) for a, b in zip(result.low, result.high, strict=True))
    return Oracle(*(float(v) for v in result.mean), ranges, float(result.standard_error.max()))  # type: ignore[arg-type]


def span_aucs(source: Moments, target: Moments) -> Callable[[np.ndarray], np.ndarray]:
    """The function from a stack of bases (n, p, q) to its AUCs (n, 3): internal, external, source-Bayes external."""
    def evaluate(stack: Float[np.ndarray, "n p q"]) -> Float[np.ndarray, "n 3"]:
        ws, rs = best_in_span(source, stack)
        _, re = best_in_span(target, stack)
        variance = np.einsum("np,np->n", ws @ target.cov, ws)
        score = np.divide(ws @ target.standardised_cov, np.sqrt(variance), out=np.zeros(len(stack)), where=variance > 0)
        columns = (auc(rs, source.prevalence_law), auc(re, target.prevalence_law),
                   auc(np.clip(score, -1, 1), target.prevalence_law))
        return np.stack(columns, axis=1)
    return evaluate


def best_in_span(law: Moments, stack: Float[np.ndarray, "n p q"]) -> tuple[
        Float[np.ndarray, "n p"], Float[np.ndarray, " n"]]:
    """For each basis A of a stack: the best weights A (A'S A)^-1 A'm (in z) and their correlation r >= 0."""
    gram = np.swapaxes(stack, 1, 2) @ law.cov @ stack
    sd = np.sqrt(np.maximum(np.einsum("nii->ni", gram), 1e-300))
    m = np.einsum("npq,p->nq", stack, law.standardised_cov) / sd
    inverse = np.linalg.pinv(gram / (sd[:, :, None] * sd[:, None, :]), rcond=1e-10, hermitian=True)
    inner = np.einsum("nij,nj->ni", inverse, m)
    return np.einsum("npq,nq->np", stack, inner / sd), np.sqrt(np.clip(np.einsum("nq,nq->n", inner, m), 0, 1))


def cross_modal_own(target: Moments, k: int) -> float | None:
    """AUC limit of the target's own first k canonical pairs; None where the target's views share nothing."""
    if canonical(target)[1].max(initial=0.0) <= 1e-8:
        return None
    return span_oracle(target, target, cca(target, k)).internal
