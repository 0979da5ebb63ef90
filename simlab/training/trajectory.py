"""Training of a trajectory backbone (an encoder of hours, a latent predictor) through a curriculum, in the one loop.

    backbone = train(windows(training), windows(validation, fitted), find("clin-jepa"), Settings(), seed=0)
    z = backbone.encode(test);  backbone.rollout(z, context=24, horizons=24)

One optimiser with two groups and one cosine runs through all stages but phase 0, which has its own (docs/methods/
clin-jepa.md). Stages are functions of the step's number alone, draws come from a generator a stage, and what a frozen
encoder says is computed once a stage: a run that is killed and resumed gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from simlab.errors import InvalidCohort, OutOfDomain
from simlab.models.hour_encoder import HourEncoder, Latents, Tabular
from simlab.models.trajectory import Predictor
from simlab.models.windows import Windows
from simlab.training import loop
from simlab.training.curricula import CURRICULA, Curriculum, Stage, find
from simlab.training.device import find as find_device
from simlab.training.trajectory_run import CPU, Run, encoded, moved, own, predictor
from simlab.training.trajectory_settings import Settings

__all__ = ["CURRICULA", "Backbone", "Curriculum", "Latents", "Settings", "Stage", "find", "train"]

ACTIONS = ("true", "zero", "shuffled", "held")
DEFAULT = Settings()
CHUNK = 256  # windows at a time, outside training


@dataclass(frozen=True, eq=False)
class Backbone:
    """A trained encoder and predictor, on the CPU; they encode and roll out on `device`, some windows at a time.

    `curve`: about 25 points; `diagnostics`: one row a stage, at its end.

    Of a diagnostics row: `validation` (the stage's own loss: spaces differ between stages), `z_std` (mean over features
    of the deviation over all hours that exist), `norm` (mean L2), `rank` (effective), `gap` (L2 between the parameters
    of the online and the target encoder).
    """

    encoder: HourEncoder
    predictor: Predictor
    parameters: dict[str, Tensor]
    curriculum: Curriculum
    settings: Settings
    curve: tuple[dict[str, float], ...] = ()
    diagnostics: tuple[dict[str, object], ...] = ()
    target: dict[str, Tensor] = field(default_factory=dict)
    device: str = "cpu"

    @property
    def width(self) -> int:
        return self.encoder.width

    def encode(self, windows: Windows) -> Latents:
        """The latents of windows that were presented as the training's: state and action (n, hours, width), static
        (n, width), float32, zero beyond a window's length."""
        device, length = find_device(self.device), torch.as_tensor(windows.length)
        with self.encoder.on(device):
            made = encoded(self.encoder, moved(self.parameters, device), self.encoder.prepare(windows), length,
                           self.settings, self.curriculum.actions == "zero")
        return Latents(*(x.numpy() for x in made))

    def rollout(
        self,
        latents: Latents,
        context: int,
        horizons: int,
        actions: str = "true",
        rng: np.random.Generator | None = None,
    ) -> Float[np.ndarray, "n horizons width"]:
        """Self-fed predictions of the latents of hours context, ..., context + horizons - 1 (counted from 0), given the
        true ones of hours 0 to context - 1.

        `actions` of the hours from `context` on: the true ones, zero latents, those of another window (`rng`; the hours
        that are not there count as zero), or the one of hour context - 1 held; so the first prediction is the same.
        Raises OutOfDomain.
        """
        hours = latents.action.shape[1]
        if not self.curriculum.predicts:
            raise OutOfDomain(f"curriculum {self.curriculum.name} trains no predictor: it cannot roll out.")
        if context < 1 or horizons < 1 or context + horizons - 1 > hours:
            raise OutOfDomain(f"a roll-out of {horizons} h after {context} h needs actions of {context + horizons - 1} "
                              f"h; these windows have {hours}.")
        given = _given(np.asarray(latents.action), context, actions, rng)
        parts, device = [], find_device(self.device)
        parameters = moved({k: x for k, x in self.parameters.items() if not k.startswith("encoder.")}, device)
        with torch.no_grad():
            for at in range(0, len(given), CHUNK):
                state, action, static = (
                    torch.as_tensor(np.asarray(x[at : at + CHUNK])).to(device)
                    for x in (latents.state, given, latents.static))
                parts.append(self._roll(parameters, state, action, static, context, horizons).cpu())
        return torch.cat(parts).numpy()

    def _roll(
        self, parameters: Mapping[str, Tensor], state: Tensor, action: Tensor, static: Tensor, context: int,
        horizons: int,
    ) -> Tensor:
        made, past = self.predictor.predict(parameters, state[:, :context], action[:, :context], static)
        found = [made[:, -1]]
        for hour in range(context, context + horizons - 1):
            now = torch.full((len(state),), hour, device=state.device)
            made, past = self.predictor.extend(parameters, found[-1], action[:, hour], now, past)
            found.append(made)
        return torch.stack(found, dim=1)


