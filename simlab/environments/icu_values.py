"""Standard values of the ICU world's channels as what is charted, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from simlab.environments.icu_channels import CHANNELS

_LOW, _HIGH = (np.array([getattr(c, k) for c in CHANNELS]) for k in ("low", "high"))
_A, _B = (np.array([c.curve[i] for c in CHANNELS]) for i in (0, 1))
_STEP = np.array([10.0**-c.decimals for c in CHANNELS])
_PLACES = np.array([10.0**c.decimals for c in CHANNELS])


def charted(z: Float[np.ndarray, "... c"], channels: Sequence[int]) -> Float[np.ndarray, "... c"]:
    """What is charted of standard values of these channels (urine: in mL/kg), to each channel's places."""
    at = list(channels)
    low, high, step, places = _LOW[at], _HIGH[at], _STEP[at], _PLACES[at]
    value = low + (high - low) / (1 + np.exp(-(_A[at] + _B[at] * z)))
    return np.clip(np.rint(value * places) / places, low + step, high - step)


def standard(value: Float[np.ndarray, "... c"], channels: Sequence[int]) -> Float[np.ndarray, "... c"]:
    """The standard values of charted ones: the inverse of `charted`, up to its places."""
    at = list(channels)
    value = np.clip(value, _LOW[at] + _STEP[at] / 2, _HIGH[at] - _STEP[at] / 2)
    share = (value - _LOW[at]) / (_HIGH[at] - _LOW[at])
    return (np.log(share) - np.log1p(-share) - _A[at]) / _B[at]
