"""The map as plain text: fixed width, no colour, readable in a terminal, a log or an e-mail."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from simlab.sweep import plan
from simlab.sweep.atlas import Atlas, Panel, Row, family
from simlab.sweep.layout import show
from simlab.sweep.multiplicity import METHODS
from simlab.sweep.schema import Value
from simlab.sweep.theory import Line
from simlab.sweep.verdicts import ALPHA

WORDS = {"helps": "helps", "hurts": "hurts", "equivalent": "equiv", "undecided": "?"}
LEGEND = (
    "helps, hurts: the 95 % interval of the paired difference lies beyond the margin; equiv: inside it;",
    "?: undecided.  |: where theory puts the change of sign.",
)


def text(atlas: Atlas) -> str:
    """All maps, the primary contrast first, then the legend."""
    blocks = [_panel(atlas, panel) for panel in atlas.panels]
    return "\n\n".join([*blocks, "\n".join(LEGEND)]) + "\n"


def _panel(atlas: Atlas, panel: Panel) -> str:
    study, place = atlas.study, atlas.layout
    first, second = panel.contrast
    at = "".join(f", {name} = {show(value)}" for name, value in panel.slice.at.items())
    title = (f"Does {first} beat {second}?  {study.metric} in cohort '{study.compare.cohort}'{at}, "
             f"{study.n_seeds} seeds, margin {study.compare.rope:g}")
    heads = [show(value) for value in place.column_values]
    width = max(7, *(len(head) + 2 for head in heads))
    name = place.rows.name if place.rows else ""
    left = max(len(name), *(len(show(value)) for value in place.row_values)) + 2
    grid = width * len(heads) + 2
    lines = [title, "", " " * left + place.columns.name.rjust(grid) + f"  changes sign at {place.columns.name}:",
             name.rjust(left) + "".join(head.rjust(width) for head in heads) + "    " + "measured (95 %)".ljust(23)
             + "theory"]
    order = reversed(range(len(panel.rows))) if len(panel.rows) > 1 else range(1)
    for r in order:
        row = panel.rows[r]
        cells = [WORDS[v.verdict] for v in row.verdicts]
        places = place.column_values
        marked = _marked(cells, width, mark_at(row.predicted, places))
        lines.append((show(place.row_values[r]).rjust(left) + marked.ljust(grid + 2) + "  "
                      + _measured(row, atlas).ljust(23) + _predicted(row.predicted, atlas.study.compare.rope)).rstrip())
    counts = Counter(panel.words)
    lines += ["", "  ".join(f"{word} {counts[word]}" for word in WORDS) + f"  (of {len(panel.words)} cells)"]
    return "\n".join(lines)


def claims(atlas: Atlas, standing: dict[str, str], sensitivity: Sequence[dict[str, Any]]) -> str:
    """What the maps' words may claim: the study's standing, the words that stand over all cells, the knobs that matter.
    """
    words = [v.verdict for panel in atlas.panels for row in panel.rows for v in row.verdicts]
    stay = Counter(word for _, word in family(atlas))
    found = Counter(words)
    counts = ", ".join(f"{stay[word]} of {found[word]} {WORDS[word]}" for word in WORDS if word != "undecided")
    lines = textwrap.wrap(": ".join(standing.values()), 100)
    lines += textwrap.wrap(f"{METHODS[atlas.standing]} over all {len(words)} cells of all contrasts: {counts} stand at "
                           f"level {ALPHA:g}.", 100)
    return "\n".join([*lines, *_plan(atlas), *_ranking(sensitivity), ""])


def _plan(atlas: Atlas) -> list[str]:
    """How many seeds the undecided cells would need."""
    found = [v for panel in atlas.panels for row in panel.rows for v in row.verdicts if math.isfinite(v.p)]
    needed = sorted(v.needed for v in found if v.needed is not None)
    far = sum(v.verdict == "undecided" and v.needed is None for v in found)
    parts = [f"{len(needed)} would need {needed[0]} to {needed[-1]} fresh seeds (median "
             f"{needed[len(needed) // 2]})"] if needed else []
    parts += [f"{far} lie at the margin, out of reach"] if far else []
    return [f"Undecided: {'; '.join(parts)}."] if parts else []


def _ranking(sensitivity: Sequence[dict[str, Any]]) -> list[str]:
    """A line a contrast: its knobs, the most important first, with their share of the difference's variance."""
    lines: dict[tuple[str, str], list[str]] = {}
    for row in sensitivity:
        total = row["first_order"] if row["total"] is None else row["total"]
        if total is not None:
            text = f"{row['knob']} {total:.2f} ({row['low']:.2f} to {row['high']:.2f})"
            lines.setdefault((row["first"], row["second"]), []).append(text)
    if not lines:
        return []
    head = "Share of the difference's variance in which a knob takes part (95 %; sensitivity.csv):"
    text = (f"{first} minus {second}: {', '.join(knobs)}" for (first, second), knobs in lines.items())
    return ["", head, *(textwrap.fill(line, 100, initial_indent="  ", subsequent_indent="    ") for line in text)]


