"""What a frozen encoder keeps: at the width of the shared causes, and four times as wide with an MLP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures.style import CEILING, LINES, WIDE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "shared-signal-encoders"
INPUTS = ("results/shared-signal", "results/shared-signal-wide")
LABELS = 2400
TOKENS = {"data2vec-modality-frozen-ridge": "tokens, EMA: modality masked", "data2vec-frozen-ridge":
          "tokens, EMA: tokens masked", "data2vec-both-frozen-ridge": "tokens, EMA: either"}
ARMS = {"vicreg-frozen": "cross-modal, VICReg", "jepa-frozen": "cross-modal, EMA", **TOKENS}
PANELS = ("linear, 4 numbers a view", "MLP, 16 numbers a view")
CLOSED = {"CCA-4": (4, ":"), "CCA-16": (16, "--")}


def numbers(narrow: Published, wide: Published) -> list[dict[str, Any]]:
    """One record an arm and w_c: mean and interval at 2400 labels; closed forms and the best possible beside them."""
    from simlab.report.scores import scores

    found: list[dict[str, Any]] = []
    for panel, published in zip(PANELS, (narrow, wide), strict=True):
        points = {r["cell"]: (r["p_w_c"], r["p_n_labelled"]) for r in published.verdicts}
        mine = [(points[r["cell"]][0], r) for r in scores(published)
                if r["method"] in ARMS and points[r["cell"]][1] == LABELS]
        found += [{"panel": panel, "series": ARMS[r["method"]], "w_c": w_c,
                   **{key: r[key] for key in ("mean", "low", "high")}} for w_c, r in mine]
        shares = sorted({w_c for w_c, _ in mine})
        found += [{"panel": panel, "series": name, "w_c": w_c, "mean": value} for name, w_c, value in
                  _closed(dict(published.study.knobs), shares)]
    return found


def _closed(knobs: dict[str, Any], shares: list[float]) -> list[tuple[str, float, float]]:
    """Closed forms of a discriminant on k canonical pairs at 2400 labels, and the limit of all features."""
    from simlab.environments.knobs import spec
    from simlab.limits.finite import frozen
    from simlab.limits.gaussian import moments
    from simlab.limits.liability import auc
    from simlab.limits.oracles import retained
    from simlab.limits.subspace import cca

    found = []
    for w_c in shares:
        law = moments(spec(**knobs, w_c=w_c), "source")
        for name, (k, _) in CLOSED.items():
            found.append((name, w_c, float(frozen(law, cca(law, k), k).curve([LABELS])[0])))
        found.append(("best possible", w_c, float(auc(retained(law) ** 0.5, law.prevalence_law))))
    return found


def draw(data: Data) -> Figure:
    """Two panels: the AUC at 2400 labels along the shared share."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, 2.9), layout="constrained")
    handles: dict[str, Any] = {}
    for axes, panel in zip(figure.subplots(1, 2, sharey=True), PANELS, strict=True):
        mine = [r for r in data.numbers if r["panel"] == panel]
        for (series, style) in zip(ARMS.values(), LINES, strict=False):
            line = [r for r in mine if r["series"] == series]
            colour, dash, mark = style
            at, mean = [r["w_c"] for r in line], [r["mean"] for r in line]
            handles[series], = axes.plot(at, mean, color=colour, linestyle=dash, marker=mark, markersize=3, zorder=4)
            axes.fill_between(at, [r["low"] for r in line], [r["high"] for r in line], color=colour, alpha=0.18,
                              linewidth=0)
        for name, dash in [(name, dash) for name, (_, dash) in CLOSED.items()] + [("best possible", None)]:
            line = [r for r in mine if r["series"] == name]
            style = CEILING if dash is None else {"color": "#222222", "linewidth": 1.0, "linestyle": dash}
            label = name if dash is None else f"closed form, {name}"
            handles[label], = axes.plot([r["w_c"] for r in line], [r["mean"] for r in line], zorder=5, **style)
        axes.set_title(panel, loc="left")
        axes.set_xlabel("w_c: share of the signal that both views show")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel(f"AUC, frozen, {LABELS} labels")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False,
                  handlelength=2.6, columnspacing=1.2)
    return figure
