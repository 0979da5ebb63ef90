"""A pre-norm transformer over sets of tokens, as a fleet: M models in stacked tensors, like `simlab.models.fleet`.

Blocks: x + attention(LayerNorm x), then x + MLP(LayerNorm x), GELU, four times as wide inside; LayerNorm without
affine, no bias in the attention. Only the keys that are kept are attended to: what a masked or absent token holds
reaches no other token.

Old visits may fade (`DECAYS`). The temporal emphasis of Li et al. (time-distance transformer, 2022) multiplies logits:

    logits = relu(q k') R / sqrt(d),    R = 1/(1 + exp(|a| r - |c|)),    a ~ U(0, 1), c ~ U(0, 12) at first, by head

`key`: r is the age of the attended token, so that old visits count less, which is what their text says; `query`: r is
the age of the attending token, which is what their released code computes; `none`: softmax of q k'/sqrt(d).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from simlab.models import fleet
from simlab.models.fleet import Parameters

DECAYS = ("key", "query", "none")
MONTHS = 12.0  # a follow-up counts as a year of the source's months, so that a and c start on its scale
NEVER = -1e9


def heads(width: int) -> int:
    """Attention heads of a transformer of this inner width: four where it divides, else one."""
    return 4 if width % 4 == 0 else 1


def initialise(prefix: str, width: int, depth: int, generators: Sequence[torch.Generator]) -> Parameters:
    """Fresh blocks, named PREFIX.0 to PREFIX.(depth - 1)."""
    made: Parameters = {}
    for i in range(depth):
        own = f"{prefix}.{i}"
        for name, outputs in (("qkv", 3 * width), ("mix", width)):
            drawn = [torch.randn(width, outputs, generator=g) / math.sqrt(width) for g in generators]
            made[f"{own}.{name}"] = torch.stack(drawn)
        made |= fleet.initialise(f"{own}.mlp", (width, 4 * width, width), generators)
        fade = [torch.rand(2, heads(width), generator=g) for g in generators]
        made[f"{own}.fade"] = torch.stack(fade) * torch.tensor([[1.0], [MONTHS]])
    return made


def apply(
    parameters: Mapping[str, Tensor],
    prefix: str,
    x: Float[Tensor, "members batch tokens width"],
    kept: Bool[Tensor, "members batch tokens"],
    age: Float[Tensor, "members batch tokens"] | None = None,
    decay: str = "none",
    allowed: Bool[Tensor, "tokens tokens"] | None = None,
) -> Float[Tensor, "members batch tokens width"]:
    """The blocks of this prefix. `kept`: the tokens that are attended to; `age`: time before the latest one, in
    follow-ups (for decay); `allowed`: which pairs may attend at all (`views.causal`)."""
    depth = sum(1 for name in parameters if name.startswith(f"{prefix}.") and name.endswith(".qkv"))
    closed = ~kept[:, :, None, None, :]
    if allowed is not None:
        closed = closed | ~allowed
    for i in range(depth):
        own = f"{prefix}.{i}"
        x = x + _attend(parameters, own, _norm(x), closed, age, decay)
        inner = _norm(x).flatten(1, 2)
        inner = functional.gelu(fleet.linear(inner, parameters[f"{own}.mlp.0.weight"], parameters[f"{own}.mlp.0.bias"]))
        inner = fleet.linear(inner, parameters[f"{own}.mlp.1.weight"], parameters[f"{own}.mlp.1.bias"])
        x = x + inner.view_as(x)
    return x


def _attend(
    parameters: Mapping[str, Tensor],
    own: str,
    x: Float[Tensor, "members batch tokens width"],
    closed: Bool[Tensor, "members batch 1 #tokens tokens"],
    age: Float[Tensor, "members batch tokens"] | None,
    decay: str,
) -> Float[Tensor, "members batch tokens width"]:
    members, batch, tokens, width = x.shape
    n = heads(width)
    packed = torch.bmm(x.flatten(1, 2), parameters[f"{own}.qkv"]).view(members, batch, tokens, 3, n, width // n)
    q, k, v = packed.permute(3, 0, 1, 4, 2, 5)  # each (members, batch, heads, tokens, width of a head)
    logits = q @ k.transpose(-1, -2)
    if decay != "none" and age is not None:
        a, c = parameters[f"{own}.fade"].abs().unbind(dim=1)  # (members, heads)
        fade = torch.sigmoid(c[:, None, :, None] - a[:, None, :, None] * (MONTHS * age)[:, :, None, :])
        logits = torch.relu(logits) * (fade[..., None, :] if decay == "key" else fade[..., None])
    weight = torch.softmax((logits / math.sqrt(width // n)).masked_fill(closed, NEVER), dim=-1)
    mixed = (weight @ v).transpose(2, 3).reshape(members, batch * tokens, width)
    return torch.bmm(mixed, parameters[f"{own}.mix"]).view_as(x)


def _norm(x: Float[Tensor, "*any width"]) -> Float[Tensor, "*any width"]:
    return functional.layer_norm(x, x.shape[-1:])


def time_features(time: Float[Tensor, "*any"], width: int) -> Float[Tensor, "*any {width}"]:
    """Sines and cosines of a continuous time in follow-ups: width/2 frequencies from 1/4 to 16 a follow-up, in equal
    ratios. The slowest does not repeat within two follow-ups, so that before and after differ."""
    each = max(width // 2, 1)
    powers = torch.linspace(0, 1, each, device=time.device) if each > 1 else torch.zeros(1, device=time.device)
    angle = time[..., None] * (2 * math.pi * 0.25 * 64**powers)
    made = torch.cat([angle.sin(), angle.cos()], dim=-1)[..., :width]
    return functional.pad(made, (0, width - made.shape[-1]))
