"""Small records on a grid of tokens, and their pretraining, for tests."""

from __future__ import annotations

import numpy as np
import torch

from simlab.methods import Method
from simlab.models import tokens
from simlab.models.tokens import Layout
from simlab.training import token_pretrain
from simlab.training.pretrain import Encoders, Failed, Settings

SETTINGS = Settings(width=4, hidden=8, depth=1, steps=4, batch=12, coordinates=2)
LAYOUT = Layout((tokens.Source("ct", "image", 4, 3), tokens.Source("labs", "clinical", 3, 3, partial=True),
                 tokens.Source("history", "clinical", 2, 1, static=True)))  # fmt: skip


def shown(members: int = 2, records: int = 40, seed: int = 3) -> dict[str, np.ndarray]:
    """Records of one to three visits, a stream missing now and then, something shared that persists."""
    draw = np.random.default_rng(seed)
    values = np.full((members, records, LAYOUT.tokens, LAYOUT.features), np.nan, np.float32)
    times = np.full((members, records, LAYOUT.tokens), np.nan, np.float32)
    visit = LAYOUT.places().visit.numpy()
    when = np.sort(draw.random((members, records, 3)), axis=2)
    cause = draw.standard_normal((members, records, 1, 1))
    for s, at in zip(LAYOUT.sources, LAYOUT.slices(), strict=True):
        values[..., at, : s.features] = cause + draw.standard_normal((members, records, s.tokens, s.features))
        if not s.static:
            times[..., at] = when[..., visit[at]]
    gone = visit >= (np.arange(records) % 3 + 1)[:, None]
    values[:, gone], times[:, gone] = np.nan, np.nan
    values[:, ::7, LAYOUT.slices()[1]] = np.nan
    return {"tokens": values, "times": times}


def run(method: Method, data: dict[str, np.ndarray], settings: Settings = SETTINGS, first: int = 0,
        **more: object) -> list[Encoders | Failed]:
    seeds = [(m, 20 + m) for m in range(first, first + len(data["tokens"]))]
    return token_pretrain.pretrain(data, LAYOUT, method, settings, seeds, **more)


def same(a: Encoders, b: Encoders) -> bool:
    return all(torch.equal(v, b.parameters[k]) for k, v in a.parameters.items()) and a.curve == b.curve
