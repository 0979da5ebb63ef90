"""SIGReg against quadrature, its closed forms and its constants (facts/objectives 4.4)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from simlab.objectives import sigreg

ONE = torch.ones(1, 1, 1, dtype=torch.float64)


def by_quadrature(x: np.ndarray, reach: float) -> float:
    """The definition, integrated by a library."""

    def integrand(t: float) -> float:
        return abs(np.exp(1j * t * x).mean() - np.exp(-t * t / 2)) ** 2 * np.exp(-t * t / 2)

    return integrate.quad(integrand, -reach, reach, limit=200, epsabs=1e-11)[0]


def sliced(x: np.ndarray) -> float:
    return float(sigreg.statistic(torch.as_tensor(x)[None, :, None], ONE))


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.5, 1.0), (0.0, 0.3), (-0.5, 2.0)])
def test_the_sample_closed_form_is_the_integral(rng: np.random.Generator, shift: float, scale: float) -> None:
    x = shift + scale * rng.standard_normal(150)
    assert float(sigreg.closed_form(torch.as_tensor(x))) == pytest.approx(by_quadrature(x, 12.0), rel=1e-6)


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (1.5, 1.0), (0.0, 0.3)])
def test_the_knots_are_the_integral_over_three(rng: np.random.Generator, shift: float, scale: float) -> None:
    """17 knots and the trapezoid rule: within 1e-3 relative of the window's integral."""
    x = shift + scale * rng.standard_normal(150)
    assert sliced(x) == pytest.approx(by_quadrature(x, 3.0), rel=1e-3)


def test_collapse_costs_its_constants() -> None:
    """To 0: sqrt(2 pi)(1 - sqrt2 + 1/sqrt3) = .4089, over the window .4022; the same at any N."""
    assert float(sigreg.closed_form(torch.zeros(50, dtype=torch.float64))) == pytest.approx(0.4089, abs=5e-5)
    for n in (2, 256):
        assert sliced(np.zeros(n)) == pytest.approx(0.4022, abs=2e-4)
    assert 256 * sliced(np.zeros(256)) == pytest.approx(102.92, abs=0.05)  # what a library that keeps N returns


@pytest.mark.parametrize("n", [8, 64, 512])
def test_the_null_does_not_depend_on_the_number_of_records(n: int) -> None:
    """E T = 1.0594 (window: 1.0527) for N(0, 1) at any N: 4 standard errors of 4,000 samples, 1,000 at 512."""
    repeats = 1000 if n == 512 else 4000
    g = torch.Generator().manual_seed(n)
    x = torch.randn(repeats, n, generator=g, dtype=torch.float64)
    whole = torch.cat([n * sigreg.closed_form(part) for part in x.split(50)])
    window = n * sigreg.statistic(x.unsqueeze(-1), ONE.expand(repeats, 1, 1))
    for values, null in ((whole, sigreg.ROOT * (1 - 1 / math.sqrt(3))), (window, sigreg.NULL)):
        assert float(values.mean()) == pytest.approx(null, abs=4 * float(values.std()) / math.sqrt(repeats))
    assert sigreg.ROOT * (1 - 1 / math.sqrt(3)) == pytest.approx(1.0594, abs=5e-5)


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.7, 1.0), (0.0, 0.2), (1.0, 4.0), (0.0, 0.0)])
def test_the_population_value_is_the_integral_of_the_law(mean: float, variance: float) -> None:
    def integrand(t: float) -> float:
        return abs(np.exp(1j * t * mean - variance * t * t / 2) - np.exp(-t * t / 2)) ** 2 * np.exp(-t * t / 2)

    expected = integrate.quad(integrand, -12, 12, epsabs=1e-12)[0]
    found = sigreg.population(torch.tensor(mean, dtype=torch.float64), torch.tensor(variance, dtype=torch.float64))
    assert float(found) == pytest.approx(expected, abs=1e-9)


def test_slices_of_a_gaussian_vector_have_the_variance_of_the_slice() -> None:
    """E T/N over slices = population(a'm, a'Sa) + O(1/N): 40,000 records of a correlated law, 0.003 absolute."""
    g = torch.Generator().manual_seed(0)
    root = torch.tensor([[1.0, 0.4, 0.0], [0.0, 0.6, 0.2], [0.0, 0.0, 1.7]], dtype=torch.float64)
    z = torch.randn(1, 40_000, 3, generator=g, dtype=torch.float64) @ root + 0.3
    a = sigreg.directions(3, 128, g).double()
    expected = sigreg.population(0.3 * a.sum(dim=0), (root @ a).square().sum(dim=0)).mean()
    assert float(sigreg.statistic(z, a[None])) == pytest.approx(float(expected), abs=3e-3)


def test_directions_are_unit_vectors_and_follow_their_generator() -> None:
    one, two = (sigreg.directions(5, 32, torch.Generator().manual_seed(4)) for _ in range(2))
    torch.testing.assert_close(one.norm(dim=0), torch.ones(32))
    assert torch.equal(one, two)


def test_its_gradient_is_the_derivative_of_the_value() -> None:
    g = torch.Generator().manual_seed(1)
    z = torch.randn(2, 7, 3, generator=g, dtype=torch.float64, requires_grad=True)
    a = torch.stack([sigreg.directions(3, 4, g).double() for _ in range(2)])
    assert torch.autograd.gradcheck(lambda x: sigreg.statistic(x, a), z)
