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
What keeps embeddings apart acts on the pooled context and on goals that carry a gradient, centred likewise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from simlab.errors import OutOfDomain
from simlab.evaluation import spectrum
from simlab.models import fleet
from simlab.models.predictor import Predictor
from simlab.models.token_encoder import TokenBatch, TokenEncoder, batch_of, pool, readout, seen_tokens
from simlab.models.tokens import ROLES, Layout
from simlab.objectives import ema, sigreg, views
from simlab.training import loop, objective
from simlab.training.device import find as find_device
from simlab.training.method import Method
from simlab.training.pretrain import PROBE, Encoders, Settings, identity, one_by_one
from simlab.training.token_encoders import shape, wrap

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
) -> list[Encoders | loop.Diverged]:
    """Pretrain one token encoder a member on its own unlabelled records, as `simlab.training.pretrain.pretrain` does.

    `shown`: "tokens" and "times" of every member's records. Raises OutOfDomain where the view can split no record.
    """
    def apart() -> list[Encoders | loop.Diverged]:
        return one_by_one(lambda *own: pretrain(own[0], layout, method, settings, *own[1:]), shown, seeds, report,
                          checkpoint, every)

    if settings.width == 1 and len(seeds) > 1:  # a product of one column may round otherwise in another fleet
        return apart()
    device = find_device(settings.device)
    encoder, blocks = shape(layout, method, settings)
    tokens, times = layout.cut(shown["tokens"], shown["times"], blocks)
    members = len(tokens)
    if members != len(seeds):
        raise OutOfDomain(f"pretraining needs one seed a member: {len(seeds)} for {members}.")
    task = Task(method, encoder, settings)
    generators = [_generator(initial) for initial, _ in seeds]
    parameters = (encoder.initialise(generators) | task.predictor.initialise(generators)
                  | task.terms.parameters(members))
    parameters = {k: v.to(device) for k, v in parameters.items()}
    order = [_generator(s) for _, s in seeds]
    source = Draws(task, torch.as_tensor(tokens), torch.as_tensor(times), order, device)
    if source.uneven:
        return apart()
    job = loop.Job(
        parameters,
        loss=task.loss,
        batch=source.batch,
        steps=settings.steps,
        optimiser=loop.Optimiser(settings.learning_rate, settings.weight_decay),
        generators=order,
        name="/".join((*method.recipe, settings.token_encoder, str(settings.width))),
        identity=lambda: identity(dict(shown), settings, seeds),
    )
    if method.target == "ema":
        job.state = {k: v.detach().clone() for k, v in parameters.items() if k.startswith("encoder.")}
        online = {k: parameters[k] for k in job.state}
        job.after_step = lambda step: ema.update(job.state, online, ema.momentum(step, job.steps))
    task.state = job.state
    probe = source.probe()
    job.observe = lambda step: task.observe(parameters, probe)
    curve = loop.train(job, report, checkpoint, every)
    final = {k: v.cpu() for k, v in (job.state or job.parameters).items() if k.startswith("encoder.")}
    made: list[Encoders | loop.Diverged] = []
    for m in range(members):
        own = tuple({k: v[m if len(v) > 1 else 0] for k, v in point.items()} for point in curve)
        lost = own and not math.isfinite(own[-1]["loss"])
        made.append(loop.diverged(job.name, int(own[-1]["step"])) if lost
                    else wrap(fleet.member(final, m), layout, method, settings, own))
    return made


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

    def pair(self, parameters: fleet.Parameters, draw: Draw) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Prediction and goal, (members, rows, _) each, and the embeddings that a spread acts on."""
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
            shown = draw.target if alone or self.settings.goal == "target" else batch.seen
            whole = self.encoder.encode(own, batch, shown)
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

    @staticmethod
    def _rows(z: Tensor, slots: Tensor) -> Tensor:
        """The slots' tokens of every record, as rows."""
        return z.gather(2, slots[..., None].expand(-1, -1, -1, z.shape[3])).flatten(1, 2)

    def _roles(self, kept: Tensor) -> Tensor:
        """Which roles a context holds, as a number below 4."""
        role = self.places.role.to(kept.device)
        return (kept & (role == 0)).any(dim=2).long() + 2 * (kept & (role == 1)).any(dim=2).long()

    @torch.no_grad()
    def observe(self, parameters: fleet.Parameters, draw: Draw) -> objective.Parts:
        """Skill (of all rows, and by the role that is predicted), each role's spectrum, how far the EMA lags."""
        prediction, goal, _ = self.pair(parameters, draw)
        scale = parameters.get("scale")
        found = {"skill": self.terms.skill(prediction, goal, scale)}
        if self.method.predictor != "none":
            role = self.places.role.to(goal.device)[draw.slots].flatten(1)
            for i, name in enumerate(ROLES):
                rows = [role[m] == i for m in range(len(role))]
                if all(int(r.sum()) > 1 for r in rows):
                    found[f"skill-{name}"] = torch.cat([
                        self.terms.skill(prediction[m : m + 1, r], goal[m : m + 1, r],
                                         None if scale is None else scale[m : m + 1]) for m, r in enumerate(rows)])
        shown = self.encoder.encode(self.state or parameters, draw.tokens, draw.tokens.seen)
        for role_name, z in readout(shown, draw.tokens, self.encoder.layout, self.settings.readout).items():
            found |= {f"{name}-{role_name}": value for name, value in spectrum.summary(z).items()}
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
        self.view = views.VIEWS[task.method.view]
        self.tokens, self.times = tokens.to(device), times.to(device)
        self.seen = seen_tokens(tokens, times, layout, settings.missing)
        whole = [views.eligible(self.view, one, task.places) for one in self.seen]
        self.rows = [torch.nonzero(one)[:, 0] for one in whole]
        if min(len(r) for r in self.rows) < 2:
            raise OutOfDomain(
                f"view {task.method.view!r} can split fewer than two of the records: it needs "
                f"{NEEDS[task.method.view]}; choose another view or another cohort."
            )
        self.size = min(settings.batch, *(len(r) for r in self.rows))
        # Few records: a fleet of one size would give a member the batches of the one that has fewest.
        self.uneven = len({min(len(r), max(settings.batch, PROBE)) for r in self.rows}) > 1

    def batch(self, step: int) -> Draw:
        """Records with replacement, their split, slots and slices."""
        picked = [own[torch.randint(len(own), (self.size,), generator=g)]
                  for own, g in zip(self.rows, self.order, strict=True)]
        return self._draw(picked, self.order)

    def probe(self) -> Draw:
        """The first records, split once and for all: what diagnostics follow. Draws nothing from the order."""
        size = min(PROBE, *(len(r) for r in self.rows))
        return self._draw([own[:size] for own in self.rows], [_generator(0) for _ in self.order])

    def _draw(self, picked: Sequence[Tensor], generators: Sequence[torch.Generator]) -> Draw:
        task = self.task
        parts: list[list[Tensor]] = []
        for m, (rows, g) in enumerate(zip(picked, generators, strict=True)):
            context, target = self.view(self.seen[m, rows], task.places, g, task.settings.masked)
            parts.append([context, target, views.slots(target, task.rows, g)])
        context, target, slots = (torch.stack(x).to(self.device) for x in zip(*parts, strict=True))
        slices = None
        if task.terms.sliced:
            slices = torch.stack([sigreg.directions(task.settings.width, sigreg.SLICES, g) for g in generators])
            slices = slices.to(self.device)
        at = torch.stack(list(picked)).to(self.device)
        every = torch.arange(len(at), device=self.device)[:, None]
        drawn = batch_of(self.tokens[every, at], self.times[every, at], task.encoder.layout, task.settings.missing)
        return Draw(drawn, context, target, slots, slices)


NEEDS = {
    "cross-modal": "both roles in a record",
    "visit": "two visits in a record",
    "token": "two tokens in a record",
    "coordinate": "two blocks of coordinates (setting coordinates above 1)",
    "both": "two visits or both roles in a record",
    "next-step": "two visits in a record",
}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
