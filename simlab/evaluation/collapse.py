"""Collapse diagnostics of a representation: what a falling loss can hide. Logged as `diag/...` with every run."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

EPSILON = 1e-7  # RankMe's own constant (Garrido et al. 2023, eq. 1)


def rankme(z: Float[np.ndarray, "records width"]) -> float:
    """RankMe: exp of the entropy of the normalised singular values, centred. Between 1 and width; 0 for a constant.

    Centred on purpose: uncentred, one constant direction counts as signal. Source: Garrido et al. 2023, eq. 1.
    """
    centred = z.astype(np.float64) - z.mean(axis=0, dtype=np.float64)
    singular = np.linalg.svd(centred, compute_uv=False)
    scale = np.abs(z).max() if z.size else 0.0
    if singular.sum() <= 1e-6 * max(scale, 1e-12) * np.sqrt(len(z)):
        return 0.0
    share = singular / singular.sum() + EPSILON
    return float(np.exp(-(share * np.log(share)).sum()))


def deviations(z: Float[np.ndarray, "records width"]) -> Float[np.ndarray, "width"]:
    """Standard deviation of each dimension; a value near zero is a dimension that says nothing."""
    return z.std(axis=0, dtype=np.float64)


def diagnostics(z: Float[np.ndarray, "records width"], name: str, rows: int = 2000) -> dict[str, float]:
    """The collapse columns of one view's representation: RankMe, and smallest and largest deviation.

    At most `rows` records are read: the spectrum of a few thousand is that of all, at a fraction of the cost.
    """
    part = z[:rows]
    sd = deviations(part)
    return {
        f"diag/rankme/{name}": rankme(part),
        f"diag/sd-min/{name}": float(sd.min()),
        f"diag/sd-max/{name}": float(sd.max()),
    }
