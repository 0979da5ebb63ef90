"""Death and length of stay, one label a stay: 1, 0, or NaN where nobody can know."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from real_data.labels import TOLERANCE

DAY = 24.0


def died_within(
    death: Float[np.ndarray, "stays"], followed: Float[np.ndarray, "stays"], hours: float
) -> Float[np.ndarray, "stays"]:
    """Death within so many hours. death: its hour, NaN if none is known; followed: until when a death would be known.

    Both ends belong to the window. NaN (censored) where nobody died and the follow-up is shorter.
    """
    dead = death <= hours + TOLERANCE
    alive = (death > hours + TOLERANCE) | (np.isnan(death) & (followed >= hours - TOLERANCE))
    return np.where(dead, 1.0, np.where(alive, 0.0, np.nan))


def died_in_care(
    died: Float[np.ndarray, "stays"], death: Float[np.ndarray, "stays"], out: Float[np.ndarray, "stays"]
) -> Float[np.ndarray, "stays"]:
    """Death before out-time (both hours). died: death in hospital, 1, 0 or NaN.

    Without an hour of death it is not known where it happened.
    """
    here = death <= out + TOLERANCE
    return np.where(here, 1.0, np.where((died == 0) | ~np.isnan(death), 0.0, np.nan))


def dies_soon(
    death: Float[np.ndarray, "stays"], in_care: Float[np.ndarray, "stays"], hours: int, ahead: float
) -> Float[np.ndarray, "stays hours"]:
    """Decompensation, by hour: death in intensive care within the next `ahead` hours. Hour h is over at h + 1."""
    now = np.arange(1, hours + 1)
    soon = (death[:, None] <= now + ahead + TOLERANCE) & (in_care[:, None] == 1)
    return np.where(np.isnan(in_care)[:, None], np.nan, soon.astype(float))


def longer_than(out: Float[np.ndarray, "stays"], hours: float) -> Float[np.ndarray, "stays"]:
    """A stay of more than so many hours (not of exactly so many)."""
    return np.where(np.isnan(out), np.nan, (out > hours + TOLERANCE).astype(float))
