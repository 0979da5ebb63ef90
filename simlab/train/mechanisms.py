"""`python -m simlab.train.mechanisms FILE.toml`: can a hospital tell why a model failed there?

A run is a home hospital (a `li2025-*` preset, retuned), a seed, and a target that one mechanism of
`simlab.environments.mechanisms` made different, at the strength at which the AUC of JEPA outside is the one asked for.
Only runs that agree on the four published AUCs (JEPA and imaging alone, inside and outside) are kept, so that these say
nothing. What a hospital could measure besides is then given to a classifier, which names the mechanism of runs of
seeds that it was not trained on.

JEPA is the closed form of its linear limit (docs/theory.md): canonical directions of the unlabelled records, then the
exact fine-tuning of `simlab.training.arms`. AUCs of linear scores are exact given their weights; where records are
missing they are posterior-weighted, on 20,000 records of the home hospital whose clinical part is hidden by a coin.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from lightgbm import LGBMClassifier
from scipy.special import expit
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from simlab import methods, rng
from simlab.cohort import Cohort
from simlab.environments.mechanisms import MECHANISMS, WORLD, spec
from simlab.environments.registry import register_world
from simlab.environments.scenario import sample_cohort
from simlab.errors import InvalidStudy, Parser, command, unknown
from simlab.evaluation.auc import label_auc, weighted_auc
from simlab.evaluation.calibration import slope_and_offset
from simlab.files import write_text
from simlab.limits.gaussian import moments
from simlab.limits.liability import auc
from simlab.limits.oracles import correlation_of
from simlab.sweep import standing
from simlab.training import arms
from simlab.training.baselines import canonical_maps
from simlab.training.data import Bench, Fit, Labelled, Views
from simlab.training.pretrain import Encoders, Settings

register_world(WORLD)
REPORTED = ("jepa home", "image home", "jepa outside", "image outside")
MEASURES = ("clinical AUC", "cross-modal error", "domain AUC", "image AUC", "calibration slope", "calibration offset")
WIDTH, EXACT, HALVINGS, TREES = 4, 20_000, 20, 150
TEXTS = ("name", "question", "hypothesis", "prediction", "falsified_if")


@dataclass(frozen=True)
class Question:
    """What is asked: `homes` by name, each a preset and the knobs that differ from it; the AUCs that runs are matched
    to (`jepa_home`, `image_home`, `jepa_outside`; imaging outside as at home), `within` of each other."""

    name: str
    question: str
    hypothesis: str
    prediction: str
    falsified_if: str
    seed: int
    seeds: int
    labels: int
    unlabelled: int
    records: tuple[int, ...]
    jepa_home: float
    image_home: float
    jepa_outside: float
    within: float
    mechanisms: tuple[str, ...]
    homes: Mapping[str, Mapping[str, Any]]


def read(path: Path) -> Question:
    """The question of a file. Raises InvalidStudy for one that is not whole, UnknownName for a mechanism."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InvalidStudy(f"{path}: {error}.") from None
    missing, more = set(Question.__dataclass_fields__) - set(raw), set(raw) - set(Question.__dataclass_fields__)
    if missing or more:
        wrong = f"lacks the key {min(missing)}" if missing else f"has an unknown key, {min(more)}"
        raise InvalidStudy(f"{path} {wrong}; its keys are {', '.join(Question.__dataclass_fields__)}.")
    for name in raw["mechanisms"]:
        if name not in MECHANISMS:
            raise unknown("mechanism", name, list(MECHANISMS))
    lists = {key: tuple(raw[key]) for key in ("records", "mechanisms")}
    return Question(**{**raw, **lists})


