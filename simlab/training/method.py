"""What a method is: a point on the axes, strings and numbers alone. Imports no array module.

The named ones, and how to add one, are in `simlab.methods`.
"""

from __future__ import annotations

from dataclasses import dataclass

from simlab.errors import OutOfDomain

VIEWS = ("none", "cross-modal", "visit", "token", "coordinate", "both", "next-step")
TARGETS = ("none", "ema", "stop-gradient", "online", "input")
AGAINST_COLLAPSE = ("none", "vicreg", "sigreg", "barlow", "contrastive", "contrastive-learned")
PREDICTORS = ("none", "linear", "mlp", "transformer")
READS = ("features", "tokens", "hours", "mask")
ENCODERS = ("identity", "linear", "mlp", "gru", "tcn", "transformer")
ADAPTATIONS = ("frozen", "frozen-mlp", "partial", "finetuned", "scratch", "closed-form")
STREAMS = ("all", "image", "clinical")
TUNINGS = ("cross-validated", "none")


@dataclass(frozen=True)
class Method:
    """One arm: what it sees, how it is pretrained, how it is adapted to the labels, and which theory predicts it.

    `reads`: each view's features (summaries over visits), its tokens (one a stream and visit; every view but
    cross-modal needs them), the hours themselves, or only what was measured (`simlab.models.hours`).
    `streams`: "all", or the one role that it sees ("image", "clinical": the scenario's first and second stream).
    `theory`: what predicts the arm in the Gaussian world: a key of `finite` in `simlab.limits`, "cross_prediction"
    (least squares on what cross-prediction keeps; map of condition number 1 alone), or None.
    `search`: the hyperparameters that a study of design "tune" searches for the arm (`simlab.training.search`); None:
    those that its axes imply.
    """

    name: str
    meaning: str
    trainer: str
    view: str = "none"
    target: str = "none"
    against_collapse: str = "none"
    predictor: str = "none"
    encoder: str = "linear"
    adaptation: str = "frozen"
    streams: str = "all"
    tuning: str = "cross-validated"
    theory: str | None = None
    reads: str = "features"
    search: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for axis, allowed in (
            ("view", VIEWS),
            ("target", TARGETS),
            ("against_collapse", AGAINST_COLLAPSE),
            ("predictor", PREDICTORS),
            ("encoder", ENCODERS),
            ("adaptation", ADAPTATIONS),
            ("streams", STREAMS),
            ("tuning", TUNINGS),
            ("reads", READS),
        ):
            if getattr(self, axis) not in allowed:
                raise OutOfDomain(f"method {self.name}: {axis} = {getattr(self, axis)!r}; known: {', '.join(allowed)}.")
        if (self.view == "none") != (self.target == "none"):
            raise OutOfDomain(f"method {self.name}: view and target are both given, or both none.")
        if self.target == "input" and self.predictor == "none":
            raise OutOfDomain(f"method {self.name}: target = 'input' needs a predictor (linear or mlp) to decode.")
        if self.reads == "features" and (self.view not in ("none", "cross-modal") or self.predictor == "transformer"):
            raise OutOfDomain(f"method {self.name}: view = {self.view!r} and predictor = {self.predictor!r} need "
                              "reads = 'tokens'.")
        if ":" not in self.trainer:
            raise OutOfDomain(f"method {self.name}: trainer = {self.trainer!r}; expected 'module:function'.")

    @property
    def pretrained(self) -> bool:
        """Whether the arm uses the unlabelled records through gradient pretraining."""
        return self.view != "none"

    @property
    def recipe(self) -> tuple[str, ...]:
        """What pretraining depends on: arms of equal recipe share one pretrained encoder a seed."""
        return (self.view, self.target, self.against_collapse, self.predictor, self.encoder, self.reads)
