"""A search for the boundary: one driver asks for cells in fixed batches, until the boundary is known well enough.

A batch is a function of (study, table so far) alone, and a barrier: the next is asked for when all of it is there. So
workers, kills and engines change nothing, and `search.jsonl`, in which each batch stands before it is computed, is what
a run resumes from without asking again. The surface is fitted with one thread, since its last bits may depend on that.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from simlab.errors import InvalidStudy
from simlab.files import write_text
from simlab.sweep import atlas, boundary, driver, plan, provenance
from simlab.sweep.boundary import Point
from simlab.sweep.finish import Summary
from simlab.sweep.folder import Folder
from simlab.sweep.layout import directions
from simlab.sweep.results import failures
from simlab.sweep.schema import Axis, Study, Value
from simlab.sweep.surface import fitted

WORDS = {
    "width": "the band of the boundary is as narrow as design.width asks, and was so a batch before",
    "no boundary": "nowhere on the map does the band leave room for a change of sign",
    "cells": "the search has as many cells as it may (budget.cells)",
    "trainings": "another batch would cost more than budget.trainings",
    "every cell": "every combination of the axes' values is computed",
    "no number": "no surface could be fitted: the primary contrast has too few numbers",
}


@dataclass(frozen=True)
class Step:
    """What follows from a table: the cells of the next batch with their acquisition, or why the search ends.

    `width`, `widest`: of the boundary's band so far (`surface.Surface.width`), `floor`: about how narrow these seeds
    can make it, with any number of cells; None without a surface.
    """

    points: tuple[Point, ...] = ()
    acquisition: tuple[float, ...] = ()
    width: float | None = None
    widest: float | None = None
    floor: float | None = None
    ended: str = ""


def run(study: Study, options: driver.Options) -> Summary:
    """Search until it ends; resumed after any kill. Raises SimlabError."""
    if options.shard is not None:
        raise InvalidStudy("a search asks for its cells batch by batch, and has no parts to share out (--shard); "
                           "--engine dask --scheduler ADDRESS spreads each batch over many machines.")
    return driver.run(study, options) if options.collect else driver.run(study, options, work)


def work(study: Study, options: driver.Options, folder: Folder) -> Summary:
    """The loop, while the folder's lock is held: compute what is asked for, look, ask for more."""
    folder.freeze(study)
    _open(study, folder)
    stages: Counter[str] = Counter()
    jobs, seconds, before = 0, time.monotonic(), plan.trainings(study) if folder.finished() else 0
    for number in itertools.count():
        batch = driver.Run(study, options, folder, later=number > 0)
        done = batch.fill()
        jobs += done["jobs_run"]
        stages.update({f"{k}/{kind}": n for k, found in done["stages"].items() for kind, n in found.items()})
        step = advance(study, batch.table())
        _say(study, step, options.quiet)
        if step.ended:
            break
        study = boundary.with_points(study, (*study.design.rounds, plan.n_cells(study) + len(step.points)),
                                     (*study.points, *step.points))
        _append(folder, study, step)
    _append(folder, study, step)
    found = driver.Run(study, options, folder, later=True).go()
    provenance.write(folder, {**folder.read_manifest(), "search": _facts(study, step)})
    counts = {name.partition("/")[0] for name in stages}
    return replace(found, jobs_run=jobs, seconds=time.monotonic() - seconds,
                   ended=f"search ended: {WORDS[step.ended]}{_hint(study, step)}\n",
                   trainings=plan.trainings(study) - before if jobs else 0,
                   stages={k: {kind: stages[f"{k}/{kind}"] for kind in ("computed", "cached")} for k in sorted(counts)})


def advance(study: Study, table: pa.Table) -> Step:
    """The next step of the search, from all rows of its cells so far: of the primary contrast."""
    arms = atlas.scores(study, table) if table.num_rows > len(failures(table)) else {}
    if not arms:
        return Step(ended="no number")
    first, second = study.contrasts[0]
    return decide(study, arms[first] - arms[second])


@threadpool_limits.wrap(limits=1)
def decide(study: Study, differences: Float[np.ndarray, "cells seeds"]) -> Step:
    """The next step, from the paired differences in the cells so far (NaN: an arm failed)."""
    columns, others = directions(study)
    axes = (columns, *others[:1])
    cells = [plan.cell(study, i) for i in range(plan.n_cells(study))]
    surface = fitted(axes, cells, differences)
    if surface is None:
        return Step(ended="no number")
    width, widest = surface.width()
    here = Step(width=width, widest=widest, floor=surface.width(shared=True)[0])
    room = min(boundary.most_cells(study), boundary.grid(study)) - len(cells)
    assert study.design.width is not None and study.design.batch is not None
    if width == 0:
        return replace(here, ended="no boundary")
    if width <= study.design.width and _held(study, axes, cells, differences):
        return replace(here, ended="width")
    if room < 1:
        return replace(here, ended="cells" if len(cells) < boundary.grid(study) else "every cell")
    points, acquisition = ask(study, axes, differences, min(study.design.batch, room))
    return _afforded(study, replace(here, points=points, acquisition=acquisition))


