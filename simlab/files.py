"""Files written aside, synced and moved into place: at the path stands the old file or the whole new one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_aside(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write what `fill` writes; when anything fails, nothing is left behind and the old file stands."""
    # Machines that share a folder may share process numbers too.
    aside = path.with_name(f"{path.name}.{os.uname().nodename}-{os.getpid()}.tmp")
    try:
        with aside.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    write_aside(path, lambda file: file.write(text.encode()))


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
