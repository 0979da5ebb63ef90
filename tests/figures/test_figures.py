"""`python -m figures`: names, states read from the files themselves, bytes, fonts, widths, and what a map shows."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from figures import catalog, files, mapping, style
from figures.__main__ import main
from simlab.errors import command
from simlab.report import maps, open_results

ROOT = Path(__file__).parents[2]
QUICK = ROOT / "results" / "quick"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The map of `quick`, drawn once."""
    out = tmp_path_factory.mktemp("drawn")
    assert main(["quick-map", "--out", str(out)]) == 0
    return out


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """A folder with results of its own, and one script that draws them."""
    (tmp_path / "results" / "quick").mkdir(parents=True)
    for path in QUICK.iterdir():
        (tmp_path / "results" / "quick" / path.name).write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    yield lambda *words: command(main, list(words))


def rows(path: Path) -> list[dict[str, str]]:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert lines[0].startswith("# simlab: {")
    return list(csv.DictReader(io.StringIO("".join(lines[1:]))))


def test_the_same_bytes_again_truetype_and_the_stated_width(drawn: Path, tmp_path: Path) -> None:
    assert main(["quick-map", "--out", str(tmp_path)]) == 0
    for kind in ("pdf", "png", "csv"):
        assert (drawn / f"quick-map.{kind}").read_bytes() == (tmp_path / f"quick-map.{kind}").read_bytes(), kind
    pdf = (drawn / "quick-map.pdf").read_bytes()
    assert b"/Subtype /Type3" not in pdf and b"/FontFile2" in pdf
    box = re.search(rb"/MediaBox \[\s*0 0 ([\d.]+)", pdf)
    assert box is not None and float(box[1]) / 72 == pytest.approx(style.TEXT)
    with Image.open(drawn / "quick-map.png") as image:
        assert image.width == round(style.TEXT * 300)


def test_the_plotted_numbers_are_the_results(drawn: Path) -> None:
    quick, found = open_results(QUICK), rows(drawn / "quick-map.csv")
    cells = [r for r in found if r["kind"] == "cell"]
    assert len(cells) == len(quick.verdicts) == 100
    for row, record in zip(cells, quick.verdicts, strict=True):
        assert row["panel"] == f"{record['first']} minus {record['second']}" and row["verdict"] == record["verdict"]
        assert float(row["difference"]) == pytest.approx(record["difference"], rel=1e-8)
    lines = {(r["panel"], r["w_c"]): r for r in found if r["kind"] == "boundary"}
    assert float(lines["cca-lda minus lda", "0.8"]["predicted"]) == pytest.approx(458, abs=1)
    assert lines["vicreg-frozen minus supervised", "0.95"]["measured"] == ""  # none within the axis: theory's alone
    assert not any(panel.startswith("vicreg-finetuned") for panel, _ in lines)  # it never changes sign, nor should it


def test_a_map_reads_in_grey() -> None:
    """Verdicts stand as words, and no undecided cell lacks its hatching."""
    import matplotlib as mpl

    quick = open_results(QUICK)
    with mpl.rc_context(style.STYLE):
        figure = mapping.draw(quick, mapping.numbers(quick))
    for axes, one in zip(figure.axes, maps(quick), strict=False):
        words = [text.get_text() for text in axes.texts if text.get_text() in style.WORDS.values()]
        expected = [style.WORDS[record["verdict"]] for record in one.records]
        assert sorted(words) == sorted(expected)
        assert sum(bool(c.get_hatch()) for c in axes.collections) == expected.count("?")


