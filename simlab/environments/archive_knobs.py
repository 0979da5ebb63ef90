"""The knobs of the archive world, and the specification that they resolve to. Imports no array module.

The archive world is the longitudinal world at regular visits with everything measured (docs/visits.md, "The archive
world"): unlabelled records with both streams, few labelled ones with both, and further labelled ones whose clinical
record was never collected. Times and gaps say nothing of the illness, so what shapes the liability belongs to the
labels: one pretraining serves every weight of the causes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from simlab.environments.knob import Interval, Knob
from simlab.environments.rendered_knobs import GAPS, base, build
from simlab.environments.visit_knobs import LongitudinalSpec
from simlab.errors import OutOfDomain

_IRREGULAR = ("times", "window", "b_h", "omega_h", "gamma_obs")
_SHORTCUT = ("shortcut", "lambda_s", "lambda_e", "shortcut_kind")
_RATES = ("theta_c", "theta_u", "theta_v", "theta_g")
_LABELS = ("h2", "w_c", "w_u", "w_v")
FASTEST = 100.0  # the highest rate of the longitudinal world, a year

ARCHIVE_OWN: tuple[Knob, ...] = (
    Knob("cause_persistence", "alpha_cause", 0.9, Interval(0, 1), (0.1, 1), "linear", "source",
         "share of themselves that causes keep from visit to visit: theta = -ln(alpha) r_v; 0: nothing"),
    Knob("nuisance_persistence", "alpha_nuis", 0.5, Interval(0, 1), (0, 1), "linear", "source",
         "share of itself that the nuisance keeps from visit to visit; 1: one value for life"),
    Knob("n_incomplete", "n_inc", 1500, Interval(0, 10_000_000, whole=True), (100, 10_000), "log", "labels",
         "further labelled records, whose clinical record was never collected; not counted in n_labelled"),
)
ARCHIVE_KNOBS: tuple[Knob, ...] = (
    *(replace(k, stage="labels") if k.symbol in _LABELS else k for k in base(
        (*GAPS, *_IRREGULAR, *_SHORTCUT, *_RATES), n_visits=2, r_v=1.0, d_g=12, alpha_g=2.0, d_ni=8, d_nc=8,
        n_unlab=4000, n_lab=120)),
    *ARCHIVE_OWN,
)


@dataclass(frozen=True, kw_only=True)
class ArchiveSpec(LongitudinalSpec):
    """A complete archive world: a longitudinal one, and how many labelled records lack the clinical stream."""

    alpha_cause: float
    alpha_nuis: float
    n_inc: int

    def stage(self, stage: str) -> dict[str, float | int | str | None]:
        """The fields that belong to one stage ("source", "labels" or "target"), by symbol."""
        names = {k.symbol for k in ARCHIVE_KNOBS if k.stage == stage}
        return {key: value for key, value in vars(self).items() if key in names}


def spec(values: Mapping[str, object] | None = None, /, **knobs: object) -> ArchiveSpec:
    """The specification of these knobs (by name or symbol). Raises UnknownName and OutOfDomain."""
    made = build(ArchiveSpec, ARCHIVE_KNOBS, {**(values or {}), **knobs}, {})
    causes, nuisance = (_rate(getattr(made, name), made.r_v, name) for name in ("alpha_cause", "alpha_nuis"))
    return replace(made, theta_c=causes, theta_u=causes, theta_v=causes, theta_g=nuisance)


def _rate(alpha: float, visits_a_year: float, name: str) -> float:
    """The rate, a year, at which a factor keeps `alpha` of itself from visit to visit; 0: the highest there is."""
    rate = -math.log(alpha) * visits_a_year if alpha > 0 else FASTEST
    if rate > FASTEST or (alpha == 0 and math.exp(-FASTEST / visits_a_year) > 1e-3):
        raise OutOfDomain(f"{name} = {alpha:g} with r_v = {visits_a_year:g} visits a year asks for a rate above "
                          f"{FASTEST:g} a year; raise {name}, or lower r_v.")
    return max(rate, 0.0)
