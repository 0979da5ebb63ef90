"""The end of a run: the whole table, the leak guard, verdicts, boundary, map and manifest."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simlab.errors import LeakDetected, SimlabError
from simlab.evaluation import leak
from simlab.files import write_text
from simlab.report import page
from simlab.sweep import again, figure, plan, provenance, results, sensitivity, standing, surface, textmap
from simlab.sweep import atlas as maps
from simlab.sweep.folder import Folder
from simlab.sweep.schema import Study

LEAK_METRIC = "diag/leak-z"
MOST_COLUMNS, MOST_CELLS = 40, 2000  # of a map in words


@dataclass(frozen=True)
class Summary:
    """What a finished run came to. `leak` is the leak guard's message, "" when it is silent."""

    study: Study
    folder: Folder
    atlas: maps.Atlas | None
    digest: str
    rows: int
    jobs_run: int
    trainings: int
    seconds: float
    failures: list[dict[str, Any]] = field(default_factory=list)
    leak: str = ""
    stages: dict[str, dict[str, int]] = field(default_factory=dict)
    missing: int = 0  # jobs that no shard holds yet
    standing: dict[str, str] = field(default_factory=dict)
    sensitivity: list[dict[str, Any]] = field(default_factory=list)
    ended: str = ""  # of a search: why it ended

    @property
    def text(self) -> str:
        text = "no map: no cell has a number\n"
        if self.atlas is not None:
            place = self.atlas.layout
            large = len(place.column_values) > MOST_COLUMNS or plan.n_cells(self.study) > MOST_CELLS
            shown = textmap.points if self.atlas.scattered else textmap.text
            text = self._counts() if large else shown(self.atlas)
            if self.study.design.kind == "boundary":
                text += f"\n{surface.text(self.atlas)}{self.ended}"
            text += "\n" + textmap.claims(self.atlas, self.standing, self.sensitivity)
        return f"partial: {self.missing} jobs are missing\n{text}" if self.missing else text

    def _counts(self) -> str:
        """The verdicts of a map that is too large for words, counted."""
        counts = {pair: Counter[str]() for pair in self.study.contrasts}
        for panel in self.atlas.panels if self.atlas else ():
            counts[panel.contrast].update(panel.words)
        lines = (f"{first} minus {second}: " + ", ".join(f"{n} {word}" for word, n in sorted(found.items()))
                 for (first, second), found in counts.items())
        head = f"{plan.n_cells(self.study)} cells, too many for a map in words (map.png shows it):"
        return "\n".join([head, *lines, ""])

    def as_json(self) -> dict[str, Any]:
        """The summary as plain numbers and words."""
        folder = self.folder
        contrasts = []
        for first, second in self.study.contrasts:
            panels = [p for p in self.atlas.panels if p.contrast == (first, second)] if self.atlas else []
            contrasts.append({"first": first, "second": second,
                              "counts": dict(Counter(word for panel in panels for word in panel.words))})
        return {
            "study": self.study.name, "cells": plan.n_cells(self.study), "seeds": self.study.n_seeds,
            "rows": self.rows, "digest": self.digest, "jobs_run": self.jobs_run, "trainings_run": self.trainings,
            "stages": self.stages,
            "missing_jobs": self.missing, "seconds": round(self.seconds, 2), "failed": self.failures,
            "leak": self.leak, "standing": self.standing, "contrasts": contrasts,
            "verdicts": maps.verdict_records(self.atlas) if self.atlas else [],
            "boundary": maps.boundary_records(self.atlas) if self.atlas else [],
            "sensitivity": self.sensitivity,
            "files": {"table": str(folder.table), "verdicts": str(folder.verdicts), "boundary": str(folder.boundary),
                      "sensitivity": str(folder.sensitivity),
                      "surface": str(folder.surface),
                      "png": str(folder.png), "pdf": str(folder.pdf), "manifest": str(folder.manifest),
                      "report": str(folder.report)},
        }


