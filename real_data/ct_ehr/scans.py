"""What every layout gives: scans of subjects at dates, each able to show its image."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from simlab.errors import InvalidData


class Unusable(InvalidData):
    """One scan that cannot be used: dropped with this reason, which names what was expected."""


@dataclass(frozen=True, eq=False)
class Scan:
    """One scan. `show` reads its image: (side, side, side) HU or a vector of features, float32; it raises Unusable.

    rank: of several scans of one subject and day, the lowest is taken. extra: what else stands beside the scan in its
    layout: "label", "test" (of the test set), "signatures" (a vector).
    """

    subject: str
    when: datetime
    key: str  # series, file or id, as the layout names it
    site: str
    show: Callable[[], np.ndarray]
    rank: tuple = ()
    extra: Mapping[str, object] = field(default_factory=dict)


def below(root: Path, name: str, what: str) -> Path:
    """The path of a name taken from a file. Raises InvalidData for one that leaves the root."""
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise InvalidData(f"{what} '{name}' leaves {root}: names must stay inside the folder")
    return path


def day(text: str, what: str) -> datetime:
    """The date of YYYYMMDD, YYYY-MM-DD or YYYY.MM.DD, any year from 1 on. Raises InvalidData."""
    digits = text.strip().replace("-", "").replace(".", "")
    try:
        if len(digits) != 8 or not digits.isdigit():
            raise ValueError(digits)
        return datetime(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError as error:
        raise InvalidData(f"{what}: '{text}' is no date; YYYY-MM-DD or YYYYMMDD is expected") from error


def table(path: Path, needed: tuple[tuple[str, ...], ...]) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    """Rows of a CSV file by column name, and which of each group of alternative names it has.

    Raises InvalidData for a file that is missing or no text, a group of which no column is there, a row cut short.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            rows, names = list(reader), tuple(reader.fieldnames or ())
    except FileNotFoundError as error:
        raise InvalidData(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidData(f"{path}: cannot be read as CSV ({error})") from error
    found = []
    for group in needed:
        have = [name for name in group if name in names]
        if not have:
            raise InvalidData(f"{path}: no column '{' or '.join(group)}' (it has {', '.join(names[:8]) or 'none'})")
        found.append(have[0])
    if len(set(names)) < len(names):
        raise InvalidData(f"{path}: column '{next(n for n in names if names.count(n) > 1)}' is there twice")
    for n, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise InvalidData(f"{path}, line {n}: {len(names)} fields are expected")
    return rows, tuple(found)


def number(text: str, what: str) -> float:
    """A finite number. Raises InvalidData."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise InvalidData(f"{what}: '{text}' is not a finite number")
    return value
