"""The 3-D residual network: what torch's modules compute, alone or in a fleet, of what is there."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from simlab.cohort import Cohort, Stream
from simlab.methods import METHODS
from simlab.models import cnn, tokens
from simlab.models.token_encoder import KINDS, TokenBatch, TokenEncoder, batch_of
from simlab.models.tokens import Layout, Source
from simlab.training import token_encoders
from simlab.training.pretrain import Settings
from simlab.training.scores import layout_of

SIDES = (6, 8, 5)
LAYOUT = Layout((Source("ct", "image", 240, 2, sides=SIDES), Source("gaps", "image", 240, 2, partial=True, sides=SIDES),
                 Source("labs", "clinical", 3, 2)))  # fmt: skip


def generators(members: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(m) for m in range(members)]


def shown(members: int = 1, records: int = 4) -> TokenBatch:
    g = torch.Generator().manual_seed(7)
    values = torch.randn(members, records, LAYOUT.tokens, LAYOUT.features, generator=g)
    values[..., 4:, 3:] = torch.nan
    values[:, 0, 1], values[:, 1, 2, :100] = torch.nan, torch.nan  # no scan at a visit; a part of one
    times = torch.tensor([0.0, 1.0] * 3).expand(members, records, -1)
    return batch_of(values, times, LAYOUT, "masked")


class Block(nn.Module):
    """A pre-activation block of torch's own layers."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.one = nn.Conv3d(before, after, 3, stride=2, padding=1)
        self.two = nn.Conv3d(after, after, 3, padding=1)
        self.skip = nn.Conv3d(before, after, 1, stride=2)
        # One group, nothing learned: each volume standardised over channels and voxels.
        self.norms = nn.ModuleList([nn.GroupNorm(1, c, affine=False) for c in (before, after)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gelu = nn.GELU()
        inside = self.one(gelu(self.norms[0](x)))
        return self.skip(x) + self.two(gelu(self.norms[1](inside)))


@pytest.mark.parametrize("sides", [(6, 8, 5), (9, 9, 9)])
def test_the_network_is_what_torch_modules_compute(sides: tuple[int, int, int]) -> None:
    parameters = cnn.initialise("x", 2, 5, 64, generators(1))
    for name, value in parameters.items():
        if name.endswith("bias"):
            value += 0.1  # zeros would hide a bias that is left out
    blocks = nn.Sequential(nn.Conv3d(2, 8, 3, stride=2, padding=1), Block(8, 16), Block(16, 32))
    convolutions = [layer for layer in blocks.modules() if isinstance(layer, nn.Conv3d)]
    assert len(convolutions) == 7
    with torch.no_grad():
        for i, layer in enumerate(convolutions):
            layer.weight.copy_(parameters[f"x.{i}.weight"][0])
            layer.bias.copy_(parameters[f"x.{i}.bias"][0])
        volumes = torch.randn(3, 2, *sides, generator=generators(1)[0])
        pooled = nn.functional.gelu(blocks(volumes)).mean(dim=(2, 3, 4))
        expected = pooled @ parameters["x.7.weight"][0] + parameters["x.7.bias"][0, 0]
    torch.testing.assert_close(cnn.apply(parameters, "x", volumes[None])[0], expected, atol=1e-5, rtol=1e-5)


def test_a_member_and_its_gradient_do_not_depend_on_its_fleet() -> None:
    """Bit for bit, forwards and backwards, at a size where a grouped convolution's gradients round otherwise."""
    x = torch.randn(3, 8, 1, 24, 24, 24, generator=generators(1)[0])
    parameters = cnn.initialise("x", 1, 6, 64, generators(3))

    def run(own: dict[str, torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
        leaves = [v.clone().requires_grad_() for v in own.values()]
        z = cnn.apply(dict(zip(own, leaves, strict=True)), "x", x)
        return [z.detach(), *torch.autograd.grad(z.square().sum(), leaves)]

    together, alone = run(parameters, x), run({k: v[1:2] for k, v in parameters.items()}, x[1:2])
    assert all(torch.equal(a[1:2], b) for a, b in zip(together, alone, strict=True))
    assert all(b.any() for b in alone)  # every weight and bias is reached


def test_brightness_is_not_lost() -> None:
    """A volume and the same one shifted by a constant have different embeddings: the norms do not take it away."""
    parameters = cnn.initialise("x", 1, 6, 64, generators(1))
    x = torch.randn(1, 1, 1, 8, 8, 8, generator=generators(1)[0])
    z = cnn.apply(parameters, "x", torch.cat([x, x + 1], dim=1))
    assert (z[0, 0] - z[0, 1]).norm() > 0.1 * z[0, 0].norm()


@pytest.mark.parametrize("kind", KINDS)
def test_volumes_that_are_not_kept_change_nothing(kind: str) -> None:
    one = TokenEncoder(LAYOUT, kind, width=5, hidden=16, depth=1)
    parameters, batch = one.initialise(generators(1)), shown()
    assert batch.seen[0].tolist() == [[True, False, True, True, True, True]] + [[True] * 6] * 3
    kept = batch.seen & (torch.arange(LAYOUT.tokens) != 3)
    noise = 100 * torch.randn(batch.values.shape, generator=generators(1)[0])
    other = replace(batch, values=torch.where(kept[..., None], batch.values, noise))
    a, b = (one.encode(parameters, x, kept) for x in (batch, other))
    assert torch.equal(a, b) and not a[~kept].any() and a[kept].any(dim=1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_of_volumes_has_the_same_bits_in_a_fleet(kind: str) -> None:
    one = TokenEncoder(LAYOUT, kind, width=5, hidden=16, depth=1)
    parameters, batch = one.initialise(generators(3)), shown(3)
    together = one.encode(parameters, batch, batch.seen)
    own = TokenBatch(*(x[2:3] for x in vars(batch).values()))
    assert torch.equal(one.encode({k: v[2:3] for k, v in parameters.items()}, own, own.seen), together[2:3])


def test_which_voxels_were_observed_is_told() -> None:
    """Where some may be missing, a zero that was seen and one that was not are different volumes."""
    one = TokenEncoder(LAYOUT, "mlp", width=5, hidden=16)
    parameters, batch = one.initialise(generators(1)), shown()
    z = [one.encode(parameters, replace(batch, observed=seen), batch.seen)[0, 1] for seen in
         (batch.observed, torch.ones_like(batch.observed))]  # fmt: skip
    assert [torch.equal(a, b) for a, b in zip(*z, strict=True)] == [True, True, False, True, True, True]


def test_a_whole_volume_is_one_token(rng: np.random.Generator) -> None:
    """Voxels in order, standardised as a whole; without a scan none; blocks of coordinates leave it whole."""
    n, who = 6, np.arange(6)
    seen = np.ones((n, 2, 1), bool)
    seen[2, 1] = False
    volume = Stream(rng.standard_normal((n, 2, 4, 4, 6)).astype(np.float32), seen, ("ct",), ("HU",),
                    time=np.tile(np.arange(2.0), (n, 1)))  # fmt: skip
    vector = Stream(rng.standard_normal((n, 2, 3)).astype(np.float32), np.ones((n, 2, 3), bool), tuple("abc"),
                    ("",) * 3, time=volume.time)  # fmt: skip
    inputs = Cohort({"ct": volume, "ehr": vector}, np.full(n, 2), who, who, np.full(n, "x")).inputs(None)
    made = tokens.fit(inputs, patch=None)
    found = made(inputs)["tokens"][:, :2]
    known = np.broadcast_to(seen[:, :, :, None, None], volume.values.shape)
    centre, scale = volume.values[known].mean(), volume.values[known].std()
    expected = np.where(known, (volume.values - centre) / scale, np.nan)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5)
    source = made.layout.sources[0]
    assert (source.parts, source.features, source.sides, source.partial) == (1, 96, (4, 4, 6), False)
    assert [s.features for s in made.layout.split(3).sources] == [96, 1, 1, 1]
    assert layout_of(asdict(made.layout)) == made.layout


def test_the_last_layers_are_those_of_every_network() -> None:
    """Token-wise encoders of a volume and of a vector, of different depths: both have their last layer."""
    settings = Settings(token_encoder="mlp", width=3, hidden=8, volume="cnn")
    made = token_encoders.random_encoders(LAYOUT, METHODS["multimodal-jepa-partial"], settings, [0])[0]
    assert {name.rsplit(".", 1)[0] for name in made.last_block()} == {
        "encoder.source0.7", "encoder.source1.7", "encoder.source2.2"}
