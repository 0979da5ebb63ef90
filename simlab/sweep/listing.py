"""`python -m simlab.sweep --list`: every study within reach, and how far each is. Imports no array module."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simlab.errors import SimlabError
from simlab.sweep import plan, study
from simlab.sweep.folder import Folder
from simlab.sweep.schema import Study
from simlab.sweep.screen import duration


def show(plugins: Sequence[str], workers: int | None, as_json: bool) -> int:
    """Print every study that a name reaches, and what is done of it in runs/."""
    entries = []
    for name, path in study.available().items():
        try:
            found = study.load(str(path), plugins=plugins)
        except SimlabError as error:
            entries.append({"study": name, "error": " ".join(str(error).split())})
            continue
        folder = Folder(Path("runs") / found.name)
        found = grown(folder, found)
        jobs, there = plan.jobs(found), folder.finished()
        done = sum(job.units for job in jobs if job.index in there)
        todo, most = [job for job in jobs if job.index not in there], workers or os.cpu_count() or 1
        seconds, _ = plan.estimate(found, todo, max(1, min(most, len(todo))), folder.read_manifest())
        seconds = None if seconds is None else round(seconds)
        entries.append({"study": name, "cells": plan.n_cells(found), "seeds": found.n_seeds, "done": done,
                        "missing": sum(job.units for job in jobs) - done, "estimated_seconds": seconds,
                        "failed": folder.read_manifest().get("failed", 0), "question": found.question})
    if as_json:
        print(json.dumps(entries, indent=1))
        return 0
    print(f"{'study':<20}{'cells':>7}{'seeds':>7}{'done':>8}{'missing':>9}{'failed':>8}{'to do':>9}   (done and "
          "missing: cells x seeds; time to do: a rough guess where nothing ran yet)")
    for entry in entries:
        if "error" in entry:
            print(f"{entry['study']:<20}cannot be read: {entry['error']}")
            continue
        print("{study:<20}{cells:>7}{seeds:>7}{done:>8}{missing:>9}{failed:>8}{left:>9}".format(
            left=_left(entry), **entry))
        if entry["question"]:
            print(f"    {entry['question']}")
    return 0


def _left(entry: dict[str, Any]) -> str:
    if not entry["missing"]:
        return "-"
    return "unknown" if entry["estimated_seconds"] is None else duration(entry["estimated_seconds"])


def grown(folder: Folder, found: Study) -> Study:
    """The study as its folder has seen it grow; as it is where the folder cannot be read (a run will say so)."""
    try:
        return folder.adopt(found)
    except SimlabError:
        return found
