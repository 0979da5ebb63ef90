"""Small encoders as fleets: M models of equal shape held in stacked tensors, computed by batched products.

A single model is a fleet of one. Members never touch each other: each has its own initialisation, data and generator,
and on a CPU its bits do not depend on its fleet (tests/training/test_fleet.py). A product with a single column may
round otherwise in another fleet, so pretraining at a width of one takes its members one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
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
    layers = [parameters[f"{prefix}.{i}.{kind}"] for i in range(depth) for kind in ("weight", "bias")]
    if depth == 1:
        return linear(x, *layers)
    return _Perceptron.apply(x, *layers) if torch.is_grad_enabled() else _forward(x, layers)[0]


# LayerNorm, GELU and their gradients were 40 % of a step under autograd (docs/performance.md). What follows is the same
# function. A LayerNorm without affine takes away the mean over units, which weights and biases centred over their
# outputs never make: centring those, the fewer numbers, leaves the root mean square to do, in place. The chain rule
# by hand keeps the normalised activations alone.
_EPSILON = 1e-5  # of torch.nn.LayerNorm


def _forward(x: Tensor, layers: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
    """The output; of each layer the weights used and the inputs; of each hidden one activations (before GELU) and the
    factor that normalised them, in turn."""
    weights, inputs, normal = [], [], []
    for i in range(0, len(layers), 2):
        hidden = i + 2 < len(layers)
        weight, bias = layers[i : i + 2]
        if hidden:
            both = torch.cat((weight, bias), dim=1)
            both.sub_(both.sum(dim=-1, keepdim=True), alpha=1 / both.shape[-1])
            weight, bias = both[:, :-1], both[:, -1:]
        weights.append(weight)
        inputs.append(x)
        x = torch.bmm(x, weight).add_(bias)
        if hidden:
            square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_() / x.shape[-1]
            factor = square.add_(_EPSILON).rsqrt_()
            normal += [x.mul_(factor), factor]
            x = functional.gelu(x)
    return x, weights, inputs, normal


class _Perceptron(torch.autograd.Function):
    """`_forward` with its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *layers: Tensor) -> Tensor:
        out, *kept = _forward(x, layers)
        ctx.save_for_backward(*(tensor for part in kept for tensor in part))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        depth = (len(saved) + 2) // 4
        weights, inputs, normal = saved[:depth], saved[depth : 2 * depth], saved[2 * depth :]
        found: list[Tensor] = []
        for i in reversed(range(depth)):
            if i + 1 < depth:
                a, factor = normal[2 * i : 2 * i + 2]
                grad = torch.ops.aten.gelu_backward(grad, a)
                # the gradient of LayerNorm at activations that are normalised already: mean 0, deviation 1
                zero, one = torch.zeros_like(factor), torch.ones_like(factor)
                grad, _, _ = torch.ops.aten.native_layer_norm_backward(
                    grad, a, a.shape[-1:], zero, one, None, None, [True, False, False])
                grad.mul_(factor)
            found += [grad.sum(dim=1, keepdim=True), torch.bmm(inputs[i].transpose(1, 2), grad)]
            towards = i > 0 or ctx.needs_input_grad[0]  # none towards the data
            grad = torch.bmm(grad, weights[i].transpose(1, 2)) if towards else None
        return grad, *reversed(found)


def member(parameters: Mapping[str, Tensor], index: int) -> Parameters:
    """One member as a fleet of one (copies, detached)."""
    return {name: value[index : index + 1].detach().clone() for name, value in parameters.items()}
