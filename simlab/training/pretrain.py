"""Pretraining on unlabelled pairs of views: the cross-modal JEPA, against an EMA target or with VICReg.

Each direction of the EMA form: context encoder of one view -> predictor -> target encoder of the other view, smooth L1
to the standardised target. The VICReg form aligns the two online encoders and keeps their spread itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from simlab.errors import OutOfDomain
from simlab.models import fleet
from simlab.objectives import ema
from simlab.objectives.prediction import prediction_loss
from simlab.objectives.vicreg import covariance, invariance, variance, vicreg
from simlab.training import loop
from simlab.training.device import find as find_device
from simlab.training.method import Method

ROLES = ("image", "clinical")
OTHER = {"image": "clinical", "clinical": "image"}


@dataclass(frozen=True)
class Settings:
    """How encoders are built and trained; a study's `[train]` table and `simlab.train` fill it in."""

    encoder: str = "linear"  # "linear" | "mlp"
    width: int = 8  # of each view's representation
    hidden: int = 64  # of the MLP's two hidden layers
    steps: int = 1200
    batch: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    finetune_steps: int = 200
    device: str = "cpu"


@dataclass(frozen=True)
class Encoders:
    """One member's pretrained (or random) encoders, on the CPU, with the training curve that made them."""

    kind: str
    parameters: fleet.Parameters
    curve: tuple[dict[str, float], ...] = ()

    def represent(
        self, views: Mapping[str, Float[np.ndarray, "records _"]], roles: Sequence[str] = ROLES
    ) -> dict[str, Float[np.ndarray, "records width"]]:
        """Each view's representation, (records, width) float64; the identity encoder returns the features."""
        if self.kind == "identity":
            return {role: np.asarray(views[role], dtype=np.float64) for role in roles}
        made = {}
        with torch.no_grad():
            for role in roles:
                x = torch.as_tensor(np.asarray(views[role], dtype=np.float32))[None]
                made[role] = fleet.apply(self.parameters, role, x)[0].numpy().astype(np.float64)
        return made


def random_encoders(inputs: Mapping[str, int], settings: Settings, seeds: Sequence[int]) -> list[Encoders]:
    """Untrained encoders, one per seed: the same initialisation that pretraining of that seed starts from."""
    parameters = _initial(inputs, settings, [_generator(s) for s in seeds])
    return [Encoders(settings.encoder, fleet.member(parameters, m)) for m in range(len(seeds))]


def pretrain(
    views: Mapping[str, Float[np.ndarray, "members records _"]],
    method: Method,
    settings: Settings,
    seeds: Sequence[tuple[int, int]],
    report: loop.Report | None = None,
    checkpoint: Path | None = None,
    every: int = 0,
) -> list[Encoders | loop.Diverged]:
    """Pretrain one encoder pair per member on its own unlabelled pairs.

    `views`: for each role (members, records, features) float32; `seeds`: per member (initialisation, order). Members of
    equal shape train together and do not affect each other.
    A member that diverges alone is returned as its error.
    Raises loop.Diverged when all do, DamagedFile (checkpoint), OutOfDomain.
    """
    device = find_device(settings.device)
    data = {role: torch.as_tensor(views[role], dtype=torch.float32).to(device) for role in ROLES}
    members, records = data["image"].shape[:2]
    if members != len(seeds) or data["clinical"].shape[:2] != (members, records):
        raise OutOfDomain("pretraining needs, for each seed, the two views of the same records.")
    inputs = {role: data[role].shape[2] for role in ROLES}
    generators = [_generator(initial) for initial, _ in seeds]
    parameters = _initial(inputs, settings, generators)
    if method.predictor != "none":
        for role in ROLES:
            layers = fleet.sizes(method.predictor, settings.width, settings.width, 2 * settings.width)
            parameters.update(fleet.initialise(f"predict-{role}", layers, generators))
    parameters = {k: v.to(device) for k, v in parameters.items()}
    order = [_generator(s) for _, s in seeds]
    job = loop.Job(
        parameters,
        loss=lambda *_: (torch.zeros(0), {}),
        batch=_batches(data, order, min(settings.batch, records)),
        steps=settings.steps,
        optimiser=loop.Optimiser(settings.learning_rate, settings.weight_decay),
        generators=order,
        name="/".join((*method.recipe[:4], settings.encoder, str(settings.width))),
    )
    job.loss, job.after_step = _objective(method, job)
    curve = loop.train(job, report, checkpoint, every)
    # An EMA method is evaluated by its target encoders, as I-JEPA is.
    final = {k: v.cpu() for k, v in (job.state or job.parameters).items() if k.split(".")[0] in ROLES}
    return [_member(settings, final, curve, m, job) for m in range(members)]


