"""One run of a study: what is missing is computed, every finished job is kept, the whole is collected and read.

The driver is the only writer of the folder. It computes nothing itself: jobs run in worker processes, and the table
depends on the study alone, not on how many workers there were, in which order they ended, or how often it was begun.
"""

from __future__ import annotations

import importlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from simlab.errors import DamagedFile, InvalidStudy, SimlabError
from simlab.sweep import finish, plan, provenance, results
from simlab.sweep.folder import Folder, disk_full
from simlab.sweep.journal import Journal
from simlab.sweep.plan import Job
from simlab.sweep.pool import Outcome, Pool
from simlab.sweep.schema import Study
from simlab.sweep.screen import Screen

RUN_JOB = "simlab.sweep.job:run_job"


@dataclass(frozen=True)
class Options:
    """How a run is done; nothing here may change a number but `device` and `threads`, which a folder keeps."""

    out: Path
    workers: int | None = None
    threads: int = 1
    device: str = "cpu"
    quiet: bool = False
    retry_failed: bool = False
    function: str = RUN_JOB


def run(study: Study, options: Options) -> finish.Summary:
    """Compute what is missing, collect, read, draw. Raises SimlabError; an interrupt leaves finished jobs whole."""
    plan.check_budget(study)
    folder = Folder(options.out)
    folder.make()
    try:
        with folder.lock():
            return _Run(study, options, folder).go()
    except OSError as error:
        if not disk_full(error):
            raise SimlabError(f"{error.strerror or error}: {error.filename or folder.path}") from error
        total = len(plan.jobs(study))
        raise SimlabError(f"no space left for {folder.path}: {len(folder.finished())} of {total} jobs are finished and "
                          "kept; free some space and run the same command again.") from None


class _Run:
    def __init__(self, study: Study, options: Options, folder: Folder) -> None:
        self.study, self.options, self.folder = study, options, folder
        self.jobs = plan.jobs(study, options.device, options.threads)
        self.tables: dict[int, pa.Table] = {}
        self.messages: list[str] = []

    def go(self) -> finish.Summary:
        study, folder, options = self.study, self.folder, self.options
        if options.device != "cpu":  # torch takes seconds to import: asked only when the answer matters
            importlib.import_module("simlab.training.device").find(options.device)
        folder.freeze(study)
        self._same_settings()
        todo = self._resume()
        self._same_sources(todo)
        workers = max(1, min(options.workers or os.cpu_count() or 1, len(todo) or 1))
        started, clock = time.strftime("%Y-%m-%dT%H:%M:%S%z"), time.monotonic()
        if todo:
            manifest = provenance.start(folder, study, options.device, options.threads, workers, started)
            provenance.write(folder, manifest)
        journal = Journal(study, folder.journal)
        self.messages += journal.messages
        total = sum(job.units for job in self.jobs)
        screen = Screen(total, total - sum(job.units for job in todo), options.quiet)
        for message in self.messages:
            screen.say(message)
        try:
            self._compute(todo, workers, journal, screen)
        finally:
            screen.close()
        if todo:
            manifest = provenance.finish(manifest, seconds=round(time.monotonic() - clock, 2), jobs=len(todo),
                                         trainings=plan.trainings(study, todo),
                                         units=sum(job.units for job in todo))
            provenance.write(folder, manifest)
        table = results.collect([self.tables[job.index] for job in self.jobs])
        return finish.finish(study, folder, table, jobs_run=len(todo), trainings=plan.trainings(study, todo),
                             seconds=time.monotonic() - clock, device=options.device)

    def _same_settings(self) -> None:
        """Refuse a folder whose shards came from another device or number of threads (their last bits may differ)."""
        before = self.folder.read_manifest()
        for key in ("device", "threads"):
            now = getattr(self.options, key)
            if self.folder.finished() and before.get(key, now) != now:
                raise InvalidStudy(f"{self.folder.path} was begun with --{key} {before[key]}, now {now}; give --out "
                                   f"another folder, or --{key} {before[key]}.")

    def _same_sources(self, todo: list[Job]) -> None:
        """Refuse to finish one table with two versions of the code; a finished one is shown, and said to be older."""
        before = self.folder.read_manifest().get("sources")
        if not self.tables or before in (None, provenance.sources(self.study)):
            return
        if todo:
            raise InvalidStudy(f"{self.folder.path} was begun with other sources of simlab or of a plug-in; give --out "
                               "another folder, or delete it to start afresh.")
        self.messages.append(f"{self.folder.path} was made with other sources of simlab or a plug-in: shown as it is")

    def _resume(self) -> list[Job]:
        """Read the finished shards (a damaged one is set aside), and return the jobs still to do."""
        there, todo = self.folder.finished(), []
        for job in self.jobs:
            if job.index in there:
                path = self.folder.shard(job)
                try:
                    table = results.read_shard(self.study, job, path)
                except DamagedFile as error:
                    aside = self.folder.set_aside(path)
                    self.messages.append(f"{error}: set aside as {aside.name}, computed again")
                else:
                    if not (self.options.retry_failed and results.failures(table)):
                        self.tables[job.index] = table
                        continue
            todo.append(job)
        if there and todo:
            done = len(self.jobs) - len(todo)
            self.messages.append(f"resuming {self.folder.path}: {done} of {len(self.jobs)} jobs are done")
        return todo

    def _compute(self, todo: list[Job], workers: int, journal: Journal, screen: Screen) -> None:
        self._tell(journal)
        if not todo:
            return
        self.folder.note(f"run: {len(todo)} jobs on {workers} workers")
        with self.folder.runlog.open("ab") as log, Pool(self.study, self.options.function, workers,
                                                        self.options.threads, log, screen.progress) as pool:
            for outcome in pool.run(todo):
                self.tables[outcome.job.index] = self._keep(outcome)
                screen.done(outcome.job)
                if outcome.status != "ok":
                    screen.say(f"job {outcome.job.index} {outcome.status}: {outcome.error}")
                self.folder.note(f"job {outcome.job.index}: {outcome.status} {outcome.error}".rstrip())
                self._tell(journal)

    def _keep(self, outcome: Outcome) -> pa.Table:
        """Write the job's shard: its rows, and a failed row for whatever is missing."""
        job = outcome.job
        if outcome.status == "ok":
            table = results.job_table(self.study, job, outcome.rows)
        else:
            table = results.job_table(self.study, job, [], outcome.status, outcome.error)
        results.write_shard(self.study, job, table, self.folder.shard(job))
        return table

    def _tell(self, journal: Journal) -> None:
        """Give the journal the cells that are complete and new to it: mean primary contrast, seeds, failures."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for job in self.jobs:
            groups.setdefault(job.cells, []).append(job.index)
        for cells, indices in groups.items():
            if all(i in self.tables for i in indices) and any(journal.done.get(c) != "COMPLETE" for c in cells):
                part = pa.concat_tables([self.tables[i] for i in indices])
                for cell, (value, facts) in finish.trial_values(self.study, part, cells).items():
                    journal.add(cell, value, facts)
