"""One mechanism at a time: a `li2025-*` preset at home, and a target hospital that differs from it in one way.

    mechanism   what differs in the target, by a strength s in [0, 1]; at s = 0 nothing does (`MECHANISMS`)
    world       the Gaussian-liability world of the preset; a target without some records: the longitudinal world at
                one visit, whose law is the same

A specification is a plain one of those worlds: preset, mechanism and strength are resolved into their knobs, so that
cells which do not differ at home share data, encoders and fits. The world is no default one: a study registers it with
`plugins = ["li2025_world.py"]`. Imports no array module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from simlab.environments import knobs as one_visit
from simlab.environments.knob import Choice, Interval, Knob, check
from simlab.environments.knobs import GAUSSIAN_KNOBS, GaussianSpec, find
from simlab.environments.presets import PRESETS, beside, preset
from simlab.environments.registry import World
from simlab.environments.visit_knobs import VISIT_KNOBS, LongitudinalSpec
from simlab.errors import OutOfDomain, unknown

DOMAINS = ("source", "external")
Value = float | int | str


@dataclass(frozen=True)
class Mechanism:
    """A way in which the target differs: knobs from their value at strength 0 to that at strength 1, in proportion.

    `fixed`: knobs that go with it at any strength; those of the source stage change the home hospital too.
    """

    name: str
    meaning: str
    moved: Mapping[str, tuple[float, float]]
    fixed: Mapping[str, Value]

    def at(self, strength: float) -> dict[str, Value]:
        """The knobs of this mechanism at a strength."""
        moved = {symbol: start + (end - start) * strength for symbol, (start, end) in self.moved.items()}
        return {**self.fixed, **moved}


MECHANISMS: dict[str, Mechanism] = {m.name: m for m in (
    Mechanism("clinical-slope", "the outcome's slope on the clinical-only causes is 1 - s of what it was",
              {"delta_v_e": (1, 0)}, {}),
    Mechanism("all-clinical-slope", "the outcome's slope on all clinical evidence is 1 - s of what it was",
              {"delta_clin_e": (1, 0)}, {}),
    Mechanism("decoupling", "the record follows the shared causes with a correlation of 1 - s",
              {"kappa_e": (1, 0)}, {}),
    Mechanism("coupling", "the views' measurement errors are correlated .9 s; each view by itself is as it was",
              {"eta_e": (0, 0.9)}, {}),
    Mechanism("site", "the record shows the hospital: correlation with the outcome .25 at home, .25 (1 - 2 s) outside",
              {"rho_s_e": (0.25, -0.25)}, {"n_sites": 5, "site_shown": "clinical", "rho_s": 0.25}),
    Mechanism("acquisition-image", "image coordinates are turned into each other by 1.5 s radians",
              {"mix_e": (0, 1.5)}, {"acquired": "image"}),
    Mechanism("acquisition-record", "the record's coordinates are turned into each other by 1.5 s radians",
              {"mix_e": (0, 1.5)}, {"acquired": "clinical"}),
    Mechanism("missingness", "a share of .9 s of the clinical records is not there", {"p_miss_e": (0, 0.9)}, {}),
)}
_NAMES = tuple(p.name for p in PRESETS if p.name.startswith("li2025-"))
KNOBS: tuple[Knob, ...] = (
    Knob("preset", "preset", "li2025-trained-mixed", Choice(_NAMES), None, "choice", "source",
         "the home hospital: one of the presets calibrated to published AUCs"),
    Knob("mechanism", "mechanism", "clinical-slope", Choice(tuple(MECHANISMS)), None, "choice", "source",
         "what differs in the target (a site effect is there at home too)"),
    Knob("strength", "strength", 0.0, Interval(0, 1), (0, 1), "linear", "target",
         "how much: 0 nothing, 1 the most that the mechanism stands for"),
    *GAUSSIAN_KNOBS,
    *(k for k in VISIT_KNOBS if k.symbol == "p_miss_e"),
)


def spec(values: Mapping[str, object] | None = None, /, **given: object) -> LongitudinalSpec:
    """The specification of a preset, a mechanism and a strength, with knobs (by name or symbol) that override the
    preset's. Raises UnknownName, OutOfDomain; a knob that the mechanism moves cannot be given."""
    chosen: dict[str, Any] = {"preset": KNOBS[0].default, "mechanism": KNOBS[1].default, "strength": 0.0}
    own: dict[str, object] = {}
    for key, value in {**(values or {}), **given}.items():
        knob = find(key, KNOBS)
        if knob.symbol in own:
            raise OutOfDomain(f"knob {knob.symbol} ({knob.name}) is given twice, by its name and by its symbol; give "
                              "it once.")
        own[knob.symbol] = check(knob, value)
    chosen |= {key: own.pop(key) for key in tuple(chosen) if key in own}
    shift = MECHANISMS[chosen["mechanism"]].at(chosen["strength"])
    twice = sorted(set(shift) & set(own))
    if twice:
        raise OutOfDomain(f"mechanism {chosen['mechanism']} sets {', '.join(twice)}; leave it out, or choose another.")
    gaps = shift.pop("p_miss_e", own.pop("p_miss_e", 0.0))
    base = one_visit.spec({**beside(preset(chosen["preset"]), own), **own, **shift})
    visits = {k.symbol: k.default for k in VISIT_KNOBS} | {"n_visits": 1, "p_miss_e": gaps or 0.0}
    return LongitudinalSpec(**{f.name: getattr(base, f.name) for f in fields(GaussianSpec)}, **visits)


def _beneath(spec: LongitudinalSpec, domain: str) -> Any:
    """The world that draws a domain's records: that of gaps where records are missing."""
    from simlab.environments import gaussian, visits

    return visits if domain == "external" and spec.p_miss_e > 0 else gaussian


class _Module:
    """What `World` asks of a world's module."""

    DOMAINS = DOMAINS

    @staticmethod
    def sample_factors(n: int, spec: LongitudinalSpec, domain: str, rng: Any) -> Any:
        if domain not in DOMAINS:
            raise unknown("domain", domain, DOMAINS)
        return _beneath(spec, domain).sample_factors(n, spec, domain, rng)

    @staticmethod
    def observe(factors: Any, spec: LongitudinalSpec, domain: str, rng: Any, **options: Any) -> Any:
        return _beneath(spec, domain).observe(factors, spec, domain, rng, **options)

    @staticmethod
    def limit(spec: LongitudinalSpec, domain: str, view: str) -> float:
        return _beneath(spec, domain).limit(spec, domain, view)

    @staticmethod
    def limits(spec: LongitudinalSpec) -> Any:
        return _beneath(spec, "source").limits(spec)


WORLD = World("one-mechanism", KNOBS, spec, _Module())
