"""A small 3-D residual network as a fleet: a whole volume -> one token.

    stem    3^3 convolution, stride 2
    block   x = W x (1^3, stride 2) + conv(gelu(norm(conv(gelu(norm x)))))       two of them, each halves the sides
    token   linear map of the mean of gelu(x) over the voxels

Pre-activation blocks (He et al. 2016, "Identity mappings in deep residual networks"); `norm` standardises each volume
by itself over channels and voxels, so that an embedding depends on no other record. Between stem and mean the shortcuts
carry brightness past the norms: how dense a nodule is must not be lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from simlab.models import fleet
from simlab.models.fleet import Parameters

BLOCKS = 2


def widths(hidden: int) -> tuple[int, ...]:
    """Channels after the stem and after each block: an eighth, a quarter, half of `hidden`; at least 4."""
    return tuple(max(4, hidden // 2 ** (3 - i)) for i in range(BLOCKS + 1))


def initialise(
    prefix: str, channels: int, outputs: int, hidden: int, generators: Sequence[torch.Generator]
) -> Parameters:
    """Fresh parameters of one network for each member: weights N(0, 1/inputs), biases zero.

    Layers by number, as in `fleet.initialise`: 0 the stem; 3b + 1, 3b + 2 block b's convolutions, 3b + 3 its shortcut;
    the linear map last.
    """
    wide = widths(hidden)
    shapes = [(wide[0], channels, 3)]
    for before, after in pairwise(wide):
        shapes += [(after, before, 3), (after, after, 3), (after, before, 1)]
    made: Parameters = {}
    for i, (after, before, kernel) in enumerate(shapes):
        spread = 1 / math.sqrt(before * kernel**3)
        made[f"{prefix}.{i}.weight"] = torch.stack(
            [spread * torch.randn(after, before, kernel, kernel, kernel, generator=g) for g in generators])
        made[f"{prefix}.{i}.bias"] = torch.zeros(len(generators), after)
    last = fleet.initialise("", (wide[-1], outputs), generators)
    return made | {f"{prefix}.{len(shapes)}.{name}": last[f".0.{name}"] for name in ("weight", "bias")}


def apply(
    parameters: Mapping[str, Tensor], prefix: str, x: Float[Tensor, "members batch channels depth height width"]
) -> Float[Tensor, "members batch outputs"]:
    """The network of this prefix, of volumes of any sides."""

    def conv(layer: int, x: Tensor, stride: int) -> Tensor:
        return convolution(x, parameters[f"{prefix}.{layer}.weight"], parameters[f"{prefix}.{layer}.bias"], stride)

    x = conv(0, x, 2)
    for first in range(1, 3 * BLOCKS, 3):
        inside = conv(first + 1, _activated(conv(first, _activated(x), 2)), 1)
        x = inside + conv(first + 2, x, 2)
    pooled = functional.gelu(x).mean(dim=(3, 4, 5))
    last = f"{prefix}.{3 * BLOCKS + 1}"
    return fleet.linear(pooled, parameters[f"{last}.weight"], parameters[f"{last}.bias"])


def convolution(
    x: Float[Tensor, "members batch inputs depth height width"],
    weight: Float[Tensor, "members outputs inputs kernel kernel kernel"],
    bias: Float[Tensor, "members outputs"],
    stride: int,
) -> Float[Tensor, "members batch outputs d h w"]:
    """Each member's convolution, padded by zeros to its kernel's half.

    One member after the other: as groups of one convolution they take as long, and a member's gradient rounds
    otherwise in another fleet.
    """
    pad = weight.shape[-1] // 2
    members = zip(x, weight, bias, strict=True)
    return torch.stack([functional.conv3d(*own, stride=stride, padding=pad) for own in members])


def _activated(x: Float[Tensor, "members batch channels d h w"]) -> Float[Tensor, "members batch channels d h w"]:
    return functional.gelu(functional.layer_norm(x, x.shape[2:]))
