"""What a study of design "tune" searches: hyperparameters by their `[train]` names, and which of them each arm has.

Imports no array module. Ranges are the same for all arms; an arm's own names are `Method.search`, or follow from its
axes. A penalty that is searched takes the place of the arm's own cross-validated grid.
"""

from __future__ import annotations

from dataclasses import dataclass

from simlab.training.method import Method


@dataclass(frozen=True)
class Range:
    """Values between low and high, searched evenly in the logarithm; whole numbers alone where `whole`."""

    low: float
    high: float
    whole: bool = False


RANGES = {
    "learning_rate": Range(5e-4, 5e-2),
    "weight_decay": Range(1e-6, 1e-1),
    "steps": Range(100, 2000, whole=True),
    "width": Range(2, 32, whole=True),
    "penalty": Range(1e-3, 1e2),
    "finetune_steps": Range(20, 500, whole=True),
}
PRETRAINING = ("learning_rate", "weight_decay", "steps", "width")


def names(method: Method, encoder: str) -> tuple[str, ...]:
    """The hyperparameters of an arm with this kind of encoder ("linear", "mlp"), none for one that has nothing to tune.

    Fine-tuned linear encoders tune strength and penalty exactly, by themselves (`simlab.training.arms`).
    """
    if method.search is not None:
        return method.search
    found = tuple(n for n in PRETRAINING if n != "width" or method.width is None) if method.pretrained else ()
    if method.tuning == "none":
        return found
    if by_steps(method, encoder):
        return (*found, "penalty", "finetune_steps")
    return found if method.adaptation in ("partial", "finetuned") else (*found, "penalty")


def by_steps(method: Method, encoder: str) -> bool:
    """Whether gradient steps adapt the arm to the labels (a linear encoder of features and its head: exact instead)."""
    stepped = method.reads == "tokens" or encoder == "mlp"
    return method.adaptation == "frozen-mlp" or (stepped and method.adaptation in ("partial", "finetuned", "scratch"))


def touches_pretraining(method: Method) -> bool:
    """Whether a trial of the arm costs a pretraining of its own."""
    return method.pretrained and bool(set(names(method, "linear")) & set(PRETRAINING))
