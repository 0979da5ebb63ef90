"""Engines beside the own pool: what carries a study's jobs to processes elsewhere. It carries jobs, never trials."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from simlab.errors import MissingExtra, SimlabError
from simlab.sweep.plan import Job
from simlab.sweep.pool import Outcome, Pool
from simlab.sweep.schema import Study

PATIENCE = 20  # seconds that a scheduler may take to answer
CLOSING = 10  # seconds that Dask's own workers may take to end; they die with this process in any case
RETRIES = 4  # of a job whose Dask worker died: nodes are taken away on clusters


def carry(
    study: Study, function: str, threads: int, sources: str, job: Job
) -> tuple[str, list[dict[str, Any]], str, dict[str, int]]:
    """Compute one job in a fresh one-thread process of this machine, watched as everywhere; its outcome's parts."""
    with Pool(study, function, 1, threads, sources=sources) as pool:
        (outcome,) = pool.run([job])
    return outcome.status, outcome.rows, outcome.error, outcome.counts


class Dask:
    """Dask distributed (the extra `cluster`): a scheduler's address, or workers of its own on this machine.

    Each job is one Dask task that runs it in a one-thread child process, so that numbers do not depend on how the Dask
    workers were started. A task whose worker dies is run again by Dask. One whose machine has other sources than the
    driver's (`sources`, their hash) ends the run. Use as a context manager.
    """

    def __init__(self, study: Study, function: str, workers: int, threads: int, scheduler: str,
                 sources: str) -> None:
        self.study, self.function, self.workers, self.threads = study, function, workers, threads
        self.scheduler, self.sources = scheduler, sources

    def __enter__(self) -> Dask:
        try:
            from distributed import Client, LocalCluster
        except ImportError as error:
            raise MissingExtra("--engine dask needs the package distributed: pip install 'simlab[cluster]'.") from error
        self._cluster: Any = None
        if self.scheduler:
            try:
                self._client = Client(self.scheduler, timeout=PATIENCE, set_as_default=False)
            except (OSError, ValueError) as error:
                said = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise SimlabError(f"--scheduler {self.scheduler}: no Dask scheduler answers there ({said}).") from None
        else:
            self._cluster = LocalCluster(n_workers=self.workers, threads_per_worker=1, dashboard_address="127.0.0.1:0",
                                         host="127.0.0.1")
            self._client = Client(self._cluster, set_as_default=False)
        return self

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """The outcome of each job, as it ends; a job whose workers died again and again is "killed"."""
        from distributed import as_completed

        tasks = {self._client.submit(carry, self.study, self.function, self.threads, self.sources, job,
                                     pure=False, retries=RETRIES): job for job in jobs}
        for task in as_completed(list(tasks), loop=self._client.loop):
            job = tasks.pop(task)
            error = task.exception()
            if isinstance(error, SimlabError):
                raise error
            if error is not None:
                # Dask's own words hold addresses, which vary from run to run.
                yield Outcome(job, "killed", error=f"its Dask workers died again and again ({type(error).__name__})")
                continue
            status, rows, text, counts = task.result()
            yield Outcome(job, status, rows, text, counts)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for part in (self._client, self._cluster):  # a slow farewell is no error: what was computed is kept
            if part is not None:
                with contextlib.suppress(TimeoutError):
                    part.close(timeout=CLOSING)
