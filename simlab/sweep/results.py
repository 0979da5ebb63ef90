"""The results table: its schema, one parquet shard a job, the sorted whole, and its digest.

Columns (docs/sweeps.md): study, cell, seed, method, cohort, task, metric, value, se, n, limit, status, error, then one
`p_<axis>` a swept knob. Nothing in it varies between runs: no time, no host, no path. A shard is written aside, synced
and moved into place, so that one which stands is whole.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from simlab.errors import DamagedFile, SimlabError
from simlab.files import write_aside
from simlab.sweep import plan
from simlab.sweep.plan import Job
from simlab.sweep.schema import Study

KEY = ("cell", "seed", "method", "cohort", "task", "metric")
STATUSES = ("ok", "diverged", "failed", "timeout", "killed")
_FIXED = (
    ("study", pa.string()), ("cell", pa.int32()), ("seed", pa.int32()), ("method", pa.string()),
    ("cohort", pa.string()), ("task", pa.string()), ("metric", pa.string()), ("value", pa.float64()),
    ("se", pa.float64()), ("n", pa.int32()), ("limit", pa.float64()), ("status", pa.string()), ("error", pa.string()),
)


def schema(study: Study) -> pa.Schema:
    """The study's columns. A knob's column is text, int64 or float64, as its values are."""
    types = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    knobs = [(f"p_{axis.name}", types[type(axis.values[0])]) for axis in study.axes]
    return pa.schema([*_FIXED, *knobs])


def failed_row(cell: int, seed: int, method: str, status: str, error: str) -> dict[str, Any]:
    """The one row of a method that did not finish: its reason, and no number."""
    return {"cell": cell, "seed": seed, "method": method, "cohort": "", "task": "", "metric": "", "value": None,
            "se": None, "n": 0, "limit": None, "status": status, "error": " ".join(error.split())}


def job_table(study: Study, job: Job, rows: Iterable[Mapping[str, Any]], status: str = "failed",
              error: str = "the job returned no row for it") -> pa.Table:
    """A job's rows as a sorted table; each (cell, seed, arm) without a row gets one failed row with this reason.

    Raises SimlabError for a row that is not the job's (an unknown key, cell, seed, method or status, a repetition).
    """
    cells, seeds, arms = set(job.cells), set(job.seeds), set(study.arms)
    names = {name for name, _ in _FIXED} - {"study"}
    points = {cell: plan.cell(study, cell) for cell in job.cells}
    full: list[dict[str, Any]] = []
    seen: set[tuple[Any, ...]] = set()
    for row in rows:
        key = tuple(row[name] for name in KEY) if set(row) == names else None
        if key is None or row["cell"] not in cells or row["seed"] not in seeds or row["method"] not in arms \
                or row["status"] not in STATUSES or key in seen:
            raise SimlabError(f"a job returned a row that is not one of its own, or one twice: {dict(row)!r}")
        seen.add(key)
        full.append(dict(row))
    there = {(row["cell"], row["seed"], row["method"]) for row in full}
    full += [failed_row(c, s, arm, status, error) for c in job.cells for s in job.seeds for arm in study.arms
             if (c, s, arm) not in there]
    for row in full:
        row["study"] = study.name
        row.update({f"p_{name}": value for name, value in points[row["cell"]].items()})
        for name in ("value", "se", "limit"):  # a NaN has many bit patterns; a missing number has one
            row[name] = None if row[name] is None or math.isnan(row[name]) else float(row[name])
    return ordered(pa.Table.from_pylist(full, schema=schema(study)))


def ordered(table: pa.Table) -> pa.Table:
    """The table in the order of its key, in one chunk."""
    return table.sort_by([(name, "ascending") for name in KEY]).combine_chunks()


def write(table: pa.Table, path: Path, note: Mapping[str, Any] | None = None) -> None:
    """Write parquet aside, sync, and move into place: at `path` stands the old file or the whole new one."""
    meta = {b"simlab": json.dumps(note, sort_keys=True).encode()} if note is not None else None
    write_aside(path, lambda file: pq.write_table(table.replace_schema_metadata(meta), file, compression="zstd"))


def write_shard(study: Study, job: Job, table: pa.Table, path: Path) -> None:
    write(table, path, note=_label(study, job))


def read_shard(study: Study, job: Job, path: Path) -> pa.Table:
    """A job's shard. Raises DamagedFile when it cannot be read, is not this job's, or lacks rows."""
    try:
        table = pq.read_table(path)
        note = json.loads((table.schema.metadata or {}).get(b"simlab", b"null"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedFile(f"{path} cannot be read ({type(error).__name__})") from None
    if note != _label(study, job) or table.schema.remove_metadata() != schema(study):
        raise DamagedFile(f"{path} is not the shard of job {job.index} of study {study.name}")
    units = set(zip(*(table[name].to_pylist() for name in ("cell", "seed", "method")), strict=True))
    if len(units) != job.units * len(study.arms):
        raise DamagedFile(f"{path} lacks rows")
    return table.replace_schema_metadata(None)


def _label(study: Study, job: Job) -> dict[str, Any]:
    """What a shard holds; of a tuned study also at which settings (another tuning may choose others)."""
    chosen = [[i, arm, [list(pair) for pair in setting]] for i, arm, setting in study.choices if i in job.cells]
    return {"job": job.index, "cells": list(job.cells), "seeds": list(job.seeds), **({"at": chosen} if chosen else {})}


def collect(tables: Sequence[pa.Table]) -> pa.Table:
    """The whole table from the shards' tables, sorted by the key: the same bits for any order of the shards."""
    return ordered(pa.concat_tables(tables))


def read(study: Study, path: Path) -> pa.Table:
    """A whole `results.parquet`. Raises SimlabError when there is none, DamagedFile when it is not this study's."""
    if not path.is_file():
        raise SimlabError(f"{path} does not exist: study {study.name} is not finished there; run it first.")
    try:
        table = pq.read_table(path).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise DamagedFile(f"{path} cannot be read ({type(error).__name__}); run the study again to rebuild it from its "
                          "shards.") from None
    if table.schema != schema(study):
        raise DamagedFile(f"{path} is no table of study {study.name} (its columns differ); run it again.")
    return table


def digest(table: pa.Table) -> str:
    """SHA-256 of the sorted table's contents (names, types, nulls and exact bits), whatever wrote the file."""
    table = ordered(table)
    total = hashlib.sha256()
    for name in table.column_names:
        column = table[name]
        total.update(f"{name}:{column.type}:{len(column)}\n".encode())
        valid = column.is_valid()
        total.update(valid.combine_chunks().cast(pa.uint8()).to_numpy().tobytes())
        if pa.types.is_string(column.type):
            text = pc.fill_null(column, "").to_pylist()
            total.update("\0".join(text).encode())
        else:
            total.update(pc.fill_null(column, 0).to_numpy().tobytes())
    return total.hexdigest()


def failures(table: pa.Table) -> list[dict[str, Any]]:
    """Rows whose status is not "ok", in order (cell, seed, method, status, error)."""
    bad = table.filter(pc.not_equal(table["status"], "ok"))
    return bad.select(["cell", "seed", "method", "status", "error"]).to_pylist()
