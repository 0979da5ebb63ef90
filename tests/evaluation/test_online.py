"""The online probe: it reads what is there, and not one bit of what is trained depends on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from simlab.evaluation import online
from simlab.methods import METHODS
from simlab.training.pretrain import Settings, pretrain


def test_it_reads_what_is_there(rng: np.random.Generator) -> None:
    """Signal and noise of equal size: R2 1/2, held out (a deviation of .01); a coin 0; unknown targets take no part."""
    z = rng.standard_normal((2, 8000, 3))
    y = z[..., :1] + rng.standard_normal((2, 8000, 1))
    y[1, ::2] = np.nan
    found = online.probe(torch.as_tensor(z), torch.as_tensor(y))
    np.testing.assert_allclose(found, [0.5, 0.5], atol=0.05)
    coin = online.probe(torch.as_tensor(z), torch.as_tensor(rng.standard_normal((2, 8000, 1))))
    assert float(coin.abs().max()) < 0.01
    y[0, 4000:] = np.nan
    assert online.probe(torch.as_tensor(z), torch.as_tensor(y))[0] == 0


@pytest.mark.parametrize("name", ["jepa-frozen", "vicreg-frozen"])
def test_the_encoder_has_the_same_bits_with_and_without_it(name: str, rng: np.random.Generator) -> None:
    """And it leaves the numbers of the others alone; the cause that both views show is read better at the end."""
    c = rng.standard_normal((1, 600, 1))
    views = {role: np.concatenate([c + 0.5 * rng.standard_normal(c.shape), rng.standard_normal((1, 600, 5))], axis=2)
             .astype(np.float32) for role in ("image", "clinical")}  # fmt: skip
    settings = Settings(encoder="linear", width=2, steps=60, batch=64, learning_rate=0.02)
    plain = pretrain(views, METHODS[name], settings, [(1, 2)])[0]
    probed = pretrain({**views, "probe/c": c, "probe/coin": rng.standard_normal(c.shape)}, METHODS[name], settings,
                      [(1, 2)])[0]  # fmt: skip
    assert all(torch.equal(v, probed.parameters[k]) for k, v in plain.parameters.items())
    assert [{k: v for k, v in p.items() if not k.startswith("probe")} for p in probed.curve] == list(plain.curve)
    first, last = probed.curve[0], probed.curve[-1]
    assert last["probe-c"] > 0.6 > first["probe-c"] and abs(last["probe-coin"]) < 0.1
