"""Training of a trajectory backbone (an encoder of hours, a latent predictor) through a curriculum, in the one loop.

    backbone = train(windows(training), windows(validation, fitted), find("clin-jepa"), Settings(), seed=0)
    z = backbone.encode(test);  backbone.rollout(z, context=24, horizons=24)

One optimiser with two groups and one cosine runs through all stages but phase 0, which has its own (docs/methods/
clin-jepa.md). Stages are functions of the step's number alone, draws come from a generator a stage, and what a frozen
encoder says is computed once a stage: a run that is killed and resumed gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
from simlab.training.trajectory_loss import REDUCTIONS
from simlab.training.trajectory_run import Run, encoded, own, stacked

__all__ = ["CURRICULA", "Backbone", "Curriculum", "Latents", "Settings", "Stage", "find", "train"]

ENCODERS = ("tabular", "text", "llm")
ACTIONS = ("true", "zero", "shuffled", "held")
CHUNK = 256  # windows at a time, outside training


@dataclass(frozen=True)
class Settings:
    """How a backbone is built and trained. What the paper has, where it is known, stands in brackets."""

    encoder: str = "tabular"  # "tabular" | "text" | "llm"
    width: int = 32  # of latents [4096]
    hidden: int = 64  # of the tabular encoder's two layers
    encoder_depth: int = 2  # blocks of the text encoder
    clock: bool = True  # hours tell which of the stay they are [yes, in the text]
    inner: int = 32  # of the predictor [1024]
    depth: int = 2  # [6]
    heads: int = 2  # [8]
    inside: int = 128  # of its MLPs [4096]
    max_hours: int = 72  # [72]
    mode: str = "absolute"  # [absolute] | "residual"
    dropout: float = 0.0  # of the predictor [.15]
    attention_dropout: float = 0.0  # [.10]
    latent_norm: str = "none"  # [none] | "layernorm", of latents and predictions
    steps: int = 600  # that shares of stages are of
    batch: int = 16
    rate_encoder: float = 1e-3
    rate_predictor: float = 2e-3
    weight_decay: float = 1e-4
    warm_up: float = 0.1  # share of a schedule
    clip: float = 1.0  # of the encoder's gradient, and of the predictor's
    schedule: str = "joint"  # [joint]: one cosine over all but phase 0 | "stage": one each
    tau: float | None = None  # of the EMA [.996]; None: its memory is a twentieth of the steps that have it
    reduction: str = "mean"  # of L1 over features ["sum"]
    horizon: int = 2  # H of the roll-out [2]
    per_sample_k: bool = False  # a start of the roll-out for each window [one a batch]
    masked: float = 0.4  # share of hours, masked refinement [.4]
    regulariser_weight: float = 1.0
    llm: str = "Qwen/Qwen3-8B"  # a name or folder that transformers knows
    lora_rank: int = 16  # [16 or 32: the documents contradict themselves]
    lora_alpha: float = 32.0  # [32]
    tokens: int = 4096  # of a text, at most [4096]
    cache: float = 2e9  # bytes of a frozen encoder's latents that are kept rather than computed anew

    def __post_init__(self) -> None:
        for name, allowed in (("encoder", ENCODERS), ("reduction", REDUCTIONS), ("schedule", ("joint", "stage")),
                              ("latent_norm", ("none", "layernorm"))):
            if getattr(self, name) not in allowed:
                raise OutOfDomain(f"{name} = {getattr(self, name)!r}; known: {', '.join(allowed)}.")
        if self.horizon < 1 or self.steps < 1 or self.batch < 1:
            raise OutOfDomain("horizon, steps and batch are at least 1.")
        if self.tau is not None and not 0 <= self.tau <= 1:
            raise OutOfDomain(f"tau = {self.tau}; expected a share between 0 and 1.")

    def predictor(self, width: int) -> Predictor:
        """The predictor for latents of this width."""
        return Predictor(width, self.inner, self.depth, self.heads, self.inside, self.max_hours, self.mode,
                         self.dropout, self.attention_dropout, self.latent_norm == "layernorm")


@dataclass(frozen=True, eq=False)
class Backbone:
    """A trained encoder and predictor, on the CPU. `curve`: about 25 points; `diagnostics`: one row a stage, at its end.

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

    @property
    def width(self) -> int:
        return self.encoder.width

    def encode(self, windows: Windows) -> Latents:
        """The latents of windows that were presented as the training's: state and action (n, hours, width), static
        (n, width), float32, zero beyond a window's length."""
        made = encoded(self.encoder, self.parameters, self.encoder.prepare(windows), torch.as_tensor(windows.length),
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
        parts = []
        with torch.no_grad():
            for at in range(0, len(given), CHUNK):
                state, action, static = (
                    torch.as_tensor(np.asarray(x[at : at + CHUNK])) for x in (latents.state, given, latents.static))
                parts.append(self._roll(state, action, static, context, horizons))
        return torch.cat(parts).numpy()

    def _roll(self, state: Tensor, action: Tensor, static: Tensor, context: int, horizons: int) -> Tensor:
        made, past = self.predictor.predict(self.parameters, state[:, :context], action[:, :context], static)
        found = [made[:, -1]]
        for hour in range(context, context + horizons - 1):
            now = torch.full((len(state),), hour)
            made, past = self.predictor.extend(self.parameters, found[-1], action[:, hour], now, past)
            found.append(made)
        return torch.stack(found, dim=1)


def train(
    windows: Windows,
    validation: Windows,
    curriculum: Curriculum | str,
    settings: Settings = Settings(),
    seed: int = 0,
    report: loop.Report | None = None,
    checkpoint: Path | None = None,
    every: int = 0,
    encoder: HourEncoder | None = None,
) -> Backbone:
    """One backbone. `validation`, presented as the training windows, is watched and never learnt from; `encoder`: one
    that was built elsewhere, in place of the settings'.

    Curricula of one seed start alike and draw the same batches in stages of the same name. Raises loop.Diverged,
    DamagedFile (checkpoint), InvalidCohort, OutOfDomain, MissingExtra.
    """
    curriculum = find(curriculum) if isinstance(curriculum, str) else curriculum
    if windows.hours > settings.max_hours:
        raise OutOfDomain(f"windows of {windows.hours} h: max_hours is {settings.max_hours}; cut them shorter.")
    if validation.presentation is not windows.presentation:
        raise InvalidCohort("validation windows were scaled otherwise than the training's: pass windows.presentation.")
    if not sum(s.length(settings.steps) for s in curriculum.stages):
        raise OutOfDomain(f"curriculum {curriculum.name} has no step at steps = {settings.steps}.")
    encoder = encoder or build(windows, settings)
    run = Run(encoder, settings.predictor(encoder.width), curriculum, settings, seed, windows, validation)
    curve = loop.train(run.job, report, checkpoint, every)
    online = own(run.parameters)
    used = online | (own(run.target) if curriculum.deploy == "ema" else {})
    kept = {name: x.detach().clone() for name, x in used.items() if name.split(".")[0] in ("encoder", "predictor")}
    points = tuple({k: v[0] for k, v in point.items()} for point in curve)
    return Backbone(encoder, run.model, kept, curriculum, settings, points, run.rows(), own(run.target))


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
