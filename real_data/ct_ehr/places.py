"""Where the nodules are: tables of world millimetres, and boxes drawn on slices."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from real_data.account import Account
from real_data.ct_ehr.dicom import Series
from real_data.ct_ehr.scans import number, table
from simlab.errors import InvalidData

SERIES = ("seriesuid", "series_uid", "SeriesInstanceUID", "scan")


@dataclass(frozen=True)
class Place:
    """A nodule's centre in LPS millimetres, and its diameter (0: not told)."""

    centre: tuple[float, float, float]
    diameter: float = 0.0


def from_table(path: Path) -> dict[str, list[Place]]:
    """Nodules by scan, of a CSV file in LUNA16's form: seriesuid, coordX, coordY, coordZ, diameter_mm (if there).

    Raises InvalidData naming the line.
    """
    rows, (uid, *axes) = table(path, (SERIES, ("coordX", "x"), ("coordY", "y"), ("coordZ", "z")))
    found: dict[str, list[Place]] = defaultdict(list)
    for n, row in enumerate(rows, 2):
        x, y, z = (number(row[axis], f"{path}, line {n}, {axis}") for axis in axes)
        wide = row.get("diameter_mm") or "0"
        found[row[uid]].append(Place((x, y, z), number(wide, f"{path}, line {n}, diameter_mm")))
    if not found:
        raise InvalidData(f"{path}: no nodule in it")
    return dict(found)


def from_boxes(folder: Path, series: list[Series], account: Account) -> dict[str, list[Place]]:
    """Nodules by series, of PASCAL VOC files named by the SOPInstanceUID of their slice (Lung-PET-CT-Dx).

    Boxes that overlap on neighbouring slices are one nodule: its centre is that of the box around them all.
    """
    owner = {str(h.SOPInstanceUID): (s, k) for s in series for k, h in enumerate(s.slices)}
    boxes: dict[str, list[tuple[int, tuple[float, ...]]]] = defaultdict(list)
    files = sorted(folder.rglob("*.xml"))
    if not files:
        raise InvalidData(f"--boxes {folder}: no .xml file below it")
    for path in files:
        if path.stem not in owner:
            account.drop("boxes", "*", "of a slice that is in no usable series", 1)
            continue
        one, k = owner[path.stem]
        drawn = drawn_on(path)
        boxes[one.uid] += [(k, box) for box in drawn]
        account.use("boxes", one.uid, len(drawn))
    by_uid = {s.uid: s for s in series}
    return {uid: [around(group, by_uid[uid]) for group in stacks(found)] for uid, found in boxes.items()}


def drawn_on(path: Path) -> list[tuple[float, ...]]:
    """Boxes of one VOC file: xmin, ymin, xmax, ymax in pixels. Raises InvalidData naming the file."""
    try:
        objects = ElementTree.parse(path).getroot().findall("object")
        boxes = [tuple(float(o.findtext(f"bndbox/{end}", "")) for end in ("xmin", "ymin", "xmax", "ymax"))
                 for o in objects]  # fmt: skip
    except (ElementTree.ParseError, ValueError) as error:
        raise InvalidData(f"{path}: is no PASCAL VOC box ({error})") from error
    for box in boxes:
        if not all(map(math.isfinite, box)) or box[0] >= box[2] or box[1] >= box[3]:
            raise InvalidData(f"{path}: box {box} has no area")
    return boxes


def stacks(boxes: list[tuple[int, tuple[float, ...]]]) -> list[list[tuple[int, tuple[float, ...]]]]:
    """Groups of boxes that overlap on the same or the next slice."""
    groups: list[list[tuple[int, tuple[float, ...]]]] = []
    for k, box in sorted(boxes):
        joins = [g for g in groups if any(k - j <= 1 and overlap(box, other) for j, other in g)]
        groups = [g for g in groups if g not in joins]
        groups.append([*(pair for g in joins for pair in g), (k, box)])
    return groups


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def around(group: list[tuple[int, tuple[float, ...]]], series: Series) -> Place:
    """The middle of the box around all boxes of a nodule, and its longest edge, in millimetres."""
    k = np.array([j for j, _ in group], float)
    box = np.array([b for _, b in group])
    low, high = box[:, :2].min(axis=0) - 1, box[:, 2:].max(axis=0) - 1  # VOC counts pixels from 1
    middle = np.array([*((low + high) / 2), (k.min() + k.max()) / 2])
    steps = np.linalg.norm(series.affine[:, :3], axis=0)
    edges = steps * np.array([*(high - low), k.max() - k.min() + 1])
    x, y, z = series.affine[:, :3] @ middle + series.affine[:, 3]
    return Place((float(x), float(y), float(z)), float(edges.max()))


def shared(found: dict[str, list[Place]], series: list[Series], account: Account) -> dict[str, list[Place]]:
    """Nodules of a series also for the others in its frame of reference (other kernels of the same scan)."""
    frames = {s.frame: found[s.uid] for s in series if s.uid in found and s.frame}
    more = {s.uid: frames[s.frame] for s in series if s.uid not in found and s.frame in frames}
    account.fact("series whose nodules were marked on another of the same frame of reference", len(more))
    return {**found, **more}
