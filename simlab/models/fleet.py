"""Small encoders as fleets: M models of equal shape held in stacked tensors, computed by batched products.

A single model is a fleet of one. Members never touch each other: each has its own initialisation, data and generator,
and on a CPU its bits do not depend on its fleet (tests/training/test_fleet.py). A product with a single column may
round otherwise in another fleet, so pretraining at a width of one takes its members one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Parameters = dict[str, Tensor]  # name -> (members, ...)


def linear(
    x: Float[Tensor, "members batch inputs"],
    weight: Float[Tensor, "members inputs outputs"],
    bias: Float[Tensor, "members 1 outputs"],
) -> Float[Tensor, "members batch outputs"]:
    """x W + b for each member."""
    return torch.baddbmm(bias, x, weight)


def sizes(kind: str, inputs: int, width: int, hidden: int) -> tuple[int, ...]:
    """Layer sizes of an encoder: linear (inputs, width) or an MLP with two hidden layers."""
    return (inputs, width) if kind == "linear" else (inputs, hidden, hidden, width)


def initialise(prefix: str, layers: Sequence[int], generators: Sequence[torch.Generator]) -> Parameters:
    """Fresh parameters of one network for each member: weights N(0, 1/inputs), biases zero."""
    made: Parameters = {}
    for i, (fan_in, fan_out) in enumerate(pairwise(layers)):
        weights = [torch.randn(fan_in, fan_out, generator=g) / math.sqrt(fan_in) for g in generators]
        made[f"{prefix}.{i}.weight"] = torch.stack(weights)
        made[f"{prefix}.{i}.bias"] = torch.zeros(len(generators), 1, fan_out)
    return made


def apply(
    parameters: Mapping[str, Tensor], prefix: str, x: Float[Tensor, "members batch inputs"]
) -> Float[Tensor, "members batch outputs"]:
    """The network of this prefix: linear layers, with LayerNorm (no affine) and GELU between them."""
    depth = sum(1 for name in parameters if name.startswith(f"{prefix}.") and name.endswith(".weight"))
    for i in range(depth):
        x = linear(x, parameters[f"{prefix}.{i}.weight"], parameters[f"{prefix}.{i}.bias"])
        if i + 1 < depth:
            x = functional.gelu(functional.layer_norm(x, x.shape[-1:]))
    return x


def member(parameters: Mapping[str, Tensor], index: int) -> Parameters:
    """One member as a fleet of one (copies, detached)."""
    return {name: value[index : index + 1].detach().clone() for name, value in parameters.items()}
