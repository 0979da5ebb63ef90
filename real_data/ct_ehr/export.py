"""A cohort back into files: DICOM series, nodules.csv, a MEDS record and its labels, that `prepare` reads again.

    dicom/nodules.csv  dicom/S1/P00001/V01/*.dcm    meds/data/S1.parquet  meds/metadata/...  meds/labels/TASK.parquet

A second export into the same folder adds its site. Sites have habits of their own: every other one stores HU as they
are, signed, and numbers its slices from the top, the others HU + 1024, unsigned. Files are named by their UID, so that
nothing but the headers tells their order. HU are rounded to whole ones.
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
ETL = "real_data.ct_ehr export"
SCHEMA = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32,
          "unit": pl.String, "image_path": pl.String, "series_uid": pl.String}  # fmt: skip
FIRST_DAY, DAYS = datetime(1950, 1, 1, 12), 25_000  # first visits of subjects without dates lie in these days


def export(cohort: Cohort, folder: Path, say: Callable[[str], None]) -> dict[str, int]:
    """Write the files below folder; how many of each. Raises InvalidData for a cohort that cannot be written."""
    field = cohort.provenance.get("field_mm")
    image = cohort.streams.get("image")
    if field is None or image is None or image.values.ndim != 5 or image.units != ("HU",) or image.time is None:
        raise InvalidData("only a cohort of volumes in HU of a known width, on dates, can be written as DICOM: one of "
                          "the hospital world, or one that real_data.ct_ehr prepared from scans")  # fmt: skip
    there = sites_of(folder)
    new = sorted(set(cohort.site.tolist()))
    if there & set(new):
        raise InvalidData(f"{folder} already holds site {min(there & set(new))}: name another folder")
    habits = {site: len(there) + i for i, site in enumerate(new)}
    begins = cohort.provenance.get("begins")
    rows: dict[str, list[tuple[object, ...]]] = {site: [] for site in new}
    places: list[str] = []
    slices = 0
    for n in range(len(cohort)):
        subject, site = str(cohort.subject[n]), str(cohort.site[n])
        number, begin = meds_number(cohort.subject[n]), first_visit(subject, begins)
        for j in range(int(cohort.length[n])):
            when, path, uid = begin + timedelta(days=float(image.time[n, j])), "", ""
            if image.observed[n, j, 0]:
                path, uid = f"S{habits[site] + 1}/P{n + 1:05d}/V{j + 1:02d}", uid_of("series", subject, j)
                hu = image.values[n, j].astype(np.float32) * np.float32(image.scale) + np.float32(image.offset)
                centre = series(folder / "dicom" / path, hu, float(field), subject, site, habits[site], when, j)
                places.append(f"{uid},{','.join(f'{c:.9g}' for c in centre)},0")
                slices += len(hu)
            rows[site].append((number, when, SCANNED, None, "", path, uid))
        if cohort.events is not None:
            rows[site] += events(cohort, n, number, begin)
        if n % 100 == 99:
            say(f"{n + 1} of {len(cohort)} subjects written")
    appended(folder / "dicom" / "nodules.csv", "seriesuid,coordX,coordY,coordZ,diameter_mm", places)
    why = str(cohort.provenance.get("licence", "not known: ask where the cohort came from"))
    written = record(folder / "meds", cohort, rows, habits, there)
    for part in ("dicom", "meds"):
        (folder / part / "LICENSE.txt").write_text(why + "\n", encoding="utf-8")
    return {"dicom slices": slices, "dicom series": len(places), **written}


def sites_of(folder: Path) -> set[str]:
    """Sites that an earlier export wrote into the folder. Raises InvalidData where it holds something else."""
    about = folder / "meds" / "metadata" / "dataset.json"
    if not about.is_file():
        if any((folder / part).exists() for part in ("dicom", "meds")):
            raise InvalidData(f"{folder} already holds dicom/ or meds/ of something else: name another folder")
        return set()
    try:
        told = json.loads(about.read_text(encoding="utf-8"))
        if told["etl_name"] != ETL:
            raise KeyError("etl_name")
        return set(told["sites"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidData(f"{about}: not of an export of this command; name another folder") from error


def appended(path: Path, head: str, lines: list[str]) -> None:
    """Write lines below a header, or below those that are there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text(encoding="utf-8") if path.is_file() else head + "\n"
    path.write_text(before + "".join(line + "\n" for line in lines), encoding="utf-8")


def meds_number(subject: object) -> int:
    """A MEDS subject is an int64: the subject itself where it is one, else a number from its hash (`subjects.csv`)."""
    if isinstance(subject, (int, np.integer)):
        return int(subject)
    return int.from_bytes(hashlib.sha256(str(subject).encode()).digest()[:8], "big") >> 1


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
    folder: Path, cohort: Cohort, rows: dict[str, list[tuple[object, ...]]], habits: dict[str, int], there: set[str]
) -> dict[str, int]:
    """The MEDS folder: data, metadata, a label file a task (its time: the last visit), names of ids that are words."""
    for part in ("data", "metadata", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    count = 0
    for site, of_site in rows.items():
        frame = pl.DataFrame(of_site, schema=SCHEMA, orient="row")
        frame = frame.sort("subject_id", "time", "code", maintain_order=True)
        frame.write_parquet(folder / "data" / f"S{habits[site] + 1}.parquet")
        count += frame.height
    codes = pl.concat([pl.read_parquet(p, columns=["code"]) for p in sorted((folder / "data").glob("*.parquet"))])
    codes = codes.unique().sort("code").with_columns(description=pl.lit(""), parent_codes=pl.lit(None))
    codes.write_parquet(folder / "metadata" / "codes.parquet")
    about = {"dataset_name": "simlab export", "meds_version": "0.4.1", "etl_name": ETL,
             "sites": sorted(there | set(rows))}  # fmt: skip
    (folder / "metadata" / "dataset.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    if cohort.subject.dtype.kind not in "iu":
        lines = [f'"{s}",{meds_number(s)}' for s in cohort.subject.tolist()]
        appended(folder / "subjects.csv", "patient_id,subject_id", lines)
    written = {"meds/data": count}
    for name, y in cohort.labels.items():
        if y.ndim == 1:
            written[f"meds/labels/{name}"] = label_file(folder / "labels" / f"{name}.parquet", cohort, y)
    return written


def label_file(path: Path, cohort: Cohort, y: Float[np.ndarray, "records"]) -> int:
    """One task's labels in MEDS' form, after those that are there; gives how many are new."""
    time, begins = cohort.streams["image"].time, cohort.provenance.get("begins")
    told = [
        (meds_number(s), first_visit(str(s), begins) + timedelta(days=float(time[n, cohort.length[n] - 1])), bool(y[n]))
        for n, s in enumerate(cohort.subject.tolist()) if not np.isnan(y[n])
    ]  # fmt: skip
    schema = {"subject_id": pl.Int64, "prediction_time": pl.Datetime("us"), "boolean_value": pl.Boolean}
    frame = pl.DataFrame(told, schema=schema, orient="row")
    (pl.concat([pl.read_parquet(path), frame]) if path.is_file() else frame).write_parquet(path)
    return len(told)
