"""What a knob is: its names, its domain, and how a value is checked or read from text. Imports no array module."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simlab.errors import OutOfDomain


@dataclass(frozen=True)
class Interval:
    """The reals between low and high; an open end is excluded. `whole` admits integers alone."""

    low: float | int
    high: float | int
    low_open: bool = False
    high_open: bool = False
    whole: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return False
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below and (not self.whole or float(value).is_integer())

    def __str__(self) -> str:
        left, right = "(" if self.low_open else "[", ")" if self.high_open else "]"
        return f"{'whole numbers in ' if self.whole else ''}{left}{self.low:g}, {self.high:g}{right}"


@dataclass(frozen=True)
class Choice:
    """A finite set of allowed words."""

    words: tuple[str, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.words

    def __str__(self) -> str:
        return "one of " + ", ".join(self.words)


@dataclass(frozen=True)
class Knob:
    """One thing about a world that a user may set.

    `domain` is where the equations hold (a value outside is refused); `sweep` is the default axis of a study. `stage`
    says what a change touches: the source data, the labels (and so nothing before them), or the target cohort alone.
    A default of None means that it follows from other knobs, as `meaning` says.
    """

    name: str
    symbol: str
    default: float | int | str | None
    domain: Interval | Choice
    sweep: tuple[float | int, float | int] | None
    scale: str  # "linear" | "log" | "choice"
    stage: str  # "source" | "labels" | "target"
    meaning: str


def check(knob: Knob, value: object) -> float | int | str:
    """The value in the knob's own type. Raises OutOfDomain with the domain."""
    if value not in knob.domain:
        raise OutOfDomain(f"{label(knob)} = {value!r} is outside its domain: {knob.domain}.")
    if isinstance(knob.domain, Choice):
        return str(value)
    return int(value) if knob.domain.whole else float(value)  # type: ignore[call-overload]


def parse(knob: Knob, text: str) -> float | int | str:
    """A knob's value from the command line's text. Raises OutOfDomain for what is no number, or outside the domain."""
    if isinstance(knob.domain, Choice):
        return check(knob, text)
    try:
        return check(knob, float(text))
    except ValueError:
        raise OutOfDomain(f"{label(knob)} = {text!r} is not a number; its domain is {knob.domain}.") from None


def label(knob: Knob) -> str:
    """How an error names a knob: its symbol, and its name where that differs."""
    return f"knob {knob.symbol}" if knob.symbol == knob.name else f"knob {knob.symbol} ({knob.name})"
