"""Where voxels are: crops of a known field, oblique and shuffled series, against SimpleITK and nibabel."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from hospital_files import ramp, slices
from pydicom.uid import ImplicitVRLittleEndian

from real_data.account import Account
from real_data.ct_ehr import dicom
from real_data.ct_ehr.geometry import LOWEST, Volume, crop
from real_data.ct_ehr.layouts import nifti

# A patient turned by half a radian about z, then tilted about x: rows and columns of the slices.
TURN = np.array([[np.cos(0.5), -np.sin(0.5), 0], [np.sin(0.5), np.cos(0.5), 0], [0, 0, 1]])
TILT = np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
OBLIQUE = TURN @ TILT


def linear(point: np.ndarray) -> np.ndarray:
    """A field of HU that is linear in world millimetres: interpolation of it is exact."""
    return point @ np.array([3.0, -2.0, 1.5]) - 200


def stored(axes: np.ndarray, step: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """The linear field on a grid along these axes, and the grid's affine."""
    affine = np.column_stack([axes[:, 0] * 2, axes[:, 1] * 2, axes[:, 2] * step, (-20.0, -15.0, -12.0)])
    k, j, i = np.mgrid[:14, :20, :20]
    return linear(np.stack([i, j, k], -1) @ affine[:, :3].T + affine[:, 3]), affine


@pytest.mark.parametrize("axes", [np.eye(3), OBLIQUE], ids=["axial", "oblique"])
def test_a_crop_of_a_linear_field_is_the_field(axes):
    hu, affine = stored(axes)
    volume = Volume(hu, affine)
    centre = volume.middle() + np.array([0.3, -0.7, 1.1])
    found, share = crop(volume, centre, 8, 12.0)
    at = (np.arange(8) + 0.5) * 1.5 - 6
    z, y, x = np.meshgrid(*(at + c for c in centre[::-1]), indexing="ij")
    assert share == 1
    assert found == pytest.approx(linear(np.stack([x, y, z], -1)), abs=1e-3)


def test_beyond_the_scan_is_air_and_the_share_is_told():
    hu, affine = stored(np.eye(3))
    found, share = crop(Volume(hu, affine), affine[:, 3], 8, 12.0)  # a corner: one octant lies inside
    assert share == pytest.approx(1 / 8)
    assert (found == LOWEST).mean() == pytest.approx(7 / 8)


def test_a_coarse_crop_keeps_the_mean_of_fine_noise():
    noise = np.random.default_rng(0).normal(0, 100, (64, 64, 64))
    found, _ = crop(Volume(noise, np.eye(3, 4)), np.full(3, 31.5), 8, 48.0)  # 6 mm of 1 mm voxels
    assert found.std() < 100 / 6  # single voxels would keep 100; a mean over 216 of them 6.8


@pytest.mark.parametrize("axes", [np.eye(3), OBLIQUE, OBLIQUE[:, [0, 1, 2]] @ np.diag([1, -1, -1])],
                         ids=["axial", "oblique", "head first or not"])
def test_a_series_is_read_as_simpleitk_reads_it(axes, tmp_path):
    """Voxel by voxel in world millimetres: both find the same HU at the same places."""
    sitk = pytest.importorskip("SimpleITK")
    slices(tmp_path / "in", ramp(), rows=tuple(axes[:, 0]), columns=tuple(axes[:, 1]), origin=(5, -8, 30.5))
    one = dicom.series(tmp_path / "in", None, Account(), lambda line: None)[0]
    volume = one.volume()
    theirs = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "in")))
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in volume.hu.shape[::-1]), indexing="ij"), -1).reshape(-1, 3)
    for index in grid[::7]:
        point = volume.world(index.astype(float))
        there = theirs.TransformPhysicalPointToIndex(point.tolist())
        assert volume.hu[tuple(index[::-1])] == theirs.GetPixel(there)
        assert theirs.TransformIndexToPhysicalPoint(there) == pytest.approx(point, abs=1e-4)


