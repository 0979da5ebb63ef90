"""The longitudinal world along beta: the exact posterior of the last visit's causes given all that visits showed.

Each cause is an Ornstein-Uhlenbeck process with unit stationary variance, corr(x(s), x(t)) = exp(-theta |s-t|), and
only its part along beta = (1, ..., 1)/sqrt(d) bears on the label. A visit shows that part with fresh measurement noise.
Given the visits' times, causes and measurements are jointly Gaussian: for each kind of cause, with A the
covariance of what was shown and k its covariance with a quantity of interest, the posterior mean is k'A^-1(z - mean),
its variance k0 - k'A^-1 k. What times and gaps say besides is in `simlab.limits.missing`. Equations: docs/visits.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr

from simlab.environments.visit_knobs import LongitudinalSpec
from simlab.errors import unknown
from simlab.limits import missing
from simlab.limits.gaussian import Moments, liability_noise_variance, liability_slopes, moments
from simlab.limits.liability import auc

DOMAINS = ("source", "external")
VIEWS = ("full", "image", "clinical")
JITTER = 1e-10  # of the variance: lets exact repetitions (no noise, no drift) be solved; moves no risk by 1e-6
_ROWS = 2048


@dataclass(frozen=True, eq=False)
class Evidence:
    """What n records showed of the causes along beta, at up to J visits; values where nothing was seen are ignored.

    `image`, `clinical`: whether the stream was seen at a visit, False beyond the record's `length`. A stream of which
    nothing is shown, its gaps included, is left out of `shown`.
    """

    c_image: Float[np.ndarray, "n J"]
    u: Float[np.ndarray, "n J"]
    c_clinical: Float[np.ndarray, "n J"]
    v: Float[np.ndarray, "n J"]
    image: Bool[np.ndarray, "n J"]
    clinical: Bool[np.ndarray, "n J"]
    time: Float[np.ndarray, "n J"]
    length: Int[np.ndarray, " n"]
    shown: tuple[str, ...] = ("image", "clinical")
    shortcut: Float[np.ndarray, "n J"] | None = None  # its values, where a view shows it

    def __len__(self) -> int:
        return len(self.length)

    def view(self, view: str) -> Evidence:
        """What "full", "image" or "clinical" shows: times always, the other stream and its gaps not."""
        if view == "image":
            return replace(self, clinical=np.zeros_like(self.clinical), shown=("image",))
        if view == "clinical":
            return replace(self, image=np.zeros_like(self.image), shown=("clinical",))
        if view != "full":
            raise unknown("view", view, VIEWS)
        return self

    def rows(self, part: slice) -> Evidence:
        """Some of the records."""
        arrays = {k: a[part] for k, a in vars(self).items() if isinstance(a, np.ndarray)}
        return replace(self, **arrays)


@dataclass(frozen=True)
class Law:
    """The law of one domain: `along` is that of one visit with a cause of each kind, `tau` the causes' spread."""

    spec: LongitudinalSpec
    along: Moments
    slopes: tuple[float, float, float]
    noise: float  # variance of the liability's own noise
    mu: float
    tau: float
    kappa: float
    p_miss: float
    strength: float  # lambda of the shortcut, 0 where no view shows one


def law_of(spec: LongitudinalSpec, domain: str) -> Law:
    """The law in the "source" or the "external" domain. Raises UnknownName for another."""
    slim = spec.along()
    here = domain == "external"
    return Law(slim, moments(slim, domain), liability_slopes(slim, domain), liability_noise_variance(slim, domain),
               mu=spec.mu_e if here else 0.0, tau=spec.tau_e if here else 1.0,
               kappa=spec.kappa_e if here else spec.kappa_s, p_miss=spec.p_miss_e if here else spec.p_miss,
               strength=spec.lambda_e if here else spec.lambda_s)


@dataclass(frozen=True, eq=False)
class Block:
    """A kind of cause x and the streams that show it: signals with covariance `gain`, `with_cause` that with x.

    Stream s shows a signal of mean `mean[s]` and variance gain[s, s], with measurement noise of variance `noise[s]`.
    """

    theta: float
    variance: float  # of x
    gain: Float[np.ndarray, "S S"]
    with_cause: Float[np.ndarray, " S"]
    noise: Float[np.ndarray, " S"]
    mean: Float[np.ndarray, " S"]
    mean_cause: float


def blocks(law: Law) -> tuple[Block, Block, Block]:
    """The blocks of c (streams image, clinical), u (image) and v (clinical)."""
    s, kappa, var = law.spec, law.kappa, law.tau**2
    gain = var * np.array([[1, kappa], [kappa, kappa**2]]) + np.diag([0, 1 - kappa**2])
    shared = Block(s.theta_c, var, gain, var * np.array([1, kappa]), _noise(s.rel_ci, s.rel_cc),
                   law.mu * np.array([1, kappa]), law.mu)

    def own(theta: float, rel: float) -> Block:
        return Block(theta, var, np.array([[var]]), np.array([var]), _noise(rel), np.array([law.mu]), law.mu)

    return shared, own(s.theta_u, s.rel_u), own(s.theta_v, s.rel_v)


