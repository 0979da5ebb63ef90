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
    """Where each block lies in z: image, clinical, and by view c_image, u, g_image, n_image, a_image, s_image,
    c_clinical..."""
    names = ("c_image", "u", "g_image", "n_image", "a_image", "s_image", "c_clinical", "v", "g_clinical", "n_clinical",
             "a_clinical", "s_clinical")
    sizes = (*spec.widths("image"), *spec.widths("clinical"))
    ends = np.cumsum((0, *sizes)).tolist()
    index = {name: slice(ends[i], ends[i + 1]) for i, name in enumerate(names)}
    middle, end = ends[6], ends[12]
    return {**index, "image": slice(0, middle), "clinical": slice(middle, end)}


def direction(d: int) -> Float[np.ndarray, " d"]:
    """beta = (1, ..., 1)/sqrt(d): how d causes enter the liability, and the direction of the target's moves."""
    return np.full(d, 1 / np.sqrt(d))


def turned(d: int, angle: float) -> Float[np.ndarray, " d"]:
    """beta turned by an angle (radians) towards (1, -1, 0, ..., 0)/sqrt(2); d >= 2 if not 0."""
    if angle == 0:
        return direction(d)
    across = np.zeros(d)
    across[:2] = 1 / np.sqrt(2), -1 / np.sqrt(2)
    return np.cos(angle) * direction(d) + np.sin(angle) * across


def moments(spec: GaussianSpec, domain: str = "source") -> Moments:
    """The mean and covariance of (z, l) in the "source" or the "external" domain (docs/theory.md, 2), prevalences true.

    The whole law where `spec.gaussian_in(domain)`; elsewhere `joint` and `latent` have the rest. External: causes c,
    u, v have mean mu_e beta and variance tau_e^2 along beta; coupling kappa_e; slopes on u and v scaled by delta_u_e
    and delta_v_e, beta turned by theta_e, the liability's own noise refilling Var(l) = 1 for causes of unit variance;
    nuisance correlation nu_e, error correlation eta_e, shortcut lambda_e, sites and acquisition of their own. The
    threshold stays Phi^-1(1 - K_source) unless `prevalence_kind` is "threshold". Raises UnknownName for another domain.
    """
    law = within(spec, domain)
    if spec.alpha_lat != 2:
        from simlab.limits.latent import total
        return total(spec, domain)
    if not spec.gaussian_in(domain):
        from simlab.limits.joint import joint
        return joint(spec, domain).total
    return law


def within(spec: GaussianSpec, domain: str = "source") -> Moments:
    """The Gaussian law of z and the linear part of l at the mean site effect. Raises UnknownName for another domain."""
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    outside = domain == "external"
    shift, scale = (spec.mu_e, spec.tau_e) if outside else (0.0, 1.0)
    at = blocks(spec)
    slopes = liability_slopes(spec, domain)
    mean, cov, covl = _law(spec, at, slopes, outside)
    mean_l, var_l = float(shift * sum(slopes)), float(1 + (scale**2 - 1) * sum(s**2 for s in slopes))
    if outside and spec.theta_e != 0:
        mean_l *= np.cos(spec.theta_e)
        var_l = float(1 + (scale**2 - 1) * np.cos(spec.theta_e) ** 2 * sum(s**2 for s in slopes))
    rho = spec.rho_s_e if outside else spec.rho_s
    # What the product and the sites carry is not in the linear part; they may carry all (then 0, but for rounding).
    var_l = max(var_l - spec.h2 * spec.w_x - rho**2, 0.0)
    if outside:
        mean_l += rho * spec.mu_site_e
        mean = mean + spec.mu_site_e * site_direction(spec, domain)
    if spec.shortcut != "none":
        _show_shortcut(at, spec.lambda_e if outside else spec.lambda_s, mean, cov, covl, mean_l, var_l)
    if outside and spec.acquires:
        mean, cov, covl = acquired(spec, mean), acquired(spec, acquired(spec, cov, 0).T, 0).T, acquired(spec, covl, 0)
    threshold = float(ndtri(1 - spec.prevalence))
    law = spec.prevalence if (mean_l, var_l) == (0.0, 1.0) else float(
        ndtr((mean_l - threshold) / max(np.sqrt(var_l), 1e-150)))
    prevalence = law
    if outside and spec.prevalence_e is not None:
        prevalence = spec.prevalence_e
        if spec.prevalence_kind == "threshold":
            law, threshold = prevalence, float(mean_l - np.sqrt(var_l) * ndtri(prevalence))
    return Moments(mean, cov, covl, mean_l, var_l, threshold, prevalence, law, at["image"], at["clinical"], at)


