"""The stage cache: what a stage of a cell came to, by content, so that only the work that a knob touches is done.

An entry's name is the hash of everything that its numbers follow from (`simlab.sweep.stages` builds the keys), so an
entry is never stale: something else has another name. Files are written aside and moved into place; two workers that
compute the same entry at once write the same bits. A damaged entry is removed, said, and computed again. The cache can
be deleted at any time; it is kept below a size by dropping the entries used longest ago.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

MAGIC = b"simlab-cache-1\n"
SUFFIX = ".entry"
BLOCK = 4096  # bytes that the smallest file takes on common disks
STALE = 3600.0  # seconds after which a half-written file has been left behind
SCAN_SHARE = 16  # the folder is measured each time that a 16th of its limit has been written


class Cache:
    """Entries of named arrays in a folder, below `limit_mb`. A folder that cannot be written costs time, never a run.

    `damaged` counts the entries that were found damaged.
    """

    def __init__(self, folder: Path | str, limit_mb: float) -> None:
        self.folder, self.limit = Path(folder), int(limit_mb * 2**20)
        self.damaged = 0
        self._written = self.limit  # so that the first entry measures what is there
        self._spoken = False

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    def get(self, key: str) -> dict[str, np.ndarray] | None:
        """An entry's arrays, or None where there is none that is whole."""
        path = self.path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        arrays = _decode(content, key)
        if arrays is None:
            self.damaged += 1
            print(f"cache entry {path} is damaged: removed, computed again", file=sys.stderr)
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # used now: the last to be dropped
        return arrays

    def put(self, key: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep an entry, unless it alone is above the limit."""
        content = _encode(arrays, key)
        if len(content) > self.limit:
            return
        path = self.path(key)
        aside = path.with_name(f"{path.name}.{os.uname().nodename}-{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(content)
            aside.replace(path)
            self._written += max(len(content), BLOCK)
            if self._written * SCAN_SHARE > self.limit:
                self._written = 0
                self._prune()
        except OSError as error:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            if not self._spoken:
                print(f"the cache {self.folder} cannot be written ({error.strerror}): going on", file=sys.stderr)
            self._spoken = True

    @contextmanager
    def claim(self, key: str) -> Iterator[None]:
        """Hold a key while its entry is computed: a second worker waits and then finds it. Where the file system has
        no locks, both compute it, which is harmless. The system lets go when the holder dies."""
        path, file = self.path(key).with_suffix(".lock"), None
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):
                if file is not None:
                    path.unlink()
                    file.close()

    def _prune(self) -> None:
        """Drop the entries used longest ago until nine tenths of the limit are left, and what was left half-written."""
        found, total, now = [], 0, time.time()
        for path in self.folder.glob("*/*"):
            with suppress(OSError):
                state = path.stat()
                if path.suffix == SUFFIX:
                    size = max(state.st_size, BLOCK)
                    found.append((state.st_mtime_ns, size, path))
                    total += size
                elif now - state.st_mtime > STALE:
                    path.unlink()
        for _, size, path in sorted(found) if total > self.limit * (SCAN_SHARE - 1) // SCAN_SHARE else []:
            if total <= self.limit * 9 // 10:
                break
            with suppress(OSError):
                path.unlink()
            total -= size


def _encode(arrays: Mapping[str, np.ndarray], key: str) -> bytes:
    """A header with a checksum, then the arrays as .npy members of a zip; `key` is inside, so a moved file is known."""
    body = io.BytesIO()
    np.savez(body, **{**arrays, "": np.array(json.dumps({"key": key}))})  # type: ignore[arg-type]
    payload = body.getvalue()
    return MAGIC + hashlib.sha256(payload).digest() + payload


def _decode(content: bytes, key: str) -> dict[str, np.ndarray] | None:
    """The arrays of an entry; None for anything that is not exactly what was written under this key."""
    start = len(MAGIC) + 32
    checksum, payload = content[len(MAGIC):start], content[start:]
    if not content.startswith(MAGIC) or hashlib.sha256(payload).digest() != checksum:
        return None
    try:
        with np.load(io.BytesIO(payload), allow_pickle=False) as members:
            arrays = {name: members[name] for name in members.files}
        told = json.loads(str(arrays.pop("")))
    except (ValueError, KeyError, OSError, zipfile.BadZipFile):
        return None
    return arrays if told == {"key": key} else None
