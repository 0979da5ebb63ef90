"""One trajectory training as a job of the loop: stages, draws, targets, and what is watched at each stage's end."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional

from simlab.evaluation import spectrum
from simlab.models.hour_encoder import HourEncoder, Latents, Prepared, take
from simlab.models.trajectory import Predictor
from simlab.models.windows import Windows
from simlab.objectives import ema, sigreg
from simlab.training import loop, trajectory_loss
from simlab.training.curricula import Curriculum, Stage
from simlab.training.trajectory_settings import Settings

CPU = torch.device("cpu")
PROBE = 64  # validation windows that are watched
CHUNK = 256  # windows that are encoded at a time
METRICS = ("validation", "z_std", "norm", "rank", "gap")
NETWORKS = {"phase0": ("warm",), "predict": ("predictor",), "masked": ("masked",)}  # beside the encoder, by objective


@dataclass(frozen=True)
class Spans(loop.Optimiser):
    """The optimiser's schedule begun anew in each of these spans of steps."""

    spans: tuple[tuple[int, int], ...] = ()

    def rate(self, step: int, steps: int) -> float:
        first, end = next((s for s in self.spans if s[0] <= step < s[1]), (0, steps))
        return super().rate(step - first, end - first)


@dataclass(frozen=True)
class Draw:
    """A step's windows, where their roll-outs start, the hours that are masked, SIGReg's slices."""

    rows: Int[Tensor, "n"]
    hours: int
    length: Int[Tensor, "n"]
    at: trajectory_loss.Reach
    mask: Bool[Tensor, "n hours"] | None = None
    slices: Tensor | None = None

    def to(self, device: torch.device) -> Draw:
        """The same on this device."""
        drawn = {f.name: getattr(self, f.name) for f in fields(self)}
        return Draw(**{name: x if x is None or name == "hours" else x.to(device) for name, x in drawn.items()})


