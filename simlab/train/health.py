"""What `simlab.train` says about a representation: verdict, diagnostics, and how they moved along the training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simlab.evaluation import verdict
from simlab.training.data import Views
from simlab.training.pretrain import Encoders

ROWS = 2000  # records that are read
KEPT = 500  # of them whose embedding is kept
POINTS = 6  # of the curve that are shown
SHOWN = ("step", "loss", "lidar", "probe-c", "probe-label")


@dataclass(frozen=True)
class Health:
    """One trained representation: its word, its numbers, its training curve."""

    verdict: str
    numbers: dict[str, float]
    curve: tuple[dict[str, float], ...]


def examine(
    encoders: Encoders,
    views: Views,
    subjects: np.ndarray,
    factors: Mapping[str, np.ndarray] | None = None,
    site: np.ndarray | None = None,
) -> Health:
    """The health of encoders on unlabelled records; `factors`: the true ones, where the world is synthetic.

    `readable/FACTOR/VIEW` is the held-out R2 of a factor (`site`: of which site it is, where there are several) read
    linearly from that view's representation.
    """
    rows = {role: x[:ROWS] for role, x in views.items()}
    shown = encoders.represent(rows)
    factors = {**(factors or {}), **_site(site)}
    features = {role: views[role].shape[1] for role in shown if role in views}
    groups = np.unique(subjects, return_inverse=True)[1][:ROWS]
    word, numbers = verdict.report(shown, groups, features, encoders.exists(rows))
    if word != "diverged":
        for role, z in shown.items():
            known = {name: factor[:ROWS] for name, factor in factors.items()}
            numbers |= {f"readable/{name}/{role}": r2 for name, r2 in verdict.readability(z, known).items()}
    return Health(word, numbers, encoders.curve)


def _site(site: np.ndarray | None) -> dict[str, np.ndarray]:
    """One column a site, one in the record's own; nothing where all records are of one."""
    names = [] if site is None else np.unique(site[:ROWS])
    return {} if len(names) < 2 else {"site": (site[:, None] == names).astype(np.float64)}


def artefacts(
    encoders: Encoders,
    views: Views,
    record: np.ndarray,
    factors: Mapping[str, np.ndarray] | None = None,
    site: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """What a page about one representation needs, by view: 500 embeddings (and their records' ids), the spectrum
    (singular values over the square root of the records), each dimension's deviation, readability, training curves."""
    shown = encoders.represent({role: x[:ROWS] for role, x in views.items()})
    known = {name: x[:ROWS] for name, x in {**(factors or {}), **_site(site)}.items()}
    found = {"record": np.asarray(record[:KEPT])}
    for role, z in shown.items():
        found |= {
            f"embedding/{role}": z[:KEPT].astype(np.float32),
            f"spectrum/{role}": np.linalg.svd(z - z.mean(axis=0), compute_uv=False) / np.sqrt(len(z)),
            f"deviation/{role}": z.std(axis=0),
        }
        found |= {f"readability/{name}/{role}": np.array(r2) for name, r2 in verdict.readability(z, known).items()}
    names = encoders.curve[0] if encoders.curve else ()
    return found | {f"curve/{name}": np.array([point[name] for point in encoders.curve]) for name in names}


def summary(found: Sequence[Health]) -> dict[str, object]:
    """For JSON: each verdict with its count, mean numbers, and the mean curve."""
    return {
        "verdicts": dict(Counter(h.verdict for h in found)),
        "numbers": _mean([h.numbers for h in found]),
        "curve": [_mean(points) for points in zip(*(h.curve for h in found), strict=False)],
    }


def text(arm: str, found: Sequence[Health]) -> list[str]:
    """Lines for people: the verdict, its numbers, and a few points of the curve. Nothing without pretraining."""
    found = [h for h in found if h.curve]
    if not found:
        return []
    seen = summary(found)
    words = ", ".join(f"{word} ({n} of {len(found)})" for word, n in seen["verdicts"].items())  # type: ignore[union-attr]
    lines = [f"Verdict on {arm}: {words}.", _numbers(seen["numbers"])]  # type: ignore[arg-type]
    curve: list[dict[str, float]] = seen["curve"]  # type: ignore[assignment]
    chosen = [curve[i] for i in sorted({round(i) for i in np.linspace(0, len(curve) - 1, POINTS)})]
    names = [n for n in chosen[0] if n in SHOWN or n.split("-")[0] in ("skill", "rankme", "lag")
             or n.startswith("sd-max")]  # fmt: skip
    wide = {n: max(len(n), 9) + 2 for n in names}
    lines += ["Along the training:", "".join(n.rjust(wide[n]) for n in names)]
    lines += ["".join(f"{point[n]:.4g}".rjust(wide[n]) for n in names) for point in chosen]
    return lines


def _numbers(numbers: Mapping[str, float]) -> str:
    return "  " + ", ".join(f"{name} {value:.3g}" for name, value in numbers.items())


def _mean(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = [name for name in each[0] if all(name in other for other in each)] if each else []
    values = {name: float(np.mean([other[name] for other in each])) for name in names}
    return {name: value for name, value in values.items() if np.isfinite(value)}
