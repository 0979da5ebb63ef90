"""Labels accrue in one hospital: the arms there (kappa_e = 1) and where the record is decoupled, along the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures import study_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "label-accrual-lines"
INPUTS = ("results/label-accrual-outside",)


def numbers(published: Published) -> list[dict[str, Any]]:
    """Those of the study's curves."""
    return study_curves.numbers(published)


def draw(data: Data) -> Figure:
    """The study's curves, with every second of the eight numbers of labels written."""
    figure = study_curves.draw(data)
    for axes in figure.axes:
        ticks = axes.get_xticks()
        axes.set_xticks(ticks, [f"{t:g}" if i % 2 else "" for i, t in enumerate(ticks)])
    return figure
