"""What each knob does to the data and to the limits: one sheet a group of knobs, beside them in the docs.

    python -m figures knobs-measurement          one sheet
    python -m figures.knobs [SHEET ...] [--out DIR]

Draws docs/pictures/knobs-SHEET.png (of the docs: PNG alone) from small samples and from `simlab.limits`;
`figures.knob_table` says which knob is seen how. Some minutes for all: mixtures and products take integrals.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures.knob_table import SHEETS, Picture
from figures.knob_views import VIEWS
from simlab.errors import Parser, command, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from figures.catalog import Data

INPUTS = ()
FIGURES = {f"knobs-{name}": name for name in SHEETS}
FOLDER, KINDS, DPI, SHADES = "docs/pictures", ("png",), 110, 96
STYLE = {"font.size": 6.5, "axes.titlesize": 7.5, "axes.linewidth": 0.5, "font.sans-serif": ["DejaVu Sans"],
         "xtick.major.width": 0.5, "ytick.major.width": 0.5, "xtick.major.size": 2, "ytick.major.size": 2}
LOW, HIGH = "#0072B2", "#D55E00"
LINES = {"both views": ("#000000", "-"), "image": ("#D55E00", "--"), "record": ("#0072B2", ":"),
         "cross-modal": ("#009E73", "-."), "source's rule": ("#888888", (0, (4, 1))),
         "a token mask keeps": ("#CC79A7", "-."), "n labels": ("#888888", (0, (4, 1)))}
POINTS, FEW, SAMPLE = 31, 7, 4000  # values of a sweep where limits are closed forms, and where they are not


def main(argv: list[str] | None = None) -> int:
    """Draw the sheets; returns the exit status. Raises UnknownName for a sheet that does not exist."""
    from figures import catalog, files

    parser = Parser(prog="python -m figures.knobs", description=__doc__.splitlines()[0])
    parser.add_argument("sheets", metavar="SHEET", nargs="*", help=f"{', '.join(SHEETS)} (default: all)")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path(FOLDER),
                        help="where to write (default: %(default)s)")
    args = parser.parse_args(argv)
    for name in args.sheets:
        if name not in SHEETS:
            raise unknown("sheet", name, list(SHEETS))
    for script in catalog.chosen([f"knobs-{name}" for name in args.sheets or SHEETS], catalog.root()):
        files.draw(script, catalog.root(), args.out)
    return 0


def draw(data: Data) -> Figure:
    """One sheet: two knobs a row, of each the data at two values and the limits in between."""
    from matplotlib.figure import Figure

    from simlab.environments.registry import find_world

    world, title, pictures = SHEETS[data.inputs[0]]
    knobs = {k.symbol: k for k in find_world(world).knobs}
    rows = -(-len(pictures) // 2)
    figure = Figure(figsize=(8.2, 1.45 * rows + 0.45), layout="constrained")
    axes = figure.subplots(rows, 4, squeeze=False)
    handles: dict[str, Any] = {}
    for i, picture in enumerate(pictures):
        sample, limit = axes[i // 2][2 * (i % 2)], axes[i // 2][2 * (i % 2) + 1]
        knob = knobs[picture.symbol]
        show_data(sample, picture, world, knob.stage == "target")
        low, high = (_said(value) for value in (picture.low, picture.high))
        sample.set_title(f"{picture.symbol} = {low} (blue), {high} (orange)", loc="left")
        handles |= show_limits(limit, picture, world, knob)
    for blank in axes.ravel()[2 * len(pictures):]:
        blank.set_axis_off()
    for one in axes.ravel():
        one.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{title}: data (left), AUC (right; dots: sampled labels)", fontsize=8)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _said(value: object) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


# ------------------------------------------------------------------------------------------------------------ the data


def build(picture: Picture, world: str, value: object) -> Any:
    """The specification with the knob at a value, and what must be set beside it."""
    from simlab.environments.registry import find_world

    seed = {"map_seed": 5} if picture.symbol != "map_seed" else {}
    beside = {} if value == "none" and picture.symbol == "shortcut" else picture.beside  # no shortcut, no strength
    return find_world(world).spec(**{**seed, **beside, picture.symbol: value})


def show_data(axes: Axes, picture: Picture, world: str, outside: bool) -> None:
    """What the two values do to a small sample."""
    from simlab.environments.scenario import sample_cohort

    stage, domain = ("external-data", "external") if outside else (picture.stage, "source")
    for value, colour, side in ((picture.low, LOW, 0), (picture.high, HIGH, 1)):
        spec = build(picture, world, value)
        cohort = sample_cohort(spec, stage, SAMPLE, 11, 0, domain, world=world)
        VIEWS[picture.view](axes, picture, cohort, spec, colour, side)


# ---------------------------------------------------------------------------------------------------------- the limits


def show_limits(axes: Axes, picture: Picture, world: str, knob: Any) -> dict[str, Any]:
    """Limits over the knob's sweep range (or its words), and AUCs on sampled labels at the two values."""
    import numpy as np

    outside = knob.stage == "target"
    ends = [build(picture, world, value) for value in (picture.low, picture.high)]
    values = sweep(knob, picture, world == "gaussian" and all(spec.gaussian for spec in ends))
    rows = [limits_at(picture, world, value, outside) for value in values]
    words = isinstance(values[0], str)
    x = np.arange(len(values)) if words else values
    handles = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        colour, dash = LINES[name]
        y = [np.nan if row.get(name) is None else row[name] for row in rows]
        handles[name], = axes.plot(x, y, color=colour, linestyle=dash, linewidth=1, marker="." if words else None,
                                   markersize=3)
    for value, colour in ((picture.low, LOW), (picture.high, HIGH)):
        area, se = sampled(picture, world, value, outside)
        place = values.index(value) if words else value
        axes.errorbar(place, area, 2 * se, color=colour, marker="o", markersize=2.5, linewidth=0.8, capsize=1.5)
    if knob.scale == "log" and not words:
        axes.set_xscale("log")
        middle = np.sqrt(values[0] * values[-1])
        axes.set_xticks([values[0], middle, values[-1]], [f"{v:.2g}" for v in (values[0], middle, values[-1])])
        axes.minorticks_off()
    if words:
        axes.set_xticks(x, values, rotation=15)
        axes.margins(x=0.2)
    axes.set_ylim(min(0.48, axes.get_ylim()[0]), 1.0)
    axes.set_xlabel(f"{picture.symbol}{' (outside)' if outside else ''}", labelpad=1)
    return handles


