"""Pages of published results: what the committed folders and this version give, and how they are drawn again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from simlab.errors import SimlabError
from simlab.report import maps, open_results
from simlab.report.__main__ import main, told
from simlab.report.page import render
from simlab.report.published import MANIFEST, PAGE, STUDY
from simlab.report.svg import draw

RESULTS = Path(__file__).parents[2] / "results"
STUDIES = sorted(path.parent for path in RESULTS.glob(f"*/{STUDY}"))


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_what_is_published_has_a_page_that_is_current(folder: Path) -> None:
    assert main([str(folder), "--check"]) == 0, f"python -m simlab.report results/{folder.name} draws it again"
    assert all(path.stat().st_size for path in folder.iterdir())


def test_a_page_is_drawn_again_with_the_commands_it_had(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "quick"
    shutil.copytree(RESULTS / "quick", folder)
    page = folder / PAGE
    page.write_text(render(open_results(folder), "python -m simlab.sweep mine --out elsewhere", "it leaks </script>"))
    before = page.read_text(encoding="utf-8")
    assert told(page) == ("python -m simlab.sweep mine --out elsewhere", "it leaks </script>")
    assert main([str(folder), "--check"]) == 0
    page.write_text(before.replace("<h2", "<h3"), encoding="utf-8")
    assert main([str(folder), "--check"]) == 1 and "stale" in capsys.readouterr().out
    assert main([str(folder)]) == 0 and page.read_text(encoding="utf-8") == before
    page.unlink()
    assert main([str(folder), str(tmp_path)]) == 0  # a folder without a study, among others, is passed over
    assert told(page)[0] == "python -m simlab.sweep quick"
    with pytest.raises(SimlabError, match=r"study\.toml does not exist"):
        main([str(tmp_path)])


def test_a_run_that_did_not_end_is_not_one_that_was_not_foretold(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    shutil.copytree(RESULTS / "quick", folder)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    ended = next(run for run in manifest["runs"] if run.get("seconds"))
    killed = {key: value for key, value in ended.items() if key != "seconds"}
    manifest["runs"] = [killed, {key: value for key, value in ended.items() if key != "estimated_seconds"}]
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    text = render(open_results(folder))
    assert text.count("did not end") == 1 == text.count("not foretold")


def test_a_low_map_names_the_knob_alone() -> None:
    """The row axis's label would be longer than two rows are high, and run into the title."""
    one = maps(open_results(RESULTS / "quick"))[0]
    ident = {record["cell"]: i for i, record in enumerate(one.records)}
    low = replace(one, row_values=one.row_values[:2], cells=one.cells[:2], boundary=one.boundary[:2])
    assert one.rows is not None and f">{one.rows.label}</text>" in draw(one, 0, 0.1, ident)
    assert one.rows.label not in (text := draw(low, 0, 0.1, ident)) and f">{one.rows.name}</text>" in text
