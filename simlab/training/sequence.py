"""Supervised classifiers of hourly sequences (`models/sequence.py`), tuned inside the labels, in the one loop.

Folds, penalties and stopping times are those of `finetune.py`, so that every network tries 4 x 9 candidates: all folds
and penalties train as one fleet, the number of steps is read off the same curve, then one member is trained on all
labels. Sequences are long, so a step takes a mini-batch, each member's from its own records and generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from simlab.errors import InvalidCohort
from simlab.models import fleet, sequence
from simlab.training import loop
from simlab.training.data import Bench, Fit
from simlab.training.finetune import LOOKS, PENALTIES, fold_masks
from simlab.training.method import Method

HIDDEN = 32
BATCH = 64
STEPS = 180
RATE = 2e-3
Look = Callable[[int, fleet.Parameters], None]


def classifier(method: Method, bench: Bench) -> Fit:
    """The network named by `method.encoder` on `views["hours"]`. Raises InvalidCohort where hours are not shown."""
    if "hours" not in bench.train.views:
        raise InvalidCohort(f"method {method.name} reads hours; a prepared cohort alone shows them.")
    x = torch.as_tensor(bench.train.views["hours"])
    y = torch.as_tensor(bench.train.y, dtype=torch.float32)
    penalty, steps = _tune(method.encoder, x, y, bench)
    everyone = np.ones((1, len(y)), dtype=bool)
    final = _train(method.encoder, x, y, everyone, [penalty], steps, bench.seed, lambda step, parameters: None)
    return Fit(
        lambda views: _score(method.encoder, final, torch.as_tensor(views["hours"]))[0].numpy().astype(np.float64),
        {"diag/steps": float(steps), "diag/penalty": penalty},
        scale="logit",
    )


def _tune(kind: str, x: Tensor, y: Tensor, bench: Bench) -> tuple[float, int]:
    """The penalty and number of steps of least out-of-fold log-loss."""
    inside = fold_masks(bench.train.y, bench.train.subjects, bench.seed)
    masks = np.tile(inside, (len(PENALTIES), 1))
    penalties = [p for p in PENALTIES for _ in inside]
    looks = [round(STEPS * (i + 1) / LOOKS) for i in range(LOOKS)]
    errors: list[Float[Tensor, "penalties"]] = []
    outside = torch.as_tensor(~masks)

    def look(step: int, parameters: fleet.Parameters) -> None:
        if step + 1 in looks:
            shown = _score(kind, parameters, x)
            loss = functional.binary_cross_entropy_with_logits(shown, y.expand_as(shown), reduction="none")
            out = (loss * outside).sum(dim=1) / outside.sum(dim=1)
            errors.append(out.view(len(PENALTIES), len(inside)).mean(dim=1))

    _train(kind, x, y, masks, penalties, STEPS, bench.seed, look)
    best = int(torch.stack(errors).argmin())
    return PENALTIES[best % len(PENALTIES)], looks[best // len(PENALTIES)]


def _train(
    kind: str,
    x: Float[Tensor, "records visits features"],
    y: Float[Tensor, "records"],
    masks: Bool[np.ndarray, "members records"],
    penalties: Sequence[float],
    steps: int,
    seed: int,
    look: Look,
) -> fleet.Parameters:
    """One fleet: member m trains on the records of masks[m], penalties[m] on its squared weights; all start alike."""
    start = sequence.initialise(kind, x.shape[2], HIDDEN, [torch.Generator().manual_seed(seed)])
    parameters = {k: v.expand(len(masks), *v.shape[1:]).clone() for k, v in start.items()}
    prevalence = torch.tensor([float(y[torch.as_tensor(m)].mean()) for m in masks]).clamp(1e-3, 1 - 1e-3)
    parameters["head.0.bias"] = torch.logit(prevalence).view(-1, 1, 1)
    penalty = torch.tensor(penalties)
    own = [torch.as_tensor(np.flatnonzero(m)) for m in masks]
    order = [torch.Generator().manual_seed(seed + 1) for _ in masks]

    def batch(step: int) -> Tensor:
        size = min(BATCH, min(map(len, own)))
        drawn = [torch.randint(len(rows), (size,), generator=g) for rows, g in zip(own, order, strict=True)]
        return torch.stack([rows[d] for rows, d in zip(own, drawn, strict=True)])

    def loss(now: fleet.Parameters, rows: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        shown = sequence.logits(kind, now, x[rows])
        each = functional.binary_cross_entropy_with_logits(shown, y[rows], reduction="none")
        weights = sum(v.square().flatten(1).sum(dim=1) for k, v in now.items() if k.endswith(".weight"))
        return each.mean(dim=1) + penalty * weights, {"fitted": each.mean(dim=1).detach()}

    loop.train(
        loop.Job(
            parameters,
            loss,
            batch=batch,
            steps=steps,
            name=f"classifier/{kind}",
            after_step=lambda step: look(step, parameters),
            optimiser=loop.Optimiser(RATE, weight_decay=0.0, warm_up=0.0, final=1.0),
            generators=order,
        )
    )
    return parameters


@torch.no_grad()
def _score(
    kind: str, parameters: fleet.Parameters, x: Float[Tensor, "records visits features"], rows: int = 512
) -> Float[Tensor, "members records"]:
    """The logits of all records, some at a time."""
    members = len(parameters["head.0.bias"])
    parts = [sequence.logits(kind, parameters, part.expand(members, *part.shape)) for part in x.split(rows)]
    return torch.cat(parts, dim=1)
