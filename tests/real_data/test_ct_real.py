"""Real files where they are at hand: the two-kernel patient, slices of two dates, LUNA16's coordinates, LIDC."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hospital_files import slices

from real_data.account import Account
from real_data.ct_ehr import dicom, places
from real_data.ct_ehr.__main__ import main
from real_data.ct_ehr.geometry import crop
from real_data.lidc_patches import prepare as lidc
from simlab.cohort import load
from simlab.errors import command


@pytest.fixture(scope="module")
def patient(data_dir) -> Path:
    folder = data_dir / "lung-pet-ct-dx"
    if not folder.is_dir():
        pytest.skip("lung-pet-ct-dx is not among the real files")
    return folder


@pytest.fixture(scope="module")
def kernels(patient):
    return {s.kernel: s for s in dicom.series(patient / "Lung_Dx-A0001", None, Account(), lambda line: None)}


def test_two_kernels_are_two_series_of_the_same_slices(kernels):
    assert {k: len(s.paths) for k, s in kernels.items()} == {"B": 64, "L": 64}
    for one in kernels.values():
        assert one.subject == "Lung_Dx-A0001" and one.when == datetime(2007, 4, 4, 18, 58, 24)
        assert np.linalg.norm(one.affine, axis=0)[:3] == pytest.approx([0.841796875, 0.841796875, 5])
        assert one.affine[:, 3] == pytest.approx([-228.036842, -93.0631599, -439])  # lowest slice, last file
    assert kernels["B"].affine == pytest.approx(kernels["L"].affine)


def test_each_crop_lies_on_the_tumour(patient, kernels):
    """Boxes of each kernel: soft tissue (-100 to 200 HU) fills the middle of the crop, and lung lies within reach.

    The picture (docs/log.md) shows the same.
    """
    account = Account()
    found = places.from_boxes(patient / "annotation-A0001", list(kernels.values()), account)
    assert sum(account.used.values()) == 20 and not account.counts
    for one in kernels.values():
        (place,) = found[one.uid]
        assert place.centre[2] == pytest.approx(-209)
        assert place.centre[:2] == pytest.approx((41, 199.5), abs=3)
        volume = one.volume()
        near, _ = crop(volume, np.array(place.centre), 10, 20.0)
        assert ((near > -100) & (near < 200)).mean() > 0.95  # kernel L is noisy
        wide, share = crop(volume, np.array(place.centre), 24, 120.0)
        assert share == 1 and (wide < -700).mean() > 0.15


def test_the_command_takes_one_kernel_and_its_boxes(patient, tmp_path):
    out = tmp_path / "a.cohort"
    words = ["prepare", patient / "Lung_Dx-A0001", "--boxes", patient / "annotation-A0001", "--kernel", "B"]
    assert main([str(w) for w in (*words, "--out", out, "--quiet", "--json")]) == 0
    cohort = load(out)
    assert cohort.record.tolist() == ["Lung_Dx-A0001"] and cohort.streams["image"].values.shape == (1, 1, 32, 32, 32)
    middle = cohort.streams["image"].values[0, 0, 12:20, 12:20, 12:20]
    assert -50 < float(middle.astype(float).mean()) < 100


def test_slices_of_two_dates(data_dir, tmp_path, capsys):
    """Dates before 1970 parse, both intercepts give HU, oblique planes are seen; alone they are no volumes."""
    paths = sorted((data_dir / "ct-two-dates").rglob("*.dcm"))
    if not paths:
        pytest.skip("ct-two-dates is not among the real files")
    assert len(paths) == 18
    when, lowest, tilted = set(), {}, 0
    for path in paths:
        head = pydicom.dcmread(path, stop_before_pixels=True)
        when.add(dicom.moment(head)[0].date())
        hu = dicom.attenuation(path)
        lowest.setdefault(float(head.RescaleIntercept), []).append(float(hu.min()))
        assert hu.shape == (512, 512) and -1024 <= hu.min() < -900 and np.median(hu) < 200
        axes = dicom.orientation([(path, head)])
        tilted += np.abs(np.abs(axes).max(axis=1) - 1).max() > 1e-6
    assert min(when) == datetime(1900, 9, 25).date() and max(when) == datetime(1901, 1, 12).date()
    assert sorted(lowest) == [-1024.0, 0.0] and len(lowest[0.0]) == 3
    assert tilted == 9  # coronal and sagittal reformats, by up to .016 radians
    assert command(main, ["prepare", str(data_dir / "ct-two-dates"), "--out", str(tmp_path / "a"), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "a single slice is no volume" in said and "a reformatted series" in said


def test_luna_coordinates_are_lps_millimetres(data_dir, tmp_path):
    """The published counts; centres lie in the boxes of the other table; and a scan written around one has it there."""
    table = data_dir / "luna16" / "annotations.csv"
    if not table.is_file():
        pytest.skip("luna16 is not among the real files")
    found = places.from_table(table)
    assert (len(found), sum(map(len, found.values()))) == (601, 1186)  # LUNA16, Setio et al. 2017
    inside = total = 0
    with (data_dir / "luna16" / "annotations_with_malignancy.csv").open() as f:
        for row in csv.DictReader(f):
            boxes = [(float(row[f"bboxLow{a}"]), float(row[f"coord{a}"]), float(row[f"bboxHigh{a}"])) for a in "XYZ"]
            total += 1
            inside += all(low <= at <= high for low, at, high in boxes)
    assert inside > 0.95 * total
    uid, nodules = next(iter(found.items()))
    centre = np.array(nodules[0].centre)
    assert centre == pytest.approx([-128.6994211, -175.3192718, -298.3875064])
    origin = centre - [40, 40, 30]
    k, j, i = np.mgrid[:20, :40, :40]
    at = np.stack([i * 2, j * 2, k * 3], -1) + origin
    hu = np.where(np.linalg.norm(at - centre, axis=-1) < nodules[0].diameter, 50.0, -850.0)
    slices(tmp_path / "in", hu, uid=uid, origin=tuple(origin))
    (tmp_path / "in" / "nodules.csv").write_bytes(table.read_bytes())
    assert main(["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "a.cohort"), "--quiet", "--json"]) == 0
    image = load(tmp_path / "a.cohort").streams["image"].values[0, 0].astype(float)
    bright = np.argwhere(image > -400)
    assert np.abs(bright.mean(axis=0) - 15.5).max() < 0.6 and 0 < len(bright) < 600


def test_lidc_patches(data_dir):
    folder = data_dir / "lidc-nodules"
    if not folder.is_dir():
        pytest.skip("lidc-nodules is not among the real files")
    account = Account()
    cohort = lidc(folder, "volumes", account, lambda line: None)
    y = cohort.labels["malignancy"]
    assert (len(cohort), len(set(cohort.subject.tolist()))) == (134, 134)
    assert (int((y == 1).sum()), int((y == 0).sum())) == (67, 26)
    assert account.facts == {"nodules whose LIDC patient is not known (each its own subject)": 9}
    assert cohort.streams["core"].values.shape == cohort.streams["context"].values.shape == (134, 1, 24, 24, 24)
    told = lidc(folder, "statistics", Account(), lambda line: None).streams
    assert told["size"].values[0, 0, 0] == pytest.approx(np.log(8496))  # mask_voxels of the index
    assert (told["intensity"].values[:, 0, 2] <= told["intensity"].values[:, 0, 3]).all()
