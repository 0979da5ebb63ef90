"""What gaps and visit times say about the liability: exact posteriors where what is shown depends on what is hidden.

A stream is missing at a visit when its selection index is positive (docs/visits.md):

    q = a + w + e,   w = gamma_1 s_other + gamma_2 s_own + gamma_3 l,   e ~ N(0, 1) afresh at each visit,

with s the views' evidence at the last visit. Visits come at a rate proportional to exp(gamma_obs l). Given l, s_I and
s_C, gaps and times are independent of all else, so that the posterior given values alone, which is Gaussian, is
reweighted by their likelihood: one integral over l, split at the threshold, and inside it one or two over the evidence
that is hidden, by quadrature adapted to each record (log-concave inside, so its peak is found by Newton's method).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.polynomial.hermite_e import hermegauss
from numpy.polynomial.legendre import leggauss
from scipy.special import log_ndtr, ndtri

from simlab.environments.visit_knobs import LongitudinalSpec

WIDTH = 8.0  # standard deviations of the liability, given values, on either side that are searched for mass
SEARCH, OUTER = 33, 28  # nodes of that search; nodes on either side of the threshold where the mass lies
INNER, INNER_PAIR = 14, 7  # nodes over one hidden evidence, and over each of two
SEEK, SETTLE = 8, 2  # Newton steps of the search, and from there
_DEPTH = 32.0  # natural logarithms below the peak at which mass is let go
_ROWS = 512


@dataclass(frozen=True, eq=False)
class Selection:
    """A stream's index: w = direction'(l, s_I, s_C), and the intercept a that makes its marginal share p_miss."""

    direction: Float[np.ndarray, " 3"]
    intercept: float


@dataclass(frozen=True, eq=False)
class Gaps:
    """What a stream's gaps say: the likelihood Phi(a + w)^missing Phi(-a - w)^seen, counts of each record's visits."""

    selection: Selection
    missing: Int[np.ndarray, " n"]
    seen: Int[np.ndarray, " n"]

    def log_likelihood(self, rows: Int[np.ndarray, " m"], w: Float[np.ndarray, "m *nodes"]) -> np.ndarray:
        """Of these records at w."""
        missing, seen, index = self._at(rows, w)
        return missing * log_ndtr(index) + seen * log_ndtr(-index)

    def slopes(self, rows: Int[np.ndarray, " m"], w: Float[np.ndarray, "m *nodes"]) -> tuple[np.ndarray, np.ndarray]:
        """First and second derivative of the log likelihood in w (the second is never positive)."""
        missing, seen, x = self._at(rows, w)
        density = -(x**2) / 2 - np.log(2 * np.pi) / 2
        up, down = np.exp(density - log_ndtr(x)), np.exp(density - log_ndtr(-x))
        return missing * up - seen * down, -missing * up * (up + x) - seen * down * (down - x)

    def _at(self, rows: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shape = (-1, *[1] * (w.ndim - 1))
        return self.missing[rows].reshape(shape), self.seen[rows].reshape(shape), self.selection.intercept + w


@dataclass(frozen=True, eq=False)
class Times:
    """What visit times say of l: the likelihood of a Hawkes process stopped at J visits or at the window's end.

    log L = sum over visits after the first of log(mu(l) + excitation) - mu(l) followed + const, with mu = `base_rate`;
    `followed`: the time up to the J-th visit, or the window.
    """

    spec: LongitudinalSpec
    excitation: Float[np.ndarray, "n J"]
    counts: Bool[np.ndarray, "n J"]
    followed: Float[np.ndarray, " n"]

    def log_likelihood(self, rows: Int[np.ndarray, " m"], level: Float[np.ndarray, "m nodes"]) -> np.ndarray:
        """Of these records at l = level."""
        rate = base_rate(self.spec, level)
        total = -rate * self.followed[rows, None]
        for j in range(1, self.counts.shape[1]):
            here = np.log(rate + self.excitation[rows, j, None])
            total += np.where(self.counts[rows, j, None], here, 0.0)
        return total


def times(spec: LongitudinalSpec, time: Float[np.ndarray, "n J"], length: Int[np.ndarray, " n"]) -> Times:
    """What these visits' times, with their number, say."""
    visits = time.shape[1]
    excitation = np.zeros_like(time)
    for j in range(1, visits):
        fade = np.exp(-spec.omega_h * np.maximum(time[:, j] - time[:, j - 1], 0))
        excitation[:, j] = (excitation[:, j - 1] + spec.b_h * spec.omega_h) * fade
    counts = (np.arange(visits) < length[:, None]) & (np.arange(visits) > 0)
    return Times(spec, excitation, counts, np.where(length < visits, spec.window, time[:, -1]))


