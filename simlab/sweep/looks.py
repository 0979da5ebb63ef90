"""Declared looks with alpha spending: how far from zero a t statistic must lie at each look.

Lan & DeMets (1983): by information t (the share of the planned seeds that is there) a study may have spent the share
f(t) of its alpha; the last look spends what is left. Intervals at these critical values are repeated confidence
intervals (Jennison & Turnbull 1989): all looks' intervals hold the truth together with probability 1 - alpha, whatever
made one stop, so "helps", "hurts" and "equivalent" may all be read from them. Each side spends alpha / 2.

Textbook values are for a known variance. With 8 seeds it is not known, and t statistics of successive looks are less
correlated than normal ones; so the critical values are found from simulated null paths of Student t statistics, whose
law depends on the numbers of seeds alone.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import stats

from simlab.sweep.schema import SPENDING

PATHS = 2**19  # simulated, each used with both signs: a cumulative level of .025 is met within .00015 (one s.e.)
_STREAM = 19_830_659  # fixed, so that the same looks always have the same critical values


def spent(share: float, spending: str = SPENDING[0], alpha: float = 0.05) -> float:
    """How much of one side's alpha / 2 may be spent when this share of the planned seeds is there.

    "pocock": a ln(1 + (e - 1) t), nearly equal chances at each look. "obrien-fleming": 2 - 2 Phi(z_{a/2} / sqrt t),
    hardly anything before the last look. Lan & DeMets 1983, for a = alpha / 2.
    """
    a = alpha / 2
    if share >= 1:
        return a
    if spending == "pocock":
        return a * math.log1p((math.e - 1) * share)
    return float(2 * stats.norm.sf(stats.norm.isf(a / 2) / math.sqrt(share)))


@lru_cache(maxsize=1024)
def critical(
    counts: tuple[int, ...], shares: tuple[float, ...], spending: str = SPENDING[0], alpha: float = 0.05
) -> tuple[float, ...]:
    """Critical values of |t| at looks with these numbers of seeds (increasing, from two), which have these shares of
    the planned information (increasing, the last of them 1). A single look is Student's t at level alpha exactly.
    """
    levels = [spent(share, spending, alpha) for share in shares]
    found = [float(stats.t.ppf(1 - levels[0], counts[0] - 1))]
    if len(counts) == 1:
        return tuple(found)
    rng = np.random.default_rng(_STREAM)
    total, squares, n = np.zeros(PATHS), np.zeros(PATHS), 0
    above, below = np.ones(PATHS, dtype=bool), np.ones(PATHS, dtype=bool)  # paths that have not left on this side
    for look, (count, level) in enumerate(zip(counts, levels, strict=True)):
        more, n = count - n, count
        step = rng.standard_normal(PATHS)  # the new seeds' sum, in units of sqrt(more)
        total += math.sqrt(more) * step
        squares += step**2 + (rng.chisquare(more - 1, PATHS) if more > 1 else 0.0)
        t = total / np.sqrt(n * (squares - total**2 / n) / (n - 1))
        if look:
            staying = np.concatenate([t[above], -t[below]])
            leave = round(level * 2 * PATHS) - (2 * PATHS - len(staying))
            found.append(float(np.partition(staying, -leave)[-leave]) if leave > 0 else math.inf)
        above &= t < found[-1]
        below &= -t < found[-1]
    return tuple(found)
