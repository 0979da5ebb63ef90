"""What a linear predictor keeps when a modality, a visit or a token is masked: canonical correlations in closed form.

A pretrainer that predicts what is masked from what is shown keeps the directions that are predictable. In
the longitudinal world every coordinate of a family (shared causes c; the view's own causes, u or v; nuisance g; pure
noise) is alike and independent of the others, so a family has one canonical correlation (D: time between visits):

    modality   a view from the other at the same visit:   c: |kappa| sqrt(rel_cI rel_cC)   own: 0   g: |nu|
    visit      a view from the same view a visit apart:   rel exp(-theta D) of each family; g has rel 1
    token      a view at the last visit from all other pairs of view and visit: multiple correlations, by the same
               Gaussian algebra as the posterior

Pure noise has 0. An encoder of k numbers a view keeps the k best; families that tie at the k-th share what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from simlab.environments.visit_knobs import LongitudinalSpec
from simlab.errors import OutOfDomain, unknown
from simlab.limits.liability import auc
from simlab.limits.visits import Block, blocks, condition, law_of, nothing_seen, of_liability, regular_times

MASKS = ("modality", "visit", "token")
STREAMS = ("image", "clinical")
TIE = 1e-9


@dataclass(frozen=True)
class Kept:
    """What a masked linear predictor of k numbers a view keeps, by view and family ("c", "own", "g", "noise").

    `correlations`: of the family with what predicts it. `shares`: of the family's directions that are kept (where a tie
    leaves it open, the mean over rotations). `auc`: limits of a linear head on what is kept at all visits, its infimum
    and supremum over what a tie leaves open.
    """

    correlations: Mapping[str, Mapping[str, float]]
    shares: Mapping[str, Mapping[str, float]]
    auc: tuple[float, float]


def kept(spec: LongitudinalSpec, mask: str, k: int) -> Kept:
    """What remains in the source at regular times, of the masks in `MASKS`. Raises UnknownName, and OutOfDomain where a
    visit or token mask has but one visit, k is below 1, or a shortcut ties the families together."""
    if k < 1 or k != int(k):
        raise OutOfDomain(f"k = {k} is outside its domain: whole numbers from 1.")
    if spec.shortcut != "none" and spec.lambda_s != 0:
        raise OutOfDomain("what a mask keeps has a closed form only where families are independent, and a shortcut "
                          "ties them together: take lambda_s = 0, or ask `of_shortcut` how well it is predicted.")
    found = correlations(spec, mask)
    sizes = {"image": (spec.d_c, spec.d_u, spec.d_g, spec.d_ni), "clinical": (spec.d_c, spec.d_v, spec.d_g, spec.d_nc)}
    shares = {}
    for view in STREAMS:
        size = dict(zip(("c", "own", "g", "noise"), sizes[view], strict=True))
        shares[view] = shares_of(found[view], size, k)
    least, most = ({(v, f): shares[v][f] > limit for v in STREAMS for f in ("c", "own")} for limit in (1 - TIE, 0))
    return Kept(found, shares, (_auc(spec, least), _auc(spec, most)))


def correlations(spec: LongitudinalSpec, mask: str) -> dict[str, dict[str, float]]:
    """Canonical correlation of each family of each view with what predicts it, in the source at regular times."""
    if mask not in MASKS:
        raise unknown("mask", mask, MASKS)
    if mask != "modality" and spec.n_visits < 2:
        raise OutOfDomain(f"a {mask} mask needs n_visits of 2 or more.")
    if mask == "token":
        return _token(spec)
    if mask == "modality":
        c = abs(spec.kappa_s) * np.sqrt(spec.rel_ci * spec.rel_cc)
        both = {"c": float(c), "own": 0.0, "g": abs(spec.nu), "noise": 0.0}
        return {view: dict(both) for view in STREAMS}
    fade = {f: float(np.exp(-theta / spec.r_v)) for f, theta in _rates(spec).items()}
    return {
        "image": {"c": spec.rel_ci * fade["c"], "own": spec.rel_u * fade["u"], "g": fade["g"], "noise": 0.0},
        "clinical": {"c": spec.rel_cc * fade["c"], "own": spec.rel_v * fade["v"], "g": fade["g"], "noise": 0.0},
    }


def of_shortcut(spec: LongitudinalSpec, mask: str, view: str) -> float:
    """Correlation of the shortcut in a view's last visit with its best prediction from what the mask leaves, in the
    source at regular times: 1 where that holds the same number, else |lambda| times the root of what it says of l.

    `visit`: from the same view, one visit before. Raises UnknownName, and OutOfDomain where the view shows none, or a
    visit or token mask has but one visit.
    """
    if mask not in MASKS:
        raise unknown("mask", mask, MASKS)
    if view not in STREAMS:
        raise unknown("view", view, STREAMS)
    if not spec.shows_shortcut(view):
        raise OutOfDomain(f"the {view} view shows no shortcut: shortcut = {spec.shortcut}.")
    if mask != "modality" and spec.n_visits < 2:
        raise OutOfDomain(f"a {mask} mask needs n_visits of 2 or more.")
    time, law = regular_times(spec), law_of(spec, "source")
    context = {stream: np.zeros(len(time), bool) for stream in STREAMS}
    other = STREAMS[1 - STREAMS.index(view)]
    context[other][-1] = mask == "modality"
    context[view][-2:-1] = mask == "visit"
    if mask == "token":
        context[view][:-1], context[other][:] = True, True
    holds = [stream for stream in STREAMS if spec.shows_shortcut(stream)]
    if any(context[s][-1] or (spec.shortcut_kind == "static" and context[s].any()) for s in holds):
        return 1.0
    seen = replace(nothing_seen(time[None], np.array([len(time)])), **{s: context[s][None] for s in STREAMS})
    _, cov = of_liability(law, seen)
    return float(abs(spec.lambda_s) * np.sqrt(np.clip(1 - cov[0, 0, 0] / law.along.var_liability, 0, 1)))


def _rates(spec: LongitudinalSpec) -> dict[str, float]:
    return {"c": spec.theta_c, "u": spec.theta_u, "v": spec.theta_v, "g": spec.theta_g}


def _token(spec: LongitudinalSpec) -> dict[str, dict[str, float]]:
    """Multiple correlations of a view's last visit with all other visits of both views."""
    shared, image, clinical = blocks(law_of(spec, "source"))
    pair = np.array([[1, spec.nu], [spec.nu, 1.0]])
    nuisance = Block(spec.theta_g, 1.0, pair, pair[0], np.zeros(2), np.zeros(2), 0.0)
    time = regular_times(spec)
    out: dict[str, dict[str, float]] = {}
    for s, view in enumerate(STREAMS):
        own = (image, clinical)[s]
        out[view] = {
            "c": _multiple(shared, time, s),
            "own": _multiple(own, time, 0),
            "g": _multiple(nuisance, time, s),
            "noise": 0.0,
        }
    return out


