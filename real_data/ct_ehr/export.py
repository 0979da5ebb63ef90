"""A cohort back into files: DICOM series, nodules.csv, a MEDS record and its labels, that `prepare` reads again.

    dicom/nodules.csv  dicom/P00001/V01/*.dcm    meds/data/events.parquet  meds/metadata/...  meds/labels/TASK.parquet

Each site has habits of its own: one stores HU + 1024 unsigned, the other HU as they are, signed, numbered the other way
round. Files are named by their UID, so that nothing but the headers tells their order. HU are rounded to whole ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Float
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from simlab.cohort import Cohort
from simlab.errors import InvalidData

SCANNED = "IMAGING//CT//CHEST"
SCHEMA = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float64,
          "unit": pl.String, "image_path": pl.String, "series_uid": pl.String}  # fmt: skip
FIRST_DAY, DAYS = datetime(1950, 1, 1, 12), 25_000  # first visits of subjects without dates lie in these days


def export(cohort: Cohort, folder: Path, say: Callable[[str], None]) -> dict[str, int]:
    """Write the files below folder; gives how many rows or files of each. Raises InvalidData where a cohort cannot be."""
    field = cohort.provenance.get("field_mm")
    image = cohort.streams.get("image")
    if field is None or image is None or image.values.ndim != 5 or image.units != ("HU",):
        raise InvalidData("only a cohort of volumes in HU of a known width can be written as DICOM: one of the "
                          "hospital world, or one that real_data.ct_ehr prepared from scans")  # fmt: skip
    if any((folder / part).exists() for part in ("dicom", "meds")):
        raise InvalidData(f"{folder} already holds dicom/ or meds/: name another folder")
    numbers = meds_numbers(cohort.subject)
    sites = sorted(set(cohort.site.tolist()))
    begins = cohort.provenance.get("begins")
    rows: list[tuple[object, ...]] = []
    places, count = ["seriesuid,coordX,coordY,coordZ,diameter_mm"], 0
    for n in range(len(cohort)):
        subject, site = str(cohort.subject[n]), str(cohort.site[n])
        begin = first_visit(subject, begins)
        for j in range(int(cohort.length[n])):
            when = begin + timedelta(days=float(image.time[n, j]) if image.time is not None else 0.0)
            path, uid = "", ""
            if image.observed[n, j, 0]:
                path, uid = f"P{n + 1:05d}/V{j + 1:02d}", uid_of("series", subject, j)
                hu = image.values[n, j].astype(np.float32) * np.float32(image.scale) + np.float32(image.offset)
                centre = series(folder / "dicom" / path, hu, float(field), subject, site, sites.index(site), when, j)
                places.append(f"{uid},{','.join(f'{c:g}' for c in centre)},0")
                count += len(hu)
            rows.append((numbers[n], when, SCANNED, None, "", path, uid))
        if cohort.events is not None:
            rows += events(cohort, n, numbers[n], begin)
        if n % 100 == 99:
            say(f"{n + 1} of {len(cohort)} subjects written")
    (folder / "dicom").mkdir(parents=True, exist_ok=True)
    (folder / "dicom" / "nodules.csv").write_text("\n".join(places) + "\n", encoding="utf-8")
    (folder / "dicom" / "LICENSE.txt").write_text(str(cohort.provenance.get("licence", "Synthetic: no patient is "
                                                  "behind these files")) + "\n", encoding="utf-8")  # fmt: skip
    written = record(folder / "meds", cohort, numbers, rows, begins)
    return {"dicom slices": count, "dicom series": len(places) - 1, **written}


def meds_numbers(subject: np.ndarray) -> list[int]:
    """MEDS subjects are int64: the subjects themselves where they are numbers, else 1, 2, ... (`subjects.csv`)."""
    return [int(s) for s in subject.tolist()] if subject.dtype.kind in "iu" else list(range(1, len(subject) + 1))


def first_visit(subject: str, begins: object) -> datetime:
    """When the subject was first seen: as the cohort says, else a day of its own, before 1970 for many."""
    if isinstance(begins, Mapping):
        return datetime.fromisoformat(str(begins[subject]))
    digest = hashlib.sha256(f"first visit {subject}".encode()).digest()
    return FIRST_DAY + timedelta(days=int.from_bytes(digest[:8], "big") % DAYS)


def uid_of(*parts: object) -> str:
    """A UID that follows from these words (UUID-derived root 2.25)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def series(
    folder: Path, hu: Float[np.ndarray, "z y x"], field: float, subject: str, site: str, habit: int, when: datetime,
    visit: int,
) -> tuple[float, float, float]:
    """Write one volume as a series; gives its centre in LPS millimetres (a place of its own in the scanner)."""
    folder.mkdir(parents=True, exist_ok=True)
    side, (across, down) = len(hu), hu.shape[:0:-1]
    voxel = field / side
    signed = habit % 2 == 1
    stored = np.rint(hu).astype(np.int32) + (0 if signed else 1024)
    start = np.array([-172.5, -140.25, -300.0]) + 10 * habit
    centre = start + (np.array([across, down, side]) - 1) / 2 * voxel
    uid, study = uid_of("series", subject, visit), uid_of("study", subject, visit)
    for k in range(side):
        one = uid_of("image", subject, visit, k)
        data = header(one, uid, study, subject, site, habit, when, hu.shape[1:], voxel)
        data.FrameOfReferenceUID = uid_of("frame", subject, visit)
        data.InstanceNumber = side - k if signed else k + 1
        data.ImagePositionPatient = [float(start[0]), float(start[1]), float(start[2] + k * voxel)]
        data.RescaleIntercept, data.PixelRepresentation = (0, 1) if signed else (-1024, 0)
        data.PixelData = stored[k].astype("<i2" if signed else "<u2").tobytes()
        data.save_as(folder / f"{one[-16:]}.dcm", enforce_file_format=True)
    x, y, z = centre.tolist()
    return x, y, z


