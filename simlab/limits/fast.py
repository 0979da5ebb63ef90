"""The closed-form limits of many settings at once: thousands a second, for maps drawn from theory alone.

Along beta the world has four numbers that bear on the label (b'c and b'u in the image, b'c and b'v in the record), of
which only the two copies of b'c are correlated; all that is orthogonal to beta is isotropic and tells nothing. So every
limit of a view, and of the first d_c canonical pairs, is a few arithmetic operations, vectorised here over settings
(docs/theory.md, 14). Settings to which the reduction does not apply are handed to
`simlab.limits.limits`, one by one: those with a knob set that it does not know, canonical correlations that tie,
singular covariances.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtr, ndtri, roots_jacobi

from simlab.environments.knobs import GaussianSpec, find, spec
from simlab.errors import OutOfDomain
from simlab.limits.finite import LEVEL, N_MOST, density, least_squares_correlation
from simlab.limits.liability import auc
from simlab.limits.report import PLACES, check_counts, limits

FEATURES = ("full", "image", "clinical", "cross_modal")
# Knobs that the reduction knows, and knobs that move no limit of views and canonical pairs.
REDUCED = ("d_c", "d_u", "d_v", "d_g", "d_ni", "d_nc", "rel_ci", "rel_cc", "rel_u", "rel_v", "kappa_s", "nu", "h2",
           "prevalence", "w_c", "w_u", "w_v", "kappa_e", "delta_u_e", "delta_v_e", "nu_e", "mu_e", "tau_e", "eta_s",
           "eta_e", "prevalence_e", "prevalence_kind")
WITHOUT_EFFECT = ("alpha_g", "alpha_n", "map", "condition", "map_seed", "n_unlab", "n_lab", "record_tokens")
TIE = 1e-7  # relative gap of canonical correlations below which a setting is left to the full path
NODES = 24  # of the quadrature over tied choices, as in `simlab.limits.subspace`

_Array = Float[np.ndarray, "..."]
Columns = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class _Law:
    """Along beta, for n settings in one domain: variances, covariances with l over sd(l), and the prevalence."""

    image: _Array  # Var b'c in the image
    clinical: _Array
    between: _Array  # covariance of these two
    c: tuple[_Array, _Array]  # their covariance with l
    u: tuple[_Array, _Array]  # variance of b'u, covariance with l
    v: tuple[_Array, _Array]
    prevalence: _Array


def fast_limits(specs: Sequence[GaussianSpec], n_labelled: Sequence[int] = ()) -> dict[str, np.ndarray]:
    """The limits of n worlds, as arrays (n,): to 1e-10 those of `simlab.limits.limits` at k = d_c.

    Keys: `internal/full` and so on, PLACES by FEATURES; `finite/supervised`, `finite/cross_modal` (n, counts), NaN
    where not defined; `crossover_n` of cross_modal against supervised in labels (not rounded), NaN where there is none;
    `prevalence_external`; `dense`, True for the settings that took the full path (about a thousand times as slow).
    Raises OutOfDomain as `limits` does.
    """
    worlds = list(specs)
    check_counts(n_labelled)
    out = _empty(len(worlds), len(n_labelled))
    plain = _plain(worlds)
    for chosen in np.array_split(np.flatnonzero(plain), len(worlds) // 20_000 + 1):
        x = columns([worlds[i] for i in chosen])
        clear = ~np.isnan(_kept(x).share[:, 0])
        plain[chosen[~clear]] = False
        part = _closed({key: values[clear] for key, values in x.items()}, np.asarray(n_labelled, float))
        for key, values in part.items():
            out[key][chosen[clear]] = values
    out["dense"] = ~plain
    for i in np.flatnonzero(out["dense"]):
        for key, value in _full_path(worlds[i], n_labelled).items():
            out[key][i] = value
    return out


def theory_map(axes: Mapping[str, Sequence[object]], n_labelled: Sequence[int] = (),
               **knobs: object) -> dict[str, np.ndarray]:
    """`fast_limits` on the grid of all combinations of axes (knob name or symbol -> values), in the grid's shape.

    `knobs` are set everywhere; the keys also hold each axis's values under its symbol. 100,000 cells take seconds.
    Raises UnknownName and OutOfDomain as `spec` does, naming the first bad cell's condition.
    """
    if not axes or any(len(values) == 0 for values in axes.values()):
        raise OutOfDomain("a theory map needs at least one axis, and each axis at least one value.")
    symbols = [find(name).symbol for name in axes]
    cells = itertools.product(*axes.values())
    worlds = [spec({**knobs, **dict(zip(symbols, cell, strict=True))}) for cell in cells]
    shape = tuple(len(values) for values in axes.values())
    found = fast_limits(worlds, n_labelled)
    out = {key: values.reshape(*shape, *values.shape[1:]) for key, values in found.items()}
    return out | {symbol: np.asarray(values) for symbol, values in zip(symbols, axes.values(), strict=True)}


def columns(worlds: Sequence[GaussianSpec]) -> Columns:
    """The knobs that the reduction knows, as arrays (n,); prevalence_e is NaN where it is not set."""
    known = REDUCED[:-2]
    table = np.array([attrgetter(*known)(world) for world in worlds], float).reshape(len(worlds), len(known))
    out = dict(zip(known, table.T, strict=True))
    out["prevalence_e"] = np.array([np.nan if w.prevalence_e is None else w.prevalence_e for w in worlds], float)
    out["threshold_moves"] = np.array([w.prevalence_kind == "threshold" for w in worlds], bool)
    return out


_OTHERS = tuple(f.name for f in fields(GaussianSpec) if f.name not in (*REDUCED, *WITHOUT_EFFECT))


def _plain(worlds: list[GaussianSpec]) -> Bool[np.ndarray, " n"]:
    """Whether all knobs that the reduction does not know are where they do nothing."""
    if not _OTHERS:
        return np.ones(len(worlds), bool)
    read = attrgetter(*_OTHERS)
    nothing = read(spec())
    return np.array([read(world) == nothing for world in worlds], bool)


def _empty(n: int, counts: int) -> dict[str, np.ndarray]:
    out = {f"{place}/{name}": np.full(n, np.nan) for place in PLACES for name in FEATURES}
    out |= {f"finite/{name}": np.full((n, counts), np.nan) for name in ("supervised", "cross_modal")}
    return out | {"crossover_n": np.full(n, np.nan), "prevalence_external": np.full(n, np.nan)}


def _law(x: Columns, out: bool) -> _Law:
    """The law along beta in the source or the target."""
    e_i, e_c, e_u, e_v = (1 / x[f"rel_{name}"] - 1 for name in ("ci", "cc", "u", "v"))
    kappa, eta = (x["kappa_e"], x["eta_e"]) if out else (x["kappa_s"], x["eta_s"])
    mu, tau2 = (x["mu_e"], x["tau_e"] ** 2) if out else (0.0, np.ones_like(kappa))
    slopes = [np.sqrt(x["h2"] * x[f"w_{name}"]) for name in "cuv"]
    if out:
        slopes[1:] = [slopes[1] * x["delta_u_e"], slopes[2] * x["delta_v_e"]]
    mean = mu * sum(slopes)
    var = 1 + (tau2 - 1) * sum(a * a for a in slopes)
    sd = np.sqrt(var)
    prevalence = ndtr((mean + ndtri(x["prevalence"])) / sd)
    prevalence = np.where((mean == 0) & (var == 1), x["prevalence"], prevalence)
    if out:
        prevalence = np.where(x["threshold_moves"] & ~np.isnan(x["prevalence_e"]), x["prevalence_e"], prevalence)
    a_c, a_u, a_v = (a * tau2 / sd for a in slopes)
    return _Law(tau2 + e_i, kappa**2 * tau2 + 1 - kappa**2 + e_c, kappa * tau2 + eta * np.sqrt(e_i * e_c),
                (a_c, kappa * a_c), (tau2 + e_u, a_u), (tau2 + e_v, a_v), prevalence)


@dataclass(frozen=True, eq=False)
class _Kept:
    """What the first d_c canonical pairs hold of b'c, for n settings.

    `share` (n, q) is t, the squared length that is kept, at the nodes of a rule with weights (n, q): 1 where c comes
    first, 0 where nuisance takes every pair, in between where some pairs are left. NaN: not this reduction's case.
    """

    share: Float[np.ndarray, "n q"]
    weight: Float[np.ndarray, "n q"]


def _kept(x: Columns) -> _Kept:
    source, target = _law(x, False), _law(x, True)
    rho = np.abs(source.between) / np.sqrt(source.image * source.clinical)
    nu = np.where(x["d_g"] > 0, np.abs(x["nu"]), 0.0)
    clear = (np.abs(rho - nu) > TIE * np.maximum(rho, nu)) & (np.maximum(rho, nu) > TIE) & (x["tau_e"] > 1e-3)
    for law in (source, target, _perpendicular(x)):
        clear &= law.between**2 < (1 - 1e-8) * law.image * law.clinical
    share, weight = np.full((len(rho), NODES), np.nan), np.full((len(rho), NODES), 1 / NODES)
    share[clear & (rho > nu)] = 1.0
    share[clear & (nu > rho) & (x["d_g"] >= x["d_c"])] = 0.0
    some = clear & (nu > rho) & (x["d_g"] < x["d_c"]) & (rho > TIE)
    for d_c, d_g in np.unique(np.stack([x["d_c"][some], x["d_g"][some]], 1), axis=0):
        a = d_g / 2 - 1
        nodes, w = roots_jacobi(NODES, a, d_c - d_g - 1)
        tau = (1 + nodes) / 2
        w = w * (1 + tau) ** a
        here = some & (x["d_c"] == d_c) & (x["d_g"] == d_g)
        share[here], weight[here] = tau**2, w / w.sum()
    return _Kept(share, weight)


def _perpendicular(x: Columns) -> _Law:
    """The target's law of a shared cause orthogonal to beta (which tau_e does not touch)."""
    return _law(x | {"tau_e": np.ones_like(x["tau_e"])}, True)


