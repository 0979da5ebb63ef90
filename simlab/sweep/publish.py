"""`--publish`: what is small and worth keeping of a finished run, copied to `results/STUDY`; nothing is computed.

Only files of a fixed list are written, all of whose rows are of (cell, seed, method), never of a record: embeddings,
caches and logs stay behind. The same run gives the same bytes, whenever and however often it is published.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simlab.errors import SimlabError
from simlab.files import write_aside
from simlab.report import open_results, page
from simlab.report.published import BOUNDARY, MANIFEST, PAGE, SENSITIVITY, STUDY, SURFACE, TABLE, VERDICTS
from simlab.sweep import again, boundary, fields, finish, plan, results
from simlab.sweep.folder import Folder
from simlab.sweep.schema import Study, difference

MOST_BYTES = 2_000_000
COPIED = (VERDICTS, BOUNDARY, SURFACE, SENSITIVITY, "chosen.toml", boundary.RECORD)  # those that the run wrote
FILES = (TABLE, MANIFEST, STUDY, PAGE, *COPIED)

Contents = dict[str, bytes]
Kept = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Publication:
    """What was published: where, each file's bytes, the table's digest, and how it was reduced ("whole")."""

    path: Path
    files: dict[str, int]
    digest: str
    table: str
    changed: bool

    @property
    def text(self) -> str:
        total = sum(self.files.values())
        done = "published" if self.changed else "already published, nothing changed:"
        name = self.path.name
        return "\n".join([
            f"{done} {self.path}  ({len(self.files)} files, {total / 1000:.0f} kB; digest {self.digest[:16]})",
            f"table    {self.table}",
            f"page     {self.path / PAGE}",
            "",
            "next:",
            f"  python -m figures {name}-map {name}-curves   its figures",
            f"  git add {self.path}",
        ])

    def as_json(self) -> dict[str, Any]:
        return {"path": str(self.path), "files": self.files, "digest": self.digest, "table": self.table,
                "changed": self.changed}


def publish(study: Study, folder: Folder, into: Path, with_failures: bool = False) -> Publication:
    """Copy a finished run to `into` (results/STUDY). Raises SimlabError when it is not finished, was not read to its
    end, has failures or a leak that were not accepted (`with_failures`), is too large, or `into` holds another study.
    """
    table = finished(study, folder)
    manifest, digest = folder.read_manifest(), results.digest(table)
    if manifest.get("digest") != digest or manifest.get("missing_jobs") or not folder.verdicts.is_file():
        raise SimlabError(f"{folder.path} was not read to its end; run the study again (it computes nothing), then "
                          "publish.")
    _check_sound(folder, table, with_failures)
    path = into / study.name
    _same_study(path, study)
    copied = {name: (folder.path / name).read_bytes() for name in COPIED if (folder.path / name).is_file()}
    copied = {name: content for name, content in copied.items() if content}  # of one cell there is no boundary
    frozen = _shareable(folder.read_frozen())
    copied[STUDY] = fields.dump(frozen).encode()
    drawn = page.render(open_results(folder.path), again.published(study, path), finish.leak_message(table))
    copied[PAGE] = drawn.encode()
    kept, said = table, "whole"
    for attempt, (words, keep) in enumerate([("whole", lambda t: t), *_reductions(study)]):
        kept, said = keep(kept), words if attempt == 0 else f"reduced to {words}"
        contents = {**copied, TABLE: _parquet(kept)}
        contents[MANIFEST] = _manifest(manifest, frozen, said, len(kept), len(table))
        if sum(map(len, contents.values())) <= MOST_BYTES:
            return Publication(path, {k: len(v) for k, v in sorted(contents.items())}, digest, said,
                               _write(path, contents))
    raise SimlabError(f"study {study.name} is too large to publish: {sum(map(len, contents.values()))} bytes of "
                      f"{MOST_BYTES}, the table reduced to {said}; split it, or keep it in {folder.path}.")


def finished(study: Study, folder: Folder) -> pa.Table:
    """The whole table of a finished run. Raises SimlabError when there is none, or one that lacks rows."""
    folder.check_frozen(study)
    table = results.read(study, folder.table)
    missing = len(plan.jobs(study)) - len(folder.finished())
    boundary.check_ended(study, folder.search)
    if missing > 0:
        raise SimlabError(f"{folder.path} is not finished: {missing} jobs are missing; run the study first.")
    units = table.select(["cell", "seed", "method"]).group_by(["cell", "seed", "method"]).aggregate([]).num_rows
    if units < plan.n_cells(study) * study.n_seeds * len(study.arms):  # collected, or killed, before the last job
        raise SimlabError(f"{folder.table} is older than the last jobs; run the study again, or --collect, first.")
    return table


def _check_sound(folder: Folder, table: pa.Table, accepted: bool) -> None:
    failed, leak = len(results.failures(table)), finish.leak_message(table)
    if accepted or not (failed or leak):
        return
    what = f"{failed} failed rows" if failed else "a leak"
    what += f" ({leak})" if leak else ""
    raise SimlabError(f"{folder.path} has {what}; --retry-failed computes failed jobs again, --with-failures publishes "
                      "it as it is.")


def _same_study(path: Path, study: Study) -> None:
    """Refuse to write one study over another's results."""
    if not (path / STUDY).is_file():
        return
    before = Folder(path).read_frozen()
    changed = difference(before, study)
    if changed:
        raise SimlabError(f"{path} holds results of a different study ({changed}); delete {path} first, or rename the "
                          "study.")


