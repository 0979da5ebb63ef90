"""How severe a shift of the longitudinal world is, missingness among them, on the scale of `simlab.limits.severity`.

The transfer loss is that of the limits (closed forms, or Monte Carlo with its error). What gaps tell of the hospital:
where p_miss_e alone moves, values and times have one law in both, and the log-likelihood ratio of a record is
log P_e(gaps | values) - log P(gaps | values), an integral over what the selection indices know beyond the values
(docs/visits.md), by Gauss-Hermite quadrature. Jeffreys' divergence and the domain AUC are means of it over drawn
records. Where anything else moves, or times depend on the liability, these two are None.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, fields, replace

import numpy as np
from jaxtyping import Float
from numpy.polynomial.hermite_e import hermegauss
from scipy.special import log_ndtr, logsumexp

from simlab.environments.visit_knobs import LONGITUDINAL_KNOBS, LongitudinalSpec, spec
from simlab.errors import OutOfDomain, unknown
from simlab.limits import severity as one_visit
from simlab.limits.distances import Distance, of_ratio, together
from simlab.limits.severity import FEW_STEPS, Match, Severity, first, straight
from simlab.limits.simulated import Estimate, bayes, draw, source_rule
from simlab.limits.visits import VIEWS, Evidence, Law, law_of, of_liability, selections

# Kinds of shift: the target knobs that move the law. Distances are known for the first.
KINDS = ("p_miss_e", "kappa_e", "delta_u_e", "delta_v_e", "nu_e", "mu_e", "tau_e", "lambda_e")
RECORDS, BATCHES, NODES = 20_000, 8, 24
MET = 1e-3  # how near a level a match must come, of max(1, level): one set of draws, so its steps are small


def severity(world: LongitudinalSpec, records: int = RECORDS) -> Severity:
    """How severe the shift of a world's target is, by what a rule sees: "full", "image" and "clinical". Pure."""
    inside, outside, rule = (
        {view: found(view) for view in VIEWS} for found in (
            lambda view: bayes(world, "source", view, records), lambda view: bayes(world, "external", view, records),
            lambda view: source_rule(world, view, records)))
    every: list[Estimate] = [*inside.values(), *outside.values(), *rule.values()]
    far = distance(world, records)
    return Severity(
        jeffreys=None if far is None else far.jeffreys,
        domain_auc=None if far is None else far.domain_auc,
        irreducible={view: inside[view].value - outside[view].value for view in VIEWS},
        transfer={view: outside[view].value - rule[view].value for view in VIEWS},
        jeffreys_error=0.0 if far is None else far.jeffreys_error,
        domain_auc_error=0.0 if far is None else far.domain_auc_error,
        transfer_error=max(e.se for e in every))


