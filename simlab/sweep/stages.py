"""The stages before evaluation in one job: source data, pretraining, adaptation, each as often as its knobs change.

Within a job, stages are kept in memory; pretrained encoders and fitted arms also lie in the stage cache
(`simlab.sweep.cache`), where other jobs, runs and studies find them. A stage is computed when something asks for it: a
job whose fits are all known neither samples nor trains. Keys are in `simlab.sweep.keys`.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from simlab import rng
from simlab.cohort import Cohort
from simlab.environments.scenario import sample_cohort
from simlab.errors import SimlabError
from simlab.methods import Method
from simlab.models import present
from simlab.sweep import keys, progress
from simlab.sweep.cache import Cache
from simlab.sweep.plan import Job
from simlab.sweep.schema import Study
from simlab.training import pretrain, scores
from simlab.training.data import Bench, Fit, Labelled, Views
from simlab.training.pretrain import ROLES, Encoders, Settings

KEPT_FITS = 512  # fits of one job in memory: more than the labels' settings x arms of any common map

# What an arm may raise and the study survive, as a row with its reason: everything but an interrupt or an exit, since a
# plug-in's method is anybody's code.
FAILURES = (
    SimlabError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def views_of(
    study: Study, spec: Any, stage: str, n: int, seed: int, domain: str = "source"
) -> tuple[Views, Cohort]:
    """A cohort of one stage, and what arms are shown of it."""
    cohort = sample_cohort(spec, stage, n, study.seed, seed, domain, world=study.world)
    inputs = cohort.inputs(study.compare.task if cohort.tasks else None)
    return present.fit(inputs)(inputs), cohort


class Stages:
    """The stages of one job. `spec` is any of its cells' worlds: they are equal in everything that pretraining sees."""

    def __init__(self, study: Study, job: Job, settings: Settings, spec: Any) -> None:
        self.study, self.job, self.settings, self.spec = study, job, settings, spec
        self.cache = Cache(job.cache, job.cache_mb) if job.cache else None
        self.keys = keys.Keys(study, job, settings)
        self._unlabelled: dict[int, Views] = {}
        self._encoders: dict[tuple[str, ...], dict[int, Encoders] | Exception] = {}
        self._labelled: tuple[Any, tuple[Views, Cohort]] | None = None
        self._fits: OrderedDict[str, Fit] = OrderedDict()

    def unlabelled(self, seed: int) -> Views:
        """The unlabelled records of one seed."""
        if seed not in self._unlabelled:
            progress.count("source-data")
            self._unlabelled[seed] = views_of(self.study, self.spec, "pretraining-data", self.spec.n_unlab, seed)[0]
        return self._unlabelled[seed]

    def encoders(self, arm: Method, seed: int) -> Encoders:
        """The encoders of the arm's recipe. Raises what their training raised."""
        if arm.recipe not in self._encoders:
            try:
                self._encoders[arm.recipe] = self._recipe(arm)
            except FAILURES as error:
                self._encoders[arm.recipe] = error
        found = self._encoders[arm.recipe]
        if isinstance(found, Exception):
            raise found
        return found[seed]

    def _recipe(self, arm: Method) -> dict[int, Encoders]:
        """Encoders for every seed of the job: from the cache, or trained as one fleet; untrained ones are cheap."""
        seeds = self.job.seeds
        pairs = [(rng.integer(self.study.seed, s, "initialisation"), rng.integer(self.study.seed, s, "order"))
                 for s in seeds]
        if not arm.pretrained:
            inputs = {role: self.unlabelled(seeds[0])[role].shape[1] for role in ROLES}
            made = pretrain.random_encoders(inputs, self.settings, [initial for initial, _ in pairs])
            return dict(zip(seeds, made, strict=True))

        def train() -> list[Encoders]:
            progress.count("pretraining", len(seeds))
            views = {role: np.stack([self.unlabelled(s)[role] for s in seeds]) for role in ROLES}
            return pretrain.pretrain(views, arm, self.settings, pairs)

        key = self.keys.pretraining(self.spec, arm)
        return dict(zip(seeds, self._fleet(key, train), strict=True))

    def _fleet(self, key: str, train: Callable[[], list[Encoders]]) -> list[Encoders]:
        if self.cache is None:
            return train()
        with self.cache.claim(key):
            known = self.cache.get(key)
            if known is not None:
                progress.count("pretraining/cached", len(self.job.seeds))
                parts = ({k.split("/", 1)[1]: v for k, v in known.items() if k.startswith(f"{m}/")}
                         for m in range(len(self.job.seeds)))
                return [scores.unpack_encoders(part) for part in parts]
            made = train()
            packed = [scores.pack_encoders(encoders) for encoders in made]
            self.cache.put(key, {f"{m}/{k}": v for m, part in enumerate(packed) for k, v in part.items()})
        return made

    def labelled(self, spec: Any, seed: int) -> Labelled:
        """The labelled records of one seed (the last ones asked for are kept). Raises OutOfDomain for too few."""
        key = (seed, self.keys.before_target(spec))
        if self._labelled is None or self._labelled[0] != key:
            self._labelled = key, views_of(self.study, spec, "training-data", spec.n_lab, seed)
        views, cohort = self._labelled[1]
        return Labelled(views, cohort.labels[self.study.compare.task], cohort.subject)

    def fit(self, arm: Method, spec: Any, seed: int, train: Callable[[Method, Bench], Fit]) -> tuple[str, Fit]:
        """The fitted arm and its key: from memory, the cache, or `train`. Raises what adaptation raised."""
        key = self.keys.adaptation(spec, arm, seed)
        if key in self._fits:
            self._fits.move_to_end(key)
            return key, self._fits[key]
        known = self.cache.get(key) if self.cache is not None else None
        if known is not None:
            progress.count("adaptation/cached")
            fit = _unpack(known)
        else:
            encoders = self.encoders(arm, seed)
            bench = Bench(self.labelled(spec, seed), _Lazy(self, seed), encoders, self.settings,
                          rng.integer(self.study.seed, seed, "adaptation"))
            progress.count("adaptation")
            fit = train(arm, bench)
            packed = scores.pack(fit.score)
            if self.cache is not None and packed is not None:
                told = np.array(json.dumps({k: float(v).hex() for k, v in fit.diagnostics.items()}))
                self.cache.put(key, {**packed, "diagnostics": told})
        self._fits[key] = fit
        if len(self._fits) > KEPT_FITS:
            self._fits.popitem(last=False)
        return key, fit


def _unpack(arrays: Mapping[str, np.ndarray]) -> Fit:
    told = json.loads(str(arrays["diagnostics"]))
    return Fit(scores.unpack(arrays), {k: float.fromhex(v) for k, v in told.items()})


class _Lazy(Mapping):
    """The unlabelled records of a seed, sampled when an arm first looks at them."""

    def __init__(self, stages: Stages, seed: int) -> None:
        self._stages, self._seed = stages, seed

    def __getitem__(self, role: str) -> np.ndarray:
        return self._stages.unlabelled(self._seed)[role]

    def __iter__(self) -> Any:
        return iter(self._stages.unlabelled(self._seed))

    def __len__(self) -> int:
        return len(self._stages.unlabelled(self._seed))