def _member(
    settings: Settings, final: fleet.Parameters, curve: list[dict[str, list[float]]], m: int, job: loop.Job
) -> Encoders | loop.Diverged:
    """Member m's encoders, or its error when its loss stopped being a number; the others are what they would be."""
    own = tuple({k: v[m if len(v) > 1 else 0] for k, v in point.items()} for point in curve)
    if own and not math.isfinite(own[-1]["loss"]):
        return loop.diverged(job.name, int(own[-1]["step"]))
    return Encoders(settings.encoder, fleet.member(final, m), own)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _initial(inputs: Mapping[str, int], settings: Settings, generators: Sequence[torch.Generator]) -> fleet.Parameters:
    made: fleet.Parameters = {}
    for role in ROLES:
        layers = fleet.sizes(settings.encoder, inputs[role], settings.width, settings.hidden)
        made.update(fleet.initialise(role, layers, generators))
    return made


def _batches(
    data: Mapping[str, Tensor], order: Sequence[torch.Generator], size: int
) -> Callable[[int], dict[str, Tensor]]:
    """Each member's mini-batches, drawn with replacement from its own generator.

    Drawing with replacement needs no epoch state, so a resumed run continues with nothing but the generator.
    """
    records = data["image"].shape[1]
    offsets = torch.arange(len(order)).unsqueeze(1) * records
    flat = {role: x.flatten(0, 1) for role, x in data.items()}

    def batch(step: int) -> dict[str, Tensor]:
        rows = torch.stack([torch.randint(records, (size,), generator=g) for g in order]) + offsets
        rows = rows.flatten().to(flat["image"].device)
        return {role: x.index_select(0, rows).view(len(order), size, -1) for role, x in flat.items()}

    return batch


def _objective(
    method: Method, job: loop.Job
) -> tuple[Callable[..., tuple[Tensor, dict[str, Tensor]]], Callable[[int], None]]:
    """The loss of this method and what follows each step (the EMA update)."""
    if method.against_collapse == "vicreg":
        return _vicreg_loss, lambda step: None
    if method.target == "ema":
        encoders = [name for name in job.parameters if name.split(".")[0] in ROLES]
        job.state = {name: job.parameters[name].detach().clone() for name in encoders}
        online = {name: job.parameters[name] for name in encoders}
        return _ema_loss(job.state), lambda step: ema.update(job.state, online, ema.momentum(step, job.steps))
    raise OutOfDomain(
        f"method {method.name}: no pretraining objective for target {method.target!r} with "
        f"{method.against_collapse!r} against collapse."
    )


def _vicreg_loss(
    parameters: fleet.Parameters, batch: Mapping[str, Tensor], step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    a, b = (fleet.apply(parameters, role, batch[role]) for role in ROLES)
    with torch.no_grad():
        parts = {
            "invariance": invariance(a, b),
            "variance": (variance(a) + variance(b)) / 2,
            "covariance": covariance(a) + covariance(b),
        }
    return vicreg(a, b), parts


def _ema_loss(target: fleet.Parameters) -> Callable[..., tuple[Tensor, dict[str, Tensor]]]:
    def loss(parameters: fleet.Parameters, batch: Mapping[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        parts = {}
        for role in ROLES:
            context = fleet.apply(parameters, role, batch[role])
            with torch.no_grad():
                goal = fleet.apply(target, OTHER[role], batch[OTHER[role]])
            parts[f"predict-{OTHER[role]}"] = prediction_loss(fleet.apply(parameters, f"predict-{role}", context), goal)
        total = sum(parts.values(), start=torch.zeros(()))
        return total, {k: v.detach() for k, v in parts.items()}

    return loss
