"""The one training loop. Pretraining, supervised training and fine-tuning all run here, as fleets.

A job gives parameters (stacked over members), a batch for a step and a loss per member; the loop optimises, clips per
member, reports, and saves so that `k` steps, a kill and a resume give the same bits as an uninterrupted run.
"""

from __future__ import annotations

import math
import os
import pickle
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from simlab.errors import DamagedFile, SimlabError
from simlab.models.fleet import Parameters
from simlab.training.device import keep_freed_memory

FORMAT = 3
POINTS = 25  # of a curve, about
Batch = object
Report = Callable[[int, dict[str, float]], None]


class Diverged(SimlabError):
    """A member's loss became infinite or not a number."""


@dataclass(frozen=True)
class Optimiser:
    """AdamW with a linear warm-up and a cosine decay; gradients are clipped by norm, for each member on its own."""

    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warm_up: float = 0.05  # share of the steps
    final: float = 0.0  # last learning rate as a share of the first
    clip: float = 10.0

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at `step` of `steps`."""
        warm = max(1, round(self.warm_up * steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        progress = (step - warm) / max(1, steps - warm)
        return self.learning_rate * (self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress)))


@dataclass
class Job:
    """What to optimise. `state` holds tensors that change but are not optimised (an EMA target); it is saved too.

    `held`: at a step, names that stay where they are (a phase of a curriculum). `at_most`: the largest value of a
    parameter, kept after each step. `rates`: by the start of a name, learning rates as shares of the optimiser's; each
    start's parameters are then clipped apart from the others', and while all of them are held the optimiser passes them
    over (no count, no moment moves).
    """

    parameters: Parameters
    loss: Callable[[Parameters, Batch, int], tuple[Tensor, dict[str, Tensor]]]  # -> (members,), parts (members,)
    batch: Callable[[int], Batch]
    steps: int
    optimiser: Optimiser = Optimiser()
    after_step: Callable[[int], None] = lambda step: None
    observe: Callable[[int], dict[str, Tensor]] = lambda step: {}  # (members,) each, at points of the curve
    state: Parameters = field(default_factory=dict)
    generators: Sequence[torch.Generator] = ()
    name: str = "training"
    held: Callable[[int], Collection[str]] = lambda step: ()
    at_most: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    identity: Callable[[], Mapping[str, str]] = dict  # what makes a run this one: a checkpoint that differs is refused


def train(
    job: Job, report: Report | None = None, checkpoint: Path | None = None, every: int = 0
) -> list[dict[str, list[float]]]:
    """Run the job to its last step, in place; returns the curve: about 25 points, each a list over members.

    With a `checkpoint` path the run resumes from it when it exists, and saves there each `every` steps and at the end.
    Raises Diverged when no member's loss is finite any more, DamagedFile for a checkpoint that cannot be read or is
    another run's (another job, identity or software).

    Each point holds the loss and, as "best-loss" and "best-step", the least loss so far and its step.
    """
    keep_freed_memory()
    leaves = [p.requires_grad_(True) for p in job.parameters.values()]
    # AdamW acts on one tensor a group, (members, its parameters): the same bits as on each, without its cost for each.
    groups = [_Group(job, names, rate) for names, rate in _grouped(job)]
    optimiser = torch.optim.AdamW(
        [{"params": [group.whole]} for group in groups],
        lr=job.optimiser.learning_rate, weight_decay=job.optimiser.weight_decay, foreach=True,
    )
    members = leaves[0].shape[:1]
    best = {"loss": leaves[0].new_full(members, math.inf), "step": leaves[0].new_zeros(members)}
    start, curve = _resume(job, optimiser, best, checkpoint)
    for group in groups:
        group.whole.copy_(_side_by_side([job.parameters[name].detach() for name in group.names]))
    stride = max(1, job.steps // POINTS)
    for step in range(start, job.steps):
        for own, group in zip(optimiser.param_groups, groups, strict=True):
            own["lr"] = job.optimiser.rate(step, job.steps) * group.rate
        losses, parts = job.loss(job.parameters, job.batch(step), step)
        losses.sum().backward()
        held = job.held(step)
        for group in groups:
            group.collect(job, held)
        optimiser.step()
        _hand_back(job, groups, held)
        job.after_step(step)
        _keep_best(best, losses.detach(), step)
        if step % stride == 0 or step + 1 == job.steps:
            found = {f"best-{k}": v for k, v in best.items()} | parts | job.observe(step)
            curve.append(_point(job.name, step, losses, found))
            if report:
                report(step + 1, {k: sum(v) / len(v) for k, v in curve[-1].items() if k != "step"})
        if checkpoint and ((every and (step + 1) % every == 0) or step + 1 == job.steps):
            _save(job, optimiser, best, checkpoint, step + 1, curve)
    for p in leaves:
        p.requires_grad_(False)
    return curve


def _side_by_side(parts: Sequence[Tensor]) -> Float[Tensor, "members parameters"]:
    return torch.cat([part.flatten(1) for part in parts], dim=1)


class _Group:
    """Parameters that are optimised as one tensor: their names, share of the learning rate, and views into it."""

    def __init__(self, job: Job, names: Sequence[str], rate: float) -> None:
        parts = [job.parameters[name].detach() for name in names]
        self.names, self.rate, self.whole = tuple(names), rate, _side_by_side(parts)
        cuts = self.whole.split([p[0].numel() for p in parts], dim=1)
        self.views = {name: cut.view_as(p) for name, cut, p in zip(names, cuts, parts, strict=True)}

    def collect(self, job: Job, held: Collection[str]) -> None:
        """The clipped gradient, zero for what is held; none for a group that is held whole beside others."""
        if job.rates and all(name in held for name in self.names):
            self.whole.grad = None
            return
        own = {name: job.parameters[name] for name in self.names}
        self.whole.grad = _side_by_side([
            torch.zeros_like(p) if p.grad is None or name in held else p.grad for name, p in own.items()])
        clip_members(self.whole.grad, job.optimiser.clip)


def _grouped(job: Job) -> list[tuple[list[str], float]]:
    """Names and share of the learning rate of each group; those that no start names form one at the full rate."""
    found = [([name for name in job.parameters if name.startswith(start)], rate) for start, rate in job.rates.items()]
    rest = [name for name in job.parameters if not name.startswith(tuple(job.rates))]
    return [(names, rate) for names, rate in [*found, (rest, 1.0)] if names]


@torch.no_grad()
def _hand_back(job: Job, groups: Sequence[_Group], held: Collection[str]) -> None:
    """After a step: the optimiser's numbers become the parameters', but of those that are held."""
    views = {name: view for group in groups for name, view in group.views.items()}
    for name, p in job.parameters.items():
        if name in held:
            views[name].copy_(p)
        if name in job.at_most:
            views[name].clamp_max_(job.at_most[name])
        p.grad = None
    torch._foreach_copy_(list(job.parameters.values()), [views[name] for name in job.parameters])


@torch.no_grad()
def clip_members(gradient: Float[Tensor, "members parameters"], limit: float) -> None:
    """In place: scale each member's gradient to at most this norm, whatever the other members do."""
    # One dot product a member: a sum over a whole fleet's rows is ordered otherwise for one row than for several.
    norms = torch.stack([torch.dot(row, row) for row in gradient]).sqrt()
    gradient.mul_((limit / norms.clamp_min(1e-12)).clamp_max(1.0)[:, None])


