"""Persistence worlds: who outlasts whom decides which mask finds the causes. Presets as data; imports no array module.

After a two-visit experiment of four causes and twelve louder nuisance factors a view: causes and nuisance keep a share
alpha of themselves from visit to visit, here theta = -ln(alpha) at one visit a year. With independent causes a modality
mask has nothing to learn; a visit mask finds the causes where they outlast the nuisance, and the nuisance where that
lasts longer. `simlab.limits.persistence.kept` gives what each mask keeps, in closed form.
"""

from __future__ import annotations

import math

from simlab.environments.presets import Preset
from simlab.environments.visit_knobs import LongitudinalSpec, spec
from simlab.errors import unknown

_GONE = 25.0  # a rate at which next to nothing is left at the next visit (exp(-25))


def _world(causes: float, nuisance: float, shared: bool) -> dict[str, float]:
    """Knobs of a world whose causes and nuisance keep these shares of themselves from visit to visit (0: nothing)."""
    theta, theta_g = (-math.log(a) if a > 0 else _GONE for a in (causes, nuisance))
    signal: dict[str, float] = {"d_c": 1, "theta_c": _GONE, "kappa_s": 0.0, "w_c": 0.0, "w_u": 0.5, "w_v": 0.5,
                                "d_u": 4, "d_v": 4, "theta_u": theta, "theta_v": theta}
    if shared:
        signal = {"d_c": 4, "theta_c": theta, "w_c": 1.0, "d_u": 1, "d_v": 1, "theta_u": _GONE, "theta_v": _GONE}
    return {"n_visits": 2, "r_v": 1.0, "theta_g": abs(theta_g), "d_g": 12, "alpha_g": 2.0, "d_ni": 8, "d_nc": 8,
            "n_unlab": 4000, "n_lab": 120, **signal}


_CASES = (
    ("causes", 0.9, 0.0, "causes outlast nuisance that is drawn afresh at each visit"),
    ("causes-mild", 0.9, 0.5, "causes outlast nuisance"),
    ("level", 0.9, 0.9, "causes and nuisance last alike; measured with error, the causes look the faster"),
    ("nuisance", 0.5, 0.9, "nuisance outlasts causes"),
    ("static-nuisance", 0.9, 1.0, "nuisance never changes, as a scanner or a coding practice would not"),
)

PERSISTENCE: tuple[Preset, ...] = tuple(
    Preset(f"persistence-{name}{'-shared' if shared else ''}", _world(causes, nuisance, shared),
           f"{meaning}; {'all signal is shared' if shared else 'each view has causes of its own and shares none'}")
    for shared in (False, True)
    for name, causes, nuisance, meaning in _CASES
)


def from_preset(name: str, /, **knobs: object) -> LongitudinalSpec:
    """The specification of a persistence world, with knobs (by symbol) that override it. Raises UnknownName."""
    for one in PERSISTENCE:
        if one.name == name:
            return spec({**one.knobs, **knobs})
    raise unknown("persistence world", name, [p.name for p in PERSISTENCE])
