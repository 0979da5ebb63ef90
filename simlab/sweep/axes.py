"""Reading `[axes]`: which knobs a study sweeps, and over which values or range. Imports no array module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from simlab.environments import knobs
from simlab.environments.knobs import Choice, Interval, Knob
from simlab.errors import InvalidStudy
from simlab.sweep import fields
from simlab.sweep.schema import Axis, Value

# Values of a range among which a search for the boundary chooses: few where each costs pretrainings.
RESOLUTION = {"source": 9, "": 33}


def read(raw: Mapping[str, Any], fixed: Mapping[str, Value], known: tuple[Knob, ...], kind: str) -> tuple[Axis, ...]:
    """The axes of a design of this kind, each checked. Raises InvalidStudy, UnknownName or OutOfDomain."""
    if not raw:
        raise InvalidStudy("[axes] is empty: name at least one knob to sweep, as in n_labelled = [100, 300, 1000].")
    axes = tuple(_axis(name, value, knobs.find(name, known), kind) for name, value in raw.items())
    refuse_twice({axis.name: axis.symbol for axis in axes}, "[axes]")
    both = {axis.symbol for axis in axes} & {knobs.find(key, known).symbol for key in fixed}
    if both:
        raise InvalidStudy(f"knob {sorted(both)[0]} stands in [axes] and in [world.knobs]; leave it in one of them.")
    return axes


def _axis(name: str, raw: object, knob: Knob, kind: str) -> Axis:
    """One axis from a list, {values = [...]} or a range {low, high, scale}, with n in a grid."""
    key = f"axes.{name}"
    if isinstance(raw, Mapping):
        fields.known_keys(raw, ("values", "low", "high", "n", "scale"), f"[{key}]")
        scale = fields.checked(raw.get("scale", knob.scale), Choice(("linear", "log", "choice")), f"{key}.scale")
        if "values" in raw and len(set(raw) - {"scale"}) > 1:
            raise InvalidStudy(f"[{key}] gives values and a range; give one of them.")
        if kind == "sobol" and "values" not in raw:
            return _range(name, raw, scale, knob)
        if kind == "boundary" and "values" not in raw and "n" not in raw:  # a range: among how many of its values
            raw = {**raw, "n": RESOLUTION["source" if knob.stage == "source" else ""]}
            values = list(dict.fromkeys(_spread(raw, scale, key, knob)))  # a short range of whole numbers has fewer
        else:
            values = raw["values"] if "values" in raw else _spread(raw, scale, key, knob)
    else:
        scale, values = knob.scale, raw
    if not isinstance(values, (list, tuple)) or not values:
        raise InvalidStudy(f"{key} = {values!r}: expected a list of values, or {{low, high, n, scale}}.")
    typed = tuple(knobs.check(knob, value) for value in values)
    if len(set(typed)) < len(typed):
        raise InvalidStudy(f"{key} has the same value twice: {', '.join(map(str, typed))}.")
    if scale == "log" and any(isinstance(v, str) or v <= 0 for v in typed):
        scale = "linear"  # a value at or below zero has no logarithm
    return Axis(name, typed, scale, knob.symbol, knob.stage)


def _spread(raw: Mapping[str, Any], scale: str, key: str, knob: Knob) -> list[float | int]:
    """n values from low to high, evenly spaced on the scale; whole-valued knobs are rounded."""
    missing = [k for k in ("low", "high", "n") if k not in raw]
    if missing or isinstance(knob.domain, Choice):
        raise InvalidStudy(f"[{key}] needs values = [...]" + ("." if isinstance(knob.domain, Choice) else
                           f", or low, high and n ({', '.join(missing)} missing)."))
    low, high = _ends(raw, scale, key)
    n = fields.checked(raw["n"], Interval(2, 10_000, whole=True), f"{key}.n")
    steps = [i / (n - 1) for i in range(n)]
    if scale == "log":
        values = [math.exp((1 - t) * math.log(low) + t * math.log(high)) for t in steps]
    else:
        values = [(1 - t) * low + t * high for t in steps]
    values = [low, *values[1:-1], high]
    return [round(v) if knob.domain.whole else float(f"{v:.10g}") for v in values]


def _range(name: str, raw: Mapping[str, Any], scale: str, knob: Knob) -> Axis:
    """An axis on which a point may lie anywhere between its ends."""
    key = f"axes.{name}"
    if isinstance(knob.domain, Choice) or scale == "choice":
        raise InvalidStudy(f"[{key}] needs values = [...].")
    if "n" in raw:
        raise InvalidStudy(f"[{key}] n is a grid's; a sobol design has design.cells points between low and high.")
    missing = [k for k in ("low", "high") if k not in raw]
    if missing:
        raise InvalidStudy(f"[{key}] needs values = [...], or low and high ({', '.join(missing)} missing).")
    ends = tuple(knobs.check(knob, end) for end in _ends(raw, scale, key))
    return Axis(name, ends, scale, knob.symbol, knob.stage, continuous=True)


def _ends(raw: Mapping[str, Any], scale: str, key: str) -> tuple[float, float]:
    low, high = (fields.checked(raw[k], Interval(-math.inf, math.inf), f"{key}.{k}") for k in ("low", "high"))
    if not low < high or (scale == "log" and low <= 0):
        raise InvalidStudy(f"[{key}] low = {low:g}, high = {high:g}: expected low < high"
                           f"{' and low > 0 on a log scale' if scale == 'log' else ''}.")
    return low, high


def refuse_twice(symbols: Mapping[str, str], where: str) -> None:
    """Refuse two names (as written) of one symbol."""
    seen: dict[str, str] = {}
    for name, symbol in symbols.items():
        if symbol in seen:
            raise InvalidStudy(f"{where} names one knob twice: {seen[symbol]} and {name}.")
        seen[symbol] = name
