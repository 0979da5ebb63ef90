"""Many verdicts at once: Holm's step-down for a confirmatory study, Benjamini and Hochberg's step-up for others."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import stats

METHODS = {"confirmatory": "Holm", "exploratory": "Benjamini-Hochberg"}


def adjusted(p: Float[np.ndarray, "tests"], kind: str) -> Float[np.ndarray, "tests"]:
    """Adjusted p values of a family: those at or below alpha are its rejections at level alpha.

    "confirmatory": Holm (1979), the chance of any false rejection, under any dependence. "exploratory": Benjamini &
    Hochberg (1995), the expected share of false rejections, for independent or positively dependent tests. A missing p
    value (NaN: a cell without enough seeds) counts as a test of the family with p = 1.
    """
    p = np.nan_to_num(p, nan=1.0)
    if not len(p):
        return p
    return holm(p) if kind == "confirmatory" else stats.false_discovery_control(p, method="bh")


def holm(p: Float[np.ndarray, "tests"]) -> Float[np.ndarray, "tests"]:
    """Holm's adjusted p values: the i-th smallest times the number of tests not below it, made monotone."""
    order = np.argsort(p)
    steps = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    found = np.empty(len(p))
    found[order] = steps
    return found
