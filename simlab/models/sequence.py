"""Classifiers of hourly sequences as fleets: a GRU, a temporal convolution, a transformer; one logit a record.

All three embed an hour's features linearly and read off a linear head; hidden width and depth are the same for all, and
none has an affine in its LayerNorm (as in `fleet`). Sources: Cho et al. 2014 (GRU, in torch.nn.GRU's convention);
Bai, Kolter and Koltun 2018 (residual causal convolutions, kernel 3, dilations 1, 2, 4, 8: 31 hours back); Vaswani et
al. 2017 (two pre-norm layers, four heads, sinusoidal positions, mean over hours). Tests hold them to torch.nn's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from simlab.models import fleet

KINDS = ("gru", "tcn", "transformer")
KERNEL, DILATIONS = 3, (1, 2, 4, 8)
LAYERS, HEADS = 2, 4

Sequences = Float[Tensor, "members records visits _"]
Pooled = Float[Tensor, "members records _"]


def initialise(kind: str, inputs: int, hidden: int, generators: Sequence[torch.Generator]) -> fleet.Parameters:
    """Fresh parameters for each member; the head starts at zero. `hidden`: a multiple of HEADS."""
    shapes = {"embed": (inputs, hidden)}
    if kind == "gru":
        shapes |= {"from-input": (hidden, 3 * hidden), "from-state": (hidden, 3 * hidden)}
    elif kind == "tcn":
        shapes |= {f"conv-{d}": (KERNEL * hidden, hidden) for d in DILATIONS}
    else:
        for i in range(LAYERS):
            shapes |= {f"qkv-{i}": (hidden, 3 * hidden), f"out-{i}": (hidden, hidden)}
            shapes |= {f"up-{i}": (hidden, 2 * hidden), f"down-{i}": (2 * hidden, hidden)}
    made: fleet.Parameters = {}
    for name, layers in shapes.items():
        made |= fleet.initialise(name, layers, generators)
    made["head.0.weight"] = torch.zeros(len(generators), hidden, 1)
    made["head.0.bias"] = torch.zeros(len(generators), 1, 1)
    return made


def logits(kind: str, parameters: Mapping[str, Tensor], x: Sequences) -> Float[Tensor, "members records"]:
    """The logit of each record, from all its visits."""
    pooled = BODIES[kind](parameters, dense(parameters, "embed", x))
    return fleet.linear(pooled, parameters["head.0.weight"], parameters["head.0.bias"])[:, :, 0]


def dense(parameters: Mapping[str, Tensor], name: str, x: Sequences) -> Sequences:
    """A linear layer at each visit."""
    members, records, visits, _ = x.shape
    flat = fleet.linear(x.flatten(1, 2), parameters[f"{name}.0.weight"], parameters[f"{name}.0.bias"])
    return flat.view(members, records, visits, -1)


def gru(parameters: Mapping[str, Tensor], x: Sequences) -> Pooled:
    """The state after the last visit, from a state of zero."""
    given = dense(parameters, "from-input", x)
    state = x.new_zeros(x.shape[0], x.shape[1], given.shape[-1] // 3)
    weight, bias = parameters["from-state.0.weight"], parameters["from-state.0.bias"]
    for visit in range(x.shape[2]):
        reset_x, update_x, new_x = given[:, :, visit].chunk(3, dim=-1)
        reset_h, update_h, new_h = fleet.linear(state, weight, bias).chunk(3, dim=-1)
        reset, update = torch.sigmoid(reset_x + reset_h), torch.sigmoid(update_x + update_h)
        state = (1 - update) * torch.tanh(new_x + reset * new_h) + update * state
    return state


def tcn(parameters: Mapping[str, Tensor], x: Sequences) -> Pooled:
    """The last visit after residual causal convolutions; what lies before the first visit is zero."""
    for dilation in DILATIONS:
        back = [functional.pad(x, (0, 0, k * dilation, 0))[:, :, : x.shape[2]] for k in range(KERNEL)]
        x = x + torch.relu(dense(parameters, f"conv-{dilation}", torch.cat(back, dim=-1)))
    return x[:, :, -1]


def transformer(parameters: Mapping[str, Tensor], x: Sequences) -> Pooled:
    """The mean over visits after self-attention among them."""
    members, records, visits, hidden = x.shape
    x = x + positions(visits, hidden)
    for i in range(LAYERS):
        qkv = dense(parameters, f"qkv-{i}", functional.layer_norm(x, (hidden,)))
        q, k, v = (part.view(members, records, visits, HEADS, -1).transpose(2, 3) for part in qkv.chunk(3, dim=-1))
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(x.shape)
        x = x + dense(parameters, f"out-{i}", mixed)
        up = torch.relu(dense(parameters, f"up-{i}", functional.layer_norm(x, (hidden,))))
        x = x + dense(parameters, f"down-{i}", up)
    return x.mean(dim=2)


def positions(visits: int, hidden: int) -> Float[Tensor, "visits hidden"]:
    """Sines and cosines of the visit's number, wave lengths from 2 pi to 10,000 x 2 pi."""
    rate = torch.exp(torch.arange(0, hidden, 2) * (-math.log(10_000.0) / hidden))
    angle = torch.arange(visits)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


BODIES = {"gru": gru, "tcn": tcn, "transformer": transformer}
