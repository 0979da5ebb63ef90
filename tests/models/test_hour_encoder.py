"""The tabular encoder's warm start, by hand: from the latents of one hour to what the next one holds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from simlab.models.hour_encoder import Tabular, take

ENCODER = Tabular(channels=1, actions=1, statics=1, width=2, hidden=3)


def two_hours() -> dict[str, Tensor]:
    """Two windows of two hours. States: value, measured, gap, clock; actions: dose, clock. The second window's second
    hour has no measured value."""
    return {"hour/state": torch.tensor([[[1.0, 1, 0, 0], [3, 1, 0, 0.1]], [[2, 1, 0, 0], [0, 0, 0.2, 0.1]]]),
            "hour/action": torch.tensor([[[5.0, 0], [7, 0.1]], [[6, 0], [4, 0.1]]]),
            "record/static": torch.tensor([[0.5], [-1.0]])}


def parameters() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return ENCODER.initialise(generator) | ENCODER.head(generator)


def test_a_warm_start_is_judged_by_the_next_hour_s_values_and_actions() -> None:
    """A head that says 1 and 2 whatever it reads: (1 - 3)^2 + (2 - 7)^2 in the first window, and (2 - 4)^2 in the
    second, whose value nobody measured; a window that has ended counts for nothing."""
    p = parameters()
    p["warm.0.weight"], p["warm.0.bias"] = torch.zeros(6, 2), torch.tensor([[1.0, 2.0]])
    assert float(ENCODER.warm(p, two_hours(), torch.tensor([2, 2]))) == pytest.approx((4 + 25 + 4) / 3)
    assert float(ENCODER.warm(p, two_hours(), torch.tensor([2, 1]))) == pytest.approx((4 + 25) / 2)


def test_a_warm_start_reads_the_hour_before_alone() -> None:
    """Its loss is the head's error on the first hour's latents, which are made without the second hour."""
    p, batch = parameters(), two_hours()
    z = ENCODER.encode(p, take(batch, torch.arange(2), 1))
    before = torch.cat([z.state[:, 0], z.action[:, 0], z.static], dim=1)
    apart = (before @ p["warm.0.weight"] + p["warm.0.bias"] - torch.tensor([[3.0, 7.0], [0.0, 4.0]])).square()
    expected = float(apart[0].sum() + apart[1, 1]) / 3
    assert float(ENCODER.warm(p, batch, torch.tensor([2, 2]))) == pytest.approx(expected, rel=1e-5)
    other = {**batch, "hour/state": batch["hour/state"] + torch.tensor([[0.0, 0, 0, 0], [0, 0, 5, 5]])}
    assert float(ENCODER.warm(p, other, torch.tensor([2, 2]))) == pytest.approx(expected, rel=1e-5)
