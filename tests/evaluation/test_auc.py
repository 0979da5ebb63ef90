"""Areas against the definition (all pairs), another library, and Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr
from sklearn.metrics import roc_auc_score

from simlab.errors import OutOfDomain
from simlab.evaluation.auc import influence, label_auc, rank, weighted_auc


def by_pairs(scores: np.ndarray, p: np.ndarray) -> float:
    win = (scores[:, None] > scores[None]) + 0.5 * (scores[:, None] == scores[None])
    weight = p[:, None] * (1 - p[None])
    np.fill_diagonal(weight, 0)
    return float((weight * win).sum() / weight.sum())


@pytest.mark.parametrize("digits", [1, 8])  # with and without ties
def test_weighted_auc_is_the_sum_over_pairs(rng: np.random.Generator, digits: int) -> None:
    scores, p = np.round(rng.standard_normal(200), digits), rng.random(200)
    assert weighted_auc(scores, p).value == pytest.approx(by_pairs(scores, p), abs=1e-12)


def test_label_auc_equals_scikit_learn(rng: np.random.Generator) -> None:
    scores = np.round(rng.standard_normal(500), 1)
    y = (rng.random(500) < 0.3).astype(float)
    assert label_auc(scores, y).value == pytest.approx(roc_auc_score(y, scores), abs=1e-12)


def test_a_ranking_gives_the_same_area(rng: np.random.Generator) -> None:
    scores, p = rng.standard_normal(300), rng.random(300)
    assert weighted_auc(rank(scores), p).value == weighted_auc(scores, p).value


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, risk and label of a probit model with r = 0.7, prevalence about 0.2."""
    s = rng.standard_normal(n)
    p = ndtr((0.7 * s - 0.8416) / np.sqrt(1 - 0.49))
    return s, p, (rng.random(n) < p).astype(float)


def test_standard_errors_are_the_spread_over_repetitions() -> None:
    """600 repetitions: a standard deviation is known to 1/sqrt(1200) = 2.9 %; four of those."""
    rng = np.random.default_rng(11)
    found = np.array(
        [[weighted_auc(s, p).value, label_auc(s, y).value] for s, p, y in (draw(rng, 400) for _ in range(600))]
    )
    said = np.mean(
        [[weighted_auc(s, p).se, label_auc(s, y).se] for s, p, y in (draw(rng, 400) for _ in range(100))], axis=0
    )
    np.testing.assert_allclose(said, found.std(axis=0, ddof=1), rtol=4 * 0.029)


def test_known_risk_saves_variance() -> None:
    """n = 1000, r = .7, K = .2: 9.4 times less; of 300 repetitions an F ratio is known to 12 %."""
    rng = np.random.default_rng(5)
    found = np.array(
        [[weighted_auc(s, p).value, label_auc(s, y).value] for s, p, y in (draw(rng, 1000) for _ in range(300))]
    )
    ratio = found[:, 1].var() / found[:, 0].var()
    assert 9.4 * (1 - 3 * 0.12) < ratio < 9.4 * (1 + 3 * 0.12)


def test_influences_sum_to_zero_and_give_the_error(rng: np.random.Generator) -> None:
    s, p, _ = draw(rng, 500)
    area = weighted_auc(s, p)
    each = influence(area, p)
    assert np.sqrt((each**2).sum()) / 500 == pytest.approx(area.se)
    assert abs(each.mean()) < 2 / 500  # exact but for the pairs (i, i)


@pytest.mark.parametrize(
    ("scores", "y"), [([0.0, np.nan], [0.0, 1.0]), ([0.0, 1.0], [1.0, 1.0]), ([0.0, 1.0], [0.0, np.nan])]
)
def test_what_has_no_area_is_refused(scores: list[float], y: list[float]) -> None:
    with pytest.raises(OutOfDomain):
        label_auc(np.array(scores), np.array(y))
