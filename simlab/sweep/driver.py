"""One run of a study: what is missing is computed, every finished job is kept, the whole is collected and read.

The driver computes nothing itself: jobs run in worker processes, and the table depends on the study alone, not on how
many workers there were, in which order they ended, or how often it was begun. It holds the folder alone, but for a part
of a study (`--shard i/n`): parts work side by side, leave shards and a manifest, and a later `--collect` reads them.
"""

from __future__ import annotations

import importlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from simlab.errors import DamagedFile, InvalidStudy, SimlabError
from simlab.sweep import engines, finish, plan, provenance, results, standing, whole_stays
from simlab.sweep.folder import Folder, disk_full
from simlab.sweep.journal import Journal
from simlab.sweep.plan import Job
from simlab.sweep.pool import Outcome, Pool
from simlab.sweep.schema import Study
from simlab.sweep.screen import Screen

RUN_JOB = "simlab.sweep.job:run_job"
COMPUTE = ("python", "numpy", "scipy", "torch", "scikit-learn")  # whose versions may move the last bits
STOPPED = ("killed", "timeout")  # how a whole job ends because of what one of its arms may have done
Work = Callable[[Study, "Options", Folder], finish.Summary]


@dataclass(frozen=True)
class Options:
    """How a run is done; nothing here may change a number but `device` and `threads`, which a folder keeps.

    `cache`: the stage cache's folder, "" for none; `shard`: (i, n), only every n-th job from the i-th (from 1);
    `collect`: compute nothing; `artefacts`: keep embeddings and curves of each cell, seed and arm.
    """

    out: Path
    workers: int | None = None
    threads: int = 1
    device: str = "cpu"
    quiet: bool = False
    retry_failed: bool = False
    function: str = RUN_JOB
    cache: str = ""
    cache_mb: float = 2048.0
    shard: tuple[int, int] | None = None
    collect: bool = False
    artefacts: bool = False
    engine: str = "local"
    scheduler: str = ""
    estimate: float | None = None  # seconds that were foretold, for the manifest
    origin: standing.Origin | None = None  # the study's file and what the command line changed, for its standing
    witness: tuple[dict[str, Any], ...] = ()  # what was seen as work that preceded this run began (tuning)

    @property
    def part(self) -> str:
        """The name of the part of the folder's lock that the run holds; "" for all of it."""
        if self.shard is not None:
            return f"{self.shard[0]}-of-{self.shard[1]}"
        return "collect" if self.collect else ""


def whole(study: Study, options: Options, folder: Folder) -> finish.Summary:
    """All of a study whose cells are known beforehand."""
    return Run(study, options, folder).go()


def run(study: Study, options: Options, work: Work = whole) -> finish.Summary:
    """Compute what is missing, collect, read, draw. Raises SimlabError; an interrupt leaves finished jobs whole.

    `work` is done while the folder's lock is held: the whole study at once, unless a search goes step by step.
    """
    plan.check_budget(study)
    folder = Folder(options.out)
    study = folder.adopt(study)
    if options.collect:
        folder.check_frozen(study)
    folder.make()
    try:
        with folder.lock(options.part):
            return work(study, options, folder)
    except OSError as error:
        if not disk_full(error):
            raise SimlabError(f"{error.strerror or error}: {error.filename or folder.path}") from error
        total = len(plan.jobs(study))
        raise SimlabError(f"no space left for {folder.path}: {len(folder.finished())} of {total} jobs are finished and "
                          "kept; free some space and run the same command again.") from None