def base_rate(spec: LongitudinalSpec, level: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Visits a year that no visit brought about: (1 - b) r_v exp(gamma_obs l - gamma_obs^2/2), of mean (1 - b) r_v."""
    return (1 - spec.b_h) * spec.r_v * np.exp(spec.gamma_obs * level - spec.gamma_obs**2 / 2)


def selections(
    spec: LongitudinalSpec, p_miss: float, mean: Float[np.ndarray, " 3"], cov: Float[np.ndarray, "3 3"]
) -> dict[str, Selection]:
    """The selection of each stream that can be missing; `mean`, `cov`: of (l, s_I, s_C) before classes are resampled.

    a = sd Phi^-1(p_miss) - E w, sd^2 = 1 + Var w, so that P(q > 0) = p_miss. Empty where nothing is ever missing.
    """
    if p_miss == 0:
        return {}
    directions = {
        "image": np.array([spec.gamma_3, spec.gamma_2, spec.gamma_1]),
        "clinical": np.array([spec.gamma_3, spec.gamma_1, spec.gamma_2]),
    }
    made = {}
    for stream, g in directions.items():
        if spec.missing_in in (stream, "both"):
            made[stream] = Selection(g, float(np.sqrt(1 + g @ cov @ g) * ndtri(p_miss) - g @ mean))
    return made


def said(
    chosen: Mapping[str, Selection], seen: Mapping[str, Int[np.ndarray, " n"]], length: Int[np.ndarray, " n"]
) -> list[Gaps]:
    """What the gaps of the streams in `seen` (visits at which each was seen) say; nothing where all gammas are 0."""
    return [
        Gaps(selection, length - seen[stream], seen[stream])
        for stream, selection in chosen.items()
        if stream in seen and np.any(selection.direction)
    ]


def exceeds(
    threshold: float,
    mean: Float[np.ndarray, "n 3"],
    cov: Float[np.ndarray, "n 3 3"],
    gaps: Sequence[Gaps],
    visit_times: Times | None,
) -> Float[np.ndarray, " n"]:
    """P(l > threshold) under N(mean, cov) of (l, s_I, s_C), reweighted by what gaps and visit times say.

    Exact up to quadrature: 1e-6 at weights of 1 and few visits, 1e-4 at 2, 1e-2 for single records at 3 and 16.
    Records are grouped by how much of what the gaps depend on is hidden given l: nothing, one direction, two.
    """
    hidden = _hidden(cov, gaps)
    rank = (np.linalg.norm(hidden, axis=1) > 1e-4).sum(axis=1)
    out = np.empty(len(mean))
    for r in np.unique(rank):
        members = np.flatnonzero(rank == r)
        size = _ROWS // (1, 8, 32)[r]
        for start in range(0, len(members), size):
            rows = members[start : start + size]
            one = _Posterior(mean[rows], cov[rows], hidden[rows][:, :, :r], gaps, visit_times, rows)
            out[rows] = one.above(threshold)
    return out


def _hidden(cov: Float[np.ndarray, "n 3 3"], gaps: Sequence[Gaps]) -> Float[np.ndarray, "n F R"]:
    """Roots H of Cov(w | l) = H H', one row a stream with gaps, the largest direction first."""
    g = np.array([gap.selection.direction for gap in gaps]).reshape(-1, 3)
    to_l = cov[:, :, 0] / cov[:, :1, 0]
    rest = cov - to_l[:, :, None] * cov[:, None, 0, :]
    values, vectors = np.linalg.eigh(g @ rest @ g.T)
    return (vectors * np.sqrt(np.maximum(values, 0))[:, None, :])[:, :, ::-1]


@dataclass(frozen=True, eq=False)
class _Posterior:
    """The posterior of l for m records whose hidden evidence spans r directions, standard normal given l."""

    mean: Float[np.ndarray, "m 3"]
    cov: Float[np.ndarray, "m 3 3"]
    hidden: Float[np.ndarray, "m F r"]
    gaps: Sequence[Gaps]
    visit_times: Times | None
    rows: Int[np.ndarray, " m"]

    def above(self, threshold: float) -> Float[np.ndarray, " m"]:
        """P(l > threshold | all)."""
        m, sd = self.mean[:, 0], np.sqrt(self.cov[:, 0, 0])
        steps = np.linspace(-WIDTH, WIDTH, SEARCH)
        grid = m[:, None] + steps * sd[:, None]
        peaks = self._peaks(grid, np.zeros((*grid.shape, self.hidden.shape[2])), SEEK)
        log = self._known(grid) + self._at_peak(grid, peaks)
        within = log > log.max(axis=1, keepdims=True) - _DEPTH
        step = 2 * WIDTH / (SEARCH - 1) * sd
        low = grid[np.arange(len(m)), within.argmax(axis=1)] - step
        high = grid[np.arange(len(m)), SEARCH - 1 - within[:, ::-1].argmax(axis=1)] + step
        cut = np.clip(threshold, low, high)
        x, w = leggauss(OUTER)
        ends = np.stack([low, cut, high], axis=1)
        half = np.diff(ends, axis=1) / 2  # (m, 2)
        level = (ends[:, :2, None] + half[:, :, None] * (1 + x)).reshape(len(m), -1)
        near = self._peaks(level, _between(peaks, (level - grid[:, :1]) / step[:, None]), SETTLE)
        log = self._known(level) + self._over_hidden(level, near)
        mass = np.exp(log - log.max(axis=1, keepdims=True)).reshape(len(m), 2, OUTER) @ w * half
        return mass[:, 1] / mass.sum(axis=1)

    def _known(self, level: Float[np.ndarray, "m nodes"]) -> Float[np.ndarray, "m nodes"]:
        """Log density of l given values, times the likelihood of the visits' times; up to a constant of each record."""
        total = -((level - self.mean[:, :1]) ** 2) / (2 * self.cov[:, :1, 0])
        return total if self.visit_times is None else total + self.visit_times.log_likelihood(self.rows, level)

    def _centres(self, level: Float[np.ndarray, "m nodes"]) -> list[np.ndarray]:
        """Mean of each gap's w given l and values, (m, nodes)."""
        slope, off = self.cov[:, :, 0] / self.cov[:, :1, 0], level - self.mean[:, :1]
        directions = [gap.selection.direction for gap in self.gaps]
        return [(self.mean @ g)[:, None] + (slope @ g)[:, None] * off for g in directions]

    def _likelihood(self, level: Float[np.ndarray, "m nodes"], at: Float[np.ndarray, "m nodes r k"]) -> np.ndarray:
        """Log likelihood (m, nodes, k) of the gaps at k places of the hidden directions."""
        total = np.zeros((*level.shape, at.shape[3]))
        for i, (gap, centre) in enumerate(zip(self.gaps, self._centres(level), strict=True)):
            spread = (self.hidden[:, i, None, :, None] * at).sum(axis=2)
            total += gap.log_likelihood(self.rows, centre[..., None] + spread)
        return total

    def _at_peak(self, level: Float[np.ndarray, "m nodes"], peaks: Float[np.ndarray, "m nodes r"]) -> np.ndarray:
        """Log of the integrand over the hidden directions at its peak."""
        return self._likelihood(level, peaks[..., None])[..., 0] - (peaks**2).sum(axis=2) / 2

    def _over_hidden(self, level: Float[np.ndarray, "m nodes"], peaks: Float[np.ndarray, "m nodes r"]) -> np.ndarray:
        """Log of the integral of the gaps' likelihood over the hidden directions: Gauss-Hermite about the peak."""
        r = self.hidden.shape[2]
        if r == 0:
            return self._at_peak(level, peaks)
        root, log_volume = _inverse_root(self._slopes(level, peaks)[1])
        x, w = hermegauss(INNER if r == 1 else INNER_PAIR)
        nodes = np.stack([a.ravel() for a in np.meshgrid(*[x] * r, indexing="ij")])  # (r, k)
        at = peaks[..., None] + root @ nodes
        log = np.log(np.outer(w, w).ravel() if r == 2 else w) + ((nodes**2).sum(axis=0) - (at**2).sum(axis=2)) / 2
        log = log + self._likelihood(level, at)
        top = log.max(axis=2)
        return log_volume + top + np.log(np.exp(log - top[..., None]).sum(axis=2))

    def _peaks(
        self, level: Float[np.ndarray, "m nodes"], start: Float[np.ndarray, "m nodes r"], steps: int
    ) -> Float[np.ndarray, "m nodes r"]:
        """Peak (m, nodes, r) of the integrand over the hidden directions, by Newton's method."""
        at = start
        for _ in range(steps if at.shape[2] else 0):
            slope, curve = self._slopes(level, at)
            at = at + _solve(curve, slope)
        return at

    def _slopes(self, level: Float[np.ndarray, "m nodes"], at: Float[np.ndarray, "m nodes r"]) -> tuple[
            Float[np.ndarray, "m nodes r"], Float[np.ndarray, "m nodes r r"]]:
        """Gradient of the log integrand over the hidden directions, and its curvature with the sign turned."""
        r = at.shape[2]
        slope, curve = -at, np.broadcast_to(np.eye(r), (*level.shape, r, r)).copy()
        for i, (gap, centre) in enumerate(zip(self.gaps, self._centres(level), strict=True)):
            h = self.hidden[:, i]
            first, second = gap.slopes(self.rows, centre + (h[:, None] * at).sum(axis=2))
            slope = slope + first[..., None] * h[:, None]
            curve -= second[..., None, None] * (h[:, None, :, None] * h[:, None, None, :])
        return slope, curve


def _between(peaks: Float[np.ndarray, "m grid r"], place: Float[np.ndarray, "m nodes"]) -> Float[
        np.ndarray, "m nodes r"]:
    """Peaks at fractional places on the grid, linearly between its points (and on beyond its ends)."""
    left = np.clip(np.floor(place).astype(int), 0, peaks.shape[1] - 2)
    one, two = (np.take_along_axis(peaks, (left + i)[:, :, None], axis=1) for i in (0, 1))
    return one + (place - left)[:, :, None] * (two - one)


def _solve(curve: Float[np.ndarray, "m l r r"], slope: Float[np.ndarray, "m l r"]) -> Float[np.ndarray, "m l r"]:
    """curve^-1 slope for r of 1 or 2."""
    if curve.shape[-1] == 1:
        return slope / curve[..., 0]
    a, b, d = curve[..., 0, 0], curve[..., 0, 1], curve[..., 1, 1]
    one, two = slope[..., 0], slope[..., 1]
    return np.stack([d * one - b * two, a * two - b * one], axis=-1) / (a * d - b * b)[..., None]


def _inverse_root(curve: Float[np.ndarray, "m l r r"]) -> tuple[Float[np.ndarray, "m l r r"], Float[np.ndarray, "m l"]]:
    """R with R R' = curve^-1, and log |R|."""
    if curve.shape[-1] == 1:
        return curve**-0.5, -np.log(curve[..., 0, 0]) / 2
    a, b, d = curve[..., 0, 0], curve[..., 0, 1], curve[..., 1, 1]
    det = a * d - b * b
    root = np.zeros_like(curve)
    root[..., 0, 0] = np.sqrt(d / det)
    root[..., 1, 0] = -b / np.sqrt(d * det)
    root[..., 1, 1] = 1 / np.sqrt(d)
    return root, -np.log(det) / 2
