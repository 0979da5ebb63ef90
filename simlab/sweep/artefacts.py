"""artefacts/<cell>-<seed>-<method>.npz: what a page about one model needs, and a table cannot hold.

    embedding/<cohort>     of the first 500 records: what the arm reduces a record to before its last linear step
    score, label, risk, record/<cohort>    of the same records
    spectrum/<cohort>      singular values of the centred embedding, over the square root of its records
    readability/<factor>   share of a true factor's variance that is linear in the embedding (held-out records)
    curve/<quantity>       the pretraining curve: loss and its parts at about 25 steps; curve/step

Embeddings: representations by frozen or fine-tuned encoders, canonical projections, or (an arm without any) the score.
Equal runs write equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from simlab.cohort import Cohort
from simlab.files import write_aside
from simlab.training.data import Fit, Views
from simlab.training.pretrain import Encoders
from simlab.training.scores import NetworkScore, ProbeScore, ProjectionScore, side_by_side

KEPT = 500  # records whose embedding is kept
READ = 4000  # records that the readability of factors is measured on, the second half held out


def name(cell: int, seed: int, method: str) -> str:
    return f"{cell}-{seed}-{method}.npz"


def embedding(fit: Fit, views: Views) -> Float[np.ndarray, "records width"]:
    """What the arm reduces each record to before its last linear step."""
    score = fit.score
    if isinstance(score, ProbeScore):
        return side_by_side(score.encoders.represent(views))
    if isinstance(score, ProjectionScore):
        return score.project(views)
    if isinstance(score, NetworkScore):
        return score.represent(views)
    return np.asarray(score(views), dtype=np.float64)[:, None]


def gather(
    fit: Fit, cohorts: Mapping[str, tuple[Views, Cohort]], task: str, encoders: Encoders | None
) -> dict[str, np.ndarray]:
    """The artefacts of one fitted arm on its test cohorts; `encoders` (those it started from) give the curve."""
    found: dict[str, np.ndarray] = {}
    for where, (views, cohort) in cohorts.items():
        part = {role: x[:READ] for role, x in views.items()}
        shown = embedding(fit, part)
        kept = slice(0, KEPT)
        found |= {
            f"embedding/{where}": shown[kept].astype(np.float32),
            f"score/{where}": np.asarray(fit.score({role: x[kept] for role, x in part.items()}), dtype=np.float64),
            f"label/{where}": cohort.labels[task][kept],
            f"risk/{where}": cohort.risk[task][kept],
            f"record/{where}": cohort.record[kept],
            f"spectrum/{where}": np.linalg.svd(shown - shown.mean(axis=0), compute_uv=False) / np.sqrt(len(shown)),
        }
        if where == "test":
            found |= {f"readability/{k}": np.array(readability(shown, np.asarray(v, dtype=np.float64)[: len(shown)]))
                      for k, v in cohort.factors.items()}
    curve = encoders.curve if encoders is not None else ()
    for key in curve[0] if curve else ():
        found[f"curve/{key}"] = np.array([point[key] for point in curve])
    return found


def readability(shown: Float[np.ndarray, "records width"], factor: np.ndarray) -> float:
    """R^2 of a factor's columns by least squares on the embedding, on held-out records; at least 0."""
    y = factor.reshape(len(factor), -1)
    x = np.concatenate([np.ones((len(shown), 1)), shown], axis=1)
    half = len(x) // 2
    weights = np.linalg.lstsq(x[:half], y[:half], rcond=None)[0]
    left = np.square(y[half:] - x[half:] @ weights).sum()
    return max(0.0, float(1 - left / np.square(y[half:] - y[half:].mean(axis=0)).sum()))


def write(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write the file aside, sync, and move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_aside(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