MOST_POINTS = 48  # cells of a Sobol design that are listed


def points(atlas: Atlas) -> str:
    """The verdicts of cells that lie at points of their own: a list for each contrast, in the cells' order."""
    return "\n\n".join([*(_listed(atlas, panel) for panel in atlas.panels), LEGEND[0], "?: undecided."]) + "\n"


def _listed(atlas: Atlas, panel: Panel) -> str:
    study, (row,) = atlas.study, panel.rows
    first, second = panel.contrast
    names = [axis.name for axis in study.axes]
    points = [plan.cell(study, cell) for cell in panel.slice.cells[0]]
    wide = [max(len(name), *(len(_short(point[name])) for point in points)) + 2 for name in names]
    lines = [f"Does {first} beat {second}?  {study.metric} in cohort '{study.compare.cohort}', {study.n_seeds} seeds, "
             f"margin {study.compare.rope:g}", "",
             f"{'cell':>6}" + "".join(name.rjust(w) for name, w in zip(names, wide, strict=True))
             + f"{'difference (95 %)':>30}{'theory':>9}  verdict"]
    for i, (found, point) in enumerate(zip(row.verdicts[:MOST_POINTS], points[:MOST_POINTS], strict=True)):
        at = "".join(_short(point[name]).rjust(w) for name, w in zip(names, wide, strict=True))
        said = f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})" if math.isfinite(found.low) else "-"
        known = row.predicted is not None and math.isfinite(row.predicted.cells[i])
        theory = f"{row.predicted.cells[i]:+.4f}" if row.predicted and known else "-"
        lines.append(f"{panel.slice.cells[0][i]:>6}{at}{said:>30}{theory:>9}  {WORDS[found.verdict]}")
    if len(points) > MOST_POINTS:
        lines.append(f"   ... and {len(points) - MOST_POINTS} more; all are in verdicts.csv")
    counts = Counter(panel.words)
    lines += ["", "  ".join(f"{word} {counts[word]}" for word in WORDS) + f"  (of {len(panel.words)} cells)"]
    return "\n".join(lines)


def _short(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else show(value)


def mark_at(line: Line | None, columns: tuple[Value, ...]) -> int | None:
    """Before which column the predicted boundary lies (1 .. last), or None."""
    if line is None or line.at is None:
        return None
    return sum(1 for value in columns if not isinstance(value, str) and value <= line.at)


def _marked(cells: list[str], width: int, mark: int | None) -> str:
    shown = (" |" + cell.rjust(width - 2) if i == mark else cell.rjust(width) for i, cell in enumerate(cells))
    return "".join(shown)


def _measured(row: Row, atlas: Atlas) -> str:
    found, place = row.measured, atlas.layout
    if found is None or found.side == "unknown":
        return "-"
    if not row.decided:
        level = all(abs(v.mean) <= atlas.study.compare.rope for v in row.verdicts)
        return "none: within margin" if level else "undecided"
    if found.at is None:
        return f"none: {found.side}"
    low = f"<{show(place.column_values[0])}" if math.isinf(found.low) else rounded(found.low)
    high = f">{show(place.column_values[-1])}" if math.isinf(found.high) else rounded(found.high)
    return f"{rounded(found.at)} ({low} to {high})"


def _predicted(line: Line | None, rope: float) -> str:
    if line is None or (line.at is None and not line.side):
        return "no closed form"
    if line.at is not None:
        return rounded(line.at)
    level = line.side == "level" or bool((abs(line.cells) <= rope).all())
    return "none: within margin" if level else f"none: {line.side}"


def rounded(value: float) -> str:
    """Three significant digits, as people write them: 132, 0.56, 4580."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, digits):.{digits}f}" if digits else f"{float(f'{value:.3g}'):.0f}"
