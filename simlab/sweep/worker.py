"""The child process of a sweep: takes one job at a time from its driver, computes it, sends the rows back.

Started afresh by `simlab.sweep.pool` (never forked) with the number of threads fixed in its environment. A watching
thread reads the pipe to the driver all the time: when the driver dies, however it dies, the pipe ends and the worker
exits at once, in the middle of a job.
"""

from __future__ import annotations

import importlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from simlab.sweep import progress, provenance
from simlab.sweep.study import run_plugins

REPORT_EVERY = 0.2  # seconds between progress messages


def one_line(error: BaseException) -> str:
    """Type and first line of an error: what a table row may say (nothing in it varies from run to run)."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0].strip()}" if text else type(error).__name__


def resolve(dotted: str) -> Callable[..., Any]:
    """The function named as `module:function`. Raises ImportError or AttributeError."""
    module, _, name = dotted.partition(":")
    return getattr(importlib.import_module(module), name)


def serve(pipe: Connection) -> None:
    """Answer jobs until the driver says stop (None) or its end of the pipe closes."""
    inbox: queue.Queue[Any] = queue.Queue()
    threading.Thread(target=_listen, args=(pipe, inbox), daemon=True).start()
    sending, checked = threading.Lock(), False

    def send(kind: str, content: object) -> None:
        with sending:
            pipe.send((kind, content))

    while (task := inbox.get()) is not None:
        dotted, study, job, sources = task
        try:
            run_plugins(study.plugins)
            function = resolve(dotted)
            own = sources if checked else provenance.sources(study)  # what is loaded stays as it was
        except Exception as error:
            send("unusable", one_line(error))
            return
        if own != sources:
            send("other sources", f"{own}, the driver's are {sources}")
            return
        checked = True
        progress.attach(_throttled(lambda fraction: send("progress", fraction)))
        try:
            progress.counted()
            send("begun", None)
            rows = function(study, job)
            send("counts", progress.counted())
            send("rows", rows)
        except Exception as error:
            import traceback

            traceback.print_exc()  # standard error is the run's log
            send("failed", one_line(error))


def _listen(pipe: Connection, inbox: queue.Queue[Any]) -> None:
    """Pass messages on; the end of the pipe means that the driver is gone, and so ends this process."""
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            os._exit(1)
        inbox.put(task)


def _throttled(send: Callable[[float], None]) -> Callable[[float], None]:
    last = [0.0]

    def sink(fraction: float) -> None:
        now = time.monotonic()
        if now - last[0] >= REPORT_EVERY:
            last[0] = now
            send(fraction)

    return sink


def main(argv: list[str] | None = None) -> int:
    """`python -m simlab.sweep.worker FD`: serve on an inherited pipe. Not a command for people."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's business, which ends its workers
    (descriptor,) = sys.argv[1:] if argv is None else argv
    serve(Connection(int(descriptor)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
