"""How the liability arises from the causes in one domain of the Gaussian-liability world, reweighting included."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri

from simlab.environments.knobs import GaussianSpec
from simlab.errors import unknown
from simlab.limits.gaussian import moments

DOMAINS = ("source", "external")


@dataclass(frozen=True)
class Liability:
    """How the liability arises in one domain, before any reweighting of classes: l = sum_k a_k s_k + x u_1 v_1 + rho e
    + noise.

    s_k are the three causes along beta turned by `angle`, their mean and standard deviation along beta itself mu and
    tau; `slopes` are the a_k of (c, u, v). `mean` and `sd` are those of l where it is Gaussian; `share` is the true
    prevalence where it is not (else None).
    """

    slopes: tuple[float, float, float]
    noise: float  # standard deviation
    mu: float
    tau: float
    threshold: float
    target: float | None  # prevalence to reweight the classes to
    angle: float = 0.0
    product: float = 0.0
    site: float = 0.0  # rho
    site_mean: float = 0.0
    share: float | None = None

    @property
    def mean(self) -> float:
        return self.mu * sum(self.slopes) * float(np.cos(self.angle)) + self.site * self.site_mean

    @property
    def sd(self) -> float:
        """Standard deviation at one site, without the product."""
        squared = sum(a * a for a in self.slopes)
        across = (1 - self.tau**2) * float(np.sin(self.angle)) ** 2 * squared
        return float(np.sqrt(self.tau**2 * squared + across + self.noise**2))

    @property
    def prevalence(self) -> float:
        """P(y = 1) before reweighting."""
        return float(ndtr((self.mean - self.threshold) / self.sd)) if self.share is None else self.share


def liability(spec: GaussianSpec, domain: str) -> Liability:
    """The liability's law in "source" or "external". Raises UnknownName for another domain."""
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    here = domain == "external"
    slopes = spec.slopes(domain)
    # The noise refills Var(l) = 1 when slopes weaken; a shift of the causes (mu, tau) leaves it alone.
    noise = float(np.sqrt(max(spec.noise_variance(domain), 0.0)))
    law = Liability(slopes, noise, spec.mu_e if here else 0.0, spec.tau_e if here else 1.0,
                    threshold=-float(ndtri(spec.prevalence)), target=None, angle=spec.theta_e if here else 0.0,
                    product=float(np.sqrt(spec.h2 * spec.w_x)), site=spec.rho_s_e if here else spec.rho_s,
                    site_mean=spec.mu_site_e if here else 0.0)
    if not spec.gaussian_in(domain):
        total = moments(spec, domain)
        law = replace(law, threshold=total.threshold, share=total.prevalence_law)
    if not here or spec.prevalence_e is None:
        return law
    if spec.prevalence_kind == "threshold":
        moved = law.mean - law.sd * float(ndtri(spec.prevalence_e)) if law.share is None else law.threshold
        return replace(law, threshold=moved)
    return replace(law, target=spec.prevalence_e)


def levels(causes: list[np.ndarray], law: Liability, level: np.ndarray, effect: np.ndarray) -> tuple[
        np.ndarray, list[np.ndarray]]:
    """Liabilities (n,) from the noise `level`, and the causes as the domain has them (moved, and reweighted)."""
    along = [_along(x) for x in causes]
    shifted = [law.tau * s + law.mu for s in along]
    cosine, sine = float(np.cos(law.angle)), float(np.sin(law.angle))
    across = [_across(x) for x in causes] if law.angle else []
    for k, (slope, s) in enumerate(zip(law.slopes, shifted, strict=True)):
        level += slope * (cosine * s + sine * across[k] if law.angle else s)
    if law.site:
        level += law.site * effect
    if law.target is not None:
        moved = _reweighted(level, law)
        # Given l, the causes are Gaussian with mean linear in l: moving l by d moves s_k by Cov(s_k, l)/Var(l) d.
        step = (moved - level) * law.tau**2 / law.sd**2
        shifted = [s + a * (cosine * step if law.angle else step) for a, s in zip(law.slopes, shifted, strict=True)]
        if law.angle:
            turned = (moved - level) / law.sd**2
            causes = [_moved_across(x, a * sine * turned) for a, x in zip(law.slopes, causes, strict=True)]
        level = moved
    if (law.mu, law.tau, law.target) != (0.0, 1.0, None):
        causes = [_moved(x, new - old) for x, new, old in zip(causes, shifted, along, strict=True)]
    if law.product:
        level = level + law.product * causes[1][:, 0].astype(np.float64) * causes[2][:, 0]
    return level, causes


def _reweighted(level: np.ndarray, law: Liability) -> np.ndarray:
    """Liabilities (n,) moved, quantile by quantile, to the law in which positives have prevalence `law.target`.

    Resampling classes multiplies the density by target/K above the threshold and by (1 - target)/(1 - K) below. Moving
    quantiles gives exactly that law, and moves every record smoothly with the target.
    """
    k, target = law.prevalence, law.target
    z = (level - law.mean) / law.sd
    below, above = ndtr(z), ndtr(-z)  # both tails, so that neither loses digits
    low = ndtri(np.minimum(below * ((1 - k) / (1 - target)), 1 - k))
    high = -ndtri(np.minimum(above * (k / target), k))
    return law.mean + law.sd * np.where(above < target, high, low)


def _along(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """beta'x, float64, for beta = (1, ..., 1)/sqrt(d)."""
    return x.sum(axis=1, dtype=np.float64) / np.sqrt(x.shape[1])


def _moved(x: Float[np.ndarray, "n d"], by: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
    """x moved by `by` along beta."""
    return x + (by / np.sqrt(x.shape[1])).astype(np.float32)[:, None]


def _across(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """x along (1, -1, 0, ..., 0)/sqrt(2), float64: the direction that beta is turned to."""
    return (x[:, 0].astype(np.float64) - x[:, 1]) / np.sqrt(2)


def _moved_across(x: Float[np.ndarray, "n d"], by: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
    """x moved by `by` along (1, -1, 0, ..., 0)/sqrt(2)."""
    moved = x.copy()
    moved[:, 0] += by / np.sqrt(2)
    moved[:, 1] -= by / np.sqrt(2)
    return moved
