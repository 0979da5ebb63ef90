"""What a linear pretrainer keeps of z: the spans of CCA-k, PCA-k and cross-prediction-k, ties included.

Where the k-th and (k+1)-th value tie, "the first k" is not one subspace: any orthonormal choice in the tied space is
as good. A `Span` holds the directions that every choice contains and the tied groups from which some are drawn. Means
over the uniform (Haar) choice are exact by quadrature where the tied space is isotropic but for one direction b: only
t = |Q'b|^2 matters then, and t ~ Beta(j/2, (D - j)/2) for j of D directions. Elsewhere they are Monte-Carlo means with
a fixed generator, and their standard error is reported (docs/theory.md, 5).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import roots_jacobi

from simlab.errors import OutOfDomain
from simlab.limits.gaussian import Moments

TIE = 1e-8  # relative gap below which two values tie
DRAWS = 2000  # Monte-Carlo draws where the Haar mean has no quadrature


@dataclass(frozen=True, eq=False)
class Tied:
    """A tied space: `chosen` of D orthonormal directions; the same rotation acts on every basis (one a view) in it."""

    bases: tuple[Float[np.ndarray, "p D"], ...]
    chosen: int

    @property
    def size(self) -> int:
        """D, the dimension of the tied space."""
        return self.bases[0].shape[1]


@dataclass(frozen=True, eq=False)
class Span:
    """Directions of z (columns, p rows) that are always kept, and the tied groups from which the rest is chosen."""

    fixed: Float[np.ndarray, "p f"]
    tied: tuple[Tied, ...] = ()


@dataclass(frozen=True)
class Average:
    """Haar means of several numbers, their infimum and supremum over all choices, and the means' standard errors."""

    mean: Float[np.ndarray, " m"]
    low: Float[np.ndarray, " m"]
    high: Float[np.ndarray, " m"]
    standard_error: Float[np.ndarray, " m"]


def whitener(cov: Float[np.ndarray, "a a"]) -> Float[np.ndarray, "a r"]:
    """W with W' cov W = I on the covariance's range (r <= a columns; correlation eigenvalues below 1e-10 dropped)."""
    sd = np.sqrt(np.diag(cov))
    sd = np.where(sd > 0, sd, 1.0)  # a constant coordinate lies off the range
    values, vectors = np.linalg.eigh(cov / np.outer(sd, sd))
    kept = values > 1e-10
    return vectors[:, kept] / np.sqrt(values[kept]) / sd[:, None]


def canonical(law: Moments) -> tuple[Float[np.ndarray, "p a"], Float[np.ndarray, " q"], Float[np.ndarray, "p b"]]:
    """Canonical directions of the image (columns, unit variance), correlations (descending), clinical directions.

    The square orthogonal factors are complete: columns past the number q of correlations have correlation zero.
    """
    wi, wc = whitener(law.cov[law.image, law.image]), whitener(law.cov[law.clinical, law.clinical])
    u, s, vt = np.linalg.svd(wi.T @ law.cov[law.image, law.clinical] @ wc)
    left, right = np.zeros((law.p, u.shape[1])), np.zeros((law.p, vt.shape[0]))
    left[law.image], right[law.clinical] = wi @ u, wc @ vt.T
    return left, np.clip(s, 0.0, 1.0), right


def cca(law: Moments, k: int) -> Span:
    """The first k canonical pairs (2k numbers): what a cross-modal JEPA with a whitened target keeps."""
    left, s, right = canonical(law)
    _check(k, len(s), "canonical pairs")
    above, below = _tie(s, k)
    fixed = np.hstack([left[:, :above], right[:, :above]])
    if below == k and s[k - 1] > TIE:
        return Span(np.hstack([left[:, :k], right[:, :k]]))
    if s[k - 1] > TIE:
        return Span(fixed, (Tied((left[:, above:below], right[:, above:below]), k - above),))
    return _drawn(fixed, [left[:, above:], right[:, above:]], k - above)


def pca(law: Moments, k: int) -> Span:
    """The k leading principal directions of each view, both views kept (2k numbers): a reconstruction's choice."""
    spans = [_leading(law, view, k) for view in (law.image, law.clinical)]
    return Span(np.hstack([s.fixed for s in spans]), sum((s.tied for s in spans), ()))


def pca_joint(law: Moments, k: int) -> Span:
    """The k leading principal directions of both views stacked (k numbers)."""
    return _leading(law, slice(0, law.p), k)


