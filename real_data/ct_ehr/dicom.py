"""Files of DICOM -> series: one orientation, sorted by position, evenly spaced, or dropped with the reason.

Nothing is taken from file names, folders or InstanceNumber: a slice belongs to its SeriesInstanceUID, and its place is
ImagePositionPatient along the normal of ImageOrientationPatient.
"""

from __future__ import annotations

import struct
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Float
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

from real_data.account import Account
from real_data.ct_ehr.geometry import HIGHEST, LOWEST, Volume
from real_data.ct_ehr.scans import Unusable, day
from simlab.errors import InvalidData

EVEN = 0.01  # slice positions may be off an even spacing by this share of it
TAGS = ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "StudyDate",
        "SeriesDate", "AcquisitionDate", "StudyTime", "Modality", "ImageType", "ConvolutionKernel", "SliceThickness",
        "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "Rows", "Columns", "RescaleSlope",
        "RescaleIntercept", "RescaleType", "PixelRepresentation", "BitsAllocated", "SamplesPerPixel", "InstanceNumber",
        "NumberOfFrames", "InstitutionName"]  # fmt: skip
FEWEST = 2  # slices of a volume
NUMBERS = {"ImageOrientationPatient": 6, "ImagePositionPatient": 3, "PixelSpacing": 2, "RescaleSlope": 1,
           "RescaleIntercept": 1}  # fmt: skip
# What pydicom raises on bytes that are not what they say.
DAMAGED = (InvalidDicomError, BytesLengthException, EOFError, OSError, LookupError, ValueError, TypeError,
           AttributeError, RuntimeError, struct.error)  # fmt: skip


@dataclass(eq=False)
class Series:
    """Slices that belong together, in order of position, and where they lie."""

    uid: str
    subject: str
    when: datetime
    site: str
    kernel: str
    frame: str  # FrameOfReferenceUID: series that share it share their coordinates
    paths: list[Path]
    slices: list[Dataset]  # headers
    affine: Float[np.ndarray, "3 4"]
    notes: list[str] = field(default_factory=list)

    def volume(self) -> Volume:
        """HU of every slice, int16 where slopes are whole. Raises Unusable naming the file that is wrong."""
        hu = np.stack([attenuation(path) for path in self.paths])
        whole = np.rint(hu)
        return Volume(whole.astype(np.int16) if np.array_equal(whole, hu) else hu, self.affine)


def headers(root: Path, account: Account) -> dict[str, list[tuple[Path, Dataset]]]:
    """Headers of all CT images below a folder, by series. Raises InvalidData where there is none."""
    found: dict[str, list[tuple[Path, Dataset]]] = defaultdict(list)
    for path in sorted(p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".")):
        if not path.resolve().is_relative_to(root.resolve()):
            account.drop("dicom", "links", "leaves the folder", 1)
            continue
        head = header(path)
        if head is None:
            if path.suffix.lower() in (".dcm", ".ima", ".dicom") or marked(path):
                account.drop("dicom", "files", "not a DICOM file, or its header is cut short or damaged", 1)
            continue
        uid = str(head.get("SeriesInstanceUID", ""))
        if not uid or "Rows" not in head:
            account.drop("dicom", "files", "no image of a series", 1)
        elif head.get("Modality") != "CT":
            account.drop("dicom", uid, f"modality {head.get('Modality') or 'unknown'}, not CT", 1)
        else:
            found[uid].append((path, head))
    if not found:
        raise InvalidData(f"{root}: no DICOM image of modality CT below it")
    return dict(found)


