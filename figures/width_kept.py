"""What a frozen encoder keeps at 2 to 30 numbers a view: AUC along the width, measured and in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures.style import CEILING, LINES, WIDE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "width-kept"
INPUTS = ("results/width",)
FEW, MANY = 150, 2400
SERIES = {("vicreg", FEW): f"VICReg, {FEW} labels", ("vicreg", MANY): f"VICReg, {MANY}",
          ("jepa", FEW): f"EMA, {FEW}", ("jepa", MANY): f"EMA, {MANY}"}
CLOSED = "closed form of that many canonical pairs"


def numbers(width: Published) -> list[dict[str, Any]]:
    """One record a series, width and w_c: mean and interval; closed forms, and the best possible with all features."""
    from simlab.environments.knobs import spec
    from simlab.limits.finite import frozen
    from simlab.limits.gaussian import moments
    from simlab.limits.liability import auc
    from simlab.limits.oracles import retained
    from simlab.limits.subspace import cca
    from simlab.report.scores import scores

    points = {r["cell"]: (r["p_w_c"], r["p_n_labelled"]) for r in width.verdicts}
    found: list[dict[str, Any]] = []
    for record in scores(width):
        base, _, rest = record["method"].partition("-w")
        w_c, labels = points[record["cell"]]
        if rest.endswith("-frozen") and (base, labels) in SERIES:
            found.append({"w_c": w_c, "series": SERIES[base, labels], "width": int(rest.partition("-")[0]),
                          **{key: record[key] for key in ("mean", "low", "high")}})
    widths = sorted({r["width"] for r in found})
    for w_c in sorted({r["w_c"] for r in found}):
        law = moments(spec(**dict(width.study.knobs), w_c=w_c), "source")
        best = float(auc(retained(law) ** 0.5, law.prevalence_law))
        for k in range(widths[0], widths[-1] + 1):
            curve = frozen(law, cca(law, k), k).curve([FEW, MANY])
            found += [{"w_c": w_c, "series": f"closed, {n}", "width": k, "mean": float(v)}
                      for n, v in zip((FEW, MANY), curve, strict=True)]
        found += [{"w_c": w_c, "series": "best possible", "width": k, "mean": best} for k in (widths[0], widths[-1])]
    return found


def draw(data: Data) -> Figure:
    """One panel a share of shared signal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, 2.5), layout="constrained")
    shares = sorted({r["w_c"] for r in data.numbers})
    ticks = sorted({r["width"] for r in data.numbers if r["series"] in SERIES.values()})
    handles: dict[str, Any] = {}
    for axes, w_c in zip(figure.subplots(1, len(shares), sharey=True), shares, strict=True):
        mine = [r for r in data.numbers if r["w_c"] == w_c]

        def line(series: str, mine: list[dict[str, Any]] = mine) -> tuple[list[int], list[dict[str, Any]]]:
            found = sorted((r for r in mine if r["series"] == series), key=lambda r: r["width"])
            return [r["width"] for r in found], found

        for series, (colour, dash, mark) in zip(SERIES.values(), LINES, strict=False):
            at, found = line(series)
            handles[series], = axes.plot(at, [r["mean"] for r in found], color=colour, linestyle=dash, marker=mark,
                                         markersize=3, zorder=4)
            axes.fill_between(at, [r["low"] for r in found], [r["high"] for r in found], color=colour, alpha=0.18,
                              linewidth=0)
        for n in (FEW, MANY):
            at, found = line(f"closed, {n}")
            handles[CLOSED], = axes.plot(at, [r["mean"] for r in found], color="#222222", linewidth=0.8,
                                         linestyle=":", zorder=5)
        at, found = line("best possible")
        handles["best possible"], = axes.plot(at, [r["mean"] for r in found], zorder=3, **CEILING)
        axes.set_title(f"w_c = {w_c:g}", loc="left")
        axes.set_xscale("log")
        axes.set_xticks(ticks, [str(t) for t in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("numbers a view")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("AUC, frozen encoder")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False,
                  handlelength=2.6, columnspacing=1.2)
    return figure
