"""Where tensors lie: the one check that a device asked for is there, and memory that a training keeps."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

import torch

from simlab.errors import OutOfDomain

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
KEPT, LARGE = 256 * 2**20, 32 * 2**20  # bytes


def find(name: str) -> torch.device:
    """The device of this name. Raises OutOfDomain when it is "cuda" and torch finds no such device."""
    if name == "cuda" and not torch.cuda.is_available():
        raise OutOfDomain("--device cuda: torch finds no CUDA device on this machine; use --device cpu.")
    return torch.device(name)


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Let glibc keep up to 256 MiB of what a step frees for the next one. By default it gives large activations back
    and faults them in again, 200 pages a step and member (docs/performance.md). Elsewhere nothing happens."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(TRIM, KEPT)
            libc.mallopt(MMAP, LARGE)
