"""A map as SVG: cells as groups that the page's script makes focusable, words and hatching for verdicts, boundaries.

Coordinates are those of the cells, evenly spaced; a boundary's place between two columns is interpolated on the axis's
own scale. Plain text out, no array module.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from html import escape
from typing import Any

from simlab.report.maps import Map, show
from simlab.report.outline import Axis
from simlab.report.published import Record

AHEAD, LEVEL, BEHIND = (84, 39, 136), (247, 247, 247), (179, 88, 6)  # as PuOr: violet, light, orange
WORDS = {"helps": "helps", "hurts": "hurts", "equivalent": "equal", "undecided": "?"}
SIGNS = {"helps": "+", "hurts": "−", "equivalent": "=", "undecided": "?"}
WORD_COLUMNS, NAMES = 9, 12  # columns that leave room for words; names along an axis
SIDE, TOP, BOTTOM = 14, 8, 44


def draw(one: Map, number: int, bound: float, ident: dict[int, int]) -> str:
    """The SVG of a map; `ident` gives each cell's number in the page's data, `bound` the colour scale's end."""
    return (_scatter if one.scattered else _grid)(one, number, bound, ident)


def _grid(one: Map, number: int, bound: float, ident: dict[int, int]) -> str:
    n, m = len(one.column_values), len(one.row_values)
    words = n <= WORD_COLUMNS
    w, h = (72, 42) if words else (max(18, 620 / n), max(16, min(30, 420 / m)))
    left = _left([show(v) for v in one.row_values])
    width, height = left + n * w + SIDE, TOP + m * h + BOTTOM
    parts = [_open(one, number, width, height, "grid")]
    for r in reversed(range(m)):
        y = TOP + (m - 1 - r) * h
        parts.append('<g class="row">')
        for c, record in enumerate(one.cells[r]):
            if record is not None:
                parts.append(_cell(record, ident[record["cell"]], left + c * w, y, w, h, bound, words))
        parts.append("</g>")
    parts += [_label(left - 6, TOP + (m - 1 - r) * h + h / 2 + 4, show(v), "end")
              for r, v in _some(one.row_values) if v is not None]
    parts += [_label(left + c * w + w / 2, TOP + m * h + 14, show(v)) for c, v in _some(one.column_values)]
    parts.append(_axes(one, left, width, TOP + m * h))
    parts.append(_boundaries(one, left, w, h))
    return "".join([*parts, "</svg>"])


def _left(names: list[str]) -> float:
    """Room for the names along the rows, and for the axis's own."""
    return max(64.0, 34 + 7.2 * max(map(len, names)))


def _open(one: Map, number: int, width: float, height: float, role: str) -> str:
    return (f'<svg class="map" role="{role}" aria-label="{escape(one.title, quote=True)}: map of verdicts" '
            f'data-map="{number}" viewBox="0 0 {width:g} {height:g}" style="max-width:{width * 1.25:.0f}px">')


def _cell(record: Record, ident: int, x: float, y: float, w: float, h: float, bound: float, words: bool) -> str:
    verdict, mean = record["verdict"], record["difference"]
    box = f'x="{x:.4g}" y="{y:.4g}" width="{w:.4g}" height="{h:.4g}"'
    fill, ink = colour(mean, bound)
    hatched = f'<rect {box} fill="url(#hatch)"/>' if verdict == "undecided" else ""
    middle = x + w / 2
    if words:
        back = f'<rect x="{middle - 26:.4g}" y="{y + 5:.4g}" width="52" height="{h - 10:.4g}" fill="{fill}"/>'
        text = (f'<text class="{verdict}" x="{middle:.4g}" y="{y + h / 2 - 3:.4g}" fill="{ink}">{WORDS[verdict]}</text>'
                f'<text x="{middle:.4g}" y="{y + h / 2 + 12:.4g}" fill="{ink}">{signed(mean, 3)}</text>')
        text = (back if hatched else "") + text
    else:
        text = f'<text class="{verdict}" x="{middle:.4g}" y="{y + h / 2 + 4:.4g}" fill="{ink}">{SIGNS[verdict]}</text>'
    return f'<g class="cell" data-i="{ident}"><rect class="box" {box} fill="{fill}"/>{hatched}{text}</g>'


def colour(mean: float | None, bound: float) -> tuple[str, str]:
    """Fill and ink of a difference; white for none. Of black and white, the ink that stands out more."""
    if mean is None:
        return "#ffffff", "#000000"
    share = min(1.0, abs(mean) / bound)
    end = AHEAD if mean > 0 else BEHIND
    mixed = [round(a + (b - a) * share) for a, b in zip(LEVEL, end, strict=True)]
    return "#" + "".join(f"{v:02x}" for v in mixed), "#ffffff" if _luminance(mixed) < 0.179 else "#000000"


