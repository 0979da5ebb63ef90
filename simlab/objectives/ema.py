"""The exponential moving average of a target encoder, with a momentum that scales with the run's length."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

TIME_CONSTANT = 0.05  # of the run, at its beginning


def momentum(step: int, steps: int) -> float:
    """EMA momentum at `step` of `steps`: linear from 1 - 1/(0.05 steps) to 1.

    A copied constant such as 0.996 (time constant 250 steps) would all but freeze the teacher of a
    500-step run; here the teacher's memory starts at a twentieth of the run, whatever its length.
    """
    start = max(0.0, 1.0 - 1.0 / max(TIME_CONSTANT * steps, 1.0))
    return start + (1.0 - start) * min(step / max(steps, 1), 1.0)


@torch.no_grad()
def update(target: Mapping[str, Tensor], online: Mapping[str, Tensor], m: float) -> None:
    """In place: target <- m target + (1 - m) online, for every parameter of that name."""
    names = list(target)
    torch._foreach_lerp_([target[n] for n in names], [online[n] for n in names], 1.0 - m)
