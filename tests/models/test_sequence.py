"""The sequence classifiers against torch.nn's own layers; fleets do not mix their members."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from simlab.models import fleet, sequence

M, R, V, H = 2, 5, 7, 8


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(M, R, V, H, generator=torch.Generator().manual_seed(0))


def made(kind: str, inputs: int = H) -> fleet.Parameters:
    return sequence.initialise(kind, inputs, H, [torch.Generator().manual_seed(m) for m in range(M)])


def test_the_recurrent_network_is_torchs(x: torch.Tensor) -> None:
    p = made("gru")
    found = sequence.gru(p, x)
    for m in range(M):
        layer = nn.GRU(H, H, batch_first=True)
        with torch.no_grad():
            for part, name in (("ih", "from-input"), ("hh", "from-state")):
                getattr(layer, f"weight_{part}_l0").copy_(p[f"{name}.0.weight"][m].T)
                getattr(layer, f"bias_{part}_l0").copy_(p[f"{name}.0.bias"][m, 0])
            torch.testing.assert_close(found[m], layer(x[m])[1][0], rtol=1e-4, atol=1e-5)


def test_the_convolutions_are_torchs(x: torch.Tensor) -> None:
    p = made("tcn")
    for m in range(M):
        shown = x[m].transpose(1, 2)  # records, channels, visits
        for d in sequence.DILATIONS:
            taps = p[f"conv-{d}.0.weight"][m].view(sequence.KERNEL, H, H)  # tap k reads the visit k * d before
            kernel = taps.flip(0).permute(2, 1, 0)
            padded = nn.functional.pad(shown, ((sequence.KERNEL - 1) * d, 0))
            shown = shown + nn.functional.conv1d(padded, kernel, dilation=d).relu()
        torch.testing.assert_close(sequence.tcn(p, x)[m], shown[:, :, -1], rtol=1e-4, atol=1e-5)


def test_the_transformer_is_torchs(x: torch.Tensor) -> None:
    p = made("transformer")
    for m in range(M):
        shown = x[m] + sequence.positions(V, H)
        for i in range(sequence.LAYERS):
            layer = nn.TransformerEncoderLayer(H, sequence.HEADS, 2 * H, dropout=0.0, batch_first=True, norm_first=True)
            with torch.no_grad():
                layer.self_attn.in_proj_weight.copy_(p[f"qkv-{i}.0.weight"][m].T)
                layer.self_attn.out_proj.weight.copy_(p[f"out-{i}.0.weight"][m].T)
                layer.linear1.weight.copy_(p[f"up-{i}.0.weight"][m].T)
                layer.linear2.weight.copy_(p[f"down-{i}.0.weight"][m].T)
                for bias in (layer.linear1.bias, layer.linear2.bias):
                    bias.zero_()
                shown = layer(shown)
        torch.testing.assert_close(sequence.transformer(p, x)[m], shown.mean(dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", sequence.KINDS)
def test_a_member_is_what_it_would_be_alone(kind: str) -> None:
    p = made(kind, inputs=3)
    p["head.0.weight"] = torch.ones(M, H, 1)
    x = torch.randn(M, R, V, 3, generator=torch.Generator().manual_seed(1))
    both = sequence.logits(kind, p, x)
    for m in range(M):
        alone = sequence.logits(kind, fleet.member(p, m), x[m : m + 1])
        torch.testing.assert_close(both[m : m + 1], alone, rtol=1e-5, atol=1e-6)


def test_positions_are_the_published_ones() -> None:
    """Vaswani et al. 2017, 3.5: PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i + 1) its cosine."""
    table = sequence.positions(5, 6)
    for pos in range(5):
        for i in range(3):
            angle = torch.tensor(pos / 10_000 ** (2 * i / 6))
            torch.testing.assert_close(table[pos, 2 * i : 2 * i + 2], torch.stack([angle.sin(), angle.cos()]))
