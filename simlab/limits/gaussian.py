"""The Gaussian-liability world in measured coordinates: its moments in the source or the target, and the exact risk.

Observation maps are injective, so P(y | x) = P(y | z): everything that limits need is the joint Gaussian law of the
measured coordinates z = (z_I, z_C) and the liability l, assembled here from a specification (docs/theory.md, 1 and 2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_ndtr, ndtr, ndtri

from simlab.environments.knobs import GaussianSpec
from simlab.errors import unknown

DOMAINS = ("source", "external")


@dataclass(frozen=True)
class Moments:
    """The joint Gaussian law of measured coordinates z and liability l in one domain.

    Coordinates of z, in order: image block [c, u, g, noise], then clinical block [c, v, g, noise]. The label is
    y = 1[l > threshold]. `prevalence` is the share of positive records that the domain's cohort holds;
    `prevalence_law` is P(l > threshold) under the Gaussian law. They differ only where classes are resampled
    (`prevalence_kind = reweight`), which moves no fixed score's AUC: every AUC uses `prevalence_law`.
    """

    mean: Float[np.ndarray, " p"]
    cov: Float[np.ndarray, "p p"]
    cov_liability: Float[np.ndarray, " p"]
    mean_liability: float
    var_liability: float
    threshold: float
    prevalence: float
    prevalence_law: float
    image: slice
    clinical: slice
    blocks: dict[str, slice]

    @property
    def p(self) -> int:
        """Number of measured coordinates, both views."""
        return len(self.mean)

    @property
    def standardised_cov(self) -> Float[np.ndarray, " p"]:
        """Cov(z, l) / sd(l): the covariance with the liability in its own units."""
        return self.cov_liability / np.sqrt(self.var_liability)


def blocks(spec: GaussianSpec) -> dict[str, slice]:
    """Where each block lies in z: image, clinical, and by view c_image, u, g_image, n_image, c_clinical, v, ..."""
    names = ("c_image", "u", "g_image", "n_image", "c_clinical", "v", "g_clinical", "n_clinical")
    sizes = (spec.d_c, spec.d_u, spec.d_g, spec.d_ni, spec.d_c, spec.d_v, spec.d_g, spec.d_nc)
    ends = np.cumsum((0, *sizes)).tolist()
    index = {name: slice(ends[i], ends[i + 1]) for i, name in enumerate(names)}
    middle, end = ends[4], ends[8]
    return {**index, "image": slice(0, middle), "clinical": slice(middle, end)}


def direction(d: int) -> Float[np.ndarray, " d"]:
    """beta = (1, ..., 1)/sqrt(d): how d causes enter the liability, and the direction of the target's moves."""
    return np.full(d, 1 / np.sqrt(d))


def moments(spec: GaussianSpec, domain: str = "source") -> Moments:
    """The law of (z, l) in the "source" or the "external" domain (docs/theory.md, 2).

    External: causes c, u, v have mean mu_e beta and variance tau_e^2 along beta; coupling kappa_e; slopes on u and v
    scaled by delta_u_e and delta_v_e, the liability's own noise refilling Var(l) = 1 for causes of unit variance;
    nuisance correlation nu_e. The threshold stays Phi^-1(1 - K_source) unless `prevalence_kind` is "threshold".
    Raises UnknownName for another domain.
    """
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    outside = domain == "external"
    shift, scale = (spec.mu_e, spec.tau_e) if outside else (0.0, 1.0)
    at = blocks(spec)
    slopes = liability_slopes(spec, domain)
    mean, cov, covl = _law(spec, at, slopes, outside)
    mean_l = float(shift * sum(slopes))
    var_l = float(1 + (scale**2 - 1) * sum(s**2 for s in slopes))
    threshold = float(ndtri(1 - spec.prevalence))
    law = spec.prevalence if (mean_l, var_l) == (0.0, 1.0) else float(ndtr((mean_l - threshold) / np.sqrt(var_l)))
    prevalence = law
    if outside and spec.prevalence_e is not None:
        prevalence = spec.prevalence_e
        if spec.prevalence_kind == "threshold":
            law, threshold = prevalence, float(mean_l - np.sqrt(var_l) * ndtri(prevalence))
    return Moments(mean, cov, covl, mean_l, var_l, threshold, prevalence, law, at["image"], at["clinical"], at)


def liability_slopes(spec: GaussianSpec, domain: str = "source") -> tuple[float, float, float]:
    """Slopes of the liability on beta'c, beta'u, beta'v: sqrt(h2 w), times delta_u_e and delta_v_e in the target."""
    du, dv = (spec.delta_u_e, spec.delta_v_e) if domain == "external" else (1.0, 1.0)
    return (float(np.sqrt(spec.h2 * spec.w_c)), float(du * np.sqrt(spec.h2 * spec.w_u)),
            float(dv * np.sqrt(spec.h2 * spec.w_v)))


