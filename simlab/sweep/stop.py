"""Being asked to stop: Ctrl-C, and a scheduler's polite end (SIGTERM). Imports no array module.

Python raises KeyboardInterrupt wherever it happens to be; inside a finaliser or a callback of the garbage collector the
exception is printed and lost, and the run would go on for hours. So the request is also noted, and loops that wait for
workers ask for it (`check`).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_asked = threading.Event()


def check() -> None:
    """Raise KeyboardInterrupt when somebody has asked to stop."""
    if _asked.is_set():
        raise KeyboardInterrupt


@contextmanager
def polite_end() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C meanwhile, and lose neither; outside the main thread Python does not allow it.

    Ctrl-C stays ignored where it was ignored at the start (a shell's background job).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        _asked.set()
        raise KeyboardInterrupt

    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    _asked.clear()
    for which, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(which, interrupt)
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
        _asked.clear()