def sweep(knob: Any, picture: Picture, exact: bool) -> list[Any]:
    """Values over the sweep range, the picture's two among them; the words of a choice."""
    import numpy as np

    if knob.scale == "choice":
        return list(knob.domain.words)
    if knob.sweep is None:
        return [picture.low, picture.high]
    low, high = knob.sweep
    if picture.symbol.startswith("rho_s"):
        high = min(high, 0.6)
    n = POINTS if exact else FEW
    points = np.geomspace(low, high, n) if knob.scale == "log" else np.linspace(low, high, n)
    found = sorted({float(v) for v in points} | {float(picture.low), float(picture.high)})
    return sorted({round(v) for v in found}) if knob.domain.whole else found


def limits_at(picture: Picture, world: str, value: object, outside: bool) -> dict[str, float | None]:
    """The limits that a panel shows at one value; None where knobs cannot be had together."""
    from simlab.errors import OutOfDomain

    try:
        spec = build(picture, world, value)
    except OutOfDomain:
        return {"both views": None}
    if world == "longitudinal":
        from simlab.limits.simulated import bayes, source_rule

        domain = "external" if outside else "source"
        found = {name: bayes(spec, domain, view, SAMPLE).value for name, view in _NAMES.items()}
        return {**found, "source's rule": source_rule(spec, "full", SAMPLE).value} if outside else found
    return _one_visit(picture, spec, outside)


_NAMES = {"both views": "full", "image": "image", "record": "clinical"}


def _one_visit(picture: Picture, spec: Any, outside: bool) -> dict[str, float | None]:
    from simlab.environments.gaussian import limit
    from simlab.limits import finite, tokens
    from simlab.limits.gaussian import moments
    from simlab.limits.places import oracles_of
    from simlab.limits.subspace import cca

    if picture.symbol == "alpha_lat":
        return {"both views": limit(spec, "source", "full")}
    source, target = moments(spec, "source"), moments(spec, "external")
    spans = {"cross_modal": cca(source, spec.d_c)} if spec.gaussian else {}
    found = oracles_of(spec, source, target, spans)
    place = "external" if outside else "internal"
    out: dict[str, float | None] = {name: getattr(found[view], place) for name, view in _NAMES.items()}
    out["cross-modal"] = getattr(found["cross_modal"], place) if spans else None
    if outside:
        out["source's rule"] = found["full"].source_bayes_external
    if picture.masks:
        out["a token mask keeps"] = tokens.kept(spec, "both", spec.d_c + spec.d_u).auc[0]
    if picture.symbol in ("n_lab", "flip"):
        made = finite.predict(finite.methods(spec, source, spec.d_c), (spec.n_lab,))
        out["n labels"] = made["supervised_tuned"][0]
    return out


def sampled(picture: Picture, world: str, value: object, outside: bool) -> tuple[float, float]:
    """AUC on sampled labels of the exact risk given all that is shown, and its standard error."""
    from simlab.environments.scenario import sample_cohort
    from simlab.evaluation.auc import label_auc

    stage, domain = ("external-data", "external") if outside else ("test-data", "source")
    cohort = sample_cohort(build(picture, world, value), stage, SAMPLE, 12, 0, domain, world=world)
    area = label_auc(cohort.risk["outcome"], cohort.labels["outcome"])
    return area.value, area.se


if __name__ == "__main__":
    sys.exit(command(main))
