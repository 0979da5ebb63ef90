"""Shared signal against labels: frozen and fine-tuned JEPA against least squares, tuned labels and self-training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from figures import mapping
from figures.style import WIDE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "shared-signal-boundaries"
INPUTS = ("results/shared-signal",)
CONTRASTS = (("vicreg-frozen", "lda"), ("vicreg-frozen", "supervised"),
             ("vicreg-finetuned", "supervised"), ("vicreg-finetuned", "self-training"))


def numbers(published: Published) -> list[dict[str, Any]]:
    """Cells and boundary points of the four contrasts."""
    return mapping.numbers(published, CONTRASTS)


def draw(data: Data) -> Figure:
    """Four maps, each with the boundary that theory gives it."""
    return mapping.draw(data.inputs[0], data.numbers, WIDE, CONTRASTS)
