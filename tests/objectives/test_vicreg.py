"""VICReg against its formula in plain loops, and its constant at collapse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simlab.objectives.vicreg import match, parts, spread, vicreg


def by_hand(a: torch.Tensor, b: torch.Tensor) -> float:
    """The official convention, one pair of views, element by element."""
    n, d = a.shape
    total = 25 * sum(float((a[i, j] - b[i, j]) ** 2) for i in range(n) for j in range(d)) / (n * d)
    for z in (a, b):
        centred = z - z.mean(0)
        for j in range(d):
            var = float((centred[:, j] ** 2).sum()) / (n - 1)
            total += 25 * max(0.0, 1 - (var + 1e-4) ** 0.5) / d / 2
            for k in range(d):
                if k != j:
                    total += (float((centred[:, j] * centred[:, k]).sum()) / (n - 1)) ** 2 / d
    return total


def test_equals_the_formula_for_each_member() -> None:
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(3, 12, 4, generator=g) * 0.7, torch.randn(3, 12, 4, generator=g) * 1.2
    found = vicreg(a, b)
    for m in range(3):
        assert float(found[m]) == pytest.approx(by_hand(a[m].double(), b[m].double()), rel=1e-5)


def test_one_fixture_in_three_conventions() -> None:
    """The moments by numpy. Official (also lightly, stable-pretraining): 12.779 on two halves of noise 1/10 apart, the
    size that objectives.md gives; solo-learn counts the variance term twice; eb_jepa too, and divides by D (D - 1)."""
    torch.manual_seed(0)
    a = 0.5 * torch.randn(256, 256)
    b = a + 0.1 * torch.randn(256, 256)
    x = [v.double().numpy() for v in (a, b)]
    together = ((x[0] - x[1]) ** 2).mean()
    apart = [np.maximum(0, 1 - np.sqrt(v.var(axis=0, ddof=1) + 1e-4)).mean() for v in x]
    off = [(np.cov(v, rowvar=False)[~np.eye(256, dtype=bool)] ** 2).sum() / 256 for v in x]
    official = 25 * together + 25 * sum(apart) / 2 + sum(off)
    solo = 25 * together + 25 * sum(apart) + sum(off)
    assert float(vicreg(a[None], b[None])) == pytest.approx(official, rel=1e-5)
    assert official == pytest.approx(12.779, abs=5e-4)
    found, terms = parts(a[None], b[None])
    assert float(found + 25 * terms["variance"]) == pytest.approx(solo, rel=1e-5)
    eb = together + sum(apart) + 80 * sum(off) / 255  # its weights (1, 1, 80)
    ours = terms["invariance"] + 2 * terms["variance"] + 80 * terms["covariance"] / 255
    assert float(ours) == pytest.approx(eb, rel=1e-5)


def test_complete_collapse_costs_24_75() -> None:
    """25 (1 - sqrt(1e-4)) = 24.75 exactly, whatever the point."""
    point = torch.ones(1, 64, 8) * 3
    assert float(vicreg(point, point)) == pytest.approx(24.75, abs=1e-4)


def test_the_whole_is_its_match_and_its_spreads() -> None:
    """What pretraining composes for other targets and predictors is the same loss, term by term."""
    g = torch.Generator().manual_seed(3)
    a, b = torch.randn(2, 2, 40, 5, generator=g, dtype=torch.float64)
    whole, terms = parts(a, b)
    torch.testing.assert_close(whole, match(a, b) + spread(a) + spread(b))
    torch.testing.assert_close(whole, 25 * terms["invariance"] + 25 * terms["variance"] + terms["covariance"])
