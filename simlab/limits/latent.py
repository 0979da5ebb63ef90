"""Worlds whose causes are generalised normal (`alpha_lat` not 2): the exact risk by characteristic functions.

Each coordinate of c, u and v has density proportional to exp(-|x/s|^alpha), of variance 1; all else is Gaussian. Seen
with Gaussian errors, the coordinates stay independent given z, so the characteristic function of l given z is the
product of theirs and of the noise's, and P(l > t | z) follows by inversion about the Gaussian of equal mean and
variance (docs/theory.md, 11). Areas are means over sampled records whose labels the risk weights, with their error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Complex, Float
from numpy.lib.stride_tricks import sliding_window_view
from numpy.polynomial.legendre import leggauss
from scipy.optimize import brentq
from scipy.special import gamma, gammaincc, gammainccinv, ndtr

from simlab.environments.knobs import GaussianSpec
from simlab.limits.gaussian import Moments, blocks, released, turned, within

FREQUENCIES = 64
FINE, COARSE = 30, 5  # cells of the causes' density within one error sd; cells between two rows of a table
KINDS = ("c", "u", "v")


def shaped(normal: Float[np.ndarray, "..."], alpha: float) -> Float[np.ndarray, "..."]:
    """Standard normal draws carried, quantile by quantile, to the generalised normal of variance 1; the same at 2."""
    if alpha == 2:
        return normal
    tail = np.clip(2 * ndtr(-np.abs(normal.astype(np.float64))), 1e-300, 1.0)
    size = scale(alpha) * gammainccinv(1 / alpha, tail) ** (1 / alpha)
    return (np.sign(normal) * size).astype(normal.dtype)


def scale(alpha: float) -> float:
    """s of the density exp(-|x/s|^alpha) with variance 1."""
    return float(np.sqrt(gamma(1 / alpha) / gamma(3 / alpha)))


@dataclass(frozen=True, eq=False)
class Table:
    """Of one kind of coordinate seen as x = cause + N(0, sd^2): posterior mean, variance and characteristic function
    at each frequency, on the lattice x = start + row * step."""

    start: float
    step: float
    mean: Float[np.ndarray, " rows"]
    variance: Float[np.ndarray, " rows"]
    wave: Complex[np.ndarray, "rows frequencies"]


@lru_cache(maxsize=64)
def table(alpha: float, sd: float, loading: float, reach: float) -> Table:
    """The table of a coordinate that enters l with this loading; frequencies run to `reach`."""
    cell = min(sd, 1.0) / FINE
    most = scale(alpha) * gammainccinv(1 / alpha, 1e-13) ** (1 / alpha)
    window = int(np.ceil(8 * sd / cell))
    half = int(np.ceil(most / cell)) + 2 * window
    centres = cell * np.arange(-half, half + 1)
    edges = np.abs(cell * (np.arange(-half, half + 2) - 0.5))
    tails = gammaincc(1 / alpha, (edges / scale(alpha)) ** alpha) / 2
    upper = np.where(np.arange(-half, half + 2) - 0.5 >= 0, tails, 1 - tails)
    mass = np.where(centres > 0, upper[:-1] - upper[1:], (upper[:-1] - upper[1:])[::-1])
    kernel = np.exp(-((cell * np.arange(-window, window + 1) / sd) ** 2) / 2)

    def seen(weights: np.ndarray) -> np.ndarray:
        return sliding_window_view(weights, 2 * window + 1)[::COARSE] @ kernel
    total = np.maximum(seen(mass), 1e-300)
    rows = centres[window:-window][::COARSE]
    mean = seen(mass * centres) / total
    variance = np.maximum(seen(mass * centres**2) / total - mean**2, 0.0)
    frequencies = loading * _frequencies(reach)[0]
    wave = np.stack([seen(mass * np.exp(1j * f * centres)) / total for f in frequencies], axis=1)
    good = total > 1e-40
    first, last = np.flatnonzero(good)[[0, -1]]
    return Table(float(rows[first]), cell * COARSE, mean[first:last + 1], variance[first:last + 1],
                 wave[first:last + 1])


@lru_cache(maxsize=8)
def _frequencies(reach: float) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    x, w = leggauss(FREQUENCIES)
    return reach * (x + 1) / 2, reach * w / 2


@dataclass(frozen=True, eq=False)
class Latent:
    """How the risk follows from z in one domain: for each kind of cause its loadings and how z shows it."""

    alpha: float
    noise: float  # variance of the liability's own noise
    threshold: float
    mean: dict[str, Float[np.ndarray, " d"]]
    loadings: dict[str, Float[np.ndarray, " d"]]
    seen: dict[str, tuple[tuple[tuple[slice, float], ...], float]]  # weights on blocks of z, and the error's sd
    release: GaussianSpec | None  # whose acquisition z went through, if any

    @property
    def reach(self) -> float:
        return float(7.5 / np.sqrt(self.noise))

    def risk(self, z: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        """P(y = 1 | z of what is shown)."""
        n, (frequencies, weights) = len(z), _frequencies(self.reach)
        z = z if self.release is None else released(self.release, z)
        mean, variance = np.zeros(n), np.full(n, self.noise)
        wave = np.tile(np.exp(-self.noise * frequencies**2 / 2).astype(complex), (n, 1))
        for kind in KINDS:
            parts, sd = self.seen[kind]
            for j, (loading, centre) in enumerate(zip(self.loadings[kind], self.mean[kind], strict=True)):
                if loading == 0:
                    continue
                mean += loading * centre
                wave *= np.exp(1j * frequencies * loading * centre)
                if not parts:
                    known = prior(self.alpha, float(loading), self.reach)
                    wave *= known
                    variance += loading**2
                    continue
                x = sum(w * z[:, at.start + j] for at, w in parts) - centre
                found = table(self.alpha, sd, float(loading), self.reach)
                rows, near = _cubic(found, x)
                mean += loading * np.einsum("nk,nk->n", near, found.mean[rows])
                variance += loading**2 * np.einsum("nk,nk->n", near, found.variance[rows])
                step = near[:, 0, None] * found.wave[rows[:, 0]]
                for k in range(1, 4):
                    step += near[:, k, None] * found.wave[rows[:, k]]
                wave *= step
        gap = mean - self.threshold
        gauss = np.exp(1j * np.outer(mean, frequencies) - np.outer(variance, frequencies**2) / 2)
        turn = np.exp(-1j * self.threshold * frequencies)
        extra = ((wave - gauss) * turn).imag @ (weights / frequencies) / np.pi
        safe = np.abs(gap) < 0.8 * FREQUENCIES / self.reach * np.pi / 2  # beyond, the rule cannot follow the wave
        return np.clip(ndtr(gap / np.sqrt(variance)) + np.where(safe, extra, 0.0), 0.0, 1.0)


@lru_cache(maxsize=64)
def prior(alpha: float, loading: float, reach: float) -> Complex[np.ndarray, " k"]:
    """The characteristic function of loading times an unseen cause."""
    cell = 0.01
    most = scale(alpha) * gammainccinv(1 / alpha, 1e-13) ** (1 / alpha)
    edges = cell * np.arange(int(most / cell) + 2)
    tails = gammaincc(1 / alpha, (edges / scale(alpha)) ** alpha)
    centres = (edges[:-1] + edges[1:]) / 2
    return (np.cos(np.outer(_frequencies(reach)[0], loading * centres)) @ -np.diff(tails)).astype(complex)


def _cubic(found: Table, x: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, 4) about each x and their weights: cubic interpolation; beyond the table its end."""
    place = np.clip((x - found.start) / found.step, 1.0, len(found.mean) - 2.000001)
    base = np.floor(place).astype(int)
    t = place - base
    near = np.stack([-t * (t - 1) * (t - 2) / 6, (t + 1) * (t - 1) * (t - 2) / 2, -(t + 1) * t * (t - 2) / 2,
                     (t + 1) * t * (t - 1) / 6], axis=1)
    return base[:, None] + np.arange(-1, 3), near


