"""The online probe: what can be read linearly from a representation while it is trained. It leaves no gradient.

At each point of the curve a ridge regression is solved anew on detached embeddings: fitted on the first half of the
watched records, scored on the second. Nothing of it moves an encoder or draws a number. Headline probes are those of
`simlab.evaluation.verdict` and of the arms, after the training.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

PREFIX = "probe/"  # of what is handed to a pretraining beside its views
PENALTY = 1e-3  # times the records, on standardised embeddings


@torch.no_grad()
def probe(
    z: Float[Tensor, "members records width"], target: Float[Tensor, "members records targets"]
) -> Float[Tensor, "members"]:
    """Held-out R2 of each member, mean over targets; a target that is not known (NaN) takes no part. 0 where one half
    knows fewer than two, or the embedding is not finite."""
    x, y = z.detach().double().cpu(), target.double().cpu()
    usable = torch.isfinite(x).all(dim=(1, 2))
    x = torch.where(usable[:, None, None], x, 0.0)
    x = (x - x.mean(dim=1, keepdim=True)) / x.std(dim=1, keepdim=True).clamp_min(1e-9)
    x = torch.cat([x, torch.ones_like(x[..., :1])], dim=2)
    half = x.shape[1] // 2
    known = torch.isfinite(y).all(dim=2, keepdim=True).double()
    y = y.nan_to_num(0.0) * known
    fit = x[:, :half] * known[:, :half]
    gram = fit.transpose(1, 2) @ fit + PENALTY * half * torch.eye(x.shape[2], dtype=torch.float64)
    weights = torch.linalg.solve(gram, fit.transpose(1, 2) @ y[:, :half])
    late, there = y[:, half:], known[:, half:]
    n = there.sum(dim=1, keepdim=True)
    mean = late.sum(dim=1, keepdim=True) / n.clamp_min(1)
    error = ((late - x[:, half:] @ weights) * there).square().sum(dim=1)
    whole = ((late - mean) * there).square().sum(dim=1)
    score = torch.where(whole > 1e-12, 1 - error / whole.clamp_min(1e-12), 0.0).mean(dim=1)
    enough = (n[:, 0, 0] > 1) & (known[:, :half].sum(dim=(1, 2)) > 1) & usable
    return torch.where(enough, score, 0.0)


def along(shown: Mapping[str, Tensor], beside: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "members"]]:
    """"probe-NAME" for every "probe/NAME" in `beside`, read from all views' embeddings side by side."""
    z = torch.cat(list(shown.values()), dim=2)
    return {name.replace("/", "-", 1): probe(z, y) for name, y in beside.items() if name.startswith(PREFIX)}
