"""How severe a shift is, on one scale for all kinds; and the knob value at which a kind reaches a given severity.

A shift is one target knob moved away from "as in the source", the others left there. Its severity is measured three
ways (5.2): the Jeffreys divergence and the domain classifier's AUC say how far the records moved, the transfer loss of
the source's best rule says what it costs; `match` makes kinds comparable by finding where each costs the same.
docs/theory.md, 13. Closed forms where a world is Gaussian; integrals and Monte Carlo, with their errors, where a
product or a mixture over hospitals makes it something else; visits and gaps: `simlab.limits.visit_severity`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.polynomial.legendre import leggauss
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from simlab.environments.knobs import GaussianSpec, find, spec
from simlab.errors import OutOfDomain, unknown
from simlab.limits.areas import area
from simlab.limits.distances import distance
from simlab.limits.gaussian import Moments, moments, view_index
from simlab.limits.joint import joint, reader
from simlab.limits.oracles import VIEWS, Oracle, retained, span_oracle, view_oracle
from simlab.limits.places import oracles_of
from simlab.limits.readouts import domain_auc, jeffreys
from simlab.limits.subspace import cca

FEATURES = (*VIEWS, "cross_modal")
# Least and supremum of each scale. A bare "transfer" is the loss of the rule that sees both views.
_HOSPITALS = ("n_sites_e", "mu_site_e", "rho_s_e")
SCALES: dict[str, tuple[float, float]] = {
    "transfer": (0.0, 1.0), **{f"transfer_{name}": (0.0, 1.0) for name in FEATURES[1:]},
    "domain_auc": (0.5, 1.0), "jeffreys": (0.0, math.inf)}
STEPS = 40  # a path is scanned at this many points for the first crossing
FEW_STEPS = 10  # where each point is an integral
CLOSE = 1e-6  # how near to its level a match must come (relative above one)


@dataclass(frozen=True)
class Kind:
    """A kind of shift: which knob moves, and what else must be set for it."""

    name: str
    symbol: str
    also: tuple[tuple[str, str], ...] = ()


KINDS: dict[str, Kind] = {kind.name: kind for kind in (
    *(Kind(symbol, symbol) for symbol in (
        "kappa_e", "delta_u_e", "delta_v_e", "delta_clin_e", "theta_e", "eta_e", "nu_e", "mu_e", "tau_e", "lambda_e",
        "gain_e", "offset_e", "mix_e", "n_sites_e", "mu_site_e", "rho_s_e")),
    Kind("prevalence_e", "prevalence_e", (("prevalence_kind", "threshold"),)),
    Kind("prevalence_e_reweight", "prevalence_e", (("prevalence_kind", "reweight"),)),
)}


@dataclass(frozen=True)
class Severity:
    """One shift's severity. Divergences are of the records of both views; losses are AUCs by what a rule sees.

    `jeffreys` in nats (None: infinite); `domain_auc` in [.5, 1]; `irreducible` is what the limit itself lost (negative
    where the target is easier) and `transfer` what the source's best rule loses on top, by `FEATURES`. `*_error`: the
    Monte-Carlo standard errors, 0 for closed forms (`transfer_error`: the largest of the AUCs behind the losses).
    """

    jeffreys: float | None
    domain_auc: float | None
    irreducible: dict[str, float]
    transfer: dict[str, float]
    jeffreys_error: float = 0.0
    domain_auc_error: float = 0.0
    transfer_error: float = 0.0


@dataclass(frozen=True)
class Match:
    """Where a kind reaches a level: the knob's value and the severity there."""

    kind: str
    value: float
    severity: Severity


def severity(world: GaussianSpec) -> Severity:
    """How severe the shift of a world's target is, whatever its knobs are; cross_modal at k = d_c.

    Exact up to the quadratures of `domain_auc` (1e-6) and, at ties of canonical correlations, of the Haar mean, where
    the world is Gaussian. Elsewhere, and where classes are resampled beside another shift, with the errors given.
    Raises OutOfDomain for causes that are not normal.
    """
    _check_normal(world)
    source, target = moments(world, "source"), moments(world, "external")
    if world.gaussian:
        oracles = {name: _oracle(source, target, name, world.d_c) for name in FEATURES}
        apart = _jeffreys(source, target), domain_auc(source, target), 0.0, 0.0
    else:
        oracles = oracles_of(world, source, target, {"cross_modal": cca(source, world.d_c)})  # type: ignore[assignment]
        apart = None, None, 0.0, 0.0
    if not world.gaussian or apart[1] is None:
        far = distance(world)
        apart = far.jeffreys, far.domain_auc, far.jeffreys_error, far.domain_auc_error
    return Severity(
        jeffreys=apart[0],
        domain_auc=apart[1],
        irreducible={name: o.internal - o.external for name, o in oracles.items()},
        transfer={name: o.external - o.source_bayes_external for name, o in oracles.items()},
        jeffreys_error=apart[2], domain_auc_error=apart[3],
        transfer_error=max(o.standard_error for o in oracles.values()))


