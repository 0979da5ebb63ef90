"""How a world's information lies in its two views, and what linear pretrainers will find there: read-outs, never knobs.

Three families of the literature on multimodal pretraining, exact for Gaussian worlds: the atoms of the partial
information decomposition (which report independent equal causes as redundancy and synergy, and so describe no
mechanism); the distance from conditional independence given the label, and of each view from both (what guarantees for
self-supervision are stated in); and the separation ratios that say when alignment and when prediction recovers the
shared causes. docs/theory.md, 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from simlab.limits.gaussian import Moments, solve
from simlab.limits.oracles import VIEWS, retained
from simlab.limits.subspace import whitener


@dataclass(frozen=True)
class Atoms:
    """Partial information about the liability, nats: the four add up to I(l; both views)."""

    redundancy: float
    unique_image: float
    unique_clinical: float
    synergy: float

    @property
    def interaction(self) -> float:
        """I(l; z_I) + I(l; z_C) - I(l; z) = redundancy - synergy; negative for independent causes."""
        return self.redundancy - self.synergy


def mmi(image: float, clinical: float, full: float) -> Atoms:
    """The minimum-mutual-information atoms of I(l; z_I), I(l; z_C), I(l; z), nats (infinite ones give infinite atoms).

    For a scalar Gaussian target every decomposition whose redundancy and unique parts depend only on the pairs (z_I, l)
    and (z_C, l), BROJA's among them, is this one (Barrett 2015).
    """
    redundancy, most = min(image, clinical), max(image, clinical)
    return Atoms(redundancy, image - redundancy, clinical - redundancy, full - most)


def dependence(law: Moments) -> dict[str, float]:
    """How far the views are from what guarantees for self-supervised learning assume (0: the assumption holds).

    `epsilon_ci_squared`: E |E[z_C | z_I] - E[E[z_C | l] | z_I]|^2 = |(S_CI - m_C m_I') S_II^(-1/2)|_F^2 in the clinical
    view's measured units, zero where the views are independent given the liability (Lee et al. 2021);
    `epsilon_ic_squared`: the same with the views exchanged. `epsilon_image`, `epsilon_clinical`: R*^2 - R^2 of the
    view, what it leaves unexplained of what both explain (Tosh et al. 2021, for a liability).
    """
    full, image, clinical = (retained(law, view) for view in VIEWS)
    return {
        "epsilon_ci_squared": _excess(law, law.image, law.clinical),
        "epsilon_ic_squared": _excess(law, law.clinical, law.image),
        "epsilon_image": full - image,
        "epsilon_clinical": full - clinical,
    }


def _excess(law: Moments, seen: slice, other: slice) -> float:
    """|(S_os - m_o m_s') S_ss^(-1/2)|_F^2 for the views `seen` (s) and `other` (o)."""
    m = law.standardised_cov
    excess: Float[np.ndarray, "o s"] = law.cov[other, seen] - np.outer(m[other], m[seen])
    return max(float(np.einsum("os,so->", excess, solve(law.cov[seen, seen], excess.T))), 0.0)


def separation(law: Moments) -> dict[str, float | str | None]:
    """Separation ratios of Kamai et al.: does alignment, does prediction find the shared causes c rather than nuisance?

    Nuisance is all that a view shows beside c. `rho`, `nu`: the least canonical correlation of c between the views, the
    largest of nuisance; `delta_ca` = rho/nu. `tau_image`, `xi_image`: the same of Cov(clinical, image)
    Var(image)^(-1/2), what the image is worth for predicting the record in its measured units; `delta_cp_image` =
    tau/xi; `_clinical` for the image predicted from the record. A learner of width d_c recovers c iff its ratio exceeds
    one. `regime_image`, `regime_clinical`: "both", "alignment only", "prediction only" or "neither". A ratio is None
    where no nuisance is shared (infinite).
    """
    image, clinical = _parts(law, "image"), _parts(law, "clinical")
    rho = float(_singular(law, image[0], clinical[0], True).min(initial=1.0))
    nu = float(_singular(law, image[1], clinical[1], True).max(initial=0.0))
    aligned = _ratio(rho, nu)
    out: dict[str, float | str | None] = {"rho": rho, "nu": nu, "delta_ca": _finite(aligned)}
    for encoder, seen, other in (("image", image, clinical), ("clinical", clinical, image)):
        tau = float(_singular(law, seen[0], other[0], False).min(initial=np.inf))
        xi = float(_singular(law, seen[1], other[1], False).max(initial=0.0))
        predicted = _ratio(tau, xi)
        out |= {f"tau_{encoder}": tau, f"xi_{encoder}": xi, f"delta_cp_{encoder}": _finite(predicted),
                f"regime_{encoder}": regime(aligned, predicted)}
    return out


def regime(delta_ca: float, delta_cp: float) -> str:
    """Which of alignment and prediction recovers the shared causes, by name."""
    names = {(True, True): "both", (True, False): "alignment only", (False, True): "prediction only"}
    return names.get((delta_ca > 1, delta_cp > 1), "neither")


def _parts(law: Moments, view: str) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " r"]]:
    """Coordinates of a view that show the shared causes, and its others, but for those correlated with nothing."""
    every = np.arange(law.p)
    causes = every[law.blocks[f"c_{view}"]]
    alone = np.count_nonzero(law.cov, axis=0) <= 1
    return causes, np.setdiff1d(every[law.blocks[view]], np.r_[causes, every[alone]])


def _singular(law: Moments, seen: Int[np.ndarray, " s"], other: Int[np.ndarray, " o"], both: bool) -> Float[
        np.ndarray, " q"]:
    """Singular values of Cov(other, seen) Var(seen)^(-1/2), the other side whitened as well if `both`."""
    if not len(seen) or not len(other):
        return np.zeros(0)
    cross = law.cov[np.ix_(other, seen)] @ whitener(law.cov[np.ix_(seen, seen)])
    if both:
        cross = whitener(law.cov[np.ix_(other, other)]).T @ cross
    values = np.linalg.svd(cross, compute_uv=False)
    return np.where(values > 1e-12 * np.sqrt(np.diag(law.cov)[other].max()), values, 0.0)


def _ratio(above: float, below: float) -> float:
    """above/below; infinite over zero, and zero for 0/0: nothing is there to be recovered."""
    if below > 0:
        return above / below
    return math.inf if above > 0 else 0.0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
