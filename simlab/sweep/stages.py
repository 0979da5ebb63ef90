"""The stages of one job: source data, pretraining, adaptation, evaluation, limits, each as often as its knobs change.

Within a job, stages are kept in memory; what the source data are presented with, pretrained encoders, fitted arms, what
they measure and the limits also lie in the stage cache (`simlab.sweep.cache`), where other jobs, runs and studies find
them. A stage is computed when something asks for it: a job whose fits are all known neither samples unlabelled records
nor trains. Keys are in `simlab.sweep.keys`. What is used is always what the packed arrays hold, cache or not, so that
memory layouts, on which the last bits of a product may depend, are those of an entry read back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from simlab import cohort_checks, methods, rng
from simlab.cohort import Cohort
from simlab.environments.archive import shown_as
from simlab.environments.registry import find_world
from simlab.environments.scenario import sample_cohort
from simlab.errors import OutOfDomain
from simlab.evaluation.online import PREFIX
from simlab.sweep import depends, keys, packing, progress
from simlab.sweep.cache import Cache
from simlab.sweep.packing import Source
from simlab.sweep.plan import Job
from simlab.sweep.presenting import Shown, layout_of, presented, reading, target_domain
from simlab.sweep.schema import Study
from simlab.training import pretrain, target, token_encoders, token_pretrain
from simlab.training.data import Bench, Fit, Labelled, Views
from simlab.training.loop import Diverged
from simlab.training.method import Method
from simlab.training.pretrain import ROLES, Encoders, Failed, Settings
from simlab.training.run import FAILURES

KEPT = 512  # fits (measures, limits) of one job in memory: more than the labels' settings x arms of any common map

Fleet = dict[int, "Encoders | Failed"]


class Stages:
    """The stages of one job. `spec` is any of its cells' worlds: they are equal in everything that pretraining sees."""

    def __init__(self, study: Study, job: Job, settings: Settings, spec: Any) -> None:
        self.study, self.job, self.settings, self.spec = study, job, settings, spec
        self.cache = Cache(job.cache, job.cache_mb) if job.cache else None
        self.keys = keys.Keys(study, job, settings)
        self.reads = reading({methods.find(arm).reads for arm in study.arms})
        self._sources: dict[int, Source] = {}
        self._unlabelled: dict[int, tuple[Cohort, Views]] = {}
        self._target: dict[int, tuple[str, Views]] = {}
        self._encoders: dict[tuple[str, ...], Fleet | Exception] = {}
        self._labelled: tuple[Any, tuple[Views, Cohort]] | None = None
        self._fits: _Recent[Fit] = _Recent()
        self._rows: _Recent[list[dict[str, Any]]] = _Recent()
        self._limits: _Recent[float | None] = _Recent()
        self._areas: _Recent[dict[str, float]] = _Recent()
        self.backbones: _Recent[Any] = _Recent()  # of whole stays (`simlab.sweep.trajectories`)

    def source(self, seed: int) -> Source:
        """How the records of one seed are presented: from the cache, or with the unlabelled records themselves."""
        if seed not in self._sources:
            key = self.keys.source(self.spec, seed, self.reads)
            known = self.cache.get(key) if self.cache is not None else None
            if known is None:
                self.unlabelled(seed)
            else:
                progress.count("source-data/cached")
                self._sources[seed] = packing.unpack_source(known)
        return self._sources[seed]

    def unlabelled(self, seed: int) -> tuple[Cohort, Views]:
        """The unlabelled records of one seed, and what arms are shown of them: tokens too, where one reads them."""
        if seed not in self._unlabelled:
            progress.count("source-data")
            spec, study = self.spec, self.study
            cohort = sample_cohort(spec, "pretraining-data", spec.n_unlab, study.seed, seed, world=study.world)
            inputs = cohort.inputs(None)
            presentation = presented(inputs, self.reads, self.settings, cohort.visits)
            channels = {name: stream.channels for name, stream in cohort.streams.items()}
            source = Source(presentation, np.unique(cohort.subject), channels)
            if self.cache is not None and seed not in self._sources:
                self.cache.put(self.keys.source(spec, seed, self.reads), packing.pack_source(source))
            self._sources[seed] = source
            subject = np.unique(cohort.subject, return_inverse=True)[1]
            self._unlabelled[seed] = cohort, presentation(inputs) | {"subject": subject}
        return self._unlabelled[seed]

    def target(self, spec: Any, seed: int) -> Views:
        """The unlabelled records of the target that arms may ask for (`Method.outside`), as arms are shown them."""
        key = self.keys.outside(spec)
        if self._target.get(seed, ("",))[0] != key:  # the last ones asked for are kept, of each seed
            progress.count("target-data")
            n = self.study.train.n_target or spec.n_unlab
            domain = target_domain(self.study)
            cohort = sample_cohort(spec, "target-data", n, self.study.seed, seed, domain, world=self.study.world)
            source = self.source(seed)
            cohort_checks.check_subjects({"pretrain": source.subjects, "target": cohort.subject})
            self._target[seed] = key, source.presentation(cohort.inputs(None))
        return self._target[seed][1]

    def sample(self, spec: Any, stage: str, n: int, seed: int, domain: str = "source") -> tuple[Views, Cohort]:
        """A cohort of a later stage, and what arms are shown of it."""
        cohort = sample_cohort(spec, stage, n, self.study.seed, seed, domain, world=self.study.world)
        return self.source(seed).presentation(cohort.inputs(self.study.compare.task)), cohort

    def guard(self, spec: Any, seed: int, shown: Mapping[str, Cohort]) -> None:
        """Refuse cohorts that share a subject, or whose streams have other channels (as `simlab.cohort.Scenario`)."""
        source = self.source(seed)
        cohorts = {"train": self.labels(spec, seed)[1], **shown}
        cohort_checks.check_subjects({"pretrain": source.subjects, **{k: c.subject for k, c in cohorts.items()}})
        for where, cohort in cohorts.items():
            for name, stream in cohort.streams.items():
                known = source.channels.get(name, stream.channels)
                cohort_checks.require(known == stream.channels,
                                      f"stream '{name}': other channels in '{where}' than in 'pretrain'")

    def encoders(self, arm: Method, seed: int, spec: Any = None) -> Encoders:
        """The encoders of the arm's recipe; `spec`: whose target an arm trains on that does. Raises what their training
        raised."""
        spec = self.spec if spec is None else spec
        place = (*arm.recipe, arm.outside, self.keys.outside(spec)) if arm.moves_outside else arm.recipe
        if place not in self._encoders:
            try:
                self._encoders[place] = self._moved(arm, spec) if arm.moves_outside else self._recipe(arm)
            except FAILURES as error:
                self._encoders[place] = error
        fleet = self._encoders[place]
        found = fleet if isinstance(fleet, Exception) else fleet[seed]
        if isinstance(found, Exception):
            raise found.with_traceback(None)
        return found

    def _recipe(self, arm: Method) -> Fleet:
        """Encoders for every seed of the job: from the cache, or trained as one fleet; untrained ones are cheap.

        A member that could not be trained is its error.
        """
        seeds = self.job.seeds
        pairs = [(rng.integer(self.study.seed, s, "initialisation"), rng.integer(self.study.seed, s, "order"))
                 for s in seeds]
        if not arm.pretrained and arm.reads == "tokens":
            layouts = [layout_of(self.source(s).presentation) for s in seeds]
            one = [token_encoders.random_encoders(layout, arm, self.settings, [initial])[0]
                   for layout, (initial, _) in zip(layouts, pairs, strict=True)]
            return dict(zip(seeds, one, strict=True))
        if not arm.pretrained:
            inputs = {role: self.unlabelled(seeds[0])[1][role].shape[1] for role in ROLES}
            made = pretrain.random_encoders(inputs, self.settings.of(arm), [initial for initial, _ in pairs])
            return dict(zip(seeds, made, strict=True))

        def train() -> list[Encoders | Failed]:
            progress.count("pretraining", len(seeds))
            views = [{**shown, **followed(cohort)} for cohort, shown in map(self.unlabelled, seeds)]
            return trained(arm, views, self.source(seeds[0]).presentation, self.settings, pairs)

        key = self.keys.pretraining(self.spec, arm)
        return dict(zip(seeds, self._fleet(key, train), strict=True))

    def _moved(self, arm: Method, spec: Any) -> Fleet:
        """Encoders that were trained on records of this world's target too, for every seed of the job."""
        seeds, source = self.job.seeds, replace(arm, outside="none")

        def begun(seed: int) -> Encoders | Failed | None:
            if arm.outside == "pooled":
                return None
            try:
                return self.encoders(source, seed)
            except (Diverged, OutOfDomain) as error:
                return error

        def train() -> list[Encoders | Failed]:
            start = [begun(s) for s in seeds]
            progress.count("target-pretraining", len(seeds))
            pairs = [(rng.integer(self.study.seed, s, "initialisation", 1), rng.integer(self.study.seed, s, "order", 1))
                     for s in seeds]
            before = [self.unlabelled(s)[1] for s in seeds] if arm.outside == "pooled" else []
            return target.trained(arm, self.settings, [self.target(spec, s) for s in seeds], before, start, pairs)

        return dict(zip(seeds, self._fleet(self.keys.moved(spec, arm), train, "target-pretraining"), strict=True))

    def _fleet(
        self, key: str, train: Callable[[], list[Encoders | Failed]], name: str = "pretraining"
    ) -> list[Encoders | Failed]:
        if self.cache is None:
            return packing.unpack_fleet(packing.pack_fleet(train()))
        with self.cache.claim(key):
            known = self.cache.get(key)
            if known is not None:
                progress.count(f"{name}/cached", len(self.job.seeds))
                return packing.unpack_fleet(known)
            packed = packing.pack_fleet(train())
            self.cache.put(key, packed)
        return packing.unpack_fleet(packed)

    def labels(self, spec: Any, seed: int) -> tuple[Views, Cohort]:
        """The labelled records of one seed: what arms are shown of them, and their cohort."""
        key = (seed, self.keys.before_target(spec))
        if self._labelled is None or self._labelled[0] != key:  # the last ones asked for are kept
            self._labelled = key, self.sample(spec, "training-data", spec.n_lab, seed)
        return self._labelled[1]

    def labelled(self, spec: Any, seed: int) -> Labelled:
        """The labelled records of one seed. Raises OutOfDomain for too few."""
        views, cohort = self.labels(spec, seed)
        y = cohort.labels[self.study.compare.task]
        known = ~np.isnan(y)
        if not known.all():
            views, y = {name: x[known] for name, x in views.items()}, y[known]
        return Labelled(views, y, cohort.subject[known])

    def incomplete(self, spec: Any, seed: int, how: str) -> Labelled:
        """One seed's further labelled records, whose clinical record was never collected, shown as `how` says."""
        study = self.study
        cohort = sample_cohort(spec, "incomplete-data", spec.n_inc, study.seed, seed, world=study.world)
        views = self.source(seed).presentation(shown_as(cohort, how).inputs(study.compare.task))
        return Labelled(views, cohort.labels[study.compare.task], cohort.subject)

    def fit(self, arm: Method, spec: Any, seed: int, train: Callable[[Method, Bench], Fit]) -> tuple[str, Fit]:
        """The fitted arm and its key: from memory, the cache, or `train`. Raises what adaptation raised."""
        key = self.keys.adaptation(spec, arm, seed)
        if key in self._fits:
            return key, self._fits[key]
        if self.cache is None:
            fit = packing.plain(self._adapt(arm, spec, seed, train))
        else:
            with self.cache.claim(key):
                fit = self._kept(self.cache, key, lambda: self._adapt(arm, spec, seed, train))
        self._fits[key] = fit
        return key, fit

    @staticmethod
    def _kept(cache: Cache, key: str, adapt: Callable[[], Fit]) -> Fit:
        known = cache.get(key)
        if known is not None:
            progress.count("adaptation/cached")
            return packing.unpack_fit(known)
        fit = adapt()
        packed = packing.pack_fit(fit)
        if packed is None:
            return fit
        cache.put(key, packed)
        return packing.unpack_fit(packed)

    def _adapt(self, arm: Method, spec: Any, seed: int, train: Callable[[Method, Bench], Fit]) -> Fit:
        bench = self.bench(arm, spec, seed, "adaptation")
        progress.count("adaptation")
        return train(arm, bench)

    def bench(self, arm: Method, spec: Any, seed: int, stage: str) -> Bench:
        """Everything that an arm may use of one seed; its own draws are those of `stage`."""
        encoders, draws = self.encoders(arm, seed, spec), rng.integer(self.study.seed, seed, stage)
        more = partial(self.incomplete, spec, seed) if getattr(spec, "n_inc", 0) else None
        return Bench(self.labelled(spec, seed), _Lazy(lambda: self.unlabelled(seed)[1]), encoders,
                     self.settings.of(arm), draws, incomplete=more, target=self.outside(spec, arm, seed))

    def outside(self, spec: Any, arm: Method, seed: int) -> Mapping[str, np.ndarray] | None:
        """What an arm may see of the target (`Bench.target`): sampled when it first looks."""
        return None if arm.outside == "none" else _Lazy(lambda: self.target(spec, seed))

    def measured(self, key: str, measure: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """The rows of one fitted arm in one cohort: from memory, the cache, or `measure`."""
        if key not in self._rows:
            known = self.cache.get(key) if self.cache is not None else None
            progress.count("evaluation" if known is None else "evaluation/cached")
            packed = packing.pack_rows(measure()) if known is None else known
            if self.cache is not None and known is None:
                self.cache.put(key, packed)
            self._rows[key] = packing.unpack_rows(packed)
        return [dict(row) for row in self._rows[key]]

    def areas(self, spec: Any, domain: str) -> dict[str, float]:
        """The best AUROC of each task in one domain, for all seeds; nothing where the world does not know."""
        world = find_world(self.study.world)
        spec = depends.of_areas(spec, domain == world.domains[0])
        key = self.keys.limit(spec, domain, "tasks")
        if key not in self._areas:
            known = self.cache.get(key) if self.cache is not None else None
            progress.count("limit" if known is None else "limit/cached")
            if known is None:
                found = world.areas(spec, domain)
                known = {task: np.array([value], dtype=np.float64) for task, value in found.items()}
                if self.cache is not None:
                    self.cache.put(key, known)
            self._areas[key] = {task: float(value[0]) for task, value in known.items()}
        return self._areas[key]

    def limit(self, spec: Any, domain: str, view: str) -> float | None:
        """The Bayes limit of what an arm may see, in one domain, for all seeds (None where the world does not know)."""
        spec = replace(spec, n_lab=2, map_seed=0)
        key = self.keys.limit(spec, domain, view)
        if key not in self._limits:
            known = self.cache.get(key) if self.cache is not None else None
            progress.count("limit" if known is None else "limit/cached")
            if known is None:
                value = find_world(self.study.world).limit(spec, domain, view)
                known = {"limit": np.array([] if value is None else [value], dtype=np.float64)}
                if self.cache is not None:
                    self.cache.put(key, known)
            self._limits[key] = float(known["limit"][0]) if len(known["limit"]) else None
        return self._limits[key]


def trained(
    arm: Method, views: Sequence[Views], presentation: Shown, settings: Settings, pairs: Sequence[tuple[int, int]]
) -> list[Encoders | Failed]:
    """A fleet's encoders, pretrained on each member's unlabelled records."""
    names = (*(("tokens", "times") if arm.reads == "tokens" else ROLES), "subject",
             *(name for name in views[0] if name.startswith(PREFIX)))
    data = {name: np.stack([own[name] for own in views]) for name in names}
    if arm.reads == "tokens":
        return token_pretrain.pretrain(data, layout_of(presentation), arm, settings, pairs)
    return pretrain.pretrain(data, arm, settings, pairs)


def followed(cohort: Cohort) -> Views:
    """What the online probe reads along a training: the true factors, those with one value a record."""
    return {f"{PREFIX}{name}": np.asarray(x, dtype=np.float32).reshape(len(cohort), -1)
            for name, x in cohort.factors.items() if x.size and x.ndim < 3}


Item = TypeVar("Item")


class _Recent(OrderedDict[str, Item]):
    """The entries used last; those used longest ago are dropped."""

    def __getitem__(self, key: str) -> Item:
        self.move_to_end(key)
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: Item) -> None:
        super().__setitem__(key, value)
        if len(self) > KEPT:
            self.popitem(last=False)


class _Lazy(Mapping[str, np.ndarray]):
    """Unlabelled records by role, sampled when an arm first looks at them."""

    def __init__(self, made: Callable[[], Views]) -> None:
        self._made = made

    def __getitem__(self, role: str) -> np.ndarray:
        return self._made()[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made())

    def __len__(self) -> int:
        return len(self._made())
