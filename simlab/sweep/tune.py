"""Design "tune": every arm gets as many Optuna TPE trials in each cell, then all are compared at what they chose.

Trials are cross-validated inside the labels (`simlab.sweep.tuning`). One driver proposes them in fixed batches, each
from a sampler seeded by (study, cell, arm, trials before it) and told exactly the trials before it: what a batch asks
for depends neither on workers nor on kills, and a restart repeats no point. Finished trials are lines of
`trials.jsonl`, each written and synced as it ends; the comparison is then the study's table, as of any grid.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from simlab import methods, rng
from simlab.errors import InvalidStudy, SimlabError
from simlab.files import write_text
from simlab.sweep import driver, engines, plan, provenance, standing, tune_report
from simlab.sweep.finish import Summary
from simlab.sweep.folder import Folder
from simlab.sweep.pool import Outcome, Pool
from simlab.sweep.schema import Chosen, Setting, Study
from simlab.sweep.screen import Screen
from simlab.sweep.trial import Trial
from simlab.training import search

EVALUATE, COMPARE = "simlab.sweep.tuning:evaluate", "simlab.sweep.tuning:compare"
BATCH = 4  # trials of an arm in a cell that are asked for at once, unless design.batch says else
RECORD = "trials.jsonl"


@dataclass(frozen=True)
class Done:
    """A finished trial: its mean out-of-fold AUC over seeds, None where some seed has none, and why."""

    cell: int
    arm: str
    number: int
    setting: Setting
    scores: tuple[float | None, ...]
    error: str = ""
    status: str = "ok"  # how its job ended: one that was stopped (`driver.STOPPED`) may be retried

    @property
    def score(self) -> float | None:
        known = [s for s in self.scores if s is not None]
        return sum(known) / len(known) if known and len(known) == len(self.scores) else None


def run(study: Study, options: driver.Options, evaluate: str = EVALUATE, compare: str = COMPARE) -> Summary:
    """Tune what is not tuned yet, write what came of it, and compare. Raises SimlabError; resumed after any kill."""
    plan.check_budget(study)
    folder, begun = Folder(options.out), time.monotonic()
    if options.shard is None and not options.collect:
        folder.make()
        with folder.lock():
            folder.freeze(study)
            _Tuning(study, options, folder, evaluate).go()
    tuned = time.monotonic() - begun
    ready = settled(study, folder)
    seen = next(_lines(folder.path / RECORD)).get("witness", {"problem": "its tuning has no record of the study file"})
    found = driver.run(ready, replace(options, function=compare, witness=(seen,)))
    return replace(found, seconds=found.seconds + tuned)


def settled(study: Study, folder: Folder) -> Study:
    """The study with what its finished tuning chose. Raises SimlabError where tuning is not finished."""
    return replace(study, choices=choose(study, read(folder.path / RECORD)))


def choose(study: Study, done: Sequence[Done]) -> tuple[Chosen, ...]:
    """In each cell, each arm's best setting, the earliest of equals; none where every trial of the arm failed.

    Raises SimlabError for missing trials."""
    chosen = []
    for cell in range(plan.n_cells(study)):
        for arm in study.arms:
            mine = [d for d in done if (d.cell, d.arm) == (cell, arm)]
            if len(mine) < trials(study, arm):
                raise SimlabError(f"study {study.name} is not tuned yet: {len(mine)} of {trials(study, arm)} trials of "
                                  f"{arm} in cell {cell} are done; run it without --shard, --collect or --cell first.")
            known = sorted((d for d in mine if d.score is not None), key=lambda d: d.number)
            if known:
                chosen.append((cell, arm, max(known, key=lambda d: d.score or 0.0).setting))
    return tuple(chosen)


def trials(study: Study, arm: str) -> int:
    """Trials that an arm gets in a cell: `tune.trials`, or one where it has nothing to tune."""
    return (study.tune.trials or 1) if search.names(methods.find(arm), study.train.encoder) else 1


class _Tuning:
    def __init__(self, study: Study, options: driver.Options, folder: Folder, evaluate: str) -> None:
        self.study, self.options, self.folder, self.evaluate = study, options, folder, evaluate
        self.path = folder.path / RECORD
        self.batch = study.design.batch or BATCH
        self.sources = provenance.sources(study)
        self.total = plan.n_cells(study) * sum(trials(study, arm) for arm in study.arms)

    def go(self) -> None:
        done = self._resume()
        screen = Screen(self.total, len(done), self.options.quiet, "tuning trials")
        if done and len(done) < self.total:
            screen.say(f"resuming {self.path}: {len(done)} of {self.total} tuning trials are done")
        start, before = time.monotonic(), len(done)
        try:
            for first in range(0, max(trials(self.study, arm) for arm in self.study.arms), self.batch):
                known = {(d.cell, d.arm, d.number) for d in done}
                asked = [t for t in self._round(first, done) if (t.cells[0], t.arm, t.number) not in known]
                done += self._compute(asked, screen)
        finally:
            screen.close()
        if len(done) > before or not (self.folder.path / tune_report.CHOSEN).exists():
            self.folder.note(f"tuning: {len(done) - before} trials in {time.monotonic() - start:.1f} s")
            tune_report.write(self.study, done, choose(self.study, done), self.folder.path)

    def _resume(self) -> list[Done]:
        """The finished trials of earlier runs; a torn last line is cut off, and another machine or code refused."""
        own = {"device": self.options.device, "threads": self.options.threads,
               "sources": self.sources}
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            self.folder.note(f"{self.path.name} ended in a torn line, which was cut off")
            with self.path.open("r+b") as file:
                file.truncate(whole)
        if not whole:  # new, or killed in the very first line
            _append(self.path, {**own, "witness": standing.witness(self.study, self.options.origin, self.folder)})
            return []
        head = next(iter(_lines(self.path)), own)
        done = read(self.path)
        written = len(done)
        if self.options.retry_failed:  # what took too long or was killed may have been the machine's doing
            done = [d for d in done if d.status not in driver.STOPPED]
        for key, value in own.items() if len(done) < self.total else ():
            if head.get(key) != value:
                raise InvalidStudy(f"{self.path} was begun with other {key} ({head.get(key)}, now {value}); give --out "
                                   "another folder, or delete it to start afresh.")
        if len(done) < written:
            _rewrite(self.path, [head, *map(asdict, done)])
        return done

    def _round(self, first: int, done: Sequence[Done]) -> Iterator[Trial]:
        """The trials first .. first + batch - 1 of every arm in every cell."""
        options = self.options
        for cell in range(plan.n_cells(self.study)):
            for arm in self.study.arms:
                n = min(self.batch, trials(self.study, arm) - first)
                if n < 1:
                    continue
                mine = sorted((d for d in done if (d.cell, d.arm) == (cell, arm)), key=lambda d: d.number)
                for i, setting in enumerate(propose(self.study, cell, arm, mine[:first], n)):
                    number = first + i
                    index = (cell * len(self.study.arms) + self.study.arms.index(arm)) * 100_000 + number
                    yield Trial(index, (cell,), tuple(range(self.study.n_seeds)), options.device, options.threads,
                                options.cache, options.cache_mb, arm=arm, number=number, setting=setting)

    def _compute(self, asked: list[Trial], screen: Screen) -> list[Done]:
        if not asked:
            return []
        options, found = self.options, []
        workers = max(1, min(options.workers or os.cpu_count() or 1, len(asked)))
        with self.folder.runlog.open("ab") as log, self._engine(workers, log) as engine:
            for outcome in engine.run(asked):
                found.append(_done(outcome, self.study.n_seeds))
                _append(self.path, asdict(found[-1]))
                screen.finished += 1
                screen.progress(outcome.job, 0.0)
        return found

    def _engine(self, workers: int, log: Any) -> Any:
        options = self.options
        if options.engine == "dask":
            return engines.Dask(self.study, self.evaluate, workers, options.threads, options.scheduler,
                                self.sources)
        return Pool(self.study, self.evaluate, workers, options.threads, log, None, self.sources)


def propose(study: Study, cell: int, arm: str, before: Sequence[Done], n: int) -> list[Setting]:
    """The next n settings of an arm in a cell, a function of the trials before them: Optuna's TPE, seeded afresh."""
    import optuna

    space = distributions(study, arm)
    if not space:
        return [()] * n
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = rng.integer(study.seed, cell, "tuning", zlib.crc32(arm.encode()), len(before)) % 2**32
    known = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    known.add_trials([as_trial(d, space) for d in before])
    return [tuple(sorted(known.ask(space).params.items())) for _ in range(n)]


