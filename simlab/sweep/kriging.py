"""A heteroscedastic Gaussian process on points whose noise variances are known: the surrogate of a map.

Matern-5/2 covariance with a length scale an axis (Rasmussen & Williams 2006, eq. 4.17, ARD), a wide constant term for
the unknown mean (their section 2.7), and the noise of each observation on the diagonal (stochastic kriging: Ankenman,
Nelson & Staum 2010). Hyperparameters maximise the log marginal likelihood (their eq. 5.8-5.9) plus a weak prior.
Coordinates run from 0 to 1 along every axis. Deterministic: no random starts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import polygamma

OFFSET = 25.0  # variance of the constant term, in units of the observations' mean square: wide, but well conditioned
STARTS = (0.15, 0.5, 1.5)  # length scales from which the likelihood is climbed
SHORTEST, LONGEST = 0.03, 10.0
LENGTH_PRIOR = (np.log(0.6), 0.8)  # mean and sd of a length scale's logarithm: few cells do not tell it apart
VARIANCE_PRIOR = (0.0, 1.5)  # of the logarithm of the signal's variance, in units of the observations' mean square


@dataclass(frozen=True)
class Kernel:
    """Covariance of a surface: `variance` times Matern-5/2 at these length scales, plus the constant `offset`."""

    variance: float
    lengths: tuple[float, ...]
    offset: float = 0.0

    def __call__(self, a: Float[np.ndarray, "m d"], b: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "m n"]:
        r = np.sqrt(5 * self._squares(a, b).sum(axis=-1))
        return self.offset + self.variance * (1 + r + r**2 / 3) * np.exp(-r)

    def gradient(self, x: Float[np.ndarray, "n d"]) -> list[Float[np.ndarray, "n n"]]:
        """Derivatives of the covariance of x with itself by log variance, then by each log length scale."""
        squares = self._squares(x, x)
        r = np.sqrt(5 * squares.sum(axis=-1))
        falling = self.variance * np.exp(-r)
        by_length = (5 / 3) * falling * (1 + r)
        return [falling * (1 + r + r**2 / 3), *(by_length * squares[..., j] for j in range(x.shape[1]))]

    def _squares(self, a: Float[np.ndarray, "m d"], b: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "m n d"]:
        return ((a[:, None, :] - b[None, :, :]) / np.array(self.lengths)) ** 2


@dataclass(frozen=True, eq=False)
class Process:
    """A Gaussian process seen at `x` with noise of these variances; what it says of any values there is linear."""

    kernel: Kernel
    x: Float[np.ndarray, "n d"]
    noise: Float[np.ndarray, " n"]
    factor: tuple[np.ndarray, bool]

    @classmethod
    def at(cls, kernel: Kernel, x: Float[np.ndarray, "n d"], noise: Float[np.ndarray, " n"]) -> Process:
        return cls(kernel, x, noise, cho_factor(kernel(x, x) + np.diag(noise), lower=True))

    def weights(self, at: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m n"]:
        """W such that the posterior mean at these points is W times the observations."""
        return cho_solve(self.factor, self.kernel(self.x, at)).T

    def variance(self, at: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
        """Posterior variance of the surface at these points."""
        cross = self.kernel(at, self.x)
        prior = self.kernel.offset + self.kernel.variance
        return np.maximum(prior - np.einsum("mn,mn->m", cross, self.weights(at)), 0.0)

    def unseen(self, at: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " m"]:
        """The part of that variance which is not the observations' noise: k - 2 W k + W K W'."""
        return np.maximum(self.variance(at) - self.weights(at) ** 2 @ self.noise, 0.0)

    def log_likelihood(self, y: Float[np.ndarray, " n"]) -> float:
        """Log marginal likelihood of observations (Rasmussen & Williams, eq. 5.8)."""
        half = np.log(np.diag(self.factor[0])).sum()
        return float(-0.5 * y @ cho_solve(self.factor, y) - half - 0.5 * len(y) * np.log(2 * np.pi))

    def gradient(self, y: Float[np.ndarray, " n"]) -> Float[np.ndarray, " parameters"]:
        """Derivatives of the log likelihood by log variance and each log length scale (their eq. 5.9)."""
        alpha = cho_solve(self.factor, y)
        inner = np.outer(alpha, alpha) - cho_solve(self.factor, np.eye(len(y)))
        return np.array([0.5 * np.sum(inner * part) for part in self.kernel.gradient(self.x)])

    def with_points(self, x: Float[np.ndarray, "k d"], noise: Float[np.ndarray, " k"]) -> Process:
        """The process once these points, too, are seen: its variances, whatever will be found there."""
        return Process.at(self.kernel, np.vstack([self.x, x]), np.concatenate([self.noise, noise]))


def fit(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"], noise: Float[np.ndarray, " n"]) -> Process:
    """The process whose hyperparameters are most likely, given observations with these noise variances."""
    unit = float(np.mean(y**2)) or 1.0
    scaled, known = y / np.sqrt(unit), noise / unit

    def loss(theta: Float[np.ndarray, " parameters"]) -> tuple[float, Float[np.ndarray, " parameters"]]:
        kernel = Kernel(float(np.exp(theta[0])), tuple(np.exp(theta[1:]).tolist()), OFFSET)
        process = Process.at(kernel, x, known + 1e-8)
        means = np.array([VARIANCE_PRIOR[0]] + [LENGTH_PRIOR[0]] * x.shape[1])
        sds = np.array([VARIANCE_PRIOR[1]] + [LENGTH_PRIOR[1]] * x.shape[1])
        away = (theta - means) / sds
        return 0.5 * float(away @ away) - process.log_likelihood(scaled), away / sds - process.gradient(scaled)

    bounds = [(np.log(1e-3), np.log(1e3))] + [(np.log(SHORTEST), np.log(LONGEST))] * x.shape[1]
    starts = [np.log(np.array([1.0] + [length] * x.shape[1])) for length in STARTS]
    found = [minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in starts]
    best = min(found, key=lambda result: result.fun).x
    kernel = Kernel(float(np.exp(best[0])), tuple(np.exp(best[1:]).tolist()), OFFSET)
    kernel = replace(kernel, variance=kernel.variance * unit, offset=kernel.offset * unit)
    return Process.at(kernel, x, noise + 1e-8 * unit)


def shrunk(variances: Float[np.ndarray, " n"], degrees: float) -> Float[np.ndarray, " n"]:
    """Variance estimates of n cells drawn towards their common value (empirical Bayes: Smyth 2004, section 6.2).

    Each rests on so many degrees of freedom. The common value and its weight d0 come from the mean and variance of the
    estimates' logarithms: where these vary no more than `degrees` explain, all cells get the common value.
    """
    kept = variances[variances > 0]
    if len(kept) < 2:
        return np.full(len(variances), float(kept[0]) if len(kept) else 0.0)
    e = np.log(kept) - polygamma(0, degrees / 2) + np.log(degrees / 2)
    excess = float(np.var(e, ddof=1) - polygamma(1, degrees / 2))
    if excess <= 0:
        return np.full(len(variances), float(np.mean(variances)))
    d0 = 2 * _inverse_trigamma(excess)
    common = np.exp(np.mean(e) + polygamma(0, d0 / 2) - np.log(d0 / 2))
    return (d0 * common + degrees * variances) / (d0 + degrees)


def _inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value, by Newton steps on 1/trigamma, which is nearly a line (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        now = float(polygamma(1, x))
        step = now * (1 - now / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-10:
            break
    return x
