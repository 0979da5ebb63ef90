"""How a trajectory backbone is built and trained: numbers and names alone. Imports no array module."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from simlab.environments.knob import Choice, Interval
from simlab.errors import OutOfDomain
from simlab.training.curricula import Curriculum

ENCODERS = ("tabular", "text", "llm")
REDUCTIONS = ("mean", "sum")
_COUNT, _POSITIVE = Interval(1, 100_000_000, whole=True), Interval(0, math.inf, low_open=True)
_SOME, _SHARE = Interval(0, math.inf), Interval(0, 1, high_open=True)
# What each setting may be: a domain, or the type bool or str.
DOMAINS: Mapping[str, Interval | Choice | type] = MappingProxyType({
    "encoder": Choice(ENCODERS), "width": _COUNT, "hidden": _COUNT, "encoder_depth": _COUNT, "clock": bool,
    "inner": _COUNT, "depth": _COUNT, "heads": _COUNT, "inside": _COUNT, "max_hours": Interval(6, 10_000, whole=True),
    "mode": Choice(("absolute", "residual")), "dropout": _SHARE, "attention_dropout": _SHARE,
    "latent_norm": Choice(("none", "layernorm")), "steps": _COUNT, "batch": _COUNT, "rate_encoder": _SOME,
    "rate_predictor": _POSITIVE, "weight_decay": _SOME, "warm_up": _SHARE, "clip": _POSITIVE,
    "schedule": Choice(("joint", "stage")), "tau": Interval(0, 1), "reduction": Choice(REDUCTIONS), "horizon": _COUNT,
    "per_sample_k": bool, "masked": _SHARE, "regulariser_weight": _SOME, "llm": str, "lora_rank": _COUNT,
    "lora_alpha": _POSITIVE, "tokens": Interval(2, 1_000_000, whole=True), "cache": _SOME,
})  # fmt: skip
# Settings that a study's table [train] has, and what it calls them; its table [trajectory] has the others.
OF_TRAIN: Mapping[str, str] = MappingProxyType({
    **{name: name for name in ("width", "hidden", "depth", "steps", "batch", "weight_decay")},
    "rate_predictor": "learning_rate"})
OF_STUDIES: Mapping[str, int] = MappingProxyType({"inner": 32, "heads": 2, "inside": 64})  # unless it says otherwise
# Settings that some encoders alone read.
READ_BY: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "width": ("tabular", "text"), "hidden": ("tabular",), "encoder_depth": ("text",),
    **dict.fromkeys(("llm", "lora_rank", "lora_alpha", "tokens"), ("llm",))})
Asks = Callable[[Curriculum], bool]


def _any(of: Curriculum, **fields: object) -> bool:
    """Whether a stage that has steps is like this."""
    return any(all(getattr(s, k) == v for k, v in fields.items()) for s in of.stages if s.length(10**6))


# Settings that some curricula alone read: which, and what the others are without.
_PREDICTS: tuple[Asks, str] = (lambda c: _any(c, objective="predict"), "no stage trains a predictor")
_ROLLS: tuple[Asks, str] = (
    lambda c: any(_any(c, objective="predict", rollout=how) for how in ("native", "teacher_forced")),
    "no stage rolls a predictor out")
READ_IN: Mapping[str, tuple[Asks, str]] = MappingProxyType({
    **dict.fromkeys(("mode", "dropout", "attention_dropout"), _PREDICTS),
    **dict.fromkeys(("horizon", "per_sample_k"), _ROLLS),
    "masked": (lambda c: _any(c, objective="masked"), "no stage masks hours"),
    "tau": (lambda c: _any(c, ema=True), "no target encoder follows"),
    "rate_encoder": (lambda c: _any(c, train_encoder=True), "no stage trains the encoder"),
    "regulariser_weight": (lambda c: c.regulariser != "none" and any(
        _any(c, objective=of, train_encoder=True) for of in ("predict", "masked")), "there is no regulariser"),
})  # fmt: skip


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
        for name, domain in DOMAINS.items():
            value = getattr(self, name)
            if not fits(value, domain) and not (name == "tau" and value is None):
                raise OutOfDomain(f"{name} = {value!r}: expected {expected(domain)}.")
        if self.inner % self.heads:
            raise OutOfDomain(f"heads = {self.heads}: expected a divisor of inner, which is {self.inner}.")
        if self.encoder == "text" and self.width % 2:
            raise OutOfDomain(f"width = {self.width}: the text encoder's two heads need an even one.")


def unread(key: str, encoder: str, curricula: Sequence[Curriculum]) -> str:
    """Why nothing reads a setting with this encoder and in these curricula, and what to do; "" where something does."""
    readers = READ_BY.get(key, ENCODERS)
    if encoder not in readers:
        return (f"nothing reads it with encoder = {encoder!r}; leave it out, or set encoder = "
                f"{' or '.join(map(repr, readers))}")
    asks, without = READ_IN.get(key, (lambda c: True, ""))
    if any(asks(curriculum) for curriculum in curricula):
        return ""
    return f"nothing reads it in {', '.join(c.name for c in curricula)} ({without}); leave it out"


def fits(value: object, domain: Interval | Choice | type) -> bool:
    """Whether a setting may have this value."""
    return isinstance(value, domain) if isinstance(domain, type) else value in domain


def expected(domain: Interval | Choice | type) -> str:
    """A domain in words."""
    return {bool: "true or false", str: "text"}[domain] if isinstance(domain, type) else str(domain)


def of_study(train: Any, given: Mapping[str, Any] = MappingProxyType({})) -> Settings:
    """The settings of a study: those of its table [train] (`train` has them as fields), and what its table [trajectory]
    gives. The learning rate is the predictor's, the encoder's half of it unless given. Raises OutOfDomain."""
    own = {name: getattr(train, theirs) for name, theirs in OF_TRAIN.items()}
    return Settings(**{"rate_encoder": train.learning_rate / 2, **OF_STUDIES, **own, **given})  # type: ignore[arg-type]
