"""The generic early-event label: will the event begin within the next hours?

Definitions follow the public ICU features code of the Rätsch group (eth-mds/icu-features), written afresh from them.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def early_label(
    events: Float[np.ndarray, "stays hours"], horizon: int, switches_only: bool
) -> Float[np.ndarray, "stays hours"]:
    """Labels from hourly events (1, 0 or NaN: not known). The next `horizon` hours do not hold the hour itself.

    Missing where the event is on now; else 1 if it is on in the next hours, 0 if it is only known to be off in them,
    and missing where nothing is known of them. switches_only: a 1 after a last known event of 1 is missing too, since
    nothing new begins.
    """
    on, off = events == 1, events == 0
    labels = np.full(events.shape, np.nan)
    labels[_ahead(off, horizon)] = 0.0
    labels[_ahead(on, horizon)] = 1.0
    if switches_only:
        labels[(labels == 1) & (last_known(events) == 1)] = np.nan
    labels[on] = np.nan
    return labels


def _ahead(flags: np.ndarray, horizon: int) -> np.ndarray:
    """Whether any of the next hours is flagged, (stays, hours) bool."""
    total = np.concatenate([np.zeros((len(flags), 1), np.int64), np.cumsum(flags, axis=1)], axis=1)
    here = np.arange(flags.shape[1])
    beyond = np.minimum(here + 1 + horizon, flags.shape[1])
    return total[:, beyond] > total[:, here + 1]


def last_known(values: Float[np.ndarray, "stays hours"]) -> Float[np.ndarray, "stays hours"]:
    """The last value that was not NaN, this hour's included; NaN before the first."""
    hours = np.where(np.isnan(values), -1, np.arange(values.shape[1]))
    last = np.maximum.accumulate(hours, axis=1)
    return np.where(last >= 0, np.take_along_axis(values, last.clip(0), axis=1), np.nan)


def rolling(
    values: Float[np.ndarray, "stays hours"], window: int, how: str
) -> Float[np.ndarray, "stays hours"]:
    """min, max or sum over this hour and the window - 1 before it, NaN passed over; NaN where nothing is known."""
    function = {"min": np.fmin, "max": np.fmax, "sum": _add}[how]
    out = values.copy()
    for back in range(1, min(window, values.shape[1])):
        out[:, back:] = function(out[:, back:], values[:, :-back])
    return out


def _add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum that passes over NaN, and is NaN where both are."""
    return np.where(np.isnan(a), b, a + np.nan_to_num(b))