def site_effects(spec: GaussianSpec, domain: str) -> Float[np.ndarray, " sites"]:
    """The effects e of a domain's equally large sites: normal scores of mean 0 and variance 1 (one site: 0), moved by
    mu_site_e in the target."""
    n, mean = (spec.n_sites_e, spec.mu_site_e) if domain == "external" else (spec.n_sites, 0.0)
    scores = ndtri((np.arange(n) + 0.5) / n)
    return mean + (scores / np.sqrt(np.mean(scores**2)) if n > 1 else np.zeros(1))


def site_direction(spec: GaussianSpec, domain: str) -> Float[np.ndarray, " p"]:
    """What one unit of site effect adds to z: omega_s alpha_g to each nuisance feature, lambda rho to a shortcut, one
    to a feature that shows it."""
    at, out = blocks(spec), domain == "external"
    d = np.zeros(at["clinical"].stop)
    for view in ("image", "clinical"):
        d[at[f"g_{view}"]] = spec.alpha_g * spec.omega_s
        d[at[f"s_{view}"]] = 1.0
        d[at[f"a_{view}"]] = (spec.lambda_e * spec.rho_s_e) if out else (spec.lambda_s * spec.rho_s)
    return d


def acquired(spec: GaussianSpec, z: Float[np.ndarray, "..."], offset: float | None = None) -> Float[np.ndarray, "..."]:
    """Measured coordinates (..., p) as the target's acquisition shows them; `offset` 0 gives the linear part alone.

    Coordinates j and j + p//2 of an acquired view are turned into each other by mix_e, multiplied by gain_e, and
    offset_e is added. The dtype stays.
    """
    at, out = blocks(spec), z.copy()
    for view in ("image", "clinical") if spec.acquired == "both" else (spec.acquired,):
        part = z[..., at[view]]
        half = part.shape[-1] // 2
        one, two = part[..., :half], part[..., half:2 * half]
        turn, across = z.dtype.type(np.cos(spec.mix_e)), z.dtype.type(np.sin(spec.mix_e))
        rest = part[..., 2 * half:]
        new = np.concatenate([turn * one - across * two, across * one + turn * two, rest], axis=-1)
        out[..., at[view]] = z.dtype.type(spec.gain_e) * new + z.dtype.type(
            spec.offset_e if offset is None else offset)
    return out


