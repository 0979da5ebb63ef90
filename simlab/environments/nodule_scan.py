"""What a scanner makes of anatomy: point spread, slice thickness, gain and noise; and a subject's texture and vessels.

    scanned = gain (M (anatomy + 1000)) - 1000 + noise eps,   M = separable point spread (Gaussian), a box along z

Texture and noise are Gaussian fields whose power falls as |k|^-q; anatomy is in HU, so HU + 1000 is attenuation times
1000 over water's.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
from jaxtyping import Float

from simlab.environments.nodule_knobs import FIELD
from simlab.environments.nodule_shape import grid

VESSEL = 600.0  # HU above the lung, at the axis
_RADIUS = (1.0, 2.0)  # mm, of a vessel's Gaussian cross-section


@lru_cache(maxsize=16)
def blur(side: int, psf: float, slab: float) -> tuple[Float[np.ndarray, "s s"], Float[np.ndarray, "s s"]]:
    """Matrices of an axis in the plane (point spread), and of z (point spread, then the slice's box); rows sum to 1."""
    at = grid(side)
    far = at[:, None] - at
    sigma = psf / np.sqrt(8 * np.log(2))
    spread = np.exp(-0.5 * (far / sigma) ** 2) if sigma > 1e-3 else np.eye(side)
    spread[spread < 1e-12] = 0  # tails that would be denormal numbers, which are slow, in float32
    spread /= spread.sum(axis=1, keepdims=True)
    voxel = FIELD / side
    # Overlap of the slice of thickness slab around one voxel's centre with each voxel.
    low, high = np.maximum(far - slab / 2, -voxel / 2), np.minimum(far + slab / 2, voxel / 2)
    box = np.maximum(high - low, 0) if slab > voxel else np.eye(side)
    box = box / box.sum(axis=1, keepdims=True)
    return spread, box @ spread


def scanned(
    anatomy: Float[np.ndarray, "... s s s"], psf: float, slab: float, gain: float
) -> Float[np.ndarray, "... s s s"]:
    """The scan without its noise, HU, in the dtype of the anatomy (axes z, y, x last)."""
    plane, along = (m.astype(anatomy.dtype) for m in blur(anatomy.shape[-1], psf, slab))
    x = plane @ (anatomy @ plane.T)
    x = (along @ x.reshape(*x.shape[:-2], -1)).reshape(x.shape)
    if gain != 1:
        x = anatomy.dtype.type(gain) * (x + 1000) - 1000
    return x


@lru_cache(maxsize=8)
def amplitudes(side: int, slope: float) -> Float[np.ndarray, "s s h"]:
    """|k|^(-slope/2) on the half spectrum, without mean, scaled so that a field of white noise keeps variance 1."""
    whole, half = np.fft.fftfreq(side) * side, np.fft.rfftfreq(side) * side
    k = np.sqrt(whole[:, None, None] ** 2 + whole[:, None] ** 2 + half**2)
    power = np.where(k > 0, np.maximum(k, 1) ** -slope, 0)
    twice = np.full(len(half), 2.0)  # frequencies that stand for their conjugates too
    twice[0] = 1
    if side % 2 == 0:
        twice[-1] = 1
    return np.sqrt(power / ((power * twice).sum() / side**3)).astype(np.float32)


def field(white: Float[np.ndarray, "s s s"], slope: float) -> Float[np.ndarray, "s s s"]:
    """A field of variance 1 with power law |k|^-slope from white noise (slope 0: the noise itself)."""
    if slope == 0:
        return white
    spectrum = scipy.fft.rfftn(white)
    spectrum *= amplitudes(white.shape[0], slope)
    return scipy.fft.irfftn(spectrum, s=white.shape)


def vessels(uniform: Float[np.ndarray, "v 6"], side: int) -> Float[np.ndarray, "s s s"]:
    """HU that vessels add: straight tubes through a point of the volume in a direction, from six uniforms each."""
    axis = grid(side).astype(np.float32)
    total = np.zeros((side, side, side), np.float32)
    for u in uniform:
        point = (u[:3] - 0.5) * FIELD
        rise, turn = 2 * u[3] - 1, 2 * np.pi * u[4]
        flat = np.sqrt(1 - rise**2)
        d = np.array([rise, flat * np.sin(turn), flat * np.cos(turn)], np.float32)
        z, y, x = np.ix_(*(axis - np.float32(p) for p in point))
        along = d[0] * z + d[1] * y + d[2] * x
        away = z * z + y * y + x * x - along * along
        radius = _RADIUS[0] + (_RADIUS[1] - _RADIUS[0]) * u[5]
        total += np.float32(VESSEL) * np.exp(away * np.float32(-0.5 / radius**2))
    return total