def _closed(x: Columns, counts: Float[np.ndarray, " l"]) -> dict[str, np.ndarray]:
    """All keys, for settings that the reduction applies to."""
    source, target, kept = _law(x, False), _law(x, True), _kept(x)
    out: dict[str, np.ndarray] = {}
    for name, parts in (("full", ("c", "u", "v")), ("image", ("image", "u")), ("clinical", ("clinical", "v"))):
        weights = [_weights(source, part) for part in parts]
        own = [_weights(target, part) for part in parts]
        r2, r2_out = (sum(_dot(law, part, w) for part, w in zip(parts, ws, strict=True))
                      for law, ws in ((source, weights), (target, own)))
        rule = sum(_dot(target, part, w) for part, w in zip(parts, weights, strict=True))
        spread = sum(_spread(target, part, w) for part, w in zip(parts, weights, strict=True))
        _put(out, name, source, target, r2, r2_out, _ratio(rule, np.sqrt(spread)))
        if name == "full":
            full = np.clip(r2, 0, 1)
    pair = _dot(source, "c", _weights(source, "c"))
    r2, r2_out, rule = _pair_outside(x, source, target, kept.share, pair)
    for key, values in zip(PLACES, (np.sqrt(np.clip(r2, 0, 1)), np.sqrt(np.clip(r2_out, 0, 1)), rule), strict=True):
        k = (source if key == "internal" else target).prevalence
        out[f"{key}/cross_modal"] = _mean(kept, values, k)
    out["prevalence_external"] = np.where(np.isnan(x["prevalence_e"]), target.prevalence, x["prevalence_e"])
    p = sum(x[name] for name in ("d_c", "d_c", "d_u", "d_v", "d_g", "d_g", "d_ni", "d_nc"))
    r = least_squares_correlation(full[:, None], p[:, None], counts, x["prevalence"][:, None])
    out["finite/supervised"] = _auc(r, source.prevalence[:, None])
    r = least_squares_correlation(r2[..., None], 2 * x["d_c"][:, None, None], counts, x["prevalence"][:, None, None])
    areas = _auc(r, source.prevalence[:, None, None])
    out["finite/cross_modal"] = np.einsum("nq,nql->nl", kept.weight, areas)
    out["crossover_n"] = crossover(full, p, r2[:, 0], 2 * x["d_c"], x["prevalence"])
    for some in np.array_split(np.flatnonzero(np.ptp(kept.share, axis=1) > 0), len(p) // 2000 + 1):
        single = (values[some, None] for values in (full, p, 2 * x["d_c"], x["prevalence"]))
        out["crossover_n"][some] = _tied_crossover(*single, r2[some], kept.weight[some])
    return out


def _weights(law: _Law, part: str) -> tuple[_Array, ...]:
    """The Bayes rule's weights on one block along beta: the pair "c", or one of "image", "clinical", "u", "v"."""
    if part == "c":
        (m1, m3), det = law.c, law.image * law.clinical - law.between**2
        return (m1 * law.clinical - m3 * law.between) / det, (m3 * law.image - m1 * law.between) / det
    variance, m = _single(law, part)
    return (m / variance,)


def _single(law: _Law, part: str) -> tuple[_Array, _Array]:
    if part in ("u", "v"):
        return getattr(law, part)
    return (law.image, law.c[0]) if part == "image" else (law.clinical, law.c[1])


def _dot(law: _Law, part: str, w: tuple[_Array, ...]) -> _Array:
    """w'm of a block."""
    m = law.c if part == "c" else (_single(law, part)[1],)
    return sum(a * b for a, b in zip(w, m, strict=True))


def _spread(law: _Law, part: str, w: tuple[_Array, ...]) -> _Array:
    """w'Sw of a block."""
    if part == "c":
        return w[0] ** 2 * law.image + w[1] ** 2 * law.clinical + 2 * w[0] * w[1] * law.between
    return w[0] ** 2 * _single(law, part)[0]


def _pair_outside(x: Columns, source: _Law, target: _Law, share: Float[np.ndarray, "n q"], pair: Float[
        np.ndarray, " n"]) -> tuple[Float[np.ndarray, "n q"], Float[np.ndarray, "n q"], Float[np.ndarray, "n q"]]:
    """(r^2 inside, r^2 outside, r of the source's rule outside) of a pair of directions that keep `share` of b'c."""
    flat = _perpendicular(x)

    def mixed(name: str) -> Float[np.ndarray, "n q"]:
        return share * getattr(target, name)[:, None] + (1 - share) * getattr(flat, name)[:, None]
    law = _Law(mixed("image"), mixed("clinical"), mixed("between"),
               tuple(np.sqrt(share) * m[:, None] for m in target.c), target.u, target.v, target.prevalence)
    w = tuple(a[:, None] for a in _weights(source, "c"))
    outside = _dot(law, "c", _weights(law, "c"))
    rule = _ratio(_dot(law, "c", w), np.sqrt(_spread(law, "c", w)))
    return share * pair[:, None], outside, rule


def _ratio(above: _Array, below: _Array) -> _Array:
    """above/below; 0 for a constant score."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _put(out: dict[str, np.ndarray], name: str, source: _Law, target: _Law, r2: _Array, r2_out: _Array,
         rule: _Array) -> None:
    out[f"internal/{name}"] = auc(np.sqrt(np.clip(r2, 0, 1)), source.prevalence)
    out[f"external/{name}"] = auc(np.sqrt(np.clip(r2_out, 0, 1)), target.prevalence)
    out[f"source_bayes_external/{name}"] = auc(np.clip(rule, -1, 1), target.prevalence)


def _mean(kept: _Kept, r: Float[np.ndarray, "n q"], prevalence: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The AUC averaged over what is kept; one evaluation where that is certain."""
    out = _auc(np.clip(r[:, 0], -1, 1), prevalence)
    several = np.ptp(kept.share, axis=1) > 0
    areas = _auc(np.clip(r[several], -1, 1), prevalence[several][:, None])
    out[several] = np.einsum("nq,nq->n", kept.weight[several], areas)
    return out


def _auc(r: _Array, prevalence: _Array) -> _Array:
    """g(r, K), NaN where r is."""
    return np.where(np.isnan(r), np.nan, auc(np.nan_to_num(r), prevalence))


def crossover(full: _Array, p: _Array, kept: _Array, q: _Array, prevalence: _Array) -> _Array:
    """The n* at which least squares on p features of R^2 = full overtakes that on q numbers of R^2 = kept; NaN: none.

    With f = phi(t)^2/(K(1-K)), O = f full, o = f kept and a = n - p - 1, equal correlations mean
    kept o (a + p - q) (O a + p (1 - O)) = full O a (o (a + p - q) + q (1 - o)), a quadratic in a; the largest root.
    """
    f = density(prevalence) ** 2 / (prevalence * (1 - prevalence))
    big, small, c = full * f, kept * f, p - q
    one, two = kept * small, full * big
    quadratic = one * big - two * small
    linear = one * (p * (1 - big) + c * big) - two * (small * c + q * (1 - small))
    constant = one * c * p * (1 - big)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(linear**2 - 4 * quadratic * constant)
        a = np.fmax((-linear + root) / (2 * quadratic), (-linear - root) / (2 * quadratic))
    return np.where((a > 0.01) & (a + p + 1 < N_MOST), a + p + 1, np.nan)


def _tied_crossover(full: Float[np.ndarray, "n 1"], p: Float[np.ndarray, "n 1"], q: Float[np.ndarray, "n 1"],
                    prevalence: Float[np.ndarray, "n 1"], kept: Float[np.ndarray, "n q"],
                    weight: Float[np.ndarray, "n q"]) -> Float[np.ndarray, " n"]:
    """`crossover` where AUCs are averaged over ties: the last change of sign on a grid of n - p - 1, then bisection."""
    def ahead(past: Float[np.ndarray, "n l"]) -> Float[np.ndarray, "n l"]:
        n = past + p + 1
        probe = least_squares_correlation(kept[..., None], q[..., None], n[:, None, :], prevalence[..., None])
        areas = np.einsum("nq,nql->nl", weight, auc(probe, prevalence[..., None]))
        return areas - auc(least_squares_correlation(full, p, n, prevalence), prevalence)

    rows, grid = np.arange(len(p)), np.geomspace(0.01, N_MOST, 60)
    gap = ahead(np.broadcast_to(grid, (len(p), len(grid))))
    last = len(grid) - 1 - np.argmax(gap[:, ::-1] > LEVEL, axis=1)
    crosses = (gap[rows, last] > LEVEL) & (gap[:, -1] < -LEVEL)
    low, high = grid[last], grid[np.minimum(last + 1, len(grid) - 1)]
    for _ in range(30):
        middle = np.sqrt(low * high)
        still = ahead(middle[:, None])[:, 0] > 0
        low, high = np.where(still, middle, low), np.where(still, high, middle)
    return np.where(crosses, high + p[:, 0] + 1, np.nan)


def _full_path(world: GaussianSpec, n_labelled: Sequence[int]) -> dict[str, object]:
    """One setting by `simlab.limits.limits`, under this module's keys."""
    found = limits(world, None, n_labelled)
    out = {f"{place}/{name}": np.array(found[place][name], float) for place in PLACES for name in FEATURES}
    out |= {f"finite/{name}": np.array(found["finite"][name], float) for name in ("supervised", "cross_modal")}
    star = found["crossover_n"]["cross_modal|supervised"]
    return out | {"crossover_n": np.nan if star is None else star, "prevalence_external": found["prevalence_external"]}
