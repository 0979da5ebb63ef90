"""Every task from one frozen backbone, beside arms that learn from the labels alone, on the same questions.

The backbone is never fine-tuned. `encoded`: a ridge probe on the last latent, the mean of the last 24 hours' latents,
statics and the hour. `rolled`: the same probe on latents that the backbone forecast (with the last action held on: the
true ones would tell when a stay ends) in place of those that it encoded. Comparators are the house's own supervised
arms; each tunes as many candidates as the probe (docs/methods.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from simlab import methods
from simlab.evaluation import intervals
from simlab.evaluation.auc import label_auc, resampled_areas, weighted_auc
from simlab.models import hours, present
from simlab.training.data import Bench, Labelled
from simlab.training.pretrain import Encoders, Settings
from simlab.training.run import FAILURES, reason, run_arm
from simlab.trajectories.landmarks import HOUR, Landmarks

ENCODED, ROLLED = "encoded", "rolled"
PROBE = "ridge"
# Subjects with a positive (or negative) question at test below which nothing is claimed of an AUROC: with 10 positives
# and any number of negatives one of .75 has a 95 % interval of +-.18 (Hanley and McNeil, Radiology 143, 29, 1982), and
# questions of one subject are no more than one.
FEW = 10
STATIC, TIMED = "clinical", "image"  # the two roles that arms of features read
Shown = Mapping[str, np.ndarray]  # a side's views: (questions, ...) each; training and test have other numbers of them


@dataclass(frozen=True)
class Scored:
    """One arm on one task: label AUROC with its interval over subjects, over `n` questions of the test stays.

    `weighted`: posterior-weighted AUROC and `limit`: that of the risk itself, where a world knows it. `difference`: the
    first frozen arm minus this one, over the same draws. `failed`: why there is no number. An interval without width
    (two or three positives that every draw ranks alike) tells nothing and is NaN. `subjects`: with a positive question,
    and with a negative one.
    """

    task: str
    arm: str
    n: int
    positives: int
    auroc: intervals.Interval | None
    weighted: float | None = None
    limit: float | None = None
    difference: intervals.Interval | None = None
    failed: str = ""
    subjects: tuple[int, int] | None = None

    @property
    def rarer(self) -> int:
        """Subjects with a question of the rarer class."""
        return min(self.subjects or (self.positives, self.n - self.positives))


def latent_views(
    latents: Mapping[str, Float[np.ndarray, "questions _"]], scaling: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[Shown, tuple[np.ndarray, np.ndarray]]:
    """What the probe reads, standardised as the training questions are (`scaling`: theirs; None: these are they)."""
    shown = np.concatenate([np.asarray(x, dtype=np.float64) for x in latents.values()], axis=1)
    if scaling is None:
        spread = shown.std(axis=0)
        scaling = shown.mean(axis=0), np.where(spread > 1e-9, spread, 1.0)
    z = (shown - scaling[0]) / scaling[1]
    return {TIMED: z, STATIC: z[:, :0]}, scaling


def feature_views(train: Landmarks, test: Landmarks, reads: Sequence[str]) -> tuple[Shown, Shown]:
    """What supervised arms read of the same questions: summaries, and the hours themselves where one asks for them."""
    inputs, held = train.cohort.inputs(None), test.cohort.inputs(None)
    features, more = present.fit(inputs), hours.fit(inputs, reads)
    return features(inputs) | more(inputs), features(held) | more(held)


def score(
    train: Landmarks,
    test: Landmarks,
    frozen: Mapping[str, tuple[Shown, Shown]],
    compare: Sequence[str] = (),
    seed: int = 0,
    draws: int = 500,
    rng: np.random.Generator | None = None,
    probe: str = PROBE,
) -> list[Scored]:
    """Every arm's row of one task: the frozen ones (name -> views of training and test questions), then comparators.

    An arm that cannot be trained, or a side with fewer than two questions of a class, is a row with its reason.
    """
    rng = np.random.default_rng(seed) if rng is None else rng
    few = _too_few(train, test)
    names = [*frozen, *compare]
    if few:
        return [Scored(test.task, name, len(test.y), test.positives, None, failed=few, subjects=_subjects(test))
                for name in names]
    scores: dict[str, Float[np.ndarray, "questions"]] = {}
    failed: dict[str, str] = {}
    arms = {name: methods.find(name) for name in compare}
    shown = feature_views(train, test, [arm.reads for arm in arms.values()]) if arms else ({}, {})
    for name in names:
        arm, views = (methods.find(probe), frozen[name]) if name in frozen else (arms[name], shown)
        try:
            data = Labelled(views[0], train.y, train.subjects)
            settings = Settings(encoder="mlp", diagnostics="summary")
            fit = run_arm(arm, Bench(data, views[0], Encoders("identity", {}), settings, seed))
            found = np.asarray(fit.score(views[1]), dtype=np.float64)
            if not np.isfinite(found).all():
                raise ValueError("its scores are not finite")
            scores[name] = found
        except FAILURES as error:
            failed[name] = reason(error)
    return _rows(names, scores, failed, test, rng, draws)


def _subjects(test: Landmarks) -> tuple[int, int]:
    positive, negative = (len(np.unique(test.subjects[test.y == one])) for one in (1, 0))
    return positive, negative


def _too_few(train: Landmarks, test: Landmarks) -> str:
    for where, side in (("training", train), ("test", test)):
        for word, n in (("positive", side.positives), ("negative", len(side.y) - side.positives)):
            if n < 2:
                return f"{n} {word} among {len(side.y)} {where} questions; two are needed"
    return ""


def _rows(
    names: Sequence[str],
    scores: Mapping[str, Float[np.ndarray, "questions"]],
    failed: Mapping[str, str],
    test: Landmarks,
    rng: np.random.Generator,
    draws: int,
) -> list[Scored]:
    counts, subjects = (len(test.y), test.positives), _subjects(test)
    drawn = resampled_areas(scores, test.y, test.subjects, rng, draws)
    area = {name: label_auc(x, test.y).value for name, x in scores.items()}
    limit = weighted_auc(test.risk, test.risk).value if _known(test) else None
    rows = []
    for name in names:
        if name in failed:
            rows.append(Scored(test.task, name, *counts, None, limit=limit, failed=failed[name], subjects=subjects))
            continue
        weighted = weighted_auc(scores[name], test.risk).value if _known(test) else None
        base = names[0]
        gap = None
        if name != base and base in scores:
            gap = intervals.percentile(area[base] - area[name], drawn[base] - drawn[name])
        rows.append(Scored(test.task, name, *counts, _interval(area[name], drawn[name]), weighted, limit, gap,
                           subjects=subjects))
    return rows


def _interval(value: float, drawn: Float[np.ndarray, "draws"]) -> intervals.Interval:
    found = intervals.percentile(value, drawn)
    return found if found and found.low < found.high else intervals.Interval(value, math.nan, math.nan)


def few_of_a_class(rows: Sequence[Scored]) -> list[str]:
    """A line that names the tasks of whose AUROCs nothing can be claimed; no line where there is none."""
    told = ", ".join(f"{task} ({count})" for task, count in dict.fromkeys((r.task, r.rarer) for r in rows)
                     if count < FEW)
    return [f"fewer than {FEW} subjects with a positive, or with a negative, at test: {told}: no claim about their "
            "AUROCs can be made."] if told else []


def _known(test: Landmarks) -> bool:
    """Whether the risk is known and can be a limit (some weight in both classes)."""
    risk = test.risk
    return risk is not None and bool(np.isfinite(risk).all()) and 0 < float(risk.sum()) < len(risk)


def encoded(
    state: Float[np.ndarray, "stays hours width"],
    static: Float[np.ndarray, "stays width_of_static"],
    asked: Landmarks,
    back: int,
) -> dict[str, Float[np.ndarray, "questions _"]]:
    """What the probe of encoded latents reads of each question: the last latent, the mean of the last hours', statics
    and the hour."""
    last = state[asked.row, asked.hour - 1]
    place = asked.hour[:, None] - 1 - np.arange(back)
    inside = (place >= 0)[..., None]
    recent = np.where(inside, state[asked.row[:, None], np.maximum(place, 0)], 0.0).sum(axis=1) / inside.sum(axis=1)
    return {"last": last, "recent": recent, "static": static[asked.row], HOUR: asked.hour[:, None].astype(np.float64)}


def rolled(
    forecast: Mapping[int, Float[np.ndarray, "stays horizons width"]],
    static: Float[np.ndarray, "stays width_of_static"],
    asked: Landmarks,
    at: Sequence[int],
) -> dict[str, Float[np.ndarray, "questions _"]]:
    """The same with forecast latents alone: at these horizons and their mean. forecast: by context (the hour asked)."""
    width = next(iter(forecast.values())).shape[2]
    ahead = np.zeros((len(asked.row), len(at), width))
    mean = np.zeros((len(asked.row), width))
    for context, latents in forecast.items():
        mine = asked.hour == context
        of = latents[asked.row[mine]]
        ahead[mine] = of[:, [min(h, of.shape[1]) - 1 for h in at]]
        mean[mine] = of.mean(axis=1)
    parts = {f"ahead-{h}": ahead[:, i] for i, h in enumerate(at)}
    return {**parts, "mean": mean, "static": static[asked.row], HOUR: asked.hour[:, None].astype(np.float64)}
