"""The other switches of Clin-JEPA's curriculum on the ICU world: the same five panels."""

from __future__ import annotations

from figures.clin_jepa_phases import draw, numbers

__all__ = ["INPUTS", "NAME", "draw", "numbers"]
NAME = "clin-jepa-ablations"
INPUTS = ("results/clin-jepa-ablations", "results/clin-jepa-cold")
