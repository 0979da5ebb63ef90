"""Calibration: does a predicted risk of 10 % come true in one of ten? Slope and offset, of one test side."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from simlab.errors import OutOfDomain

SCALES = ("probability", "logit", "none")
EDGE = 1e-3  # a linear estimate of a probability may lie outside (0, 1): it is taken as this far inside


def probabilities(scores: Float[np.ndarray, "records"], scale: str) -> Float[np.ndarray, "records"] | None:
    """The predicted P(y = 1) of scores on this scale, kept EDGE away from 0 and 1; None where they are no risks.

    Raises OutOfDomain for a scale that is none of SCALES.
    """
    if scale not in SCALES:
        raise OutOfDomain(f"scale = {scale!r}; known: {', '.join(SCALES)}.")
    if scale == "none":
        return None
    return np.clip(expit(scores) if scale == "logit" else scores, EDGE, 1 - EDGE)


def slope_and_offset(p: Float[np.ndarray, "records"], y: Float[np.ndarray, "records"]) -> tuple[float, float]:
    """The calibration slope, and the mean predicted risk minus the share of positives.

    The slope is that of a logistic regression of the label on logit(p) (Cox 1958): 1 is right, below 1 is too extreme.
    NaN where all predictions are alike.
    """
    offset = float(p.mean() - y.mean())
    x = logit(p)
    if np.ptp(x) < 1e-9:
        return float("nan"), offset
    spread = x.std()  # the fit is in standard units, so that the solver's tolerance means the same for every arm
    model = LogisticRegression(C=np.inf, max_iter=1000).fit((x / spread)[:, None], y)
    return float(model.coef_[0, 0] / spread), offset