def _noise(*reliabilities: float) -> Float[np.ndarray, " S"]:
    return 1 / np.array(reliabilities) - 1


def condition(
    block: Block,
    time: Float[np.ndarray, "n J"],
    query: Float[np.ndarray, " n"],
    values: Float[np.ndarray, "n S J"],
    seen: Bool[np.ndarray, "n S J"],
    last: Int[np.ndarray, " n"],
) -> tuple[Float[np.ndarray, "n Q"], Float[np.ndarray, "n Q Q"]]:
    """Posterior mean and covariance, given what was seen, of x(query) and of each stream's measurement at visit `last`.

    Q = 1 + S. `last` is the visit whose measurement is meant (its own noise included), which must be at time `query`;
    -1 where only x(query) matters. Exact up to JITTER.
    """
    n, streams, visits = values.shape
    k = streams * visits
    between = np.exp(-block.theta * np.abs(time[:, :, None] - time[:, None, :]))
    cov = block.gain[None, :, None, :, None] * between[:, None, :, None, :]
    flat = seen.reshape(n, k)
    cov = cov.reshape(n, k, k) * (flat[:, :, None] & flat[:, None, :])
    own = np.repeat(block.noise, visits) + JITTER * block.variance
    cov[:, np.arange(k), np.arange(k)] += np.where(flat, own, 1.0)

    to_query = np.exp(-block.theta * np.abs(query[:, None] - time))
    targets = np.concatenate([block.with_cause[:, None], block.gain], axis=1)  # (S, Q)
    cross = targets[None, :, None, :] * to_query[:, None, :, None]
    at_last = np.arange(visits) == last[:, None]
    for s in range(streams):
        cross[:, s, :, 1 + s] += block.noise[s] * at_last
    cross = cross.reshape(n, k, 1 + streams) * flat[:, :, None]

    weights = np.linalg.solve(cov, cross)
    centred = np.where(seen, values - block.mean[:, None], 0.0).reshape(n, k)
    prior = np.zeros((1 + streams, 1 + streams))
    prior[0, 0], prior[0, 1:], prior[1:, 0] = block.variance, block.with_cause, block.with_cause
    prior[1:, 1:] = block.gain + np.diag(block.noise)
    mean = np.concatenate([[block.mean_cause], block.mean]) + np.einsum("nk,nkq->nq", centred, weights)
    return mean, prior - np.einsum("nkp,nkq->npq", cross, weights)


def evidence_weights(spec: LongitudinalSpec) -> tuple[tuple[float, float], tuple[float, float]]:
    """Weights of (c, own cause) as measured in each view's evidence: s = weights'(z at the last visit), variance 1.

    The evidence of a view is its best linear score for the liability from one visit of the source, standardised; the
    target uses the same weights. Zero where the view bears on nothing.
    """
    image = np.array([np.sqrt(spec.w_c) * spec.rel_ci, np.sqrt(spec.w_u) * spec.rel_u])
    clinical = np.array([spec.kappa_s * np.sqrt(spec.w_c) * spec.rel_cc, np.sqrt(spec.w_v) * spec.rel_v])
    spread = (np.sqrt(spec.w_c * spec.rel_ci + spec.w_u * spec.rel_u),
              np.sqrt(spec.kappa_s**2 * spec.w_c * spec.rel_cc + spec.w_v * spec.rel_v))
    one, two = (w / sd if sd > 0 else 0 * w for w, sd in zip((image, clinical), spread, strict=True))
    return (float(one[0]), float(one[1])), (float(two[0]), float(two[1]))


def of_liability(law: Law, shown: Evidence) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3 3"]]:
    """Mean and covariance of (l, s_I, s_C) given the values shown and the visits' times, gaps and times uninterpreted.

    s_I, s_C: each view's evidence at the last visit (`evidence_weights`).
    """
    last = shown.length - 1
    query = np.take_along_axis(shown.time, last[:, None], axis=1)[:, 0]
    image, clinical = evidence_weights(law.spec)
    seen_by = (np.stack([shown.image, shown.clinical], 1), shown.image[:, None], shown.clinical[:, None])
    values = (np.stack([shown.c_image, shown.c_clinical], 1), shown.u[:, None], shown.v[:, None])
    combine = (
        np.array([[law.slopes[0], 0, 0], [0, image[0], 0], [0, 0, clinical[0]]]),
        np.array([[law.slopes[1], 0], [0, image[1]], [0, 0]]),
        np.array([[law.slopes[2], 0], [0, 0], [0, clinical[1]]]),
    )
    mean, cov = np.zeros((len(shown), 3)), np.zeros((len(shown), 3, 3))
    for block, value, seen, to in zip(blocks(law), values, seen_by, combine, strict=True):
        m, v = condition(block, shown.time, query, value, seen, last)
        mean += m @ to.T
        cov += to @ v @ to.T
    cov[:, 0, 0] += law.noise
    return _with_shortcut(law, shown, mean, cov)


