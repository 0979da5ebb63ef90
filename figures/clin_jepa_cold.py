"""Clin-JEPA without phase 0 on the ICU world: the same five panels."""

from __future__ import annotations

from figures.clin_jepa_phases import draw, numbers

__all__ = ["INPUTS", "NAME", "draw", "numbers"]
NAME = "clin-jepa-cold"
INPUTS = ("results/clin-jepa-cold",)
