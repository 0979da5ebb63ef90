"""One headless Chromium for all page tests of a process; none: a failure in CI, a skip that names the command here."""

from __future__ import annotations

import atexit
import os
import shutil
from functools import lru_cache
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW = "make browser brings one (pip install playwright; python -m playwright install chromium, or apt-get's)"


def browser() -> Any:
    """The running browser. Skips the test where there is none, and fails it where CI is set."""
    found, reason = _start()
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"no Chromium for the page tests ({reason}): {HOW}")
        pytest.skip(f"no Chromium ({reason}): {HOW}")
    return found


@lru_cache(maxsize=1)
def _start() -> tuple[Any, str]:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        return None, "playwright is not installed"
    manager = sync_playwright().start()
    installed = os.environ.get("SIMLAB_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    try:
        found = manager.chromium.launch(executable_path=installed, args=["--no-sandbox", "--disable-dev-shm-usage"])
    except Error as error:
        manager.stop()
        return None, str(error).splitlines()[0]
    atexit.register(manager.stop)
    return found, ""
