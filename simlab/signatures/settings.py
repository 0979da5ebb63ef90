"""What a fit of clinical signatures is made with, and what its channels are. Imports no array module."""

from __future__ import annotations

from dataclasses import dataclass

from simlab.errors import OutOfDomain


@dataclass(frozen=True)
class Channel:
    """One curve: the events of one code (measurements: in one unit)."""

    code: str
    unit: str
    kind: str  # "condition" | "measurement" | "medication"


@dataclass(frozen=True)
class Settings:
    """How curves are drawn and sources found. Raises OutOfDomain for a value that cannot be.

    An event with a value is a measurement; one without is a medication when its code begins with one of `medications`,
    else a condition.
    """

    signatures: int = 10
    day: float = 1.0  # a day in the unit of the events' times (1/365.25 where they are in years)
    window: int = 365  # days over which conditions and measurements are averaged
    least: int = 10  # events in a bin of an intensity
    decay: float = 365.0  # days in which a medication's indicator falls to 1/e
    records: int = 20  # training records that must show a channel
    per_year: float = 1.0  # cross-sections a training record gives, where no dates are named
    medications: tuple[str, ...] = ("MEDICATION//", "RX//", "DRUG//")
    iterations: int = 1000
    tolerance: float = 1e-4
    seed: int = 0  # of the first guess of the unmixing matrix
    strays: str = "refuse"  # or "drop": measurements of a fitted code in a unit that it was not fitted in

    def __post_init__(self) -> None:
        whole = ("signatures", "window", "least", "records", "iterations")
        for name in (*whole, "day", "decay", "per_year", "tolerance"):
            value = getattr(self, name)
            good = isinstance(value, int if name in whole else (int, float)) and not isinstance(value, bool)
            if not good or not 0 < value < float("inf"):
                kind = "a whole number above 0" if name in whole else "a number above 0"
                raise OutOfDomain(f"signatures: {name} = {value!r}: expected {kind}.")
        if self.strays not in ("refuse", "drop"):
            raise OutOfDomain(f"signatures: strays = {self.strays!r}: expected refuse or drop.")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise OutOfDomain(f"signatures: seed = {self.seed!r}: expected a whole number from 0 to 2^32 - 1.")