def latent(spec: GaussianSpec, domain: str = "source", shown: tuple[str, ...] = ("image", "clinical"),
           kinds: tuple[str, ...] = KINDS) -> Latent:
    """The reader of some views, and of some kinds of cause in them, in one domain."""
    at, out = blocks(spec), domain == "external"
    kappa, eta = (spec.kappa_e, spec.eta_e) if out else (spec.kappa_s, spec.eta_s)
    sizes = {"c": spec.d_c, "u": spec.d_u, "v": spec.d_v}
    angle, shift = (spec.theta_e, spec.mu_e) if out else (0.0, 0.0)
    loadings = {kind: slope * turned(sizes[kind], angle)
                for kind, slope in zip(KINDS, spec.slopes(domain), strict=True)}
    mean = {kind: np.full(d, shift / np.sqrt(d)) for kind, d in sizes.items()}
    si, sc = 1 / spec.rel_ci - 1, 1 / spec.rel_cc - 1
    errors = np.array([[si, eta * np.sqrt(si * sc)], [eta * np.sqrt(si * sc), 1 - kappa**2 + sc]])
    views = [i for i, view in enumerate(("image", "clinical")) if view in shown and "c" in kinds]
    seen = {"c": _combined(views, np.array([1.0, kappa]), errors, (at["c_image"], at["c_clinical"])),
            "u": _alone(at["u"], spec.rel_u) if "image" in shown and "u" in kinds else ((), 1.0),
            "v": _alone(at["v"], spec.rel_v) if "clinical" in shown and "v" in kinds else ((), 1.0)}
    raw = Latent(spec.alpha_lat, spec.noise_variance(domain), 0.0, mean, loadings, seen,
                 spec if out and spec.acquires else None)
    return replace(raw, threshold=_law(spec, domain)[0])


