"""The knobs of the ICU world, and the specification that they resolve to. Imports no array module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from simlab.environments.knob import Choice, Interval, Knob, check
from simlab.environments.knobs import find
from simlab.errors import OutOfDomain

# One label a stay, and one an hour.
STAY_TASKS = ("hospital-mortality", "icu-mortality", "mortality-7d", "mortality-14d", "mortality-30d", "mortality-90d",
              "stay-over-7d", "sepsis", "mortality-at-24h")  # fmt: skip
HOUR_TASKS = ("decompensation", "respiratory-failure", "severe-respiratory-failure", "circulatory-failure",
              "kidney-failure", "severe-meld")  # fmt: skip
TASKS = (*STAY_TASKS, *HOUR_TASKS)
_SHARE = Interval(0, 1)

ICU_KNOBS: tuple[Knob, ...] = (
    # The stay and its hidden state
    Knob("hours", "max_hours", 72, Interval(24, 336, whole=True), (24, 168), "linear", "source",
         "hours of a stay that are kept; the stay itself may last 336"),
    Knob("persistence", "phi", 0.98, Interval(0, 0.999), (0.9, 0.99), "linear", "source",
         "hourly autocorrelation of the state, whose stationary covariance is the identity whatever it is"),
    Knob("coupling", "omega", 0.02, Interval(0, 0.5), (0, 0.1), "linear", "source",
         "how strongly organ systems drive each other: the state turns by so many radians an hour"),
    Knob("admission_severity", "mu_0", 0.5, Interval(-2, 3), (-1, 2), "linear", "source",
         "mean of every organ's state at admission (0 with regimes off: the state is stationary)"),
    Knob("frailty_slope", "g_f", 0.3, Interval(0, 0.9), (0, 0.8), "linear", "source",
         "slope of the admission state on frailty, which age and emergency admission show"),
    Knob("regimes", "regimes", "switching", Choice(("switching", "off")), None, "choice", "source",
         "stable, deteriorating and recovering as a hidden Markov chain, or none: a linear-Gaussian state"),
    Knob("deterioration_rate", "p_det", 0.008, Interval(0, 0.2), (0, 0.03), "linear", "source",
         "probability an hour that a stable patient begins to deteriorate"),
    Knob("regime_level", "level", 2.5, Interval(0, 6), (0, 4), "linear", "source",
         "level that a deteriorating patient's organs drift towards (a recovering one's: -0.8 times it)"),
    # Treatments
    Knob("treatment_effect", "tau", 1.5, Interval(0, 4), (0, 3), "linear", "source",
         "how far a treatment held on for ever lowers its organ's state, at dose 1"),
    Knob("policy_feedback", "lambda_p", 1.0, _SHARE, (0, 1), "linear", "source",
         "how far treatments follow the patient at all (0: they are given at random)"),
    Knob("confounding", "c_p", 0.0, _SHARE, (0, 1), "linear", "source",
         "weight of the hidden state in the policy, against what was last charted (0: that alone)"),
    # Measurement
    Knob("measurement_odds", "odds_m", 1.0, Interval(0, 20, low_open=True), (0.25, 4), "log", "source",
         "factor of the odds that a panel of measurements is taken in an hour"),
    Knob("informative_measurement", "iota", 1.0, Interval(0, 3), (0, 2), "linear", "source",
         "log odds of a laboratory panel per unit of the mean state: the sick are measured more (0: independent)"),
    Knob("missing_values", "p_miss", 0.05, Interval(0, 1, high_open=True), (0, 0.5), "linear", "source",
         "share of a taken panel's values that are missing at random"),
    Knob("measurement_noise", "noise", 1.0, Interval(0.1, 4), (0.5, 2), "log", "source",
         "factor of the standard deviation of every measurement's own noise"),
    Knob("selection", "sigma", 1.0, _SHARE, (0, 1), "linear", "source",
         "how far death and discharge follow the state (0: stays end whatever it is)"),
    Knob("raw_events", "events", "off", Choice(("off", "on")), None, "choice", "source",
         "raw readings and intervals beside the hours, and the course of each stay: what export needs"),
    Knob("n_unlabelled", "n_unlab", 1000, Interval(2, 10_000_000, whole=True), (100, 10_000), "log", "source",
         "unlabelled stays for pretraining"),
    # What becomes of them
    Knob("after_discharge", "gamma_d", 1.0, Interval(0, 3), (0, 2), "linear", "labels",
         "log hazard of death on the ward and at home per unit of the mean state on leaving intensive care"),
    Knob("n_labelled", "n_lab", 500, Interval(2, 10_000_000, whole=True), (100, 5000), "log", "labels",
         "labelled stays"),
    # The other hospital
    Knob("measurement_gap", "gap_m", 0.0, _SHARE, (0, 1), "linear", "target",
         "the target measures less, more where it is worried, and with analysers that are off (0: as the source)"),
    Knob("policy_gap", "gap_p", 0.0, _SHARE, (0, 1), "linear", "target",
         "the target treats later and harder (0: as the source)"),
    Knob("severity_gap", "gap_s", 0.0, _SHARE, (0, 1), "linear", "target",
         "the target's patients come sicker and deteriorate more (0: as the source)"),
)


@dataclass(frozen=True)
class IcuSpec:
    """A complete ICU world: every knob resolved, named by symbol. Built by `spec`, which checks."""

    max_hours: int
    phi: float
    omega: float
    mu_0: float
    g_f: float
    regimes: str
    p_det: float
    level: float
    tau: float
    lambda_p: float
    c_p: float
    odds_m: float
    iota: float
    p_miss: float
    noise: float
    sigma: float
    events: str
    n_unlab: int
    gamma_d: float
    n_lab: int
    gap_m: float
    gap_p: float
    gap_s: float
    map_seed: int | None = 0  # this world has no random map; every world's specification has the field

    @property
    def exact(self) -> bool:
        """Whether a Kalman filter is exact: no regimes, and neither treatments, masks nor ends tell of the state."""
        blind = self.lambda_p == 0 or self.c_p == 0
        return self.regimes == "off" and self.iota == 0 and self.sigma == 0 and blind

    @property
    def exact_forecast(self) -> bool:
        """Whether its forecast along the recorded treatments is exact too: they must not follow the patient."""
        return self.exact and self.lambda_p == 0

    def without_shift(self) -> IcuSpec:
        """The same world with a target like the source: what source cohorts depend on."""
        return replace(self, gap_m=0.0, gap_p=0.0, gap_s=0.0)

    def gaps(self, domain: str) -> tuple[float, float, float]:
        """(measurement, policy, severity) gap of "source" or "external"."""
        return (self.gap_m, self.gap_p, self.gap_s) if domain == "external" else (0.0, 0.0, 0.0)

    def stage(self, stage: str) -> dict[str, float | int | str | None]:
        """The fields that belong to one stage ("source", "labels" or "target"), by symbol."""
        names = {k.symbol for k in ICU_KNOBS if k.stage == stage}
        return {key: value for key, value in asdict(self).items() if key in names}


# The linear-Gaussian mode, in which filter and forecast are exact and the state is stationary.
LINEAR = {"regimes": "off", "mu_0": 0.0, "lambda_p": 0.0, "iota": 0.0, "sigma": 0.0}


def spec(values: Mapping[str, object] | None = None, /, **knobs: object) -> IcuSpec:
    """The specification of these knobs (by name or symbol). Raises UnknownName and OutOfDomain."""
    given: dict[str, object] = {}
    for key, value in {**(values or {}), **knobs}.items():
        knob = find(key, ICU_KNOBS)
        if knob.symbol in given:
            raise OutOfDomain(f"knob {knob.symbol} ({knob.name}) is given twice, by its name and by its symbol; give "
                              "it once.")
        given[knob.symbol] = check(knob, value)
    return IcuSpec(**{k.symbol: given.get(k.symbol, k.default) for k in ICU_KNOBS})  # type: ignore[arg-type]