def distributions(study: Study, arm: str) -> dict[str, Any]:
    """An arm's search space as Optuna has it."""
    from optuna.distributions import FloatDistribution, IntDistribution

    ranges = {name: search.RANGES[name] for name in search.names(methods.find(arm), study.train.encoder)}
    return {name: IntDistribution(int(r.low), int(r.high), log=True) if r.whole else
            FloatDistribution(r.low, r.high, log=True) for name, r in ranges.items()}


def as_trial(done: Done, space: dict[str, Any]) -> Any:
    """A finished trial as Optuna's; one without a score is failed."""
    import optuna

    state = optuna.trial.TrialState.FAIL if done.score is None else optuna.trial.TrialState.COMPLETE
    return optuna.trial.create_trial(state=state, value=done.score, params=dict(done.setting), distributions=space,
                                     user_attrs={"cell": done.cell, "number": done.number})


def read(path: Path) -> list[Done]:
    """The finished trials of a record; an empty list where there is none."""
    lines = list(_lines(path))[1:] if path.exists() else []
    return [Done(**{**line, "setting": tuple(map(tuple, line["setting"])), "scores": tuple(line["scores"])})
            for line in lines]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            yield json.loads(line)
    except ValueError:
        raise InvalidStudy(f"{path} is damaged; delete it to tune again, or give --out another folder.") from None


def _done(outcome: Outcome, n_seeds: int) -> Done:
    trial = outcome.job
    assert isinstance(trial, Trial)
    scores = tuple(row["score"] for row in outcome.rows) or (None,) * n_seeds
    error = outcome.error or next((row["error"] for row in outcome.rows if row["error"]), "")
    return Done(trial.cells[0], trial.arm, trial.number, trial.setting, scores, error, outcome.status)


def _rewrite(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Put these lines in the place of the record, in one step."""
    write_text(path, "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines))


def _append(path: Path, line: dict[str, Any]) -> None:
    """One more line, whole and on disk when this returns (numbers as their shortest exact text)."""
    with path.open("ab") as file:
        file.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
