"""Gradient adaptation of MLP encoders and a linear head, tuned inside the labels; from pretrained weights or scratch.

All folds and candidates train as one fleet in the one loop. A candidate is a penalty; the number of steps is read
off the same cross-validation curve. Then one member is trained on all labels with the chosen two.
Pretrained and scratch arms share grid, folds, head initialisation and budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor
from torch.nn import functional

from simlab.models import fleet
from simlab.training import loop
from simlab.training.data import Bench, Fit, encoder_diagnostics
from simlab.training.method import Method
from simlab.training.pretrain import ROLES
from simlab.training.scores import NetworkScore, logits

FOLDS = 3
RATE = 2e-3
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # times the squared departure from the starting weights (scratch: from zero)
LOOKS = 9  # points of the curve at which stopping is considered: 4 x 9 candidates, about as many as every tuned arm


def fit(method: Method, bench: Bench) -> Fit:
    """Adapt the bench's encoders (pretrained or at random initialisation, as `method` says) with a linear head."""
    roles = ROLES if method.streams == "all" else (method.streams,)
    start = {k: v for k, v in bench.encoders.parameters.items() if k.split(".")[0] in roles}
    anchored = method.adaptation == "finetuned"
    x = {role: torch.as_tensor(np.asarray(bench.train.views[role], dtype=np.float32))[None] for role in roles}
    y = torch.as_tensor(bench.train.y, dtype=torch.float32)
    steps = bench.settings.finetune_steps
    if method.tuning == "none":
        chosen, stop = 0.0, steps
    elif bench.settings.penalty is not None:
        chosen, stop = bench.settings.penalty, steps
    else:
        chosen, stop = _tune(bench, start, x, y, anchored, steps)
    everyone = torch.ones(1, len(y), dtype=torch.bool)
    final = _train(start, x, y, everyone, [chosen], anchored, stop, lambda step, parameters: None)
    found = encoder_diagnostics(bench, bench.encoders) if anchored else {}
    found |= {"diag/steps": float(stop), "diag/penalty": chosen}
    return Fit(NetworkScore(final, tuple(roles)), found, scale="logit")


def _tune(
    bench: Bench, start: fleet.Parameters, x: Mapping[str, Tensor], y: Tensor, anchored: bool, steps: int
) -> tuple[float, int]:
    """The penalty and number of steps of least out-of-fold log-loss."""
    inside = torch.as_tensor(fold_masks(bench.train.y, bench.train.subjects, bench.seed))
    masks = inside.repeat(len(PENALTIES), 1)
    penalties = [p for p in PENALTIES for _ in range(len(inside))]
    looks = sorted({max(1, round(steps * (i + 1) / LOOKS)) for i in range(LOOKS)})
    errors: dict[int, Tensor] = {}

    def look(step: int, parameters: fleet.Parameters) -> None:
        if step + 1 in looks:
            with torch.no_grad():
                losses = functional.binary_cross_entropy_with_logits(
                    logits(parameters, x), y.expand(len(masks), -1), reduction="none"
                )
                out = (losses * ~masks).sum(dim=1) / (~masks).sum(dim=1)
            errors[step + 1] = out.view(len(PENALTIES), len(inside)).mean(dim=1)

    _train(start, x, y, masks, penalties, anchored, steps, look)
    table = torch.stack([errors[s] for s in looks])
    best = int(table.argmin())
    return PENALTIES[best % len(PENALTIES)], looks[best // len(PENALTIES)]


def fold_masks(y: Float[np.ndarray, "records"], subjects: np.ndarray, seed: int) -> Bool[np.ndarray, "folds records"]:
    """True where a record trains, one row per fold; whole subjects are left out, classes kept in proportion."""
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed % 2**31).split(y[:, None], y, subjects)
    masks = np.zeros((FOLDS, len(y)), dtype=bool)
    for row, (inside, _) in zip(masks, folds, strict=True):
        row[inside] = True
    return masks


def _train(
    start: fleet.Parameters,
    x: Mapping[str, Tensor],
    y: Tensor,
    masks: Tensor,
    penalties: Sequence[float],
    anchored: bool,
    steps: int,
    look: Callable[[int, fleet.Parameters], None],
) -> fleet.Parameters:
    """One fleet: member m trains on the records of masks[m] with penalties[m]. Full batches: labels are few."""
    members = len(masks)
    anchor = {k: v.expand(members, *v.shape[1:]).clone() for k, v in start.items()}
    width = sum(v.shape[-1] for k, v in start.items() if k == _last_bias(start, k.split(".")[0]))
    parameters = {k: v.clone() for k, v in anchor.items()}
    parameters["head.0.weight"] = torch.zeros(members, width, 1)
    prevalence = ((masks * y).sum(dim=1) / masks.sum(dim=1)).clamp(1e-3, 1 - 1e-3)  # of the member's own records
    parameters["head.0.bias"] = torch.logit(prevalence).view(members, 1, 1)
    penalty = torch.tensor(penalties)
    share = masks.float() / masks.sum(dim=1, keepdim=True)
    inputs = {role: v.expand(members, -1, -1) for role, v in x.items()}

    def loss(now: fleet.Parameters, batch: object, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        each = functional.binary_cross_entropy_with_logits(
            logits(now, inputs), y.expand(members, -1), reduction="none"
        )
        fitted = (each * share).sum(dim=1)
        departure = sum(
            ((now[k] - (anchor[k] if anchored else 0.0)).square().flatten(1).sum(dim=1) for k in anchor),
            start=now["head.0.weight"].square().flatten(1).sum(dim=1),
        )
        return fitted + penalty * departure, {"fitted": fitted.detach()}

    loop.train(
        loop.Job(
            parameters,
            loss,
            batch=lambda step: None,
            steps=steps,
            name="adaptation",
            after_step=lambda step: look(step, parameters),
            optimiser=loop.Optimiser(RATE, weight_decay=0.0, warm_up=0.0, final=1.0),
        )
    )
    return parameters


def _last_bias(parameters: Mapping[str, Tensor], role: str) -> str:
    return max(
        (k for k in parameters if k.startswith(f"{role}.") and k.endswith(".bias")), key=lambda k: int(k.split(".")[1])
    )
