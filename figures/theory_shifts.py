"""Three kinds of shift on closed forms alone (docs/theory.md, 15): proxy decoupling, pure coupling, label shift.

    python -m figures theory_shifts

CSV columns: panel, curve, x, y. Takes seconds; draws no record.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from figures.style import WIDE
from simlab.errors import command

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data

INPUTS = ()
Curves = dict[str, dict[str, list[tuple[float, float]]]]
PROXY = {"w_c": 0.6, "w_u": 0.3, "w_v": 0.1, "rel_ci": 0.4, "rel_cc": 0.9}
COUPLED = {"w_c": 0.6, "rel_ci": 0.5, "rel_cc": 0.5}
LABELS = {"w_c": 0.6}
PANELS = {"proxy decoupling": "kappa_e: coupling outside (1 inside)",
          "pure coupling": "eta_e: error correlation outside (0 inside)",
          "label shift": "K_e: prevalence outside (.3 inside)"}
STYLES = {"both views": ("#000000", "-"), "cross-modal": ("#0072B2", "-"), "image": ("#D55E00", "--"),
          "limit": ("#888888", ":"), "classes resampled": ("#000000", "-"), "calibration error": ("#0072B2", "-."),
          "threshold moved": ("#D55E00", "--")}


def main(argv: list[str] | None = None) -> int:
    """Draw the figure; returns the exit status."""
    from figures.__main__ import single

    return single("theory_shifts", argv)


def numbers() -> list[dict[str, Any]]:
    """Every point of every curve."""
    return [{"panel": panel, "curve": name, "x": x, "y": y} for panel, lines in curves().items()
            for name, points in lines.items() for x, y in points]


def curves() -> Curves:
    """All curves, by panel and name: (x, AUC or calibration error)."""
    import numpy as np

    from simlab.environments.knobs import spec
    from simlab.limits.fast import theory_map
    from simlab.limits.gaussian import moments
    from simlab.limits.shifts import calibration

    names = {"both views": "source_bayes_external/full", "cross-modal": "source_bayes_external/cross_modal",
             "image": "source_bayes_external/image", "limit": "external/full"}
    kappas, etas = np.linspace(-0.5, 1, 61).tolist(), np.linspace(-0.9, 0.9, 61).tolist()
    out: Curves = {}
    for panel, symbol, values, world in (("proxy decoupling", "kappa_e", kappas, PROXY),
                                         ("pure coupling", "eta_e", etas, COUPLED)):
        found = theory_map({symbol: values}, **world)
        shown = names if panel == "proxy decoupling" else {k: v for k, v in names.items() if k != "cross-modal"}
        out[panel] = {name: list(zip(values, found[key].tolist(), strict=True)) for name, key in shown.items()}
    shares = np.linspace(0.03, 0.6, 58).tolist()
    kinds = theory_map({"prevalence_kind": ["reweight", "threshold"], "prevalence_e": shares}, **LABELS)
    resampled, moved = kinds["source_bayes_external/full"]
    worlds = [spec(LABELS, prevalence_e=k) for k in shares]
    error = [calibration(moments(s), moments(s, "external")).error for s in worlds]
    out["label shift"] = {"classes resampled": list(zip(shares, resampled.tolist(), strict=True)),
                          "threshold moved": list(zip(shares, moved.tolist(), strict=True)),
                          "calibration error": list(zip(shares, error, strict=True))}
    return out


def draw(data: Data) -> Figure:
    """The three panels; AUC outside on the left axis, the calibration error of the third on its own."""
    from matplotlib.figure import Figure

    found: Curves = {}
    for point in data.numbers:
        found.setdefault(point["panel"], {}).setdefault(point["curve"], []).append((point["x"], point["y"]))
    figure = Figure(figsize=(WIDE, 2.4), layout="constrained")
    for axes, (panel, lines) in zip(figure.subplots(1, 3), found.items(), strict=True):
        handles = []
        for name, points in lines.items():
            colour, dash = STYLES[name]
            here = axes.twinx() if name == "calibration error" else axes
            x, y = zip(*points, strict=True)
            handles += here.plot(x, y, color=colour, linestyle=dash, linewidth=1.3, label=name)
            if here is not axes:
                here.spines["top"].set_visible(False)
                here.set_ylabel("mean |risk - true risk|", color=colour)
                here.set_ylim(0, 0.5)
        axes.set_title(panel)
        axes.set_xlabel(PANELS[panel])
        axes.legend(handles=handles, frameon=False, loc="best")
        axes.spines["top"].set_visible(False)
        axes.set_ylabel("AUC outside")
        axes.spines["right"].set_visible(panel == "label shift")
    return figure


if __name__ == "__main__":
    sys.exit(command(main))
