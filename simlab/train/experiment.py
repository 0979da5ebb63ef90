"""Arms on a real cohort, over repeated splits by subject: what `python -m simlab.train` runs for a `.cohort` file.

Everything that is fitted (presentation, pretraining, labels, tuning) sees the training side of a split alone; all arms
share splits, presentation and folds. The trainers are those of the synthetic worlds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.metrics import average_precision_score

from simlab import rng
from simlab.cohort import Cohort, Inputs
from simlab.errors import DamagedFile, InvalidCohort, unknown
from simlab.evaluation import calibration, intervals, splits
from simlab.evaluation.auc import label_auc, weighted_auc
from simlab.models import hours, present, tokens
from simlab.train import folder as run_folder
from simlab.train import health
from simlab.training import pretrain, token_encoders, token_pretrain
from simlab.training.data import Bench, Labelled
from simlab.training.method import Method
from simlab.training.run import FAILURES, reason, run_arm

Side = Mapping[str, np.ndarray]  # a side's views: (records, ...) each; training and test have other numbers of them

MAIN = "known-risk"  # what differences are of, where the risk is known; else the AUROC
BESIDE = ("subject", "probe/label")  # what a pretraining is shown beside the views: followed, never learnt from
FEWEST = 10  # of each class on a test side, before a calibration slope means anything
METRICS = ("auroc", "auprc", "known-risk", "slope", "offset")  # an arm has those that its scores and the cohort allow


@dataclass(frozen=True)
class Plan:
    """How a cohort is split and what is compared. `test_share`: of the subjects; `labels`: at most so many (0: all)."""

    task: str
    splits: int = 20
    test_share: float = 0.25
    labels: int = 0
    seed: int = 0
    test_among: str = "unseen"  # or "all": also subjects that something in the cohort was fitted on


@dataclass(frozen=True)
class Split:
    """One split's outcome: metrics and diagnostics by arm, the reason of an arm that failed, and the sizes it had.

    `n_side`: labelled records on the training side that another split may test on, as `n_test` on the other; `n_train`:
    those whose label was used.
    """

    index: int
    metrics: dict[str, dict[str, float]]
    diagnostics: dict[str, dict[str, float]]
    failed: dict[str, str]
    n_side: int
    n_train: int
    n_test: int
    curve: tuple[dict[str, float], ...]
    verdict: str = ""  # on the first arm's representation, with `health`, its numbers; empty without pretraining
    health: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, saved: dict) -> Split | None:
        """A split as `dataclasses.asdict` saved it; None when fields are missing."""
        names = [f.name for f in fields(cls)]
        return cls(**{**saved, "curve": tuple(saved["curve"])}) if sorted(saved) == sorted(names) else None


def run_split(
    cohort: Cohort,
    arms: Sequence[Method],
    settings: pretrain.Settings,
    plan: Plan,
    index: int,
    report: Callable[[str], None],
    checkpoints: Path | None = None,
    artefacts: Path | None = None,
) -> Split:
    """Pretrain, adapt and score every arm on split `index`; pretraining resumes from a file in `checkpoints`, and what
    the first arm's encoders make of the test records is kept in `artefacts`.

    Raises InvalidCohort without two streams, OutOfDomain with too few labels, DamagedFile for a checkpoint.
    """
    y = cohort.labels[plan.task].astype(np.float64)
    never = looked_at(cohort) if plan.test_among == "unseen" else None
    train, test = list(splits.repeated(cohort.subject, y, index + 1, plan.test_share, plan.seed, never))[index]
    test = test[np.isfinite(y[test])]
    views, shown, layout = _shown(cohort.take(train), cohort.take(test), arms, settings, plan.task)
    labelled = _labelled(y[train], plan, index)
    data = Labelled({k: v[labelled] for k, v in views.items()}, y[train][labelled], cohort.subject[train][labelled])
    risk = cohort.risk[plan.task][test] if plan.task in cohort.risk else None
    seeds = (rng.integer(plan.seed, index, "initialisation"), rng.integer(plan.seed, index, "order"))
    fold_seed = rng.integer(plan.seed, index, "adaptation")
    followed = {**views, "probe/label": y[train][:, None]}
    encoders: dict[tuple[str, ...], pretrain.Encoders] = {}
    metrics, diagnostics, failed = {}, {}, {}
    for arm in arms:
        report(arm.name)
        own = settings.of(arm)
        try:
            if arm.recipe not in encoders:
                encoders[arm.recipe] = _encoders(arm, followed, layout, own, seeds, checkpoints)
            fit = run_arm(arm, Bench(data, views, encoders[arm.recipe], own, fold_seed))
            metrics[arm.name] = measures(fit.score(shown), fit.scale, y[test], risk)
            diagnostics[arm.name] = dict(fit.diagnostics)
        except DamagedFile:
            raise
        except FAILURES as error:
            failed[arm.name] = reason(error)
    first, seen = encoders.get(arms[0].recipe), health.Health("", {}, ())
    if first is not None and arms[0].pretrained:
        kept = artefacts / f"0-{index}-{arms[0].name}.npz" if artefacts is not None else None
        seen = _health(arms[0], first, cohort, (views, train), (shown, test), kept)
    testable = np.isfinite(y[train]) & (True if never is None else ~never[train])
    return Split(
        index, metrics, diagnostics, failed, int(testable.sum()), len(data.y), len(test), first.curve if first else (),
        seen.verdict, {k: v for k, v in seen.numbers.items() if math.isfinite(v)},
    )


def _shown(
    train: Cohort, test: Cohort, arms: Sequence[Method], settings: pretrain.Settings, task: str
) -> tuple[Side, Side, tokens.Layout | None]:
    """What arms are shown of both sides, by a presentation that is fitted on the training side alone, and the layout of
    the tokens where any arm reads them."""
    inputs, held_out = train.inputs(task), test.inputs(task)
    reads = {arm.reads for arm in arms}
    presentation, more = _presentation(inputs, reads, settings), hours.fit(inputs, reads)
    subject = np.unique(train.subject, return_inverse=True)[1]
    layout = None if isinstance(presentation, present.Presentation) else presentation.layout
    return (presentation(inputs) | more(inputs) | {"subject": subject}, presentation(held_out) | more(held_out), layout)


def _presentation(
    inputs: Inputs, reads: Collection[str], settings: pretrain.Settings
) -> present.Presentation | tokens.Presented | tokens.Tokeniser:
    """How arms that read this see the records. A volume has tokens and no features: these are made only where an arm
    reads them."""
    cut = tokens.fit(inputs, patch=settings.cut) if "tokens" in reads else None
    if cut is not None and "features" not in reads:
        return cut
    features = present.fit(inputs)
    return features if cut is None else tokens.Presented(features, cut)


def _health(
    arm: Method,
    encoders: pretrain.Encoders,
    cohort: Cohort,
    training: tuple[Mapping[str, np.ndarray], Int[np.ndarray, "training"]],
    held_out: tuple[Mapping[str, np.ndarray], Int[np.ndarray, "held_out"]],
    artefacts: Path | None,
) -> health.Health:
    """Diagnostics of an arm's encoders on the training records; what they make of the others goes to `artefacts`."""
    read = (*pretrain.ROLES, *(("tokens", "times") if arm.reads == "tokens" else ()))
    own, held = ({name: views[name] for name in read if name in views} for views, _ in (training, held_out))
    train, test = training[1], held_out[1]
    if artefacts is not None:
        arrays = health.artefacts(encoders, held, cohort.record[test], site=cohort.site[test])
        run_folder.save_arrays(artefacts, arrays)
    return health.examine(encoders, own, cohort.subject[train], site=cohort.site[train])


