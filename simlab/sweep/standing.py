"""What a study's results may claim: confirmatory, or exploratory. Decided by the tool. Imports no array module.

Confirmatory: before its first result the study's file (and its plug-ins) stood, unchanged, in a commit; every later run
of the folder used the same file; nothing was changed on the command line; and no other run or published result that can
be seen here had used its seed (a study seed fixes every random draw: worlds, data, initialisations). Anything else is
exploratory, with the reason.

When a run begins, `witness` looks and its findings go into the manifest; `judge` reads them. What this proves: on this
machine, at that moment, git held exactly this file under a commit dated no later, and no folder in sight knew the seed.
What it does not: a commit's date is what its author's clock said (publish the commit before the run, and others can
tell); results in folders that were deleted or lie elsewhere are not seen; nor is who looked at what.
"""

from __future__ import annotations

import subprocess
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from simlab.sweep.folder import Folder
from simlab.sweep.schema import Study

CONFIRMATORY, EXPLORATORY = "confirmatory", "exploratory"
TIME = "%Y-%m-%dT%H:%M:%S%z"
Standing = dict[str, str]  # {"kind": CONFIRMATORY | EXPLORATORY, "reason": one line}


@dataclass(frozen=True)
class Origin:
    """Where a run's study came from: its file, and what the command line changed."""

    file: Path
    overrides: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()


def witness(study: Study, origin: Origin | None, folder: Folder) -> dict[str, Any]:
    """What can be seen as a run begins, for the manifest: `problem` ("" for none) says why it cannot confirm."""
    now = time.time()
    seen: dict[str, Any] = {"seen": _text(now), "seed": study.seed}
    if origin is None:
        return {**seen, "problem": "it was not started from a study file"}
    for option, given in (("--set", origin.overrides), ("--plugin", origin.plugins)):
        if given:
            return {**seen, "problem": f"{option} {given[0]} changed what the study's file says"}
    facts = [committed(path) for path in (origin.file, *map(Path, study.plugins))]
    problem = next((found["problem"] for found in facts if found["problem"]), "")
    first = min(_starts(folder), default=None)
    if not problem and first is None and any(folder.artefacts.glob("*.npz")):
        problem = "results of single cells were looked at (--cell) before the first run"
    root = facts[0].pop("root", None)
    blobs = " ".join(found.get("blob", "") for found in facts)
    dates = [found["committed"] for found in facts if "committed" in found]
    others = used(study.seed, folder, (root,) if root else (), first or now)
    return {**seen, **facts[0], "blob": blobs, **({"committed": max(dates, key=_moment)} if dates else {}),
            "problem": problem, "others": others}


def afterwards(manifest: dict[str, Any], study: Study, origin: Origin | None, folder: Folder) -> dict[str, Any]:
    """The manifest with a witness for runs that kept none (they were made before runs kept any), as things are now.

    Weaker than one taken as a run began: it rests on the dates of the commit and of the run alone, and is marked so.
    The folder's frozen study is the file's (`Folder.freeze` refuses others), so nothing was overridden.
    """
    runs = manifest.get("runs", [])
    if origin is None or all(run.get("witness") for run in runs):
        return manifest
    late = witness(study, origin, folder)
    return {**manifest, "runs": [run if run.get("witness") or "started" not in run else
                                 {**run, "witness": [{**late, "seen": run["started"], "afterwards": True}]}
                                 for run in runs]}