def shifted(kind: str, value: float, world: GaussianSpec) -> GaussianSpec:
    """The world with this one shift and no other. Raises UnknownName, OutOfDomain."""
    one = _kind(kind)
    fields = {key: v for key, v in asdict(world.without_shift()).items() if v is not None}
    if kind == "delta_clin_e":
        del fields["kappa_e"], fields["delta_v_e"]
    return spec({**fields, **dict(one.also), one.symbol: value})


def no_shift(kind: str, world: GaussianSpec) -> float:
    """The knob value at which a kind of shift does nothing. Raises OutOfDomain where there is none."""
    symbol = _kind(kind).symbol
    if symbol == "prevalence_e":
        return world.prevalence
    if symbol == "delta_clin_e":
        if world.kappa_s != 1:
            raise OutOfDomain("delta_clin_e sets kappa_e and delta_v_e to one number, so it starts from no shift only "
                              f"where kappa_s = 1; here kappa_s = {world.kappa_s:g} (take kappa_e or delta_v_e).")
        return 1.0
    return float(getattr(world.without_shift(), symbol))


def match(kind: str, level: float, world: GaussianSpec, scale: str = "transfer", toward: str | None = None) -> Match:
    """The smallest move of a kind at which the severity on a scale reaches `level`, to 1e-6 of it.

    Moves start from no shift and end at an end of the knob's sweep range: `toward` "low" or "high", or whichever end
    gets there with the smaller share of its way (None). A number of hospitals is the first whole one that reaches at
    least the level; where limits are integrals a match is as near as their error lets it be. Raises OutOfDomain where
    no move reaches the level, with the largest that is reached, and for a level outside its scale; UnknownName for a
    kind or scale that does not exist.
    """
    _check_normal(world)
    check_level(level, scale)
    if toward not in (None, "low", "high"):
        raise unknown("end of a knob's range", str(toward), ("low", "high"))
    ways = paths(kind, world)
    ways = {end: way for end, way in ways.items() if toward in (None, end)}

    def reached(knob: float) -> float:
        return _on(shifted(kind, knob, world), scale)

    whole = find(_kind(kind).symbol).domain.whole  # type: ignore[union-attr]
    integral = not (world.gaussian and kind not in _HOSPITALS)

    found, best, at = [], -math.inf, math.nan
    for way in ways.values():
        share, most, where = first(lambda s, way=way: reached(way(s)), level, FEW_STEPS if integral else STEPS, whole)
        if most > best:
            best, at = most, way(where)
        if share is not None:
            found.append((share, way(share)))
    if found:
        value = min(found)[1]
        near = (1e-3 if integral else CLOSE) * max(1.0, level)
        if abs(reached(value) - level) <= near or whole:
            return Match(kind, value, severity(shifted(kind, value, world)))
        raise OutOfDomain(f"{kind} jumps past {scale} = {level:g} at {value:.4g}, to {reached(value):.4g}.")
    if not ways:
        most_said = "it has no way to go"
    elif best <= SCALES[scale][0] + CLOSE:
        most_said = f"it stays at {SCALES[scale][0]:g}"
    else:
        most_said = f"the largest is {best:.4g}, at {_kind(kind).symbol} = {at:.4g}"
    raise OutOfDomain(f"{kind} does not reach {scale} = {level:g} within its sweep range: {most_said}.")


def paths(kind: str, world: GaussianSpec) -> dict[str, Callable[[float], float]]:
    """From no shift to the "low" and the "high" end of the knob's sweep range: functions of the share of the way.

    Ends where nothing moves are left out. Log-scaled knobs go in log.
    """
    knob, start = find(_kind(kind).symbol), no_shift(kind, world)
    assert knob.sweep is not None, f"{knob.symbol} has no sweep range"
    out = {}
    for name, end in zip(("low", "high"), knob.sweep, strict=True):
        if abs(end - start) > 1e-12:
            out[name] = straight(start, float(end), knob.scale == "log", knob.domain.whole)  # type: ignore[union-attr]
    return out


def compare(world: GaussianSpec) -> list[dict[str, object]]:
    """Every kind at the ends of its sweep range: kind, value and the fields of `Severity` (plain numbers, for JSON)."""
    _check_normal(world)
    rows: list[dict[str, object]] = []
    for kind in KINDS:
        try:
            ends = [(way(1.0), shifted(kind, way(1.0), world)) for way in paths(kind, world).values()]
        except OutOfDomain as refused:
            rows.append({"kind": kind, "value": None, "reason": f"{kind} does not apply: {refused}"})
            continue
        rows += [_row(Match(kind, value, severity(moved))) for value, moved in ends]
    return rows


def match_all(level: float, world: GaussianSpec, scale: str = "transfer") -> list[dict[str, object]]:
    """Every kind where it reaches the level, as `compare`; `value` None and a `reason` where it does not."""
    _check_normal(world)
    check_level(level, scale)
    rows: list[dict[str, object]] = []
    for kind in KINDS:
        try:
            rows.append(_row(match(kind, level, world, scale)))
        except OutOfDomain as refused:
            rows.append({"kind": kind, "value": None, "reason": str(refused)})
    return rows