def _held(study: Study, axes: Sequence[Axis], cells: Sequence[Mapping[str, Value]],
          differences: Float[np.ndarray, "cells seeds"]) -> bool:
    """Whether the band was narrow enough before the last batch, too: one fit to few cells may flatter itself."""
    if len(study.design.rounds) < 2:
        return False
    before = fitted(axes, cells[: study.design.rounds[-2]], differences[: study.design.rounds[-2]])
    return before is not None and before.width()[0] <= (study.design.width or 0.0)


def ask(study: Study, axes: Sequence[Axis], differences: Float[np.ndarray, "cells seeds"],
        n: int) -> tuple[tuple[Point, ...], tuple[float, ...]]:
    """The next n cells and how much each was wanted: Optuna's ask, n times, of a study that holds the cells so far."""
    import optuna

    from simlab.sweep.journal import distribution
    from simlab.sweep.straddle import StraddleSampler

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names = [axis.name for axis in study.axes]
    wanted = [dict(zip(names, point, strict=True)) for point in boundary.candidates(study)]
    sampler = StraddleSampler(axes, wanted, levels(study))
    known = optuna.create_study(direction="maximize", sampler=sampler)
    space = {axis.name: distribution(axis) for axis in study.axes}
    for i, pairs in enumerate(differences):
        there = pairs[np.isfinite(pairs)]
        state = optuna.trial.TrialState.COMPLETE if len(there) else optuna.trial.TrialState.FAIL
        known.add_trial(optuna.trial.create_trial(
            state=state, value=float(there.mean()) if len(there) else None, params=plan.cell(study, i),
            distributions=space, user_attrs={"differences": [float(v) if np.isfinite(v) else None for v in pairs]}))
    points, acquisition = [], []
    for _ in range(n):
        asked = known.ask(space).params
        points.append(tuple(asked[name] for name in names))
        acquisition.append(sampler.wanted)
    return tuple(points), tuple(acquisition)


def levels(study: Study) -> tuple[float, ...]:
    """The differences whose places are sought: zero, where the sign changes, and the margin on either side of it."""
    rope = study.compare.rope if study.design.around == "margin" else 0.0
    return (0.0, -rope, rope) if rope else (0.0,)


def _afforded(study: Study, step: Step) -> Step:
    """The batch without the cells that the budget of trainings does not reach; the end, where that is all of them."""
    kept: list[int] = []
    for i in range(len(step.points)):
        points = (*study.points, *(step.points[k] for k in (*kept, i)))
        cost = plan.trainings(boundary.with_points(study, (len(points),), points))
        if study.budget.trainings is None or cost <= study.budget.trainings:
            kept.append(i)
    if not kept:
        return replace(step, points=(), acquisition=(), ended="trainings")
    return replace(step, points=tuple(step.points[i] for i in kept),
                   acquisition=tuple(step.acquisition[i] for i in kept))


def _facts(study: Study, step: Step) -> dict[str, Any]:
    """A step in numbers: where the search stands before the batch, or at its end."""
    numbers = {key: None if value is None else float(f"{value:.6g}")
               for key, value in (("width", step.width), ("widest", step.widest), ("floor", step.floor))}
    asked = {} if step.ended else {"points": [list(point) for point in step.points],
                                   "acquisition": [float(f"{value:.6g}") for value in step.acquisition]}
    end = {"ended": step.ended} if step.ended else {"batch": len(study.design.rounds) - 1}
    return {**end, "cells": plan.n_cells(study), "trainings": plan.trainings(study), **numbers, **asked}


def _open(study: Study, folder: Folder) -> None:
    """Begin the record with the first cells; cut off a torn last line, and the end that an earlier run came to."""
    raw = folder.search.read_bytes() if folder.search.exists() else b""
    kept = [line for line in boundary.lines(folder.search) if "ended" not in line]
    if not kept:
        kept = [{"batch": 0, "cells": len(boundary.start(study)), "points": [list(p) for p in boundary.start(study)]}]
    text = "".join(json.dumps(line, allow_nan=False) + "\n" for line in kept)
    if raw.decode(errors="replace") != text:
        write_text(folder.search, text)


def _append(folder: Folder, study: Study, step: Step) -> None:
    """One more line of the record, whole and on disk when this returns."""
    with folder.search.open("ab") as file:
        file.write(json.dumps(_facts(study, step), allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _hint(study: Study, step: Step) -> str:
    """What else would help, where more cells would not."""
    if step.ended in ("width", "no boundary") or step.floor is None or step.floor < (study.design.width or 0.0):
        return ""
    return f"; with these seeds the band stays about {step.floor:.2g} wide whatever the cells: more seeds narrow it"


def _say(study: Study, step: Step, quiet: bool) -> None:
    if quiet or step.width is None:
        return
    then = WORDS[step.ended] if step.ended else f"{len(step.points)} cells more"
    print(f"{plan.n_cells(study)} cells: the boundary's band is {step.width:.2g} wide on average (asked: "
          f"{study.design.width:g}); {then}{_hint(study, step)}", file=sys.stderr)
