"""Limits of the blobs world: likelihood ratios of the sizes, months and counts that a record shows, and their AUCs.

With e the effect, f_g and f_d the densities of the growth rate and of an interval, b = s_K / t_K (last size by last
month):

    size, both views     g is known:      log f_g(b/e)/e - log f_g(b)
    size, image          g integrated:    log int f_g(g) prod f_d(Ds_k/(e g)) (e g)^-K dg - the same with e = 1
    time, both views     log f_g(b/e)/e + sum log e f_d(e Dt_k) - log f_g(b) - sum log f_d(Dt_k)
    time, clinical       the intervals' terms alone;  image: sizes have one law, AUC 1/2
    count, image, both   Poisson's mass at count - 1, the last one that of the tail

In the version `time` the growth term is there because (size, months) show g or e g. What a view does not show leaves
1/2. Areas are Rao-Blackwell Monte Carlo over fixed draws.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit, logsumexp
from scipy.stats import poisson

from simlab.environments import blobs as world
from simlab.environments.blob_knobs import MOST, BlobSpec
from simlab.errors import unknown
from simlab.evaluation.auc import weighted_auc

VIEWS = ("full", "image", "clinical")
RECORDS = 40_000
_SEED = 271828
_NODES = 48  # of the growth rate's integral, over 6 standard deviations on both sides of 1


def _folded(x: Float[np.ndarray, "..."], mean: float, sd: float) -> Float[np.ndarray, "..."]:
    """Log density of |N(mean, sd)| at x >= 0: that of N(mean, sd) at x and at -x together."""
    near = -0.5 * ((x - mean) / sd) ** 2
    return near + np.log1p(np.exp(-2 * mean * x / sd**2)) - np.log(sd * np.sqrt(2 * np.pi))


def evidence(spec: BlobSpec, domain: str, view: str, shown: world.BlobFactors) -> Float[np.ndarray, " n"]:
    """log P(shown | y = 1) - log P(shown | y = 0) of what a view shows. Raises UnknownName."""
    if view not in VIEWS:
        raise unknown("view", view, VIEWS)
    effect, nothing = spec.at(domain)[0], np.zeros(len(shown))
    if spec.version == "count":
        return nothing if view == "clinical" else _of_counts(shown.count - 1, effect)
    if spec.version == "size":
        if view == "clinical":
            return nothing
        return _of_growth(spec, shown, effect) if view == "full" else _of_sizes(spec, shown, effect)
    if view == "image":
        return nothing
    step = np.diff(shown.months, axis=1, prepend=0)
    times = (_folded(effect * step, *world.INTERVAL) - _folded(step, *world.INTERVAL) + np.log(effect)).sum(axis=1)
    return times if view == "clinical" else times + _of_growth(spec, shown, effect)


def _of_growth(spec: BlobSpec, shown: world.BlobFactors, effect: float) -> Float[np.ndarray, " n"]:
    b = shown.size[:, -1] / shown.months[:, -1]
    return _folded(b / effect, 1.0, spec.sd_g) - np.log(effect) - _folded(b, 1.0, spec.sd_g)


def _of_counts(extra: np.ndarray, effect: float) -> Float[np.ndarray, " n"]:
    """Poisson(effect) against Poisson(1), cut at MOST - 1."""
    mass = [np.append(poisson.logpmf(np.arange(MOST - 1), m), poisson.logsf(MOST - 2, m)) for m in (effect, 1.0)]
    return (mass[0] - mass[1])[extra]


def _of_sizes(spec: BlobSpec, shown: world.BlobFactors, effect: float) -> Float[np.ndarray, " n"]:
    """Sizes alone: the growth rate, and with it the intervals, is integrated over."""
    step = np.diff(shown.size, axis=1, prepend=0)
    low, high = max(0.0, 1 - 6 * spec.sd_g), 1 + 6 * spec.sd_g
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    g = low + (node + 1) * (high - low) / 2

    def marginal(of: np.ndarray, scale: float) -> np.ndarray:
        inside = _folded(of[:, :, None] / (scale * g), *world.INTERVAL).sum(axis=1) - of.shape[1] * np.log(scale * g)
        return logsumexp(inside + _folded(g, 1.0, spec.sd_g) + np.log(weight), axis=1)

    parts = np.array_split(step, max(1, len(step) // 500))
    return np.concatenate([marginal(part, effect) - marginal(part, 1.0) for part in parts])


def risk(spec: BlobSpec, domain: str, view: str, shown: world.BlobFactors) -> Float[np.ndarray, " n"]:
    """P(y = 1 | what the view shows) in a domain."""
    return expit(evidence(spec, domain, view, shown) + logit(spec.at(domain)[2]))


def bayes(spec: BlobSpec, domain: str, view: str, records: int = RECORDS) -> tuple[float, float]:
    """The Bayes limit of a view in a domain and its Monte-Carlo standard error (0: exact). Raises UnknownName."""
    return _area(_key(spec), domain, domain, view, records)


def limits(spec: BlobSpec, records: int = RECORDS) -> dict[str, object]:
    """Bayes limits inside and outside and the source's rule outside, with standard errors, as JSON can hold them."""
    found: dict[str, dict[str, tuple[float, float]]] = {
        "internal": {view: bayes(spec, "source", view, records) for view in VIEWS},
        "external": {view: bayes(spec, "external", view, records) for view in VIEWS},
        "source_bayes_external": {view: _area(_key(spec), "source", "external", view, records) for view in VIEWS},
    }
    return {
        **{place: {view: value for view, (value, _) in row.items()} for place, row in found.items()},
        "standard_error": {place: {view: se for view, (_, se) in row.items()} for place, row in found.items()},
        "prevalence": spec.prevalence,
        "prevalence_external": spec.prevalence_e,
        "notes": ["the image alone does not say when visits were: its time is the number of the visit"],
        "spec": asdict(spec),
    }


@lru_cache(maxsize=64)
def _area(spec: BlobSpec, rule: str, domain: str, view: str, records: int) -> tuple[float, float]:
    """AUC in a domain of the best score of the domain `rule`, and its standard error."""
    shown = _draw(spec, domain, records)
    score = evidence(spec, rule, view, shown)
    if not score.any():
        return 0.5, 0.0
    true = score if rule == domain else evidence(spec, domain, view, shown)
    area = weighted_auc(score, expit(true + logit(spec.at(domain)[2])))
    return area.value, area.se


def _key(spec: BlobSpec) -> BlobSpec:
    """What the draws depend on."""
    return replace(spec, n_lab=2, n_unlab=2, noise=0.0, noise_e=0.0, layout="pixels")


@lru_cache(maxsize=4)
def _draw(spec: BlobSpec, domain: str, records: int) -> world.BlobFactors:
    return world.sample_factors(records, spec, domain, np.random.default_rng(_SEED))
