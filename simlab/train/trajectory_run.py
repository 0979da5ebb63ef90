"""`python -m simlab.train clin-jepa --data SOURCE`: a trajectory backbone, trained through its curriculum and judged.

SOURCE is the ICU world (drift, geometry and tasks beside their optima) or a prepared cohort of hourly stays (repeated
splits by subject; drift and geometry of the first). Comparators are arms that learn from labels alone.

Run again, it goes on: a training that was killed goes on from its last checkpoint, one that ended is not repeated, nor
is a split that was evaluated, and a finished run is shown as it was. The run's folder holds them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simlab import rng
from simlab.cohort import Cohort, load
from simlab.environments import knobs
from simlab.environments.icu_knobs import TASKS
from simlab.environments.knob import Interval
from simlab.environments.registry import WORLDS, find_world
from simlab.environments.scenario import sample_cohort
from simlab.errors import InvalidCohort, OutOfDomain, unknown
from simlab.evaluation import drift as drifts
from simlab.evaluation import splits
from simlab.files import write_text
from simlab.limits import icu_charted
from simlab.methods import Method
from simlab.train import folder as run_folder
from simlab.train import trajectory_optima, trajectory_parts, trajectory_text
from simlab.train.experiment import looked_at
from simlab.training import trajectory
from simlab.training.device import find as find_device
from simlab.training.loop import Diverged
from simlab.training.trajectory_settings import DOMAINS, expected, fits, unread
from simlab.trajectories import arms, optimum
from simlab.trajectories.evaluate import Plan, Report, evaluate
from simlab.trajectories.trained import Trained, there

COMPARATORS = ("logistic", "lightgbm")
WORLD = "icu"
STUDY_RATE = "train.learning_rate"
OWN_RATE = "--set rate_predictor (now {:g}) or --set rate_encoder (now {:g})"
SAVES = 20  # of a training, about
RESULT, REPORT, CHECKPOINTS = "result.json", "report.txt", "pretraining"  # in the run's folder
SHOWN = ("method", "data", "splits", "report", "tasks")
SIZES = {"n_test": 600, "optimum_stays": 60, "optimum_particles": 48, "charted_particles": icu_charted.PARTICLES,
         "areas_stays": 200}  # of the world, --set too
OF_ROLLING = ("optimum_stays", "optimum_particles", "charted_particles")
OF_EVALUATION = tuple(name for name in SIZES if name != "n_test")  # how finely the optima are simulated


def run(options: argparse.Namespace, compared: Sequence[Method]) -> int:
    """Train, evaluate, print; everything printed is kept in the run's folder. Raises SimlabErrors for bad input."""
    method, others = compared[0], compared[1:]
    _refuse(options, others)
    torch.set_num_threads(options.threads)
    given, sizes, texts = _settings(options, method)
    prepared = options.data not in WORLDS and Path(options.data).is_file()
    # A prepared cohort is its records, wherever they lie and however the path is written.
    source = {"data": "a prepared cohort", "sha256": run_folder.sha256(Path(options.data))} if prepared else {}
    folder = options.out or Path("runs") / "train" / f"{Path(options.data).stem}-{method.name}"
    optima = {name: sizes[name] for name in OF_EVALUATION}
    frozen = {"data": options.data, "arms": [a.name for a in compared], "settings": asdict(given),
              "sizes": {"n_test": sizes["n_test"]}, "optima": optima, "knobs": texts, "seed": options.seed,
              "splits": options.splits, "task": options.task, "test_share": options.test_share,
              "test_among": options.test_among, "threads": options.threads, "device": options.device,
              **source}  # fmt: skip
    _free(folder)
    # No training follows from the optima's sizes: they are the run's once there are results.
    run_folder.open_folder(folder, frozen, () if (folder / RESULT).exists() else ("optima",), {"device": "cpu"})
    if _shown_again(folder, options):
        return 0
    if given.encoder == "llm":  # told before stays are sampled
        import_module("simlab.models.hour_llm").check(given.llm)
    say = (lambda text: None) if options.quiet else (lambda text: print(text, file=sys.stderr, flush=True))
    names = [a.name for a in others]
    if options.data in WORLDS:
        report = _world(options, method, names, given, sizes, texts, say, _checkpoint(folder, 0))
        parts = [trajectory_parts.part(report)]
    else:
        by = trajectory_parts.made_with(frozen, compared, options.plugin)
        parts = _cohort(options, method, names, given, say, folder, by)
    shown = trajectory_text.shown(method, options, parts)
    text = trajectory_text.page(method, options, parts, shown, folder)
    write_text(folder / REPORT, text + "\n")
    run_folder.save(folder / RESULT, {**frozen, **run_folder.provenance(), **shown})
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    print(json.dumps(shown, allow_nan=False) if options.json else text)
    return 0


