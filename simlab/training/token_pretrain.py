"""Pretraining over sets of tokens, in the one loop: any view x target x against collapse x predictor x encoder.

Each step every record is split anew into context and target tokens (`objectives.views`). With a predictor, a few of
its target tokens are predicted from the context, each a row of the batch:

    prediction  P(encoder(context), where and when)        goal  the token's embedding by the EMA encoder or the online
                                                                 one, or what it holds (input)

so that records of any number of tokens weigh alike and the table of `training.objective` serves unchanged. Goals are
centred within their source and part: which token it is predicts nothing of them. Without a predictor the pooled
embeddings of the two halves, each encoded on its own, are matched: prediction and goal are one row a record.
A goal is encoded in the light of the whole record, as in I-JEPA, or of the target tokens alone (setting `goal`): in
the whole record attention may carry the context into it, and skill is then no proof that anything was predictable.
A curriculum (`Method.phase`) sets view and masked share from the step's number alone, so that a run resumes in it.
What keeps embeddings apart acts on the pooled context and on goals that carry a gradient, centred likewise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from simlab.errors import OutOfDomain
from simlab.evaluation import online as online_probe
from simlab.evaluation import spectrum
from simlab.models import fleet
from simlab.models.predictor import Predictor
from simlab.models.token_encoder import TokenBatch, TokenEncoder, batch_of, pool, readout, seen_tokens
from simlab.models.tokens import ROLES, Layout
from simlab.objectives import sigreg, views
from simlab.training import loop, objective
from simlab.training.device import find as find_device
from simlab.training.method import Method
from simlab.training.pretrain import (
    PROBE,
    Encoders,
    Failed,
    Settings,
    follow,
    held,
    identity,
    one_by_one,
    train,
    watched,
)
from simlab.training.token_encoders import shape, tokens_of, wrap

ROWS = 4  # target tokens of a record that are predicted in a step, drawn with replacement; one under contrast


def pretrain(
    shown: Mapping[str, Float[np.ndarray, "members records ..."]],
    layout: Layout,
    method: Method,
    settings: Settings,
    seeds: Sequence[tuple[int, int]],
    report: loop.Report | None = None,
    checkpoint: Path | None = None,
    every: int = 0,
) -> list[Encoders | Failed]:
    """Pretrain one token encoder a member on its own unlabelled records, as `simlab.training.pretrain.pretrain` does.

    `shown`: "tokens" and "times" of every member's records, and what is watched. A member whose records the view cannot
    split is returned as its error; raises OutOfDomain where it can split no member's.
    """
    settings = settings.of(method)

    def apart() -> list[Encoders | Failed]:
        return one_by_one(lambda *own: pretrain(own[0], layout, method, settings, *own[1:]), shown, seeds, report,
                          checkpoint, every)

    if settings.width == 1 and len(seeds) > 1:  # a product of one column may round otherwise in another fleet
        return apart()
    device = find_device(settings.device)
    encoder, blocks = shape(layout, method, settings)
    tokens, times = layout.cut(shown["tokens"], shown["times"], blocks)
    if len(tokens) != len(seeds):
        raise OutOfDomain(f"pretraining needs one seed a member: {len(seeds)} for {len(tokens)}.")
    task = Task(method, encoder, settings)
    generators, order = ([_generator(one[i]) for one in seeds] for i in (0, 1))
    parameters = (encoder.initialise(generators) | task.predictor.initialise(generators)
                  | task.terms.parameters(len(seeds)))
    parameters = {k: v.to(device) for k, v in parameters.items()}
    source = _together(task, torch.as_tensor(tokens), torch.as_tensor(times), order, device)
    if source is None:
        return apart()
    job = loop.Job(
        parameters,
        loss=task.loss,
        batch=source.batch,
        steps=settings.steps,
        optimiser=loop.Optimiser(settings.learning_rate, settings.weight_decay),
        generators=order,
        name="/".join((*method.recipe, settings.token_encoder, str(settings.width))),
        held=held(method, parameters, settings.steps),
        at_most=task.terms.at_most,
        identity=lambda: identity(dict(shown), settings, seeds) | {"layout": _digest(layout)},
    )
    follow(job, method, ("encoder",))
    task.state = job.state
    probe, beside = source.probe(), source.beside(watched(shown))
    job.observe = lambda step: task.observe(parameters, probe, beside)
    return train(job, ("encoder",), lambda own, curve: wrap(own, layout, method, settings, curve), report, checkpoint,
                 every)


@dataclass(frozen=True, eq=False)
class Draw:
    """One batch: tokens of records, their split, and the target tokens that are predicted."""

    tokens: TokenBatch
    context: Tensor
    target: Tensor
    slots: Tensor
    slices: Tensor | None = None


class Task:
    """What is minimised at one point on the axes, and what is watched along the way. `state`: the EMA encoder."""

    def __init__(self, method: Method, encoder: TokenEncoder, settings: Settings) -> None:
        self.method, self.encoder, self.settings = method, encoder, settings
        self.terms = objective.of(method)
        outputs = encoder.layout.features if method.target == "input" else settings.width
        self.predictor = Predictor(encoder.layout, method.predictor, settings.width, outputs, settings.hidden)
        self.rows = 1 if method.against_collapse.startswith("contrastive") else ROWS
        self.places = encoder.layout.places()
        self.blocks = int(self.places.block.max()) + 1
        self.state: fleet.Parameters = {}

    def loss(self, parameters: fleet.Parameters, draw: Draw, step: int) -> tuple[Tensor, objective.Parts]:
        """One value a member, and its parts."""
        prediction, goal, apart = self.pair(parameters, draw)
        terms = self.terms
        if self.method.predictor == "none" and self.method.target == "online" and terms.pair:
            return terms.pair(prediction, goal)
        parts = {"match": terms.value(prediction, goal, parameters.get("scale"))}
        if terms.spread:
            parts |= {f"spread-{name}": terms.spread(z, draw.slices) for name, z in apart.items()}
        return sum(parts.values(), start=torch.zeros(())), {k: v.detach() for k, v in parts.items()}

    def pair(
        self, parameters: fleet.Parameters, draw: Draw, known: Tensor | None = None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Prediction and goal, (members, rows, _) each, and the embeddings that a spread acts on. `known`: tokens'
        embeddings in the light of the whole record, where the caller has them already."""
        method, batch = self.method, draw.tokens
        z = self.encoder.encode(parameters, batch, draw.context)
        pooled = pool(z, draw.context)
        alone = method.predictor == "none"
        apart = {"context": pooled if alone else views.centre(pooled, self._roles(draw.context), 4)}
        if method.target == "input":
            prediction, goal = self._input(parameters, draw, z)
            return prediction, goal, apart
        own = self.state if method.target == "ema" else parameters
        with torch.set_grad_enabled(method.target != "ema" and torch.is_grad_enabled()):
            if alone or self.settings.goal == "target":
                whole = self.encoder.encode(own, batch, draw.target)
            else:
                whole = self.encoder.encode(own, batch, batch.seen) if known is None else known
            goal = pool(whole, draw.target) if alone else self._rows(whole, draw.slots)
        if not alone:
            goal = views.centre(goal, self.places.block.to(goal.device)[draw.slots].flatten(1), self.blocks)
        if method.target != "ema":
            apart["target"] = goal
        if method.target == "stop-gradient":
            goal = goal.detach()
        if alone:
            return pooled, goal, apart
        prediction = self.predictor.predict(parameters, z, draw.context, batch, draw.slots)
        return prediction.flatten(1, 2), goal, apart

    def _input(self, parameters: fleet.Parameters, draw: Draw, z: Tensor) -> tuple[Tensor, Tensor]:
        """What the target tokens hold, 0 where unobserved, and its reconstruction, 0 at the same places."""
        batch = draw.tokens
        made = self.predictor.predict(parameters, z, draw.context, batch, draw.slots).flatten(1, 2)
        known = self._rows(batch.observed.to(made.dtype), draw.slots)
        return made * known, self._rows(batch.values, draw.slots)

    def constant(self, draw: Draw, goal: Tensor) -> Tensor | None:
        """The best that can be said of what a token holds without its record: each source's and part's mean of what was
        observed, 0 at the same places. None for embeddings, which are centred so already."""
        if self.method.target != "input":
            return None
        known = self._rows(draw.tokens.observed.to(goal.dtype), draw.slots)
        at = self.places.block.to(goal.device)[draw.slots].flatten(1)[..., None].expand_as(goal)
        total, n = (torch.zeros(len(goal), self.blocks, goal.shape[2], device=goal.device).scatter_add_(1, at, x)
                    for x in (goal, known))
        return (total / n.clamp_min(1)).gather(1, at) * known

    @staticmethod
    def _rows(z: Tensor, slots: Tensor) -> Tensor:
        """The slots' tokens of every record, as rows."""
        return z.gather(2, slots[..., None].expand(-1, -1, -1, z.shape[3])).flatten(1, 2)

    def _roles(self, kept: Tensor) -> Tensor:
        """Which roles a context holds, as a number below 4."""
        role = self.places.role.to(kept.device)
        return (kept & (role == 0)).any(dim=2).long() + 2 * (kept & (role == 1)).any(dim=2).long()

    @torch.no_grad()
    def observe(
        self, parameters: fleet.Parameters, draw: Draw, beside: Mapping[str, Tensor] = MappingProxyType({})
    ) -> objective.Parts:
        """Skill (of all rows, and by the role that is predicted), the numbers of `spectrum.along` of each role where a
        record has it, how far the EMA lags; `beside`: subjects and the online probe's targets of these records."""
        batch, layout = draw.tokens, self.encoder.layout
        whole = self.encoder.encode(self.state or parameters, batch, batch.seen)
        prediction, goal, _ = self.pair(parameters, draw, whole)
        scale, flat = parameters.get("scale"), self.constant(draw, goal)
        found = {"skill": self.terms.skill(prediction, goal, scale, flat)}
        if self.method.predictor != "none":
            role = self.places.role.to(goal.device)[draw.slots].flatten(1)
            for i, name in ((i, name) for i, name in enumerate(ROLES) if name in self.method.pretraining_roles):
                rows = [role[m] == i for m in range(len(role))]
                if all(int(r.sum()) > 1 for r in rows):
                    found[f"skill-{name}"] = torch.cat([
                        self.terms.skill(prediction[m : m + 1, r], goal[m : m + 1, r],
                                         None if scale is None else scale[m : m + 1],
                                         None if flat is None else flat[m : m + 1, r]) for m, r in enumerate(rows)])
        made = readout(whole, batch, layout, self.settings.readout)
        shown = {name: made[name] for name in self.method.pretraining_roles}
        there = {name: (batch.seen & tokens_of(layout, (name,)).to(goal.device)).any(dim=2) for name in shown}
        found |= spectrum.along(shown, beside.get("subject"), there) | online_probe.along(shown, beside)
        if self.state:
            apart = torch.cat([(self.state[n] - parameters[n]).flatten(1) for n in self.state], dim=1).norm(dim=1)
            size = torch.cat([parameters[n].flatten(1) for n in self.state], dim=1).norm(dim=1)
            found["lag"] = apart / size.clamp_min(1e-12)
        return found


