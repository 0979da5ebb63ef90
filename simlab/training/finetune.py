"""Gradient adaptation of encoders and a head, tuned inside the labels; from pretrained weights or from scratch.

    finetuned    every parameter moves, the encoders' at `encoder_rate` times the head's rate; a linear head
    partial      the encoders' last block alone moves, with a linear head
    frozen-mlp   nothing of the encoders moves; the head is an MLP
    scratch      as finetuned, from the random initialisation, penalised towards zero instead of the start

All folds and candidates train as one fleet in the one loop. A candidate is a penalty; the number of steps is read
off the same cross-validation curve. Then one member is trained on all labels with the chosen two.
All four share grid, folds, head initialisation and budget.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

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
from simlab.training.pretrain import ROLES, Encoders
from simlab.training.scores import NetworkScore

FOLDS = 3
RATE = 2e-3
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # times the squared departure from the starting weights (scratch: from zero)
LOOKS = 9  # points of the curve at which stopping is considered: 4 x 9 candidates, about as many as every tuned arm
HEAD = 32  # hidden units of the MLP head on frozen encoders


def fit(method: Method, bench: Bench) -> Fit:
    """Adapt the bench's encoders (pretrained or at random initialisation, as `method` says) with a head."""
    network = Network(method, bench)
    y = torch.as_tensor(bench.train.y, dtype=torch.float32)
    steps = bench.settings.finetune_steps
    if method.tuning == "none":
        chosen, stop = 0.0, steps
    elif bench.settings.penalty is not None:
        chosen, stop = bench.settings.penalty, steps
    else:
        chosen, stop = _tune(bench, network, y, steps)
    everyone = torch.ones(1, len(y), dtype=torch.bool)
    final = _train(network, y, everyone, [chosen], stop, lambda step, parameters: None)
    found = encoder_diagnostics(bench, bench.encoders) if method.adaptation != "scratch" else {}
    found |= {"diag/steps": float(stop), "diag/penalty": chosen}
    return Fit(network.fitted(final), found, scale="logit")


class Network:
    """Encoders and head of an adaptation: what moves, from where, and the score of records.

    What moves is held as a departure from its start in units of `rate`: under Adam, whose steps do not feel the
    gradient's scale, that gives the encoders `rate` times the head's learning rate.
    """

    def __init__(self, method: Method, bench: Bench) -> None:
        self.encoders: Encoders = bench.encoders
        self.roles: Sequence[str] = ROLES if method.streams == "all" else (method.streams,)
        self.start = self.encoders.own(self.roles)
        self.kind = method.adaptation
        moving = {"frozen-mlp": [], "partial": self.encoders.last_block(self.roles)}
        self.moving = moving.get(self.kind, list(self.start))
        self.rate = 1.0 if self.kind == "scratch" else bench.settings.encoder_rate
        self.anchored = self.kind != "scratch"
        self.shown = self.encoders.inputs(bench.train.views, self.roles)
        with torch.no_grad():
            frozen = self.encoders.features(self.start, self.shown, self.roles)
        self.centre = frozen.mean(dim=1, keepdim=True)
        self.scale = frozen.std(dim=1, keepdim=True).clamp_min(1e-9)
        self.frozen = None if self.moving else frozen
        self.width = frozen.shape[2]
        self.seed = bench.seed

    def parameters(self, members: int) -> fleet.Parameters:
        """No departure, and a head that says nothing yet."""
        made = {k: torch.zeros(members, *self.start[k].shape[1:]) for k in self.moving}
        sizes = (self.width, HEAD, 1) if self.kind == "frozen-mlp" else (self.width, 1)
        head = fleet.initialise("head", sizes, [torch.Generator().manual_seed(self.seed % 2**31)])
        last = f"head.{len(sizes) - 2}.weight"
        head[last] = torch.zeros_like(head[last])
        return made | {k: v.repeat(members, *[1] * (v.dim() - 1)) for k, v in head.items()}

    def logits(self, now: Mapping[str, Tensor], shown: Any) -> Float[Tensor, "members records"]:
        """The head's output for every member; `shown`: records as the encoders read them (`Encoders.inputs`)."""
        members = now["head.0.weight"].shape[0]
        if self.moving:
            weights = {k: v.expand(members, *v.shape[1:]) for k, v in self.start.items()}
            weights |= {k: weights[k] + self.rate * now[k] for k in self.moving}
            z = self.encoders.features(weights, shown, self.roles)
        else:
            same = shown is self.shown and self.frozen is not None
            z = self.frozen if same else self.encoders.features(self.start, shown, self.roles)
            z = ((z - self.centre) / self.scale).expand(members, -1, -1)
        return fleet.apply(now, "head", z)[:, :, 0]

    def departure(self, now: Mapping[str, Tensor]) -> Float[Tensor, "members"]:
        """Squared distance of what moves from where it began (from scratch: from zero), and of the head's weights."""
        heads = [v for k, v in now.items() if k.startswith("head.") and k.endswith(".weight")]
        apart = [self.rate * now[k] if self.anchored else self.start[k] + now[k] for k in self.moving]
        return sum((x.square().flatten(1).sum(dim=1) for x in apart + heads), start=torch.zeros(()))

    @torch.no_grad()
    def fitted(self, final: Mapping[str, Tensor]) -> NetworkScore:
        """The log-odds of records of any cohort: encoders where they came to, and the head."""
        own = self.start | {k: self.start[k] + self.rate * final[k] for k in self.moving}
        head = {k: v.detach() for k, v in final.items() if k.startswith("head.")}
        standard = None if self.moving else (self.centre, self.scale)
        return NetworkScore(replace(self.encoders, parameters=own, curve=()), head, tuple(self.roles), standard)


def _tune(bench: Bench, network: Network, y: Tensor, steps: int) -> tuple[float, int]:
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
                    network.logits(parameters, network.shown), y.expand(len(masks), -1), reduction="none"
                )
                out = (losses * ~masks).sum(dim=1) / (~masks).sum(dim=1)
            errors[step + 1] = out.view(len(PENALTIES), len(inside)).mean(dim=1)

    _train(network, y, masks, penalties, steps, look)
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
    network: Network,
    y: Tensor,
    masks: Tensor,
    penalties: Sequence[float],
    steps: int,
    look: Callable[[int, fleet.Parameters], None],
) -> fleet.Parameters:
    """One fleet: member m trains on the records of masks[m] with penalties[m]. Full batches: labels are few."""
    members = len(masks)
    parameters = network.parameters(members)
    prevalence = ((masks * y).sum(dim=1) / masks.sum(dim=1)).clamp(1e-3, 1 - 1e-3)  # of the member's own records
    last = max(k for k in parameters if k.startswith("head.") and k.endswith(".bias"))
    parameters[last] = torch.logit(prevalence).view(members, 1, 1)
    penalty = torch.tensor(penalties)
    share = masks.float() / masks.sum(dim=1, keepdim=True)

    def loss(now: fleet.Parameters, batch: object, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        each = functional.binary_cross_entropy_with_logits(
            network.logits(now, network.shown), y.expand(members, -1), reduction="none"
        )
        fitted = (each * share).sum(dim=1)
        return fitted + penalty * network.departure(now), {"fitted": fitted.detach()}

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
