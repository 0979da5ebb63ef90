"""Pretraining on unlabelled pairs of views: any point on the axes target x against collapse x predictor x encoder.

What is minimised is composed in `simlab.training.objective`, whose table holds one line an objective.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from simlab.errors import OutOfDomain
from simlab.evaluation import online as online_probe
from simlab.models import fleet
from simlab.objectives import ema, sigreg
from simlab.training import loop, objective
from simlab.training.device import find as find_device
from simlab.training.method import Method

ROLES = objective.ROLES
Failed = loop.Diverged | OutOfDomain  # what becomes of a member that cannot be trained, where others can
PROBE = 512  # unlabelled records, the first, on which diagnostics follow the training


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
    penalty: float | None = None  # of tuned arms, in the units of their own grid; None: they tune it themselves
    diagnostics: str = "summary"  # "summary" | "full": which metrics every arm reports of its encoders
    device: str = "cpu"
    encoder_rate: float = 1.0  # of fine-tuned encoders, as a share of the head's learning rate
    token_encoder: str = "transformer"  # "transformer" | "linear" | "mlp": of arms that read tokens
    depth: int = 2  # blocks of the transformer
    decay: str = "key"  # "key" | "query" | "none": how old visits fade (simlab.models.transformer)
    missing: str = "masked"  # "masked" | "zero-filled": a stream that is missing at a visit
    readout: str = "last"  # "last" | "mean": a record's representation from its tokens
    masked: float = 0.5  # share of visits, tokens or blocks that is predicted
    goal: str = "whole"  # "whole" | "target": the tokens in whose light a token's goal is encoded
    coordinates: int = 6  # blocks that a visit's vector is cut into (coordinate view)
    patch: int = 8  # voxels a side of a volume's patches
    volume: str = "patches"  # "patches" | "cnn": a volume as tokens of patches, or as one token of a small 3-D CNN

    @property
    def cut(self) -> int | None:
        """Voxels a side of the patches that a volume is cut into; None: it stays whole."""
        return None if self.volume == "cnn" else self.patch

    def of(self, method: Method) -> Settings:
        """These, with the width and the encoder's rate of a method that has its own."""
        own = {"width": method.width, "encoder_rate": method.encoder_rate}
        own = {name: value for name, value in own.items() if value is not None}
        return replace(self, **own) if own else self


@dataclass(frozen=True)
class Encoders:
    """One member's pretrained (or random) encoders, on the CPU, with the training curve that made them.

    `roles`: those that are represented, where nobody asks for others.
    """

    kind: str
    parameters: fleet.Parameters
    curve: tuple[dict[str, float], ...] = ()
    roles: tuple[str, ...] = ROLES

    def represent(
        self, views: Mapping[str, Float[np.ndarray, "records ..."]]
    ) -> dict[str, Float[np.ndarray, "records width"]]:
        """Each role's representation, (records, width) float64; the identity encoder returns the features."""
        roles = self.roles
        if self.kind == "identity":
            return {role: np.asarray(views[role], dtype=np.float64) for role in roles}
        made = {}
        with torch.no_grad():
            for role in roles:
                x = torch.as_tensor(np.asarray(views[role], dtype=np.float32))[None]
                made[role] = fleet.apply(self.parameters, role, x)[0].numpy().astype(np.float64)
        return made

    def exists(self, views: Mapping[str, Float[np.ndarray, "records ..."]]) -> dict[str, Bool[np.ndarray, "records"]]:
        """Of each role, which records it represents by something that was seen; no entry: all of them."""
        return {}

    def inputs(self, shown: Mapping[str, Float[np.ndarray, "records ..."]], roles: Sequence[str] = ROLES) -> Any:
        """What `features` reads of these records, for a fleet of one."""
        return {role: torch.as_tensor(np.asarray(shown[role], dtype=np.float32))[None] for role in roles}

    def features(
        self, parameters: Mapping[str, Tensor], inputs: Any, roles: Sequence[str] = ROLES
    ) -> Float[Tensor, "members records _"]:
        """The representations of these roles side by side, of every member of `parameters`, with gradient."""
        members = next(iter(parameters.values())).shape[0]
        return torch.cat([fleet.apply(parameters, r, inputs[r].expand(members, -1, -1)) for r in roles], dim=2)

    def own(self, roles: Sequence[str] = ROLES) -> fleet.Parameters:
        """The parameters of these roles' encoders."""
        return {k: v for k, v in self.parameters.items() if k.split(".")[0] in roles}

    def last_block(self, roles: Sequence[str] = ROLES) -> list[str]:
        """Names of the parameters of the last layer of these roles' encoders."""
        return last_layers(self.own(roles))