def released(spec: GaussianSpec, z: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
    """Measured coordinates, float64, of those that the target's acquisition shows: the inverse of `acquired`."""
    at, out = blocks(spec), z.astype(np.float64)
    for view in ("image", "clinical") if spec.acquired == "both" else (spec.acquired,):
        part = (out[:, at[view]] - spec.offset_e) / spec.gain_e
        half = part.shape[-1] // 2
        one, two = part[:, :half].copy(), part[:, half:2 * half].copy()
        part[:, :half] = np.cos(spec.mix_e) * one + np.sin(spec.mix_e) * two
        part[:, half:2 * half] = np.cos(spec.mix_e) * two - np.sin(spec.mix_e) * one
        out[:, at[view]] = part
    return out


def _show_shortcut(at: dict[str, slice], strength: float, mean: Float[np.ndarray, " p"], cov: Float[np.ndarray, "p p"],
                   covl: Float[np.ndarray, " p"], mean_l: float, var_l: float) -> None:
    """Write the shortcut a = lambda l + sqrt(1 - lambda^2) noise, one and the same in each view that shows it."""
    shown = [i for view in ("image", "clinical") for i in range(at[f"a_{view}"].start, at[f"a_{view}"].stop)]
    beside = strength * covl
    for i in shown:
        mean[i] = strength * mean_l
        cov[i, :], cov[:, i] = beside, beside
    cov[np.ix_(shown, shown)] = strength**2 * var_l + 1 - strength**2
    covl[shown] = strength * var_l


def liability_slopes(spec: GaussianSpec, domain: str = "source") -> tuple[float, float, float]:
    """Slopes of the liability on beta'c, beta'u, beta'v: sqrt(h2 w), times delta_u_e and delta_v_e in the target."""
    return spec.slopes(domain)


def liability_noise_variance(spec: GaussianSpec, domain: str = "source") -> float:
    """Variance of the liability's own noise: what refills Var(l) = 1 when causes have unit variance."""
    return max(spec.noise_variance(domain), 0.0)


def _law(spec: GaussianSpec, at: dict[str, slice], slopes: tuple[float, float, float], outside: bool) -> tuple[
        Float[np.ndarray, " p"], Float[np.ndarray, "p p"], Float[np.ndarray, " p"]]:
    """Mean of z, covariance of z, covariance of z with l."""
    p = at["clinical"].stop
    mean, cov, covl = np.zeros(p), np.zeros((p, p)), np.zeros(p)
    shift, scale, kappa, nu = ((spec.mu_e, spec.tau_e, spec.kappa_e, spec.nu_e) if outside
                               else (0.0, 1.0, spec.kappa_s, spec.nu))
    errors, angle = (spec.eta_e, spec.theta_e) if outside else (spec.eta_s, 0.0)
    c, u, v, g = (spec.carriers(factor) for factor in "cuvg")
    cause, other = _cause_cov(spec.d_c, scale), np.eye(spec.d_c)
    _fill(cov, at["c_image"], at["c_image"], _repeated(c, cause, _error(spec.rel_ci)))
    if c == 1:
        clinical = kappa**2 * cause + (1 - kappa**2 + _error(spec.rel_cc)) * other
    else:
        clinical = _repeated(c, kappa**2 * cause + (1 - kappa**2) * other, _error(spec.rel_cc))
    _fill(cov, at["c_clinical"], at["c_clinical"], clinical)
    shared = errors * np.sqrt(_error(spec.rel_ci) * _error(spec.rel_cc))
    _fill(cov, at["c_image"], at["c_clinical"], _repeated(c, kappa * cause, shared))
    _fill(cov, at["u"], at["u"], _repeated(u, _cause_cov(spec.d_u, scale), _error(spec.rel_u)))
    _fill(cov, at["v"], at["v"], _repeated(v, _cause_cov(spec.d_v, scale), _error(spec.rel_v)))
    nuisance = _repeated(g, spec.alpha_g**2 * np.eye(spec.d_g) * (1 - spec.omega_s**2), 0.0)
    _fill(cov, at["g_image"], at["g_image"], nuisance)
    _fill(cov, at["g_clinical"], at["g_clinical"], nuisance)
    _fill(cov, at["g_image"], at["g_clinical"], nu * nuisance)
    for name in ("n_image", "n_clinical"):
        _fill(cov, at[name], at[name], spec.alpha_n**2 * np.eye(at[name].stop - at[name].start))
    for name, slope, gain, d, m in (("c_image", slopes[0], 1.0, spec.d_c, c), ("c_clinical", slopes[0], kappa, spec.d_c,
                                    c), ("u", slopes[1], 1.0, spec.d_u, u), ("v", slopes[2], 1.0, spec.d_v, v)):
        beta = direction(d)
        mean[at[name]] = np.tile(shift * gain * beta, m)
        covl[at[name]] = np.tile(slope * scale**2 * gain * beta, m)
        if angle:
            covl[at[name]] = np.tile(slope * gain * (_cause_cov(d, scale) @ turned(d, angle)), m)
    return mean, cov, covl


def _repeated(times: int, block: Float[np.ndarray, "d d"], error: float) -> Float[np.ndarray, "_ _"]:
    """Covariance of a factor with this covariance, shown by so many tokens, each with errors of this variance."""
    return np.kron(np.ones((times, times)), block) + error * np.eye(times * len(block))


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
