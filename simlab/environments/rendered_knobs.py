"""What the rendered worlds share: the longitudinal world's knobs that hold in them, and how a specification is built.

A rendered world is the longitudinal world (docs/visits.md) whose measurements are shown as something else: volumes,
events. Which of its knobs a world keeps depends on what its risk can account for (docs/rendered.md). Imports no array
module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TypeVar

from simlab.environments import visit_knobs
from simlab.environments.knob import Knob, check
from simlab.environments.knobs import find
from simlab.environments.visit_knobs import LONGITUDINAL_KNOBS, LongitudinalSpec
from simlab.errors import OutOfDomain

# Gaps of whole measurements: where single values are taken or not, that world's own knobs say which.
GAPS = ("p_miss", "missing_in", "gamma_1", "gamma_2", "gamma_3", "gaps", "p_miss_e")

Spec = TypeVar("Spec", bound=LongitudinalSpec)


def base(without: tuple[str, ...], **defaults: float | int | str) -> tuple[Knob, ...]:
    """The longitudinal world's knobs but for those `without`, with these defaults (both by symbol)."""
    kept = tuple(k for k in LONGITUDINAL_KNOBS if k.symbol not in without)
    assert defaults.keys() <= {k.symbol for k in kept}
    return tuple(replace(k, default=defaults[k.symbol]) if k.symbol in defaults else k for k in kept)


def build(
    kind: type[Spec], knobs: tuple[Knob, ...], values: Mapping[str, object], follow: Mapping[str, str]
) -> Spec:
    """The specification of class `kind` that these knobs (by name or symbol) resolve to.

    `follow`: target knobs that take a source knob's value where they are not given. Raises UnknownName for a knob that
    does not exist, OutOfDomain for a value outside its domain, a knob given twice, or a contradiction.
    """
    given: dict[str, object] = {}
    for key, value in values.items():
        knob = find(key, knobs)
        if knob.symbol in given:
            raise OutOfDomain(f"knob {knob.symbol} ({knob.name}) is given twice, by its name and by its symbol; give "
                              "it once.")
        given[knob.symbol] = check(knob, value)
    known = {k.symbol: k for k in LONGITUDINAL_KNOBS}
    changed = {k.symbol: k.default for k in knobs if k.symbol in known and k.default != known[k.symbol].default}
    under = visit_knobs.spec({**changed, **{key: value for key, value in given.items() if key in known}})
    own = {k.symbol: given.get(k.symbol, k.default) for k in knobs if k.symbol not in known}
    own.update({target: own[source] for target, source in follow.items() if own[target] is None})
    return kind(**{f.name: getattr(under, f.name) for f in fields(LongitudinalSpec)}, **own)
