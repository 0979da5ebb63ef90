"""How a trajectory backbone is built and trained: numbers and names alone. Imports no array module."""

from __future__ import annotations

from dataclasses import dataclass

from simlab.errors import OutOfDomain

ENCODERS = ("tabular", "text", "llm")
REDUCTIONS = ("mean", "sum")


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
