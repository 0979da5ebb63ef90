"""A frozen fit as a file: a zip of `.npy` arrays (npz) with the settings and channels as JSON text; no pickle."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from simlab.errors import DamagedFile, OutOfDomain, SimlabError
from simlab.files import write_aside
from simlab.signatures.settings import Channel, Settings

FORMAT = "simlab-signatures-1"
ARRAYS = ("fill", "shift", "scale", "mean", "unmixing", "mixing")


def write(path: Path, signatures: Any) -> None:
    """Write a `Signatures`. Raises SimlabError where the file cannot be written."""
    head = {"format": FORMAT, "settings": asdict(signatures.settings),
            "channels": [[c.code, c.unit, c.kind] for c in signatures.channels]}
    arrays = {name: getattr(signatures, name) for name in ARRAYS}
    try:
        write_aside(Path(path), lambda out: np.savez(out, head=np.array(json.dumps(head)), **arrays))
    except OSError as error:
        raise SimlabError(f"{path}: cannot be written ({error.strerror or error}).") from error


def read(path: Path) -> dict[str, Any]:
    """The fields of a `Signatures`. Raises DamagedFile for a file that is missing, truncated or something else."""
    try:
        with np.load(Path(path), allow_pickle=False) as found:
            head = json.loads(str(found["head"]))
            arrays = {name: found[name] for name in ARRAYS}
        if head["format"] != FORMAT:
            raise DamagedFile(f"{path}: format {head['format']!r}, not {FORMAT}.")
        settings = Settings(**{**head["settings"], "medications": tuple(head["settings"]["medications"])})
        channels = tuple(Channel(*c) for c in head["channels"])
    except FileNotFoundError:
        raise DamagedFile(f"{path}: does not exist; `Signatures.save` writes one.") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, OutOfDomain) as error:
        raise DamagedFile(f"{path}: not a file of signatures, or damaged ({type(error).__name__}: {error}).") from error
    c, k = len(channels), settings.signatures
    for name, shape in (("fill", (c,)), ("shift", (c,)), ("scale", (c,)), ("mean", (c,)), ("unmixing", (k, c)),
                        ("mixing", (c, k))):
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise DamagedFile(f"{path}: '{name}' has shape {arrays[name].shape}, not {shape}, or is not finite.")
    return {"settings": settings, "channels": channels, **arrays}
