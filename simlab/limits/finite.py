"""How good a method is with n labels: closed forms and deterministic equivalents, and where two methods cross.

Four predictions of the internal AUC. `supervised` and `cross_modal` are the least-squares formula below on all p
features and on the 2k numbers of the first k canonical pairs. `supervised_tuned` is ridge regression at its best
penalty, `cross_modal_finetuned` the same after x' = (I + tau^2 P P')^(1/2) x at the best tau, P the span of the
pretrained directions. Only these two feel the scale of features: they hold in measured
coordinates under an identity or orthogonal map. See docs/theory.md, 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from simlab.environments.knobs import GaussianSpec
from simlab.limits.gaussian import Moments
from simlab.limits.liability import Numbers, auc
from simlab.limits.oracles import best_in_span, retained
from simlab.limits.subspace import Span, cca, choices, whitener

Curve = Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]

PAIRS = (("cross_modal", "supervised"), ("cross_modal", "supervised_tuned"),
         ("cross_modal_finetuned", "supervised_tuned"))
N_MOST = 1e7  # crossings are looked for up to this many labels
LEVEL = 1e-7  # AUC difference below which two methods are level


@dataclass(frozen=True)
class Method:
    """A prediction's curve n -> AUC (NaN where it is not defined) and the smallest n where it is defined."""

    curve: Curve
    n_least: int


@dataclass(frozen=True)
class Crossing:
    """Where first|second change places: `n` is the largest such number of labels (None: never), `reading` says more.

    `below` and `above` name who is ahead on either side (None: level, or not defined); without a crossing both are the
    one who is ahead throughout.
    """

    n: float | None
    below: str | None
    above: str | None
    reading: str


def least_squares_correlation(share: Numbers, p: Numbers, n: Numbers, prevalence: Numbers,
                              flip: float = 0.0) -> Numbers:
    """r_n between an OLS/LDA score on p features (n labels) and the liability; NaN where n <= p + 1.

    r_n^2 = R^2 R_o^2 / (R_o^2 + p (1 - R_o^2)/(n - p - 1)), R_o^2 = R^2 phi(t)^2/(K (1 - K)) the share of the
    0/1 label's variance that the best linear score explains; `share` is R^2. With a share `flip` of training labels
    flipped, Cov(x, y) shrinks by 1 - 2 flip and K becomes the share of positive labels seen.
    """
    share, p, n, prevalence = np.broadcast_arrays(*(np.asarray(x, float) for x in (share, p, n, prevalence)))
    observed = share * ((1 - 2 * flip) * density(prevalence)) ** 2 / label_variance(prevalence, flip)
    free = np.where(n > p + 1, n - p - 1, np.nan)
    below = observed + p * (1 - observed) / free
    return np.sqrt(share * np.divide(observed, below, out=np.zeros_like(below), where=below != 0))


def density(prevalence: Numbers) -> Numbers:
    """phi(t), the standard normal density at the threshold t = Phi^-1(1 - K)."""
    value = np.exp(-(ndtri(prevalence) ** 2) / 2) / np.sqrt(2 * np.pi)
    return float(value) if np.ndim(value) == 0 else value


def label_variance(prevalence: Numbers, flip: float) -> Numbers:
    """Variance of the 0/1 training label when this share is flipped."""
    seen = prevalence + flip * (1 - 2 * prevalence)
    return seen * (1 - seen)


