"""Splits by subject that never change: a subject's side follows from its id and the seed, not from who else is in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

FRACTIONS = {"train": 0.7, "validation": 0.15, "test": 0.15}


def by_subject(subject: np.ndarray, fractions: Mapping[str, float] = FRACTIONS, seed: int = 0) -> np.ndarray:
    """The side of every record, (records,) unicode; all records of a subject are on one side.

    Adding records, or preparing the data again with other rules, moves nobody. Raises ValueError unless the fractions
    sum to one.
    """
    if abs(sum(fractions.values()) - 1) > 1e-9:
        raise ValueError(f"fractions sum to {sum(fractions.values()):g}, not 1")
    names, edges = list(fractions), np.cumsum(list(fractions.values()))
    last = len(names) - 1
    sides = {s: names[min(int(np.searchsorted(edges, share(s, seed), "right")), last)] for s in set(subject.tolist())}
    return np.array([sides[s] for s in subject.tolist()], dtype=f"U{max(map(len, names))}")


def share(subject: object, seed: int) -> float:
    """A subject's place in [0, 1): the first 8 bytes of sha256 of 'seed:subject'."""
    digest = hashlib.sha256(f"{seed}:{subject}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def described(subject: np.ndarray, fractions: Mapping[str, float] = FRACTIONS, seed: int = 0) -> dict[str, object]:
    """The split as provenance keeps it: the rule, and how many records fall on each side."""
    sides = by_subject(subject, fractions, seed)
    return {
        "rule": "real_data.splits.by_subject: sha256 of 'seed:subject' against cumulative fractions",
        "seed": seed,
        "fractions": dict(fractions),
        "records": {name: int((sides == name).sum()) for name in fractions},
    }
