"""A run's folder: what the run is, its finished parts, and its result, as JSON files written aside and replaced."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from simlab import __version__
from simlab.errors import DamagedFile, OutOfDomain
from simlab.files import write_aside

NOTHING: Mapping[str, object] = MappingProxyType({})


def open_folder(
    folder: Path, frozen: dict[str, object], loose: Sequence[str] = (), before: Mapping[str, object] = NOTHING
) -> None:
    """Make the folder and write what the run is; refuse one that holds another run, by the field that differs (of a
    mapping, by its keys that do). loose: fields that may differ, and are then written anew. before: what a folder that
    does not tell a field has (it was made before there was the field).

    Raises OutOfDomain (another run, or a place that cannot be written), DamagedFile.
    """
    try:
        (folder / "parts").mkdir(parents=True, exist_ok=True)
        file = folder / "run.json"
        if not file.exists():
            save(file, frozen)
            return
        found = {**before, **json.loads(file.read_text())}
    except OSError as error:
        raise OutOfDomain(f"--out {folder} cannot be used: {error.strerror}; give another folder.") from error
    except ValueError:
        raise DamagedFile(f"{file} cannot be read; delete {folder} to start again, or give another --out.") from None
    now = json.loads(json.dumps(frozen))
    for key in (key for key in now if key not in loose and found.get(key) != now[key]):
        raise OutOfDomain(f"{folder} holds another run: {_differing(key, found.get(key), now[key])}; give another "
                          "--out, or delete the folder.")
    if any(found.get(key) != now[key] for key in loose):
        save(file, frozen)


def _differing(key: str, there: Any, now: Any) -> str:
    """What is another in two values of a field, in words."""
    if not (isinstance(there, Mapping) and isinstance(now, Mapping)):
        return f"{key} is {there} there and {now} now"
    parts = [name for name in dict.fromkeys((*now, *there)) if there.get(name) != now.get(name)]
    return ", ".join(f"{key}.{name} is {there.get(name, 'not set')} there and {now.get(name, 'not set')} now"
                     for name in parts)


def sha256(path: Path) -> str:
    """The hash of a file: a cohort prepared anew under the same name is another run."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def part(folder: Path, index: int) -> Path:
    """The file of one finished part (a split, a seed)."""
    return folder / "parts" / f"{index:04d}.json"


def read(file: Path) -> dict | None:
    """A finished part, or None; a file that cannot be read is set aside, said, and will be computed again."""
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text())
        if isinstance(content, dict):
            return content
    except ValueError:
        pass
    aside = file.with_name(file.name + ".damaged")
    file.replace(aside)
    print(f"{file} could not be read: kept as {aside.name}, computed again.", file=sys.stderr)
    return None


def save(file: Path, content: dict[str, object]) -> None:
    """Write aside, reach the disk, replace: a kill leaves the old file or the new one."""
    aside = file.with_name(file.name + ".part")
    with aside.open("w") as out:
        json.dump(content, out, indent=1, allow_nan=False)
        out.flush()
        os.fsync(out.fileno())
    aside.replace(file)


def save_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Arrays as one `.npz`, written aside; equal runs write equal bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_aside(file, lambda out: np.savez(out, **arrays))  # type: ignore[arg-type]


def provenance() -> dict[str, object]:
    """The versions that the numbers came from."""
    return {
        "simlab": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }
