"""Arms that use unlabelled records of the target hospital: pretraining that goes on there, and second moments aligned.

    continued   the source's encoders are pretrained further on the target's records (Gururangan et al. 2020)
    pooled      pretraining on the source's and the target's records together, from the beginning
    CORAL       source records are given the target's mean and covariance before a linear score is fitted to labels,
                x' = (x - m_s) C_s^(-1/2) C_t^(1/2) + m_t (Sun, Feng & Saenko 2016)

A score that was fitted to aligned records is one for the target: in the source it meets records that are not aligned.
Labels are the source's throughout. docs/methods/target.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from simlab.errors import OutOfDomain
from simlab.training import arms, pretrain, ridge
from simlab.training.data import Bench, Fit, columns, encoder_diagnostics
from simlab.training.method import Method
from simlab.training.pretrain import ROLES, Encoders, Failed, Settings
from simlab.training.scores import LinearScore, ProbeScore, side_by_side

SHRINK = 1e-3  # of the mean variance, added to both covariances: directions that nobody varies in stay as they are


def trained(
    arm: Method,
    settings: Settings,
    target: Sequence[Mapping[str, np.ndarray]],
    source: Sequence[Mapping[str, np.ndarray]],
    start: Sequence[Encoders | Failed | None],
    pairs: Sequence[tuple[int, int]],
) -> list[Encoders | Failed]:
    """A fleet's encoders, trained on each member's target records, those of `source` behind them where there are some.

    `start`: what a member begins with (None: a random initialisation); one that is an error stays it. The optimiser and
    predictors begin anew, for as many steps as pretraining took. Raises Diverged when all members diverge.
    """
    able = [m for m, own in enumerate(start) if not isinstance(own, Exception)]
    if not able:
        return list(start)  # type: ignore[arg-type]
    parts = [[target[m], *(source[m : m + 1])] for m in able]
    data = {role: np.stack([np.concatenate([part[role] for part in own]) for own in parts]) for role in ROLES}
    begin = [start[m] for m in able if start[m] is not None]
    made = pretrain.pretrain(data, arm, settings, [pairs[m] for m in able], start=begin)
    found = dict(zip(able, made, strict=True))
    return [found.get(m, own) for m, own in enumerate(start)]


@dataclass(frozen=True)
class Alignment:
    """x -> (x - centre) @ turn + goal: what gives records of the source the target's mean and covariance."""

    centre: Float[np.ndarray, "features"]
    turn: Float[np.ndarray, "features features"]
    goal: Float[np.ndarray, "features"]

    def __call__(self, x: Float[np.ndarray, "records features"]) -> Float[np.ndarray, "records features"]:
        return (x - self.centre) @ self.turn + self.goal


def coral(
    source: Float[np.ndarray, "n features"], target: Float[np.ndarray, "m features"], shrink: float = SHRINK
) -> Alignment:
    """Correlation alignment of unlabelled source records with target ones. `shrink`, in units of the source's mean
    variance, stands where Sun et al. add an identity matrix to features of unit variance."""
    one, two = np.cov(source, rowvar=False), np.cov(target, rowvar=False)
    more = shrink * np.trace(one) / len(one) * np.eye(len(one))
    turn = _power(one + more, -0.5) @ _power(two + more, 0.5)
    return Alignment(source.mean(axis=0), turn, target.mean(axis=0))


def coral_ridge(method: Method, bench: Bench) -> Fit:
    """CORAL on the features of the streams that the arm sees, then ridge, penalty tuned: without any pretraining."""
    x = _aligned(method, bench)
    line = ridge.fit(x, bench.train.y, bench.train.subjects, ridge.grid(method, bench.settings))
    score = LinearScore(method.streams, line.weights, line.intercept)
    return Fit(score, {"diag/penalty": line.penalty}, scale="none")


def coral_probe(method: Method, bench: Bench) -> Fit:
    """Frozen encoders, CORAL on their representations, a linear discriminant (or ridge, tuned)."""
    assert bench.target is not None
    source, goal = (side_by_side(bench.encoders.represent(views)) for views in (bench.pretraining, bench.target))
    x = coral(source, goal)(side_by_side(bench.encoders.represent(bench.train.views)))
    line = ridge.fit(x, bench.train.y, bench.train.subjects, ridge.grid(method, bench.settings))
    found = encoder_diagnostics(bench, bench.encoders)
    return Fit(ProbeScore(bench.encoders, line.weights, line.intercept), found, scale="none")


def coral_finetuned(method: Method, bench: Bench) -> Fit:
    """CORAL on the features, then linear encoders fine-tuned on the aligned labels (`simlab.training.arms`).

    Raises OutOfDomain for encoders that are not linear: their features' second moments do not carry over.
    """
    if bench.settings.encoder != "linear":
        raise OutOfDomain(f"method {method.name} aligns features for linear encoders; with train.encoder = "
                          f"'{bench.settings.encoder}' use the -coral-frozen arm, which aligns representations.")
    return arms.convex(method, bench, _aligned(method, bench))


def _aligned(method: Method, bench: Bench) -> Float[np.ndarray, "records features"]:
    """The labelled records' features as the target would show them."""
    assert bench.target is not None  # `run_arm` refuses
    align = coral(columns(bench.pretraining, method.streams), columns(bench.target, method.streams))
    return align(columns(bench.train.views, method.streams))


def _power(cov: Float[np.ndarray, "p p"], exponent: float) -> Float[np.ndarray, "p p"]:
    """A symmetric positive definite matrix to this power."""
    values, vectors = np.linalg.eigh(cov)
    return vectors * np.maximum(values, 1e-12) ** exponent @ vectors.T