def cross_prediction(law: Moments, k: int) -> Span:
    """Per view, the k directions that best predict the other view in its own units (reduced-rank regression).

    The leading right singular vectors of A = Cov(other, view) Var(view)^(-1/2); 2k numbers (docs/theory.md, 5).
    """
    _check(k, min(law.image.stop, law.p - law.image.stop), "cross-prediction directions")
    fixed, tied = [], []
    for view, other in ((law.image, law.clinical), (law.clinical, law.image)):
        w = whitener(law.cov[view, view])
        _, s, vt = np.linalg.svd(law.cov[other, view] @ w)
        s = np.concatenate([s, np.zeros(vt.shape[0] - len(s))])
        basis = np.zeros((law.p, vt.shape[0]))
        basis[view] = w @ vt.T
        span = _cut(basis, s, k)
        fixed.append(span.fixed)
        tied.extend(span.tied)
    return Span(np.hstack(fixed), tuple(tied))


def _leading(law: Moments, view: slice, k: int) -> Span:
    """The k leading principal directions of one slice of z."""
    values, vectors = np.linalg.eigh(law.cov[view, view])
    _check(k, len(values), "principal directions")
    basis = np.zeros((law.p, len(values)))
    basis[view] = vectors[:, ::-1]
    return _cut(basis, values[::-1], k)


def _cut(basis: Float[np.ndarray, "p D"], values: Float[np.ndarray, " D"], k: int) -> Span:
    """The first k columns of a basis ordered by descending values, with the tie at k if there is one."""
    _check(k, len(values), "directions")
    above, below = _tie(values, k)
    return _drawn(basis[:, :above], [basis[:, above:below]], k - above)


def _drawn(fixed: Float[np.ndarray, "p f"], groups: list[Float[np.ndarray, "p _"]], chosen: int) -> Span:
    """A span whose groups are drawn independently; a group that is taken whole is fixed."""
    whole = [g for g in groups if g.shape[1] <= chosen]
    return Span(np.hstack([fixed, *whole]), tuple(Tied((g,), chosen) for g in groups if g.shape[1] > chosen))


def _tie(values: Float[np.ndarray, " q"], k: int) -> tuple[int, int]:
    """(number of values clearly above the k-th, number not clearly below it)."""
    gap = TIE * max(float(values[0]), 1e-300)
    return int(np.sum(values > values[k - 1] + gap)), int(np.sum(values >= values[k - 1] - gap))


def _check(k: int, most: int, what: str) -> None:
    if not 1 <= k <= most:
        raise OutOfDomain(f"k = {k} is outside its domain: whole numbers in [1, {most}] (there are {most} {what}).")


def used(span: Span) -> tuple[Int[np.ndarray, " r"], Span]:
    """The coordinates of z that some choice of a span uses (not the many noise features), and the span in these."""
    parts = [span.fixed, *(basis for group in span.tied for basis in group.bases)]
    rows = np.flatnonzero(sum(np.abs(part).max(1, initial=0) > 1e-10 for part in parts))
    tied = tuple(Tied(tuple(basis[rows] for basis in group.bases), group.chosen) for group in span.tied)
    return rows, Span(span.fixed[rows], tied)


# ---------------------------------------------------------------------------------------------------- means over ties

Batch = tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n p q"]]