def _refuse(options: argparse.Namespace, others: Sequence[Method]) -> None:
    """Options that have no meaning here. Raises OutOfDomain."""
    for arm in others:
        if arm.pretrained or arm.adaptation not in ("closed-form", "scratch") or arm.encoder in ("linear", "mlp"):
            raise OutOfDomain(f"--compare {arm.name}: beside trajectories stand arms that learn from labels alone and "
                              "have no encoder of ours (ridge, logistic, lightgbm, gru, tcn, transformer, mask-only).")
    if options.labels or options.plasmode:
        raise OutOfDomain("--labels and --plasmode are not for trajectories: every labelled stay is used.")
    find_device(options.device)
    if options.data in WORLDS and options.splits != 1:
        raise OutOfDomain(f"--splits {options.splits}: a trajectory run in a world is one seed; repeat it with another "
                          "--seed, or run a study (python -m simlab.sweep clin-jepa-phases).")


def _shown_again(folder: Path, options: argparse.Namespace) -> bool:
    """Print a run that is finished; False where it is not."""
    result = run_folder.read(folder / RESULT)
    if not result or not set(SHOWN) <= set(result) or not (folder / REPORT).exists():
        return False
    if not options.quiet:
        print(f"finished before: shown from {folder}; another --out computes it anew", file=sys.stderr)
    whole = {key: result[key] for key in SHOWN}
    print(json.dumps(whole, allow_nan=False) if options.json else (folder / REPORT).read_text("utf-8").rstrip("\n"))
    return True


def _checkpoint(folder: Path, index: int) -> Path:
    """The file of one split's training."""
    (folder / CHECKPOINTS).mkdir(exist_ok=True)
    return folder / CHECKPOINTS / f"{index:04d}.pt"


def _free(folder: Path) -> None:
    """A run that failed before a training was saved kept nothing: its folder is not another run's."""
    kept = (folder / RESULT, *(folder / CHECKPOINTS).glob("*.pt"), *(folder / "parts").glob("*.json"))
    if not any(file.exists() for file in kept):
        with suppress(OSError):
            (folder / "run.json").unlink(missing_ok=True)


def _settings(
    options: argparse.Namespace, method: Method
) -> tuple[trajectory.Settings, dict[str, int], dict[str, str]]:
    """The trainer's settings, sizes and (in a world) knobs as text, from `--set`; each is one that this run reads.
    Raises OutOfDomain, UnknownName."""
    types = {f.name: f.type for f in fields(trajectory.Settings)}
    world = find_world(options.data).knobs if options.data in WORLDS else ()
    known = [name for k in world for name in dict.fromkeys((k.name, k.symbol))]
    chosen: dict[str, Any] = {}
    sizes, texts = dict(SIZES), {}
    for pair in options.set:
        key, equals, text = pair.partition("=")
        if not equals or not text:
            raise OutOfDomain(f"--set {pair!r}: expected KEY=VALUE.")
        if key in SIZES and options.data in WORLDS:
            sizes[key] = _number(key, text, int)
            least = 8 if key == "areas_stays" else 1  # an area needs two classes
            if sizes[key] < least:
                raise OutOfDomain(f"--set {key} = {text}: expected a whole number of at least {least}.")
        elif key in types:
            chosen[key] = _typed(key, text)
        elif key in known:
            texts[key] = text
        else:
            raise unknown("setting", key, [*types, *(SIZES if options.data in WORLDS else ()), *known])
    _all_read(options, method, chosen)
    return trajectory.Settings(**chosen), sizes, texts


