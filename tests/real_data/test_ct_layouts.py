"""The other layouts: lmsignatures by column name, features, NIfTI; visits, sites, labels in MEDS form."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hospital_files import meds, prepared, ramp, slices

HEAD = "pid,id,session,shifted_scan_date,Duration,lung_cancer,exp-000,exp-001,test_set,site_note"


def session(folder: Path, name: str, place: tuple[int, int, int], logits: tuple[float, ...] = (2.0, 0.5)) -> None:
    """One session's image (a bright cube at `place`, z y x) and its detections, the surest one there."""
    image = np.full((1, 60, 60, 60), 40, np.uint8)  # -918 HU
    z, y, x = place
    image[0, z - 3 : z + 3, y - 3 : y + 3, x - 3 : x + 3] = 170  # 0 HU
    boxes = [[logits[0], z - 0.5, y - 0.5, x - 0.5, 6.0], [logits[1], 5, 5, 5, 4.0]]
    np.save(folder / f"{name}_clean.npy", image)
    np.save(folder / f"{name}_pbb.npy", np.array(boxes))


def lmsignatures(folder: Path) -> Path:
    folder.mkdir(parents=True)
    rows = ["a,atime20010101,0,1951-01-01,730,1,0.5,-0.25,0,x", "a,atime20030101,1,1953-01-01,0,1,0,0,0,x",
            "b,btime20020101,0,2002-01-01,0,0,,1.5,1,x"]
    (folder / "labels.csv").write_text("\n".join([HEAD, *rows]) + "\n")
    session(folder, "atime20010101", (30, 30, 30))
    session(folder, "atime20030101", (20, 30, 40))  # the nodule lies elsewhere in this scan's own frame
    return folder


def test_lmsignatures_is_read_by_column_name(tmp_path):
    made = prepared(lmsignatures(tmp_path / "in"), tmp_path / "a.cohort", "--layout", "lmsignatures", "--field", 16,
                    "--side", 16)
    assert made.subject.tolist() == ["a", "b"] and made.labels["cancer"].tolist() == [1, 0]
    assert made.streams["image"].time[0].tolist() == [0, 731]
    told = made.streams["signatures"]
    assert told.channels == ("exp-000", "exp-001") and told.values[0, 0].tolist() == [0.5, -0.25]
    # All zero is that layout's word for missing, an empty field too; the note in the last column is no signature.
    assert told.observed.tolist() == [[[True, True], [False, False]], [[False, True], [False, False]]]
    assert made.streams["image"].observed[:, :, 0].tolist() == [[True, True], [False, False]]  # b has no image file
    for image in made.streams["image"].values[0].astype(float):  # each scan is cropped around its own detection
        bright = np.argwhere(image > -300)
        assert bright.mean(axis=0) == pytest.approx([7.5] * 3, abs=0.1) and len(bright) == 6**3
        assert image.max() == pytest.approx(170 * 1800 / 255 - 1200, abs=0.5)
    assert made.provenance["split"] == {"test": 1, "train": 1}
    audit = json.loads((tmp_path / "a.cohort.audit.json").read_text())
    assert audit["facts"]["visits whose signatures are all zero (that layout's word for missing)"] == 1
    assert audit["leakage"][0]["leaks"] == 0


def test_a_detection_too_unsure_is_none(tmp_path):
    folder = lmsignatures(tmp_path / "in")
    session(folder, "atime20030101", (20, 30, 40), (-1.5, -2.0))
    made = prepared(folder, tmp_path / "a.cohort", "--layout", "lmsignatures")
    assert made.streams["image"].observed[:, :, 0].tolist() == [[True, False], [False, False]]
    assert "no nodule detected" in {row["reason"] for row in made.provenance["dropped"]}


