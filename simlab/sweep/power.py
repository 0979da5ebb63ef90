"""How many seeds a cell needs: the power of one look to decide it, at a stated mean and standard deviation."""

from __future__ import annotations

import math

from scipy import special

ALPHA = 0.05
POWER = 0.8
MOST = 10_000  # seeds; more is out of reach


def decides(n: int, mean: float, sd: float, rope: float, alpha: float = ALPHA) -> float:
    """The probability that one look at n seeds gives the right word where this mean and sd are the truth.

    Outside the margin: that the interval lies beyond it (noncentral t, exact). Inside: that it lies within, by the
    bound P(A and B) >= P(A) + P(B) - 1 on its two ends, which is close where the power is high.
    """
    root, end = math.sqrt(n), float(special.stdtrit(n - 1, 1 - alpha / 2))
    if abs(mean) > rope:
        return 1 - float(special.nctdtr(n - 1, (abs(mean) - rope) / sd * root, end))
    ends = (1 - float(special.nctdtr(n - 1, (rope + side * mean) / sd * root, end)) for side in (-1, 1))
    return max(0.0, sum(ends) - 1)


def seeds_needed(
    mean: float, sd: float, rope: float, alpha: float = ALPHA, power: float = POWER, least: int = 8
) -> int | None:
    """The fewest seeds, from `least`, with which one look decides with this power; None where more than `MOST` are
    needed (the mean lies at the margin). A plan for fresh seeds: adding seeds to those seen would be another look."""
    if not sd > 0 or decides(MOST, mean, sd, rope, alpha) < power:
        return None
    low, high = least - 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle, mean, sd, rope, alpha) >= power else (middle, high)
    return high
