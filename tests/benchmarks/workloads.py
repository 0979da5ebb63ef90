"""Reference work, twice: as one would write it plainly (`nn.Module`, `AdamW`, one model after the other), and as simlab
runs it. Two views of 30 features, 20,000 pairs, batches of 512.

W1: cross-modal JEPA. Encoders 30-128-128-32, predictors 32-64-64-32 (LayerNorm, GELU), EMA targets, both directions,
smooth L1. W2: VICReg between linear encoders 30-4. Imported by worker processes, too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from simlab.methods import METHODS
from simlab.objectives import ema
from simlab.training import ridge
from simlab.training.pretrain import Encoders, Settings, pretrain

RECORDS, FEATURES, BATCH = 20_000, 30, 512
ROLES = ("image", "clinical")
Pair = tuple[np.ndarray, np.ndarray]
W1 = Settings(encoder="mlp", width=32, hidden=128, batch=BATCH)
W2 = Settings(encoder="linear", width=4, batch=BATCH)
SETTINGS = {"W1": W1, "W2": W2}
ARMS = {"W1": "jepa-frozen", "W2": "vicreg-frozen"}


def pairs(members: int, seed: int = 0) -> dict[str, np.ndarray]:
    """(members, records, features) of each view: four shared causes with noise, the rest private."""
    draw = np.random.default_rng(seed)
    shared = draw.standard_normal((members, RECORDS, 4), dtype=np.float32)
    made = {role: draw.standard_normal((members, RECORDS, FEATURES), dtype=np.float32) for role in ROLES}
    for x in made.values():
        x[:, :, :4] += shared
    return made


def ours(name: str, views: dict[str, np.ndarray], steps: int, device: str = "cpu") -> list[Encoders]:
    """One fleet: every member of `views` trained at once."""
    settings = Settings(**{**SETTINGS[name].__dict__, "steps": steps, "device": device})
    seeds = [(m, 1000 + m) for m in range(len(views["image"]))]
    return pretrain(views, METHODS[ARMS[name]], settings, seeds)  # type: ignore[return-value]


def timed(name: str, views: dict[str, np.ndarray], steps: int) -> None:
    """`ours`, for a worker: nothing is sent back."""
    ours(name, views, steps)


def plain(name: str, image: np.ndarray, clinical: np.ndarray, steps: int, device: str = "cpu") -> nn.Module:
    """One model, trained plainly."""
    torch.manual_seed(0)
    model = (Jepa if name == "W1" else VicReg)().to(device)
    x, y = (torch.as_tensor(view).to(device) for view in (image, clinical))
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3, weight_decay=1e-4)
    for step in range(steps):
        rows = torch.randint(len(x), (BATCH,), device=device)
        loss = model(x[rows], y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if isinstance(model, Jepa):
            model.follow(ema.momentum(step, steps))
    return model


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(a, b))
        if i + 2 < len(sizes):
            layers += [nn.LayerNorm(b, elementwise_affine=False), nn.GELU()]
    return nn.Sequential(*layers)


class Jepa(nn.Module):
    """W1."""

    def __init__(self) -> None:
        super().__init__()
        self.online = nn.ModuleList([mlp(FEATURES, 128, 128, 32) for _ in ROLES])
        self.predict = nn.ModuleList([mlp(32, 64, 64, 32) for _ in ROLES])
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            goals = [(z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt()
                     for z in (self.target[0](x), self.target[1](y))]
        one, two = self.predict[0](self.online[0](x)), self.predict[1](self.online[1](y))
        return functional.smooth_l1_loss(one, goals[1]) + functional.smooth_l1_loss(two, goals[0])

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        for old, new in zip(self.target.parameters(), self.online.parameters(), strict=True):
            old.mul_(momentum).add_(new, alpha=1 - momentum)


class VicReg(nn.Module):
    """W2, the loss as the official release writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.clinical = nn.Linear(FEATURES, 4), nn.Linear(FEATURES, 4)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        a, b = self.image(x), self.clinical(y)
        loss = 25 * functional.mse_loss(a, b)
        for z in (a, b):
            z = z - z.mean(dim=0)
            loss = loss + 25 / 2 * functional.relu(1 - torch.sqrt(z.var(dim=0) + 1e-4)).mean()
            c = z.T @ z / (len(z) - 1)
            loss = loss + (c.square().sum() - c.diagonal().square().sum()) / z.shape[1]
        return loss


def operations(name: str) -> int:
    """Floating-point operations of one step's matrix products: forward, both backward products (none towards the data),
    and the EMA encoders' forward."""
    def products(*sizes: int) -> list[int]:
        return [2 * BATCH * a * b for a, b in pairwise(sizes)]

    encoder, predictor = ((30, 128, 128, 32), (32, 64, 64, 32)) if name == "W1" else ((30, 4), ())
    encoding, predicting = products(*encoder), products(*predictor)
    trained = 3 * sum(encoding) - encoding[0] + 3 * sum(predicting)
    return 2 * (trained + (sum(encoding) if name == "W1" else 0))


def probed(share: tuple[int, int, int]) -> list[float]:
    """W3, our way, on one worker: (first trial, trials, steps) as one fleet of W2, then a ridge probe of each."""
    torch.set_num_threads(1)
    first, trials, steps = share
    views = pairs(trials, first)
    return [
        probe(lambda x, y, made=made: made.represent({"image": x, "clinical": y}), *(views[role][i] for role in ROLES))
        for i, made in enumerate(ours("W2", views, steps))
    ]


def probed_plainly(trial: int, steps: int) -> float:
    """W3, plainly: one trial's data, W2 and a ridge probe."""
    views = pairs(1, trial)
    model = plain("W2", views["image"][0], views["clinical"][0], steps)

    @torch.no_grad()
    def represent(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        shown = model.image(torch.as_tensor(x)), model.clinical(torch.as_tensor(y))
        return {role: z.numpy() for role, z in zip(ROLES, shown, strict=True)}

    return probe(represent, views["image"][0], views["clinical"][0])


def probe(represent: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]], *pair: np.ndarray) -> float:
    """Leave-one-out error of ridge, penalty tuned, on 300 labels made of a shared cause; the encoders read them all."""
    shown = np.concatenate(list(represent(*pair).values()), axis=1).astype(np.float64)
    y = (pair[0][:, 0] + pair[1][:, 0] > 0).astype(np.float64)
    return ridge.fit(shown[:300], y[:300], np.arange(300)).error
