"""The page of a study: one HTML file that needs no network, read from its results folder alone.

What was asked and foretold, what was found, each contrast's map with its own predicted boundary, slices, cost,
failures, and for each cell the command that computes it again. The same folder gives the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from simlab.files import write_text
from simlab.report import svg
from simlab.report.maps import Map, maps, show
from simlab.report.outline import Outline
from simlab.report.published import PAGE, TABLE, Published, Record, open_results

HERE = Path(__file__).resolve().parent
VERDICTS = ("helps", "hurts", "equivalent", "undecided")
MOST_CELLS, MOST_FAILURES = 6000, 60  # drawn; listed
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def write(folder: Path, command: str = "", leak: str = "") -> Path:
    """Write `report.html` into a run's folder. Raises as `open_results`."""
    path = folder / PAGE
    write_text(path, render(open_results(folder), command, leak))
    return path


def render(published: Published, command: str = "", leak: str = "") -> str:
    """The page. `command` begins the line that computes a cell again; `leak` is what the leak guard says."""
    study = published.study
    command = command or f"python -m simlab.sweep {study.name}"
    shown, left_out = _drawn(maps(published))
    order = dict.fromkeys(record["cell"] for one in shown for record in one.records)
    ident = {cell: number for number, cell in enumerate(sorted(order))}
    data = {**_data(published, shown, ident, command), "leak": leak}
    body = [_head(published), _asked(study), _counts(published, shown), _maps(shown, published, ident, left_out),
            _cells(published, command), _sensitivity(published), _cost(published), _failures(published, leak),
            _lacks(published)]
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")  # also "</"
    return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(study.name)}: where it helps and where it hurts</title>\n"
            f"<style>\n{(HERE / 'page.css').read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
            + "\n".join(part for part in body if part)
            + f'\n<script type="application/json" id="data">{text}</script>\n'
            f"<script>\n{(HERE / 'page.js').read_text(encoding='utf-8')}</script>\n</body>\n</html>\n")


def _drawn(all_maps: list[Map]) -> tuple[list[Map], int]:
    """The maps that the page draws, and how many it leaves to the tables."""
    kept, cells = [], 0
    for one in all_maps:
        cells += len(one.records)
        if cells > MOST_CELLS:
            break
        kept.append(one)
    return kept, len(all_maps) - len(kept)


# ---------------------------------------------------------------------------------------------------------------- data


def _data(published: Published, shown: list[Map], ident: dict[int, int], command: str) -> dict[str, Any]:
    """What the page's script needs: cells, maps with their records by cell, and arms' scores."""
    study = published.study
    names = [axis.name for axis in study.axes]
    points = {r["cell"]: [r[f"p_{name}"] for name in names] for r in published.verdicts}
    return {
        "command": command, "seeds": study.n_seeds, "rope": study.rope, "measure": study.measure, "axes": names,
        "cells": [[cell, *points[cell]] for cell in ident],
        "maps": [_map_data(one, ident, study) for one in shown],
        "scores": _scores(published, ident),
    }


def _map_data(one: Map, ident: dict[int, int], study: Outline) -> dict[str, Any]:
    keys = ("verdict", "difference", "low", "high", "seeds", "predicted", "reason", "p", "adjusted", "adjusted_verdict",
            "needed", "improvement")
    cells = {str(ident[r["cell"]]): [_short(r.get(key)) for key in keys] for r in one.records}
    return {
        "first": one.contrast[0], "second": one.contrast[1], "title": one.title, "keys": keys, "cells": cells,
        "column": one.columns.name, "columnLabel": one.columns.label, "row": one.rows.name if one.rows else None,
        "log": one.columns.log, "words": one.columns.words, "scattered": one.scattered,
        "columns": list(one.column_values) or list(one.columns.values), "rows": list(one.row_values),
        "grid": [[None if c is None else ident[c["cell"]] for c in row] for row in one.cells],
        "boundary": [None if b is None else [_short(b[key]) for key in ("measured", "low", "high", "predicted")]
                     for b in one.boundary],
    }


