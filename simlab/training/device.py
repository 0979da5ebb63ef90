"""Where tensors lie: the one check that a device asked for is there."""

from __future__ import annotations

import torch

from simlab.errors import OutOfDomain


def find(name: str) -> torch.device:
    """The device of this name. Raises OutOfDomain when it is "cuda" and torch finds no such device."""
    if name == "cuda" and not torch.cuda.is_available():
        raise OutOfDomain("--device cuda: torch finds no CUDA device on this machine; use --device cpu.")
    return torch.device(name)
