"""The page of a study in headless Chromium: clicked, walked through by keyboard, in grey, printed, on a phone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import browser

from simlab.report import maps, open_results
from simlab.report.page import render

QUICK = Path(__file__).parents[2] / "results" / "quick"
Open = Callable[..., Any]


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Open]:
    """Open a page's text in a tab; whatever it asks of a network, and any error of its script, fails the test."""
    problems: list[str] = []
    context = browser().new_context(viewport={"width": 1280, "height": 900}, permissions=["clipboard-write"])

    def go(text: str, **viewport: int) -> Any:
        path = tmp_path / "report.html"
        path.write_text(text, encoding="utf-8")
        page = context.new_page()
        if viewport:
            page.set_viewport_size(viewport)
        page.on("request", lambda r: problems.append(r.url) if r.url != path.as_uri() else None)
        page.on("pageerror", lambda e: problems.append(str(e)))
        page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
        page.goto(path.as_uri())
        return page

    yield go
    context.close()
    assert not problems


@pytest.fixture(scope="module")
def quick() -> str:
    return render(open_results(QUICK))


def test_a_click_shows_the_cell_its_rows_curve_and_the_command_that_computes_it_again(quick: str, show: Open) -> None:
    page, found = show(quick), open_results(QUICK)
    record = next(r for r in maps(found)[3].records if r["verdict"] == "undecided")
    cell = page.locator(f"#map-3 .cell[data-i='{record['cell']}']")
    cell.click()
    detail = page.locator("#map-3 .detail")
    said = detail.inner_text()
    assert f"Cell {record['cell']}: w_c = {record['p_w_c']:g}, n_labelled = {record['p_n_labelled']}" in said
    assert "cca-lda is undecided against lda (interval too wide)" in said
    assert f"{abs(record['difference']):.3f}" in said and "best possible" in said and "Theory says" in said
    command = page.locator("#map-3 .detail code")
    assert command.inner_text() == f"python -m simlab.sweep quick --cell {record['cell']} --seed 0"
    page.get_by_label("seed").fill("7")
    assert command.inner_text().endswith(f"--cell {record['cell']} --seed 7")
    page.get_by_role("button", name="Copy").click()
    assert page.get_by_role("button", name="Copied").is_visible()
    assert page.locator("#map-3 .slice select").input_value() == str([0.2, 0.4, 0.6, 0.8, 0.95].index(record["p_w_c"]))
    assert page.locator("#map-3 .slice .point").count() == 5 == page.locator("#map-3 .slice .whisker").count()
    assert page.locator("#map-0 .detail").inner_text() == ""  # other maps stay as they were


def test_slices_are_chosen_and_hold_the_rows_numbers(quick: str, show: Open) -> None:
    page, one = show(quick), maps(open_results(QUICK))[0]
    page.locator("#map-0 .slice select").select_option(label="w_c = 0.4")
    label = page.locator("#map-0 .slice svg").get_attribute("aria-label")
    for record in one.cells[1]:
        sign = "−" if record["difference"] < 0 else "+"
        assert f"{record['p_n_labelled']}: {sign}{abs(record['difference']):.3f}" in label
    assert page.locator("#map-0 .slice .predicted").count() == 1
    page.keyboard.press("ArrowDown")  # the list keeps the focus
    assert page.locator("#map-0 .slice select").input_value() == "2"


def test_the_keyboard_reaches_everything(quick: str, show: Open) -> None:
    page = show(quick)

    def here() -> str:
        return page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.tagName")

    stops = []
    for _ in range(11):
        page.keyboard.press("Tab")
        stops.append(here())
    cells = [stop for stop in stops if re.match(r"w_c = ", stop)]
    assert len(cells) == 4 == stops.count("SELECT")  # one stop a map, then its slice
    assert "SUMMARY" in stops
    page.locator("#map-0 .cell[tabindex='0']").focus()
    assert here().startswith("w_c = 0.95, n_labelled = 75: helps")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    assert here().startswith("w_c = 0.8, n_labelled = 300: undecided")
    ring = page.evaluate("getComputedStyle(document.activeElement.querySelector('.box')).strokeWidth")
    assert float(ring.removesuffix("px")) >= 3  # the focus is seen
    page.keyboard.press("Home")
    assert "n_labelled = 75" in here()
    page.keyboard.press("ArrowLeft")
    assert "n_labelled = 75" in here()  # the edge holds
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    assert "n_labelled = 1200" in page.locator("#map-0 .detail h4").inner_text()
    assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
    page.keyboard.press("Tab")
    assert here() == "SELECT"


