"""The knobs of the simulated hospital, and the specification that they resolve to. Imports no array module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from simlab.environments.ehr_knobs import EHR_OWN, EhrSpec
from simlab.environments.knob import Interval, Knob
from simlab.environments.nodule_knobs import AS_SOURCE, NODULE_OWN, NoduleSpec, check_driven
from simlab.environments.rendered_knobs import GAPS, base, build

HOSPITAL_OWN: tuple[Knob, ...] = (
    Knob("archived_share", "p_scan", 0.8, Interval(0, 1), (0.2, 1), "linear", "source",
         "share of the earlier scans whose images were kept, each by its own coin; the last one always is"),
)
HOSPITAL_KNOBS: tuple[Knob, ...] = (
    *base((*GAPS, "tau_e", "gamma_obs"), times="poisson", n_visits=4, d_ni=2, d_nc=2, r_v=2.0, window=4.0, n_unlab=500,
          map="identity"),
    *NODULE_OWN, *EHR_OWN, *HOSPITAL_OWN,
)


@dataclass(frozen=True, kw_only=True)
class HospitalSpec(NoduleSpec, EhrSpec):
    """A complete simulated hospital: scans as in the nodules world, events as in the ehr world. Built by `spec`."""

    p_scan: float

    measured_in: ClassVar[str] = "simlab.environments.hospital"

    @property
    def exact(self) -> bool:
        """Whether risk and limits are exact: clean scans, and codes that say nothing that laboratory values do not."""
        return self.clean and EhrSpec.exact.fget(self)  # type: ignore[attr-defined]

    def stage(self, stage: str) -> dict[str, float | int | str | None]:
        """The fields that belong to one stage ("source", "labels" or "target"), by symbol."""
        names = {k.symbol for k in HOSPITAL_KNOBS if k.stage == stage}
        return {key: value for key, value in vars(self).items() if key in names}


def spec(values: Mapping[str, object] | None = None, /, **knobs: object) -> HospitalSpec:
    """The specification of these knobs (by name or symbol). Raises UnknownName and OutOfDomain."""
    made = build(HospitalSpec, HOSPITAL_KNOBS, {**(values or {}), **knobs}, {**AS_SOURCE, "density_e": "density"})
    return check_driven(made)
