"""Volumes in the patient's space: where a voxel lies in millimetres, and crops around a point.

World coordinates are DICOM's: LPS, millimetres, x to the patient's left, y to the back, z to the head. Arrays are
z, y, x (slice, row, column).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import ndimage

LOWEST, HIGHEST = -1024.0, 3071.0  # HU that a CT number can be; what lies outside a scan is air
FWHM = 2.3548  # of a Gaussian, in standard deviations


@dataclass(frozen=True, eq=False)
class Volume:
    """HU, and the map from (column, row, slice) to LPS millimetres: steps along each, then the first voxel's centre."""

    hu: Int[np.ndarray, "slices rows columns"] | Float[np.ndarray, "slices rows columns"]
    affine: Float[np.ndarray, "3 4"]

    @property
    def spacing(self) -> Float[np.ndarray, "3"]:
        """Millimetres between columns, rows and slices."""
        return np.linalg.norm(self.affine[:, :3], axis=0)

    def world(self, index: Shaped[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
        """Millimetres of (column, row, slice) indices."""
        return index @ self.affine[:, :3].T + self.affine[:, 3]

    def voxel(self, point: Shaped[np.ndarray, "... 3"]) -> Float[np.ndarray, "... 3"]:
        """(column, row, slice) indices of points in millimetres, not rounded."""
        return np.linalg.solve(self.affine[:, :3], (point - self.affine[:, 3])[..., None])[..., 0]

    def middle(self) -> Float[np.ndarray, "3"]:
        return self.world((np.array(self.hu.shape[::-1]) - 1) / 2)

    def holds(self, point: Shaped[np.ndarray, "3"]) -> bool:
        """Whether a point lies inside, to half a voxel."""
        at = self.voxel(np.asarray(point, float))
        return bool(np.all(at >= -0.5) and np.all(at <= np.array(self.hu.shape[::-1]) - 0.5))


def crop(
    volume: Volume, centre: Shaped[np.ndarray, "3"], side: int, field: float
) -> tuple[Float[np.ndarray, "side side side"], float]:
    """HU on side^3 voxels of field/side mm along the patient's axes around a point; and the share inside the scan.

    Linear interpolation; where the target is coarser than the scan, after a Gaussian whose width is the target's voxel.
    Beyond the scan: LOWEST. The physical size is fixed, whatever the scan's own spacing and orientation.
    """
    step = field / side
    axis = (np.arange(side) + 0.5) * step - field / 2
    z, y, x = np.meshgrid(*(axis + c for c in np.asarray(centre, float)[::-1]), indexing="ij")
    at = np.round(volume.voxel(np.stack([x, y, z], axis=-1)), 6)[..., ::-1].reshape(-1, 3)  # no edge lost to rounding
    size = np.array(volume.hu.shape)
    inside = np.all((at >= 0) & (at <= size - 1), axis=1)
    ratio = step / volume.spacing[::-1]
    sigma = np.where(ratio > 1.5, np.sqrt(np.maximum(ratio**2 - 1, 0)) / FWHM, 0)
    reach = np.ceil(4 * sigma).astype(int) + 1
    low = np.clip(np.floor(at.min(axis=0)).astype(int) - reach, 0, size - 1)
    high = np.clip(np.ceil(at.max(axis=0)).astype(int) + reach + 1, low + 1, size)
    block = volume.hu[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    if sigma.any():
        block = ndimage.gaussian_filter(block.astype(np.float32), sigma, mode="nearest")
    values = ndimage.map_coordinates(block, (at - low).T, order=1, mode="nearest", output=np.float32)
    values[~inside] = LOWEST
    return np.clip(values, LOWEST, HIGHEST).reshape(side, side, side), float(inside.mean())