def _short(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _scores(published: Published, ident: dict[int, int]) -> dict[str, list[Any]]:
    """By arm: for each cell its mean, interval and limit (None: no number)."""
    if not ident or not (published.path / TABLE).is_file():
        return {}
    from simlab.report.scores import scores

    found: dict[str, list[Any]] = {}
    for record in scores(published):
        if record["cell"] not in ident:
            continue
        row = found.setdefault(record["method"], [None] * len(ident))
        row[ident[record["cell"]]] = [_short(record[key]) for key in ("mean", "low", "high", "limit")]
    return found


# ------------------------------------------------------------------------------------------------------------ sections


def _head(published: Published) -> str:
    study, manifest = published.study, published.manifest
    standing = manifest.get("standing") or {}
    kind = standing.get("kind", "standing not recorded")
    reason = standing.get("reason", "the folder was made before studies were marked confirmatory or exploratory")
    cells = len({r["cell"] for r in published.verdicts})
    fixed = ", ".join(f"{k} = {show(v)}" for k, v in study.knobs.items()) or "all other knobs at their defaults"
    missing = manifest.get("missing_jobs")
    partial = f'<p class="alert">Partial: {missing} jobs are missing; all numbers are so far.</p>' if missing else ""
    return (f'<header><p class="over">Study {escape(study.name)} · <strong class="standing">{escape(kind)}</strong>: '
            f"{escape(reason)}</p><h1>{escape(study.question or study.name)}</h1>"
            f"<p>{cells} cells, {study.n_seeds} seeds, {len(study.arms)} arms; {escape(study.metric)} in cohort "
            f"{escape(study.cohort)}, margin {study.rope:g}. World {escape(study.world)}: {escape(fixed)}.</p>{partial}"
            "</header>\n<main>")


def _asked(study: Outline) -> str:
    rows = (("Hypothesis", study.hypothesis), ("Prediction", study.prediction), ("Falsified if", study.falsified_if))
    told = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows if text)
    return ('<section aria-labelledby="asked"><h2 id="asked">What was foretold</h2>'
            + (f"<dl>{told}</dl>" if told else "<p>The study states no prediction.</p>") + "</section>")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", kind: str = "") -> str:
    """A table; the first cell of each row is its header. Cells are HTML already."""
    caption = f"<caption>{caption}</caption>" if caption else ""
    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>"
                   for row in rows)
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="table"><table class="{kind}">{caption}'
            f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>")


def _counts(published: Published, shown: list[Map]) -> str:
    study, rows = published.study, []
    for contrast in study.contrasts:
        records = published.of(published.verdicts, contrast)
        counts = Counter(r["verdict"] for r in records)
        kept = Counter(r["verdict"] for r in records if r.get("adjusted_verdict") == r["verdict"])
        adjusted = {v for v in ("helps", "hurts") if any("adjusted_verdict" in r for r in records)}
        theory = "own closed form" if any(r["predicted"] is not None for r in records) else "no closed form"
        said = [f"{counts[v]} ({kept[v]})" if v in adjusted else str(counts[v]) for v in VERDICTS]
        rows.append([escape(" minus ".join(contrast)), *said, str(len(records)), theory])
    return ('<section aria-labelledby="counts"><h2 id="counts">What was found</h2>'
            + _table(("Contrast", *VERDICTS, "cells", "theory"), rows, kind="numbers")
            + f"<p>The 95 % interval of the paired difference lies above +{study.rope:g} (helps), below "
              f"−{study.rope:g} (hurts), between them (equivalent), or none of these (undecided, which is not equal)."
              + (" In brackets: those that remain with p values adjusted for the number of cells and contrasts."
                 if "(" in "".join("".join(row[1:3]) for row in rows) else "") + "</p></section>")