def _all_read(options: argparse.Namespace, method: Method, chosen: dict[str, Any]) -> None:
    """Refuse what was set and nothing would read. Raises OutOfDomain."""
    curriculum = arms.curriculum(method)
    encoder = chosen.get("encoder", trajectory.Settings.encoder)
    target = {name for k in (find_world(WORLD).knobs if options.data == WORLD else ()) if k.stage == "target"
              for name in (k.name, k.symbol)}
    for key, _, text in (pair.partition("=") for pair in options.set):
        why = unread(key, encoder, [curriculum])
        if key in OF_ROLLING and not curriculum.predicts:
            why = f"nothing reads it in {curriculum.name} (nothing is rolled out); leave it out"
        if key in target:
            why = ("it is of the other hospital, and this command samples one; leave it out, or sweep it (python -m "
                   "simlab.sweep clin-jepa-shift)")
        if why:
            raise OutOfDomain(f"--set {key} = {text}: {why}.")


def _typed(key: str, text: str) -> Any:
    """A setting from text. Raises OutOfDomain for what is outside its domain."""
    domain = DOMAINS[key]
    value: Any = {"true": True, "false": False}.get(text, text) if domain is bool else text
    if isinstance(domain, Interval):
        value = _number(key, text, int if domain.whole else float)
    if not fits(value, domain):
        raise OutOfDomain(f"--set {key} = {text}: expected {expected(domain)}.")
    return value