def header(
    uid: str, series_uid: str, study: str, subject: str, site: str, habit: int, when: datetime,
    shape: tuple[int, ...], voxel: float,
) -> FileDataset:
    """A CT image of a slice without its pixels and place."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, uid
    data.SeriesInstanceUID, data.StudyInstanceUID = series_uid, study
    data.PatientID, data.PatientName, data.InstitutionName = subject, "", site
    data.StudyDate = f"{when.year:04d}{when:%m%d}"
    data.StudyTime = f"{when:%H%M%S.%f}"
    data.Modality, data.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.ConvolutionKernel = ("B", "L")[habit % 2]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.PixelSpacing = [voxel, voxel]
    data.SliceThickness = voxel
    data.Rows, data.Columns = shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.RescaleSlope, data.RescaleType = 15, 1, "HU"
    return data


def events(cohort: Cohort, n: int, number: int, begin: datetime) -> list[tuple[object, ...]]:
    """Rows of one record's events, to the microsecond."""
    e = cohort.events
    part = slice(e.offsets[n], e.offsets[n + 1])
    return [
        (number, begin + timedelta(days=t), code, None if np.isnan(value) else float(value), unit, "", "")
        for t, code, value, unit in zip(e.time[part].tolist(), e.code[part].tolist(), e.value[part].tolist(),
                                        e.unit[part].tolist(), strict=True)
    ]  # fmt: skip


def record(
    folder: Path, cohort: Cohort, numbers: list[int], rows: list[tuple[object, ...]], begins: object
) -> dict[str, int]:
    """The MEDS folder: data, metadata, a label file a task (its time: the last visit), names where ids are no numbers."""
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("subject_id", "time", "code", maintain_order=True)
    for part in ("data", "metadata", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    frame.write_parquet(folder / "data" / "events.parquet")
    codes = frame.select("code").unique().sort("code").with_columns(description=pl.lit(""), parent_codes=pl.lit(None))
    codes.write_parquet(folder / "metadata" / "codes.parquet")
    about = {"dataset_name": "simlab export", "meds_version": "0.4.1", "etl_name": "real_data.ct_ehr export"}
    (folder / "metadata" / "dataset.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    if cohort.subject.dtype.kind not in "iu":
        lines = [f'"{s}",{n}' for s, n in zip(cohort.subject.tolist(), numbers, strict=True)]
        (folder / "subjects.csv").write_text("\n".join(["patient_id,subject_id", *lines]) + "\n", encoding="utf-8")
    time = cohort.streams["image"].time
    written = {"meds/data/events": frame.height}
    for name, y in cohort.labels.items():
        told = [
            (numbers[n], first_visit(str(cohort.subject[n]), begins) + timedelta(
                days=float(time[n, cohort.length[n] - 1]) if time is not None else 0.0), bool(y[n]))
            for n in range(len(cohort)) if y.ndim == 1 and not np.isnan(y[n])
        ]  # fmt: skip
        schema = {"subject_id": pl.Int64, "prediction_time": pl.Datetime("us"), "boolean_value": pl.Boolean}
        pl.DataFrame(told, schema=schema, orient="row").write_parquet(folder / "labels" / f"{name}.parquet")
        written[f"meds/labels/{name}"] = len(told)
    return written
