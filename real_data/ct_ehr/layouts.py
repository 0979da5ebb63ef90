"""The scans of each layout: DICOM series, NIfTI files, the `lmsignatures` layout, and features computed before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from real_data.account import Account
from real_data.ct_ehr import dicom, places
from real_data.ct_ehr.geometry import LOWEST, Volume, crop
from real_data.ct_ehr.places import Place
from real_data.ct_ehr.rules import Rules
from real_data.ct_ehr.scans import Scan, Unusable, below, day, number, table
from simlab.errors import InvalidData, MissingExtra

SUBJECT, DATE = ("pid", "patient_id", "subject_id"), ("scandate", "shifted_scan_date", "date")
LABEL = ("lung_cancer", "label", "cancer", "cancer_year1")
NODULE, WHOLE = 48.0, 384.0  # millimetres shown around a nodule, and of a scan without one
WINDOW = (-1200.0, 600.0)  # HU of 0 and 255 in lmsignatures' images
LEAST_SURE = -1.0  # logit of a detection that counts there


def scans(folder: Path, rules: Rules, account: Account, say: Callable[[str], None]) -> list[Scan]:
    """All scans of a folder in the layout that `rules` names. Raises InvalidData where there is none."""
    return {"dicom": of_dicom, "nifti": of_nifti, "lmsignatures": of_lmsignatures, "features": of_features}[
        rules.layout
    ](folder, rules, account, say)


# ----------------------------------------------------------------------------------------------------- DICOM and NIfTI


def of_dicom(folder: Path, rules: Rules, account: Account, say: Callable[[str], None]) -> list[Scan]:
    """One scan a usable series; of several on one day the thinnest slices, then the most, then the first kernel by name
    (`Scan.rank`)."""
    series = dicom.series(folder, rules.kernel, account, say)
    listed = nodule_table(folder, rules)
    marked = None if listed is None else places.from_table(listed)
    if rules.boxes is not None:
        marked = {**(marked or {}), **places.from_boxes(rules.boxes, series, account)}
    if marked is not None:
        marked = places.shared(marked, series, account)
        account.drop("nodules", "*", "of a series that is not here, or not usable", len(marked.keys() - {
            s.uid for s in series}))  # fmt: skip
    for s in series:
        tell(s, account)
    return [
        Scan(s.subject, s.when, s.uid, s.site if s.site != "unknown" else rules.site,
             partial(around_nodule, s.volume, s.uid, marked, rules, account),
             (round(float(np.linalg.norm(s.affine[:, 2])), 3), -len(s.paths), s.kernel, s.uid))
        for s in series
    ]  # fmt: skip


def tell(series: dicom.Series, account: Account) -> None:
    """The audit's facts of one series: slice spacing, orientation, kernel, decade."""
    normal = np.abs(np.cross(series.affine[:, 0], series.affine[:, 1]))
    plane = ("sagittal", "coronal", "axial")[int(np.argmax(normal))]
    account.fact(f"orientation {plane}, series", 1)
    account.fact(f"slices {np.linalg.norm(series.affine[:, 2]):.3g} mm apart, series", 1)
    account.fact(f"kernel {series.kernel}, series", 1)
    account.fact(f"dated in the {series.when.year // 10 * 10}s, series", 1)


def nodule_table(folder: Path, rules: Rules) -> Path | None:
    """The table of nodules: the one that is named, else nodules.csv of the folder if it is there."""
    if rules.nodules is not None:
        return rules.nodules
    return folder / "nodules.csv" if (folder / "nodules.csv").is_file() else None


def width(folder: Path, rules: Rules) -> float | None:
    """Millimetres that an image shows from side to side; None where images are no crops."""
    if rules.layout == "features":
        return None
    named = rules.layout == "lmsignatures" or rules.boxes is not None or nodule_table(folder, rules) is not None
    return rules.field or (NODULE if named else WHOLE)


def around_nodule(
    load: Callable[[], Volume], key: str, marked: dict[str, list[Place]] | None, rules: Rules, account: Account
) -> Float[np.ndarray, "side side side"]:
    """The crop around a scan's largest nodule, or around its middle where no nodules are named at all."""
    if marked is not None and key not in marked:
        raise Unusable("no nodule named for this scan")
    volume = load()
    if marked is None:
        centre, field = volume.middle(), rules.field or WHOLE
        account.fact("scans shown whole (no nodules are named)", 1)
    else:
        chosen = max(marked[key], key=lambda place: place.diameter)
        account.fact("further nodules of a scan (the largest is shown)", len(marked[key]) - 1)
        centre, field = np.array(chosen.centre), rules.field or NODULE
        if not volume.holds(centre):
            raise Unusable("the nodule lies outside the scan (its place must be LPS millimetres of this series)")
    values, share = crop(volume, centre, rules.side, field)
    account.fact("crops that reach beyond the scan (filled as air)", int(share < 1))
    return values