def _number(key: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise OutOfDomain(f"--set {key} = {text!r}: expected a value of type {kind.__name__}.") from None


def _world(
    options: argparse.Namespace, method: Method, names: Sequence[str], given: trajectory.Settings,
    sizes: dict[str, int], texts: dict[str, str], say: Any, checkpoint: Path,
) -> Report:
    """The report in the ICU world, beside the simulated optimum and the tasks' best areas."""
    if options.data != WORLD:
        raise OutOfDomain(f"method {method.name} needs hourly stays: --data {WORLD}, or a prepared cohort.")
    if options.task is not None and options.task not in TASKS:
        raise unknown("task", options.task, TASKS)
    world = find_world(WORLD)
    spec = world.spec({key: knobs.parse(knobs.find(key, world.knobs), text) for key, text in texts.items()})

    def draw(stage: str, n: int) -> Cohort:
        return there(sample_cohort(spec, stage, n, options.seed, 0, world=WORLD))

    say("sampling stays")
    stays, labelled, test = (draw("pretraining-data", spec.n_unlab), draw("training-data", spec.n_lab),
                             draw("test-data", sizes["n_test"]))
    _reached(test, given.max_hours, options.task)
    say(f"training {method.name}: {len(stays)} stays, {given.steps} steps")
    first = rng.integer(options.seed, 0, "initialisation")
    backbone = _trained(method, stays, given, first, checkpoint, options.device)
    plan = _plan(options, method, names, (labelled, test), backbone, asked=(24,))
    law = optimum.icu_law.law_of(spec, "source")
    best = optimum.Optimum(backbone, backbone.backbone.width, law, sizes["optimum_particles"], sizes["optimum_stays"],
                           options.seed)
    charted = partial(icu_charted.medians, law, m=sizes["charted_particles"], seed=options.seed)
    report = evaluate(backbone, labelled, test, plan, (optimum.NAME, best), "state", say, charted)
    notes = [*report.notes, *_hours(given.max_hours, spec.max_hours, world=True)]
    if plan.rolls:
        notes += trajectory_optima.few_guesses(best, law, backbone, test, plan, sizes, say)
    say("best areas of the tasks")
    return trajectory_optima.beside_areas(replace(report, notes=tuple(notes)), spec, sizes["areas_stays"], options.seed)


def _trained(
    method: Method, stays: Cohort, given: trajectory.Settings, seed: int, checkpoint: Path, device: str
) -> Trained:
    """The backbone, from its checkpoint where there is one. Raises Diverged with this command's key: the trainer's
    message names a study's."""
    try:
        return arms.train(method, stays, given, seed, checkpoint, max(1, given.steps // SAVES), device)
    except Diverged as error:
        checkpoint.unlink(missing_ok=True)  # nothing in it is worth going on from
        raise Diverged(str(error).replace(STUDY_RATE, OWN_RATE.format(given.rate_predictor, given.rate_encoder))
                       ) from None


def _cohort(
    options: argparse.Namespace, method: Method, names: Sequence[str], given: trajectory.Settings, say: Any,
    folder: Path, by: dict[str, Any],
) -> list[trajectory_parts.Part]:
    """A report a split. The first is whole; the others have the tasks alone. A split that was finished before, by the
    same (`trajectory_parts.made_with`), is read back."""
    cohort = there(load(Path(options.data)))
    binary = [t.name for t in cohort.tasks.values() if t.kind == "binary"]
    if not binary:
        raise InvalidCohort("the cohort has no binary task.")
    if options.task is not None and options.task not in binary:
        raise unknown("task", options.task, binary)
    _reached(cohort, given.max_hours, options.task)
    records = [t for t in binary if cohort.tasks[t].level == "record"]
    stratum = options.task if options.task in records else records[0] if records else None
    if stratum is None:
        raise InvalidCohort("the cohort has no binary task with one label a stay; splits are drawn by it.")
    y = cohort.labels[stratum].astype(np.float64)
    never = looked_at(cohort) if options.test_among == "unseen" else None
    parts, notes = [], _hours(given.max_hours, int(cohort.length.max()))
    for index, (train, test) in enumerate(splits.repeated(cohort.subject, y, options.splits, options.test_share,
                                                          options.seed, never)):
        done = trajectory_parts.kept(folder, index, by)
        if done is not None:
            say(f"split {index + 1}/{options.splits}: finished before")
            parts.append(done)
            continue
        mine, held = cohort.take(train), cohort.take(test)
        say(f"split {index + 1}/{options.splits}: training {method.name} on {len(mine)} stays, {given.steps} steps")
        first = rng.integer(options.seed, index, "initialisation")
        backbone = _trained(method, mine, given, first, _checkpoint(folder, index), options.device)
        plan = _plan(options, method, names, (mine, held), backbone,
                     seed=rng.integer(options.seed, index, "adaptation"))
        if index:
            plan = replace(plan, decode=False, contexts=(), draws=2)
        report = evaluate(backbone, mine, held, plan, None, "state", say if not index else lambda text: None)
        parts.append(trajectory_parts.part(replace(report, notes=(*report.notes, *notes)), shown=not index))
        trajectory_parts.keep(folder, index, parts[-1], by)
    return parts


def _reached(cohort: Cohort, windows: int, task: str | None) -> None:
    """Refuse windows that end before a task is asked (its cutoff), before anything is trained. Raises OutOfDomain."""
    asked = {name: min(int(t.cutoff), cohort.visits) for name, t in cohort.tasks.items()
             if t.cutoff is not None and (t.kind, t.level) == ("binary", "record") and task in (None, name)}
    last = max(asked, key=asked.__getitem__, default="")
    if last and windows < asked[last]:
        raise OutOfDomain(f"--set max_hours = {windows}: expected at least {asked[last]}, the hour at which {last} is "
                          "asked; name a task that is asked earlier (--task) or allow more hours.")


def _hours(windows: int, stays: int, world: bool = False) -> list[str]:
    """What it means where windows (`--set max_hours`) and stays (in the world `--set hours`) differ in length."""
    if windows < stays:
        return [f"hours: stays have up to {stays} h{' (--set hours)' if world else ''}, windows {windows} (--set "
                "max_hours): training reads a longer stay window by window, the evaluation its first window alone."]
    if world and windows > stays:
        return [f"hours: windows may have {windows} h (--set max_hours), but the world keeps {stays} h of a stay "
                "(--set hours)."]
    return []


def _plan(
    options: argparse.Namespace, method: Method, names: Sequence[str], sides: Sequence[Cohort], backbone: Trained,
    asked: tuple[int, ...] = Plan.asked, seed: int = 0,
) -> Plan:
    """What is evaluated, as far as the longest stay of either side goes."""
    hours = min(backbone.hours, *(int(side.length.max()) for side in sides))
    context = 24 if hours > 30 else max(2, hours // 2)
    most = hours - context
    horizons = tuple(h for h in drifts.HORIZONS if h <= most) or (most,)
    contexts = tuple(c for c in Plan.contexts if c + max(horizons) <= hours) or (context,)
    return Plan(context, contexts, horizons, compare=tuple(names), tasks=(options.task,) if options.task else (),
                asked=tuple(a for a in asked if a <= hours) or (hours,), seed=seed or options.seed,
                span=(0, 48 if hours >= 48 else min(24, hours)), rolls=backbone.backbone.curriculum.predicts)