def looked_at(cohort: Cohort) -> Bool[np.ndarray, "records"] | None:
    """Records of the subjects that something in the cohort was fitted on (its channels, say), or None.

    An adapter that chooses anything by looking at records says so in provenance: fitted = {what, subjects}.
    """
    fitted = cohort.provenance.get("fitted")
    if not isinstance(fitted, Mapping):
        return None
    return np.isin(cohort.subject.astype(str), [str(s) for s in fitted["subjects"]])


def measures(
    scores: Float[np.ndarray, "test"],
    scale: str,
    y: Float[np.ndarray, "test"],
    risk: Float[np.ndarray, "test"] | None,
) -> dict[str, float]:
    """What one arm's scores of one test side are worth, by the names of METRICS.

    known-risk: the posterior-weighted AUC, where the risk is known (a plasmode); slope and offset: calibration, where
    the scores are risks; no slope with fewer than FEWEST of a class, where one draw of a few would rule any mean.
    """
    found = {"auroc": label_auc(scores, y).value, "auprc": float(average_precision_score(y, scores))}
    if risk is not None:
        found["known-risk"] = weighted_auc(scores, risk).value
    p = calibration.probabilities(scores, scale)
    if p is not None:
        found["slope"], found["offset"] = calibration.slope_and_offset(p, y)
        if min((y == 0).sum(), (y == 1).sum()) < FEWEST:
            del found["slope"]
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _labelled(y: Float[np.ndarray, "records"], plan: Plan, index: int) -> Int[np.ndarray, "labelled"]:
    """The labelled training records; when `plan.labels` limits them, a draw with the classes in proportion."""
    known = np.flatnonzero(np.isfinite(y))
    if not plan.labels or plan.labels >= len(known):
        return known
    draw = rng.generator(plan.seed, index, "labels")
    share = plan.labels / len(known)
    parts = [known[y[known] == c] for c in (0, 1)]
    positives = min(max(2, round(share * len(parts[1]))), plan.labels - 2)
    sizes = (plan.labels - positives, positives)
    return np.sort(np.concatenate([draw.permutation(p)[:n] for p, n in zip(parts, sizes, strict=True)]))


