"""Reading a study: one TOML file with a question, a world, axes, arms, contrasts and seeds, resolved and checked.

`load` finds a file by path or name, applies `--set` overrides and returns a frozen `Study` (`simlab.sweep.schema`);
whatever is wrong is one error that names file, key, value and what was expected. Imports no array module.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import runpy
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from simlab import methods
from simlab.environments import knobs, presets
from simlab.environments.knobs import Choice, Interval, Knob
from simlab.environments.registry import World, find_world
from simlab.errors import InvalidStudy, SimlabError, nearest, unknown
from simlab.sweep import axes, boundary, fields, metrics, whole_stays
from simlab.sweep.axes import refuse_twice
from simlab.sweep.schema import (
    COUNT,
    SPENDING,
    TEXTS,
    Axis,
    Budget,
    Compare,
    Design,
    Limits,
    Study,
    Train,
    Tune,
    Value,
    difference,
    dump,
    n_cells,
    resolved,
)

__all__ = ["Axis", "Budget", "Compare", "Design", "Limits", "Study", "Train", "Tune", "Value", "available", "build",
           "difference", "dump", "load", "locate", "resolved", "run_plugins"]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_METRIC = re.compile(r"[a-z0-9][a-z0-9/_-]*")
_SECTIONS = ("study", "world", "axes", "design", "compare", "seeds", "tune", "budget", "limits", "train",
             whole_stays.TABLE)


def locate(path_or_name: str) -> Path:
    """The study's file: a path, else ./studies/NAME.toml, else a packaged study. Raises UnknownName, nearest names."""
    path = Path(path_or_name)
    if path.suffix == ".toml" or os.sep in path_or_name:
        if not path.is_file():
            raise InvalidStudy(f"study file {path} does not exist; give a path to a .toml file or the name of a study.")
        return path
    found = available()
    if path_or_name not in found:
        raise unknown("study", path_or_name, list(found), "python -m simlab.sweep --list shows all.")
    return found[path_or_name]


