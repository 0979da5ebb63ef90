"""Comparators that use the same unlabelled records as pretraining, without any pretraining objective.

If JEPA is ahead of labels alone but not of these, the gain is that of more data, not of the objective.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning

from simlab.training import ridge
from simlab.training.data import Bench, Fit, Views, columns
from simlab.training.method import Method

CONFIDENT = 0.5  # share of the unlabelled records that self-training labels itself
ROUNDS = 2
ROWS = 5000  # unlabelled records that factor analysis and self-training read at most


def pca_ridge(method: Method, bench: Bench) -> Fit:
    """The first `width` principal components of each view (unlabelled records), then ridge, penalty tuned.

    Components keep their scale, as the encoders' embeddings do: the penalty acts on the small ones.
    """
    records = {role: np.asarray(x, dtype=np.float64) for role, x in bench.pretraining.items()}
    centres = {role: x.mean(axis=0) for role, x in records.items()}
    axes = {
        role: np.linalg.eigh(np.cov(x, rowvar=False))[1][:, ::-1][:, : bench.settings.width]
        for role, x in records.items()
    }

    def project(views: Views) -> Float[np.ndarray, "records components"]:
        return np.concatenate([(views[role] - centres[role]) @ axes[role] for role in ("image", "clinical")], axis=1)

    return _tuned(project, bench)


def factor_ridge(method: Method, bench: Bench) -> Fit:
    """Posterior means of 2 x `width` factors of both views side by side (scikit-learn), then ridge, penalty tuned.

    Features are standardised first. As many factors as the encoders have outputs, at most one fewer than features.
    """
    x = columns(bench.pretraining, "all")[:ROWS]
    centre, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
    model = FactorAnalysis(min(2 * bench.settings.width, x.shape[1] - 1), svd_method="lapack")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the likelihood is flat where factors are too many
        model.fit((x - centre) / scale)
    return _tuned(lambda views: model.transform((columns(views, "all") - centre) / scale), bench)


def unlabelled_lda(method: Method, bench: Bench) -> Fit:
    """S^-1 (mean of positives - mean of negatives), S the covariance of the unlabelled records.

    With S the total covariance the direction is LDA's own in the limit; only the means are estimated from labels.
    """
    x, y = columns(bench.train.views, method.streams), bench.train.y
    everything = columns(bench.pretraining, method.streams)
    weights = np.linalg.lstsq(np.cov(everything, rowvar=False), x[y == 1].mean(axis=0) - x[y == 0].mean(axis=0))[0]
    return Fit(lambda views: columns(views, method.streams) @ weights, scale="none")


def self_training(method: Method, bench: Bench) -> Fit:
    """Tuned ridge; its most confident half of the unlabelled records take its labels, classes in proportion; ridge
    again on both with the same penalty; twice.

    A linear score that learns from its own labels can only sharpen its direction: a floor for semi-supervision.
    """
    x, y = columns(bench.train.views, method.streams), bench.train.y
    extra = columns(bench.pretraining, method.streams)[:ROWS]
    line = ridge.fit(x, y, bench.train.subjects)
    penalty = np.array([line.penalty])
    positives, negatives = (max(1, round(CONFIDENT * share * len(extra))) for share in (y.mean(), 1 - y.mean()))
    for _ in range(ROUNDS):
        order = np.argsort(line(extra), kind="stable")
        chosen = np.concatenate([order[:negatives], order[-positives:]])
        labels = np.concatenate([y, np.zeros(negatives), np.ones(positives)])
        line = ridge.fit(np.concatenate([x, extra[chosen]]), labels, np.arange(len(labels)), penalty)
    # Its own labels are as certain as the true ones: what it gives is no risk.
    return Fit(lambda views: line(columns(views, method.streams)), {"diag/penalty": line.penalty}, scale="none")


def _tuned(project: Callable[[Views], Float[np.ndarray, "records components"]], bench: Bench) -> Fit:
    line = ridge.fit(project(bench.train.views), bench.train.y, bench.train.subjects)
    return Fit(lambda views: line(project(views)), {"diag/penalty": line.penalty})
