"""Comparators that use the same unlabelled records as pretraining, without any pretraining objective.

If JEPA is ahead of labels alone but not of these, the gain is that of more data, not of the objective.
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning

from simlab.training import ridge
from simlab.training.data import Bench, Fit, columns
from simlab.training.method import Method
from simlab.training.scores import JointScore, LinearScore, ProjectionScore, project

CONFIDENT = 0.5  # share of the unlabelled records that self-training labels itself
ROUNDS = 2
ROWS = 5000  # unlabelled records that factor analysis and self-training read at most


def pca_ridge(method: Method, bench: Bench) -> Fit:
    """The first `width` principal components of each view (unlabelled records), then ridge, penalty tuned.

    Components keep their scale, as the encoders' embeddings do: the penalty acts on the small ones.
    """
    records = {role: np.asarray(bench.pretraining[role], dtype=np.float64) for role in method.roles}
    centres = {role: x.mean(axis=0) for role, x in records.items()}
    axes = {
        role: np.linalg.eigh(np.cov(x, rowvar=False))[1][:, ::-1][:, : bench.settings.width]
        for role, x in records.items()
    }
    shown, grid = project(bench.train.views, axes, centres), ridge.grid(method, bench.settings)
    line = ridge.fit(shown, bench.train.y, bench.train.subjects, grid)
    return Fit(ProjectionScore(axes, centres, line.weights, line.intercept), {"diag/penalty": line.penalty})


def factor_ridge(method: Method, bench: Bench) -> Fit:
    """Posterior means of `width` factors for each view, of all of them side by side (scikit-learn), then tuned ridge.

    Features are standardised first. As many factors as the encoders have outputs, at most one fewer than features.
    """
    x = columns(bench.pretraining, method.streams)[:ROWS]
    centre, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
    model = FactorAnalysis(min(len(method.roles) * bench.settings.width, x.shape[1] - 1), svd_method="lapack")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the likelihood is flat where factors are too many
        model.fit((x - centre) / scale)
    # Its `transform`, E[factors | x], as one matrix; the standardised features' mean is 0.
    weighed = model.components_ / model.noise_variance_
    shape = weighed.T @ np.linalg.inv(np.eye(len(weighed)) + weighed @ model.components_.T)
    shown = JointScore(centre, scale, shape, np.zeros(len(weighed)), 0.0, method.streams).project(bench.train.views)
    line = ridge.fit(shown, bench.train.y, bench.train.subjects, ridge.grid(method, bench.settings))
    score = JointScore(centre, scale, shape, line.weights, line.intercept, method.streams)
    return Fit(score, {"diag/penalty": line.penalty})


def unlabelled_lda(method: Method, bench: Bench) -> Fit:
    """S^-1 (mean of positives - mean of negatives), S the covariance of the unlabelled records.

    With S the total covariance the direction is LDA's own in the limit; only the means are estimated from labels.
    """
    x, y = columns(bench.train.views, method.streams), bench.train.y
    everything = columns(bench.pretraining, method.streams)
    weights = np.linalg.lstsq(np.cov(everything, rowvar=False), x[y == 1].mean(axis=0) - x[y == 0].mean(axis=0))[0]
    return Fit(LinearScore(method.streams, weights), scale="none")


def self_training(method: Method, bench: Bench) -> Fit:
    """Tuned ridge; its most confident half of the unlabelled records take its labels, classes in proportion; ridge
    again on both with the same penalty; twice.

    A linear score that learns from its own labels can only sharpen its direction: a floor for semi-supervision.
    """
    x, y = columns(bench.train.views, method.streams), bench.train.y
    extra = columns(bench.pretraining, method.streams)[:ROWS]
    line = ridge.fit(x, y, bench.train.subjects, ridge.grid(method, bench.settings))
    penalty = np.array([line.penalty])
    positives, negatives = (max(1, round(CONFIDENT * share * len(extra))) for share in (y.mean(), 1 - y.mean()))
    for _ in range(ROUNDS):
        order = np.argsort(line(extra), kind="stable")
        chosen = np.concatenate([order[:negatives], order[-positives:]])
        labels = np.concatenate([y, np.zeros(negatives), np.ones(positives)])
        line = ridge.fit(np.concatenate([x, extra[chosen]]), labels, np.arange(len(labels)), penalty)
    # Its own labels are as certain as the true ones: what it gives is no risk.
    score = LinearScore(method.streams, line.weights, line.intercept)
    return Fit(score, {"diag/penalty": line.penalty}, scale="none")

