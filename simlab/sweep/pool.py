"""A small pool of one-thread worker processes that survives what happens to them.

Spawn only: each worker is a fresh interpreter (a fork after threaded torch hangs). A worker that is killed is replaced
and its job tried once more; a job that takes too long or too much memory is stopped; every job ends in exactly one
`Outcome`. When the driver dies, its workers exit (`simlab.sweep.worker`). A job's threads are fixed in the child's
environment before it starts, the same for one worker as for many.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import IO, Any

from simlab.errors import SimlabError
from simlab.sweep import provenance, stop
from simlab.sweep.plan import Job
from simlab.sweep.schema import Study

ATTEMPTS = 2  # a job whose worker was killed is tried again once
TICK = 0.25  # seconds between looks at deadlines and memory
STARTING = 300.0  # seconds that a worker may take to start and load a job's function, beside the job's own limit
STDERR = 2  # by its number: sys.stderr may be a stand-in without one (a notebook, a test)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
                     "VECLIB_MAXIMUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """How a job ended. `rows` where status is "ok"; else `error` (one line) and "failed", "killed" or "timeout"."""

    job: Job
    status: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    counts: dict[str, int] = field(default_factory=dict)  # stages computed and found (`simlab.sweep.progress.count`)


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    pipe: Connection
    job: Job | None = None
    attempt: int = 0
    given: float = 0.0  # when the job was handed out
    begun: float | None = None  # when the worker said that it begins to compute
    counts: dict[str, int] = field(default_factory=dict)


class Pool:
    """Runs jobs of one study on `workers` processes. Use as a context manager: leaving it ends every worker.

    `function` is "module:function", called as function(study, job) in the worker; `log` takes the workers' standard
    output and error (None: this process's standard error); `on_progress(job, fraction)` hears how far each job is;
    `sources` is the hash of the driver's sources ("": those here and now), which every worker's must equal.
    """

    def __init__(self, study: Study, function: str, workers: int, threads: int = 1, log: IO[bytes] | None = None,
                 on_progress: Callable[[Job, float], None] | None = None, sources: str = "") -> None:
        self.study, self.function, self.size, self.threads, self.log = study, function, workers, threads, log
        self.on_progress = on_progress or (lambda job, fraction: None)
        self.sources = sources or provenance.sources(study)
        self._workers: list[_Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            self._end(worker)

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """The outcome of each job, as it ends. Raises SimlabError when no worker can load the job's function,
        or one's sources are not the driver's."""
        waiting = deque((job, 1) for job in jobs)
        while waiting or any(worker.job for worker in self._workers):
            stop.check()
            self._hand_out(waiting)
            busy = {worker.pipe: worker for worker in self._workers if worker.job}
            for pipe in wait(list(busy), timeout=TICK):
                outcome = self._hear(busy[pipe], waiting)  # type: ignore[index]
                if outcome:
                    yield outcome
            yield from self._stop_excess()

    def _hand_out(self, waiting: deque[tuple[Job, int]]) -> None:
        """Give waiting jobs to free workers, starting as many workers as are allowed and needed."""
        while waiting:
            free = next((worker for worker in self._workers if worker.job is None), None)
            if free is None:
                if len(self._workers) >= self.size:
                    return
                free = self._start()
            free.job, free.attempt = waiting.popleft()
            free.given, free.begun = time.monotonic(), None
            with contextlib.suppress(OSError):  # a worker that is dead already is noticed when its pipe is read
                free.pipe.send((self.function, self.study, free.job, self.sources))

    def _hear(self, worker: _Worker, waiting: deque[tuple[Job, int]]) -> Outcome | None:
        """Take one message of a worker, or notice that it died."""
        job = worker.job
        assert job is not None
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            code = self._end(worker)
            if worker.attempt < ATTEMPTS:
                waiting.appendleft((job, worker.attempt + 1))
                return None
            return Outcome(job, "killed", error=f"the worker died twice ({_death(code)})")
        if kind == "progress":
            self.on_progress(job, content)
            return None
        if kind == "begun":
            worker.begun = time.monotonic()
            return None
        if kind == "counts":
            worker.counts = content
            return None
        if kind == "unusable":
            raise SimlabError(f"workers cannot load {self.function}: {content}.")
        if kind == "other sources":
            raise SimlabError(f"a worker's sources differ from the driver's ({content}): simlab or a plug-in was "
                              "edited during the run, or is another where the worker runs; finished jobs are kept.")
        worker.job = None
        counts, worker.counts = worker.counts, {}
        if kind == "rows":
            return Outcome(job, "ok", rows=content, counts=counts)
        return Outcome(job, "failed", error=content)

    def _stop_excess(self) -> Iterator[Outcome]:
        """End workers that are over their time or memory; neither is tried again."""
        limits, now = self.study.limits, time.monotonic()
        for worker in [w for w in self._workers if w.job]:
            job = worker.job
            assert job is not None
            late = worker.given + STARTING if worker.begun is None else worker.begun
            if now - late > limits.timeout_s:
                self._end(worker)
                yield Outcome(job, "timeout", error=f"stopped after limits.timeout_s = {limits.timeout_s:g}")
            elif resident_mb(worker.process.pid) > limits.memory_mb:
                self._end(worker)
                yield Outcome(job, "killed", error=f"stopped above limits.memory_mb = {limits.memory_mb:g}")

    def _start(self) -> _Worker:
        ours, theirs = Pipe()
        environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, str(self.threads)),
                       "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
        process = subprocess.Popen(
            [sys.executable, "-m", "simlab.sweep.worker", str(theirs.fileno())],
            env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            stdout=self.log if self.log is not None else STDERR, stderr=self.log,
            start_new_session=True,  # Ctrl-C in a terminal reaches the driver alone, which ends its workers in order
        )
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _end(self, worker: _Worker) -> int:
        """Kill a worker and forget it; returns its exit code."""
        self._workers.remove(worker)
        worker.pipe.close()
        worker.process.kill()
        return worker.process.wait()


def _death(code: int) -> str:
    import signal

    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB; 0 where the system does not tell (no /proc: the limit is not enforced)."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123 (read four times a second)
            pages = int(file.read().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
