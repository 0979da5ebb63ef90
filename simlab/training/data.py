"""What a trainer is handed: the presented features of one cohort by role, labels where they exist, subjects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from simlab.errors import OutOfDomain
from simlab.evaluation import verdict
from simlab.evaluation.collapse import diagnostics
from simlab.training.pretrain import Encoders, Settings

Views = Mapping[str, Float[np.ndarray, "records ..."]]  # features by role; what else arms read, by `Method.reads`
Score = Callable[[Views], Float[np.ndarray, "records"]]


@dataclass(frozen=True)
class Labelled:
    """The labelled records of an arm: features by role ("image", "clinical"), y in {0, 1}, subject of each record."""

    views: Views
    y: Float[np.ndarray, "records"]
    subjects: np.ndarray

    def __post_init__(self) -> None:
        positives = int(np.sum(self.y == 1))
        if not 2 <= positives <= len(self.y) - 2:
            raise OutOfDomain(
                f"{len(self.y)} labelled records hold {positives} positive; an arm needs at least two of "
                "each class. Use more labels, or another prevalence."
            )


@dataclass(frozen=True)
class Bench:
    """Everything that an arm may use, for one seed: nothing of it comes from a test or external record.

    `pretraining`: the unlabelled records' views, and "subject", a number for each record's; `encoders`: those of the
    arm's recipe, pretrained or at their random initialisation; `seed`: of the arm's own draws (folds). `incomplete`:
    further labelled records, shown in a way of `simlab.environments.archive.SHOWN`; None where there are none.
    `target`: unlabelled records of the target, for arms that ask for them (`Method.outside`); None: there are none.
    """

    train: Labelled
    pretraining: Views
    encoders: Encoders
    settings: Settings
    seed: int
    incomplete: Callable[[str], Labelled] | None = None
    target: Mapping[str, np.ndarray] | None = None


@dataclass(frozen=True)
class Fit:
    """A trained arm: a score of any cohort's views (higher: more likely positive), and its diagnostics.

    `scale`: what the score is, for calibration: a "probability" (least squares on the label estimates one), a "logit",
    or "none".
    """

    score: Score
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    scale: str = "probability"


def columns(views: Views, streams: str) -> Float[np.ndarray, "records features"]:
    """The features of the roles that an arm sees ("all", one role, or "mask": what was measured), float64."""
    roles = ("image", "clinical") if streams == "all" else (streams,)
    return np.concatenate([np.asarray(views[role], dtype=np.float64) for role in roles], axis=1)


def encoder_diagnostics(bench: Bench, encoders: Encoders) -> dict[str, float]:
    """The collapse columns of each view on unlabelled records; with `diagnostics = "full"` every one that there is.

    `diag/verdict` is 3 healthy, 2 dimensional collapse, 1 full collapse, 0 diverged (`verdict.WORST`); `diag/skill/...`
    and `diag/lag/...` are the last point of the training curve. LiDAR takes the views of a subject's records as its
    samples.
    """
    if encoders.kind == "identity":
        return {}
    rows = {name: x[:2000] for name, x in bench.pretraining.items()}
    shown = encoders.represent(rows)
    found = {k: v for role, z in shown.items() for k, v in diagnostics(z, role).items()}
    if bench.settings.diagnostics == "full":
        word, numbers = verdict.report(shown, rows.get("subject"), {r: rows[r].shape[1] for r in shown if r in rows},
                                       encoders.exists(rows))
        last = encoders.curve[-1] if encoders.curve else {}
        along = {k.replace("-", "/", 1): v for k, v in last.items() if k.split("-")[0] in ("skill", "lag")}
        more = {"verdict": float(verdict.WORST.index(word)), **numbers, **along}
        found |= {f"diag/{k}": float(v) for k, v in more.items() if f"diag/{k}" not in found}
    return found
