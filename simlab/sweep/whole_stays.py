"""A study of arms that read whole stays: its table [trajectory], and whether their language model can be had.

The table's keys are the settings of `simlab.training.trajectory_settings` but those that [train] has, and how finely
the best forecast of the arms' latents is simulated. Imports no array module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from simlab import methods
from simlab.environments.knob import Interval
from simlab.environments.registry import find_world
from simlab.errors import InvalidStudy, OutOfDomain
from simlab.sweep import fields
from simlab.sweep.schema import Study
from simlab.training.method import Method
from simlab.training.points import curriculum
from simlab.training.trajectory_settings import DOMAINS, OF_TRAIN, Settings, expected, fits, of_study, unread

TABLE = "trajectory"
WORLD = "icu"  # of those that come with simlab the one with whole stays; its law the optimum knows
LANGUAGE_MODEL = "llm"
LIBRARIES = ("transformers", "peft")  # that a language model's numbers follow from too
# The simulated optimum of every arm's latents (`simlab.trajectories.optimum`): of how many stays (0: none is made), by
# how many guesses each. No backbone is built or trained by it.
STAYS, PARTICLES = "optimum_stays", "optimum_particles"
OPTIMUM = {STAYS: Interval(0, 1_000_000, whole=True), PARTICLES: Interval(2, 100_000, whole=True)}
SAME = "-same"  # of rows on the stays that the optimum forecasts, its own number their limit
KEYS = (*(f.name for f in fields_of(Settings) if f.name not in OF_TRAIN), *OPTIMUM)
LEAST_HOURS = 30  # a study's drift is asked after 24 hours
# What `simlab.trajectories.arms.measure` asks (its STUDIED, in numbers alone): horizons after the context, and the span
# of hours over which displacement is taken.
CONTEXT, HORIZONS, SPAN = 24, (6, 12, 24, 48), 48


def settled(study: Study, raw: Mapping[str, Any]) -> Study:
    """The study with this table, its values checked one by one and together with [train]'s. Raises InvalidStudy."""
    whole = [arm for arm in study.arms if methods.find(arm).trajectory]
    if whole and study.design.kind == "tune":
        raise InvalidStudy(f"design.kind = 'tune': {whole[0]} reads whole stays and has no fit of one task whose "
                           "settings could be tuned; leave it out, or take another design.")
    if whole and study.world != WORLD and str(find_world(study.world).module).startswith("simlab."):
        raise InvalidStudy(f"world.name = '{study.world}': {whole[0]} reads whole stays by the hour, and needs the "
                           f"world '{WORLD}' (or a plug-in's).")
    if raw and not whole:
        raise InvalidStudy(f"[{TABLE}] is for arms that read whole stays (clin-jepa and its like); compare.arms names "
                           "none.")
    if not whole:
        return study
    for key in raw:
        if key in OF_TRAIN or key in OF_TRAIN.values():
            name = OF_TRAIN.get(key, key)
            raise InvalidStudy(f"{TABLE}.{key}: set it in [train]{f', as {name}' if name != key else ''}.")
    fields.known_keys(raw, KEYS, f"[{TABLE}]")
    given = {key: _checked(key, value) for key, value in raw.items()}
    _simulated(study, given)
    encoder = given.get("encoder", Settings.encoder)
    for key in given:
        why = unread(key, encoder, [curriculum(methods.find(arm)) for arm in whole])
        if why:
            raise InvalidStudy(f"{TABLE}.{key}: {why}.")
    windows = given.get("max_hours", Settings.max_hours)
    lengths = ((f"{TABLE}.max_hours", windows), *(("hours", stays) for stays in _hours(study)))
    for key, hours in lengths:
        if hours < LEAST_HOURS:
            raise InvalidStudy(f"{key} = {hours}: expected at least {LEAST_HOURS} with arms that read whole stays: "
                               "their drift and tasks are asked after 24.")
    _reached(study.metric, lengths)
    try:
        of_study(study.train, of_backbone(given))
    except OutOfDomain as error:
        raise InvalidStudy(f"[{TABLE}], with [train]: {error}") from None
    return replace(study, trajectory=given)