def _maps(shown: list[Map], published: Published, ident: dict[int, int], left_out: int) -> str:
    seen = [abs(r["difference"]) for one in shown for r in one.records if r["difference"] is not None]
    bound = max([*seen, published.study.rope, 1e-6])
    figures = [_figure(one, number, bound, ident) for number, one in enumerate(shown)]
    rest = f"<p>{left_out} maps have too many cells for a page: map.png and verdicts.csv.</p>" if left_out else ""
    return ('<section aria-labelledby="maps"><h2 id="maps">Maps</h2>'
            f'<p class="legend">Violet: the first arm is ahead; orange: behind. {_legend(shown)}'
            '<span class="live">Click a cell, or reach a map with Tab and move with the arrow keys, Home and End; '
            "Enter shows the cell and its row's curve.</span></p>"
            '<svg width="0" height="0" aria-hidden="true" style="position:absolute"><defs><pattern id="hatch" '
            'width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M0 0V6" '
            'stroke="#555" stroke-width="1.4"/></pattern></defs></svg>'
            f'<div class="maps">{"".join(figures)}</div>{rest}'
            "<noscript><p>Without scripts the maps and the list of cells below stay; slices need them.</p></noscript>"
            "</section>")


def _legend(shown: list[Map]) -> str:
    """What marks and lines mean, of those that the maps have."""

    def key(drawing: str, words: str) -> str:
        return (f'<span class="entry"><svg class="key" viewBox="0 0 26 14" aria-hidden="true">{drawing}</svg> {words}'
                "</span> ")

    if any(one.scattered for one in shown):
        shapes = "".join(key(f'<path class="box" transform="translate(13 7) scale(.85)" d="{svg.SHAPES[verdict]}"/>',
                             verdict) for verdict in VERDICTS)
        line = key('<path class="measured" d="M0 7H26"/>', "the fitted surface changes sign") + key(
            '<path class="edge" d="M0 7H26"/>', "its band's ends")
        return shapes + (line if any(one.surface for one in shown) else "")
    known = any(b is not None and b["predicted"] is not None for one in shown for b in one.boundary)
    large = any(len(one.column_values) > svg.WORD_COLUMNS for one in shown)
    signs = "+ helps, − hurts, = equivalent, ? undecided. " if large else ""
    return (signs + key('<rect width="26" height="14" fill="url(#hatch)"/>', "undecided")
            + key('<path class="measured" d="M0 7H26"/><circle class="dot" cx="13" cy="7" r="3.4"/>',
                  "change of sign, measured (95 %)")
            + (key('<path class="predicted" d="M0 7H26"/><path class="diamond" d="M13 2l5 5l-5 5l-5 -5z"/>',
                   "predicted by theory for this contrast") if known else ""))


def _figure(one: Map, number: int, bound: float, ident: dict[int, int]) -> str:
    predicted = [r["predicted"] for r in one.records if r["predicted"] is not None]
    lines = [b["predicted"] for b in one.boundary if b is not None and b["predicted"] is not None]
    note = ("its own predicted boundary is dashed" if lines else
            "theory predicts no change of sign here" if predicted and not one.scattered else
            "theory predicts each cell (shown with it)" if predicted else "no closed form for this contrast")
    counts = Counter(r["verdict"] for r in one.records)
    said = ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v])
    return (f'<figure id="map-{number}"><figcaption><h3>{escape(one.title)}</h3><p>{said}; {note}.</p></figcaption>'
            f"{svg.draw(one, number, bound, ident)}"
            f'<div class="slice" data-map="{number}"></div><div class="detail" data-map="{number}" role="status"></div>'
            "</figure>")


def _cells(published: Published, command: str) -> str:
    """Every cell with its verdicts and the command that computes it again: a table beside the maps."""
    study = published.study
    by: dict[int, dict[tuple[str, str], Record]] = {}
    for record in published.verdicts:
        by.setdefault(record["cell"], {})[record["first"], record["second"]] = record
    if len(by) * len(study.contrasts) > MOST_CELLS:
        return ""
    rows = []
    for cell, found in by.items():
        point = next(iter(found.values()))
        told = [_told(found[pair]) if pair in found else "" for pair in study.contrasts]
        rows.append([str(cell), *(escape(_value(point[f"p_{axis.name}"])) for axis in study.axes), *told,
                     f"<code>{escape(command)} --cell {cell} --seed 0</code>"])
    head = ("Cell", *(escape(axis.name) for axis in study.axes), *(escape(" minus ".join(c)) for c in study.contrasts),
            f"computes it again (seeds 0 to {study.n_seeds - 1})")
    return (f'<section aria-labelledby="cells"><h2 id="cells">Every cell</h2><details><summary>All {len(rows)} cells, '
            f"their verdicts, and the command that computes each again</summary>{_table(head, rows, kind='numbers')}"
            "</details></section>")


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else show(value)