class Run:
    """What a training holds; `job` is it as the loop takes it. Tensors of `parameters` have a leading axis of one.

    Networks, windows and what a step reads lie on `device`; all that is random is drawn on the CPU and moved, so that
    every device sees the same numbers, and lengths are at hand there too: they tell how many hours a step has.
    """

    def __init__(
        self, encoder: HourEncoder, model: Predictor, curriculum: Curriculum, settings: Settings, seed: int,
        windows: Windows, validation: Windows, device: torch.device = CPU,
    ) -> None:
        self.device = device
        self.encoder, self.model, self.curriculum, self.settings = encoder, model, curriculum, settings
        self.spans = curriculum.spans(settings.steps)
        self.steps = self.spans[-1][1]
        self.data = moved(encoder.prepare(windows), device)
        self.length = torch.as_tensor(windows.length)
        self.probe = validation.take(np.arange(min(PROBE, len(validation))))
        self.watched = moved(encoder.prepare(self.probe), device)
        self.parameters = moved(stacked(self._initial(seed)), device)
        self.target = {k: v.clone() for k, v in self.parameters.items() if k.startswith("encoder.")}
        self.kept: dict[str, tuple[int, Latents]] = {}
        following = sum(end - first for s, (first, end) in self._staged() if s.ema)
        self.tau = settings.tau if settings.tau is not None else ema.momentum(0, following)
        self.found = torch.full((1, len(curriculum.stages), len(METRICS)), torch.nan)
        self.noise = generator(seed, "noise")
        self.draws = [generator(seed, f"draws of {s.name}") for s in curriculum.stages]
        ratio = settings.rate_encoder / settings.rate_predictor
        self.job = loop.Job(
            self.parameters, self.loss, self.draw, self.steps, self._optimiser(), self.after, self.observe,
            state={f"target.{k}": v for k, v in self.target.items()} | {"diagnostics": self.found},
            generators=[*self.draws, self.noise], name=f"trajectory/{curriculum.name}", held=self.held,
            rates={"encoder.": ratio, "predictor.": 1.0, "masked.": 1.0, "warm.": 1.0},
            identity=lambda: identity(curriculum, settings, seed, windows),
        )

    def _staged(self) -> list[tuple[Stage, tuple[int, int]]]:
        return list(zip(self.curriculum.stages, self.spans, strict=True))

    def _initial(self, seed: int) -> dict[str, Tensor]:
        """Every network from a generator of its own, so that curricula start alike."""
        used = {s.objective for s, (first, end) in self._staged() if end > first}
        made = self.encoder.initialise(generator(seed, "encoder")) | self.model.initialise(generator(seed, "predictor"))
        if "phase0" in used:
            made |= self.encoder.head(generator(seed, "warm"))
        if "masked" in used:
            made |= self.model.initialise(generator(seed, "masked"), "masked")
            made["masked.mask"] = 0.02 * torch.randn(self.model.inner, generator=generator(seed, "mask"))
        return made

    def _optimiser(self) -> Spans:
        s = self.settings
        spans = [span for stage, span in self._staged() if s.schedule == "stage" or stage.objective == "phase0"]
        if s.schedule == "joint":
            rest = [span for stage, span in self._staged() if stage.objective != "phase0"]
            spans += [(rest[0][0], rest[-1][1])] if rest else []
        return Spans(s.rate_predictor, s.weight_decay, s.warm_up, clip=s.clip, spans=tuple(spans))

    def place(self, step: int) -> int:
        """The stage of this step, by its number."""
        return next(i for i, (first, end) in enumerate(self.spans) if first <= step < end)

    def held(self, step: int) -> tuple[str, ...]:
        stage = self.curriculum.stages[self.place(step)]
        moving = [] if stage.objective == "predict" and not stage.train_predictor else [*NETWORKS[stage.objective]]
        moving += ["encoder"] if stage.train_encoder else []
        return tuple(name for name in self.parameters if name.split(".")[0] not in moving)

    def draw(self, step: int) -> Draw:
        """Windows with replacement, and all else that is random in the step, from the stage's generator."""
        if step == 0:
            self._enter(0)
        place, s = self.place(step), self.settings
        stage, own_ = self.curriculum.stages[place], self.draws[place]
        rows = torch.randint(len(self.length), (min(s.batch, len(self.length)),), generator=own_)
        length = self.length[rows]
        hours = int(length.max())
        at = trajectory_loss.reach(length, s.horizon, s.per_sample_k, own_)
        mask = trajectory_loss.hidden(length, hours, s.masked, own_) if stage.objective == "masked" else None
        slices = None
        if self.curriculum.regulariser == "sigreg" and stage.train_encoder:
            slices = sigreg.directions(self.encoder.width, sigreg.SLICES, self.noise)
        return Draw(rows, hours, length, at, mask, slices).to(self.device)

    def loss(self, parameters: Mapping[str, Tensor], batch: Draw, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        place, p = self.place(step), own(parameters)
        stage = self.curriculum.stages[place]
        parts = {"stage": torch.tensor(float(place))}
        if stage.objective == "phase0":
            value = self.encoder.warm(p, take(self.data, batch.rows, batch.hours), batch.length)
        else:
            z, goal = self._read(p, stage, place, batch)
            if stage.objective == "masked":
                value = trajectory_loss.masked(self.model, p, z, goal, batch.length, batch.mask,
                                               self.settings.reduction)
            else:
                noise = self.noise if self.settings.dropout or self.settings.attention_dropout else None
                value, more = trajectory_loss.predict(self.model, p, z, goal.state, batch.length, stage.rollout,
                                                      batch.at, self.settings.reduction, noise)
                parts |= more
            if stage.train_encoder and self.curriculum.regulariser != "none":
                apart = trajectory_loss.spread(z.state, batch.length, self.curriculum.regulariser, batch.slices)
                scale = self.encoder.width if self.settings.reduction == "sum" else 1.0
                value = value + self.settings.regulariser_weight * scale * apart
                parts["regulariser"] = apart.detach()
        return value[None], {name: x[None] for name, x in parts.items()}

    def _read(self, p: Mapping[str, Tensor], stage: Stage, place: int, batch: Draw) -> tuple[Latents, Latents]:
        """What the step reads and what it predicts; from what is kept, where the encoder stands still."""
        target = own(self.target)
        if stage.train_encoder:
            z = self._encode(p, batch)
        elif stage.ema and stage.context == "ema":  # it is read while it follows: nothing to keep
            with torch.no_grad():
                z = self._encode(target, batch)
        else:
            z = self._still(stage.context, p if stage.context == "online" else target, place, batch)
        if stage.target == "gradient":
            return z, z
        if stage.target == "online":
            same = stage.context == "online"
            return z, Latents(*(x.detach() for x in z)) if same else self._still("online", p, place, batch)
        with torch.no_grad():
            goal = self._encode(target, batch) if stage.ema else self._still("ema", target, place, batch)
        return z, goal

    def _still(self, which: str, p: Mapping[str, Tensor], place: int, batch: Draw) -> Latents:
        """Latents by an encoder that does not move in this stage: computed once, if they fit in `cache` bytes."""
        n, hours = len(self.length), int(self.length.max())
        with torch.no_grad():
            if 8 * n * hours * self.encoder.width > self.settings.cache:
                return self._encode(p, batch)
            if self.kept.get(which, (-1,))[0] != place:
                length = self.length.to(self.device)
                self.kept[which] = (place, encoded(self.encoder, p, self.data, length, self.settings, self._blind))
        state, action, static = self.kept[which][1]
        return Latents(state[batch.rows][:, : batch.hours], action[batch.rows][:, : batch.hours], static[batch.rows])

    @property
    def _blind(self) -> bool:
        return self.curriculum.actions == "zero"

    def _encode(self, p: Mapping[str, Tensor], batch: Draw) -> Latents:
        z = self.encoder.encode(p, take(self.data, batch.rows, batch.hours))
        return finished(z, batch.length, self.settings, self._blind)

    @torch.no_grad()
    def after(self, step: int) -> None:
        """The target follows; at a stage's end it is looked at, and the next one is entered."""
        place = self.place(step)
        if self.curriculum.stages[place].ema:
            ema.update(self.target, {k: self.parameters[k] for k in self.target}, self.tau)
        if step + 1 == self.spans[place][1]:
            self.found[0, place] = torch.tensor([float(v) for v in self.look(place).values()])
            for following in range(place + 1, len(self.spans)):
                self._enter(following)
                if self.spans[following][1] > step + 1:
                    break

    @torch.no_grad()
    def _enter(self, place: int) -> None:
        """A sync that is asked for; and the target starts as a copy of the online encoder where it is first used."""
        stages = self.curriculum.stages
        uses = [s.ema or s.target == "ema" or s.context == "ema" for s in stages]
        if stages[place].on_enter == "hard_sync" or (uses[place] and not any(uses[:place])):
            for name, x in self.target.items():
                x.copy_(self.parameters[name])

    def observe(self, step: int) -> dict[str, Tensor]:
        return {name: torch.tensor([float(v)]) for name, v in self.look(self.place(step)).items()}

    @torch.no_grad()
    def look(self, place: int) -> dict[str, float]:
        """METRICS on the first validation windows."""
        stage, s = self.curriculum.stages[place], self.settings
        p, target = own(self.parameters), own(self.target)
        drawn = torch.as_tensor(self.probe.length)
        length = drawn.to(self.device)
        z, lagging = (encoded(self.encoder, q, self.watched, length, s, self._blind) for q in (p, target))
        if stage.objective == "phase0":
            value = self.encoder.warm(p, self.watched, length)
        elif stage.objective == "masked":
            mask = trajectory_loss.hidden(drawn, z.state.shape[1], s.masked, generator(0, "watched mask"))
            value = trajectory_loss.masked(self.model, p, z, lagging, length, mask.to(self.device), s.reduction)
        else:
            read = z if stage.context == "online" else lagging
            made = self.model.predict(p, read.state[:, :-1], read.action[:, :-1], read.static)[0]
            goal = lagging if stage.target == "ema" else z
            value = trajectory_loss.teacher_forced(made, goal.state, length, s.reduction)
        there = torch.arange(z.state.shape[1], device=self.device) < length[:, None]
        rows = z.state[there].cpu().double().numpy()
        if not np.isfinite(rows).all():  # diverged, as the curve's next point tells
            return dict.fromkeys(METRICS, math.nan)
        apart = sum(float((p[k] - target[k]).double().square().sum()) for k in target)
        return {"validation": float(value), "z_std": float(rows.std(axis=0).mean()),
                "norm": float(np.linalg.norm(rows, axis=1).mean()),
                "rank": float(spectrum.effective_rank(spectrum.eigenvalues(rows))), "gap": apart**0.5}

    def rows(self) -> tuple[dict[str, object], ...]:
        """The diagnostics, one row a stage that had steps."""
        return tuple({"stage": stage.name, "steps": end - first} | dict(zip(METRICS, row, strict=True))
                     for (stage, (first, end)), row in zip(self._staged(), self.found[0].tolist(), strict=True)
                     if end > first)


def encoded(
    encoder: HourEncoder, parameters: Mapping[str, Tensor], prepared: Prepared, length: Int[Tensor, "n"],
    settings: Settings, blind: bool,
) -> Latents:
    """The finished latents of all these windows, some at a time, without gradient: made where the parameters lie, and
    kept where `length` does."""
    hours, parts, device = int(length.max()), [], next(iter(parameters.values())).device
    prepared = {name: x.to(device) if name.startswith("table/") else x for name, x in prepared.items()}
    with torch.no_grad():
        for rows in torch.arange(len(length), device=length.device).split(CHUNK):
            z = encoder.encode(parameters, moved(take(prepared, rows, hours), device))
            made = finished(z, length[rows].to(device), settings, blind)
            parts.append(tuple(x.to(length.device) for x in made))
    return Latents(*(torch.cat(x) for x in zip(*parts, strict=True)))


def finished(z: Latents, length: Int[Tensor, "n"], settings: Settings, blind: bool) -> Latents:
    """LayerNorm where it is asked for, zeros beyond each window's length, and no actions where they are hidden."""
    if settings.latent_norm == "layernorm":
        z = Latents(*(functional.layer_norm(x, x.shape[-1:]) for x in z))
    there = (torch.arange(z.state.shape[1], device=length.device) < length[:, None])[..., None]
    return Latents(z.state * there, torch.zeros_like(z.action) if blind else z.action * there, z.static)


def predictor(settings: Settings, width: int) -> Predictor:
    """The predictor of latents of this width."""
    return Predictor(width, settings.inner, settings.depth, settings.heads, settings.inside, settings.max_hours,
                     settings.mode, settings.dropout, settings.attention_dropout, settings.latent_norm == "layernorm")


def moved(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """These tensors on this device."""
    return {name: x.to(device) for name, x in tensors.items()}


def own(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the leading axis of one."""
    return {name: x[0] for name, x in parameters.items()}


def stacked(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With a leading axis of one, as the loop takes them."""
    return {name: x[None].clone() for name, x in parameters.items()}


def generator(seed: int, words: str) -> torch.Generator:
    """A generator of its own for this purpose of this seed."""
    entropy = np.random.SeedSequence([seed, zlib.crc32(words.encode())])
    return torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def identity(curriculum: Curriculum, settings: Settings, seed: int, windows: Windows) -> dict[str, str]:
    """What a checkpoint must agree with."""
    digest = hashlib.sha256()
    for f in fields(windows):
        if f.name not in ("presentation", "record", "subject"):
            digest.update(np.ascontiguousarray(getattr(windows, f.name)).data)
    return {**{k: str(v) for k, v in asdict(settings).items()}, "curriculum": str(curriculum), "seed": str(seed),
            "data": digest.hexdigest()}
