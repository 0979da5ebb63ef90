"""Repeated random splits of a cohort by subject: no subject on both sides, classes in proportion."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from simlab.errors import OutOfDomain


def repeated(
    subjects: np.ndarray,
    y: Float[np.ndarray, "records"],
    splits: int,
    test_share: float,
    seed: int,
    never: Bool[np.ndarray, "records"] | None = None,
) -> Iterator[tuple[Int[np.ndarray, "train"], Int[np.ndarray, "test"]]]:
    """`splits` pairs of record indices (train, test); split i depends on (seed, i) alone.

    Subjects with any positive label and subjects without are split separately, so that both sides hold both. Records
    without a label (NaN) go with their subject. Subjects of the records in `never` always train, and `test_share` is of
    the others. Raises OutOfDomain when a class has fewer than two subjects a side.
    """
    known, inverse = np.unique(subjects, return_inverse=True)
    positive = np.zeros(len(known), dtype=bool)
    np.logical_or.at(positive, inverse, y == 1)
    drawn = np.ones(len(positive), dtype=bool)
    if never is not None:
        drawn[inverse[never]] = False
    strata = [np.flatnonzero(positive & drawn), np.flatnonzero(~positive & drawn)]
    sizes = [round(test_share * len(s)) for s in strata]
    if any(size < 2 or len(s) - size < 2 for size, s in zip(sizes, strata, strict=True)):
        raise OutOfDomain(
            f"{len(strata[0])} subjects with and {len(strata[1])} without a positive label cannot be split at a test "
            f"share of {test_share:g}: each side needs two of each."
            + ("" if drawn.all() else f" The other {(~drawn).sum()} subjects are those that the cohort's channels were "
               "chosen from; --test-among all tests on them too.")
        )
    for i in range(splits):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i,)))
        held = np.concatenate([rng.permutation(s)[:size] for s, size in zip(strata, sizes, strict=True)])
        outside = np.isin(inverse, held)
        yield np.flatnonzero(~outside), np.flatnonzero(outside)