def of_backbone(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the table that build and train a backbone."""
    return {key: value for key, value in given.items() if key not in OPTIMUM}


def _simulated(study: Study, given: Mapping[str, Any]) -> None:
    """Refuse an optimum that this world cannot have or nobody asked for, and metrics beside it. Raises InvalidStudy."""
    if given.get(STAYS) and study.world != WORLD:
        raise InvalidStudy(f"{TABLE}.{STAYS}: the optimum is simulated by the law of the world {WORLD}, this "
                           f"study's is {study.world}; leave it out.")
    if given.get(STAYS):
        return
    if PARTICLES in given:
        raise InvalidStudy(f"{TABLE}.{PARTICLES}: nothing reads it without {STAYS}; set {STAYS} too, or leave it out.")
    if study.metric.rpartition("-")[0].endswith(SAME):
        raise InvalidStudy(f"compare.metric = {study.metric!r}: it is measured on the stays of a simulated optimum; "
                           f"set {TABLE}.{STAYS}.")


def _reached(metric: str, lengths: Sequence[tuple[str, int]]) -> None:
    """Refuse a metric (compare.metric) that is asked of hours which windows or stays do not have. Raises InvalidStudy.
    """
    key, hours = min(lengths, key=lambda length: length[1])
    if metric.startswith("displacement-") and hours < SPAN:
        raise InvalidStudy(f"compare.metric = {metric!r}: displacement is taken over {SPAN} hours, {key} is {hours}.")
    name, _, horizon = metric.rpartition("-")
    if name.startswith(("drift", "mase-", "own-stay", "part-")):
        there = [str(h) for h in HORIZONS if h <= hours - CONTEXT]
        if horizon not in there:
            raise InvalidStudy(f"compare.metric = {metric!r}: expected a horizon of {', '.join(there)} h, as far as "
                               f"{key} = {hours} goes after {CONTEXT} hours of context.")


def _hours(study: Study) -> list[Any]:
    """The lengths of the world's stays, where the study says them."""
    swept = [value for axis in study.axes if axis.symbol == "max_hours" for value in axis.values]
    return swept + [value for key, value in study.knobs.items() if key in ("hours", "max_hours")]


def _checked(key: str, value: object) -> Any:
    domain = OPTIMUM[key] if key in OPTIMUM else DOMAINS[key]
    if not isinstance(domain, type):
        return fields.checked(value, domain, f"{TABLE}.{key}")
    if not fits(value, domain) or value == "":
        raise InvalidStudy(f"{TABLE}.{key} = {value!r}: expected {expected(domain)}.")
    return value


def language_model(study: Study) -> str:
    """The name or folder of the language model that its backbones have, "" for none."""
    if study.trajectory.get("encoder") != LANGUAGE_MODEL:
        return ""
    return study.trajectory.get("llm", Settings.llm)


def check_model(study: Study) -> None:
    """Refuse, before any job, a language model that no worker could load. Raises MissingExtra, InvalidData."""
    name = language_model(study)
    if name:
        import_module("simlab.models.hour_llm").check(name)


def known_by(study: Study) -> dict[str, Any]:
    """What beside [train] a backbone's numbers follow from: for the key of its stage; nothing without the table."""
    if not study.trajectory:
        return {}
    name = language_model(study)
    found: dict[str, Any] = {"given": dict(study.trajectory)}
    return {TABLE: found | (of_model(name) if name else {})}


def of_model(name: str) -> dict[str, Any]:
    """What a language model's numbers follow from beside settings: library versions, and a folder's files (sizes,
    times); of a name, the hub's own copy is taken as it is."""
    found: dict[str, Any] = {"libraries": {library: _version(library) for library in LIBRARIES}}
    if Path(name).is_dir():
        files = sorted(path for path in Path(name).rglob("*") if path.is_file())
        found["files"] = [(str(p.relative_to(name)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    return found


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "none"


def texts(study: Study) -> int:
    """The texts that its trainings read at most: every hour's two and the static one of a batch's windows, in each step
    once, and once more by a target encoder."""
    given = of_study(study.train, of_backbone(study.trajectory))
    stages = [stage for arm in map(methods.find, study.arms) if arm.trajectory for stage in curriculum(arm).stages]
    readings = sum(stage.length(given.steps) * (1 + (stage.target == "ema")) for stage in stages)
    return study.n_seeds * readings * given.batch * (2 * given.max_hours + 1)


def predicts(arm: Method) -> bool:
    """Whether its curriculum trains a predictor, so that it can roll out."""
    return curriculum(arm).predicts
