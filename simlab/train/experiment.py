"""Arms on a real cohort, over repeated splits by subject: what `python -m simlab.train` runs for a `.cohort` file.

Everything that is fitted (presentation, pretraining, labels, tuning) sees the training side of a split alone; all arms
share splits, presentation and folds. The trainers are those of the synthetic worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import average_precision_score

from simlab import rng
from simlab.cohort import Cohort
from simlab.errors import InvalidCohort, OutOfDomain
from simlab.evaluation import intervals, splits
from simlab.evaluation.auc import label_auc
from simlab.models import present
from simlab.train import health
from simlab.training import loop, pretrain
from simlab.training.data import Bench, Labelled
from simlab.training.method import Method
from simlab.training.run import run_arm

METRICS = ("auroc", "auprc")


@dataclass(frozen=True)
class Plan:
    """How a cohort is split and what is compared. `test_share`: of the subjects; `labels`: at most so many (0: all)."""

    task: str
    splits: int = 20
    test_share: float = 0.25
    labels: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Split:
    """One split's outcome: metrics by arm, diagnostics by arm, and the sizes it had."""

    index: int
    metrics: dict[str, dict[str, float]]
    diagnostics: dict[str, dict[str, float]]
    n_train: int
    n_test: int
    curve: tuple[dict[str, float], ...]
    verdict: str = ""  # on the first arm's representation, with `health`, its numbers; empty without pretraining
    health: dict[str, float] = field(default_factory=dict)


def run_split(
    cohort: Cohort,
    arms: Sequence[Method],
    settings: pretrain.Settings,
    plan: Plan,
    index: int,
    report: Callable[[str], None],
    checkpoints: Path | None = None,
) -> Split:
    """Pretrain, adapt and score every arm on split `index`; pretraining resumes from a file in `checkpoints`.

    Raises InvalidCohort without two streams, OutOfDomain with too few labels, DamagedFile for a checkpoint.
    """
    y = cohort.labels[plan.task].astype(np.float64)
    train, test = list(splits.repeated(cohort.subject, y, index + 1, plan.test_share, plan.seed))[index]
    test = test[np.isfinite(y[test])]
    inputs = cohort.take(train).inputs(plan.task)
    presentation = present.fit(inputs)
    views = presentation(inputs)
    labelled = _labelled(y[train], plan, index)
    data = Labelled({k: v[labelled] for k, v in views.items()}, y[train][labelled], cohort.subject[train][labelled])
    shown = presentation(cohort.take(test).inputs(plan.task))
    seeds = (rng.integer(plan.seed, index, "initialisation"), rng.integer(plan.seed, index, "order"))
    encoders: dict[tuple[str, ...], pretrain.Encoders] = {}
    metrics, diagnostics = {}, {}
    for arm in arms:
        report(arm.name)
        if arm.recipe not in encoders:
            encoders[arm.recipe] = _encoders(arm, views, settings, seeds, checkpoints)
        fit = run_arm(
            arm, Bench(data, views, encoders[arm.recipe], settings, rng.integer(plan.seed, index, "adaptation"))
        )
        scores = fit.score(shown)
        metrics[arm.name] = {
            "auroc": label_auc(scores, y[test]).value,
            "auprc": float(average_precision_score(y[test], scores)),
        }
        diagnostics[arm.name] = dict(fit.diagnostics)
    first = encoders[arms[0].recipe]
    seen = health.examine(first, views, cohort.subject[train]) if arms[0].pretrained else health.Health("", {}, ())
    return Split(
        index, metrics, diagnostics, len(data.y), len(test), first.curve, verdict=seen.verdict, health=seen.numbers
    )


def _labelled(y: Float[np.ndarray, "records"], plan: Plan, index: int) -> Int[np.ndarray, "labelled"]:
    """The labelled training records; when `plan.labels` limits them, a draw with the classes in proportion."""
    known = np.flatnonzero(np.isfinite(y))
    if not plan.labels or plan.labels >= len(known):
        return known
    draw = rng.generator(plan.seed, index, "labels")
    share = plan.labels / len(known)
    parts = [known[y[known] == c] for c in (0, 1)]
    positives = max(2, round(share * len(parts[1])))
    sizes = (plan.labels - positives, positives)
    return np.sort(np.concatenate([draw.permutation(p)[:n] for p, n in zip(parts, sizes, strict=True)]))


def _encoders(
    arm: Method,
    views: dict[str, Float[np.ndarray, "records _"]],
    settings: pretrain.Settings,
    seeds: tuple[int, int],
    checkpoints: Path | None,
) -> pretrain.Encoders:
    if not arm.pretrained:
        inputs = {role: views[role].shape[1] for role in pretrain.ROLES}
        return pretrain.random_encoders(inputs, settings, [seeds[0]])[0]
    stacked = {role: views[role][None] for role in pretrain.ROLES}
    if checkpoints is None:
        return pretrain.pretrain(stacked, arm, settings, [seeds])[0]
    checkpoints.mkdir(parents=True, exist_ok=True)
    file = checkpoints / f"{'-'.join(arm.recipe)}.pt"
    return pretrain.pretrain(stacked, arm, settings, [seeds], checkpoint=file, every=max(1, settings.steps // 4))[0]


@dataclass(frozen=True)
class Line:
    """One arm's row of the final table; `difference` and `detectable` are of the first arm minus this one (AUROC)."""

    arm: str
    metrics: dict[str, intervals.Interval]
    difference: intervals.Interval | None
    detectable: float | None


def table(done: Sequence[Split], arms: Sequence[str]) -> list[Line]:
    """Means over splits with Nadeau-Bengio intervals, and each arm's paired difference to the first.

    Raises OutOfDomain below two splits.
    """
    n_train, n_test = round(np.mean([s.n_train for s in done])), round(np.mean([s.n_test for s in done]))
    values = {m: {a: np.array([s.metrics[a][m] for s in done]) for a in arms} for m in METRICS}
    lines = []
    for arm in arms:
        found = {m: _clipped(intervals.nadeau_bengio(values[m][arm], n_train, n_test)[0]) for m in METRICS}
        difference = detectable = None
        if arm != arms[0]:
            paired = values["auroc"][arms[0]] - values["auroc"][arm]
            difference, se = intervals.nadeau_bengio(paired, n_train, n_test)
            detectable = intervals.minimum_detectable(se, len(done) - 1)
        lines.append(Line(arm, found, difference, detectable))
    return lines


def _clipped(interval: intervals.Interval) -> intervals.Interval:
    """An area's interval kept within [0, 1]: with few splits a t interval can reach beyond."""
    return replace(interval, low=max(interval.low, 0.0), high=min(interval.high, 1.0))


def choose_task(cohort: Cohort, name: str | None) -> str:
    """The binary record-level task to learn: the one named, else the only one. Raises InvalidCohort, OutOfDomain."""
    found = [t.name for t in cohort.tasks.values() if t.kind == "binary" and t.level == "record"]
    if name is not None and name not in found:
        raise OutOfDomain(f"task {name!r} is no binary task of this cohort; it has: {', '.join(found) or 'none'}.")
    if name is None and len(found) != 1:
        raise InvalidCohort(f"the cohort has {len(found)} binary tasks ({', '.join(found)}); choose one with --task.")
    return name or found[0]


def configured(arms: Sequence[Method], settings: pretrain.Settings) -> list[Method]:
    """The arms with the encoder that the settings ask for (identity encoders stay)."""
    return [a if a.encoder == "identity" else replace(a, encoder=settings.encoder) for a in arms]


Report = loop.Report
