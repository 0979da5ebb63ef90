"""Barlow Twins and InfoNCE against loops, libraries, their constants at collapse and the information bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from simlab.objectives.barlow import barlow
from simlab.objectives.contrastive import TEMPERATURE, chance, clip, first_scale, info_nce, similarities
from simlab.objectives.prediction import constant_loss, prediction_loss, skill, squared_error


def pair(seed: int = 0, members: int = 2, n: int = 40, d: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(members, n, d, generator=g, dtype=torch.float64)
    return a, a + 0.5 * torch.randn(members, n, d, generator=g, dtype=torch.float64)


def test_barlow_is_the_official_formula_with_batch_normalisation() -> None:
    a, b = pair()
    norm = torch.nn.BatchNorm1d(5, affine=False).double()
    for m in range(2):
        c = (norm(a[m]).T @ norm(b[m]) / 40).detach().numpy()
        expected = sum(
            (1 - c[i, j]) ** 2 if i == j else 0.0051 * c[i, j] ** 2 for i in range(5) for j in range(5)
        )
        assert float(barlow(a, b)[m]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("width", [1, 3, 16])
def test_barlow_costs_its_width_at_collapse(width: int) -> None:
    point = torch.full((1, 32, width), 2.0)
    assert float(barlow(point, point)) == pytest.approx(width, abs=1e-5)


def test_clip_is_the_cross_entropy_of_a_library() -> None:
    a, b = pair()
    own = torch.arange(40)
    for m in range(2):
        logits = functional.cosine_similarity(a[m][:, None], b[m][None], dim=2) / TEMPERATURE
        expected = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
        assert float(clip(a, b)[m]) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("n", [2, 64, 500])
def test_contrastive_losses_cost_log_n_at_collapse(n: int) -> None:
    point = torch.full((1, n, 4), 0.7, dtype=torch.float64)
    assert float(clip(point, point)) == pytest.approx(math.log(n), abs=1e-12)
    assert float(info_nce(torch.full((1, n, n), 3.0, dtype=torch.float64))) == pytest.approx(math.log(n), abs=1e-12)
    assert float(chance(point)) == pytest.approx(math.log(n))


RHO = (0.8, 0.308)
INFORMATION = -0.5 * sum(math.log(1 - r * r) for r in RHO)


@pytest.mark.parametrize(("n", "published"), [(4, 0.385), (16, 0.515), (64, 0.553), (512, 0.563)])
def test_the_optimal_critic_meets_the_information_bound(n: int, published: float) -> None:
    """log N - InfoNCE <= min(MI, log N) with the pointwise mutual information; facts 4.5 within 5 standard errors."""
    draw = np.random.default_rng(n)
    repeats = 40_000 // n
    x, e = draw.standard_normal((2, repeats, n, 2))
    rho = np.array(RHO)
    y = rho * x + np.sqrt(1 - rho**2) * e
    scores = 0.0
    for i, r in enumerate(RHO):
        u, v = torch.as_tensor(x[:, :, None, i]), torch.as_tensor(y[:, None, :, i])
        scores = scores - 0.5 * math.log(1 - r * r) + (2 * r * u * v - r * r * (u * u + v * v)) / (2 * (1 - r * r))
    found = math.log(n) - info_nce(scores)
    se = float(found.std()) / math.sqrt(repeats)
    assert pytest.approx(0.5606, abs=1e-4) == INFORMATION
    assert float(found.mean()) == pytest.approx(published, abs=5 * se + 0.001)
    assert float(found.mean()) <= min(INFORMATION, math.log(n)) + 4 * se


def test_skill_is_zero_for_the_best_constant_and_one_for_the_truth() -> None:
    """Also for skewed targets, where the mean is not the best constant; and never positive for any other constant."""
    g = torch.Generator().manual_seed(2)
    goal = torch.randn(2, 4000, 3, generator=g).exp() * 5 + 1
    best = constant_loss(goal)
    for c in np.linspace(-1, 1, 41):
        assert bool((prediction_loss(torch.full_like(goal, float(c)), goal) >= best - 1e-6).all())
    torch.testing.assert_close(skill(best, best), torch.zeros(2))
    torch.testing.assert_close(skill(torch.zeros(2), best), torch.ones(2))


def test_skill_of_a_target_that_died_is_zero() -> None:
    """Both losses are tiny: a falling loss must not look like success."""
    flat = torch.full((1, 50, 3), 4.0)
    constant = squared_error(flat.mean(dim=1, keepdim=True).expand_as(flat), flat)
    assert float(skill(squared_error(flat, flat), constant)) == 0.0


def test_similarities_do_not_feel_the_scale() -> None:
    a, b = pair()
    torch.testing.assert_close(similarities(a, b), similarities(3 * a, 0.1 * b))


def test_a_learned_temperature_is_clips() -> None:
    """Starts at .07 and has a gradient; at collapse any of them costs log N."""
    a, b = pair(members=1)
    scale = first_scale(1).double().requires_grad_()
    own = torch.arange(40)
    logits = functional.cosine_similarity(a[0][:, None], b[0][None], dim=2) / 0.07
    expected = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
    found = clip(a, b, scale)
    assert float(found.detach()) == pytest.approx(float(expected), rel=1e-6)
    found.sum().backward()
    assert float(scale.grad.abs()) > 0
    sharp = torch.full((1, 1), math.log(100), dtype=torch.float64)
    assert float(similarities(a, a, sharp).max()) == pytest.approx(100)
    point = torch.ones(1, 40, 4, dtype=torch.float64)
    assert float(clip(point, point, sharp)) == pytest.approx(math.log(40), abs=1e-9)