def check_level(level: float, scale: str) -> None:
    """Refuse a scale that does not exist (UnknownName) or a level outside it (OutOfDomain)."""
    if scale not in SCALES:
        raise unknown("severity scale", scale, list(SCALES))
    low, high = SCALES[scale][0] + CLOSE, SCALES[scale][1]
    if not low <= level < high:
        raise OutOfDomain(f"a severity of {scale} = {level:g} is outside its domain: [{low:g}, {high:g}).")


def _check_normal(world: GaussianSpec) -> None:
    if world.alpha_lat != 2:
        raise OutOfDomain(f"severity is measured where causes are normal, since the density of records has a closed "
                          f"form only there: take alpha_lat = 2, not {world.alpha_lat:g}.")


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise unknown("kind of shift", name, list(KINDS))
    return KINDS[name]


def _on(world: GaussianSpec, scale: str) -> float:
    """The severity on one scale alone; inf where it is infinite."""
    source, target, d_c = moments(world, "source"), moments(world, "external"), world.d_c
    if not world.gaussian:
        if not scale.startswith("transfer"):
            far = getattr(distance(world), scale)
            return math.inf if far is None else far
        name = "full" if scale == "transfer" else scale.removeprefix("transfer_")
        if name == "cross_modal":
            found = oracles_of(world, source, target, {name: cca(source, d_c)})[name]
            return found.external - found.source_bayes_external  # type: ignore[union-attr]
        inside, outside = (reader(law, view_index(law.law, name)) for law in (joint(world, "source"),
                                                                             joint(world, "external")))
        return area(outside)[0] - area(outside, inside)[0]
    if scale == "jeffreys":
        value = _jeffreys(source, target)
    elif scale == "domain_auc":
        value = domain_auc(source, target)
    else:
        name = "full" if scale == "transfer" else scale.removeprefix("transfer_")
        oracle = _oracle(source, target, name, d_c)
        value = oracle.external - oracle.source_bayes_external
    return math.inf if value is None else value


def _oracle(source: Moments, target: Moments, name: str, d_c: int) -> Oracle:
    return span_oracle(source, target, cca(source, d_c)) if name == "cross_modal" else view_oracle(source, target, name)


def _jeffreys(source: Moments, target: Moments) -> float | None:
    resampled = target.prevalence != target.prevalence_law
    return _resampled_jeffreys(source, target) if resampled else jeffreys(source, target)


def _row(found: Match) -> dict[str, object]:
    return {"kind": found.kind, "value": found.value, **asdict(found.severity)}


def straight(start: float, end: float, log: bool, whole: bool = False) -> Callable[[float], float]:
    """Share of the way -> knob value, exact at both ends."""
    def at(share: float) -> float:
        if share >= 1:
            return end
        value = start * (end / start) ** share if log else start + share * (end - start)
        return float(round(value)) if whole else value
    return at


def first(f: Callable[[float], float], level: float, steps: int,
          jumps: bool = False) -> tuple[float | None, float, float]:
    """(first share of the way at which f reaches the level, or None; the largest f seen, and the share where).

    Where f `jumps`, as that of whole numbers does, f at the share found is the level or above it.
    """
    best, at = -math.inf, 0.0
    for i in range(1, steps + 1):
        value = f(i / steps)
        if value > best:
            best, at = value, i / steps
        if value >= level:
            close = 1e-13 if steps == STEPS else 1e-5
            return _crossing(f, level, (i - 1) / steps, i / steps, close, jumps), best, at
    return None, best, at


def _crossing(f: Callable[[float], float], level: float, low: float, high: float, close: float, jumps: bool) -> float:
    """Where f passes the level between a share below it and one at or above it."""
    if not jumps and math.isfinite(f(high)) and f(low) < level:
        return float(brentq(lambda share: f(share) - level, low, high, xtol=close))
    for _ in range(math.ceil(math.log2(1 / close))):
        middle = (low + high) / 2
        low, high = (low, middle) if f(middle) >= level else (middle, high)
    return high


def _resampled_jeffreys(source: Moments, target: Moments) -> float | None:
    """Jeffreys divergence, nats, of records whose classes alone are resampled; None where something else moved too.

    The densities' ratio is w = p K_e/K + (1 - p)(1 - K_e)/(1 - K), p = P(y = 1 | z) in the source, so the divergence is
    E (w - 1) log w over the source: one Gaussian integral over the standardised best score.
    """
    same = np.allclose(source.cov, target.cov, atol=1e-12) and np.allclose(source.mean, target.mean, atol=1e-12)
    if not (same and np.allclose(source.cov_liability, target.cov_liability, atol=1e-12)):
        return None
    share, k, new = retained(source), target.prevalence_law, target.prevalence
    x, weight = leggauss(400)
    x, weight = 9 * x, 9 * weight * np.exp(-((9 * x) ** 2) / 2) / np.sqrt(2 * np.pi)
    p = ndtr((np.sqrt(share) * x + ndtri(k)) / np.sqrt(max(1 - share, 1e-300)))
    ratio = p * new / k + (1 - p) * (1 - new) / (1 - k)
    return float(weight @ ((ratio - 1) * np.log(ratio)))
