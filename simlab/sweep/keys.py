"""Keys of the stages of a cell: a hash of everything that a stage's numbers follow from, and of nothing else.

A key holds the stage and its version, the hash of the simlab sources that the stage imports, the stage's own resolved
fields, seed and upstream key, and what may move the last bits: library versions, processor, device, threads, dtype. Not
the commit: a change of the docs empties no cache. Nor the study's name, so that studies share what they have in common.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from simlab.environments.registry import find_world
from simlab.methods import Method
from simlab.sweep import BEGUN, depends, whole_stays
from simlab.sweep.depends import canonical
from simlab.sweep.plan import Job
from simlab.sweep.provenance import processor
from simlab.sweep.schema import Study
from simlab.training.pretrain import Settings

# Raised by hand when a stage's meaning changes in a place that its sources do not show (the order of its inputs here).
VERSIONS = {"source-data": 1, "pretraining": 1, "target-pretraining": 1, "adaptation": 1, "evaluation": 1, "limit": 1,
            "trajectory": 1}
LIBRARIES = ("numpy", "scipy", "torch", "scikit-learn", "lightgbm")
DTYPE = "float32"
NAMES = ("name", "meaning", "theory", "search")  # of a method: words about it, not what it does
# Of the settings; the device is in every key.
NOT_PRETRAINED_BY = ("finetune_steps", "penalty", "encoder_rate", "diagnostics", "device")
# What puts the stages together and gives entries their form, by itself.
OWN = ("simlab.sweep.stages", "simlab.sweep.packing", "simlab.training.scores")
MEASURED_BY = ("simlab.sweep.job",)


class Keys:
    """The keys of one job's stages."""

    def __init__(self, study: Study, job: Job, settings: Settings) -> None:
        self.study, self.job, self.settings = study, job, settings
        self.world = find_world(study.world)
        module = self.world.module
        self._world_module = module if isinstance(module, str) else type(module).__module__
        self._memo: dict[Any, str] = {}

    def before_target(self, spec: Any) -> str:
        """A world's fields but those that touch the target alone, as text."""
        return canonical(depends.before_target(self.world, spec))

    def source(self, spec: Any, seed: int | None = None, reads: str = "features") -> str:
        """Unlabelled records and how they are shown: of one seed, or what those of all seeds have in common.

        `reads` "tokens": cut into tokens too; arms of features see the same with them and without. "tokens-alone": the
        same tokens without features.
        """
        modules = ("simlab.environments.scenario", "simlab.models.present", self._world_module)
        fields = depends.source(self.world, spec)
        if reads != "features":
            modules, fields = (*modules, "simlab.models.tokens"), {**fields, "patch": self.settings.cut}
        if reads == "tokens-alone":
            fields = {**fields, "features": False}
        return self._key("source-data", modules, fields, seed, "")

    def pretraining(self, spec: Any, arm: Method) -> str:
        """A fleet's encoders: one entry for all seeds of a job, since members of a fleet are trained together."""
        settings = {k: v for k, v in dataclasses.asdict(self.settings).items() if k not in NOT_PRETRAINED_BY}
        fields = {"recipe": arm.recipe, "pretrained": arm.pretrained, "settings": settings}
        modules = ("simlab.training.token_pretrain" if arm.reads == "tokens" else "simlab.training.pretrain",)
        return self._key("pretraining", modules, fields, self.job.seeds, self.source(spec, reads=arm.reads))

    def outside(self, spec: Any) -> str:
        """What unlabelled records of the target follow from: every field but those of training labels alone, and how
        many there are."""
        return canonical({"fields": depends.outside(spec), "n": self.study.train.n_target,
                          "cohort": self.study.compare.cohort})

    def moved(self, spec: Any, arm: Method) -> str:
        """A fleet's encoders that were trained on records of the target too: a change of any target knob is another."""
        fields = {"outside": arm.outside, "target": self.outside(spec)}
        modules = ("simlab.training.target", "simlab.environments.scenario", "simlab.models.present",
                   self._world_module)
        return self._key("target-pretraining", modules, fields, self.job.seeds, self.pretraining(spec, arm))

    def adaptation(self, spec: Any, arm: Method, seed: int) -> str:
        """A fitted arm: labels, its own axes, and the encoders it starts from (for an untrained arm: of any fleet)."""
        method = {k: v for k, v in dataclasses.asdict(arm).items() if k not in NAMES}
        fields = {"method": method, "settings": dataclasses.asdict(self.settings), "task": self.study.compare.task,
                  "records": self.before_target(spec)}
        above = self.pretraining(spec, arm) if arm.pretrained else self.source(spec, reads=arm.reads)
        if arm.outside != "none":
            fields["target"] = self.outside(spec)
            above = self.moved(spec, arm) if arm.moves_outside else above
        modules = ("simlab.training.run", arm.trainer.partition(":")[0], "simlab.models.present",
                   "simlab.environments.scenario", self._world_module,
                   *(("simlab.training.token_encoders",) if arm.reads == "tokens" else ()))
        return self._key("adaptation", modules, fields, seed, above)

    def trajectory(self, spec: Any, arm: Method, seed: int) -> str:
        """A backbone of whole stays and the labelled stays that its probes learn from: one entry a seed."""
        method = {k: v for k, v in dataclasses.asdict(arm).items() if k not in NAMES}
        fields = {"method": method, "settings": dataclasses.asdict(self.settings),
                  "records": self.before_target(spec), **whole_stays.known_by(self.study)}
        modules = ("simlab.sweep.trajectories", "simlab.trajectories.arms", "simlab.environments.scenario",
                   self._world_module)
        return self._key("trajectory", modules, fields, seed, self.source(spec))

    def evaluation(self, spec: Any, adaptation: str, domain: str) -> str:
        """What one fitted arm comes to in one domain; in the source's, target knobs change nothing."""
        home = domain == self.world.domains[0]
        fields = {"records": json.loads(self.before_target(spec)) if home else depends.fields(spec),
                  "domain": domain, "n_test": self.study.train.n_test}
        modules = ("simlab.evaluation.auc", "simlab.evaluation.leak", "simlab.environments.scenario",
                   self._world_module)
        return self._key("evaluation", modules, fields, None, adaptation)

    def limit(self, spec: Any, domain: str, view: str) -> str:
        """The Bayes limit of a view in a domain: of the world alone, whatever the seed."""
        fields = {"world": self.world.name, "fields": depends.fields(spec), "domain": domain, "view": view}
        return self._key("limit", (self._world_module,), fields, None, "", seeded=False)

    def _key(self, stage: str, modules: Sequence[str], fields: Mapping[str, Any], seed: Any, above: str,
             seeded: bool = True) -> str:
        place = (stage, tuple(modules), canonical(fields), seed, above)
        if place not in self._memo:
            if len(self._memo) > 4096:  # the cells of a job come in order; memory stays flat
                self._memo.clear()
            whole = {"stage": stage, "version": VERSIONS[stage], "fields": fields, "seed": seed, "above": above,
                     "study_seed": self.study.seed if seeded else None,
                     "sources": sources(tuple(modules), self.study.plugins),
                     "own": sources(OWN + MEASURED_BY if stage == "evaluation" else OWN, follow=False),
                     "libraries": libraries(), "processor": processor(), "device": self.job.device,
                     "threads": self.job.threads, "dtype": DTYPE}
            self._memo[place] = hashlib.sha256(canonical(whole).encode()).hexdigest()
        return self._memo[place]


