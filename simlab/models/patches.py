"""Volumes as tokens: a 3-D patch embedding, (B, D, H, W) -> one token a patch."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from simlab.errors import InvalidCohort


def patches(
    volume: Float[Tensor, "batch depth height width"], size: int
) -> Float[Tensor, "batch patches voxels"]:
    """Non-overlapping cubes of `size` voxels a side, each flattened; depth varies slowest.

    A linear map of the result is what a convolution of that kernel and stride computes. Raises InvalidCohort when a
    side of the volume is not a multiple of `size`.
    """
    n, *sides = volume.shape
    if any(side % size for side in sides):
        raise InvalidCohort(f"a volume of {'x'.join(map(str, sides))} does not divide into patches of {size}; crop or "
                            "pad it, or choose another patch.")
    d, h, w = (side // size for side in sides)
    cut = volume.reshape(n, d, size, h, size, w, size)
    return cut.permute(0, 1, 3, 5, 2, 4, 6).reshape(n, d * h * w, size**3)


def corners(depth: int, height: int, width: int, size: int) -> Int[Tensor, "patches 3"]:
    """Where each patch lies, counted in patches along depth, height and width, in the order of `patches`."""
    sides = [torch.arange(side // size) for side in (depth, height, width)]
    return torch.stack(torch.meshgrid(*sides, indexing="ij"), dim=-1).reshape(-1, 3)
