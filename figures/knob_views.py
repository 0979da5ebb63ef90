"""The data side of `figures.knobs`: a small sample of a world as scatter, histogram, profile, path or raster.

Each view draws one of the two values of a knob (side 0 or 1, its colour) on the same axes. Imports no array module
until it draws.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from figures.knob_table import Picture

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes


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
        "first of c": lambda: f["c"][:, 0], "liability": lambda: f["liability"],
        "shortcut": lambda: f["shortcut"][:, 0],
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
    axes.step(np.arange(z.shape[1]), z.std(0), where="mid", color=colour, linewidth=0.9,
              linestyle="-" if side else "--")
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