def last_layers(parameters: Mapping[str, Tensor]) -> list[str]:
    """Names of the parameters of the last layer of each network (NETWORK.LAYER.weight or bias)."""
    last: dict[str, int] = {}
    for name in parameters:
        network, layer, _ = name.rsplit(".", 2)
        last[network] = max(last.get(network, 0), int(layer))
    return [name for name in parameters if last[name.rsplit(".", 2)[0]] == int(name.split(".")[-2])]


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
    start: Sequence[Encoders] = (),
) -> list[Encoders | Failed]:
    """Pretrain one encoder pair per member on its own unlabelled pairs.

    `start`: encoders that members begin with, in the place of a random initialisation (predictors begin anew).
    `views`: for each role (members, records, features) float32; `seeds`: per member (initialisation, order). Members of
    equal shape train together and do not affect each other. Beside the roles `views` may hold what is watched along the
    training and never learnt from: "subject" (members, records), numbers of those whose records belong together, for
    LiDAR (without it each record is its own), and "probe/NAME" (members, records, targets), for the online probe.
    A member that diverges alone is returned as its error.
    Raises loop.Diverged when all do, DamagedFile (checkpoint), OutOfDomain.
    """
    settings = settings.of(method)
    if method.reads != "features":
        raise OutOfDomain(f"method {method.name} reads tokens, which these records were not cut into.")
    if settings.width == 1 and len(seeds) > 1:  # a product of one column may round otherwise in another fleet
        each = iter(start)
        return one_by_one(lambda own, *rest: pretrain(own, method, settings, *rest, [next(each)] if start else ()),
                          views, seeds, report, checkpoint, every)
    device = find_device(settings.device)
    data = _pairs(views, len(seeds), device)
    terms, order = objective.of(method), [_generator(s) for _, s in seeds]
    parameters = _networks(data, method, settings, [_generator(initial) for initial, _ in seeds], start)
    parameters = {k: v.to(device) for k, v in (parameters | terms.parameters(len(seeds))).items()}
    job = loop.Job(
        parameters,
        loss=lambda *_: (torch.zeros(0), {}),  # below: it needs the state
        batch=_batches(data, order, settings, sigreg.SLICES if terms.sliced else 0),
        steps=settings.steps,
        optimiser=loop.Optimiser(settings.learning_rate, settings.weight_decay),
        generators=order,
        name="/".join((*method.recipe[:4], settings.encoder, str(settings.width), *method.recipe[6:])),
        held=held(method, parameters, settings.steps),
        at_most=terms.at_most,
        identity=lambda: identity(data, settings, seeds),
    )
    follow(job, method, ROLES)
    job.loss = objective.loss(method, terms, job.state)
    probe = {role: x[:, :PROBE] for role, x in (data | watched(views)).items()}
    job.observe = lambda step: objective.observe(method, terms, parameters, job.state, probe)
    return train(job, ROLES, partial(Encoders, settings.encoder), report, checkpoint, every)


def one_by_one(
    run: Callable[..., list[Encoders | Failed]],
    views: Mapping[str, Float[np.ndarray, "members records ..."]],
    seeds: Sequence[tuple[int, int]],
    report: loop.Report | None,
    checkpoint: Path | None,
    every: int,
) -> list[Encoders | Failed]:
    """Members trained one after the other by `run(views, seeds, report, checkpoint, every)`, each with a checkpoint of
    its own."""
    made: list[Encoders | Failed] = []
    for m, seed in enumerate(seeds):
        own = {name: x[m : m + 1] for name, x in views.items()}
        file = checkpoint.with_name(f"{checkpoint.stem}-{m}{checkpoint.suffix}") if checkpoint else None
        try:
            made += run(own, [seed], report, file, every)
        except (loop.Diverged, OutOfDomain) as error:
            made.append(error)
    if all(isinstance(member, Exception) for member in made):
        raise made[0]  # type: ignore[misc]
    return made


def follow(job: loop.Job, method: Method, networks: Sequence[str]) -> None:
    """Where the method's target is an EMA encoder: `job.state`, copies of these networks, follows them."""
    if method.target == "ema":
        job.state = {k: v.detach().clone() for k, v in job.parameters.items() if k.split(".")[0] in networks}
        online = {k: job.parameters[k] for k in job.state}
        job.after_step = lambda step: ema.update(job.state, online, ema.momentum(step, job.steps))


def train(
    job: loop.Job,
    networks: Sequence[str],
    made: Callable[[fleet.Parameters, tuple[dict[str, float], ...]], Encoders],
    report: loop.Report | None,
    checkpoint: Path | None,
    every: int,
) -> list[Encoders | Failed]:
    """Run the job. Returns what is `made` of each member's networks (of an EMA method: its target encoders, as in
    I-JEPA) and curve, or its error when its loss stopped being a number; the others are what they would be."""
    curve = loop.train(job, report, checkpoint, every)
    final = {k: v.cpu() for k, v in (job.state or job.parameters).items() if k.split(".")[0] in networks}
    found: list[Encoders | Failed] = []
    for m in range(len(next(iter(final.values())))):
        own = tuple({k: v[m if len(v) > 1 else 0] for k, v in point.items()} for point in curve)
        lost = own and not math.isfinite(own[-1]["loss"])
        found.append(loop.diverged(job.name, int(own[-1]["step"])) if lost else made(fleet.member(final, m), own))
    return found