def test_features_of_scans_and_columns_of_their_table(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    lines = ["pid,scandate,scanorder,cancer_year1,age,pkyr,site", "p1,2001-01-01,0,0,60,20,A", "p1,20020101,1,0,61,,A",
             "p2,1969-12-31,0,1,70,5,B"]
    (folder / "scans.csv").write_text("\n".join(lines) + "\n")
    for name, value in (("p1time2001-01-01", 1.0), ("p1time20020101", 2.0), ("p2time19691231", 3.0)):
        np.save(folder / f"{name}.npy", np.full(5, value, np.float32))
    made = prepared(folder, tmp_path / "a.cohort", "--layout", "features", "--columns", "age,pkyr", "--task", "y1")
    assert made.streams["image"].values[:, :, 0].tolist() == [[1, 2], [3, 0]]
    assert made.streams["image"].channels[:2] == ("f000", "f001")
    assert made.streams["clinical"].values[:, :, 0].tolist() == [[60, 61], [70, 0]]
    assert made.streams["clinical"].observed[0, :, 1].tolist() == [True, False]
    assert made.labels["y1"].tolist() == [0, 1] and made.site.tolist() == ["A", "B"]
    assert made.provenance["begins"]["p2"].startswith("1969-12-31")


def test_nifti_scans_with_nodules_by_file_name(tmp_path):
    nib = pytest.importorskip("nibabel")
    (tmp_path / "in").mkdir()
    hu = np.full((40, 40, 40), -850, np.float32)
    hu[20:24, 10:14, 26:30] = 30
    affine = np.array([[-1.0, 0, 0, 20], [0, -1, 0, 20], [0, 0, 1, -20], [0, 0, 0, 1]])  # i to the right: LPS on disk
    nib.save(nib.Nifti1Image(hu, affine), tmp_path / "in" / "7time2001-02-03.nii.gz")
    x, y, z = 21.5 - 20, 11.5 - 20, 27.5 - 20
    (tmp_path / "in" / "nodules.csv").write_text(f"seriesuid,coordX,coordY,coordZ\n7time2001-02-03,{x},{y},{z}\n")
    made = prepared(tmp_path / "in", tmp_path / "a.cohort", "--layout", "nifti", "--side", 16, "--field", 16)
    bright = np.argwhere(made.streams["image"].values[0, 0] > -400)
    assert len(bright) == 64 and bright.mean(axis=0) == pytest.approx([7.5] * 3)
    assert made.record.tolist() == [7]


def test_visits_of_the_record_without_a_scan_and_labels_in_meds_form(tmp_path):
    """A scan that the record tells of is a visit; its image is unobserved, and what was known by then is there."""
    slices(tmp_path / "in", ramp(), patient="7", InstitutionName="North")
    slices(tmp_path / "in", ramp(), uid="1.2.8", patient="8", date="20010204", InstitutionName="South")
    folder = meds(tmp_path / "ehr", [(7, -30.0, "IMAGING//CT//CHEST", None, ""), (7, -40.0, "LAB//A", 2.0, "g/dL"),
                                     (7, -20.0, "LAB//A", 3.0, "g/dL"), (8, 0.0, "LAB//A", 4.0, "g/dL")])
    (folder / "labels").mkdir()
    pl.DataFrame({"subject_id": [7, 8], "prediction_time": [datetime(2002, 1, 1)] * 2, "boolean_value": [True, False]}
                 ).write_parquet(folder / "labels" / "cancer.parquet")
    made = prepared(tmp_path / "in", tmp_path / "a.cohort", "--side", 4, "--ehr", folder, "--least", 1)
    assert made.length.tolist() == [2, 1] and made.streams["image"].time[0].tolist() == [0, 30]
    assert made.streams["image"].observed[:, :, 0].tolist() == [[False, True], [True, False]]
    assert made.streams["clinical"].values[:, :, 0].tolist() == [[2, 3], [4, 0]]
    assert made.site.tolist() == ["North", "South"] and made.labels["cancer"].tolist() == [1, 0]
    inputs = made.inputs("cancer")
    assert len(inputs) == 2 and inputs.events is not None and len(inputs.events.time) == 3
