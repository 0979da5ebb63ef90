"""The folder of one study's run: its frozen study, shards, lock and log. Imports no array module.

    DIR/study.toml        the resolved study, frozen at the first run
    DIR/shards/           job-00000.parquet ..., one a job; *.damaged: set aside, computed again
    DIR/journal.log       the cells as Optuna trials (a view: results never live only there)
    DIR/results.parquet   the table; manifest.json: how it came about; verdicts.csv, boundary.csv, surface.csv,
                          sensitivity.csv
    DIR/search.jsonl      the batches of a search for the boundary
    DIR/report.html       the page of the study, self-contained
    DIR/map.png, map.pdf  the map;   run.log: what happened, the workers' output included
    DIR/lock              held by the driver that works here
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simlab.errors import InvalidStudy, SimlabError
from simlab.files import write_text
from simlab.sweep import boundary
from simlab.sweep.plan import Job
from simlab.sweep.schema import Study, adopt, difference, dump


class Folder:
    """Where a study's run lies. Making one touches nothing on disk."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.frozen = self.path / "study.toml"
        self.shards = self.path / "shards"
        self.journal = self.path / "journal.log"
        self.table = self.path / "results.parquet"
        self.manifest = self.path / "manifest.json"
        self.verdicts = self.path / "verdicts.csv"
        self.boundary = self.path / "boundary.csv"
        self.sensitivity = self.path / "sensitivity.csv"
        self.surface = self.path / "surface.csv"
        self.search = self.path / boundary.RECORD
        self.png = self.path / "map.png"
        self.pdf = self.path / "map.pdf"
        self.report = self.path / "report.html"
        self.runlog = self.path / "run.log"
        self.artefacts = self.path / "artefacts"

    def shard(self, job: Job) -> Path:
        return self.shards / f"job-{job.index:05d}.parquet"

    def finished(self) -> set[int]:
        """Indices of the jobs that have a shard (not opened: a damaged one is noticed when it is read)."""
        names = (re.fullmatch(r"job-(\d+)\.parquet", path.name) for path in self.shards.glob("job-*.parquet"))
        return {int(match[1]) for match in names if match}

    def make(self) -> None:
        """Create the folder. Raises SimlabError when that is impossible."""
        try:
            self.shards.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SimlabError(f"cannot make the folder {self.path}: {error.strerror}; give another --out.") from error

    @contextmanager
    def lock(self, part: str = "") -> Iterator[None]:
        """Hold the folder's lock; a dead driver's is taken over. Raises SimlabError when a living one holds it.

        Without `part` the folder is held alone. Holders of different parts ("2-of-8", "collect") work side by side, and
        none of them beside one that holds the folder alone.
        """
        with self._held(self.path / "lock", fcntl.LOCK_SH if part else fcntl.LOCK_EX):
            if not part:
                for left in [*self.shards.glob("*.tmp"), *self.path.glob("*.tmp")]:
                    left.unlink(missing_ok=True)  # half-written by a run that was killed
                yield
                return
            with self._held(self.path / f"lock.{part}", fcntl.LOCK_EX):
                yield

    @contextmanager
    def _held(self, path: Path, kind: int) -> Iterator[None]:
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)  # the system lets go when its holder dies
            except OSError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                text = f"{self.path} is in use by {holder}; wait for it, or give --out another folder."
                raise SimlabError(text) from None
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()}")
            file.flush()
            yield

    def adopt(self, study: Study) -> Study:
        """The study with the rounds in which its cells came to be, where this folder has seen it grow."""
        if study.design.kind == "boundary":
            if self.frozen.exists() and difference(self.read_frozen(), study):
                return study  # another one: `freeze` says in what
            state = boundary.read(study, self.search)
            return boundary.with_points(study, state.rounds, state.points)
        return adopt(self.read_frozen(), study) if self.frozen.exists() else study

    def freeze(self, study: Study, write: bool = True) -> None:
        """Write the resolved study at the first run; later, refuse a study that differs, by the field.

        One that has more cells, the earlier ones as they were, is frozen anew.
        """
        if self.frozen.exists():
            before = self.read_frozen()
            changed = difference(before, study)
            if changed:
                raise InvalidStudy(f"{self.path} holds results of a different study ({changed}); give --out another "
                                   f"folder, or delete {self.path} to start afresh.")
            now = adopt(before, study)
            if write and study.design.kind == "boundary":
                if before.get("design", {}).get("width") != study.design.width:
                    write_text(self.frozen, dump(study))
            elif write and now.design.rounds != tuple(before.get("design", {}).get("rounds", ())):
                write_text(self.frozen, dump(now))
            return
        if self.finished():
            raise InvalidStudy(f"{self.path} holds shards but no study.toml that says what they are; give --out "
                               "another folder.")
        write_text(self.frozen, dump(study))

    def check_frozen(self, study: Study) -> None:
        """Refuse a folder that holds another study, or none, without writing anything."""
        if not self.frozen.exists():
            raise SimlabError(f"{self.path} holds no results of study {study.name}; run it first.")
        self.freeze(study, write=False)

    def read_frozen(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.frozen.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidStudy(f"{self.frozen} cannot be read ({type(error).__name__}); give --out another folder, or "
                               f"delete {self.path} to start afresh.") from None

    def read_manifest(self) -> dict[str, Any]:
        """The manifest, or an empty one where there is none that can be read."""
        return _object(self.manifest)

    def part_manifests(self) -> list[dict[str, Any]]:
        """The manifests that runs of a part of the study (`--shard`) left beside the folder's own, by name."""
        return [_object(path) for path in sorted(self.path.glob("manifest.*-of-*.json"))]

    def set_aside(self, path: Path) -> Path:
        """Move a damaged file out of the way, keeping it; returns where it lies now."""
        aside = path.with_name(path.name + ".damaged")
        path.replace(aside)
        return aside

    def note(self, text: str) -> None:
        """Add a line with the time to run.log."""
        with self.runlog.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


def _object(path: Path) -> dict[str, Any]:
    """A JSON object from a file; an empty one where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
