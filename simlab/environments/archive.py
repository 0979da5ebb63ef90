"""The archive world: the longitudinal world's samplers and limits, and labelled images without clinical records.

The further labelled records are drawn whole from a stage of their own ("incomplete-data") and then shown without their
clinical stream, in one of the ways of `SHOWN`; shown complete, they are the ceiling of what their labels could teach.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simlab.cohort import Cohort
from simlab.environments.visits import DOMAINS, limit, limits, observe, sample_factors
from simlab.errors import unknown

__all__ = ["DOMAINS", "SHOWN", "limit", "limits", "observe", "sample_factors", "shown_as"]

SHOWN = ("complete", "masked", "zero_filled")


def shown_as(cohort: Cohort, how: str, stream: str = "clinical") -> Cohort:
    """The cohort with a stream as it is ("complete"), never observed ("masked"), or as zeros that count as observed
    ("zero_filled": where nothing was collected some pipelines enter zeros). Its risk, given both streams, goes.

    Raises UnknownName for another word.
    """
    if how not in SHOWN:
        raise unknown("way of showing incomplete records", how, SHOWN)
    if how == "complete":
        return cohort
    whole = cohort.streams[stream]
    seen = np.zeros_like(whole.observed) if how == "masked" else whole.observed
    gone = replace(whole, values=np.zeros_like(whole.values), observed=seen)
    return replace(cohort, streams={**cohort.streams, stream: gone}, risk={})