def distance(world: LongitudinalSpec, records: int = RECORDS) -> Distance | None:
    """The distance of the two hospitals' records where missingness alone moved; None elsewhere."""
    still = replace(world, p_miss_e=world.p_miss)
    if still != still.without_shift() or world.gamma_obs != 0:
        return None
    if world.p_miss_e == world.p_miss:
        return Distance(0.0, 0.5, 0.0, 0.0)
    source, target = law_of(world, "source"), law_of(world, "external")
    key = replace(world.along(), n_lab=2, n_unlab=2)
    found = []
    for batch in range(BATCHES):
        n = max(records // BATCHES, 2)
        sides = [draw(key, domain, n, 271828 + 2 * batch + i) for i, domain in enumerate(("source", "external"))]
        one, two = (log_gaps(target, shown) - log_gaps(source, shown) for shown in sides)
        found.append(of_ratio(one, two))
    return together(np.array(found))


def log_gaps(law: Law, shown: Evidence) -> Float[np.ndarray, " n"]:
    """log P(which streams were missing at which visits | the values shown), given regular or Poisson times."""
    chosen = selections(law)
    missing = {stream: shown.length - getattr(shown, stream).sum(axis=1) for stream in ("image", "clinical")}
    if not chosen:
        return np.where(sum(missing.values()) > 0, -np.inf, 0.0)
    mean, cov = of_liability(law, shown)
    names = list(chosen)
    g = np.array([chosen[name].direction for name in names])
    centre, spread = mean @ g.T, g @ cov @ g.T
    values, vectors = np.linalg.eigh(spread)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    x, w = hermegauss(NODES)
    nodes = np.stack([a.ravel() for a in np.meshgrid(*[x] * len(names), indexing="ij")])
    weights = np.log(np.prod(np.meshgrid(*[w / w.sum()] * len(names), indexing="ij"), axis=0).ravel())
    total = np.broadcast_to(weights, (len(shown), len(weights))).copy()
    at = centre[:, :, None] + root @ nodes
    for i, name in enumerate(names):
        index = chosen[name].intercept + at[:, i]
        gone = missing[name][:, None]
        total += gone * log_ndtr(index) + (shown.length[:, None] - gone) * log_ndtr(-index)
    return logsumexp(total, axis=1)


def shifted(kind: str, value: float, world: LongitudinalSpec) -> LongitudinalSpec:
    """The world with this one shift and no other. Raises UnknownName, OutOfDomain."""
    if kind not in KINDS:
        raise unknown("kind of shift", kind, list(KINDS))
    known = {k.symbol for k in LONGITUDINAL_KNOBS}
    plain = {key: v for key, v in asdict(world.without_shift()).items() if v is not None and key in known}
    return spec({**plain, kind: value})


def match(kind: str, level: float, world: LongitudinalSpec, scale: str = "transfer",
          records: int = RECORDS // 2) -> Match:
    """The smallest move of a kind, towards either end of its sweep range, at which the severity on a scale ("transfer",
    "transfer_image", "transfer_clinical", and for p_miss_e "domain_auc", "jeffreys") reaches `level`, as near as Monte
    Carlo with one fixed set of draws has it. Raises OutOfDomain where no move does or one jumps past the level, and
    UnknownName."""
    one_visit.check_level(level, scale)
    if scale.endswith("cross_modal"):
        raise unknown("severity scale", scale, [s for s in one_visit.SCALES if not s.endswith("cross_modal")])
    start = float(getattr(world.without_shift(), kind)) if kind in KINDS else 0.0
    shifted(kind, start, world)

    def reached(value: float) -> float:
        found = severity_on(shifted(kind, value, world), scale, records)
        if found is None:
            raise OutOfDomain(f"{scale} is known in the longitudinal world only where p_miss_e alone moves and times "
                              f"do not depend on the liability; take transfer for {kind}.")
        return found

    found, best = [], -math.inf
    for end in _ends(kind, world):
        way: Callable[[float], float] = straight(start, end, False)
        share, most, _ = first(lambda s, way=way: reached(way(s)), level, FEW_STEPS)
        best = max(best, most)
        if share is not None:
            found.append((share, way(share)))
    if not found:
        raise OutOfDomain(f"{kind} does not reach {scale} = {level:g} within its sweep range: the largest is "
                          f"{best:.4g}.")
    value = min(found)[1]
    if abs(reached(value) - level) > MET * max(1.0, level):
        raise OutOfDomain(f"{kind} jumps past {scale} = {level:g} at {value:.4g}, to {reached(value):.4g}.")
    return Match(kind, value, severity(shifted(kind, value, world), records))


def compare(world: LongitudinalSpec, records: int = RECORDS // 2) -> list[dict[str, object]]:
    """Every kind at the ends of its sweep range, as `simlab.limits.severity.compare`."""
    return _rows(world, lambda kind: [Match(kind, end, severity(shifted(kind, end, world), records))
                                      for end in _ends(kind, world)])


def match_all(level: float, world: LongitudinalSpec, scale: str = "transfer",
              records: int = RECORDS // 4) -> list[dict[str, object]]:
    """Every kind where it reaches the level, as `simlab.limits.severity.match_all`."""
    one_visit.check_level(level, scale)
    return _rows(world, lambda kind: [match(kind, level, world, scale, records)])


def _rows(world: LongitudinalSpec, found: Callable[[str], list[Match]]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for kind in KINDS:
        try:
            rows += [{"kind": one.kind, "value": one.value, **asdict(one.severity)} for one in found(kind)]
        except OutOfDomain as refused:
            rows.append({"kind": kind, "value": None, "reason": f"{kind} does not apply: {refused}"})
    return rows


def _ends(kind: str, world: LongitudinalSpec) -> list[float]:
    """The ends of a kind's sweep range that are not where the world is without shift."""
    knob, start = {k.symbol: k for k in LONGITUDINAL_KNOBS}[kind], float(getattr(world.without_shift(), kind))
    return [float(end) for end in knob.sweep or () if abs(end - start) > 1e-12]


def severity_on(world: LongitudinalSpec, scale: str, records: int) -> float | None:
    """The severity on one scale alone; None where it is not known, inf where it is infinite."""
    if scale in {f.name for f in fields(Distance)}:
        far = distance(world, records)
        value = None if far is None else getattr(far, scale)
        return float("inf") if far is not None and value is None else value
    view = "full" if scale == "transfer" else scale.removeprefix("transfer_")
    return bayes(world, "external", view, records).value - source_rule(world, view, records).value
