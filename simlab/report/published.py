"""Open a results folder: table, verdicts, boundary, surface, sensitivity, manifest and study, as they lie on disk.
No array module is imported until the table is asked for.

Folders made by earlier versions lack files or columns: they are empty here, and `absent` names them.
"""

from __future__ import annotations

import csv
import io
import json
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from simlab.errors import DamagedFile, SimlabError
from simlab.report import outline
from simlab.report.outline import Outline

Record = dict[str, Any]
TABLE, MANIFEST, STUDY, PAGE = "results.parquet", "manifest.json", "study.toml", "report.html"
VERDICTS, BOUNDARY, SURFACE, SENSITIVITY = "verdicts.csv", "boundary.csv", "surface.csv", "sensitivity.csv"
LATER = {  # columns of verdicts.csv that earlier versions did not write, and what they say
    "p": "p values", "adjusted": "p values adjusted for the number of cells",
    "needed": "how many seeds an undecided cell would need", "improvement": "the probability of improvement",
}
_WORDS = ("first", "second", "verdict", "reason", "side", "predicted_side", "along", "knob", "evaluator")


@dataclass(frozen=True)
class Published:
    """A study's results as an object. Records are as in the CSV files: numbers as numbers, missing ones None."""

    path: Path
    study: Outline
    manifest: Record
    verdicts: tuple[Record, ...]
    boundary: tuple[Record, ...]
    surface: tuple[Record, ...]
    sensitivity: tuple[Record, ...]
    absent: tuple[str, ...]

    @cached_property
    def table(self) -> Any:
        """The tidy table, one row a metric (docs/sweeps.md), a `pyarrow.Table`. Raises SimlabError, DamagedFile."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path / TABLE
        if not path.is_file():
            raise SimlabError(f"{path} does not exist: {how(self.study.name)}")
        try:
            return pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise DamagedFile(f"{path} cannot be read ({type(error).__name__}); {how(self.study.name)}") from None

    def of(self, records: tuple[Record, ...], contrast: tuple[str, str]) -> list[Record]:
        """The records of one contrast."""
        return [r for r in records if (r["first"], r["second"]) == contrast]


def how(name: str) -> str:
    """Where results come from."""
    return (f"run python -m simlab.sweep {name}, then python -m simlab.sweep {name} --publish.")


def open_results(folder: Path | str) -> Published:
    """The results in a folder (`runs/STUDY` or `results/STUDY`). Raises SimlabError, DamagedFile, InvalidStudy."""
    path = Path(folder)
    for name in (STUDY, VERDICTS):
        if not (path / name).is_file():
            raise SimlabError(f"{path / name} does not exist: {how(path.name)}")
    study = outline.read(_parsed(path / STUDY, tomllib.loads), str(path / STUDY))
    verdicts = records(path / VERDICTS)
    found = {name: records(path / name) for name in (BOUNDARY, SURFACE, SENSITIVITY)}
    sensitivity = found[SENSITIVITY] if found[SENSITIVITY] and "knob" in found[SENSITIVITY][0] else ()  # else tuning's
    manifest = _parsed(path / MANIFEST, json.loads) if (path / MANIFEST).is_file() else {}
    absent = [said for column, said in LATER.items() if verdicts and column not in verdicts[0]]
    absent += [f"{name} ({said})" for name, said, there in (
        (SURFACE, "the fitted surface with its band", found[SURFACE]),
        (SENSITIVITY, "which knobs matter", sensitivity),
        (MANIFEST, "how the table came about", manifest)) if not there]
    return Published(path, study, manifest, verdicts, found[BOUNDARY], found[SURFACE], sensitivity, tuple(absent))


def records(path: Path) -> tuple[Record, ...]:
    """A CSV file's rows: numbers as numbers, empty fields None; none where there is no file. Raises DamagedFile."""
    if not path.is_file():
        return ()
    text = _parsed(path, str)
    rows = list(csv.DictReader(io.StringIO(text)))
    if any(None in row or None in row.values() for row in rows):
        raise DamagedFile(f"{path} is cut off or has a row of another length; run the study again.")
    return tuple({key: _typed(key, value) for key, value in row.items()} for row in rows)


def _parsed(path: Path, parse: Any) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{path} cannot be read ({type(error).__name__}); run the study again, or publish it "
                          "again.") from None


def _typed(key: str, text: str) -> Any:
    if text == "" and key != "reason":
        return None
    if key in _WORDS:
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