def _shareable(frozen: dict[str, Any]) -> dict[str, Any]:
    """The study without this machine's folders: plug-ins by their file names."""
    head = dict(frozen["study"])
    if "plugins" in head:
        head["plugins"] = [Path(name).name for name in head["plugins"]]
    return {**frozen, "study": head}


def _manifest(manifest: dict[str, Any], frozen: dict[str, Any], said: str, rows: int, whole: int) -> bytes:
    told = {"table": said, "rows": rows, "rows_of_the_run": whole}
    return (json.dumps({**manifest, "study": frozen, "published": told}, indent=1) + "\n").encode()


def _reductions(study: Study) -> list[tuple[str, Kept]]:
    """What is left out of a table above the bound, step by step; failures always stay."""
    compare, arms = study.compare, sorted({arm for pair in study.contrasts for arm in pair})

    def only(column: str, values: list[str]) -> Kept:
        return lambda t: t.filter(pc.or_(pc.not_equal(t["status"], "ok"), pc.is_in(t[column], pa.array(values))))

    def no_diagnostics(t: pa.Table) -> pa.Table:
        wanted = pc.equal(t["metric"], compare.metric)
        return t.filter(pc.or_(wanted, pc.invert(pc.starts_with(t["metric"], "diag/"))))

    here = f"metric {compare.metric}"
    return [
        ("metrics without diagnostics", no_diagnostics),
        (here, only("metric", [compare.metric])),
        (f"{here} in cohort {compare.cohort}", only("cohort", [compare.cohort])),
        (f"{here} in cohort {compare.cohort} of the contrasts' arms", only("method", arms)),
    ]


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), out, compression="zstd", compression_level=19)
    return out.getvalue()


def _write(path: Path, contents: Contents) -> bool:
    """Write what differs, remove files of ours that the run no longer has; whether anything changed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        stale = [path / name for name in FILES if name not in contents and (path / name).exists()]
        for old in stale:
            old.unlink()
        changed = [name for name, data in contents.items()
                   if not (path / name).is_file() or (path / name).read_bytes() != data]
        for name in changed:
            write_aside(path / name, lambda file, data=contents[name]: file.write(data))
    except OSError as error:
        raise SimlabError(f"cannot write {error.filename or path}: {error.strerror}.") from error
    return bool(stale or changed)