class Home:
    """A home hospital of one seed: its arms, trained there, and what they come to, there and in any target."""

    def __init__(self, asked: Question, home: str, seed: int) -> None:
        self.asked, self.seed, self.knobs = asked, seed, dict(asked.homes[home])
        self.knobs |= {"map": "identity", "n_lab": asked.labels, "n_unlab": asked.unlabelled}
        own = spec(**self.knobs)
        unlabelled, train = self.sample(own, "pretraining-data", own.n_unlab), self.sample(
            own, "training-data", own.n_lab)
        shown = views(unlabelled)
        self.maps = canonical_maps(shown["image"], shown["clinical"], WIDTH)
        a, b = (shown[role] @ self.maps[role] for role in ("image", "clinical"))
        self.slopes = (a * b).mean(axis=0) / (a**2).mean(axis=0)
        weights = {f"{role}.0.{name}": torch.as_tensor(x, dtype=torch.float32)[None] for role, m in self.maps.items()
                   for name, x in (("weight", m), ("bias", np.zeros((1, WIDTH))))}
        bench = Bench(Labelled(views(train), train.labels["outcome"], train.subject), shown,
                      Encoders("linear", weights), Settings(encoder="linear", width=WIDTH), seed)
        trainers = {"jepa": ("vicreg-finetuned", arms.finetuned), "image": ("image-only", arms.supervised),
                    "clinical": ("clinical-only", arms.supervised)}
        self.fits: dict[str, Fit] = {arm: how(methods.find(name), bench) for arm, (name, how) in trainers.items()}
        self.test = self.sample(own, "test-data", EXACT)

    def sample(self, world: Any, stage: str, n: int, domain: str = "source") -> Cohort:
        return sample_cohort(world, stage, n, self.asked.seed, self.seed, domain, world=WORLD.name)

    def reported(self, mechanism: str, strength: float) -> tuple[float, ...]:
        """The four AUCs of REPORTED."""
        world = spec(**self.knobs, mechanism=mechanism, strength=strength)
        inside, outside = moments(world), moments(world, "external")
        found = []
        for law in (inside, outside):
            for arm in ("jepa", "image"):
                hidden = world.p_miss_e if law is outside else 0.0
                found.append(self._hidden(arm, hidden) if hidden and arm == "jepa" else self._exact(arm, law))
        return tuple(found)

    def _exact(self, arm: str, law: Any) -> float:
        own = self.fits[arm].score.weights  # type: ignore[attr-defined]
        weights = np.zeros(law.p)
        weights[: len(own)] = own  # the image's coordinates come first
        return float(auc(correlation_of(law, weights), law.prevalence_law))

    def _hidden(self, arm: str, share: float) -> float:
        """The AUC where a share of the records is not there, which a linear score reads as zeros."""
        coin = rng.generator(self.asked.seed, self.seed, "external-data").random(EXACT)
        shown = views(self.test)
        shown["clinical"] = np.where((coin < share)[:, None], 0.0, shown["clinical"])
        risk = self.test.risk["outcome"]  # given all: in expectation the AUC of the labels, whatever is hidden
        return weighted_auc(self.fits[arm].score(shown), risk).value

    def strength(self, mechanism: str) -> float | None:
        """The strength at which JEPA outside has the AUC asked for; None where the mechanism does not reach it."""
        goal, low, high = self.asked.jepa_outside, 0.0, 1.0
        if self.reported(mechanism, 1.0)[2] > goal or self.reported(mechanism, 0.0)[2] < goal:
            return None
        for _ in range(HALVINGS if mechanism != "missingness" else 10):
            middle = (low + high) / 2
            low, high = (middle, high) if self.reported(mechanism, middle)[2] > goal else (low, middle)
        return (low + high) / 2

    def measured(self, mechanism: str, strength: float, n: int) -> dict[str, float]:
        """MEASURES of n labelled records of the target, beside n of the home hospital that no arm was trained on."""
        world = spec(**self.knobs, mechanism=mechanism, strength=strength)
        there, here = self.sample(world, "external-data", n, "external"), self.test.take(np.arange(n))
        shown, own, y = views(there), views(here), there.labels["outcome"]
        score = {arm: self.fits[arm].score(shown) for arm in self.fits}
        recalibrated = LogisticRegression(C=np.inf).fit(self.fits["jepa"].score(own)[:, None], here.labels["outcome"])
        p = expit(recalibrated.decision_function(score["jepa"][:, None]))
        slope, offset = slope_and_offset(np.clip(p, 1e-3, 1 - 1e-3), y)
        a, b = (shown[role] @ self.maps[role] for role in ("image", "clinical"))
        error = float(((b - self.slopes * a) ** 2).sum() / max((b**2).sum(), 1e-12))
        found = (label_auc(score["clinical"], y).value, error, domain_auc(own, shown, self.seed),
                 label_auc(score["image"], y).value, slope, offset)
        return dict(zip(MEASURES, found, strict=True))