def _alone(at: slice, reliability: float) -> tuple[tuple[tuple[slice, float], ...], float]:
    return ((at, 1.0),), float(np.sqrt(1 / reliability - 1))


def _combined(views: list[int], gains: Float[np.ndarray, "2"], errors: Float[np.ndarray, "2 2"],
              at: tuple[slice, slice]) -> tuple[tuple[tuple[slice, float], ...], float]:
    """The best linear combination of the views' readings of c, scaled to c + error, and that error's sd."""
    if not views or not np.abs(gains[views]).max() > 1e-6:
        return (), 1.0
    inverse = np.linalg.inv(errors[np.ix_(views, views)])
    precision = float(gains[views] @ inverse @ gains[views])
    weights = inverse @ gains[views] / precision
    return tuple((at[i], float(w)) for i, w in zip(views, weights, strict=True)), float(1 / np.sqrt(precision))


@lru_cache(maxsize=64)
def _law(spec: GaussianSpec, domain: str) -> tuple[float, float]:
    """(threshold, true prevalence)."""
    law, out = within(spec, domain), domain == "external"
    noise, threshold = spec.noise_variance(domain), float(within(spec, "source").threshold)
    reach = float(7.5 / np.sqrt(noise))
    frequencies, weights = _frequencies(reach)
    wave = np.exp(-noise * frequencies**2 / 2).astype(complex)
    angle = spec.theta_e if out else 0.0
    for slope, d in zip(spec.slopes(domain), (spec.d_c, spec.d_u, spec.d_v), strict=True):
        for loading in turned(d, angle):
            wave = wave * prior(spec.alpha_lat, float(slope * loading), reach)
    smooth = np.exp(-law.var_liability * frequencies**2 / 2)

    def share(t: float) -> float:
        gap = law.mean_liability - t
        extra = ((wave - smooth) * np.exp(1j * gap * frequencies)).imag @ (weights / frequencies) / np.pi
        return float(ndtr(gap / np.sqrt(law.var_liability)) + extra)
    if out and spec.prevalence_e is not None:
        threshold = float(brentq(lambda t: share(t) - spec.prevalence_e, law.mean_liability - 9,
                                 law.mean_liability + 9))
    return threshold, share(threshold)


def total(spec: GaussianSpec, domain: str) -> Moments:
    """Mean and covariance of (z, l), which the shape leaves alone, with the true threshold and prevalence."""
    threshold, share = _law(spec, domain)
    return replace(within(spec, domain), threshold=threshold, prevalence=share, prevalence_law=share)