def of_nifti(folder: Path, rules: Rules, account: Account, say: Callable[[str], None]) -> list[Scan]:
    """The NIfTI files of scans.csv (pid, scandate, fpath), or, without one, all named PIDtimeDATE.nii[.gz]."""
    found: list[Scan] = []
    listed = nodule_table(folder, rules)
    marked = None if listed is None else places.from_table(listed)
    for path, row in listed_files(folder, "fpath", (".nii", ".nii.gz"), account):
        key = path.name.removesuffix(".gz").removesuffix(".nii")
        show = partial(around_nodule, partial(nifti, path), key, marked, rules, account)
        found.append(row(key, show, rules.site))
    say(f"{len(found)} NIfTI files below {folder}")
    return found


def nifti(path: Path) -> Volume:
    """A NIfTI volume. Its world is RAS: x and y change sign. Raises Unusable, MissingExtra."""
    try:
        import nibabel
    except ModuleNotFoundError as error:
        raise MissingExtra("reading NIfTI needs nibabel: pip install 'simlab[nifti]'") from error
    try:
        image = nibabel.load(path)
        values = np.asarray(image.get_fdata(dtype=np.float32))
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError) as error:
        raise Unusable(f"{path.name} is no NIfTI file, or is cut short") from error
    if values.ndim != 3 or min(values.shape) < 2:
        raise Unusable(f"{path.name} has shape {values.shape}; a volume is expected")
    if image.header["qform_code"] == 0 and image.header["sform_code"] == 0:
        raise Unusable(f"{path.name} does not say its orientation (qform and sform are 0)")
    affine = np.diag([-1.0, -1.0, 1.0]) @ image.affine[:3].astype(float)
    if abs(np.linalg.det(affine[:, :3])) < 1e-9:
        raise Unusable(f"{path.name} has an affine without volume")
    return Volume(np.clip(values.transpose(2, 1, 0), LOWEST, None), affine)


def listed_files(
    folder: Path, column: str, endings: tuple[str, ...], account: Account
) -> Iterator[tuple[Path, Callable[..., Scan]]]:
    """(path, maker of a Scan) of every row of scans.csv, else of every file named PIDtimeDATE."""
    listed = folder / "scans.csv"
    if listed.is_file():
        rows, (pid, date) = table(listed, (SUBJECT, DATE))
        for n, row in enumerate(rows, 2):
            what = f"{listed}, line {n}"
            if not row[pid].strip():
                account.drop("scans", "*", "no patient id", 1)
                continue
            named = (row.get(column) or "").strip()
            path = below(folder, named, what) if named else by_name(folder, row[pid], row[date], endings)
            yield path, partial(scan_of, row, row[pid].strip(), day(row[date], what))
        return
    pattern = re.compile(r"(.+)time(\d{4}-?\d{2}-?\d{2})$")
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name.endswith(endings))
    if not paths:
        raise InvalidData(f"{folder}: no scans.csv (pid, scandate) and no file PIDtimeDATE{endings[0]}")
    for path in paths:
        stem = next(path.name.removesuffix(e) for e in sorted(endings, key=len, reverse=True) if path.name.endswith(e))
        named = pattern.match(stem)
        if named is None:
            account.drop("scans", "files", "not named PIDtimeDATE, and no scans.csv says whose it is", 1)
        else:
            yield path, partial(scan_of, {}, named[1], day(named[2], path.name))


def by_name(folder: Path, pid: str, date: str, endings: tuple[str, ...]) -> Path:
    """PIDtimeDATE with any of the endings, as the date is written or without hyphens; the first where none is there."""
    tried = [below(folder, f"{pid.strip()}time{d}{e}", "pid") for d in (date.strip(), date.strip().replace("-", ""))
             for e in endings]  # fmt: skip
    return next((p for p in tried if p.is_file()), tried[0])


def scan_of(row: dict[str, str], subject: str, when: object, key: str, show: Callable, site: str) -> Scan:
    extra: dict[str, object] = {"row": row}
    label = next((row[c] for c in LABEL if c in row), None)
    if label is not None:
        extra["label"] = label
    return Scan(subject, when, key, row.get("site") or site, show, (key,), extra)