def _multiple(block: Block, time: Float[np.ndarray, " J"], stream: int) -> float:
    """Correlation of a stream's last measurement with its best prediction from all others."""
    streams, visits = len(block.noise), len(time)
    seen = np.ones((1, streams, visits), bool)
    seen[0, stream, -1] = False
    _, cov = condition(block, time[None], time[-1:], np.zeros(seen.shape), seen, np.array([visits - 1]))
    whole = block.gain[stream, stream] + block.noise[stream]
    return float(np.sqrt(np.clip(1 - cov[0, 1 + stream, 1 + stream] / whole, 0, 1)))


def shares_of(found: Mapping[str, float], size: Mapping[str, int], k: int) -> dict[str, float]:
    """The share of each family among the k directions of largest correlation; tied families share what is left."""
    share = {}
    for family, rho in found.items():
        before = sum(size[f] for f, r in found.items() if r > rho + TIE)
        tied = sum(size[f] for f, r in found.items() if abs(r - rho) <= TIE)
        share[family] = float(np.clip((k - before) / tied, 0, 1)) if size[family] else 0.0
    return share


def _auc(spec: LongitudinalSpec, is_kept: Mapping[tuple[str, str], bool]) -> float:
    """The Bayes limit of the kept families at all regular visits."""
    law = law_of(spec, "source")
    time = regular_times(spec)
    flags = (("image", "c"), ("clinical", "c")), (("image", "own"),), (("clinical", "own"),)
    total = 0.0
    for block, slope, families in zip(blocks(law), law.slopes, flags, strict=True):
        seen = np.zeros((1, len(families), len(time)), bool)
        for s, family in enumerate(families):
            seen[0, s] = is_kept[family]
        _, cov = condition(block, time[None], time[-1:], np.zeros(seen.shape), seen, np.array([-1]))
        total += slope**2 * (block.variance - cov[0, 0, 0])
    return float(auc(np.sqrt(np.clip(total, 0, 1)), law.along.prevalence_law))
