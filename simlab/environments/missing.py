"""Which measurements are missing: one selection index a stream and visit (`simlab.limits.missing`).

    q = a + gamma_1 s_other + gamma_2 s_own + gamma_3 l + e,   missing where q > 0,   e ~ N(0, 1) afresh at each visit

MCAR: all gammas 0. MAR: gamma_1 alone, while the other view is never missing. MNAR: gamma_2 or gamma_3. s: the evidence
that each view carries at the last visit, standardised in the source (`simlab.limits.visits.evidence_weights`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from simlab.limits.visits import Law, evidence_weights, selections

STREAMS = ("image", "clinical")


def evidence(
    law: Law, last: Mapping[str, Float[np.ndarray, " n"]]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """(s_I, s_C) from what the last visit measured along beta: `c_image`, `u`, `c_clinical`, `v`."""
    image, clinical = evidence_weights(law.spec)
    return image[0] * last["c_image"] + image[1] * last["u"], clinical[0] * last["c_clinical"] + clinical[1] * last["v"]


def seen(
    law: Law,
    liability: Float[np.ndarray, " n"],
    last: Mapping[str, Float[np.ndarray, " n"]],
    exists: Bool[np.ndarray, "n J"],
    errors: Mapping[str, Float[np.ndarray, "n J"]],
) -> dict[str, Bool[np.ndarray, "n J"]]:
    """Where each stream was seen: at the visits that exist and where its index, with these standard normal errors, is
    not positive."""
    chosen = selections(law)
    hidden_from = np.stack([liability, *evidence(law, last)], axis=1)
    out = {}
    for stream in STREAMS:
        out[stream] = exists.copy()
        if stream in chosen:
            index = chosen[stream].intercept + hidden_from @ chosen[stream].direction
            out[stream] &= index[:, None] + errors[stream] <= 0
    return out