def train(
    windows: Windows,
    validation: Windows,
    curriculum: Curriculum | str,
    settings: Settings = DEFAULT,
    seed: int = 0,
    report: loop.Report | None = None,
    checkpoint: Path | None = None,
    every: int = 0,
    encoder: HourEncoder | None = None,
    device: str = "cpu",
) -> Backbone:
    """One backbone. `validation`, presented as the training windows, is watched and never learnt from; `encoder`: one
    that was built elsewhere, in place of the settings'; `device`: "cpu" or "cuda", where it is trained and where it
    encodes afterwards (a checkpoint that was made on one of them can be gone on from on the other).

    Curricula of one seed start alike and draw the same batches in stages of the same name. Raises loop.Diverged,
    DamagedFile (checkpoint), InvalidCohort, OutOfDomain, MissingExtra.
    """
    curriculum = find(curriculum) if isinstance(curriculum, str) else curriculum
    place = find_device(device)
    if windows.hours > settings.max_hours:
        raise OutOfDomain(f"windows of {windows.hours} h: max_hours is {settings.max_hours}; cut them shorter.")
    if validation.presentation is not windows.presentation:
        raise InvalidCohort("validation windows were scaled otherwise than the training's: pass windows.presentation.")
    if not sum(s.length(settings.steps) for s in curriculum.stages):
        raise OutOfDomain(f"curriculum {curriculum.name} has no step at steps = {settings.steps}.")
    encoder = encoder or build(windows, settings)
    run = Run(encoder, predictor(settings, encoder.width), curriculum, settings, seed, windows, validation, place)
    with encoder.on(place):
        curve = loop.train(run.job, report, checkpoint, every)
    target = moved(own(run.target), CPU)
    used = moved(own(run.parameters), CPU) | (target if curriculum.deploy == "ema" else {})
    kept = {name: x.detach().clone() for name, x in used.items() if name.split(".")[0] in ("encoder", "predictor")}
    points = tuple({k: v[0] for k, v in point.items()} for point in curve)
    return Backbone(encoder, run.model, kept, curriculum, settings, points, run.rows(), target, device)


def build(windows: Windows, settings: Settings) -> HourEncoder:
    """The encoder of the settings, for the channels of these (training) windows."""
    if settings.encoder == "text":
        from simlab.models import hour_words

        return hour_words.build(windows, settings.width, settings.encoder_depth, settings.clock)
    if settings.encoder == "llm":
        from simlab.models import hour_llm

        return hour_llm.load(settings.llm, settings.lora_rank, settings.lora_alpha, settings.tokens, settings.clock)
    return Tabular(windows.state.shape[2], windows.action.shape[2], windows.static.shape[1], settings.width,
                   settings.hidden, settings.clock)


def _given(
    action: Float[np.ndarray, "n hours width"], context: int, kind: str, rng: np.random.Generator | None
) -> Float[np.ndarray, "n hours width"]:
    """The actions that a roll-out is told."""
    if kind not in ACTIONS:
        raise OutOfDomain(f"actions = {kind!r}; known: {', '.join(ACTIONS)}.")
    if kind == "true":
        return action
    told = action.copy()
    if kind == "zero":
        told[:, context:] = 0
    elif kind == "held":
        told[:, context:] = action[:, context - 1 : context]
    elif rng is None:
        raise OutOfDomain("actions = 'shuffled' needs rng, a numpy generator.")
    else:
        told[:, context:] = action[rng.permutation(len(action)), context:]
    return told