@lru_cache(maxsize=1)
def libraries() -> dict[str, str]:
    """Versions of the libraries that compute."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found


@lru_cache(maxsize=256)
def sources(modules: tuple[str, ...], plugins: tuple[str, ...] = (), follow: bool = True) -> str:
    """The hash of the files that `files` names.

    One that changed after this process began may not be what it computes with (a module that was edited during a run
    is loaded already): what such a process computes has keys of its own, which no other process asks for.
    """
    total = hashlib.sha256()
    for path in files(modules, plugins, follow):
        total.update(hashlib.sha256(path.read_bytes()).digest())
        if path.stat().st_ctime > BEGUN:
            total.update(_ALONE)
    return total.hexdigest()


_ALONE = os.urandom(16)


@lru_cache(maxsize=256)
def files(modules: tuple[str, ...], plugins: tuple[str, ...] = (), follow: bool = True) -> tuple[Path, ...]:
    """The sources of these modules and plug-ins, and (`follow`) of all that they import, however far: of simlab, and of
    what lies beside a plug-in."""
    folders = {Path(name).resolve().parent for name in plugins}
    todo: list[Path | None] = [*(_source(module) for module in modules), *(Path(name).resolve() for name in plugins)]
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        if path is None or path in seen:
            continue
        seen.add(path)
        if follow and (path.is_relative_to(_PACKAGE) or any(path.is_relative_to(folder) for folder in folders)):
            todo += [_within(name, folders) for name in _imports(path)]
    return tuple(sorted(seen))


def _within(module: str, folders: set[Path]) -> Path | None:
    """An imported module's source where it is simlab's or lies under one of these folders."""
    if module.split(".")[0] == "simlab":
        return _source(module)
    stems = (folder.joinpath(*module.split(".")) for folder in folders)
    places = (place for stem in stems for place in (stem / "__init__.py", stem.with_suffix(".py")))
    return next((place for place in places if place.is_file()), None)


_PACKAGE = Path(__file__).resolve().parents[1]


def _source(module: str) -> Path | None:
    """A module's source file; None where it has none (a name that is no module, a plug-in's own)."""
    if module.split(".")[0] == "simlab":
        stem = _PACKAGE.parent.joinpath(*module.split("."))
        return next((p for p in (stem / "__init__.py", stem.with_suffix(".py")) if p.is_file()), None)
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found and found.origin and found.has_location else None


@lru_cache(maxsize=512)
def _imports(path: Path) -> tuple[str, ...]:
    """The modules that a source imports, inside functions too (`from a import b` counts as a and as a.b)."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)