class Run:
    """What is missing of a study's jobs: `fill` computes it, `table` reads what there is, `go` also ends the run."""

    def __init__(self, study: Study, options: Options, folder: Folder, later: bool = False) -> None:
        """`later`: not the first of this process, so that nothing is resumed that a reader should hear of."""
        self.study, self.options, self.folder, self.later = study, options, folder, later
        artefacts = str(folder.artefacts.resolve()) if options.artefacts else ""
        jobs = plan.jobs(study, options.device, options.threads, options.cache, options.cache_mb)
        self.jobs = [replace(job, artefacts=artefacts) for job in jobs] if artefacts else jobs
        self.groups: dict[tuple[int, ...], list[Job]] = {}
        for job in self.jobs:
            self.groups.setdefault(job.cells, []).append(job)
        self.there: set[int] = set()
        self.messages: list[str] = []
        self.counts: Counter[str] = Counter()
        self.sources = provenance.sources(study)  # every worker's must equal these, whenever and wherever it starts

    def go(self) -> finish.Summary:
        """Compute what is missing, and all that follows from the table."""
        done = self.fill()
        if self.options.shard is not None:
            return finish.part(self.study, self.folder, self.table(), **done)
        return finish.finish(self.study, self.folder, self.table(), device=self.options.device,
                             missing=len(self._mine(self.jobs)) - len(self.there), origin=self.options.origin, **done)

    def fill(self) -> dict[str, Any]:
        """Compute what is missing; returns the jobs and trainings that it took, seconds, and counts of the stages."""
        study, folder, options = self.study, self.folder, self.options
        if options.device != "cpu":  # torch takes seconds to import: asked only when the answer matters
            importlib.import_module("simlab.training.device").find(options.device)
        if not options.collect and (options.retry_failed or self._missing()):
            whole_stays.check_model(study)
        folder.freeze(study)
        self._same_settings()
        self._same_parts()
        todo = self._resume()
        self._same_sources(todo)
        self._say_without_artefacts()
        workers = max(1, min(options.workers or os.cpu_count() or 1, len(todo) or 1))
        journal = Journal(study, folder.journal) if options.shard is None else None
        self.messages += journal.messages if journal else []
        mine = self._mine(self.jobs)
        total = sum(job.units for job in mine)
        screen = Screen(total, total - sum(job.units for job in todo), options.quiet)
        for message in self.messages:
            screen.say(message)
        clock = time.monotonic()
        manifest = self._begin(workers) if todo else None
        try:
            self._compute(todo, workers, journal, screen)
        finally:
            screen.close()
        if manifest is not None:
            facts = {"seconds": round(time.monotonic() - clock, 2), "jobs": len(todo),
                     "trainings": plan.trainings(study, todo), "units": sum(job.units for job in todo),
                     "stages": finish.stage_counts(self.counts)}
            provenance.write(folder, provenance.finish(manifest, **facts), options.part)
        return {"jobs_run": len(todo), "trainings": plan.trainings(study, todo), "seconds": time.monotonic() - clock,
                "stages": finish.stage_counts(self.counts)}

    def _mine(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs of this run's part of the study: together the n parts hold each job once."""
        if self.options.shard is None:
            return list(jobs)
        first, every = self.options.shard
        return [job for job in jobs if job.index % every == first - 1]

    def _missing(self) -> bool:
        """Whether a job of this run's part has no shard yet."""
        return not {job.index for job in self._mine(self.jobs)} <= self.folder.finished()

    def _begin(self, workers: int) -> dict[str, Any]:
        options = self.options
        seen = [*options.witness, standing.witness(self.study, options.origin, self.folder)]
        manifest = provenance.start(self.folder, self.study, options.device, options.threads, workers, options.part)
        facts = {"engine": options.engine, "cache": bool(options.cache), "estimated_seconds": options.estimate,
                 "witness": seen}
        manifest = provenance.finish(manifest, **facts)
        provenance.write(self.folder, manifest, options.part)
        return manifest

    def table(self) -> pa.Table:
        """The rows of what is finished (of this run's part of the study). Raises SimlabError where nothing is."""
        mine = self._mine(self.jobs)
        tables = [results.read_shard(self.study, job, self.folder.shard(job)) for job in mine
                  if job.index in self.there]
        if not tables and mine:
            raise SimlabError(f"{self.folder.path} holds no finished job of study {self.study.name} yet.")
        return results.collect([results.schema(self.study).empty_table(), *tables])

    def _same_settings(self) -> None:
        """Refuse a folder whose shards came from another device or number of threads (their last bits may differ)."""
        for before in [self.folder.read_manifest(), *self.folder.part_manifests()]:
            for key in ("device", "threads"):
                now = getattr(self.options, key)
                if not self.options.collect and self.folder.finished() and before.get(key, now) != now:
                    raise InvalidStudy(f"{self.folder.path} was begun with --{key} {before[key]}, now {now}; give "
                                       f"--out another folder, or --{key} {before[key]}.")

    def _same_parts(self) -> None:
        """Refuse to collect parts of a study that were computed with different settings, code or libraries."""
        if not self.options.collect:
            return
        seen: dict[str, tuple[str, Any]] = {}
        for manifest in self.folder.part_manifests():
            for run in manifest.get("runs", []):
                found = {key: manifest.get(key) for key in ("device", "threads", "sources")}
                found |= {name: run.get("versions", {}).get(name) for name in COMPUTE}
                for field, value in found.items():
                    part, before = seen.setdefault(field, (run.get("part", ""), value))
                    if value != before:
                        raise InvalidStudy(f"{self.folder.path}: parts {part} and {run.get('part', '')} differ in "
                                           f"{field} ({before}, {value}); compute one of them again in another folder.")

    def _same_sources(self, todo: list[Job]) -> None:
        """Refuse to finish one table with two versions of the code; a finished one is shown, and said to be older."""
        manifests = [self.folder.read_manifest(), *self.folder.part_manifests()]
        others = self.folder.finished() - {job.index for job in self._mine(self.jobs)}  # of other parts
        now = self.sources
        if not (self.there or others) or all(m.get("sources") in (None, now) for m in manifests):
            return
        if todo:
            raise InvalidStudy(f"{self.folder.path} was begun with other sources of simlab or of a plug-in; give --out "
                               "another folder, or delete it to start afresh.")
        self.messages.append(f"{self.folder.path} was made with other sources of simlab or a plug-in: shown as it is")

    def _say_without_artefacts(self) -> None:
        """What is finished is not computed again for its artefacts' sake; say so where it has none."""
        if not self.options.artefacts:
            return
        kept = {tuple(path.name.split("-")[:2]) for path in self.folder.artefacts.glob("*.npz")}
        bare = [job for job in self.jobs if job.index in self.there
                and not any((str(cell), str(seed)) in kept for cell in job.cells for seed in job.seeds)]
        if bare:
            self.messages.append(f"--artefacts: {len(bare)} finished jobs have none and are not computed again; "
                                 "--cell I --seed S keeps those of one cell and seed")

    def _resume(self) -> list[Job]:
        """Look through the finished shards (a damaged one is set aside), and return this run's jobs still to do."""
        finished, todo = self.folder.finished(), []
        for job in self._mine(self.jobs):
            if job.index in finished:
                path = self.folder.shard(job)
                try:
                    table = results.read_shard(self.study, job, path)
                except DamagedFile as error:
                    aside = self.folder.set_aside(path)
                    self.messages.append(f"{error}: set aside as {aside.name}, computed again")
                else:
                    if self.options.collect or not (self.options.retry_failed and results.failures(table)):
                        self.there.add(job.index)
                        continue
            todo.append(job)
        if self.options.collect:
            return []
        if self.there and todo and not self.later:
            done = len(self.there)
            self.messages.append(f"resuming {self.folder.path}: {done} of {done + len(todo)} jobs are done")
        return todo

    def _compute(self, todo: list[Job], workers: int, journal: Journal | None, screen: Screen) -> None:
        for jobs in self.groups.values() if journal else ():
            self._tell(journal, jobs)
        if not todo:
            return
        self.folder.note(f"run: {len(todo)} jobs on {workers} workers")
        stopped: list[Job] = []
        with self.folder.runlog.open("ab") as log, self._engine(workers, log, screen) as engine:
            for outcome in engine.run(todo):
                self.counts.update(outcome.counts)
                if outcome.status != "ok":
                    screen.say(f"job {outcome.job.index} {outcome.status}: {outcome.error}")
                self.folder.note(f"job {outcome.job.index}: {outcome.status} {outcome.error}".rstrip())
                if outcome.status in STOPPED and len(self.study.arms) > 1:
                    stopped.append(outcome.job)
                    continue
                self._finished(outcome, journal, screen)
        for outcome in self._arm_by_arm(stopped, workers, screen):
            self._finished(outcome, journal, screen)

    def _finished(self, outcome: Outcome, journal: Journal | None, screen: Screen) -> None:
        self._keep(outcome)
        screen.done(outcome.job)
        self._tell(journal, self.groups[outcome.job.cells])

    def _arm_by_arm(self, jobs: list[Job], workers: int, screen: Screen) -> Iterator[Outcome]:
        """Jobs that had to be stopped once more, each arm in a process of its own: one that hangs, dies or hoards is
        rows with its reason, the others are what they are without it."""
        if not jobs:
            return
        screen.say(f"{len(jobs)} jobs were stopped: computed again arm by arm")
        rows: dict[int, list[dict[str, Any]]] = {job.index: [] for job in jobs}
        for arm in self.study.arms:
            alone = replace(self.study, compare=replace(self.study.compare, arms=(arm,), contrasts=()))
            with self.folder.runlog.open("ab") as log, self._engine(workers, log, screen, alone) as engine:
                for outcome in engine.run(jobs):
                    job = outcome.job
                    self.counts.update(outcome.counts)
                    self.folder.note(f"job {job.index}, {arm} alone: {outcome.status} {outcome.error}".rstrip())
                    rows[job.index] += outcome.rows if outcome.status == "ok" else [
                        results.failed_row(cell, seed, arm, outcome.status, outcome.error)
                        for cell in job.cells for seed in job.seeds]
        yield from (Outcome(job, "ok", rows[job.index]) for job in jobs)

    def _engine(self, workers: int, log: Any, screen: Screen, study: Study | None = None) -> Any:
        """What carries jobs to processes: `run(jobs)` gives each job's outcome as it ends."""
        options, study = self.options, study or self.study
        if options.engine == "dask":
            return engines.Dask(study, options.function, workers, options.threads, options.scheduler,
                                self.sources)
        return Pool(study, options.function, workers, options.threads, log, screen.progress, self.sources)

    def _keep(self, outcome: Outcome) -> None:
        """Write the job's shard: its rows, and a failed row for whatever is missing."""
        job = outcome.job
        if outcome.status == "ok":
            table = results.job_table(self.study, job, outcome.rows)
        else:
            table = results.job_table(self.study, job, [], outcome.status, outcome.error)
        results.write_shard(self.study, job, table, self.folder.shard(job))
        self.there.add(job.index)

    def _tell(self, journal: Journal | None, jobs: list[Job]) -> None:
        """Give the journal the cells of these jobs (all seeds of a group) that are complete and new to it."""
        if journal is None or not all(job.index in self.there for job in jobs):
            return
        cells = jobs[0].cells
        if all(journal.done.get(cell) == "COMPLETE" for cell in cells):
            return
        part = pa.concat_tables([results.read_shard(self.study, job, self.folder.shard(job)) for job in jobs])
        journal.add_all(finish.trial_values(self.study, part, cells))
