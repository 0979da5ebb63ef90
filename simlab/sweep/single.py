"""`--cell I --seed S`: one cell and seed again, by itself: its rows, beside the table's, and its artefacts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simlab.errors import DamagedFile, OutOfDomain, SimlabError
from simlab.sweep import artefacts, plan, results, whole_stays
from simlab.sweep.driver import Options
from simlab.sweep.folder import Folder
from simlab.sweep.pool import Pool
from simlab.sweep.schema import Study


@dataclass(frozen=True)
class Single:
    """The rows of one (cell, seed), the files that were written, and whether the study's table says the same."""

    cell: int
    seed: int
    knobs: dict[str, Any]
    rows: list[dict[str, Any]]
    files: list[str]
    as_in_table: bool | None  # None: the study has no finished job that holds them

    @property
    def text(self) -> str:
        """The rows as a table."""
        at = ", ".join(f"{k} = {v}" for k, v in self.knobs.items())
        lines = [f"cell {self.cell} ({at}), seed {self.seed}", "",
                 f"{'method':<26}{'cohort':<10}{'metric':<26}{'value':>10}{'se':>9}{'limit':>9}"]
        for row in self.rows:
            if row["status"] != "ok":
                lines.append(f"{row['method']:<26}{row['status']}: {row['error']}")
                continue
            numbers = "".join(f"{'' if row[k] is None else format(row[k], '.4f'):>{w}}"
                              for k, w in (("value", 10), ("se", 9), ("limit", 9)))
            lines.append(f"{row['method']:<26}{row['cohort']:<10}{row['metric']:<26}{numbers}")
        said = {True: "the same, bit for bit", False: "NOT THE SAME", None: "this job is not finished there"}
        return "\n".join([*lines, "", f"the study's table: {said[self.as_in_table]}", *self.files])


def run(study: Study, options: Options, cell: int, seed: int) -> Single:
    """Compute one cell and seed (with the fleet that the seed is trained in), and keep its artefacts.

    Raises OutOfDomain for a cell or seed that the study has not, SimlabError when the job ends without rows.
    """
    for name, value, n in (("--cell", cell, plan.n_cells(study)), ("--seed", seed, study.n_seeds)):
        if not 0 <= value < n:
            raise OutOfDomain(f"{name} {value}: study {study.name} has {n}, numbered from 0 to {n - 1}.")
    whole_stays.check_model(study)
    folder = Folder(options.out)
    folder.make()
    whole = next(job for job in plan.jobs(study, options.device, options.threads, options.cache, options.cache_mb)
                 if cell in job.cells and seed in job.seeds)
    with folder.lock(f"cell-{cell}-{seed}"):
        folder.freeze(study)
        job = replace(whole, cells=(cell,), artefacts=str(folder.artefacts.resolve()), artefact_seeds=(seed,))
        with folder.runlog.open("ab") as log, Pool(study, options.function, 1, options.threads, log) as pool:
            (outcome,) = pool.run([job])
    if outcome.status != "ok":
        raise SimlabError(f"cell {cell}, seed {seed}: {outcome.status}: {outcome.error}")
    table = results.job_table(study, job, outcome.rows)
    rows = [row for row in table.to_pylist() if row["seed"] == seed]
    paths = [folder.artefacts / artefacts.name(cell, seed, arm) for arm in study.arms]
    return Single(cell, seed, plan.cell(study, cell), rows, [str(p) for p in paths if p.exists()],
                  _same(study, whole, folder.shard(whole), rows))


def _same(study: Study, whole: plan.Job, shard: Path, rows: list[dict[str, Any]]) -> bool | None:
    """Whether the job's shard holds exactly these rows of their cell and seed; None where there is no shard."""
    if not shard.exists():
        return None
    try:
        there = results.read_shard(study, whole, shard).to_pylist()
    except DamagedFile:
        return None
    return [r for r in there if (r["cell"], r["seed"]) == (rows[0]["cell"], rows[0]["seed"])] == rows
