"""SIGReg: how far random one-dimensional slices of an embedding are from N(0, 1). Free of the number of records.

For a unit vector a, with x = z a and phi_N its empirical characteristic function over N records,

    T/N = integral |phi_N(t) - exp(-t^2/2)|^2 exp(-t^2/2) dt

averaged over slices. Other libraries return T, so that their weight changes with the batch; here a weight means the
same at any N. LeJEPA = centroid form of the invariance + RATIO x the mean of T/N over views (docs/methods/lejepa.md).
Source: Balestriero & LeCun 2025 (Epps-Pulley on 17 knots over [-3, 3]); the closed forms are ours.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

SLICES = 64  # a step, fresh each step
KNOTS, REACH = 17, 3.0  # on [0, REACH], the trapezoid rule, doubled for the negative half
RATIO = 5.2  # of T/N to the centroid form: lambda 0.02 at N = 256, .02 x 256/.98
ROOT = math.sqrt(2 * math.pi)
NULL = 1.0527  # E T of N records of N(0, 1) at any N: the floor of T, so T/N cannot fall below about NULL/N


def directions(width: int, slices: int, generator: torch.Generator) -> Float[Tensor, "width slices"]:
    """Unit vectors, uniform on the sphere."""
    drawn = torch.randn(width, slices, generator=generator)
    return drawn / drawn.norm(dim=0, keepdim=True)


def statistic(
    z: Float[Tensor, "members batch width"], slices: Float[Tensor, "members width slices"]
) -> Float[Tensor, "members"]:
    """T/N over |t| <= 3, mean over slices. The knots are equally spaced: exp(i t_k x) are powers of exp(i t_1 x)."""
    step = REACH / (KNOTS - 1)
    angle = step * (z @ slices)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    real, imaginary = cosine, sine
    total = torch.zeros(())
    for k in range(1, KNOTS):  # at t = 0 both characteristic functions are one
        goal = math.exp(-0.5 * (k * step) ** 2)
        weight = 2 * step * goal * (0.5 if k == KNOTS - 1 else 1.0)
        total = total + weight * ((real.mean(dim=1) - goal).square() + imaginary.mean(dim=1).square())
        real, imaginary = real * cosine - imaginary * sine, real * sine + imaginary * cosine
    return total.mean(dim=1)


def closed_form(x: Float[Tensor, "*fleet batch"]) -> Float[Tensor, "*fleet"]:
    """T/N of a sample over all real t: sqrt(2 pi) [mean exp(-(x_j-x_k)^2/2) - sqrt2 mean exp(-x_j^2/4) + 1/sqrt3]."""
    pairs = torch.exp(-0.5 * (x.unsqueeze(-1) - x.unsqueeze(-2)).square()).mean(dim=(-2, -1))
    alone = torch.exp(-0.25 * x.square()).mean(dim=-1)
    return ROOT * (pairs - math.sqrt(2) * alone + 1 / math.sqrt(3))


def population(mean: Float[Tensor, "*slices"], variance: Float[Tensor, "*slices"]) -> Float[Tensor, "*slices"]:
    """T/N for infinitely many records of N(mean, variance). For z ~ N(m, S) a slice a has mean a'm, variance a'Sa."""
    cross = 2 * (2 + variance).rsqrt() * torch.exp(-mean.square() / (2 * (2 + variance)))
    return ROOT * ((1 + 2 * variance).rsqrt() - cross + 1 / math.sqrt(3))


def centroid(
    a: Float[Tensor, "members batch width"], b: Float[Tensor, "members batch width"]
) -> Float[Tensor, "members"]:
    """Mean squared distance of two views to their mean: a quarter of the mean squared difference."""
    return (a - b).square().mean(dim=(1, 2)) / 4


def spread(
    z: Float[Tensor, "members batch width"], slices: Float[Tensor, "members width slices"]
) -> Float[Tensor, "members"]:
    """One view's share of LeJEPA's regulariser: RATIO/2 T/N, so that two views give RATIO times their mean."""
    return RATIO / 2 * statistic(z, slices)