def average(span: Span, laws: tuple[Moments, ...], evaluate: Callable[[np.ndarray], np.ndarray],
            nodes: int = 24) -> Average:
    """Mean, range and standard error of `evaluate` (bases (n, p, q) -> numbers (n, m)) over a span's choices.

    `laws` are the domains in which `evaluate` looks: they decide whether quadrature over t is exact. Two groups take a
    product rule. The range is the extremes over a fine grid of t, which includes both ends (Monte Carlo: over the
    draws and so from inside). The standard error is zero for closed forms and quadrature.
    """
    if not span.tied:
        value = evaluate(span.fixed[None])[0]
        return Average(value, value, value, np.zeros_like(value))
    special = [_special(group, laws) for group in span.tied]
    if _isotropic(span, special, laws):
        weights, stack = quadrature(span, special, nodes if len(span.tied) == 1 else max(nodes // 2, 3))
        mean = weights @ evaluate(stack)
        grid = _grid(span, special, 65 if len(span.tied) == 1 else 9)
        seen = np.vstack([evaluate(part) for part in grid])
        return Average(mean, seen.min(0), seen.max(0), np.zeros_like(mean))
    seen = np.vstack([evaluate(part) for part in _draws(span, DRAWS)])
    return Average(seen.mean(0), seen.min(0), seen.max(0), seen.std(0, ddof=1) / np.sqrt(len(seen)))


def choices(span: Span, laws: tuple[Moments, ...], nodes: int) -> Batch:
    """A few weighted representatives of a span's choices: (weights (n,), bases (n, p, q)); one when nothing is tied."""
    if not span.tied:
        return np.ones(1), span.fixed[None]
    special = [_special(group, laws) for group in span.tied]
    if _isotropic(span, special, laws):
        return quadrature(span, special, nodes)
    stack = next(_draws(span, nodes * nodes))
    return np.full(len(stack), 1 / len(stack)), stack


def quadrature(span: Span, special: list[Float[np.ndarray, "_ _"]], nodes: int) -> Batch:
    """Gauss-Jacobi rule over t of every tied group (in sqrt(t), where integrands are analytic), bases included.

    With tau = sqrt(t), its density is proportional to tau^(j-1) (1 - tau)^a (1 + tau)^a, a = (D - j)/2 - 1.
    """
    rules = []
    for group in span.tied:
        a = (group.size - group.chosen) / 2 - 1
        x, w = roots_jacobi(nodes, a, group.chosen - 1)
        tau = (1 + x) / 2
        w = w * (1 + tau) ** a
        rules.append((tau, w / w.sum()))
    taus = itertools.product(*(rule[0] for rule in rules))
    weights = np.array([np.prod(w) for w in itertools.product(*(rule[1] for rule in rules))])
    return weights, np.stack([_basis(span, special, tau) for tau in taus])


def _grid(span: Span, special: list[np.ndarray], n: int) -> Iterator[np.ndarray]:
    """Bases on a grid of sqrt(t), both ends included, in parts."""
    for tau in itertools.product(np.linspace(0, 1, n), repeat=len(span.tied)):
        yield _basis(span, special, tau)[None]


def _basis(span: Span, special: list[np.ndarray], taus: tuple[float, ...]) -> Float[np.ndarray, "p q"]:
    """One choice with |Q'b| = tau in each group: Q = [tau b + sqrt(1 - tau^2) e_1, e_2, ..., e_j]."""
    columns = [span.fixed]
    for group, frame, tau in zip(span.tied, special, taus, strict=True):
        q = frame[:, 1:group.chosen + 1].copy()
        q[:, 0] = tau * frame[:, 0] + np.sqrt(max(1 - tau**2, 0.0)) * frame[:, 1]
        columns.extend(basis @ q for basis in group.bases)
    return np.hstack(columns)


def _special(group: Tied, laws: tuple[Moments, ...]) -> Float[np.ndarray, "D D"]:
    """An orthonormal frame of a tied space whose first vector b carries the liability (any one if nothing does)."""
    seen = np.stack([basis.T @ law.cov_liability for basis in group.bases for law in laws], axis=1)
    frame, size, _ = np.linalg.svd(seen)
    return frame if size[0] > 0 else np.eye(group.size)


def _isotropic(span: Span, special: list[np.ndarray], laws: tuple[Moments, ...]) -> bool:
    """Whether, in every law, all but b of each tied space is isotropic and uncorrelated with l, b and all the rest."""
    for group, frame in zip(span.tied, special, strict=True):
        rest = [basis @ frame[:, 1:] for basis in group.bases]
        others = [span.fixed] + [b @ f[:, :1] for g, f in zip(span.tied, special, strict=True) for b in g.bases]
        others += [b for g in span.tied if g is not group for b in g.bases]
        for law in laws:
            scale = max(float(np.abs(r.T @ law.cov @ r).max()) for r in rest)
            if any(np.abs(r.T @ law.cov_liability).max() > 1e-7 for r in rest):
                return False
            if any(np.abs(r.T @ law.cov @ o).max(initial=0) > 1e-7 * scale for r in rest for o in others):
                return False
            for one, two in itertools.product(rest, rest):
                block = one.T @ law.cov @ two
                if np.abs(block - np.eye(len(block)) * np.trace(block) / len(block)).max() > 1e-7 * scale:
                    return False
    return True


def _draws(span: Span, n: int) -> Iterator[Float[np.ndarray, "_ p q"]]:
    """n Haar draws of a span's choices, in parts, from a fixed generator (the same numbers every time)."""
    rng = np.random.default_rng(20_250_919)
    part = max(1, min(n, 20_000_000 // max(span.fixed.size + sum(g.bases[0].size for g in span.tied), 1) // 8, 500))
    for start in range(0, n, part):
        size = min(part, n - start)
        columns = [np.broadcast_to(span.fixed, (size, *span.fixed.shape))]
        for group in span.tied:
            q, _ = np.linalg.qr(rng.standard_normal((size, group.size, group.chosen)))
            columns.extend(basis @ q for basis in group.bases)
        yield np.concatenate(columns, axis=2)


def sample_choices(span: Span, n: int) -> Float[np.ndarray, "n p q"]:
    """n Haar draws of a span's choices as bases, the same every time."""
    return np.concatenate(list(_draws(span, n)))