def test_stale_is_told_from_the_files_themselves(
    elsewhere: Callable[..., int], drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def state() -> str:
        capsys.readouterr()
        status = elsewhere("--check", "quick-map", "--json")
        (row,) = json.loads(capsys.readouterr().out)
        assert status == (row["state"] != "current")
        return row["state"]

    assert state() == "not drawn"
    shutil.copytree(drawn, "results/figures")
    assert state() == "current"
    data, png = Path("results/quick/verdicts.csv"), Path("results/figures/quick-map.png")
    before = data.read_text(encoding="utf-8")
    data.write_text(before.replace("hurts", "helps", 1), encoding="utf-8")
    assert state() == "stale: the data changed since quick-map.pdf was drawn"
    data.write_text(before, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "source_hash", lambda _: "another")
        assert state() == "stale: the script changed since quick-map.pdf was drawn"
    lost = "stale: quick-map.png holds no record of what it was drawn from"
    with Image.open(png) as image:
        image.load()
        image.text.clear()
        image.info.clear()
        image.save(png)  # by another program
    assert state() == lost
    png.write_bytes(b"no picture")
    assert state() == lost
    png.unlink()
    assert state() == "stale: quick-map.png is missing"


def test_a_helper_that_a_script_imports_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (ROOT / "figures").glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(catalog, "HERE", tmp_path)

    def now(name: str) -> str:
        catalog.source_hash.cache_clear()
        return catalog.source_hash(f"figures.{name}")

    before = {name: now(name) for name in ("study_map", "theory_shifts")}
    with (tmp_path / "mapping.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert now("study_map") != before["study_map"] and now("theory_shifts") == before["theory_shifts"]
    with (tmp_path / "style.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert now("theory_shifts") != before["theory_shifts"]
    catalog.source_hash.cache_clear()


def test_wrong_words_are_one_line_that_names_the_nearest(
    elsewhere: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert elsewhere("quick-mpa") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "did you mean quick-map" in err
    assert elsewhere("--chekc") == 2 and "--check" in capsys.readouterr().err
    Path("results/quick/results.parquet").unlink()
    assert elsewhere("quick-curves") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "results/quick/results.parquet" in err and "--publish" in err
    assert not Path("results/figures/quick-curves.pdf").exists()


def test_listing_imports_no_array_module() -> None:
    code = ("import sys; from figures.__main__ import main; main(['--list'])\n"
            "heavy = {'numpy', 'torch', 'pandas', 'scipy', 'matplotlib', 'pyarrow'} & set(sys.modules)\n"
            "assert not heavy, heavy")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "knobs-label" in done.stdout


def test_what_is_committed_is_current() -> None:
    """Every figure whose files lie in the repository: drawn from the results and by the script that lie beside it."""
    found = {name: files.state(script, ROOT) for name, script in catalog.scripts(ROOT).items()
             if any((ROOT / script.folder).glob(f"{name}.*"))}
    assert {"quick-map", "quick-curves", "theory_shifts", "knobs-label"} <= set(found)
    assert not {name: state for name, state in found.items() if state != "current"}


def test_scores_have_intervals_and_lie_below_their_ceiling() -> None:
    """A cell's mean is the table's, by pandas; no interval lies wholly above the best possible."""
    from figures import study_curves

    quick = open_results(QUICK)
    found = study_curves.numbers(quick)
    table = quick.table.to_pandas().query("metric == 'auc' and cohort == 'test'")
    means = table.groupby(["method", "cell"])["value"].mean()
    assert {r["method"] for r in found} == set(study_curves.arms(quick)) and len(found) == 5 * 25
    for record in found:
        assert record["mean"] == pytest.approx(means[record["method"], record["cell"]], rel=1e-12)
        assert record["low"] < record["mean"] < record["high"] and record["low"] < record["ceiling"]


@pytest.mark.parametrize(("study", "words"), [
    ("quick", "5 of 7 arms: those that the contrasts name"),
    ("incomplete-data", "8 of 11 arms: the first that the contrasts name"),
    ("label-accrual", None),  # all seven
])
def test_curves_say_how_many_of_the_arms_they_show_and_which(study: str, words: str | None) -> None:
    from figures import study_curves

    published = open_results(ROOT / "results" / study)
    figure = study_curves.draw(catalog.Data((published,), study_curves.numbers(published)))
    (legend,) = figure.legends
    assert (legend.get_title().get_text() or None) == words
    lines = [text.get_text() for text in legend.get_texts() if text.get_text() != "best possible"]
    assert len(lines) == (int(words.split()[0]) if words else len(published.study.arms))
    assert len(figure.axes[0].lines) == len(lines) + 1