def test_it_says_what_was_asked_found_and_paid(quick: str, show: Open) -> None:
    page, found = show(quick), open_results(QUICK)
    text = page.locator("body").inner_text()
    for words in (found.study.question, found.study.prediction, found.study.falsified_if, found.study.hypothesis):
        assert words in text
    cells = page.locator("table").first.locator("tbody tr").first.locator("td").all_inner_texts()
    mine = found.of(found.verdicts, found.study.contrasts[0])
    words = [r["verdict"] for r in mine]
    counts = [*map(words.count, ("helps", "hurts", "equivalent", "undecided")), 25]
    assert [int(cell.split()[0]) for cell in cells[:5]] == counts
    kept = [sum(r["verdict"] == r["adjusted_verdict"] == word for r in mine) for word in ("helps", "hurts")]
    assert [cell.partition(" ")[2] for cell in cells[:2]] == [f"({n})" for n in kept]
    assert found.manifest["standing"]["kind"] in text and found.manifest["standing"]["reason"] in text
    assert page.get_by_role("heading", name="Which knobs decide").count() == 1
    run = found.manifest["runs"][0]
    assert f"{run['seconds'] / run['estimated_seconds']:.2f} ×" in text and run["commit"][:12] in text
    assert "every arm has its number" in text
    page.locator("summary").click()
    assert page.get_by_text("python -m simlab.sweep quick --cell 24 --seed 0", exact=True).is_visible()


def test_each_map_carries_its_own_predicted_boundary(quick: str, show: Open) -> None:
    page, found = show(quick), maps(open_results(QUICK))
    for number, one in enumerate(found):
        diamonds = sum(b is not None and b["predicted"] is not None for b in one.boundary)
        assert page.locator(f"#map-{number} svg.map .diamond").count() == diamonds
        hatched = page.locator(f"#map-{number} svg.map rect[fill='url(#hatch)']").count()
        assert hatched == sum(r["verdict"] == "undecided" for r in one.records)
    assert "theory predicts no change of sign" in page.locator("#map-1 figcaption").inner_text()
    places = [page.locator(f"#map-{i} polyline.predicted").get_attribute("points") for i in (0, 2)]
    assert places[0] != places[1]  # against tuned ridge, and against LDA


def test_in_black_and_white_every_verdict_is_a_word_and_text_stands_out(quick: str, show: Open) -> None:
    page = show(quick)
    page.add_style_tag(content="html { filter: grayscale(1) }")
    for number, one in enumerate(maps(open_results(QUICK))):
        words = page.locator(f"#map-{number} svg.map text").all_text_contents()
        for verdict, word in (("helps", "helps"), ("hurts", "hurts"), ("equivalent", "equal"), ("undecided", "?")):
            assert words.count(word) == sum(r["verdict"] == verdict for r in one.records)
    pairs = page.evaluate("""[...document.querySelectorAll('svg.map .cell')].map(
        g => [g.querySelector('.box').getAttribute('fill'), getComputedStyle(g.querySelector('text')).fill])""")
    for fill, ink in set(map(tuple, pairs)):
        dark, light = sorted((luminance(fill), luminance(ink)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (fill, ink)  # WCAG 2.2, 1.4.3


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb" or "rgb(r, g, b)" (WCAG 2.2)."""
    if colour.startswith("#"):
        parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    else:
        parts = [int(v) for v in re.findall(r"\d+", colour)[:3]]
    linear = [(c / 255 / 12.92) if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_it_fits_a_phone_and_prints(quick: str, show: Open) -> None:
    page = show(quick, width=360, height=740)
    page.locator("#map-0 .cell").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.emulate_media(media="print")
    assert not page.locator(".live").is_visible() and page.locator("#map-0 svg.map").is_visible()
    assert len(page.pdf()) > 20_000


def test_words_of_a_study_are_text_and_data_cannot_end_its_script(tmp_path: Path, show: Open) -> None:
    for path in QUICK.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    raw = (tmp_path / "study.toml").read_text(encoding="utf-8")
    evil = "</script><script>document.title='bad'</script><img src=x onerror=alert(1)>"
    (tmp_path / "study.toml").write_text(re.sub(r'question = ".*"', f'question = "{evil}"', raw), encoding="utf-8")
    verdicts = (tmp_path / "verdicts.csv").read_text(encoding="utf-8")
    (tmp_path / "verdicts.csv").write_text(verdicts.replace("interval too wide", evil), encoding="utf-8")
    text = render(open_results(tmp_path), command="python </script> -m simlab.sweep quick")
    page = show(text)
    assert page.title() == "quick: where it helps and where it hurts"
    assert page.locator("h1").inner_text() == evil and page.locator("img").count() == 0
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.S)
    assert data is not None and "<" not in data[1]
    assert json.loads(data[1])["command"] == "python </script> -m simlab.sweep quick"
    page.locator("#map-0 .cell").nth(6).click()
    assert page.locator("#map-0 .detail img").count() == 0


def test_the_same_folder_gives_the_same_page(quick: str) -> None:
    assert render(open_results(QUICK)) == quick
    assert not re.findall(r"(?:src|href)=|url\((?!#)|@import|https?://(?!www\.w3\.org/2000/svg)", quick)
