"""The table: schema, digest, shards that are whole or set aside."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sweep_fakes

from simlab.errors import DamagedFile, SimlabError
from simlab.sweep import plan, results
from simlab.sweep.study import Study


@pytest.fixture
def tables(small: Study) -> list[pa.Table]:
    return [results.job_table(small, job, sweep_fakes.rows(small, job)) for job in plan.jobs(small)]


def test_columns_are_those_of_the_documentation(small: Study, tables: list[pa.Table]) -> None:
    assert tables[0].column_names == ["study", "cell", "seed", "method", "cohort", "task", "metric", "value", "se", "n",
                                      "limit", "status", "error", "p_w_c", "p_n_labelled"]
    kinds = {name: str(tables[0].schema.field(name).type) for name in tables[0].column_names}
    assert kinds["cell"] == kinds["seed"] == kinds["n"] == "int32"
    assert kinds["value"] == kinds["se"] == kinds["limit"] == kinds["p_w_c"] == "double"
    assert kinds["study"] == kinds["error"] == "string"


def test_digest_depends_on_contents_alone(tables: list[pa.Table]) -> None:
    whole = results.collect(tables)
    shuffled = list(tables)
    random.Random(1).shuffle(shuffled)
    assert results.digest(results.collect(shuffled)) == results.digest(whole)
    values = whole["value"].to_pylist()
    values[3] = values[3] + 1e-16 if values[3] + 1e-16 != values[3] else values[3] * (1 + 2.3e-16)
    moved = whole.set_column(whole.column_names.index("value"), "value", pa.array(values, pa.float64()))
    assert results.digest(moved) != results.digest(whole)
    keys = list(zip(*(whole[name].to_pylist() for name in results.KEY), strict=True))
    assert keys == sorted(keys)


def test_a_method_without_rows_is_one_failed_row(small: Study) -> None:
    job = plan.jobs(small)[0]
    rows = [r for r in sweep_fakes.rows(small, job) if r["method"] != "lda"]
    table = results.job_table(small, job, rows, "timeout", "stopped after\n5 s")
    failed = results.failures(table)
    assert len(failed) == job.units
    assert failed[0] == {"cell": 0, "seed": 0, "method": "lda", "status": "timeout", "error": "stopped after 5 s"}
    lost = table.to_pylist()[0]
    assert (lost["method"], lost["cohort"], lost["metric"], lost["value"], lost["limit"]) == ("lda", "", "", None, None)


def test_rows_that_are_not_the_jobs_are_refused(small: Study) -> None:
    job = plan.jobs(small)[0]
    good = sweep_fakes.row(0, 0, "lda", 0.5)
    for bad in ([good, good], [good | {"cell": 99}], [good | {"method": "ridge"}], [good | {"status": "fine"}],
                [good | {"extra": 1}]):
        with pytest.raises(SimlabError, match="not one of its own, or one twice"):
            results.job_table(small, job, bad)


def test_nan_is_a_missing_number(small: Study) -> None:
    job = plan.jobs(small)[0]
    table = results.job_table(small, job, [sweep_fakes.row(0, 0, "lda", float("nan"))])
    assert table.to_pylist()[0]["value"] is None


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "other job", "fewer rows"])
def test_a_damaged_shard_is_noticed(small: Study, tables: list[pa.Table], tmp_path: Path, damage: str) -> None:
    job, other = plan.jobs(small)[:2]
    path = tmp_path / "job-00000.parquet"
    results.write_shard(small, job, tables[0], path)
    assert results.read_shard(small, job, path).equals(tables[0])
    data = path.read_bytes()
    if damage == "other job":
        results.write_shard(small, other, tables[1], path)
    elif damage == "fewer rows":
        results.write_shard(small, job, tables[0].slice(0, 20), path)
    else:
        path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "noise": data[:100] + b"x" * 100}[damage])
    with pytest.raises(DamagedFile, match=r"job-00000\.parquet"):
        results.read_shard(small, job, path)


def test_a_shard_of_other_tuned_settings_is_none(small: Study, tables: list[pa.Table], tmp_path: Path) -> None:
    """A tuning begun afresh may choose otherwise: no table of two choices, and none that says what it does not hold."""
    job, path = plan.jobs(small)[0], tmp_path / "job-00000.parquet"
    one, two = (replace(small, choices=((0, "lda", (("width", w),)),)) for w in (3, 4))
    results.write_shard(one, job, tables[0], path)
    assert results.read_shard(one, job, path).equals(tables[0])
    with pytest.raises(DamagedFile, match="not the shard"):
        results.read_shard(two, job, path)


def test_a_write_that_fails_leaves_the_old_file(tables: list[pa.Table], tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.parquet"
    results.write(tables[0], path)
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space"):
        results.write(tables[1], path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.glob("*.tmp")] == []