def _law(spec: GaussianSpec, at: dict[str, slice], slopes: tuple[float, float, float], outside: bool) -> tuple[
        Float[np.ndarray, " p"], Float[np.ndarray, "p p"], Float[np.ndarray, " p"]]:
    """Mean of z, covariance of z, covariance of z with l."""
    p = at["clinical"].stop
    mean, cov, covl = np.zeros(p), np.zeros((p, p)), np.zeros(p)
    shift, scale, kappa, nu = ((spec.mu_e, spec.tau_e, spec.kappa_e, spec.nu_e) if outside
                               else (0.0, 1.0, spec.kappa_s, spec.nu))
    cause, other = _cause_cov(spec.d_c, scale), np.eye(spec.d_c)
    _fill(cov, at["c_image"], at["c_image"], cause + _error(spec.rel_ci) * other)
    clinical = kappa**2 * cause + (1 - kappa**2 + _error(spec.rel_cc)) * other
    _fill(cov, at["c_clinical"], at["c_clinical"], clinical)
    _fill(cov, at["c_image"], at["c_clinical"], kappa * cause)
    _fill(cov, at["u"], at["u"], _cause_cov(spec.d_u, scale) + _error(spec.rel_u) * np.eye(spec.d_u))
    _fill(cov, at["v"], at["v"], _cause_cov(spec.d_v, scale) + _error(spec.rel_v) * np.eye(spec.d_v))
    nuisance = spec.alpha_g**2 * np.eye(spec.d_g)
    _fill(cov, at["g_image"], at["g_image"], nuisance)
    _fill(cov, at["g_clinical"], at["g_clinical"], nuisance)
    _fill(cov, at["g_image"], at["g_clinical"], nu * nuisance)
    for name in ("n_image", "n_clinical"):
        _fill(cov, at[name], at[name], spec.alpha_n**2 * np.eye(at[name].stop - at[name].start))
    for name, slope, gain in (("c_image", slopes[0], 1.0), ("c_clinical", slopes[0], kappa), ("u", slopes[1], 1.0),
                              ("v", slopes[2], 1.0)):
        beta = direction(at[name].stop - at[name].start)
        mean[at[name]] = shift * gain * beta
        covl[at[name]] = slope * scale**2 * gain * beta
    return mean, cov, covl


def _error(reliability: float) -> float:
    """Measurement-error variance sigma^2 of a unit-variance cause: reliability = 1/(1 + sigma^2)."""
    return 1 / reliability - 1


def _cause_cov(d: int, scale: float) -> Float[np.ndarray, "d d"]:
    """Covariance of d unit-variance causes whose standard deviation along beta is `scale`."""
    beta = direction(d)
    return np.eye(d) + (scale**2 - 1) * np.outer(beta, beta)


def _fill(cov: Float[np.ndarray, "p p"], rows: slice, columns: slice, block: Float[np.ndarray, "a b"]) -> None:
    """Write a block and its transpose."""
    cov[rows, columns] = block
    cov[columns, rows] = block.T


def solve(cov: Float[np.ndarray, "p p"], right: Float[np.ndarray, "p ..."]) -> Float[np.ndarray, "p ..."]:
    """cov^-1 right for a covariance that may be singular (two views that both show a cause without error).

    Scaled to a correlation matrix first, so that amplitudes do not decide what counts as singular; then Cholesky, or
    the pseudo-inverse (eigenvalues below 1e-10 dropped) where the matrix is singular.
    """
    if len(cov) == 0:
        return np.zeros_like(right)
    sd = np.sqrt(np.diag(cov))
    sd = np.where(sd > 0, sd, 1.0)
    corr = cov / np.outer(sd, sd)
    scaled = (right.T / sd).T
    try:
        root = np.linalg.cholesky(corr)
        if np.diag(root).min() > 1e-5:
            return (np.linalg.solve(root.T, np.linalg.solve(root, scaled)).T / sd).T
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(corr)
    kept = vectors[:, values > 1e-10]
    return ((kept @ ((kept.T @ scaled).T / values[values > 1e-10]).T).T / sd).T


def posterior(law: Moments, z: Float[np.ndarray, "n p"], view: str = "full") -> Float[np.ndarray, " n"]:
    """P(y = 1 | z) exactly, for n records: P(l > t | z), prior-corrected where the cohort's classes are resampled.

    `view` is "full", "image" or "clinical": what of z is shown (z always holds all p coordinates, in measured units).
    For resampled classes, odds(risk) = odds(P(l > t | z)) odds(K_e) / odds(P(l > t)).
    """
    shown = view_index(law, view)
    m = law.cov_liability[shown]
    weights = solve(law.cov[np.ix_(shown, shown)], m)
    location = law.mean_liability + (z[:, shown] - law.mean[shown]) @ weights
    spread = np.sqrt(max(law.var_liability - float(m @ weights), 1e-300))
    standardised = (location - law.threshold) / spread
    if law.prevalence == law.prevalence_law:
        return ndtr(standardised)
    odds = np.log(law.prevalence / (1 - law.prevalence)) - np.log(law.prevalence_law / (1 - law.prevalence_law))
    log_odds = log_ndtr(standardised) - log_ndtr(-standardised) + odds
    return 1 / (1 + np.exp(-np.clip(log_odds, -700, 700)))


def only(law: Moments, rows: Int[np.ndarray, " r"]) -> Moments:
    """The law of some coordinates of z alone (increasing indices) and l; every block keeps what is left of it."""
    at = {name: slice(*np.searchsorted(rows, (s.start, s.stop)).tolist()) for name, s in law.blocks.items()}
    return replace(law, mean=law.mean[rows], cov=law.cov[np.ix_(rows, rows)], cov_liability=law.cov_liability[rows],
                   image=at["image"], clinical=at["clinical"], blocks=at)


def view_index(law: Moments, view: str) -> np.ndarray:
    """Indices of the coordinates that a view shows: "full", "image" or "clinical". Raises UnknownName."""
    if view == "full":
        return np.arange(law.p)
    if view in ("image", "clinical"):
        return np.arange(law.p)[law.blocks[view]]
    raise unknown("view", view, ("full", "image", "clinical"))