def available() -> dict[str, Path]:
    """Every study that a name reaches: those in ./studies, then the packaged ones (a checkout's own are the same)."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "_studies"
    folders = (Path("studies"), packaged if packaged.is_dir() else package.parent / "studies")
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            found.setdefault(path.stem, path)
    return found


def load(path_or_name: str, overrides: Sequence[str] = (), plugins: Sequence[str] = ()) -> Study:
    """The study of this path or name, with `--set key=value` overrides and further plug-ins applied.

    Executes the study's plug-ins (they are code that runs), since they may name methods that the study uses. Raises
    InvalidStudy, UnknownName or OutOfDomain, the file's name first.
    """
    path = locate(path_or_name)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidStudy(f"{path} is not valid TOML: {error}.") from None
    except OSError as error:
        raise InvalidStudy(f"{path} cannot be read: {error.strerror}.") from None
    try:
        head = fields.table(raw.get("study", {}), "study")
        run_plugins(_plugins(head.get("plugins", []), path.parent, plugins))  # they may bring knobs that --set names
    except SimlabError as error:
        raise type(error)(f"{path}: {error}") from None
    for override in overrides:
        _override(raw, override)
    try:
        return build(raw, default_name=path.stem, folder=path.parent, plugins=plugins)
    except SimlabError as error:
        raise type(error)(f"{path}: {error}") from None


def build(
    raw: Mapping[str, Any], default_name: str = "study", folder: Path | None = None, plugins: Sequence[str] = ()
) -> Study:
    """The study of these TOML tables; relative plug-in paths are taken from `folder`. Raises as `load` does."""
    fields.known_keys(raw, _SECTIONS, "the study file")
    sections = {key: fields.table(raw.get(key, {}), key) for key in _SECTIONS}
    head, world = sections["study"], sections["world"]
    fields.known_keys(head, ("name", *TEXTS, "seed", "plugins"), "[study]")
    name = fields.checked(head.get("name", default_name), None, "study.name")
    if not _NAME.fullmatch(name):
        raise InvalidStudy(f"study.name = {name!r}: expected lower-case letters, digits and hyphens.")
    files = _plugins(head.get("plugins", []), folder or Path(), plugins)
    run_plugins(files)
    place = _world(world)
    fixed = _fixed(world.get("knobs", {}), place.knobs)
    tune = fields.read(Tune, sections["tune"], "tune")
    design = _design(sections["design"], tune.trials)
    swept = axes.read(sections["axes"], fixed, place.knobs, design.kind)
    fixed = {**_preset(world, place, [axis.symbol for axis in swept], fixed), **fixed}
    study = Study(
        name=name,
        seed=fields.checked(head.get("seed", 0), Interval(0, 2**63 - 1, whole=True), "study.seed"),
        **{key: fields.checked(head.get(key, ""), None, f"study.{key}") for key in TEXTS},
        world=place.name,
        knobs=fixed,
        axes=swept,
        compare=_compare(sections["compare"], place),
        looks=_looks(sections["seeds"]),
        spending=fields.checked(sections["seeds"].get("spending", SPENDING[0]), Choice(SPENDING), "seeds.spending"),
        design=design,
        tune=tune,
        budget=boundary.check_budget(fields.read(Budget, sections["budget"], "budget"), design.kind),
        limits=fields.read(Limits, sections["limits"], "limits"),
        train=fields.read(Train, sections["train"], "train"),
        plugins=files,
    )
    study = whole_stays.settled(study, sections[whole_stays.TABLE])
    metrics.check(study)
    _check_cells(study)
    if design.kind == "boundary":
        boundary.check(study)
    if design.rounds and design.rounds[-1] != n_cells(study):
        raise InvalidStudy(f"design.rounds = {list(design.rounds)} ends with {design.rounds[-1]} cells, but the study "
                           f"has {n_cells(study)}; leave design.rounds out.")
    return study


def _world(raw: dict[str, Any]) -> World:
    """The world that the study names; refuses what a sweep cannot run yet."""
    fields.known_keys(raw, ("name", "preset", "cohort", "knobs"), "[world]")
    if "cohort" in raw:
        raise InvalidStudy("world.cohort is not available in a sweep yet; give world.name and [world.knobs].")
    return find_world(fields.checked(raw.get("name", "gaussian"), None, "world.name"))


def _design(raw: dict[str, Any], trials: int | None) -> Design:
    """The design, its numbers those of its kind. Raises InvalidStudy."""
    rounds = fields.listed(raw["rounds"], COUNT, "design.rounds") if "rounds" in raw else ()
    design = fields.read(Design, {k: v for k, v in raw.items() if k != "rounds"}, "design")
    for key, kinds in (("cells", ("sobol", "boundary")), ("batch", ("tune", "boundary")), ("width", ("boundary",)),
                       ("around", ("boundary",))):
        if getattr(design, key) is not None and design.kind not in kinds:
            kind = " or ".join(f"'{kind}'" for kind in kinds)
            raise InvalidStudy(f"design.{key} is for design.kind = {kind}, not for '{design.kind}'.")
    if design.kind == "sobol" and design.cells is None:
        raise InvalidStudy("design.kind = 'sobol' needs design.cells, the number of its points (more can be added "
                           "later).")
    if design.kind == "tune" and trials is None:
        raise InvalidStudy("design.kind = 'tune' needs tune.trials, the trials that each arm gets in each cell.")
    if list(rounds) != sorted(set(rounds)):
        raise InvalidStudy(f"design.rounds = {list(rounds)}: expected increasing numbers of cells.")
    return boundary.defaults(replace(design, rounds=rounds))


def _preset(raw: Mapping[str, Any], world: World, axes: Sequence[str], fixed: Mapping[str, Value]) -> dict[str, Value]:
    """The knobs of `world.preset`, but for those that the study gives itself (a weight displaces the preset's)."""
    if "preset" not in raw:
        return {}
    name = fields.checked(raw["preset"], None, "world.preset")
    if world.name != "gaussian":
        raise InvalidStudy(f"world.preset = '{name}': presets are of the world 'gaussian', not of '{world.name}'.")
    own = {*axes, *(knobs.find(key, world.knobs).symbol for key in fixed)}
    return presets.beside(presets.preset(name), own)


def _fixed(raw: object, known: tuple[Knob, ...]) -> dict[str, Value]:
    """The fixed knobs as written, each checked against its domain."""
    given = fields.table(raw, "world.knobs")
    fixed = {key: knobs.check(knobs.find(key, known), value) for key, value in given.items()}
    refuse_twice({key: knobs.find(key, known).symbol for key in fixed}, "[world.knobs]")
    return fixed


def _compare(raw: dict[str, Any], world: World) -> Compare:
    fields.known_keys(raw, ("arms", "contrast", "metric", "cohort", "task", "rope"), "[compare]")
    arms = fields.listed(raw.get("arms"), None, "compare.arms")
    for arm in arms:
        methods.find(arm)
    if len(set(arms)) < len(arms):
        raise InvalidStudy(f"compare.arms names an arm twice: {', '.join(arms)}.")
    given = raw.get("contrast")
    pairs = [given] if isinstance(given, list) and given and all(isinstance(g, str) for g in given) else given
    if not isinstance(pairs, list) or not pairs:
        raise InvalidStudy('compare.contrast: expected a pair of arms, as in ["vicreg-frozen", "supervised"], '
                           "or a list of pairs.")
    contrasts = tuple(_pair(pair, arms) for pair in pairs)
    if len(set(contrasts)) < len(contrasts):
        raise InvalidStudy("compare.contrast names the same pair twice.")
    plain = {k: fields.checked(raw[k], None, f"compare.{k}") for k in ("metric", "cohort", "task") if k in raw}
    for key, value in plain.items():
        if not _METRIC.fullmatch(value):
            raise InvalidStudy(f"compare.{key} = {value!r}: expected lower-case letters, digits, '-', '_' or '/'.")
    _known_comparison(plain, world)
    rope = fields.checked(raw.get("rope", 0.01), Interval(0, math.inf), "compare.rope")
    return Compare(arms=arms, contrasts=contrasts, rope=rope, **plain)


def _known_comparison(plain: dict[str, str], world: World) -> None:
    """Refuse a cohort or task that no run of this world would have: before the run, not after it."""
    for key, known in (("cohort", world.cohorts), ("task", world.tasks)):
        if key in plain and plain[key] not in known:
            raise unknown(f"{key} (compare.{key})", plain[key], known)


def _pair(pair: object, arms: tuple[str, ...]) -> tuple[str, str]:
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) for p in pair)):
        raise InvalidStudy(f"compare.contrast: {pair!r} is not a pair of arms.")
    for name in pair:
        if name not in arms:
            near = nearest(name, arms)
            raise InvalidStudy(f"compare.contrast names '{name}', which is not among compare.arms"
                               f"{f'; did you mean {near[0]}?' if near else f': {chr(44).join(arms)}.'}")
    if pair[0] == pair[1]:
        raise InvalidStudy(f"compare.contrast: '{pair[0]}' against itself.")
    return pair[0], pair[1]


