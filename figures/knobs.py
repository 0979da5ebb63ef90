"""What each knob does to the data and to the limits: one sheet a group of knobs, beside them in the docs.

    python -m figures.knobs [SHEET ...] [--out DIR]

Draws docs/pictures/knobs-SHEET.png from small samples and from `simlab.limits`; `figures.knob_table` says which knob is
seen how. Some minutes for all: mixtures and products take integrals.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures.knob_table import SHEETS, Picture
from simlab.errors import Parser, command, unknown

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

LOW, HIGH = "#0072B2", "#D55E00"
LINES = {"both views": ("#000000", "-"), "image": ("#D55E00", "--"), "record": ("#0072B2", ":"),
         "cross-modal": ("#009E73", "-."), "source's rule": ("#888888", (0, (4, 1))),
         "a token mask keeps": ("#CC79A7", "-."), "n labels": ("#888888", (0, (4, 1)))}
POINTS, FEW, SAMPLE = 31, 7, 4000  # values of a sweep where limits are closed forms, and where they are not


def main(argv: list[str] | None = None) -> int:
    """Draw the sheets; returns the exit status. Raises UnknownName for a sheet that does not exist."""
    parser = Parser(prog="python -m figures.knobs", description=__doc__.splitlines()[0])
    parser.add_argument("sheets", metavar="SHEET", nargs="*", help=f"{', '.join(SHEETS)} (default: all)")
    parser.add_argument("--out", metavar="DIR", default="docs/pictures", help="where to write (default: %(default)s)")
    args = parser.parse_args(argv)
    for name in args.sheets:
        if name not in SHEETS:
            raise unknown("sheet", name, list(SHEETS))
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    for name in args.sheets or SHEETS:
        sheet(name, folder / f"knobs-{name}.png")
    return 0


def sheet(name: str, path: Path) -> None:
    """One sheet: two knobs a row, of each the data at two values and the limits in between."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from simlab.environments.registry import find_world

    world, title, pictures = SHEETS[name]
    knobs = {k.symbol: k for k in find_world(world).knobs}
    rows = -(-len(pictures) // 2)
    style = {"font.size": 6.5, "axes.titlesize": 7.5, "axes.linewidth": 0.5, "font.sans-serif": ["DejaVu Sans"],
             "xtick.major.width": 0.5, "ytick.major.width": 0.5, "xtick.major.size": 2, "ytick.major.size": 2}
    with mpl.rc_context(style):
        figure = Figure(figsize=(8.2, 1.45 * rows + 0.45), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, 4, squeeze=False)
        handles: dict[str, Any] = {}
        for i, picture in enumerate(pictures):
            data, limit = axes[i // 2][2 * (i % 2)], axes[i // 2][2 * (i % 2) + 1]
            knob = knobs[picture.symbol]
            show_data(data, picture, world, knob.stage == "target")
            data.set_title(f"{picture.symbol} = {_said(picture.low)} (blue), {_said(picture.high)} (orange)", loc="left")
            handles |= show_limits(limit, picture, world, knob)
        for blank in axes.ravel()[2 * len(pictures):]:
            blank.set_axis_off()
        for one in axes.ravel():
            one.spines[["top", "right"]].set_visible(False)
        figure.suptitle(f"{title}: data (left), AUC (right; dots: sampled labels)", fontsize=8)
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
        save(figure, path)


def save(figure: Any, path: Path) -> None:
    """A PNG of few colours, a third of the size, for a picture that lies in the repository."""
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    with Image.open(buffer) as image:
        image.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)


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


def readings(cohort: Any, spec: Any, domain: str) -> dict[str, Callable[[], np.ndarray]]:
    """What scatters and histograms may show, by name: true factors along beta, and what the views show of them."""
    import numpy as np

    from simlab.environments.gaussian import maps
    from simlab.limits.gaussian import blocks, site_effects

    at, f = blocks(spec), cohort.factors
    x = {view: cohort.streams[view].values.reshape(len(cohort), -1) for view in ("image", "clinical")}

    def z() -> np.ndarray:
        return np.hstack([g.inverse(x[view]) for g, view in zip(maps(spec), x, strict=True)])

    def along(values: np.ndarray) -> np.ndarray:
        return values.sum(axis=1) / np.sqrt(values.shape[1])

    def effect() -> np.ndarray:
        place = np.array([int(s.rpartition("-")[2]) if "-" in s else 0 for s in cohort.site])
        return site_effects(spec, domain)[place] + np.random.default_rng(0).normal(0, 0.06, len(cohort))

    return {
        "c": lambda: along(f["c"]), "u": lambda: along(f["u"]), "v": lambda: along(f["v"]),
        "first of c": lambda: f["c"][:, 0], "liability": lambda: f["liability"], "shortcut": lambda: f["shortcut"][:, 0],
        "c in image": lambda: along(z()[:, at["c_image"]]), "c in record": lambda: along(z()[:, at["c_clinical"]]),
        "u in image": lambda: along(z()[:, at["u"]]), "v in record": lambda: along(z()[:, at["v"]]),
        "g in image": lambda: z()[:, at["g_image"]][:, 0], "g in record": lambda: z()[:, at["g_clinical"]][:, 0],
        "error in image": lambda: along(z()[:, at["c_image"]]) - along(f["c"]),
        "error in record": lambda: along(z()[:, at["c_clinical"]]) - along(f["c_clinical"]),
        "feature 1": lambda: x["image"][:, 0], "feature 2": lambda: x["image"][:, 1],
        "last of image": lambda: z()[:, at["image"]][:, -1], "site effect": effect,
        "product u1 v1": lambda: f["u"][:, 0] * f["v"][:, 0],
    }


def _domain(cohort: Any) -> str:
    return str(cohort.provenance["domain"])


def _scatter(axes: Axes, picture: Picture, cohort: Any, spec: Any, colour: str, side: int) -> None:
    found = readings(cohort, spec, _domain(cohort))
    one, two = (found[name]()[:220] for name in picture.args)
    axes.plot(one, two, "o" if side else "x", color=colour, markersize=2.2, markeredgewidth=0.5, alpha=0.7,
              markerfacecolor="none")
    axes.set_xlabel(picture.args[0], labelpad=1)
    axes.set_ylabel(picture.args[1], labelpad=1)


def _hist(axes: Axes, picture: Picture, cohort: Any, spec: Any, colour: str, side: int) -> None:
    values = readings(cohort, spec, _domain(cohort))[picture.args[0]]()
    axes.hist(values, bins=60, range=(-6, 7), density=True, histtype="step", color=colour, linestyle="-" if side else
              "--")
    axes.set_xlabel(picture.args[0], labelpad=1)
    axes.set_yticks([])


def _labels(axes: Axes, picture: Picture, cohort: Any, spec: Any, colour: str, side: int) -> None:
    """Liabilities of the records that are labelled positive, as a part of all."""
    level, y = cohort.factors["liability"], cohort.labels["outcome"] == 1
    axes.hist(level, bins=60, range=(-4, 4), histtype="step", color=colour, alpha=0.4, linestyle="-" if side else "--")
    axes.hist(level[y], bins=60, range=(-4, 4), histtype="step", color=colour, linewidth=1.3, linestyle="-" if side else
              "--")
    axes.set_xlabel("liability (bold: labelled positive)", labelpad=1)
    axes.set_yticks([])


def _coordinates(cohort: Any, spec: Any) -> np.ndarray:
    import numpy as np

    from simlab.environments.gaussian import maps

    x = [cohort.streams[view].values.reshape(len(cohort), -1) for view in ("image", "clinical")]
    return np.hstack([g.inverse(part) for g, part in zip(maps(spec), x, strict=True)])


def _profile(axes: Axes, picture: Picture, cohort: Any, spec: Any, colour: str, side: int) -> None:
    import numpy as np

    z, level = _coordinates(cohort, spec), cohort.factors["liability"]
    r = (z - z.mean(0)).T @ (level - level.mean()) / len(z) / (z.std(0) * level.std() + 1e-12)
    axes.step(np.arange(len(r)), np.abs(r), where="mid", color=colour, linewidth=0.8, linestyle="-" if side else "--")
    axes.axvline(spec.p_image - 0.5, color=colour, linewidth=0.5, alpha=0.5)
    axes.set_xlabel("measured coordinate: image | record", labelpad=1)
    axes.set_ylabel("|corr| with l", labelpad=1)


def _spread(axes: Axes, picture: Picture, cohort: Any, spec: Any, colour: str, side: int) -> None:
    import numpy as np

    z = _coordinates(cohort, spec)
    axes.step(np.arange(z.shape[1]), z.std(0), where="mid", color=colour, linewidth=0.9, linestyle="-" if side else "--")
    axes.set_xlabel("measured coordinate: image | record", labelpad=1)
    axes.set_ylabel("sd", labelpad=1)


def _spectrum(axes: Axes, picture: Picture, cohort: Any, spec: Any, colour: str, side: int) -> None:
    import numpy as np

    values = np.linalg.eigvalsh(np.cov(cohort.streams["image"].values[:, 0].T))[::-1]
    axes.semilogy(np.arange(1, len(values) + 1), values, color=colour, linewidth=1, linestyle="-" if side else "--")
    axes.set_xlabel("eigenvalue of the image's features", labelpad=1)


def _tokens(axes: Axes, picture: Picture, cohort: Any, spec: Any, colour: str, side: int) -> None:
    """The largest correlation of each token's coordinates with a factor."""
    import numpy as np

    from simlab.environments.gaussian import maps

    factor = picture.args[0]
    view = "clinical" if factor == "v" else "image"
    truth = {"g": "g_image"}.get(factor, factor)
    x = cohort.streams[view].values
    x = x.reshape(len(x), -1, x.shape[-1]) if x.ndim == 4 else x.reshape(len(x), 1, -1)
    z = maps(spec)[view == "clinical"].inverse(x.reshape(-1, x.shape[-1])).reshape(x.shape)
    f = cohort.factors[truth]
    z, f = (z - z.mean(0)) / z.std(0), (f - f.mean(0)) / f.std(0)
    best = np.abs(np.einsum("ntp,nd->tpd", z, f) / len(z)).max(axis=(1, 2))
    axes.bar(np.linspace(0, 1, len(best), endpoint=False) + 0.5 / len(best) * side, best, width=0.45 / len(best),
             color=colour, align="edge")
    axes.set_xlabel(f"tokens of the {'record' if view == 'clinical' else view} ({picture.low} | {picture.high})"
                    if picture.symbol == "n_tok" else f"tokens of the {'record' if view == 'clinical' else view}",
                    labelpad=1)
    axes.set_xticks([])
    axes.set_ylabel(f"|corr| with {factor}", labelpad=1)


def _records(axes: Axes, picture: Picture, cohort: Any, spec: Any, colour: str, side: int) -> None:
    import numpy as np

    n = int(picture.high if side else picture.low)
    found = readings(cohort, spec, _domain(cohort))
    y, x = found["c in record"]()[: max(n // 10, 3)], found["c in image"]()[: max(n // 10, 3)]
    axes.plot(x, y, "o" if side else "x", color=colour, markersize=1.5 if side else 3, alpha=0.4 if side else 1.0,
              markeredgewidth=0.5, markerfacecolor="none", zorder=1 if side else 2)
    axes.set_xlabel("c in image (a tenth of the records)", labelpad=1)
    axes.set_ylabel("c in record", labelpad=1)
    assert np.isfinite(x).all()


def _path(axes: Axes, picture: Picture, cohort: Any, spec: Any, colour: str, side: int) -> None:
    x, time = cohort.factors[picture.args[0]][:3, :, 0], cohort.streams["image"].time[:3]
    for one, t in zip(x, time, strict=True):
        axes.plot(t, one, "-o" if side else "--x", color=colour, markersize=2, linewidth=0.7)
    axes.set_xlabel("years", labelpad=1)
    axes.set_ylabel(picture.args[0], labelpad=1)


def _raster(axes: Axes, picture: Picture, cohort: Any, spec: Any, colour: str, side: int) -> None:
    """Visits of 24 records, the most ill on top."""
    import numpy as np

    level, time = cohort.factors["liability"][:24], cohort.streams["image"].time[:24]
    for row, i in enumerate(np.argsort(level)):
        t = time[i, : cohort.length[i]]
        axes.plot(t, np.full(len(t), row + 0.45 * side), "o" if side else "x", color=colour, markersize=1.6,
                  markeredgewidth=0.5)
    axes.set_xlabel("years (24 records, the most ill on top)", labelpad=1)
    axes.set_yticks([])


def _gaps(axes: Axes, picture: Picture, cohort: Any, spec: Any, colour: str, side: int) -> None:
    import numpy as np

    level, seen = cohort.factors["liability"], cohort.streams[picture.args[0]].observed[..., 0]
    gone = 1 - seen.sum(1) / cohort.length
    tenths = np.array_split(np.argsort(level), 10)
    axes.plot([level[t].mean() for t in tenths], [gone[t].mean() for t in tenths], "-o" if side else "--x",
              color=colour, markersize=2.5, linewidth=0.8)
    axes.set_ylim(0, 1)
    axes.set_xlabel("liability", labelpad=1)
    axes.set_ylabel("record missing", labelpad=1)


def _shown(axes: Axes, picture: Picture, cohort: Any, spec: Any, colour: str, side: int) -> None:
    stream = cohort.streams[picture.args[0]]
    values = stream.values[..., 0][stream.observed[..., 0]]
    axes.hist(values, bins=61, range=(-3, 3), histtype="step", color=colour, linestyle="-" if side else "--")
    axes.set_xlabel("values that count as observed", labelpad=1)
    axes.set_yticks([])


VIEWS = {"scatter": _scatter, "hist": _hist, "labels": _labels, "profile": _profile, "spread": _spread,
         "spectrum": _spectrum, "tokens": _tokens, "records": _records, "path": _path, "raster": _raster, "gaps": _gaps,
         "shown": _shown}


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