def header(path: Path) -> Dataset | None:
    """TAGS of a file, each one decoded; None where it is no DICOM file, or one of them cannot be decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # values against the standard: those that matter are looked at later
            head = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
            for tag in list(head.keys()):
                head[tag]  # pydicom decodes a value when it is first asked for
    except DAMAGED:
        return None
    return head


def marked(path: Path) -> bool:
    """Whether a file says that it is DICOM, whatever its name."""
    try:
        with path.open("rb") as f:
            return f.read(132)[128:] == b"DICM"
    except OSError:
        return False


def series(root: Path, kernel: str | None, account: Account, say: Callable[[str], None]) -> list[Series]:
    """The series below a folder that make volumes; every other one is in the account with its reason.

    kernel: the only ConvolutionKernel to take. Raises InvalidData where no series is left.
    """
    found = headers(root, account)
    say(f"{sum(map(len, found.values()))} CT images in {len(found)} series below {root}")
    kept: list[Series] = []
    for uid, files in sorted(found.items()):
        try:
            one = assembled(uid, files)
            if kernel is not None and one.kernel != kernel:
                raise Unusable(f"kernel '{one.kernel}', not '{kernel}'")
        except Unusable as reason:
            account.drop("dicom", uid, str(reason), len(files))
            continue
        account.use("dicom", uid, len(one.paths))
        for note in one.notes:
            account.fact(note, 1)
        kept.append(one)
    account.fact("series that are volumes", len(kept))
    folders = [len({f.uid for f in kept if f.paths[0].parent == p}) for p in {f.paths[0].parent for f in kept}]
    account.fact("folders with several series (told apart by SeriesInstanceUID)", sum(n > 1 for n in folders))
    if not kept:
        reasons: Counter[str] = Counter()
        for (_, _, reason), n in account.counts.items():
            reasons[reason] += n
        told = "; ".join(f"{reason} ({n} file{'s' * (n > 1)})" for reason, n in sorted(reasons.items()))
        raise InvalidData(f"{root}: no series can be used: {told}")
    return kept


def assembled(uid: str, files: list[tuple[Path, Dataset]]) -> Series:
    """One series from the headers of its files. Raises Unusable with the reason."""
    first = files[0][1]
    for path, head in files:
        for tag, count in NUMBERS.items():
            if head.get(tag) in (None, ""):
                raise Unusable(f"no {tag} in {path.name}")
            if len(numbers(head, tag)) != count:
                raise Unusable(f"{tag} of {path.name} is not {count} finite number{'s' * (count > 1)}")
        if not float(head.RescaleSlope):
            raise Unusable(f"RescaleSlope of {path.name} is 0")
    subject = one_of(files, "PatientID", "a series of several patients", "").strip()
    if not subject:
        raise Unusable("no PatientID")
    kind = [str(part).upper() for part in first.get("ImageType", [])]
    if "LOCALIZER" in kind or kind[:1] == ["DERIVED"] or kind[1:2] == ["SECONDARY"]:
        raise Unusable(f"ImageType {chr(92).join(kind[:3])}: a localiser or a reformatted series")
    for tag in ("Rows", "Columns", "PixelSpacing", "SamplesPerPixel", "FrameOfReferenceUID", "StudyDate"):
        one_of(files, tag, f"slices differ in {tag}", "")
    if any(str(first.get(tag) or 1) != "1" for tag in ("SamplesPerPixel", "NumberOfFrames")):
        raise Unusable("colour or multi-frame images")
    unit = one_of(files, "RescaleType", "slices differ in RescaleType", "HU").strip()
    if unit not in ("HU", "US"):
        raise Unusable(f"RescaleType {unit}; HU is expected")
    kernel = one_of(files, "ConvolutionKernel", "several kernels in one series", "unknown")
    files, notes = once(files)
    if unit == "US":
        notes.append("series whose RescaleType is US, unspecified (taken as HU)")
    if len(files) < FEWEST:
        raise Unusable("a single slice is no volume")
    axes = orientation(files)
    files, affine, uneven = placed(files, axes)
    if uneven:
        notes.append("series whose InstanceNumber does not follow position (sorted by position)")
    if np.abs(np.abs(axes).max(axis=1) - 1).max() > 1e-6:
        notes.append("series that lie obliquely (resampled to the patient's axes)")
    when, timed = moment(first)
    if not timed:
        notes.append("scans without a time of day (taken as 00:00: events of that day come after them)")
    if when.year < 1970:
        notes.append("scans before 1970")
    site = str(first.get("InstitutionName", "") or "unknown")
    frame = str(first.get("FrameOfReferenceUID", "") or "")
    paths, slices = [p for p, _ in files], [h for _, h in files]
    return Series(uid, subject, when, site, kernel, frame, paths, slices, affine, notes)


def numbers(head: Dataset, tag: str) -> list[float]:
    """The numbers of a tag; none of them where one is no finite number."""
    try:
        found = np.array(head[tag].value, float).reshape(-1)
    except (TypeError, ValueError):
        return []
    return found.tolist() if np.isfinite(found).all() else []


def one_of(files: list[tuple[Path, Dataset]], tag: str, reason: str, default: str) -> str:
    """The value that all slices share. Raises Unusable where they do not."""
    values = {str(head.get(tag, default) or default) for _, head in files}
    if len(values) > 1:
        raise Unusable(f"{reason}: {', '.join(sorted(values)[:3])}")
    return values.pop()


def once(files: list[tuple[Path, Dataset]]) -> tuple[list[tuple[Path, Dataset]], list[str]]:
    """Files of one slice count once when they are the same in every pixel. Raises Unusable when they are not."""
    kept: dict[str, tuple[Path, Dataset]] = {}
    notes = []
    for path, head in files:
        uid = str(head.get("SOPInstanceUID", ""))
        if uid in kept:
            if not np.array_equal(attenuation(kept[uid][0]), attenuation(path)):
                raise Unusable(f"two images with the SOPInstanceUID of {path.name}")
            notes.append("copies of slices (counted once)")
            continue
        kept[uid] = (path, head)
    return list(kept.values()), notes


def orientation(files: list[tuple[Path, Dataset]]) -> Float[np.ndarray, "2 3"]:
    """Unit vectors along a row and down a column, that all slices share. Raises Unusable."""
    all_of = np.array([[float(v) for v in head.ImageOrientationPatient] for _, head in files])
    if np.ptp(all_of, axis=0).max() > 1e-4:
        raise Unusable("slices differ in orientation")
    axes = all_of[0].reshape(2, 3)
    if np.abs(np.linalg.norm(axes, axis=1) - 1).max() > 1e-3 or abs(axes[0] @ axes[1]) > 1e-3:
        raise Unusable("ImageOrientationPatient is not two unit vectors at right angles")
    return axes


def placed(
    files: list[tuple[Path, Dataset]], axes: Float[np.ndarray, "2 3"]
) -> tuple[list[tuple[Path, Dataset]], Float[np.ndarray, "3 4"], bool]:
    """Slices in order of position, the volume's affine, and whether InstanceNumber tells another order.

    Raises Unusable for two slices at one place, a gap, or an uneven or sheared stack beyond EVEN.
    """
    normal = np.cross(*axes)
    at = np.array([[float(v) for v in head.ImagePositionPatient] for _, head in files])
    along = at @ normal
    order = np.argsort(along, kind="stable")
    gaps = np.diff(along[order])
    usual = float(np.median(gaps))
    if gaps.min() < 0.01 * max(usual, 0.1):
        raise Unusable("different slices at one position")
    if np.abs(gaps - usual).max() > EVEN * usual + 1e-3:
        missing = gaps.max() > 1.5 * usual
        raise Unusable("missing slices" if missing else "slices are unevenly spaced")
    files, at = [files[i] for i in order], at[order]
    step = (at[-1] - at[0]) / (len(at) - 1)  # with a tilted gantry, not along the normal
    off = at - (at[0] + np.arange(len(at))[:, None] * step)
    if np.abs(off).max() > EVEN * usual + 1e-2:
        raise Unusable("slices are not stacked on a straight line")
    down, across = (float(v) for v in files[0][1].PixelSpacing)
    if min(down, across) <= 0:
        raise Unusable("PixelSpacing is not positive")
    affine = np.stack([axes[0] * across, axes[1] * down, step, at[0]], axis=1)
    told = [(numbers(head, "InstanceNumber") if "InstanceNumber" in head else []) or [0.0] for _, head in files]
    return files, affine, told not in (sorted(told), sorted(told, reverse=True))


def moment(head: Dataset) -> tuple[datetime, bool]:
    """When the study was made, any year, and whether a time of day is told. Raises Unusable."""
    for tag in ("StudyDate", "SeriesDate", "AcquisitionDate"):
        if head.get(tag):
            break
    else:
        raise Unusable("no date")
    try:
        date = day(str(head[tag].value), tag)
    except InvalidData as error:
        raise Unusable(str(error)) from error
    clock = str(head.get("StudyTime", "") or "").replace(":", "").strip()
    if not clock:
        return date, False
    try:
        whole, _, part = clock.partition(".")
        hours, minutes, seconds = (int(whole[i : i + 2] or 0) for i in (0, 2, 4))
        micro = int((part or "0")[:6].ljust(6, "0"))
        if not (0 <= hours < 24 and 0 <= minutes < 60 and 0 <= seconds <= 60 and micro >= 0):
            raise ValueError(clock)
        return date + timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=micro), True
    except ValueError as error:
        raise Unusable(f"StudyTime '{clock}' is no time") from error


def attenuation(path: Path) -> Float[np.ndarray, "rows columns"]:
    """HU of one slice, float32, clipped to what CT can be; padding is LOWEST. Raises Unusable naming the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = pydicom.dcmread(path)
        syntax = image.file_meta.TransferSyntaxUID
        compressed = syntax.is_transfer_syntax and syntax.is_compressed
        slope, intercept = np.float32(image.RescaleSlope), np.float32(image.RescaleIntercept)
        padding = image.get("PixelPaddingValue")
        limits = None if padding is None else sorted((int(padding), int(image.get("PixelPaddingRangeLimit", padding))))
    except DAMAGED as error:
        raise Unusable(f"{path.name} is cut short or damaged") from error
    try:
        stored = image.pixel_array
    except DAMAGED as error:
        if compressed:
            raise Unusable(f"compressed ({syntax.name}) and not to be decoded here: decompress the files first, or "
                           "install a decoder that pydicom finds") from error  # fmt: skip
        raise Unusable(f"{path.name} is cut short or damaged") from error
    if stored.ndim != 2:
        raise Unusable(f"{path.name} is not one grey image")
    hu = stored.astype(np.float32) * slope + intercept
    if limits is not None:
        hu[(stored >= limits[0]) & (stored <= limits[1])] = LOWEST
    return np.clip(hu, LOWEST, HIGHEST)