def views(cohort: Cohort) -> dict[str, Float[np.ndarray, "records _"]]:
    """Each role's features, a record that is not there as zeros."""
    return {name: stream.floats()[:, 0].astype(np.float64) for name, stream in cohort.streams.items()}


def domain_auc(here: Views, there: Views, seed: int) -> float:
    """How well boosted trees tell the two hospitals' records apart, cross-validated: .5 is not at all."""
    x = np.concatenate([np.concatenate([v["image"], v["clinical"]], axis=1) for v in (here, there)])
    y = np.repeat([0.0, 1.0], [len(here["image"]), len(there["image"])])
    trees = LGBMClassifier(n_estimators=40, num_leaves=7, learning_rate=0.1, n_jobs=1, verbose=-1, random_state=seed,
                           deterministic=True, force_row_wise=True)
    score = np.zeros(len(y))
    for inside, outside in StratifiedKFold(2, shuffle=True, random_state=seed).split(x, y):
        score[outside] = trees.fit(x[inside], y[inside]).booster_.predict(x[outside], num_threads=1)
    return label_auc(score, y).value


def runs(asked: Question, report: Callable[[str], None]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The matched runs, one row a run and number of records; and of each home and mechanism, how many runs there were
    of how many, and why the others are none."""
    rows, account = [], []
    half = asked.within / 2
    middle = np.array([asked.jepa_home, asked.image_home, asked.jepa_outside, asked.image_home])
    for home in asked.homes:
        counts = {name: {"reached": 0, "matched": 0} for name in asked.mechanisms}
        for seed in range(asked.seeds):
            own = Home(asked, home, seed)
            for name in asked.mechanisms:
                strength = own.strength(name)
                if strength is None:
                    continue
                counts[name]["reached"] += 1
                four = own.reported(name, strength)
                if np.abs(np.array(four) - middle).max() > half:
                    continue
                counts[name]["matched"] += 1
                told = {"home": home, "seed": seed, "mechanism": name, "strength": strength,
                        **dict(zip(REPORTED, four, strict=True))}
                rows += [{**told, "records": n, **own.measured(name, strength, n)} for n in asked.records]
            report(f"{home}, seed {seed + 1} of {asked.seeds}: {len(rows) // len(asked.records)} runs")
        account += [{"home": home, "mechanism": name, "seeds": asked.seeds, **c} for name, c in counts.items()]
    return pd.DataFrame(rows), pd.DataFrame(account)


def told_apart(found: pd.DataFrame, measures: Sequence[str], seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The mechanism named for each run of an odd seed by a forest trained on those of even seeds, and the other way
    round: no run's seed was seen. Returns (true, named) of every run, and the confusion matrix, its rows adding to 1.
    """
    x, y = found[list(measures)].to_numpy(), found["mechanism"].to_numpy()
    odd = found["seed"].to_numpy() % 2 == 1
    named = np.empty(len(y), dtype=object)
    for held_out in (odd, ~odd):
        forest = RandomForestClassifier(TREES, class_weight="balanced", min_samples_leaf=2, random_state=seed, n_jobs=1)
        named[held_out] = forest.fit(x[~held_out], y[~held_out]).predict(x[held_out])
    pairs = found[["home", "seed"]].assign(true=y, named=named)
    return pairs, pd.crosstab(pairs["true"], pairs["named"], normalize="index")


def accuracy(pairs: pd.DataFrame, seed: int, draws: int = 1000) -> tuple[float, float, float]:
    """Balanced accuracy (the mean over mechanisms of the share named rightly) and its 95 % interval, by resampling
    whole seeds."""
    right = pairs.assign(right=pairs["true"] == pairs["named"])
    table = right.pivot_table("right", "seed", "true", aggfunc="sum").fillna(0).to_numpy(dtype=float)
    count = right.pivot_table("right", "seed", "true", aggfunc="count").fillna(0).to_numpy(dtype=float)

    def balanced(rows: np.ndarray) -> float:
        n = count[rows].sum(axis=0)
        return float(np.mean((table[rows].sum(axis=0) / np.maximum(n, 1))[n > 0]))

    generator = rng.generator(seed, 0, "design")
    drawn = [balanced(generator.integers(len(table), size=len(table))) for _ in range(draws)]
    return (balanced(np.arange(len(table))), *map(float, np.quantile(drawn, (0.025, 0.975))))


def answer(asked: Question, found: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy by what the classifier is given (nothing but the reported AUCs, each measure, all but one, all) and by
    number of records; and the confusion matrices of all measures."""
    scores, tables = [], []
    given = {"the four reported AUCs": list(REPORTED), **{m: [m] for m in MEASURES},
             **{f"all but {m}": [o for o in MEASURES if o != m] for m in MEASURES}, "all": list(MEASURES)}
    given["calibration"] = ["calibration slope", "calibration offset"]
    for n in asked.records:
        of = found[found["records"] == n].reset_index(drop=True)
        kinds = of["mechanism"].nunique()
        for what, measures in given.items():
            pairs, table = told_apart(of, measures, asked.seed)
            mean, low, high = accuracy(pairs, asked.seed)
            scores.append({"records": n, "given": what, "accuracy": mean, "low": low, "high": high,
                           "chance": 1 / kinds, "runs": len(of), "mechanisms": kinds})
            if what == "all":
                long = table.stack().rename("share").reset_index()
                tables.append(long.assign(records=n))
    return pd.DataFrame(scores), pd.concat(tables, ignore_index=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status. Raises SimlabError (a subclass) for bad input."""
    parser = Parser(prog="python -m simlab.train.mechanisms", description="Tell mechanisms of a shift apart by what a "
                    "hospital can measure, among runs that agree on the reported AUCs.")
    parser.add_argument("file", metavar="FILE.toml", type=Path, help="the question, with its prediction")
    parser.add_argument("--out", type=Path, help="folder of the tables (default: results/NAME)")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    args = parser.parse_args(argv)
    asked = read(args.file)
    file = standing.committed(args.file)
    file.pop("root", None)
    found, account = runs(asked, lambda line: None if args.quiet else print(line, file=sys.stderr, flush=True))
    if found.empty or found["mechanism"].nunique() < 2:
        raise InvalidStudy(f"{args.file}: fewer than two mechanisms have matched runs; widen `within`, or move the "
                           "goals.")
    out = args.out or Path("results") / asked.name
    out.mkdir(parents=True, exist_ok=True)
    told = {"question": asdict(asked), "file": file}
    write_text(out / "manifest.json", json.dumps(told, indent=2, default=str) + "\n")
    for name, table in (("runs", found), ("account", account)):
        write_text(out / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    scores, confusion = answer(asked, found)
    for name, table in (("accuracy", scores), ("confusion", confusion)):
        write_text(out / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
    print(account.to_string(index=False))
    print(scores.to_string(index=False, float_format=lambda x: f"{x:.3f}"))
    print(confusion.pivot_table("share", ["records", "true"], "named").to_string(float_format=lambda x: f"{x:.2f}"))
    return 0


if __name__ == "__main__":
    sys.exit(command(main))