def test_hu_are_slope_and_intercept_slice_by_slice(tmp_path):
    from hospital_files import edit

    paths = slices(tmp_path / "in", ramp(), PixelPaddingValue=1024 - 400, intercept=-1024)
    edit(paths[2], RescaleSlope=2, RescaleIntercept=-2000)
    hu = dicom.series(tmp_path / "in", None, Account(), lambda line: None)[0].volume().hu
    want = ramp()
    want[2] = 2 * (want[2] + 1024) - 2000
    want[0, 0, 0] = LOWEST  # stored as the padding value
    assert np.array_equal(hu, np.clip(want, -1024, 3071))


def test_a_tilted_gantry_is_a_sheared_stack(tmp_path):
    """Slices whose corner drifts along y: the affine follows it, and the linear field is found back."""
    from hospital_files import edit

    drift = np.array([0, 0.4, 3.0])
    affine = np.column_stack([(2, 0, 0), (0, 2, 0), drift, (0, 0, 0)])
    k, j, i = np.mgrid[:8, :12, :12]
    hu = np.rint(linear(np.stack([i, j, k], -1) @ affine[:, :3].T)).astype(float)
    for n, path in enumerate(slices(tmp_path / "in", hu)):
        edit(path, ImagePositionPatient=[0, 0.4 * n, 3 * n])
    volume = dicom.series(tmp_path / "in", None, Account(), lambda line: None)[0].volume()
    assert volume.affine == pytest.approx(affine)
    found, _ = crop(volume, np.array([11.0, 12.0, 10.0]), 4, 4.0)
    at = np.arange(4) + 0.5 - 2
    z, y, x = np.meshgrid(at + 10, at + 12, at + 11, indexing="ij")
    assert found == pytest.approx(linear(np.stack([x, y, z], -1)), abs=1.0)  # HU were rounded: half each


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR"])
def test_nifti_is_turned_into_the_same_world(codes, tmp_path):
    """One volume stored in three orientations by nibabel gives one field of HU in LPS millimetres."""
    nib = pytest.importorskip("nibabel")
    hu, affine = stored(OBLIQUE)
    ras = np.vstack([np.diag([-1.0, -1, 1]) @ affine, [0, 0, 0, 1]])
    image = nib.Nifti1Image(hu.transpose(2, 1, 0).astype(np.float32), ras)
    start = nib.orientations.io_orientation(ras)
    image = image.as_reoriented(nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes)))
    nib.save(image, tmp_path / "a.nii.gz")
    volume = nifti(tmp_path / "a.nii.gz")
    centre = Volume(hu, affine).middle()
    found, share = crop(volume, centre, 4, 8.0)
    at = np.arange(4) * 2.0 - 3
    z, y, x = np.meshgrid(*(at + c for c in centre[::-1]), indexing="ij")
    assert share == 1 and found == pytest.approx(linear(np.stack([x, y, z], -1)), abs=0.01)


@pytest.mark.parametrize("implicit", [False, True])  # then pydicom must find out whether padding is signed
def test_padding_is_air_be_it_a_value_or_a_range(implicit, tmp_path):
    for path in slices(tmp_path, ramp()):
        image = pydicom.dcmread(path)
        kind, lowest = "SS" if image.PixelRepresentation else "US", int(image.pixel_array.min())
        image.add_new("PixelPaddingValue", kind, lowest)
        image.add_new("PixelPaddingRangeLimit", kind, lowest + 3)
        if implicit:
            image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        image.save_as(path, implicit_vr=implicit, little_endian=True)
    made = dicom.series(tmp_path, None, Account(), lambda line: None)[0].volume()
    padded = made.hu == -1024
    lowest = ramp().min(axis=(1, 2), keepdims=True)  # of each slice, as written above
    assert np.array_equal(padded, ramp() <= lowest + 3) and 0 < padded.sum() < padded.size
    assert np.array_equal(made.hu[~padded], ramp()[~padded])