def _point(name: str, step: int, losses: Tensor, parts: dict[str, Tensor]) -> dict[str, list[float]]:
    """One point of the curve. A member that diverged stays as it is (the others do not feel it); all of them: raise."""
    if not torch.isfinite(losses).any():
        raise diverged(name, step)
    return {"step": [float(step)], "loss": losses.tolist(), **{k: v.tolist() for k, v in parts.items()}}


def diverged(name: str, step: int) -> Diverged:
    """The error of a run whose loss is infinite or not a number."""
    return Diverged(f"{name} diverged by step {step}: its loss is not a number; lower train.learning_rate.")


def _keep_best(best: Parameters, losses: Tensor, step: int) -> None:
    """In place: each member's least loss so far and its step; a loss that is not a number is never the least."""
    losses = losses.to(best["loss"])
    better = losses < best["loss"]
    best["loss"] = torch.where(better, losses, best["loss"])
    best["step"] = torch.where(better, float(step), best["step"])


def _identity(job: Job) -> dict[str, str]:
    return {"job": job.name, "steps": str(job.steps), "torch": str(torch.__version__), **job.identity()}


def _save(
    job: Job,
    optimiser: torch.optim.Optimizer,
    best: Parameters,
    path: Path,
    step: int,
    curve: list[dict[str, list[float]]],
) -> None:
    content = {
        "format": FORMAT,
        "identity": _identity(job),
        "step": step,
        "curve": curve,
        "parameters": {k: v.detach() for k, v in job.parameters.items()},
        "state": dict(job.state),
        "best": dict(best),
        "optimiser": optimiser.state_dict(),
        "generators": [g.get_state() for g in job.generators],
    }
    aside = path.with_name(path.name + ".part")
    with aside.open("wb") as file:
        torch.save(_on_cpu(content), file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _on_cpu(content: Any) -> Any:
    """The same with every tensor on the CPU: a machine without the device that it was made on can read it."""
    if isinstance(content, Tensor):
        return content.cpu()
    if isinstance(content, dict):
        return {key: _on_cpu(value) for key, value in content.items()}
    return [_on_cpu(value) for value in content] if isinstance(content, list) else content


def _resume(
    job: Job, optimiser: torch.optim.Optimizer, best: Parameters, path: Path | None
) -> tuple[int, list[dict[str, list[float]]]]:
    if path is None or not path.exists():
        return 0, []
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise DamagedFile(
            f"checkpoint {path} cannot be read ({type(error).__name__}); delete it to start again."
        ) from error
    _check(job, best, saved, path)
    with torch.no_grad():
        for current, stored in ((job.parameters, saved["parameters"]), (job.state, saved["state"])):
            for key, value in current.items():
                value.copy_(stored[key])
    best.update({k: v.to(best[k].device) for k, v in saved["best"].items()})
    optimiser.load_state_dict(saved["optimiser"])
    for generator, value in zip(job.generators, saved["generators"], strict=True):
        generator.set_state(value)
    return saved["step"], saved["curve"]


def _check(job: Job, best: Parameters, saved: object, path: Path) -> None:
    """Refuse what is no checkpoint of this run, naming the first thing that differs."""
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise DamagedFile(f"{path} is no checkpoint of this version (format {FORMAT}); delete it to start again.")
    there, here = saved.get("identity", {}), _identity(job)
    for key in [*here, *there]:
        if there.get(key) != here.get(key):
            raise DamagedFile(
                f"checkpoint {path} belongs to another run: {key} is {there.get(key)} there and {here.get(key)} here; "
                "delete or move it."
            )
    for part, current in (("parameters", job.parameters), ("state", job.state), ("best", best)):
        stored = saved.get(part, {})
        if {k: v.shape for k, v in stored.items()} != {k: v.shape for k, v in current.items()}:
            raise DamagedFile(f"checkpoint {path} holds other {part} than {job.name}; delete or move it.")
