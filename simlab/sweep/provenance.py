"""`manifest.json`: how a table came about (never in the table, so that tables stay comparable bit for bit)."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import simlab
from simlab.files import write_text
from simlab.sweep import plan
from simlab.sweep.folder import Folder
from simlab.sweep.schema import Study, resolved

PACKAGES = ("numpy", "scipy", "torch", "scikit-learn", "pyarrow", "pandas", "optuna", "matplotlib")


def start(folder: Folder, study: Study, device: str, threads: int, workers: int, part: str = "") -> dict[str, Any]:
    """The manifest as a run (of a part) begins, the earlier runs on this folder kept in `runs`."""
    before = _read(folder, part).get("runs", [])
    run = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "workers": workers, **environment()}
    return {
        "study": resolved(study),
        "cells": plan.n_cells(study),
        "device": device,
        "threads": threads,
        "sources": sources(study),
        "runs": [*before, {**run, "part": part} if part else run],
    }


def gather(folder: Folder) -> dict[str, Any]:
    """The folder's manifest with the runs of its parts (`--shard`) among the others, in order of their start."""
    own, parts = folder.read_manifest(), folder.part_manifests()
    runs = [run for run in own.get("runs", []) if "part" not in run]
    runs += [run for part in parts for run in part.get("runs", [])]
    first = own or next(iter(parts), {})
    return {**first, "runs": sorted(runs, key=lambda run: run.get("started", ""))} if first else {}


def _read(folder: Folder, part: str) -> dict[str, Any]:
    if not part:
        return folder.read_manifest()
    mine = (m for m in folder.part_manifests() if m.get("runs") and m["runs"][-1].get("part") == part)
    return next(mine, {})


def finish(manifest: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """The manifest with facts of the run that just ended (seconds, jobs, trainings, ...)."""
    *earlier, run = manifest["runs"]
    return {**manifest, "runs": [*earlier, {**run, **facts}]}


def write(folder: Folder, manifest: dict[str, Any], part: str = "") -> None:
    path = folder.path / f"manifest.{part}.json" if part else folder.manifest
    write_text(path, json.dumps(manifest, indent=1) + "\n")


def environment() -> dict[str, Any]:
    """Versions, machine and source commit."""
    versions = {"simlab": simlab.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"versions": versions, "system": f"{platform.system()} {platform.machine()}", "cpu": processor(),
            "cores": os.cpu_count(), **_commit()}


def sources(study: Study) -> str:
    """A hash of what computes: simlab's own modules and the study's plug-ins, by their contents."""
    digest = hashlib.sha256()
    package = Path(simlab.__file__).resolve().parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    for name in study.plugins:
        digest.update(Path(name).name.encode() + b"\0" + Path(name).read_bytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _commit() -> dict[str, Any]:
    """The commit of the source tree and whether it has changes; empty for an installed package."""
    root = Path(simlab.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return {}
    try:
        def git(*words: str) -> str:
            return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True,
                                  timeout=10).stdout.strip()

        changes = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(changes)}
    except (OSError, subprocess.SubprocessError):
        return {}
