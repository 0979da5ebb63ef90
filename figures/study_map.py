"""A published study's maps: where the first arm helps or hurts, with the measured and the predicted boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures import mapping

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "{study}-map"
INPUTS = ("results/{study}",)


def numbers(published: Published) -> list[dict[str, Any]]:
    """Every cell, boundary point and point of the fitted surface that the figure shows."""
    return mapping.numbers(published)


def draw(data: Data) -> Figure:
    """One panel a contrast and slice (the first twelve), one colour scale."""
    return mapping.draw(data.inputs[0], data.numbers)