@dataclass(frozen=True, eq=False)
class Equivalent:
    """Sums that the ridge equivalent needs at a grid of (tau, kappa) pairs: A, C, df1, df2; B per pair; v and phi(t).

    A = sum a^2/(e + kappa), C = kappa^2 sum a^2/(e (e + kappa)^2), B = sum a^2/e, with e the eigenvalues of the
    features' covariance and a = Cov(x, y) in its eigenbasis, v = K (1 - K).
    """

    a: Float[np.ndarray, " g"]
    c: Float[np.ndarray, " g"]
    df1: Float[np.ndarray, " g"]
    df2: Float[np.ndarray, " g"]
    b: float
    v: float
    phi: float

    def correlation(self, n: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """r(n) at the best pair for each n: r = (A/phi) / sqrt(q), q = (C + v - B)/(1 - df2/n) - v + 2 A."""
        best = np.zeros(len(n))
        order = np.argsort(np.maximum(self.df1, self.df2))
        a, c, df2 = self.a[order], self.c[order] + self.v - self.b, self.df2[order]
        allowed = np.searchsorted(np.maximum(self.df1, self.df2)[order], n, side="left")
        for i, (labels, most) in enumerate(zip(n, allowed, strict=True)):
            if most:
                q = c[:most] / (1 - df2[:most] / labels) - self.v + 2 * a[:most]
                best[i] = np.sqrt(np.max(np.where(q > 0, a[:most] ** 2 / np.maximum(q, 1e-300), 0.0))) / self.phi
        return np.clip(best, 0, 1)


def equivalent(law: Moments, basis: Float[np.ndarray, "p q"] | None = None, taus: int = 28,
               kappas: int = 160, flip: float = 0.0) -> Equivalent:
    """The ridge equivalent of a law's features: plain (no basis), or stretched by tau along a pretrained span.

    Noise coordinates, uncorrelated with everything, enter by their number alone unless the basis uses them.
    """
    core, extra = _core(law, basis)
    phi = (1 - 2 * flip) * density(law.prevalence_law)
    cov, m = law.cov[np.ix_(core, core)], law.cov_liability[core] * phi
    stretches = [np.eye(len(core))]
    if basis is not None:
        u, s, _ = np.linalg.svd(basis[core], full_matrices=False)
        u = u[:, s > 1e-10 * s[0]]
        stretches += [np.eye(len(core)) + (np.sqrt(1 + tau**2) - 1) * u @ u.T for tau in np.geomspace(0.05, 30, taus)]
    parts = [_sums(*np.linalg.eigh(w @ cov @ w), w @ m, extra, kappas) for w in stretches]
    a, c, df1, df2 = (np.concatenate([part[i] for part in parts]) for i in range(4))
    return Equivalent(a, c, df1, df2, parts[0][4], float(label_variance(law.prevalence_law, flip)), phi)


def _core(law: Moments, basis: Float[np.ndarray, "p q"] | None) -> tuple[np.ndarray, Float[np.ndarray, " x"]]:
    """Coordinates to diagonalise, and the variances of the noise coordinates left out."""
    noise = np.r_[law.blocks["n_image"], law.blocks["n_clinical"]]
    if basis is not None and len(noise) and np.abs(basis[noise]).max() > 1e-9:
        noise = noise[:0]
    return np.setdiff1d(np.arange(law.p), noise), np.diag(law.cov)[noise]


def _sums(values: Float[np.ndarray, " c"], vectors: Float[np.ndarray, "c c"], m: Float[np.ndarray, " c"],
          extra: Float[np.ndarray, " x"], kappas: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """(A, C, df1, df2) over the kappa grid, and B. Directions without variance are left out."""
    kept = values > 1e-10 * values.max()
    e, a2 = values[kept], (vectors.T @ m)[kept] ** 2
    everything = np.concatenate([e, extra])
    kappa = np.geomspace(everything.min() * 1e-4, everything.max() * 1e3, kappas)[:, None]
    a = (a2 / (e + kappa)).sum(1)
    c = (kappa**2 * a2 / (e * (e + kappa) ** 2)).sum(1)
    shrink = everything / (everything + kappa)
    return a, c, shrink.sum(1), (shrink**2).sum(1), float((a2 / e).sum())


def methods(spec: GaussianSpec, law: Moments, k: int) -> dict[str, Method | None]:
    """The four predictions for a source law; None for those that do not hold there."""
    if undefined_reason(spec):
        return {"supervised": None, "supervised_tuned": None, "cross_modal": None, "cross_modal_finetuned": None}
    span = cca(law, k)
    tuned = untuned_reason(spec) is None
    # Tokens that repeat a number add no feature to a least-squares fit.
    p = law.p if spec.n_tok == 1 else whitener(law.cov).shape[1]
    return {
        "supervised": Method(_least_squares(np.ones(1), np.array([retained(law)]), p, law, spec.flip), p + 2),
        "supervised_tuned": Method(_best_penalty([(1.0, equivalent(law, flip=spec.flip))], law), 2) if tuned else None,
        "cross_modal": frozen(law, span, k, spec.flip),
        "cross_modal_finetuned": Method(_best_penalty(_stretched(law, span, spec.flip), law), 2) if tuned else None,
    }


def frozen(law: Moments, span: Span, k: int, flip: float = 0.0) -> Method:
    """Least squares on the 2k numbers that a span keeps: a frozen encoder with an untuned linear probe."""
    return Method(_least_squares(*_retained_in(law, span), 2 * k, law, flip), 2 * k + 2)


def undefined_reason(spec: GaussianSpec) -> str | None:
    """Why none of the predictions holds in this spec's source hospital; None where they do."""
    if spec.gaussian_in("source"):
        return None
    what = "a mixture of hospitals" if spec.w_x == 0 else "a product of causes"
    if spec.alpha_lat != 2:
        what = f"causes of shape alpha_lat = {spec.alpha_lat:g}"
    return f"they are for a Gaussian law of features and liability, and {what} make none"


def untuned_reason(spec: GaussianSpec) -> str | None:
    """Why the two tuned predictions do not hold in this spec's source hospital or under its map; None where they do."""
    if undefined_reason(spec):
        return undefined_reason(spec)
    if spec.map == "mlp":
        return "the map is an MLP: a penalty acts on features that are not a rotation of the measured coordinates"
    if spec.map == "linear" and spec.condition > 1:
        return (f"the map's condition number is {spec.condition:g}: a penalty acts on features that are not a rotation "
                "of the measured coordinates")
    return None


def _retained_in(law: Moments, span: Span) -> tuple[np.ndarray, np.ndarray]:
    """Weights and R^2 of a span's choices."""
    weights, stack = choices(span, (law,), 24 if len(span.tied) == 1 else 12)
    return weights, best_in_span(law, stack)[1] ** 2


def _least_squares(weights: np.ndarray, shares: np.ndarray, p: int, law: Moments, flip: float) -> Curve:
    """The least-squares curve, averaged over a span's choices."""
    def curve(n: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        r = least_squares_correlation(shares[:, None], p, np.asarray(n, float)[None, :], law.prevalence_law, flip)
        return weights @ np.where(np.isnan(r), np.nan, auc(np.nan_to_num(r), law.prevalence_law))
    return curve


def _stretched(law: Moments, span: Span, flip: float) -> list[tuple[float, Equivalent]]:
    """Fine-tuning equivalents of a span's choices, weighted (a coarse rule where there are ties)."""
    weights, stack = choices(span, (law,), 5 if len(span.tied) == 1 else 3)
    taus = 28 if len(weights) == 1 else 14
    return [(float(w), equivalent(law, basis, taus, flip=flip)) for w, basis in zip(weights, stack, strict=True)]


def _best_penalty(parts: list[tuple[float, Equivalent]], law: Moments) -> Curve:
    """The curve of weighted equivalents."""
    def curve(n: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        n = np.asarray(n, float)
        return np.sum([w * auc(part.correlation(n), law.prevalence_law) for w, part in parts], axis=0)
    return curve


def predict(predictions: dict[str, Method | None], n_labelled: tuple[int, ...]) -> dict[str, list[float | None]]:
    """Each method's AUC at each number of labels; None where it is not defined."""
    out: dict[str, list[float | None]] = {}
    for name, method in predictions.items():
        if method is None:
            out[name] = [None] * len(n_labelled)
            continue
        values = method.curve(np.asarray(n_labelled, float))
        out[name] = [float(v) if n >= method.n_least and np.isfinite(v) else None
                     for n, v in zip(n_labelled, values, strict=True)]
    return out


def crossovers(predictions: dict[str, Method | None], reason: str | None = None) -> dict[str, Crossing]:
    """For each pair of `PAIRS`, named first|second, where they cross last; `reason` is said where one is undefined."""
    out = {}
    for first, second in PAIRS:
        one, two = predictions[first], predictions[second]
        if one is None or two is None:
            out[f"{first}|{second}"] = Crossing(None, None, None, f"not defined: {reason}")
        else:
            out[f"{first}|{second}"] = _crossing(first, one, second, two)
    return out


def _crossing(first: str, one: Method, second: str, two: Method) -> Crossing:
    """The last change of sign of one - two on a fine grid of log n, refined by bisection to 0.01 labels.

    n is continuous here and starts just past the pole of a least-squares formula (n = p + 1), where its AUC is 0.5.
    """
    least = max(one.n_least, two.n_least)
    grid = np.concatenate([[least - 0.99, least - 0.5], np.geomspace(least, N_MOST, 240)])
    gap = one.curve(grid) - two.curve(grid)
    sign = np.where(np.abs(gap) <= LEVEL, 0, np.sign(gap)).astype(int)
    seen = np.flatnonzero(sign)
    if len(seen) == 0:
        return Crossing(None, None, None, f"{first} and {second} are level at every n")
    changes = [i for i in range(len(seen) - 1) if sign[seen[i]] != sign[seen[i + 1]]]
    ahead = {1: first, -1: second}
    if not changes:
        level, name = "" if len(seen) == len(sign) else " or level", ahead[int(sign[seen[0]])]
        return Crossing(None, name, name, f"{name} is ahead{level} at every n")
    low, high = seen[changes[-1]], seen[changes[-1] + 1]
    n = _root(lambda x: float((one.curve(np.array([x])) - two.curve(np.array([x])))[0]), float(grid[low]),
              float(grid[high]))
    below, above = ahead[int(sign[low])], ahead[int(sign[high])]
    earlier = "" if len(changes) == 1 else f"; at smaller n they change places {len(changes) - 1} more time(s)"
    return Crossing(n, below, above, f"{below} is ahead just below, {above} above{earlier}")


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """A root of f between two points of opposite sign, by bisection, to 0.01."""
    rising = f(low) < 0
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if (f(middle) < 0) == rising else (low, middle)
    return (low + high) / 2
