"""The prediction loss and the moving average: constants, gradients, schedule."""

from __future__ import annotations

import pytest
import torch
from scipy import integrate, stats

from simlab.objectives import ema
from simlab.objectives.prediction import prediction_loss, standardise


def test_a_constant_prediction_costs_the_gaussian_constant() -> None:
    """E smooth_l1(z), z ~ N(0, 1), by quadrature; 200,000 draws."""
    expected = (
        2 * integrate.quad(lambda x: (0.5 * x * x if x < 1 else x - 0.5) * stats.norm.pdf(x), 0, 12, points=[1])[0]
    )
    g = torch.Generator().manual_seed(0)
    target = torch.randn(1, 50_000, 4, generator=g) * 5 + 2
    found = float(prediction_loss(torch.zeros_like(target), target))
    assert found == pytest.approx(expected, abs=4 * 0.5 / 200_000**0.5)
    assert expected == pytest.approx(0.42, abs=0.005)


def test_the_target_carries_no_gradient() -> None:
    target = torch.randn(1, 8, 3, requires_grad=True)
    prediction = torch.zeros(1, 8, 3, requires_grad=True)
    prediction_loss(prediction, target).sum().backward()
    assert target.grad is None
    assert prediction.grad is not None and prediction.grad.abs().sum() > 0


def test_standardised_targets() -> None:
    z = standardise(torch.randn(2, 1000, 3) * torch.tensor([1.0, 10.0, 0.1]) + 4)
    torch.testing.assert_close(z.mean(1), torch.zeros(2, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.var(1, unbiased=False), torch.ones(2, 3), atol=2e-3, rtol=0)


def test_update_is_the_formula() -> None:
    target, online = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, 6.0]), "other": torch.zeros(1)}
    ema.update(target, online, 0.75)
    torch.testing.assert_close(target["w"], torch.tensor([1.5, 3.0]))
    assert set(target) == {"w"}


@pytest.mark.parametrize("steps", [1, 100, 5000])
def test_momentum_runs_to_one_and_its_memory_scales_with_the_run(steps: int) -> None:
    assert ema.momentum(steps, steps) == 1.0
    values = [ema.momentum(s, steps) for s in range(steps + 1)]
    assert values == sorted(values) and values[0] >= 0
    if steps >= 100:
        assert 1 / (1 - values[0]) == pytest.approx(0.05 * steps)