def held(method: Method, parameters: Mapping[str, Tensor], steps: int) -> Callable[[int], tuple[str, ...]]:
    """The names of what a method's curriculum holds still, by step. Raises OutOfDomain for networks that it has not."""
    for phase in method.curriculum:
        for start in phase.held:
            if not any(name.startswith(f"{start}") for name in parameters):
                known = ", ".join(sorted({name.split(".")[0] for name in parameters}))
                raise OutOfDomain(f"method {method.name}: curriculum holds {start!r}; its networks are {known}.")

    def names(step: int) -> tuple[str, ...]:
        starts = method.phase(step, steps)[0].held
        return tuple(name for name in parameters if name.startswith(starts)) if starts else ()

    return names


def watched(views: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """What is handed over beside the views, one row a record: the online probe's targets, and subjects where one
    of them has several records."""
    found = {name: torch.as_tensor(np.asarray(x)) for name, x in views.items() if name.startswith(online_probe.PREFIX)}
    subject = views.get("subject")
    if subject is not None and any(len(np.unique(own)) < len(own) for own in subject):
        found["subject"] = torch.as_tensor(np.asarray(subject))
    return found


def identity(
    data: Mapping[str, Tensor | np.ndarray], settings: Settings, seeds: Sequence[tuple[int, int]]
) -> dict[str, str]:
    """Settings, seeds and data of a run: what its checkpoint must agree with."""
    digest = hashlib.sha256()
    for _, x in sorted(data.items()):
        digest.update(np.ascontiguousarray(x.cpu().numpy() if isinstance(x, Tensor) else x).data)
    return {**{k: str(v) for k, v in asdict(settings).items()}, "seeds": str(list(seeds)), "data": digest.hexdigest()}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _initial(inputs: Mapping[str, int], settings: Settings, generators: Sequence[torch.Generator]) -> fleet.Parameters:
    made: fleet.Parameters = {}
    for role in ROLES:
        layers = fleet.sizes(settings.encoder, inputs[role], settings.width, settings.hidden)
        made.update(fleet.initialise(role, layers, generators))
    return made


def _pairs(
    views: Mapping[str, Float[np.ndarray, "members records _"]], seeds: int, device: torch.device
) -> dict[str, Float[Tensor, "members records _"]]:
    """The two views on the device. Raises OutOfDomain where they are not of the same records, or not one a seed."""
    data = {role: torch.as_tensor(views[role], dtype=torch.float32).to(device) for role in ROLES}
    shape = data["image"].shape[:2]
    if shape[0] != seeds or data["clinical"].shape[:2] != shape:
        raise OutOfDomain("pretraining needs, for each seed, the two views of the same records.")
    return data


def _networks(
    data: Mapping[str, Tensor],
    method: Method,
    settings: Settings,
    generators: Sequence[torch.Generator],
    start: Sequence[Encoders],
) -> fleet.Parameters:
    """Encoders (those of `start`, if any) and predictors; each generator makes encoders first, predictor or not."""
    inputs = {role: data[role].shape[2] for role in ROLES}
    found = _initial(inputs, settings, generators)
    if start:
        found |= {name: torch.cat([own.parameters[name] for own in start]) for name in found}
    if method.predictor != "none":
        for role in ROLES:
            outputs = inputs[objective.OTHER[role]] if method.target == "input" else settings.width
            layers = fleet.sizes(method.predictor, settings.width, outputs, 2 * settings.width)
            found.update(fleet.initialise(f"predict-{role}", layers, generators))
    return found


def _batches(
    data: Mapping[str, Tensor], order: Sequence[torch.Generator], settings: Settings, slices: int
) -> Callable[[int], dict[str, Tensor]]:
    """Each member's mini-batches, drawn with replacement from its own generator, and its `slices` (SIGReg alone).

    Drawing with replacement needs no epoch state, so a resumed run continues with nothing but the generator.
    """
    records = data["image"].shape[1]
    size = min(settings.batch, records)
    offsets = torch.arange(len(order)).unsqueeze(1) * records
    flat = {role: x.flatten(0, 1) for role, x in data.items()}

    def batch(step: int) -> dict[str, Tensor]:
        rows = torch.stack([torch.randint(records, (size,), generator=g) for g in order]) + offsets
        device = flat["image"].device
        rows = rows.flatten().to(device)
        drawn = {role: x.index_select(0, rows).view(len(order), size, -1) for role, x in flat.items()}
        if slices:
            drawn["slices"] = torch.stack([sigreg.directions(settings.width, slices, g) for g in order]).to(device)
        return drawn

    return batch
