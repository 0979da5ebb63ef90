"""A simulated hospital of two sites as files, and its cohorts; and one small DICOM series written without our code."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from real_data.ct_ehr.__main__ import main
from real_data.ct_ehr.export import export
from simlab.cohort import Cohort, load
from simlab.environments.registry import find_world
from simlab.environments.scenario import sample_cohort


def cohorts(records: int, side: int, **knobs: object) -> list[Cohort]:
    """The source's and the external site's cohorts, so many records each."""
    spec = find_world("hospital").spec(side=side, psf_e=2.5, noise_e=40, density_e=2.0, **knobs)
    return [sample_cohort(spec, "test-data", records, 3, 0, "source", world="hospital"),
            sample_cohort(spec, "external-data", records, 3, 0, "external", world="hospital")]


def written(made: list[Cohort], folder: Path) -> Path:
    """Both sites' files in one folder."""
    for cohort in made:
        export(cohort, folder, lambda line: None)
    return folder


def prepared(folder: Path, out: Path, *words: object, ehr: bool = True) -> Cohort:
    """What the command makes of the files. Raises what it raises."""
    record = ["--ehr", folder / "meds"] if ehr and (folder / "meds").is_dir() else []
    scans = folder / "dicom" if (folder / "dicom").is_dir() else folder
    assert main([str(w) for w in ("prepare", scans, "--out", out, "--quiet", *record, *words)]) == 0
    return load(out)


def slices(
    folder: Path, hu: np.ndarray, *, uid: str = "1.2.3", patient: str = "7", rows: tuple[float, ...] = (1, 0, 0),
    columns: tuple[float, ...] = (0, 1, 0), origin: tuple[float, ...] = (0, 0, 0), spacing: float = 2.0,
    step: float = 3.0, date: str = "20010203", time: str = "101500", intercept: float = -1024, **tags: object,
) -> list[Path]:
    """A series of (z, y, x) HU written tag by tag; slices go along the normal. Files are named so that no order shows.

    tags: any DICOM attribute; None leaves it out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.cross(rows, columns)
    paths = []
    for k, plane in enumerate(hu):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"{uid}.{k + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        d.SOPClassUID, d.SOPInstanceUID, d.SeriesInstanceUID = CTImageStorage, f"{uid}.{k + 1}", uid
        d.StudyInstanceUID, d.FrameOfReferenceUID, d.PatientID = uid + ".0", uid + ".9", patient
        d.StudyDate, d.StudyTime, d.Modality, d.ImageType = date, time, "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        d.ConvolutionKernel, d.InstanceNumber = "B", k + 1
        d.ImageOrientationPatient = [f"{v:.10g}" for v in (*rows, *columns)]
        d.ImagePositionPatient = [f"{v:.10g}" for v in np.asarray(origin) + k * step * normal]
        d.PixelSpacing, d.SliceThickness = [spacing, spacing], step
        d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = *plane.shape, 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 1
        d.RescaleSlope, d.RescaleIntercept = 1, intercept
        d.PixelData = np.rint(plane - intercept).astype("<i2").tobytes()
        for name, value in tags.items():
            setattr(d, name, value)
            if value is None:
                delattr(d, name)
        path = folder / f"{(k * 7919) % 1009:04d}-{uid[-3:]}.dcm"
        d.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def edit(path: Path, **tags: object) -> None:
    """Change attributes of a file; None takes one away."""
    d = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(d, name)
        else:
            setattr(d, name, value)
    d.save_as(path)


def ramp(n: int = 5, rows: int = 6, columns: int = 7) -> np.ndarray:
    """A small volume in which every voxel differs."""
    z, y, x = np.mgrid[:n, :rows, :columns]
    return (100 * z + 10 * y + x - 400).astype(float)


def meds(folder: Path, rows: list[tuple]) -> Path:
    """A MEDS folder of (subject, days since 2001-02-03 10:15 or None, code, value, unit)."""
    import polars as pl

    start = datetime(2001, 2, 3, 10, 15)
    made = [(s, None if t is None else start + timedelta(days=t), c, v, u) for s, t, c, v, u in rows]
    schema = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32,
              "unit": pl.String}
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pl.DataFrame(made, schema=schema, orient="row").write_parquet(folder / "data" / "a.parquet")
    return folder
