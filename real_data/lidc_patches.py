"""LIDC-IDRI nodules cut out before: patches, masks and the radiologists' scores, one nodule a patient."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Shaped

from real_data import audit, splits
from real_data.account import Account
from simlab.cohort import Cohort, Stream, Task
from simlab.errors import InvalidData

PATCHES, INDEX = "lidc_patches_51_derived.npz", "patch_index_derived.csv"
CORE, CONTEXT = 24, 48  # voxels of 1 mm that are shown as they are, and in blocks of two
TASK = "malignancy"
STATISTICS = ("mean", "sd", "p10", "p90", "max")


def prepare(folder: Path, streams: str, account: Account, say: Callable[[str], None]) -> Cohort:
    """The cohort of the patches. Raises InvalidData naming the file, member or line that is wrong.

    `volumes`: "core" (24^3 voxels of 1 mm) and "context" (24^3 of 2 mm, means of eight). `statistics`: "size" (log of
    the mask's volume) and "intensity" (statistics inside the mask). Values are as published, in [0, 1].
    """
    images, masks, names = arrays(folder / PATCHES)
    rows = index(folder / INDEX, names)
    say(f"{len(names)} patches in {folder}")
    score = np.array([int(row["malignancy"]) for row in rows])
    subject = np.array([row["patient_id"] or f"unnamed-{name}" for row, name in zip(rows, names, strict=True)])
    nameless = sum(not row["patient_id"] for row in rows)
    account.fact("nodules whose LIDC patient is not known (each its own subject)", nameless)
    label = np.where(score == 3, np.nan, (score > 3).astype(float))
    account.step("nodules", len(names), int((score > 3).sum()))
    account.step("scored 1, 2, 4 or 5", int(np.isfinite(label).sum()), int((score > 3).sum()))
    found = volumes(images) if streams == "volumes" else statistics(images, masks)
    return Cohort(
        streams=found,
        length=np.ones(len(names), np.int64),
        record=np.array(names),
        subject=subject,
        site=np.full(len(names), "LIDC-IDRI"),
        tasks={TASK: Task(TASK, "binary", "record", None, None, "radiologists' malignancy of 4 or 5 (0: 1 or 2)")},
        labels={TASK: label},
        provenance={
            "adapter": "real_data.lidc",
            "licence": "LIDC-IDRI, CC BY 3.0 (attribute LIDC-IDRI and The Cancer Imaging Archive)",
            "subject": "one nodule a patient; the label is radiologists' opinion, no pathology",
            "files": {n: {"file": n, "bytes": (folder / n).stat().st_size, "sha256": audit.sha256(folder / n)}
                      for n in (PATCHES, INDEX)},
            "split": splits.described(subject),
            "attrition": account.attrition,
            "dropped": account.dropped,
        },
    )  # fmt: skip


def arrays(path: Path) -> tuple[Shaped[np.ndarray, "n d d d"], Bool[np.ndarray, "n d d d"], list[str]]:
    """Images, masks and names of the patches. Raises InvalidData."""
    try:
        with np.load(path, allow_pickle=False) as found:
            images, masks, names = found["images"], found["masks"], found["names"]
    except FileNotFoundError as error:
        raise InvalidData(f"{path} does not exist") from error
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InvalidData(f"{path}: images, masks and names are expected in it ({error})") from error
    if images.shape != masks.shape or images.ndim != 4 or len(names) != len(images) or min(images.shape[1:]) < CONTEXT:
        raise InvalidData(f"{path}: images {images.shape}, masks {masks.shape}, {len(names)} names do not fit together")
    if not (masks > 0).any(axis=(1, 2, 3)).all():
        raise InvalidData(f"{path}: a mask is empty")
    return images, masks > 0, [str(n) for n in names]


def index(path: Path, names: list[str]) -> list[dict[str, str]]:
    """The rows of the index in the order of the patches. Raises InvalidData for a patch without a row or a score."""
    try:
        with path.open(newline="", encoding="utf-8") as f:
            rows = {row["file"]: row for row in csv.DictReader(f)}
    except (OSError, UnicodeDecodeError, KeyError) as error:
        raise InvalidData(f"{path}: a table with column 'file' is expected ({error})") from error
    for name in names:
        if name not in rows:
            raise InvalidData(f"{path}: no row for patch {name}")
        if rows[name].get("malignancy") not in ("1", "2", "3", "4", "5") or "patient_id" not in rows[name]:
            raise InvalidData(f"{path}, {name}: a malignancy of 1 to 5 and a column patient_id are expected")
    return [rows[name] for name in names]


def middle(x: Shaped[np.ndarray, "n d d d"], side: int) -> Shaped[np.ndarray, "n s s s"]:
    """The central cube."""
    low = (x.shape[1] - side) // 2
    return x[(slice(None), *[slice(low, low + side)] * 3)]


def volumes(images: Shaped[np.ndarray, "n d d d"]) -> dict[str, Stream]:
    """The middle at 1 mm, and twice as much of it at 2 mm."""
    n, half = len(images), CONTEXT // 2
    wide = middle(images, CONTEXT).astype(np.float32).reshape(n, half, 2, half, 2, half, 2).mean(axis=(2, 4, 6))
    seen = np.ones((n, 1, 1), bool)
    return {"core": Stream(middle(images, CORE)[:, None].astype(np.float16), seen, ("attenuation",), ("1",)),
            "context": Stream(wide[:, None].astype(np.float16), seen.copy(), ("attenuation",), ("1",))}  # fmt: skip


def statistics(images: Shaped[np.ndarray, "n d d d"], masks: Bool[np.ndarray, "n d d d"]) -> dict[str, Stream]:
    """The mask's volume, and the values inside it."""
    size = np.log(masks.sum(axis=(1, 2, 3)))[:, None]
    inside = [image[mask].astype(np.float64) for image, mask in zip(images, masks, strict=True)]
    told = np.array([[v.mean(), v.std(), *np.quantile(v, (0.1, 0.9)), v.max()] for v in inside])
    return {"size": stream(size, ("log-volume",), ("log mm3",)), "intensity": stream(told, STATISTICS, ("1",) * 5)}


def stream(values: Float[np.ndarray, "n k"], channels: tuple[str, ...], units: tuple[str, ...]) -> Stream:
    return Stream(values[:, None].astype(np.float32), np.ones((len(values), 1, len(channels)), bool), channels, units)