def _encoders(
    arm: Method,
    views: dict[str, Float[np.ndarray, "records ..."]],
    layout: tokens.Layout | None,
    settings: pretrain.Settings,
    seeds: tuple[int, int],
    checkpoints: Path | None,
) -> pretrain.Encoders:
    """The arm's encoders, pretrained or as initialised. `layout`: of the tokens, where any arm reads them."""
    reads_tokens = layout is not None and arm.reads == "tokens"
    if not arm.pretrained:
        if reads_tokens:
            return token_encoders.random_encoders(layout, arm, settings, [seeds[0]])[0]
        # Beside volumes there are no features, and only arms that read the mask come here: their encoders stay unused.
        inputs = {role: views[role].shape[1] if role in views else 1 for role in pretrain.ROLES}
        return pretrain.random_encoders(inputs, settings, [seeds[0]])[0]
    file, every = None, 0
    if checkpoints is not None:
        checkpoints.mkdir(parents=True, exist_ok=True)
        file, every = checkpoints / f"{'-'.join(arm.recipe)}.pt", max(1, settings.steps // 4)
    if reads_tokens:
        stacked = {name: views[name][None] for name in ("tokens", "times", *BESIDE)}
        found = token_pretrain.pretrain(stacked, layout, arm, settings, [seeds], checkpoint=file, every=every)[0]
    else:
        stacked = {role: views[role][None] for role in (*pretrain.ROLES, *BESIDE)}
        found = pretrain.pretrain(stacked, arm, settings, [seeds], checkpoint=file, every=every)[0]
    if not isinstance(found, pretrain.Encoders):
        raise found
    return found


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
    # Splits overlap through the records of their training sides, however few of the labels were used.
    n_train, n_test = round(np.mean([s.n_side for s in done])), round(np.mean([s.n_test for s in done]))
    lines = []
    for arm in arms:
        has = [m for m in METRICS if all(m in s.metrics[arm] for s in done)]
        values = {m: np.array([s.metrics[arm][m] for s in done]) for m in has}
        found = {m: intervals.nadeau_bengio(v, n_train, n_test)[0] for m, v in values.items()}
        found = {m: v if m in ("slope", "offset") else _clipped(v) for m, v in found.items()}
        difference = detectable = None
        if arm != arms[0]:
            main = MAIN if MAIN in values else "auroc"
            paired = np.array([s.metrics[arms[0]][main] - s.metrics[arm][main] for s in done])
            difference, se = intervals.nadeau_bengio(paired, n_train, n_test)
            difference = _clipped(difference, -1.0)
            detectable = intervals.minimum_detectable(se, len(done) - 1)
        lines.append(Line(arm, found, difference, detectable))
    return lines


def _clipped(interval: intervals.Interval, least: float = 0.0) -> intervals.Interval:
    """An interval kept where areas (or, from -1, their differences) can lie: with few splits t reaches beyond."""
    return replace(interval, low=max(interval.low, least), high=min(interval.high, 1.0))


def choose_task(cohort: Cohort, name: str | None) -> tuple[str, list[str]]:
    """The binary record-level task to learn (the one named, else the cohort's first) and the others there are.

    Raises InvalidCohort when the cohort has none, UnknownName for one that it does not have.
    """
    found = [t.name for t in cohort.tasks.values() if t.kind == "binary" and t.level == "record"]
    if not found:
        raise InvalidCohort("the cohort has no binary task with one label a record; simlab.train learns no other yet.")
    if name is not None and name not in found:
        raise unknown("task", name, found, "It must be binary, with one label a record.")
    chosen = name or found[0]
    return chosen, [task for task in found if task != chosen]


def configured(arms: Sequence[Method], settings: pretrain.Settings) -> list[Method]:
    """The arms with the encoder that the settings ask for (those of another kind stay)."""
    return [replace(a, encoder=settings.encoder) if a.encoder in ("linear", "mlp") else a for a in arms]