def _looks(raw: dict[str, Any]) -> tuple[int, ...]:
    fields.known_keys(raw, ("looks", "spending"), "[seeds]")
    looks = fields.listed(raw.get("looks", [12]), Interval(1, 1_000_000, whole=True), "seeds.looks")
    if list(looks) != sorted(set(looks)):
        raise InvalidStudy(f"seeds.looks = {list(looks)}: expected increasing numbers of seeds.")
    return looks


def _check_cells(study: Study) -> None:
    """Refuse knobs that contradict each other in some cell (all cells of a small grid, the corners of a large one)."""
    values = [axis.values for axis in study.axes]  # of a continuous axis: its ends
    if math.prod(map(len, values)) > 5000:
        values = [(v[0], v[-1]) for v in values]
    names, check = [axis.name for axis in study.axes], find_world(study.world).spec
    for point in itertools.product(*values):
        check({**study.knobs, **dict(zip(names, point, strict=True))})


def _override(raw: dict[str, Any], text: str) -> None:
    """Apply one `--set key=value` to the raw tables: a TOML path (`train.steps=50`), or a knob by name or symbol."""
    key, equals, written = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise InvalidStudy(f"--set {text}: expected key=value, as in train.steps=50 or w_c=0.5.")
    value = _toml_value(written.strip())
    if "." not in key:
        _override_knob(raw, key, value)
        return
    *path, last = key.split(".")
    fields.known_keys({path[0]: None}, _SECTIONS, f"--set {text}")
    node = raw
    for part in path:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise InvalidStudy(f"--set {text}: {part} is a value, not a section.")
    node[last] = value


def _override_knob(raw: dict[str, Any], key: str, value: Any) -> None:
    """Set a knob: on an axis, one value or a list takes the axis's values' place; else it joins the fixed knobs."""
    world = raw.setdefault("world", {})
    known = find_world(fields.table(world, "world").get("name", "gaussian")).knobs

    def written(tables: object, where: str) -> str | None:
        names = fields.table(tables, where)
        return next((n for n in names if knobs.find(n, known).symbol == knobs.find(key, known).symbol), None)

    axis = written(raw.setdefault("axes", {}), "axes")
    if axis is not None:
        raw["axes"][axis] = value if isinstance(value, (list, dict)) else [value]
        return
    fixed = world.setdefault("knobs", {})
    fixed[written(fixed, "world.knobs") or key] = value


def _toml_value(text: str) -> Any:
    """The text as a TOML value where it is one (numbers, lists, true), else as a plain word."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _plugins(written: object, folder: Path, more: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(written, list) or not all(isinstance(item, str) for item in written):
        raise InvalidStudy(f"study.plugins = {written!r}: expected a list of files, as in [\"my_method.py\"].")
    files = [folder / item for item in written] + [Path(item) for item in more]
    return tuple(dict.fromkeys(_near(file) for file in files))


def _near(file: Path) -> str:
    """The path from the current folder where that is short, so that a frozen study names no machine's folders."""
    full = file.resolve()
    return str(full.relative_to(Path.cwd())) if full.is_relative_to(Path.cwd()) else str(full)


_RUN: set[str] = set()


def run_plugins(files: Sequence[str]) -> None:
    """Execute plug-in files once in this process; they call `simlab.register`. A plug-in is code that runs."""
    for name in files:
        if name in _RUN:
            continue
        if not Path(name).is_file():
            raise InvalidStudy(f"plug-in {name} does not exist.")
        folder = str(Path(name).resolve().parent)
        if folder not in sys.path:
            sys.path.append(folder)  # a plug-in's trainer may lie beside it
        try:
            runpy.run_path(name)
        except SimlabError:
            raise
        except Exception as error:  # the user's own code: name the file, keep one line
            raise InvalidStudy(f"plug-in {name} failed: {type(error).__name__}: {error}") from error
        _RUN.add(name)
