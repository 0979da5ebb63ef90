"""Comparators without an encoder: closed forms and well-kept libraries on the raw features."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold

from simlab.errors import InvalidCohort, MissingExtra, OutOfDomain
from simlab.training import ridge as ridge_regression
from simlab.training.data import Bench, Fit, Views, columns
from simlab.training.method import Method
from simlab.training.scores import LinearScore, ProjectionScore, TreeScore, project

NO_PENALTY = np.zeros(1)
FOLDS = 5
CANDIDATES = len(ridge_regression.PENALTIES)  # every tuned arm tries about as many (docs/methods.md)
TREE_SHAPES = ((4, 5), (4, 20), (8, 10), (15, 5), (15, 20))  # leaves, least records of a leaf
TREE_COUNTS = (25, 50, 100, 150, 200, 300, 400)


def lda(method: Method, bench: Bench) -> Fit:
    """Linear discriminant analysis: least squares on the label has the same direction (minimum norm if n < p)."""
    line = ridge_regression.fit(
        columns(bench.train.views, method.streams), bench.train.y, bench.train.subjects, NO_PENALTY
    )
    return Fit(LinearScore(method.streams, line.weights, line.intercept))


def ridge(method: Method, bench: Bench) -> Fit:
    """Ridge regression of the label, the penalty tuned by leaving subjects out."""
    grid = ridge_regression.grid(method, bench.settings)
    line = ridge_regression.fit(columns(bench.train.views, method.streams), bench.train.y, bench.train.subjects, grid)
    return Fit(LinearScore(method.streams, line.weights, line.intercept), {"diag/penalty": line.penalty})


def logistic(method: Method, bench: Bench) -> Fit:
    """L2-penalised logistic regression (scikit-learn), penalty tuned by five-fold cross-validation by subject."""
    from sklearn.linear_model import LogisticRegressionCV

    x = _shown(method, bench.train.views)
    model = LogisticRegressionCV(
        Cs=np.logspace(-4, 2, CANDIDATES),
        cv=folds(bench),
        scoring="neg_log_loss",
        max_iter=2000,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    )
    model.fit(x, bench.train.y)
    weights = np.array(model.coef_[0], dtype=np.float64)
    return Fit(
        LinearScore(_source(method), weights, float(model.intercept_[0])),
        {"diag/penalty": float(1 / model.C_)},
        scale="logit",
    )


def lightgbm(method: Method, bench: Bench) -> Fit:
    """Gradient-boosted trees; leaves, leaf size and number of trees tuned by five-fold cross-validation by subject.

    The number of trees is read off one fit at seven points, as the MLPs' stopping time is: 5 x 7 candidates.
    """
    try:
        from lightgbm import LGBMClassifier
    except ImportError as error:
        raise MissingExtra("method lightgbm needs the package lightgbm: pip install 'simlab[real]'.") from error
    x, y = _shown(method, bench.train.views), bench.train.y
    splits = folds(bench)

    def model(shape: tuple[int, int], trees: int) -> LGBMClassifier:
        return LGBMClassifier(
            num_leaves=shape[0],
            min_child_samples=shape[1],
            n_estimators=trees,
            learning_rate=0.03,
            subsample=0.8,
            subsample_freq=1,
            colsample_bytree=0.5,
            reg_lambda=1.0,
            n_jobs=1,
            verbose=-1,
            random_state=bench.seed % 2**31,
            deterministic=True,
            force_row_wise=True,
        )

    losses = np.zeros((len(TREE_SHAPES), len(TREE_COUNTS)))
    for i, shape in enumerate(TREE_SHAPES):
        for inside, outside in splits:
            fitted = model(shape, TREE_COUNTS[-1]).fit(x[inside], y[inside])
            for j, trees in enumerate(TREE_COUNTS):
                p = fitted.predict_proba(x[outside], num_iteration=trees)[:, 1]
                losses[i, j] += log_loss(y[outside], p, labels=[0, 1])
    i, j = np.unravel_index(int(losses.argmin()), losses.shape)
    final = model(TREE_SHAPES[i], TREE_COUNTS[j]).fit(x, y)
    return Fit(
        TreeScore(_source(method), final.booster_.model_to_string()),
        {"diag/leaves": float(TREE_SHAPES[i][0]), "diag/trees": float(TREE_COUNTS[j])},
    )


def _source(method: Method) -> str:
    """What of the views the arm reads, in the terms of `columns`."""
    return "mask" if method.reads == "mask" else method.streams


def _shown(method: Method, views: Views) -> Float[np.ndarray, "records features"]:
    """What the arm reads, as columns. Raises InvalidCohort where what was measured is not shown."""
    if method.reads == "mask" and "mask" not in views:
        raise InvalidCohort(f"method {method.name} reads what was measured; a prepared cohort alone shows it.")
    return columns(views, _source(method))


def folds(bench: Bench) -> list[tuple[Int[np.ndarray, "inside"], Int[np.ndarray, "outside"]]]:
    """Five folds of the labelled records, whole subjects left out, classes kept in proportion.

    Raises OutOfDomain when a class has fewer subjects than there are folds.
    """
    train = bench.train
    least = min(len(np.unique(train.subjects[train.y == c])) for c in (0, 1))
    if least < FOLDS:
        raise OutOfDomain(
            f"{FOLDS}-fold tuning needs {FOLDS} subjects of each class among the labelled; there are {least}."
        )
    split = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=bench.seed % 2**31)
    return list(split.split(train.y[:, None], train.y, train.subjects))


def cca_lda(method: Method, bench: Bench) -> Fit:
    """The first `width` canonical pairs of the unlabelled records, then a linear discriminant on both projections."""
    if method.streams != "all":
        raise OutOfDomain(f"method {method.name}: streams = {method.streams!r}, but canonical pairs need two.")
    maps = canonical_maps(bench.pretraining["image"], bench.pretraining["clinical"], bench.settings.width)

    centres = {role: np.zeros(len(m)) for role, m in maps.items()}
    shown = project(bench.train.views, maps, centres)
    line = ridge_regression.fit(shown, bench.train.y, bench.train.subjects, NO_PENALTY)
    return Fit(ProjectionScore(maps, centres, line.weights, line.intercept))


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
