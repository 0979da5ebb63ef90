"""A figure's files: PDF, PNG and the plotted numbers as CSV, each with a record of what it was drawn from.

The same figure gives the same bytes. The record is a PNG text chunk, the PDF's Subject, the CSV's first line (a
comment: `pandas.read_csv(path, comment="#")`).
"""

from __future__ import annotations

import csv
import io
import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures.catalog import DPI, Data, Script
from simlab.errors import SimlabError
from simlab.files import write_aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = dict[str, Any]
KEY = "simlab"


def draw(script: Script, root: Path, out: Path | None = None) -> list[Path]:
    """Draw one figure and write its files, each aside and moved into place. Raises SimlabError."""
    import matplotlib as mpl

    from figures.style import STYLE

    record, folder = json.dumps(script.record(root), sort_keys=True), out or root / script.folder
    data = script.data(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimlabError(f"cannot make the folder {folder}: {error.strerror}; give another --out.") from error
    with mpl.rc_context(getattr(script.module, "STYLE", STYLE)):
        figure = script.module.draw(data)
        _lay_out(figure, getattr(script.module, "DPI", DPI))
        contents = {kind: partial(WRITERS[kind], figure, data, script, record) for kind in script.kinds}
        paths = [folder / f"{script.name}.{kind}" for kind in script.kinds]
        for path, fill in zip(paths, contents.values(), strict=True):
            write_aside(path, fill)
    return paths


def _lay_out(figure: Figure, dpi: int) -> None:
    """Settle where things lie, once for all files."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _pdf(figure: Figure, _: Data, script: Script, record: str, file: io.BytesIO) -> None:
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    told = {"Title": script.name, "Subject": record, "Creator": "simlab", "Producer": None, "CreationDate": None}
    FigureCanvasPdf(figure).print_figure(file, format="pdf", metadata=told)


def _png(figure: Figure, _: Data, script: Script, record: str, file: io.BytesIO) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    buffer, told, dpi = io.BytesIO(), PngInfo(), getattr(script.module, "DPI", DPI)
    FigureCanvasAgg(figure).print_figure(buffer, format="png", dpi=dpi)
    told.add_text(KEY, record)
    with Image.open(buffer) as image:
        plain, shades = image.convert("RGB"), getattr(script.module, "SHADES", None)
        kept = plain.quantize(shades, dither=Image.Dither.NONE) if shades else plain  # few colours: a third of the size
        kept.save(file, format="png", optimize=bool(shades), pnginfo=told, dpi=(dpi, dpi))


def _csv(figure: Figure, data: Data, _: Script, record: str, file: io.BytesIO) -> None:
    rows = data.numbers or plotted(figure)
    text = io.StringIO()
    text.write(f"# {KEY}: {record}\n")
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _shown(value) for key, value in row.items()} for row in rows)
    file.write(text.getvalue().encode())


WRITERS = {"pdf": _pdf, "png": _png, "csv": _csv}


def _shown(value: Any) -> Any:
    """A number with nine digits (bits beyond them are of the machine), nothing for a missing one."""
    if value is None or value != value:
        return ""
    return f"{value:.9g}" if isinstance(value, float) else value


def plotted(figure: Figure) -> list[Record]:
    """The numbers that a figure shows, read from its lines, marks, bars and images: one record a point."""
    found: list[Record] = []
    for i, axes in enumerate(figure.axes):
        panel = axes.get_title() or axes.get_title(loc="left") or axes.get_ylabel() or str(i)
        found += [{"panel": panel, **record} for record in _of_axes(axes)]
    return found


def _of_axes(axes: Axes) -> list[Record]:
    import numpy as np
    from matplotlib.patches import Rectangle

    found: list[Record] = []
    for i, line in enumerate(axes.lines):
        found += [{"series": _name(line, f"line {i}"), "x": x, "y": y}
                  for x, y in zip(*map(_listed, (line.get_xdata(), line.get_ydata())), strict=True)]
    for i, marks in enumerate(axes.collections):
        values = marks.get_array()
        offsets = np.ma.filled(marks.get_offsets(), np.nan)
        if len(offsets) and values is not None and values.size == len(offsets):
            found += [{"series": _name(marks, f"marks {i}"), "x": x, "y": y, "value": v} for (x, y), v in
                      zip(offsets.tolist(), _listed(values), strict=True)]
        elif len(offsets) > 1:
            found += [{"series": _name(marks, f"marks {i}"), "x": x, "y": y} for x, y in offsets.tolist()]
    for i, bar in enumerate(patch for patch in axes.patches if isinstance(patch, Rectangle)):
        middle, top = bar.get_x() + bar.get_width() / 2, bar.get_height()
        found.append({"series": f"bar {i}", "x": float(middle), "y": float(top)})
    for i, image in enumerate(axes.images):
        pixels = np.asarray(image.get_array(), dtype=float)
        found += [{"series": f"image {i}", "x": x, "y": y, "value": float(f"{pixels[y, x]:.4g}")}
                  for y in range(pixels.shape[0]) for x in range(pixels.shape[1]) if pixels.ndim == 2]
    return found


def _listed(values: Any) -> list[Any]:
    import numpy as np

    return np.ravel(np.ma.filled(np.ma.asarray(values, dtype=object), np.nan)).tolist()


def _name(artist: Any, otherwise: str) -> str:
    label = str(artist.get_label())
    return otherwise if label.startswith("_") or not label else label


def state(script: Script, root: Path, out: Path | None = None) -> str:
    """"current", or why not: "no data", "not drawn", "stale: the data changed", "... the script changed", ..."""
    try:
        now = script.record(root)
    except SimlabError as error:
        return f"no data: {error}"
    for kind in script.kinds:
        path = (out or root / script.folder) / f"{script.name}.{kind}"
        if not path.is_file():
            return "not drawn" if kind == script.kinds[0] else f"stale: {path.name} is missing"
        there = embedded(path)
        if there is None or there.get("figure") != script.name:
            return f"stale: {path.name} holds no record of what it was drawn from"
        changed = [key for key in ("data", "script") if there.get(key) != now[key]]
        if changed:
            return f"stale: the {' and the '.join(changed)} changed since {path.name} was drawn"
    return "current"


def embedded(path: Path) -> Record | None:
    """The record in a figure's file, or None where there is none that can be read."""
    try:
        text = READERS[path.suffix[1:]](path)
        found = json.loads(text) if text else None
    except (OSError, ValueError, SyntaxError):  # PIL raises SyntaxError for a broken PNG
        return None
    return found if isinstance(found, dict) else None


def _in_pdf(path: Path) -> str | None:
    match = re.search(rb"/Subject \(((?:[^()\\]|\\.)*)\)", path.read_bytes())
    return match[1].decode("latin-1") if match else None


def _in_png(path: Path) -> str | None:
    from PIL import Image

    with Image.open(path) as image:
        return image.text.get(KEY)


def _in_csv(path: Path) -> str | None:
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    return first.removeprefix(f"# {KEY}: ") if first.startswith(f"# {KEY}: ") else None


READERS = {"pdf": _in_pdf, "png": _in_png, "csv": _in_csv}