def _luminance(colour: list[int]) -> float:
    """Relative luminance (WCAG 2.2); below 0.179 white has more contrast than black."""
    shares = [v / 255 for v in colour]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def signed(value: float | None, digits: int) -> str:
    """A difference in words: +.057, −.008; "failed" where there is none."""
    if value is None:
        return "failed"
    text = f"{value:+.{digits}f}".replace("0.", ".", 1).replace("-", "−")
    return text if text.strip("+−.0") else text[1:]


def _label(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text class="tick" x="{x:.4g}" y="{y:.4g}" text-anchor="{anchor}">{escape(text)}</text>'


def _some(values: tuple[Any, ...]) -> list[tuple[int, Any]]:
    step = max(1, math.ceil(len(values) / NAMES))
    return list(enumerate(values))[::step]


def _axes(one: Map, left: float, width: float, bottom: float) -> str:
    across = (f'<text class="name" x="{(left + width - SIDE) / 2:.4g}" y="{bottom + 34:.4g}">'
              f"{escape(one.columns.label)}</text>")
    if one.rows is None:
        return across
    y = (TOP + bottom) / 2
    name = one.rows.label if 6 * len(one.rows.label) < bottom - TOP + 16 else one.rows.name  # low maps: the knob alone
    return across + (f'<text class="name" x="14" y="{y:.4g}" transform="rotate(-90 14 {y:.4g})">'
                     f"{escape(name)}</text>")


def place(axis: Axis, values: tuple[Any, ...], at: float) -> float | None:
    """Where a value lies along evenly spaced cells (0 at the first's centre), on the axis's scale; None for words."""
    if axis.words or len(values) < 2 or isinstance(at, str):
        return None
    scale = math.log if axis.log and at > 0 else float
    ends = [scale(value) for value in values]
    i = min(max(bisect_right(ends, scale(at)) - 1, 0), len(ends) - 2)
    return i + (scale(at) - ends[i]) / (ends[i + 1] - ends[i])


def _boundaries(one: Map, left: float, w: float, h: float) -> str:
    """Predicted: dashed, diamonds. Measured: solid, dots, its interval as a bar. Nothing of it takes the pointer."""
    n, m = len(one.column_values), len(one.row_values)

    def x(value: float | None, beyond: float) -> float:
        found = beyond if value is None else place(one.columns, one.column_values, value)
        return left + w * (min(max(beyond if found is None else found, -0.5), n - 0.5) + 0.5)

    parts, lines = [], {"measured": [], "predicted": []}
    for r, line in enumerate(one.boundary):
        y = TOP + (m - 1 - r) * h + h / 2
        decided = any(c is not None and c["verdict"] in ("helps", "hurts") for c in one.cells[r])
        if line is None:
            continue
        if decided and line["measured"] is not None:
            lines["measured"].append((x(line["measured"], 0), y))
            if line["low"] is not None or line["high"] is not None:
                low, high = x(line["low"], -0.5), x(line["high"], n - 0.5)
                parts.append(f'<path class="bar" d="M{low:.4g} {y:.4g}H{high:.4g}M{low:.4g} {y - 4:.4g}v8M{high:.4g} '
                             f'{y - 4:.4g}v8"/>')
        if line["predicted"] is not None:
            lines["predicted"].append((x(line["predicted"], 0), y))
    for kind, points in lines.items():
        if points:
            parts.append(f'<polyline class="{kind}" points="{" ".join(f"{a:.4g},{b:.4g}" for a, b in points)}"/>')
            parts += [_mark(kind, a, b) for a, b in points]
    return f'<g class="overlay" aria-hidden="true">{"".join(parts)}</g>' if parts else ""


def _mark(kind: str, x: float, y: float) -> str:
    if kind == "measured":
        return f'<circle class="dot" cx="{x:.4g}" cy="{y:.4g}" r="3.4"/>'
    return f'<path class="diamond" d="M{x:.4g} {y - 5:.4g}l5 5l-5 5l-5 -5z"/>'


SHAPES = {"helps": "M0 -7L6.5 5H-6.5Z", "hurts": "M0 7L6.5 -5H-6.5Z", "equivalent": "M-5 -5H5V5H-5Z",
          "undecided": "M0 -6A6 6 0 1 0 0 6A6 6 0 1 0 0 -6Z"}


def _scatter(one: Map, number: int, bound: float, ident: dict[int, int]) -> str:
    """Cells at points of their own: the mark's shape is the verdict. One axis: the difference against it."""
    records, y_axis, width, height = one.records, one.rows, 620.0, 420.0
    left = _left([show(v) for v in y_axis.values] if y_axis and y_axis.words else [""])
    w, h = width - left - SIDE - 16, height - TOP - BOTTOM - 16
    parts = [_open(one, number, width, height, "group"),
             f'<rect class="frame" x="{left:g}" y="{TOP}" width="{w + 16:g}" height="{h + 16:g}"/>']
    across = _Scale(one.columns, [r[f"p_{one.columns.name}"] for r in records])
    heights = ([r[f"p_{y_axis.name}"] for r in records] if y_axis else [r["difference"] or 0.0 for r in records])
    down = _Scale(y_axis, heights)
    parts += [_label(left + 8 + w * across.at(v), TOP + h + 30, show(v)) for v in across.ticks()]
    parts += [_label(left - 6, TOP + 12 + h * (1 - down.at(v)), show(v), "end") for v in down.ticks()]
    if y_axis is None and down.low < 0 < down.high:
        y = TOP + 8 + h * (1 - down.at(0.0))
        parts.append(f'<path class="zero" d="M{left:g} {y:.4g}H{left + w + 16:.4g}"/>')
    parts.append(_zero(one, across, down, left, w, h))
    for record, value in zip(records, heights, strict=True):
        x = left + 8 + w * across.at(record[f"p_{one.columns.name}"])
        y = TOP + 8 + h * (1 - down.at(value))
        fill, _ = colour(record["difference"], bound)
        parts.append(f'<g class="cell" data-i="{ident[record["cell"]]}" transform="translate({x:.4g} {y:.4g})">'
                     f'<path class="box {record["verdict"]}" d="{SHAPES[record["verdict"]]}" fill="{fill}"/></g>')
    parts.append(_axes(one, left, width, TOP + h + 16))
    return "".join([*parts, "</svg>"])


def _zero(one: Map, across: _Scale, down: _Scale, left: float, w: float, h: float) -> str:
    """Where the fitted surface (and its band's ends) change sign along each of its rows: solid; dashed for the ends."""
    if one.rows is None or not one.surface:
        return ""
    x, y = f"p_{one.columns.name}", f"p_{one.rows.name}"
    rows: dict[Any, list[Record]] = {}
    for point in one.surface:
        rows.setdefault(point.get(y), []).append(point)
    parts = []
    for kind, key in (("measured", "mean"), ("edge", "low"), ("edge", "high")):
        points = []
        for value, line in sorted(rows.items()):
            at = _crossing([(p[x], p[key]) for p in line if p[key] is not None])
            if at is not None:
                points.append((left + 8 + w * across.at(at), TOP + 8 + h * (1 - down.at(value))))
        if len(points) > 1:
            parts.append(f'<polyline class="{kind}" points="{" ".join(f"{a:.4g},{b:.4g}" for a, b in points)}"/>')
    return f'<g class="overlay" aria-hidden="true">{"".join(parts)}</g>' if parts else ""


def _crossing(points: list[tuple[float, float]]) -> float | None:
    """The last change of sign along a line of points, linear between them."""
    found = None
    for (a, fa), (b, fb) in zip(sorted(points), sorted(points)[1:], strict=False):
        if (fa > 0) != (fb > 0):
            found = a + (b - a) * fa / (fa - fb)
    return found


class _Scale:
    """Values of an axis (None: differences) as places between 0 and 1."""

    def __init__(self, axis: Axis | None, values: list[Any]) -> None:
        self.words = axis.values if axis is not None and axis.words else None
        self.log = axis is not None and axis.log
        if self.words:
            self.low, self.high = -0.5, len(self.words) - 0.5
            return
        ends = [*values, *(axis.values if axis is not None else (0.0,))]
        self.low, self.high = min(ends), max(ends)

    def at(self, value: Any) -> float:
        value = self.words.index(value) if self.words else value
        scale = math.log if self.log and min(value, self.low) > 0 else float
        wide = scale(self.high) - scale(self.low)
        return (scale(value) - scale(self.low)) / wide if wide else 0.5

    def ticks(self) -> list[Any]:
        """Values to name: words, the ends, and round ones between them."""
        if self.words:
            return list(self.words)
        inner = [self.low + (self.high - self.low) * i / 4 for i in (1, 2, 3)]
        if self.log:
            inner = [self.low * (self.high / self.low) ** (i / 4) for i in (1, 2, 3)]
        found = [self.low, *(float(f"{v:.2g}") for v in inner), self.high]
        return [float(f"{v:.3g}") for v in found]