# ---------------------------------------------------------------------------------------- features, and lmsignatures


def of_features(folder: Path, rules: Rules, account: Account, say: Callable[[str], None]) -> list[Scan]:
    """Arrays computed before, PIDtimeDATE.npy (or scans.csv with column fpath), all of one shape."""
    found = [row(path.name.removesuffix(".npy"), partial(features, path), rules.site)
             for path, row in listed_files(folder, "fpath", (".npy",), account)]  # fmt: skip
    say(f"{len(found)} scans in {folder}")
    return found


def array(path: Path) -> np.ndarray:
    """An .npy file of numbers. Raises Unusable."""
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise Unusable("its file is not there") from error
    except (OSError, ValueError, EOFError) as error:
        raise Unusable(f"{path.name} is no .npy file of numbers, or is cut short") from error
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        raise Unusable(f"{path.name} holds no numbers")
    return found


def features(path: Path) -> Float[np.ndarray, "..."]:
    found = array(path).astype(np.float32)
    if not np.isfinite(found).all():
        raise Unusable(f"{path.name} has NaN or infinity")
    return found.reshape(-1) if found.ndim < 3 else found


def of_lmsignatures(folder: Path, rules: Rules, account: Account, say: Callable[[str], None]) -> list[Scan]:
    """labels.csv (pid, id, shifted_scan_date, lung_cancer, exp-000 ..., by name), ID_clean.npy and ID_pbb.npy.

    Each scan is cropped around its own surest detection. A row of signatures that is zero throughout is that layout's
    way of saying that there are none: unobserved.
    """
    listed = folder / "labels.csv"
    rows, (pid, uid, date, label) = table(listed, (("pid",), ("id",), ("shifted_scan_date",), ("lung_cancer",)))
    names = sorted((c for c in (rows[0] if rows else ()) if re.fullmatch(r"exp-\d+", c)), key=lambda c: int(c[4:]))
    found = []
    for n, row in enumerate(rows, 2):
        what = f"{listed}, line {n}"
        if not row[pid].strip():
            account.drop("labels.csv", "*", "no patient id", 1)
            continue
        extra: dict[str, object] = {"row": row, "label": row[label]}
        if names:
            told = np.array([number(row[c], f"{what}, {c}") if row[c].strip() else np.nan for c in names], np.float32)
            if not np.nan_to_num(told).any():
                account.fact("visits whose signatures are all zero (that layout's word for missing)", 1)
                told[:] = np.nan
            extra["signatures"], extra["signature_names"] = told, names
        if row.get("test_set", ""):
            extra["test"] = row["test_set"].strip().lower() in ("1", "true")
        show = partial(detected, *(below(folder, row[uid] + e, "id") for e in ("_clean.npy", "_pbb.npy")), rules,
                       account)  # fmt: skip
        found.append(Scan(row[pid].strip(), day(row[date], what), row[uid], rules.site, show, (row[uid],), extra))
    say(f"{len(found)} sessions in {listed}")
    return found


def detected(clean: Path, boxes: Path, rules: Rules, account: Account) -> Float[np.ndarray, "side side side"]:
    """The crop around a scan's surest detection, HU, of images of 1 mm voxels windowed to WINDOW."""
    image, found = array(clean), array(boxes)
    if image.ndim == 4 and image.shape[0] == 1:
        image = image[0]
    if image.ndim != 3 or image.dtype != np.uint8:
        raise Unusable(f"{clean.name} is {image.dtype} {image.shape}; uint8 (1, Z, Y, X) is expected")
    if found.ndim != 2 or found.shape[1] != 5:
        raise Unusable(f"{boxes.name} has shape {found.shape}; rows of logit, z, y, x, diameter are expected")
    found = found[found[:, 0] > LEAST_SURE]
    if not len(found):
        raise Unusable("no nodule detected")
    _, z, y, x, _ = found[np.argmax(found[:, 0])]
    low, high = WINDOW
    volume = Volume(image * np.float32((high - low) / 255) + np.float32(low), np.eye(3, 4))
    if not volume.holds(np.array([x, y, z], float)):
        raise Unusable("the detection lies outside the image")
    values, share = crop(volume, np.array([x, y, z], float), rules.side, rules.field or NODULE)
    account.fact("crops that reach beyond the scan (filled as air)", int(share < 1))
    return values
