"""From ragged events to daily curves: what a record says of one code on each day of a look-back window.

Three kinds of channel, after the clinical-signature pipeline of Lasko and others (J Biomed Inform 2025; the public code
of `cml_tools`): conditions as the intensity of their codes, measurements as shape-preserving interpolation, medications
as indicators. There a curve is drawn through the whole record. Here a reading at time t uses the events up to t alone,
so that nothing after a scan can reach its signatures:

    condition     mean intensity over the window, per day        (`intensity`)
    measurement   mean of the interpolated curve over the window (`interpolated`)
    medication    exp(-(t - last record) / decay), 0 before the first one (`indicator`; there: 1 for 365 days)

Times are in days here; `simlab.signatures.fit` converts.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

KINDS = ("condition", "measurement", "medication")


def intensity(
    times: Float[np.ndarray, " n"], start: float, end: float, at: Float[np.ndarray, " days"], least: int
) -> Float[np.ndarray, " days"]:
    """Events a day at the times `at`, by averaged adaptive histograms of the events in [start, end] (sorted `times`).

    A histogram with edges halfway between events has at least `least` events in each bin; every shift of the edges by
    one event gives another, and the `least` of them are averaged (Scott 1985, Ann Stat 13:1024, with bins of equal
    counts; the random adaptive histograms of Lasko et al. draw such edges at random). So nothing is random here. Bins
    are a day wide or more. Each histogram, and so their mean, integrates to n. With fewer than 2 `least` events: the
    constant n/(end - start).
    """
    n = len(times)
    if n < 2 * least:
        return np.full(len(at), n / (end - start))
    middle = (times[:-1] + times[1:]) / 2  # middle[j - 1] lies before event j
    total = np.zeros(len(at))
    for shift in range(least):
        inner = middle[least + shift - 1 : n - least : least]
        edges = np.concatenate([[start], inner, [end]])
        edges = edges[_apart(edges)]
        below = np.searchsorted(times, edges[1:-1], side="left")
        count = np.diff(np.concatenate([[0], below, [n]]))
        bin_of = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, len(count) - 1)
        total += (count / np.diff(edges))[bin_of]
    return total / least


def _apart(edges: Float[np.ndarray, " k"]) -> list[int]:
    """Which edges to keep so that no bin is narrower than a day; the first and the last always stay."""
    keep = [0]
    for i in range(1, len(edges) - 1):
        if edges[i] - edges[keep[-1]] >= 1 and edges[-1] - edges[i] >= 1:
            keep.append(i)
    return [*keep, len(edges) - 1]


def interpolated(
    times: Float[np.ndarray, " n"], values: Float[np.ndarray, " n"], at: Float[np.ndarray, " days"]
) -> Float[np.ndarray, " days"]:
    """Values at the times `at` by monotone cubic interpolation (PCHIP; Fritsch and Butland 1984), held flat outside.

    Between two measurements the curve stays between them: it invents no peak. Measurements at one time count as their
    mean, a single one as a constant. n >= 1; `times` sorted.
    """
    when, which = np.unique(times, return_inverse=True)
    mean = np.bincount(which, values) / np.bincount(which)
    if len(when) == 1:
        return np.full(len(at), mean[0])
    return PchipInterpolator(when, mean)(np.clip(at, when[0], when[-1]))


def indicator(
    times: Float[np.ndarray, " n"], at: Float[np.ndarray, " days"], decay: float
) -> Float[np.ndarray, " days"]:
    """exp(-(t - last of `times` up to t) / decay) at each t of `at`; 0 before the first. `times` sorted."""
    last = np.searchsorted(times, at, side="right") - 1
    since = at - times[np.maximum(last, 0)]
    return np.where(last >= 0, np.exp(-np.maximum(since, 0) / decay), 0.0)


def curve(
    kind: str,
    times: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
    start: float,
    at: Float[np.ndarray, " days"],
    least: int,
    decay: float,
) -> Float[np.ndarray, " days"]:
    """The daily curve of one channel at the ascending times `at`, the last of which ends the history."""
    if kind == "condition":
        return intensity(times, start, float(at[-1]), at, least)
    if kind == "measurement":
        return interpolated(times, values, at)
    return indicator(times, at, decay)


def reading(
    kind: str,
    times: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
    now: float,
    first: float,
    window: int,
    least: int,
    decay: float,
) -> float:
    """What a channel says at time `now`, of its events up to then (n >= 1, sorted, none later).

    `first`: time of the record's first event of any code. A history reaches back one window at least.
    """
    start = min(first, now - window)
    if kind == "medication":
        return float(indicator(times, np.array([now]), decay)[0])
    if (kind == "condition" and len(times) < 2 * least) or (kind == "measurement" and len(times) == 1):
        at = np.array([now])  # constant: one day says all
    else:
        at = now - np.arange(window - 1, -1, -1.0)
    return float(curve(kind, times, values, start, at, least, decay).mean())
