"""What survives a masked predictor inside one visit, in closed form: tokens of a view, and coordinates as tokens.

As in `simlab.limits.persistence`, a predictor of masked parts keeps the directions that are predictable. Every
coordinate of a family (shared causes c; the view's own causes, u or v; nuisance g; pure noise) is alike and independent
of the others, and m tokens show it, each with errors of its own of variance s^2 = 1/rel - 1. With e(m) = 1/(1 + s^2/m)
the reliability of m readings together:

    modality   a view from the other:                          c: |kappa| sqrt(e_I(m) e_C(m))    own: 0    g: |nu|
    token      a token from the other tokens of its view:      rel e(m-1): its root; 0 if m = 1; g: 1 if m > 1
    both       a token from those and the whole other view:    multiple correlation of the same readings

for a masked token that shows the family. A record whose coordinates are its tokens (`record_tokens = coordinates`, as
the expressions of an ICA signature) obeys the same formulas: coordinates of one block are independent of each other, so
that masking one tells only what other blocks repeat. With one block and no repetition a coordinate mask inside the
record learns nothing, whatever the causes are: the second reading of "independent causes" (docs/theory.md, 12).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from simlab.environments.knobs import GaussianSpec
from simlab.errors import OutOfDomain, unknown
from simlab.limits.gaussian import Moments, moments, only
from simlab.limits.liability import auc
from simlab.limits.oracles import retained
from simlab.limits.persistence import STREAMS, TIE, Kept, shares_of

MASKS = ("modality", "token", "both")


def has_tokens(spec: GaussianSpec) -> bool:
    """Whether a view consists of more than one token."""
    return spec.n_tok > 1 or spec.record_tokens == "coordinates"


def kept(spec: GaussianSpec, mask: str, k: int) -> Kept:
    """What remains in the source of the masks in `MASKS`, of a linear predictor of k numbers a view.

    Raises UnknownName, and OutOfDomain where k is below 1 or families are not independent (`why_not`).
    """
    if k < 1 or k != int(k):
        raise OutOfDomain(f"k = {k} is outside its domain: whole numbers from 1.")
    found = correlations(spec, mask)
    own = {"image": spec.d_u, "clinical": spec.d_v}
    sizes = {view: {"c": spec.d_c, "own": own[view], "g": spec.d_g, "noise": spec.widths(view)[3]} for view in STREAMS}
    shares = {view: shares_of(found[view], sizes[view], k) for view in STREAMS}
    law = moments(spec, "source")
    least, most = ({(v, f): shares[v][f] > limit for v in STREAMS for f in ("c", "own")} for limit in (1 - TIE, 0))
    return Kept(found, shares, (_auc(law, least), _auc(law, most)))


def why_not(spec: GaussianSpec) -> str | None:
    """Why a world has no such closed form, or None."""
    if not spec.gaussian_in("source"):
        return "the source must be Gaussian: w_x = 0, alpha_lat = 2, and hospitals that load on nothing"
    if spec.shortcut != "none" or spec.site_shown != "none":
        return "a shortcut or a hospital that a view shows ties the families together"
    if spec.eta_s != 0 and spec.carriers("c") > 1:
        return "errors correlated between the views (eta_s) make the differences of tokens predictable as well"
    return None


def correlations(spec: GaussianSpec, mask: str) -> dict[str, dict[str, float]]:
    """Correlation of each family of each view with its best prediction from what the mask leaves, in the source."""
    if mask not in MASKS:
        raise unknown("mask", mask, MASKS)
    if (reason := why_not(spec)) is not None:
        raise OutOfDomain(f"what a mask keeps has a closed form only where families are independent: {reason}.")
    return {view: {"c": _shared(spec, mask, view), "own": _own(spec, mask, view), "g": _nuisance(spec, mask),
                   "noise": 0.0} for view in STREAMS}


def _shared(spec: GaussianSpec, mask: str, view: str) -> float:
    """Of c: readings of this view first, then those of the other, by the Gaussian algebra of one coordinate."""
    m = spec.carriers("c")
    i, j = (spec.rel_ci, spec.rel_cc) if view == "image" else (spec.rel_cc, spec.rel_ci)
    if mask == "token":
        return _repeats(i, m)
    cov = np.kron([[1.0, spec.kappa_s], [spec.kappa_s, 1.0]], np.ones((m, m)))
    cov += np.diag(np.repeat([1 / i - 1, 1 / j - 1], m))
    cross = spec.eta_s * np.sqrt((1 / i - 1) * (1 / j - 1))
    cov[:m, m:] += cross * np.eye(m)
    cov[m:, :m] += cross * np.eye(m)
    if mask == "modality":
        one, two = np.linalg.pinv(cov[:m, :m]), np.linalg.pinv(cov[m:, m:])
        values = np.linalg.eigvals(one @ cov[:m, m:] @ two @ cov[m:, :m]).real
        return float(np.sqrt(np.clip(values.max(), 0, 1)))
    masked, rest = 0, np.arange(1, 2 * m)
    explained = cov[masked, rest] @ np.linalg.pinv(cov[np.ix_(rest, rest)]) @ cov[rest, masked]
    return float(np.sqrt(np.clip(explained / cov[masked, masked], 0, 1)))


def _own(spec: GaussianSpec, mask: str, view: str) -> float:
    """Of u in the image, v in the record: no other view shows it."""
    rel, factor = (spec.rel_u, "u") if view == "image" else (spec.rel_v, "v")
    return 0.0 if mask == "modality" else _repeats(rel, spec.carriers(factor))


def _nuisance(spec: GaussianSpec, mask: str) -> float:
    """The same number in every token that shows it."""
    return 1.0 if mask != "modality" and spec.carriers("g") > 1 else 0.0 if mask == "token" else abs(spec.nu)


def _repeats(rel: float, m: int) -> float:
    """Correlation of one reading with the mean of m - 1 others of the same factor."""
    return 0.0 if m == 1 else float(np.sqrt(rel / (1 + (1 / rel - 1) / (m - 1))))


def _auc(law: Moments, is_kept: dict[tuple[str, str], bool]) -> float:
    """The Bayes limit of all readings of the kept families."""
    names = {("image", "c"): "c_image", ("image", "own"): "u",
             ("clinical", "c"): "c_clinical", ("clinical", "own"): "v"}
    blocks = [law.blocks[name] for key, name in names.items() if is_kept[key]]
    rows: Int[np.ndarray, " r"] = np.sort(np.concatenate([np.arange(b.start, b.stop) for b in blocks])) if blocks else (
        np.zeros(0, np.int64))
    share: Float[np.ndarray, ""] | float = retained(only(law, rows)) if len(rows) else 0.0
    return float(auc(np.sqrt(share), law.prevalence_law))
