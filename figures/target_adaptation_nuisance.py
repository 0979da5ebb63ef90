"""What pretraining finds once it is shown the target: the views' shared nuisance of the source gone there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures import study_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "target-adaptation-nuisance-lines"
INPUTS = ("results/target-adaptation-nuisance",)


def numbers(published: Published) -> list[dict[str, Any]]:
    """Those of the study's curves."""
    return study_curves.numbers(published)


def draw(data: Data) -> Figure:
    """The study's curves, with room for the long names."""
    figure = study_curves.draw(data)
    (legend,) = figure.legends
    handles, names = legend.legend_handles, [text.get_text() for text in legend.get_texts()]
    legend.remove()
    figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + 0.3)
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, handlelength=2.6)
    figure.axes[0].set_xlabel("nuisance correlation of the two views in the target (nu_e); .95 in the source")
    return figure
