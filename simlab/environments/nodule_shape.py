"""A lung nodule in Hounsfield units from measured coordinates z, without scanner, texture or vessels.

Each coordinate passes through s(z) = z / sqrt(4 + z^2), strictly increasing onto (-1, 1), to one number:

    log-diameter     log sqrt(120) + log(30/sqrt(120)) s       4 to 30 mm
    solid-fraction   0.6 + 0.35 s                               of the volume: the core's radius is f^(1/3) that of all
    spicule-k        0.25 s                                     amplitude of real spherical harmonic k (degree 2 to 6)
    margin           log 1.2 + log(2.5) s                       mm in which the edge fades by e
    solid-HU         20 + 180 s                                 of the core; ground glass has -500
    calcification    0.5 s                                      offset of a spot of +500 HU along x, in radii
    background-HU    -830 + 100 s                               of the lung
    centre-x, y, z   6 s                                        mm from the middle of the volume

What is not driven stands at s = 0. With q = p - centre, R(n) = d/2 exp(sum_k a_k Y_k(n)) and the soft step
e(x, w) = 1/(1 + exp(x/w)):

    HU(p) = B + e(|q| - R, w) (G - B + (S - G) e(|q| - f^(1/3) R, 1)) + 500 exp(-|q - o|^2/(2 (1 + d/16)^2))
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy.polynomial import legendre, polynomial
from scipy.special import factorial

from simlab.environments.nodule_knobs import DRIVEN, FIELD

GROUND_GLASS, CALCIUM = -500.0, 500.0
# Middle and half width of what each coordinate drives (docstring).
RANGES = {
    "log-diameter": (np.log(120) / 2, np.log(30) - np.log(120) / 2), "solid-fraction": (0.6, 0.35),
    "spicule": (0.0, 0.25), "margin": (np.log(1.2), np.log(2.5)), "solid-HU": (20.0, 180.0),
    "calcification": (0.0, 0.5), "background-HU": (-830.0, 100.0), "centre": (0.0, 6.0),
}
_DEGREES = range(2, 7)
# Spicule 0, 1, 2, ...: harmonics of degree 4 to 6, where bumps are spicules, then of 2 and 3.
_SPIKY = (*range(12, 45), *range(12))


def names(coordinates: int) -> tuple[str, ...]:
    """What each of so many coordinates drives: those of DRIVEN, then harmonics 3, 4, ..."""
    more = tuple(f"spicule-{k}" for k in range(3, 3 + max(0, coordinates - len(DRIVEN))))
    return (*DRIVEN, *more)[:coordinates]


def _range(name: str) -> tuple[float, float]:
    """Middle and half width of a number by its name."""
    kind = name.split("-")[0]
    return RANGES[kind if kind in ("spicule", "centre") else name]


def parameters(z: Float[np.ndarray, "n p"]) -> dict[str, Float[np.ndarray, " n"]]:
    """The numbers that coordinates drive (module docstring), float64, by name; those not driven too."""
    full = {name: np.zeros(len(z)) for name in DRIVEN}
    squashed = z / np.sqrt(4 + np.square(z, dtype=np.float64))
    full.update(zip(names(z.shape[1]), squashed.T, strict=True))
    out = {}
    for name, s in full.items():
        middle, half = _range(name)
        out[name] = middle + half * s
    return out


def coordinates(given: dict[str, Float[np.ndarray, " n"]], p: int) -> Float[np.ndarray, "n p"]:
    """The inverse of `parameters`, for p coordinates."""
    columns = []
    for name in names(p):
        middle, half = _range(name)
        s = (given[name] - middle) / half
        columns.append(2 * s / np.sqrt(1 - s**2))
    return np.stack(columns, axis=1)


@lru_cache(maxsize=64)
def harmonic(k: int) -> tuple[int, tuple[float, ...]]:
    """Order m and coefficients (by power of the cosine) of real spherical harmonic k, k = 0, 1, ... over degree l = 2
    to 6 and m = -l to l.

    Y = N Re or Im (x + iy)^|m| d^|m| P_l(z)/dz^|m| on unit vectors, normalised over the sphere (Condon-Shortley phase
    left out).
    """
    l, m = [(l, m) for l in _DEGREES for m in range(-l, l + 1)][k]
    a = abs(m)
    coefficients = polynomial.polyder(legendre.leg2poly([0] * l + [1]), a)
    norm = np.sqrt((2 * l + 1) / (4 * np.pi) * factorial(l - a) / factorial(l + a)) * (np.sqrt(2) if m else 1)
    return m, tuple((norm * coefficients).tolist())


def real_harmonic(k: int, z: np.ndarray, turns: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Real spherical harmonic k at unit vectors; `turns[m]` has Re and Im of (x + iy)^m (`powers`)."""
    m, coefficients = harmonic(k)
    value = np.full_like(z, coefficients[-1])
    for c in coefficients[-2::-1]:
        value *= z
        value += z.dtype.type(c)
    if m:
        value *= turns[abs(m)][m < 0]
    return value


