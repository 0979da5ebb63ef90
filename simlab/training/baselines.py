"""Comparators without an encoder: closed forms and well-kept libraries on the raw features."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from simlab.errors import MissingExtra
from simlab.training import ridge as ridge_regression
from simlab.training.data import Bench, Fit, columns
from simlab.training.method import Method
from simlab.training.scores import LinearScore, ProjectionScore

NO_PENALTY = np.zeros(1)


def lda(method: Method, bench: Bench) -> Fit:
    """Linear discriminant analysis: least squares on the label has the same direction (minimum norm if n < p)."""
    line = ridge_regression.fit(
        columns(bench.train.views, method.streams), bench.train.y, bench.train.subjects, NO_PENALTY
    )
    return Fit(LinearScore(method.streams, line.weights, line.intercept))


def ridge(method: Method, bench: Bench) -> Fit:
    """Ridge regression of the label, the penalty tuned by leaving subjects out."""
    line = ridge_regression.fit(columns(bench.train.views, method.streams), bench.train.y, bench.train.subjects)
    return Fit(LinearScore(method.streams, line.weights, line.intercept), {"diag/penalty": line.penalty})


def logistic(method: Method, bench: Bench) -> Fit:
    """L2-penalised logistic regression (scikit-learn), penalty tuned by five-fold cross-validation by subject."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedGroupKFold

    x = columns(bench.train.views, method.streams)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=bench.seed % 2**31)
    model = LogisticRegressionCV(
        Cs=np.logspace(-4, 2, 13),
        cv=list(folds.split(x, bench.train.y, bench.train.subjects)),
        scoring="neg_log_loss",
        max_iter=2000,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )
    model.fit(x, bench.train.y)
    weights = np.array(model.coef_[0], dtype=np.float64)
    return Fit(LinearScore(method.streams, weights, float(model.intercept_[0])), {"diag/penalty": float(1 / model.C_)})


def lightgbm(method: Method, bench: Bench) -> Fit:
    """Gradient-boosted trees; size tuned by five-fold cross-validation by subject, one grid for all."""
    try:
        from lightgbm import LGBMClassifier
    except ImportError as error:
        raise MissingExtra("method lightgbm needs the package lightgbm: pip install 'simlab[real]'.") from error
    from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

    x = columns(bench.train.views, method.streams)
    seed = bench.seed % 2**31
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    base = LGBMClassifier(
        learning_rate=0.03,
        min_child_samples=10,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.5,
        reg_lambda=1.0,
        n_jobs=1,
        verbose=-1,
        random_state=seed,
        deterministic=True,
        force_row_wise=True,
    )
    grid = {"num_leaves": [4, 15], "n_estimators": [100, 300]}
    search = GridSearchCV(
        base, grid, cv=list(folds.split(x, bench.train.y, bench.train.subjects)), scoring="neg_log_loss"
    )
    search.fit(x, bench.train.y)
    return Fit(lambda views: search.best_estimator_.predict_proba(columns(views, method.streams))[:, 1])


def cca_lda(method: Method, bench: Bench) -> Fit:
    """The first `width` canonical pairs of the unlabelled records, then a linear discriminant on both projections."""
    maps = canonical_maps(bench.pretraining["image"], bench.pretraining["clinical"], bench.settings.width)

    shown = ProjectionScore(maps, np.zeros(2 * bench.settings.width), 0.0).project(bench.train.views)
    line = ridge_regression.fit(shown, bench.train.y, bench.train.subjects, NO_PENALTY)
    return Fit(ProjectionScore(maps, line.weights, line.intercept))


def canonical_maps(
    a: Float[np.ndarray, "records p"], b: Float[np.ndarray, "records q"], k: int
) -> dict[str, Float[np.ndarray, "_ k"]]:
    """The first k canonical directions of each view: S_aa^-1/2 U_k and S_bb^-1/2 V_k with U R V' the SVD of the
    whitened cross-covariance (Hotelling 1936). A near-singular view is whitened on its own range."""
    x, y = a.astype(np.float64) - a.mean(axis=0), b.astype(np.float64) - b.mean(axis=0)
    white_x, white_y = _inverse_root(x.T @ x / len(x)), _inverse_root(y.T @ y / len(y))
    u, _, vt = np.linalg.svd(white_x @ (x.T @ y / len(x)) @ white_y)
    return {"image": white_x @ u[:, :k], "clinical": white_y @ vt.T[:, :k]}


def _inverse_root(s: Float[np.ndarray, "p p"]) -> Float[np.ndarray, "p p"]:
    values, vectors = np.linalg.eigh(s)
    root = np.where(values > values.max() * 1e-10, 1 / np.sqrt(np.maximum(values, 1e-300)), 0.0)
    return (vectors * root) @ vectors.T
