"""AUC limits where causes are not normal: means over sampled records, the risk in place of labels, with their error."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from simlab.environments.knobs import GaussianSpec
from simlab.errors import unknown
from simlab.limits.areas import weighted_area
from simlab.limits.gaussian import blocks
from simlab.limits.latent import KINDS, Latent, latent
from simlab.limits.oracles import VIEWS, Oracle
from simlab.limits.subspace import Span

BATCHES, RECORDS = 8, 10_000
SHOWN = {"full": ("image", "clinical"), "image": ("image",), "clinical": ("clinical",)}


def records(spec: GaussianSpec, domain: str) -> list[Float[np.ndarray, "n p"]]:
    """Independent batches of measured coordinates, the same every time."""
    from simlab.environments.gaussian import measure, sample_factors

    found = []
    for seed in range(BATCHES):
        rng = np.random.default_rng(20_250_919 + seed)
        z = measure(sample_factors(RECORDS, spec, domain, rng), spec, rng, domain)
        found.append(np.concatenate(z, axis=1).astype(np.float64))
    return found


def view_limit(spec: GaussianSpec, domain: str, view: str) -> tuple[float, float]:
    """The AUC limit of a view, "full", "image" or "clinical", in a domain, and its standard error."""
    if view not in VIEWS:
        raise unknown("view", view, VIEWS)
    return _area(records(spec, domain), latent(spec, domain, SHOWN[view]), None)


def _area(batches: list[Float[np.ndarray, "n p"]], truth: Latent, score: Latent | None) -> tuple[float, float]:
    """Mean over batches of the AUC of a risk (default: the true one) and its standard error."""
    found = []
    for z in batches:
        risk = truth.risk(z)
        found.append(weighted_area(risk if score is None else score.risk(z), risk))
    return float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(len(found)))


def oracles_of(spec: GaussianSpec, spans: dict[str, Span], views: tuple[str, ...] = VIEWS) -> dict[str, Oracle | None]:
    """Limits of views, and of a span that holds exactly the views' readings of c (else None: not known)."""
    inside, outside = records(spec, "source"), records(spec, "external")
    sets = {view: (SHOWN[view], KINDS) for view in views}
    sets |= {name: (SHOWN["full"], ("c",)) for name, span in spans.items() if _is_shared(spec, span)}
    found: dict[str, Oracle | None] = dict.fromkeys(spans)
    for name, (shown, kinds) in sets.items():
        here, there = latent(spec, "source", shown, kinds), latent(spec, "external", shown, kinds)
        pairs = [_area(inside, here, None), _area(outside, there, None), _area(outside, there, here)]
        values = [value for value, _ in pairs]
        ranges = tuple((value, value) for value in values)
        found[name] = Oracle(*values, ranges, max(error for _, error in pairs))  # type: ignore[arg-type]
    return found


def _is_shared(spec: GaussianSpec, span: Span) -> bool:
    """Whether a span is that of all readings of the shared causes, no more and no less."""
    at = blocks(spec)
    rows = np.r_[at["c_image"], at["c_clinical"]]
    others = np.setdiff1d(np.arange(len(span.fixed)), rows)
    return bool(not span.tied and np.abs(span.fixed[others]).max(initial=0) < 1e-9
                and np.linalg.matrix_rank(span.fixed[rows]) == len(rows))