def _told(record: Record) -> str:
    return f"{record['verdict']} {svg.signed(record['difference'], 3)}"


def _sensitivity(published: Published) -> str:
    if not published.sensitivity:
        return ""
    rows = [[escape(f"{r['first']} minus {r['second']}"), escape(str(r["knob"])),
             *(_number(r.get(key)) for key in ("first_order", "total", "low", "high")), escape(str(r["evaluator"]))]
            for r in published.sensitivity]
    head = ("Contrast", "knob", "alone", "with others", "low", "high", "evaluator")
    return ('<section aria-labelledby="knobs"><h2 id="knobs">Which knobs decide</h2>'
            + _table(head, rows, "Share of the difference's variance over the study's cells", "numbers") + "</section>")


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, (int, float)) else escape(str(value))


def _cost(published: Published) -> str:
    rows = []
    for run in published.manifest.get("runs", []):
        took, foretold = run.get("seconds"), run.get("estimated_seconds")
        ratio = (f"{took / foretold:.2f} ×" if took and foretold else "not foretold" if took else "did not end")
        rows.append([escape(str(run.get("started", ""))), _seconds(foretold), _seconds(took), ratio,
                     *(_number(run.get(key)) for key in ("trainings", "jobs", "workers")),
                     escape(str(run.get("commit", ""))[:12] + (" (changed)" if run.get("changed") else ""))])
    head = ("Begun", "dry run said", "took", "ratio", "pretrainings", "jobs", "workers", "commit")
    digest = published.manifest.get("digest")
    told = published.manifest.get("published", {}).get("table", "")
    told = f"; {escape(told)}" if told not in ("", "whole") else ""
    facts = f"<p>Table: digest <code>{escape(digest[:16])}</code>{told}.</p>" if digest else ""
    return ('<section aria-labelledby="cost"><h2 id="cost">Cost</h2>'
            + (_table(head, rows, kind="numbers") if rows else "<p>The folder does not say how it came about.</p>")
            + facts + "</section>")


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def _failures(published: Published, leak: str) -> str:
    told = f'<p class="alert">Leak guard: {escape(leak)}</p>' if leak else ""
    return (f'<section aria-labelledby="failures"><h2 id="failures">Failures</h2>{told}{_failed(published)}</section>')


def _failed(published: Published) -> str:
    if not (published.path / TABLE).is_file():
        return "<p>The folder holds no table that would tell.</p>"
    import pyarrow.compute as pc

    rows: list[Record] = published.table.filter(pc.not_equal(published.table["status"], "ok")).to_pylist()
    if not rows:
        return "<p>None: every arm has its number in every cell and seed.</p>"
    counts = Counter((r["method"], r["status"]) for r in rows)
    said = ", ".join(f"{n} × {escape(method)} {escape(status)}" for (method, status), n in counts.most_common())
    listed = [[str(r["cell"]), str(r["seed"]), escape(r["method"]), escape(r["status"]), escape(r["error"])]
              for r in rows[:MOST_FAILURES]]
    more = f"<p>The first {MOST_FAILURES} of {len(rows)}.</p>" if len(rows) > MOST_FAILURES else ""
    return f"<p>{len(rows)} rows: {said}.</p>" + _table(("Cell", "seed", "arm", "status", "why"), listed) + more


def _lacks(published: Published) -> str:
    absent = "".join(f"<li>{escape(name)}</li>" for name in published.absent)
    note = (f"<section aria-labelledby='lacks'><h2 id='lacks'>Not in this folder</h2><ul>{absent}</ul></section>"
            if absent else "")
    return f"{note}</main>"