def powers(x: np.ndarray, y: np.ndarray, most: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Re and Im of (x + iy)^m for m = 0 to `most`."""
    out = [(np.ones_like(x), np.zeros_like(x)), (x, y)]
    for _ in range(most - 1):
        real, imaginary = out[-1]
        out.append((real * x - imaginary * y, real * y + imaginary * x))
    return out


def grid(side: int) -> Float[np.ndarray, " side"]:
    """Voxel centres along an axis, mm from the middle of the volume."""
    return (np.arange(side) + 0.5) * (FIELD / side) - FIELD / 2


def render(
    given: dict[str, Float[np.ndarray, " n"]], row: int, side: int, dtype: type = np.float32
) -> Float[np.ndarray, "side side side"]:
    """The nodule of one row of `parameters` in its lung, HU, axes z, y, x."""
    one = {name: float(x[row]) for name, x in given.items()}
    axis = grid(side).astype(dtype)
    z, y, x = np.ix_(axis - one["centre-z"], axis - one["centre-y"], axis - one["centre-x"])
    z, y, x = (a.astype(dtype) for a in (z, y, x))
    square = z * z + y * y + x * x
    far = np.sqrt(square)
    radius = np.exp(one["log-diameter"]) / 2
    bumps = _bumps(one, x, y, z, far)
    reach = dtype(radius) * np.exp(bumps) if bumps is not None else dtype(radius)
    core = reach * dtype(one["solid-fraction"] ** (1 / 3))
    volume = _step(far - core, 1.0)
    volume *= dtype(one["solid-HU"] - GROUND_GLASS)
    volume += dtype(GROUND_GLASS - one["background-HU"])
    volume *= _step(far - reach, float(np.exp(one["margin"])))
    offset, spot = one["calcification"] * radius, 1 + radius / 8
    away = square - dtype(2 * offset) * x + dtype(offset**2)
    volume += dtype(CALCIUM) * np.exp(away * dtype(-0.5 / spot**2))
    volume += dtype(one["background-HU"])
    return volume


def _bumps(one: dict[str, float], x: np.ndarray, y: np.ndarray, z: np.ndarray, far: np.ndarray) -> np.ndarray | None:
    """log R(n) - log radius: the spicules' harmonics, or None without any."""
    wanted = [(int(name.split("-")[1]), a) for name, a in one.items() if name.startswith("spicule") and a != 0]
    if not wanted:
        return None
    inverse = 1 / np.maximum(far, far.dtype.type(1e-3))
    nx, ny, nz = x * inverse, y * inverse, z * inverse
    turns = powers(nx, ny, max(abs(harmonic(_SPIKY[k])[0]) for k, _ in wanted))
    total = np.zeros_like(far)
    for k, amplitude in wanted:
        bump = real_harmonic(_SPIKY[k], nz, turns)
        bump *= far.dtype.type(amplitude)
        total += bump
    return total


def _step(x: np.ndarray, width: float) -> np.ndarray:
    """1/(1 + exp(x/width)), without overflow."""
    scaled = x * x.dtype.type(1 / width)
    np.minimum(scaled, 60, out=scaled)
    np.exp(scaled, out=scaled)
    scaled += 1
    return np.reciprocal(scaled, out=scaled)