def judge(manifest: Mapping[str, Any]) -> Standing:
    """A folder's standing from the witnesses of its runs."""
    runs = manifest.get("runs", [])
    found = [w for run in runs for w in run.get("witness", [])]
    if not runs or not all(run.get("witness") for run in runs):
        return _exploratory("a run of this folder has no record of the study file that it used")
    problem = next((w["problem"] for w in found if w["problem"]), "")
    if problem:
        return _exploratory(problem)
    first = min(found, key=lambda w: _moment(w["seen"]))
    if len({w["blob"] for w in found}) > 1:
        return _exploratory(f"{first['file']} changed after the first results")
    begun = min([_moment(first["seen"]), *(_moment(run["started"]) for run in runs if "started" in run)])
    if _moment(first["committed"]) > begun:
        return _exploratory(f"the commit of {first['file']} is dated later than the first results")
    others = sorted({name for w in found for name in w["others"]})
    if others:
        return _exploratory(f"its seed {first['seed']} was used before by {others[0]}; confirming needs a fresh seed")
    late = " (seen afterwards, by its date)" if any(w.get("afterwards") for w in found) else ""
    return {"kind": CONFIRMATORY, "reason": f"{first['file']} was committed ({first['commit'][:10]}, "
            f"{first['committed'][:16]}) before its first results{late}; no earlier use of seed {first['seed']} was "
            "found"}


def words(standing: Mapping[str, str]) -> str:
    """The standing as one line."""
    return f"{standing['kind']}: {standing['reason']}"


def committed(path: Path) -> dict[str, Any]:
    """Which commit holds a file as it is now: `file` (within its repository), `commit`, `committed`, `blob`; or
    `problem`, why there is none."""
    name = path.name
    try:
        full = path.resolve(strict=True)
        root = Path(_git(full.parent, "rev-parse", "--show-toplevel"))
        name = full.relative_to(root.resolve()).as_posix()
        last = _git(root, "log", "-1", "--format=%H %ct", "--", name)
        held = _git(root, "rev-parse", "--verify", "--quiet", f"HEAD:{name}") if last else ""
        blob = _git(root, "hash-object", "--path", name, str(full))
    except FileNotFoundError:
        return {"file": name, "problem": f"{name} or git is not there"}
    except (OSError, ValueError, subprocess.SubprocessError):
        return {"file": name, "problem": f"{name} is in no git repository with a commit of it"}
    if not last:
        return {"file": name, "problem": f"{name} is not committed"}
    if held != blob:
        return {"file": name, "problem": f"{name} differs from what is committed"}
    commit, when = last.split()
    return {"file": name, "commit": commit, "committed": _text(int(when)), "blob": blob, "problem": "", "root": root}


def used(seed: int, folder: Folder, roots: Sequence[Path], before: float) -> list[str]:
    """Folders of runs and published results, other than this one, whose study had this seed and began before."""
    here, found = folder.path.resolve(), []
    places = [folder.path.resolve().parent, *(base / kind for base in (Path.cwd(), *roots)
                                              for kind in ("runs", "results"))]
    for path in sorted({path for place in places for path in place.glob("*") if path.is_dir()}):
        other = Folder(path)
        if path.resolve() == here or _seed(other) != seed:
            continue
        starts = list(_starts(other))
        begun = other.table.exists() or other.finished() or any(other.artefacts.glob("*.npz"))
        if min(starts) < before if starts else begun:
            found.append(f"{path.parent.name}/{path.name}")
    return sorted(set(found))


def _seed(folder: Folder) -> int | None:
    """The study seed of a folder, from its manifest or its frozen study; None where neither says it."""
    manifest = next((m for m in (folder.read_manifest(), *folder.part_manifests()) if m), {})
    tables = manifest.get("study")
    if not isinstance(tables, dict):
        try:
            tables = tomllib.loads(folder.frozen.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
    head = tables.get("study")
    return head.get("seed", 0) if isinstance(head, dict) else None


def _starts(folder: Folder) -> Iterator[float]:
    """When the folder's runs began; times that cannot be read are left out (other folders are anybody's)."""
    for manifest in (folder.read_manifest(), *folder.part_manifests()):
        for run in manifest.get("runs", []):
            with suppress(ValueError, TypeError, KeyError):
                yield _moment(run["started"])


def _exploratory(reason: str) -> Standing:
    return {"kind": EXPLORATORY, "reason": reason}


def _git(place: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(place), *words], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _text(moment: float) -> str:
    return time.strftime(TIME, time.localtime(moment))


def _moment(text: str) -> float:
    """Seconds since the epoch of a time as manifests write it."""
    return datetime.strptime(text, TIME).timestamp()
