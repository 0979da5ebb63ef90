"""Curricula of trajectory training: what is trained in which stage, as data. Imports no array module.

A stage is a stretch of the steps; a curriculum is a tuple of stages and what holds for all of them; an ablation is an
edit of either. The five phases, their targets and rollouts are those of Clin-JEPA's released code (facts in
docs/methods/clin-jepa.md); how many steps each has is not published, so the shares are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from simlab.errors import OutOfDomain, unknown

OBJECTIVES = ("phase0", "predict", "masked")
ENCODERS = ("online", "ema")
TARGETS = ("online", "ema", "gradient")
ROLLOUTS = ("native", "teacher_forced", "none")
ON_ENTER = ("none", "hard_sync")
REGULARISERS = ("none", "vicreg", "sigreg")
ACTIONS = ("true", "zero")


@dataclass(frozen=True)
class Stage:
    """A stretch of a curriculum.

    `share` of the setting `steps`, or `steps`, a number of its own (0 of either: the stage is passed over, but what
    happens `on_enter` happens). `objective`: "phase0" (the encoder's warm start: next hour, next token), "predict" (the
    next hour's latent) or "masked" (latents of hours that are masked, by a decoder that is discarded).
    `ema`: whether the target encoder follows the online one after each step. `target`: whose latents are predicted:
    "online" or "ema", both without gradient, or "gradient" (online, with it). `context`: whose latents are read.
    `rollout`: the second term's inputs: its own predictions, the true latents, or no such term. `on_enter`:
    "hard_sync" copies the online encoder into the target.
    """

    name: str
    share: float = 0.0
    steps: int | None = None
    train_encoder: bool = False
    train_predictor: bool = True
    ema: bool = False
    target: str = "online"
    rollout: str = "native"
    objective: str = "predict"
    on_enter: str = "none"
    context: str = "online"

    def __post_init__(self) -> None:
        for axis, allowed in (("objective", OBJECTIVES), ("target", TARGETS), ("rollout", ROLLOUTS),
                              ("on_enter", ON_ENTER), ("context", ENCODERS)):
            if getattr(self, axis) not in allowed:
                raise OutOfDomain(f"stage {self.name}: {axis} = {getattr(self, axis)!r}; known: {', '.join(allowed)}.")
        if self.share < 0 or (self.steps is not None and self.steps < 0):
            raise OutOfDomain(f"stage {self.name}: share and steps are not negative.")
        if self.train_encoder and self.context == "ema":
            raise OutOfDomain(f"stage {self.name}: an encoder that is trained is the online one; context = 'online'.")

    def length(self, steps: int) -> int:
        """Its steps, where the setting says `steps`."""
        return round(self.share * steps) if self.steps is None else self.steps


@dataclass(frozen=True)
class Curriculum:
    """Stages, one after the other, and what holds for all of them.

    `regulariser`: what keeps the latents of states apart while the encoder trains on "predict" or "masked". `deploy`:
    the encoder that is used in the end. `actions`: "zero" hides them, in training and afterwards.
    """

    name: str
    meaning: str
    stages: tuple[Stage, ...]
    regulariser: str = "none"
    deploy: str = "online"
    actions: str = "true"

    def __post_init__(self) -> None:
        for axis, allowed in (("regulariser", REGULARISERS), ("deploy", ENCODERS), ("actions", ACTIONS)):
            if getattr(self, axis) not in allowed:
                raise OutOfDomain(f"curriculum {self.name}: {axis} = {getattr(self, axis)!r}; "
                                  f"known: {', '.join(allowed)}.")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise OutOfDomain(f"curriculum {self.name}: stages {', '.join(names)}; expected names that differ.")

    @property
    def predicts(self) -> bool:
        """Whether a predictor is trained, so that it can roll out."""
        return any(s.objective == "predict" and s.train_predictor and s.length(10**6) for s in self.stages)

    def without(self, *names: str) -> Curriculum:
        """Without these stages; the others keep their steps. Raises UnknownName."""
        self._check(names)
        return replace(self, stages=tuple(s for s in self.stages if s.name not in names))

    def edit(self, stages: Mapping[str, Mapping[str, object]], **whole: object) -> Curriculum:
        """With fields of some stages replaced (by name), and fields of its own. Raises UnknownName."""
        self._check(stages)
        edited = tuple(replace(s, **stages.get(s.name, {})) for s in self.stages)  # type: ignore[arg-type]
        return replace(self, stages=edited, **whole)  # type: ignore[arg-type]

    def lengthened(self, total: float) -> Curriculum:
        """Shares stretched to add up to `total`: as much training as a curriculum that has more stages."""
        have = sum(s.share for s in self.stages)
        return replace(self, stages=tuple(replace(s, share=s.share * total / have) for s in self.stages))

    def spans(self, steps: int) -> tuple[tuple[int, int], ...]:
        """First step and end of every stage."""
        found, start = [], 0
        for stage in self.stages:
            found.append((start, start + stage.length(steps)))
            start = found[-1][1]
        return tuple(found)

    def _check(self, names: object) -> None:
        known = [s.name for s in self.stages]
        for name in names:  # type: ignore[attr-defined]
            if name not in known:
                raise unknown("stage", name, known, f"curriculum {self.name} has no such stage.")


PHASE0 = Stage("phase0", 0.3, train_encoder=True, train_predictor=False, rollout="none", objective="phase0")
FIVE = (
    Stage("warm-up", 0.15),
    Stage("joint", 0.45, train_encoder=True, ema=True, target="ema", rollout="teacher_forced"),
    Stage("alignment", 0.15, ema=True, target="ema", rollout="teacher_forced"),
    Stage("finalisation", 0.25, on_enter="hard_sync"),
)
MASKED = Stage("masked", 0.45, train_encoder=True, train_predictor=False, ema=True, target="ema", rollout="none",
               objective="masked")
ALONE = Stage("predictor", 0.55)  # a predictor on an encoder that is frozen

_WHOLE = Curriculum("clin-jepa", "phase 0, then the five phases", (PHASE0, *FIVE))


def _edited(name: str, meaning: str, stages: Mapping[str, Mapping[str, object]], **whole: object) -> Curriculum:
    return replace(_WHOLE.edit(stages, **whole), name=name, meaning=meaning)


def _without(name: str, meaning: str, *stages: str) -> Curriculum:
    return replace(_WHOLE.without(*stages), name=name, meaning=meaning)


_LAGGING = {"finalisation": {"on_enter": "none", "context": "ema", "target": "ema"}}
_NO_EMA = {"joint": {"ema": False, "target": "gradient"}, "finalisation": {"on_enter": "none"}}

_ALL = (
    _WHOLE,
    _without("no-phase0", "the five phases from a random encoder", "phase0"),
    _without("no-warmup", "no predictor warm-up", "warm-up"),
    replace(_WHOLE.without("alignment").edit({"finalisation": {"on_enter": "none"}}), name="no-alignment",
            meaning="no alignment and no sync, as the released ablation"),
    _edited("no-sync", "no hard sync", {"finalisation": {"on_enter": "none"}}),
    _edited("deploy-ema", "the target encoder is read in the last phase and used in the end; no sync", _LAGGING,
            deploy="ema"),
    _edited("deploy-ema-sync", "as deploy-ema, with the sync: one that is used later",
            {"finalisation": {"context": "ema", "target": "ema"}}, deploy="ema"),
    replace(_WHOLE.without("alignment").edit(_LAGGING, deploy="ema"), name="deploy-ema-no-alignment",
            meaning="as deploy-ema, without alignment: the encoder that is used lags"),
    replace(_WHOLE.without("alignment").edit({"finalisation": {"on_enter": "none", "target": "ema"}}),
            name="mixed-space", meaning="no alignment, no sync; the last phase reads the online encoder, predicts the "
            "target's, and feeds that back"),
    Curriculum("phase0-only", "phase 0, frozen, then a predictor on it (the paper's SFT baseline)", (PHASE0, ALONE)),
    Curriculum("frozen-encoder", "phase 0, masked refinement, frozen, then a predictor on it (V-JEPA 2-AC style)",
               (PHASE0, MASKED, ALONE)),
    Curriculum("masked-refinement", "phase 0, masked refinement; its predictor is discarded and no other is trained",
               (PHASE0, MASKED)),
    Curriculum("random-encoder", "an untrained encoder, and a predictor on it", (ALONE,)),
    _edited("teacher-forced", "never trained on its own predictions",
            {"warm-up": {"rollout": "teacher_forced"}, "finalisation": {"rollout": "teacher_forced"}}),
    _edited("self-fed", "trained on its own predictions in every phase, the mixed ones too",
            {"joint": {"rollout": "native"}, "alignment": {"rollout": "native"}}),
    _edited("no-rollout", "one step ahead alone",
            {name: {"rollout": "none"} for name in ("warm-up", "joint", "alignment", "finalisation")}),
    _edited("vicreg", "VICReg's spread added while the encoder trains", {}, regulariser="vicreg"),
    _edited("sigreg", "SIGReg added while the encoder trains", {}, regulariser="sigreg"),
    replace(_WHOLE.without("alignment").edit(_NO_EMA, regulariser="vicreg"), name="vicreg-online",
            meaning="VICReg in place of the EMA target: gradient through both sides"),
    replace(_WHOLE.without("alignment").edit(_NO_EMA, regulariser="sigreg"), name="sigreg-online",
            meaning="SIGReg in place of the EMA target: gradient through both sides"),
    replace(_WHOLE.without("alignment").edit(_NO_EMA), name="unguarded",
            meaning="gradient through both sides and nothing against collapse (a planted failure)"),
    _edited("zero-actions", "actions hidden, in training and afterwards", {}, actions="zero"),
)
CURRICULA: Mapping[str, Curriculum] = MappingProxyType({c.name: c for c in _ALL})


def find(name: str) -> Curriculum:
    """The curriculum of this name. Raises UnknownName."""
    if name not in CURRICULA:
        raise unknown("curriculum", name, list(CURRICULA))
    return CURRICULA[name]