class Draws:
    """Batches of each member's records that its view can split, all from the member's own generator."""

    def __init__(
        self, task: Task, tokens: Tensor, times: Tensor, order: Sequence[torch.Generator], device: torch.device
    ) -> None:
        settings, layout = task.settings, task.encoder.layout
        self.task, self.order, self.device = task, order, device
        self.tokens, self.times = tokens.to(device), times.to(device)
        self.kept = tokens_of(layout, task.method.pretraining_roles)
        self.seen = seen_tokens(tokens, times, layout, settings.missing) & self.kept
        names = dict.fromkeys((task.method.view, *(p.view for p in task.method.curriculum if p.view)))
        self.rows = {name: self._split(name) for name in names}  # of every member, by view
        sizes = [[len(rows) for rows in found] for found in self.rows.values()]
        # Few records: a fleet of one size would give a member the batches of the one that has fewest.
        self.uneven = any(len({min(n, max(settings.batch, PROBE)) for n in of}) > 1 for of in sizes)

    def _split(self, name: str) -> list[Tensor]:
        """The records of each member that a view can split."""
        found = [torch.nonzero(views.eligible(views.VIEWS[name], one, self.task.places))[:, 0] for one in self.seen]
        if min(len(rows) for rows in found) < 2:
            raise OutOfDomain(f"view {name!r} can split fewer than two of the records: it needs {NEEDS[name]}; choose "
                              "another view or another cohort.")
        return found

    def batch(self, step: int) -> Draw:
        """Records with replacement, their split, slots and slices, as the curriculum has it at this step."""
        method, settings = self.task.method, self.task.settings
        phase, done = method.phase(step, settings.steps)
        name = phase.view or method.view
        size = min(settings.batch, *(len(rows) for rows in self.rows[name]))
        picked = [own[torch.randint(len(own), (size,), generator=g)]
                  for own, g in zip(self.rows[name], self.order, strict=True)]
        return self._draw(name, phase.masks(done, settings.masked), picked, self.order)

    def probe(self) -> Draw:
        """The first records, split once and for all: what diagnostics follow. Draws nothing from the order."""
        generators = [_generator(0) for _ in self.order]
        return self._draw(self.task.method.view, self.task.settings.masked, self._watched(), generators)

    def beside(self, watched: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same records' rows of what is watched."""
        return {name: torch.stack([x[m, rows] for m, rows in enumerate(self._watched())])
                for name, x in watched.items()}

    def _watched(self) -> list[Tensor]:
        rows = self.rows[self.task.method.view]
        return [own[: min(PROBE, *map(len, rows))] for own in rows]

    def _draw(
        self, name: str, share: float, picked: Sequence[Tensor], generators: Sequence[torch.Generator]
    ) -> Draw:
        task, view = self.task, views.VIEWS[name]
        parts: list[list[Tensor]] = []
        for m, (rows, g) in enumerate(zip(picked, generators, strict=True)):
            context, target = view(self.seen[m, rows], task.places, g, share)
            parts.append([context, target, views.slots(target, task.rows, g)])
        context, target, slots = (torch.stack(x).to(self.device) for x in zip(*parts, strict=True))
        slices = None
        if task.terms.sliced:
            slices = torch.stack([sigreg.directions(task.settings.width, sigreg.SLICES, g) for g in generators])
            slices = slices.to(self.device)
        at = torch.stack(list(picked)).to(self.device)
        every = torch.arange(len(at), device=self.device)[:, None]
        drawn = batch_of(self.tokens[every, at], self.times[every, at], task.encoder.layout, task.settings.missing)
        return Draw(drawn.only(self.kept), context, target, slots, slices)


def _together(
    task: Task, tokens: Tensor, times: Tensor, order: Sequence[torch.Generator], device: torch.device
) -> Draws | None:
    """The batches of a fleet; None where its members must train apart: one has nothing to split, or other batch sizes.

    Raises OutOfDomain where the only member's records cannot be split.
    """
    try:
        source = Draws(task, tokens, times, order, device)
    except OutOfDomain:
        if len(tokens) == 1:
            raise
        return None
    return None if source.uneven else source


NEEDS = {
    "cross-modal": "both roles in a record",
    "visit": "two visits in a record",
    "token": "two tokens in a record",
    "coordinate": "two blocks of coordinates (setting coordinates above 1)",
    "both": "two visits or both roles in a record",
    "next-step": "two visits in a record",
}


def _digest(layout: Layout) -> str:
    return hashlib.sha256(repr(layout).encode()).hexdigest()[:12]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
