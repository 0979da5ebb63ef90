"""What a preparation is asked for. Imports no array module."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LAYOUTS = ("dicom", "nifti", "lmsignatures", "features")


@dataclass(frozen=True)
class Rules:
    layout: str = "dicom"
    side: int = 32  # voxels a side of an image
    field: float | None = None  # its width in millimetres (None: 48 around a nodule, 384 without)
    kernel: str | None = None
    nodules: Path | None = None
    boxes: Path | None = None
    labels: Path | None = None
    task: str = "cancer"
    outcome: str | None = None  # codes that are the positive class
    horizon: float = 365.25  # days in which they must come
    exclude: tuple[str, ...] = ()  # codes that say the label
    visits: str = r"^IMAGING//CT"  # codes that are a visit, scan at hand or not
    look_back: float = 1095.0  # days
    signatures: int = 0
    least: int = 20  # training subjects that must show a code
    columns: tuple[str, ...] = ()  # of the table of scans: numbers that become the clinical stream
    site: str = "unknown"  # where the files do not tell