def finish(study: Study, folder: Folder, table: pa.Table, jobs_run: int, trainings: int, seconds: float,
           device: str, stages: dict[str, dict[str, int]] | None = None, missing: int = 0,
           origin: standing.Origin | None = None) -> Summary:
    """Write everything that follows from the table (of a partial one: so far), and sum it up."""
    results.write(table, folder.table)
    digest, failures = results.digest(table), results.failures(table)
    manifest = provenance.gather(folder) or provenance.start(folder, study, device, 1, 0)
    manifest = standing.afterwards(manifest, study, origin, folder)
    claim = standing.judge(manifest)
    provenance.write(folder, {**manifest, "digest": digest, "rows": len(table), "failed": len(failures),
                              "missing_jobs": missing, "standing": claim})
    atlas, indices, leaked = None, [], leak_message(table)
    if len(failures) < len(table):
        atlas = maps.build(study, table, claim["kind"])
        indices = sensitivity.records(study, table)
        if indices:
            write_text(folder.sensitivity, maps.as_csv(indices))
        write_text(folder.verdicts, maps.as_csv(maps.verdict_records(atlas)))
        write_text(folder.boundary, maps.as_csv(maps.boundary_records(atlas)))
        fitted = surface.records(atlas)
        if fitted:
            write_text(folder.surface, maps.as_csv(fitted))
        else:
            folder.surface.unlink(missing_ok=True)
        figure.save(atlas, folder.png, folder.pdf)
        page.write(folder.path, again.command(study, folder.path), leaked)
    return Summary(study, folder, atlas, digest, len(table), jobs_run, trainings, seconds, failures,
                   leaked, stages or {}, missing, claim, indices)


def part(study: Study, folder: Folder, table: pa.Table, jobs_run: int, trainings: int, seconds: float,
         stages: dict[str, dict[str, int]]) -> Summary:
    """Sum up a part of a study, whose shards alone are written; `--collect` reads the whole."""
    return Summary(study, folder, None, results.digest(table), len(table), jobs_run, trainings, seconds,
                   results.failures(table), leak_message(table), stages)


def stage_counts(counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """How often each stage was computed, and found in the cache: pretrainings (one a seed and recipe), fits, ..."""
    names = sorted({name.partition("/")[0] for name in counts})
    return {name: {"computed": counts.get(name, 0), "cached": counts.get(f"{name}/cached", 0)} for name in names}


def leak_message(table: pa.Table) -> str:
    """What the leak guard says of the whole run (family-wise), "" when it is silent."""
    kept = table.filter(pc.and_(pc.equal(table["metric"], LEAK_METRIC), pc.is_valid(table["value"])))
    columns = (kept[name].to_pylist() for name in ("method", "cohort", "cell", "seed"))
    names = [f"{m} in cohort {c} (cell {i}, seed {s})" for m, c, i, s in zip(*columns, strict=True)]
    try:
        leak.check(kept["value"].to_pylist(), names)
    except LeakDetected as error:
        return str(error)
    return ""


def trial_values(study: Study, table: pa.Table, cells: tuple[int, ...]) -> dict[int, tuple[float | None,
                                                                                           dict[str, Any]]]:
    """For each of these cells: the mean primary contrast over its finished pairs (None without any), and facts."""
    try:
        arms = maps.scores(study, table, cells)
    except SimlabError:
        return {cell: (None, {}) for cell in cells}
    first, second = study.contrasts[0]
    failed = Counter(row["cell"] for row in results.failures(table))
    found: dict[int, tuple[float | None, dict[str, Any]]] = {}
    for cell, pairs in zip(cells, arms[first] - arms[second], strict=True):
        pairs = pairs[np.isfinite(pairs)]
        mean = float(pairs.mean()) if len(pairs) else math.nan
        found[cell] = (mean if math.isfinite(mean) else None, {"seeds": len(pairs), "failed": failed[cell]})
    return found
