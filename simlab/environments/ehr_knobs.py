"""The knobs of the ehr world, and the specification that they resolve to. Imports no array module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from simlab.environments.knob import Interval, Knob
from simlab.environments.rendered_knobs import GAPS, base, build
from simlab.environments.visit_knobs import LongitudinalSpec

_DENSITY = Interval(0, 10)

EHR_OWN: tuple[Knob, ...] = (
    Knob("lab_share", "p_lab", 0.7, Interval(0, 1, low_open=True), (0.1, 1), "linear", "source",
         "share of the laboratory values that are taken at an encounter, each by its own coin"),
    Knob("codes", "n_codes", 12, Interval(0, 1000, whole=True), (0, 100), "linear", "source",
         "diagnosis codes that may be recorded"),
    Knob("drugs", "n_drugs", 6, Interval(0, 1000, whole=True), (0, 100), "linear", "source",
         "medications that may be recorded"),
    Knob("code_slope", "b_code", 0.0, Interval(0, 3), (0, 1.5), "linear", "source",
         "log rate of a code or drug per standard unit of the coordinate that it follows (0: codes are noise)"),
    Knob("code_density", "density", 1.0, _DENSITY, (0.1, 4), "linear", "source",
         "codes and drugs recorded, as a multiple of their base rates"),
    Knob("code_density_external", "density_e", None, _DENSITY, (0.1, 4), "linear", "target",
         "code density of the target (default: as in the source)"),
)
EHR_KNOBS: tuple[Knob, ...] = (
    *base((*GAPS, "tau_e"), times="poisson", n_visits=8, d_ni=8, d_nc=2, r_v=4.0, window=2.0, n_unlab=5000), *EHR_OWN,
)


@dataclass(frozen=True, kw_only=True)
class EhrSpec(LongitudinalSpec):
    """A complete ehr world: a longitudinal one, and how its clinical measurements become events. Built by `spec`."""

    p_lab: float
    n_codes: int
    n_drugs: int
    b_code: float
    density: float
    density_e: float

    measured_in: ClassVar[str] = "simlab.environments.ehr"  # the module whose `measure` limits are drawn with

    @property
    def exact(self) -> bool:
        """Whether codes say nothing that laboratory values do not, so that risk and limits are exact."""
        return self.p_lab == 1 or self.b_code == 0 or self.n_codes + self.n_drugs == 0

    def without_shift(self) -> EhrSpec:
        """The same world with a target hospital like the source: what source cohorts depend on."""
        return replace(super().without_shift(), density_e=self.density)  # type: ignore[return-value]

    def stage(self, stage: str) -> dict[str, float | int | str | None]:
        """The fields that belong to one stage ("source", "labels" or "target"), by symbol."""
        names = {k.symbol for k in EHR_KNOBS if k.stage == stage}
        return {key: value for key, value in asdict(self).items() if key in names}


def spec(values: Mapping[str, object] | None = None, /, **knobs: object) -> EhrSpec:
    """The specification of these knobs (by name or symbol). Raises UnknownName and OutOfDomain."""
    return build(EhrSpec, EHR_KNOBS, {**(values or {}), **knobs}, {"density_e": "density"})
