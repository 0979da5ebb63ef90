"""`--publish`: what is copied and what is not, when it is refused, and that it opens again without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import ROOT

from simlab.errors import DamagedFile, SimlabError, command
from simlab.report import maps, open_results
from simlab.sweep import again, finish, publish, results, study
from simlab.sweep.__main__ import main
from simlab.sweep.finish import Summary
from simlab.sweep.folder import Folder

pytestmark = pytest.mark.usefixtures("undrawn")
Run = Callable[..., Summary]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_small_is_copied_and_the_same_run_gives_the_same_bytes(
    run: Run, toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run()
    (done.folder.path / "artefacts").mkdir()
    (done.folder.path / "artefacts" / "0-0-lda.npz").write_bytes(b"embeddings")
    monkeypatch.chdir(tmp_path)
    words = [str(toml), "--out", str(done.folder.path), "--publish"]
    assert command(main, words) == 0
    out = capsys.readouterr().out
    assert "published results/small" in out and "python -m figures small-map" in out
    first = contents(Path("results/small"))
    assert set(first) <= set(publish.FILES) and {"results.parquet", "verdicts.csv", "study.toml"} <= set(first)
    assert sum(map(len, first.values())) < publish.MOST_BYTES
    assert results.digest(pq.read_table("results/small/results.parquet")) == done.digest
    times = {path: path.stat().st_mtime_ns for path in Path("results/small").iterdir()}
    assert command(main, words) == 0 and "nothing changed" in capsys.readouterr().out
    assert times == {path: path.stat().st_mtime_ns for path in Path("results/small").iterdir()}
    shutil.rmtree("results")
    assert command(main, [*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] == done.digest
    assert contents(Path("results/small")) == first


def test_an_unfinished_run_one_with_failures_and_another_study_are_refused(run: Run, tmp_path: Path) -> None:
    into = tmp_path / "results"
    failed = run("raises", out="failed")
    with pytest.raises(SimlabError, match=r"failed rows.*--with-failures"):
        publish.publish(failed.study, failed.folder, into)
    assert not into.exists()
    publish.publish(failed.study, failed.folder, into, with_failures=True)
    assert any(r["verdict"] == "undecided" for r in open_results(into / "small").verdicts)
    done = run()
    other = replace(done.study, train=replace(done.study.train, steps=7))
    (into / "small" / "study.toml").write_text(study.dump(other), encoding="utf-8")
    with pytest.raises(SimlabError, match=r"different study \(train.steps"):
        publish.publish(done.study, done.folder, into)
    next(done.folder.shards.glob("*.parquet")).unlink()
    with pytest.raises(SimlabError, match="not finished: 1 jobs"):
        publish.publish(done.study, done.folder, into)
    with pytest.raises(SimlabError, match="run it first"):
        publish.publish(done.study, Folder(tmp_path / "nowhere"), into)


def test_a_leak_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run()
    monkeypatch.setattr(finish, "leak_message", lambda _: "lda knows more than it may")
    with pytest.raises(SimlabError, match=r"a leak .lda knows"):
        publish.publish(done.study, done.folder, tmp_path / "results")


def test_a_table_above_the_bound_is_reduced_and_said_so(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run()
    whole = publish.publish(done.study, done.folder, tmp_path / "whole")
    monkeypatch.setattr(publish, "MOST_BYTES", sum(whole.files.values()) - 200)
    small = publish.publish(done.study, done.folder, tmp_path / "small")
    assert small.table.startswith("reduced to metric")
    opened = open_results(small.path)
    assert opened.manifest["published"]["table"] == small.table and opened.manifest["digest"] == done.digest
    assert opened.manifest["published"]["rows"] == len(opened.table) < opened.manifest["published"]["rows_of_the_run"]
    assert set(opened.table["metric"].to_pylist()) == {"auc"}
    monkeypatch.setattr(publish, "MOST_BYTES", 5000)
    with pytest.raises(SimlabError, match="too large to publish"):
        publish.publish(done.study, done.folder, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_published_folder_names_no_folder_of_this_machine(run: Run, toml: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "own_plugin.py"
    plugin.write_text("x = 1\n", encoding="utf-8")
    done = run(which=study.load(str(toml), plugins=[str(plugin)]))
    path = publish.publish(done.study, done.folder, tmp_path / "results").path
    text = b"".join(contents(path).values())
    assert str(tmp_path).encode() not in text and b"own_plugin.py" in text


def test_results_open_without_torch_and_lie_as_the_run_left_them(run: Run, tmp_path: Path) -> None:
    done = run()
    path = publish.publish(done.study, done.folder, tmp_path / "results").path
    found = open_results(path)
    assert found.study.question == "Does it work?" and len(found.verdicts) == 6
    (one,) = maps(found)
    assert one.column_values == (100, 200, 400) and one.row_values == (0.2, 0.8)
    assert done.atlas is not None
    panel = done.atlas.panels[0]
    for r, row in enumerate(panel.rows):
        for c, verdict in enumerate(row.verdicts):
            record = one.cells[r][c]
            assert record is not None and (record["verdict"], record["difference"]) == (verdict.verdict, verdict.mean)
        assert one.boundary[r] is not None and row.measured is not None
        assert one.boundary[r]["measured"] == row.measured.at
    code = ("import sys; from simlab.report import open_results, maps\n"
            f"maps(open_results({str(path)!r}))\n"
            "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'pyarrow'} & set(sys.modules)\nassert not heavy, heavy")
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)


def test_what_is_missing_or_damaged_is_named(run: Run, tmp_path: Path) -> None:
    done = run()
    with pytest.raises(SimlabError, match=r"verdicts.csv does not exist: run python -m simlab.sweep"):
        (tmp_path / "half").mkdir()
        shutil.copy(done.folder.frozen, tmp_path / "half" / "study.toml")
        open_results(tmp_path / "half")
    text = done.folder.verdicts.read_text(encoding="utf-8")
    done.folder.verdicts.write_text(text[: len(text) - len(text.splitlines()[-1]) // 2], encoding="utf-8")
    with pytest.raises(DamagedFile, match=r"verdicts.csv is cut off"):
        open_results(done.folder.path)
    done.folder.frozen.write_text("[study]\nname = 'x'\n", encoding="utf-8")
    with pytest.raises(SimlabError, match=r"study.toml is no resolved study .KeyError: 'world'"):
        open_results(done.folder.path)


def test_every_run_writes_its_page_with_commands_that_work(
    run: Run, toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command is by name where the name leads to this very study, else by the frozen study beside the page."""
    monkeypatch.chdir(tmp_path)
    done = run()
    page = done.folder.report.read_text(encoding="utf-8")
    words = "python -m simlab.sweep out/study.toml --out out"
    assert f"<code>{words} --cell 5 --seed 0</code>" in page
    assert command(lambda argv: main(argv, function="sweep_fakes:good"),
                   [*words.split()[3:], "--cell", "5", "--seed", "2"]) == 0
    assert "the same, bit for bit" in capsys.readouterr().out
    (tmp_path / "studies").mkdir()
    shutil.copy(toml, tmp_path / "studies" / "small.toml")
    assert again.command(done.study, done.folder.path) == "python -m simlab.sweep small --out out"
    assert again.command(done.study, Path("runs/small")) == "python -m simlab.sweep small"
    other = replace(done.study, seed=8)
    assert again.command(other, Path("runs/my noise")).endswith("'runs/my noise/study.toml' --out 'runs/my noise'")
    assert again.published(other, Path("results/small")) == "python -m simlab.sweep results/small/study.toml"
    assert "Cost" in page and "default-src 'none'" in page