def _with_shortcut(
    law: Law, shown: Evidence, mean: Float[np.ndarray, "n 3"], cov: Float[np.ndarray, "n 3 3"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3 3"]]:
    """The same, given also the shortcut's readings a = lambda l + sqrt(1 - lambda^2) noise: m independent ones of
    mean a say what one of noise (1 - lambda^2)/m says (a static shortcut: m is at most 1)."""
    spec, s = law.spec, law.strength
    if s == 0:
        return mean, cov
    seen = (shown.image & bool(spec.shows_shortcut("image"))) | (shown.clinical & bool(spec.shows_shortcut("clinical")))
    visits = seen.sum(axis=1)
    m = np.minimum(visits, 1) if spec.shortcut_kind == "static" else visits
    values = np.zeros(seen.shape) if shown.shortcut is None else shown.shortcut
    a = np.where(seen, values, 0.0).sum(axis=1) / np.maximum(visits, 1)
    gain = (s * m / (s * s * m * cov[:, 0, 0] + 1 - s * s))[:, None] * cov[:, :, 0]
    return mean + gain * (a - s * mean[:, 0])[:, None], cov - s * gain[:, :, None] * cov[:, None, 0, :]


def nothing_seen(time: Float[np.ndarray, "n J"], length: Int[np.ndarray, " n"]) -> Evidence:
    """Visits at which nothing was seen."""
    blank, unseen = np.zeros(time.shape), np.zeros(time.shape, bool)
    return Evidence(blank, blank, blank, blank, unseen, unseen, time, length)


def selections(law: Law) -> dict[str, missing.Selection]:
    """How each stream that can be missing in this domain goes missing."""
    mean, cov = of_liability(law, nothing_seen(np.zeros((1, 1)), np.ones(1, np.int64)))
    return missing.selections(law.spec, law.p_miss, mean[0], cov[0])


def risk(law: Law, shown: Evidence) -> Float[np.ndarray, " n"]:
    """P(y = 1 | all that is shown): values, visit times and number, and the gaps of the streams shown."""
    out = np.empty(len(shown))
    for start in range(0, len(shown), _ROWS):
        part = slice(start, start + _ROWS)
        out[part] = _risk(law, shown.rows(part))
    return out


def _risk(law: Law, shown: Evidence) -> Float[np.ndarray, " n"]:
    mean, cov = of_liability(law, shown)
    seen = {"image": shown.image.sum(axis=1), "clinical": shown.clinical.sum(axis=1)}
    gaps = missing.said(selections(law), {stream: seen[stream] for stream in shown.shown}, shown.length)
    visit_times = missing.times(law.spec, shown.time, shown.length) if law.spec.gamma_obs != 0 else None
    if gaps or visit_times is not None:
        probability = missing.exceeds(law.along.threshold, mean, cov, gaps, visit_times)
    else:
        probability = ndtr((mean[:, 0] - law.along.threshold) / np.sqrt(cov[:, 0, 0]))
    return _resampled(law, probability)


def _resampled(law: Law, probability: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The probability after classes are resampled to the domain's prevalence: odds times the odds ratio of the two."""
    k, target = law.along.prevalence_law, law.along.prevalence
    if k == target:
        return probability
    up, down = probability * (target / k), (1 - probability) * ((1 - target) / (1 - k))
    return up / (up + down)


# ------------------------------------------------------------------------------------------ closed forms, fixed times


def explained(law: Law, time: Float[np.ndarray, " J"], view: str = "full") -> float:
    """R^2: share of the liability's variance that fully observed visits at fixed times explain, the last one the index.

    Source: Gaussian-process regression (Rasmussen and Williams 2006, eq. 2.23).
    """
    if view not in VIEWS:
        raise unknown("view", view, VIEWS)
    blank = nothing_seen(time[None], np.array([len(time)]))
    _, cov = of_liability(law, replace(blank, image=~blank.image, clinical=~blank.clinical).view(view))
    return float(np.clip(1 - cov[0, 0, 0] / law.along.var_liability, 0, 1))


def closed_form(spec: LongitudinalSpec, domain: str) -> bool:
    """Whether the limit in this domain is a closed form: regular times and nothing missing."""
    return spec.times == "regular" and (spec.p_miss_e if domain == "external" else spec.p_miss) == 0


def regular_times(spec: LongitudinalSpec) -> Float[np.ndarray, " J"]:
    """Regular visit times, years since the first."""
    return np.arange(spec.n_visits) / spec.r_v


def regular_auc(spec: LongitudinalSpec, domain: str, view: str = "full") -> float:
    """The Bayes limit at regular times with nothing missing, g(R, K): exact."""
    law = law_of(spec, domain)
    return float(auc(np.sqrt(explained(law, regular_times(spec), view)), law.along.prevalence_law))


