"""RankMe of representations whose rank is known."""

from __future__ import annotations

import numpy as np
import pytest

from simlab.evaluation.collapse import diagnostics, rankme


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rankme_of_equal_directions_is_their_number(rng: np.random.Generator, rank: int) -> None:
    """Orthonormal columns have equal singular values, so the entropy is log(rank); EPSILON shifts it by < 1e-4."""
    q, _ = np.linalg.qr(rng.standard_normal((500, rank)) - 0.0)
    q = np.linalg.qr(q - q.mean(axis=0))[0]
    z = np.concatenate([q, np.zeros((500, 8 - rank))], axis=1)
    assert rankme(z) == pytest.approx(rank, abs=1e-3)


def test_a_constant_representation_has_rank_zero(rng: np.random.Generator) -> None:
    """Uncentred, the constant would count as one healthy direction."""
    assert rankme(np.full((100, 4), 3.0)) == 0.0
    assert rankme(np.zeros((100, 4))) == 0.0


def test_columns_show_a_dead_dimension(rng: np.random.Generator) -> None:
    z = rng.standard_normal((3000, 3))
    z[:, 1] = 0.5
    found = diagnostics(z, "image")
    assert found["diag/sd-min/image"] == 0.0
    assert found["diag/rankme/image"] == pytest.approx(2, abs=0.01)
