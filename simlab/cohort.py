"""The contract: what a world or an adapter produces, and all that a trainer knows.

DRAFT of the public signatures (fields fixed; validation, `inputs` and the file format to be completed).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, eq=False)
class Stream:
    """One modality over time. Unobserved values are stored as given and never shown to a method."""

    values: Float[np.ndarray, "records visits *features"]  # float32
    observed: Bool[np.ndarray, "records visits channels"]
    channels: tuple[str, ...]
    units: tuple[str, ...]
    time: Float[np.ndarray, "records visits"] | None = None  # float64; None: static, one visit


@dataclass(frozen=True, eq=False)
class Events:
    """Ragged events: record i owns rows offsets[i]:offsets[i+1]."""

    offsets: Int[np.ndarray, "records_plus_one"]
    time: Float[np.ndarray, "events"]
    code: np.ndarray  # unicode
    value: Float[np.ndarray, "events"]  # NaN where an event has none
    unit: np.ndarray  # unicode


@dataclass(frozen=True)
class Task:
    name: str
    kind: str  # "binary" | "regression"
    level: str = "record"  # "record" | "visit"
    cutoff: float | None = None  # inputs with time <= cutoff; None: everything
    horizon: float | None = None
    positive: str = ""  # meaning of the positive class


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a method is shown: streams and events up to the cutoff, and nothing else (copies, never views)."""

    streams: Mapping[str, Stream]
    events: Events | None
    length: Int[np.ndarray, "records"]
    record: np.ndarray
    subject: np.ndarray
    site: np.ndarray


@dataclass(frozen=True, eq=False)
class Cohort:
    streams: Mapping[str, Stream]
    length: Int[np.ndarray, "records"]
    record: np.ndarray  # unique ids (unicode or int64)
    subject: np.ndarray
    site: np.ndarray
    tasks: Mapping[str, Task] = field(default_factory=dict)
    labels: Mapping[str, Float[np.ndarray, "..."]] = field(default_factory=dict)  # NaN = unlabelled
    risk: Mapping[str, Float[np.ndarray, "..."]] = field(default_factory=dict)
    factors: Mapping[str, np.ndarray] = field(default_factory=dict)
    events: Events | None = None
    provenance: Mapping[str, object] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.record)

    def inputs(self, task: str) -> Inputs: ...

    def take(self, index: np.ndarray) -> Cohort:
        """The cohort of these records, in this order."""
        ...


@dataclass(frozen=True, eq=False)
class Scenario:
    """Cohorts of one experiment; no subject is in two of them."""

    pretrain: Cohort
    train: Cohort
    test: Cohort
    validation: Cohort | None = None
    external: Mapping[str, Cohort] = field(default_factory=dict)
    limits: Mapping[str, object] = field(default_factory=dict)


def save(cohort: Cohort, path: Path | str) -> None: ...


def load(path: Path | str) -> Cohort: ...
