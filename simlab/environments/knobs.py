"""The knobs of the Gaussian-liability world, and the specification that they resolve to. Imports no array module.

Each knob has a name that explains itself and the short symbol that the equations use; either is accepted wherever a
knob is named. `spec(**knobs)` turns a choice of knobs into a complete, checked `GaussianSpec`, whose fields are the
symbols, so that code reads like the equations of docs/environments.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from simlab.errors import OutOfDomain, unknown


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


_UNIT = Interval(0, 1)
_RELIABILITY = Interval(0, 1, low_open=True)
_SLOPE = Interval(-1, 1)

GAUSSIAN_KNOBS: tuple[Knob, ...] = (
    # Dimensions
    Knob("dim_shared", "d_c", 4, Interval(1, 512, whole=True), (1, 32), "log", "source",
         "number of shared causes c, seen by both views"),
    Knob("dim_image", "d_u", 4, Interval(1, 512, whole=True), (1, 32), "log", "source",
         "number of causes u that only the image shows"),
    Knob("dim_clinical", "d_v", 4, Interval(1, 512, whole=True), (1, 32), "log", "source",
         "number of causes v that only the clinical record shows"),
    Knob("dim_nuisance", "d_g", 2, Interval(0, 512, whole=True), (0, 16), "linear", "source",
         "nuisance factors g in each view, irrelevant to the label, correlated nu between the views"),
    Knob("dim_noise_image", "d_ni", 20, Interval(0, 4096, whole=True), (0, 256), "linear", "source",
         "pure noise features of the image"),
    Knob("dim_noise_clinical", "d_nc", 20, Interval(0, 4096, whole=True), (0, 256), "linear", "source",
         "pure noise features of the clinical record"),
    # How well each view shows its causes, and what else the views share
    Knob("reliability_shared_image", "rel_ci", 0.8, _RELIABILITY, (0.1, 0.99), "linear", "source",
         "reliability 1/(1+sigma^2) of the shared causes in the image"),
    Knob("reliability_shared_clinical", "rel_cc", 0.8, _RELIABILITY, (0.1, 0.99), "linear", "source",
         "reliability of the shared causes in the clinical record"),
    Knob("reliability_image", "rel_u", 0.8, _RELIABILITY, (0.1, 0.99), "linear", "source",
         "reliability of the image-only causes"),
    Knob("reliability_clinical", "rel_v", 0.8, _RELIABILITY, (0.1, 0.99), "linear", "source",
         "reliability of the clinical-only causes"),
    Knob("coupling", "kappa_s", 1.0, Interval(-1, 1), (0, 1), "linear", "source",
         "how closely the clinical copy of the shared causes follows them: c_C = kappa c + sqrt(1-kappa^2) c'"),
    Knob("nuisance_correlation", "nu", 0.0, Interval(-1, 1, low_open=True, high_open=True), (0, 0.99), "linear",
         "source", "correlation of the nuisance between the views"),
    Knob("nuisance_amplitude", "alpha_g", 1.0, Interval(0, 1000, low_open=True), (0.1, 10), "log", "source",
         "standard deviation of the nuisance features as measured"),
    Knob("noise_amplitude", "alpha_n", 1.0, Interval(0, 1000, low_open=True), (0.1, 10), "log", "source",
         "standard deviation of the pure noise features as measured"),
    Knob("observation_map", "map", "linear", Choice(("identity", "linear", "mlp")), None, "choice", "source",
         "how measured coordinates become features: as they are, a random linear map, an invertible MLP"),
    Knob("condition_number", "condition", 1.0, Interval(1, 1000), (1, 1000), "log", "source",
         "condition number of the linear map (1: orthogonal), or of the layers of the MLP map together"),
    Knob("map_seed", "map_seed", None, Interval(0, 2**63 - 1, whole=True), None, "linear", "source",
         "which random map (default: drawn afresh for each seed)"),
    Knob("n_unlabelled", "n_unlab", 20_000, Interval(2, 10_000_000, whole=True), (500, 500_000), "log", "source",
         "unlabelled records for pretraining"),
    # The label
    Knob("signal_fraction", "h2", 0.7, Interval(0, 1, high_open=True), (0.1, 0.95), "linear", "labels",
         "share of the liability's variance that the causes explain"),
    Knob("prevalence", "prevalence", 0.3, Interval(0, 1, low_open=True, high_open=True), (0.03, 0.5), "linear",
         "labels", "share of positive records in the source hospital"),
    Knob("weight_shared", "w_c", 1 / 3, _UNIT, (0, 1), "linear", "labels",
         "share of the explained liability that the shared causes carry"),
    Knob("weight_image", "w_u", None, _UNIT, (0, 1), "linear", "labels",
         "share that the image-only causes carry (default: half of what w_c leaves)"),
    Knob("weight_clinical", "w_v", None, _UNIT, (0, 1), "linear", "labels",
         "share that the clinical-only causes carry (default: half of what w_c leaves)"),
    Knob("n_labelled", "n_lab", 300, Interval(2, 10_000_000, whole=True), (20, 20_000), "log", "labels",
         "every label an arm sees, those for tuning included"),
    # The target hospital
    Knob("coupling_external", "kappa_e", None, Interval(-1, 1), (-1, 1), "linear", "target",
         "coupling in the target hospital, 'proxy decoupling' (default: as in the source)"),
    Knob("slope_image_external", "delta_u_e", 1.0, _SLOPE, (-1, 1), "linear", "target",
         "slope of the liability on u in the target, as a multiple of the source's; the noise refills Var(l) = 1"),
    Knob("slope_clinical_external", "delta_v_e", 1.0, _SLOPE, (-1, 1), "linear", "target",
         "slope of the liability on v in the target, as a multiple of the source's; the noise refills Var(l) = 1"),
    Knob("slope_all_clinical_external", "delta_clin_e", None, _SLOPE, (-1, 1), "linear", "target",
         "shorthand: sets kappa_e and delta_v_e to this value"),
    Knob("nuisance_correlation_external", "nu_e", None, Interval(-1, 1, low_open=True, high_open=True), (0, 0.99),
         "linear", "target", "nuisance correlation in the target (default: as in the source)"),
    Knob("prevalence_external", "prevalence_e", None, Interval(0, 1, low_open=True, high_open=True), (0.03, 0.5),
         "linear", "target", "prevalence in the target (default: what follows from the other knobs)"),
    Knob("prevalence_kind", "prevalence_kind", "reweight", Choice(("reweight", "threshold")), None, "choice", "target",
         "how prevalence_e comes about: classes resampled (P(x|y) stays), or the threshold moved"),
    Knob("mean_external", "mu_e", 0.0, Interval(-5, 5), (-1.5, 1.5), "linear", "target",
         "shift of the mean of c, u and v along beta in the target; equations, noise and threshold stay"),
    Knob("scale_external", "tau_e", 1.0, Interval(0, 10, low_open=True), (0.5, 2), "log", "target",
         "standard deviation of c, u and v along beta in the target"),
)


@dataclass(frozen=True)
class GaussianSpec:
    """A complete Gaussian-liability world: every knob resolved, the fields named by their symbols.

    Built by `spec`, which checks; the target's fields hold the values that apply there, defaults filled in. Two may be
    None: `prevalence_e` (the target's prevalence then follows from the other knobs) and `map_seed` (each seed draws
    its own map). Equations: docs/environments.md.
    """

    d_c: int
    d_u: int
    d_v: int
    d_g: int
    d_ni: int
    d_nc: int
    rel_ci: float
    rel_cc: float
    rel_u: float
    rel_v: float
    kappa_s: float
    nu: float
    alpha_g: float
    alpha_n: float
    map: str
    condition: float
    map_seed: int | None
    n_unlab: int
    h2: float
    prevalence: float
    w_c: float
    w_u: float
    w_v: float
    n_lab: int
    kappa_e: float
    delta_u_e: float
    delta_v_e: float
    nu_e: float
    prevalence_e: float | None
    prevalence_kind: str
    mu_e: float
    tau_e: float

    @property
    def p_image(self) -> int:
        """Features of the image view: c, u, g, noise."""
        return self.d_c + self.d_u + self.d_g + self.d_ni

    @property
    def p_clinical(self) -> int:
        """Features of the clinical view: c, v, g, noise."""
        return self.d_c + self.d_v + self.d_g + self.d_nc

    def without_shift(self) -> GaussianSpec:
        """The same world with a target hospital like the source: what source cohorts depend on."""
        return replace(self, kappa_e=self.kappa_s, delta_u_e=1.0, delta_v_e=1.0, nu_e=self.nu, prevalence_e=None,
                       prevalence_kind="reweight", mu_e=0.0, tau_e=1.0)

    def stage(self, stage: str) -> dict[str, float | int | str | None]:
        """The fields that belong to one stage ("source", "labels" or "target"), by symbol."""
        names = {k.symbol for k in GAUSSIAN_KNOBS if k.stage == stage}
        return {key: value for key, value in asdict(self).items() if key in names}


def find(name: str, knobs: tuple[Knob, ...] = GAUSSIAN_KNOBS) -> Knob:
    """The knob of this name or symbol. Raises UnknownName with the nearest names."""
    for knob in knobs:
        if name in (knob.name, knob.symbol):
            return knob
    known = sorted({k.name for k in knobs} | {k.symbol for k in knobs})
    raise unknown("knob", name, known, "python -m simlab.limits --list shows all.")


def check(knob: Knob, value: object) -> float | int | str:
    """The value in the knob's own type. Raises OutOfDomain with the domain."""
    if value not in knob.domain:
        raise OutOfDomain(f"{_label(knob)} = {value!r} is outside its domain: {knob.domain}.")
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
        raise OutOfDomain(f"{_label(knob)} = {text!r} is not a number; its domain is {knob.domain}.") from None


def spec(values: Mapping[str, object] | None = None, /, **knobs: object) -> GaussianSpec:
    """The specification that these knobs (by name or symbol) resolve to; what is not given takes its default.

    Raises UnknownName for a knob that does not exist, OutOfDomain for a value outside its domain, weights that do not
    sum to one, a knob given twice, or knobs that contradict each other.
    """
    given: dict[str, float | int | str] = {}
    for key, value in {**(values or {}), **knobs}.items():
        knob = find(key)
        if knob.symbol in given:
            raise OutOfDomain(f"{_label(knob)} is given twice, by its name and by its symbol; give it once.")
        given[knob.symbol] = check(knob, value)
    _clinical_shorthand(given)
    full: dict[str, object] = {k.symbol: given.get(k.symbol, k.default) for k in GAUSSIAN_KNOBS}
    full.pop("delta_clin_e")
    full.update(zip(("w_c", "w_u", "w_v"), _weights(given), strict=True))
    if full["kappa_e"] is None:
        full["kappa_e"] = full["kappa_s"]
    if full["nu_e"] is None:
        full["nu_e"] = full["nu"]
    return GaussianSpec(**full)  # type: ignore[arg-type]


def _clinical_shorthand(given: dict[str, float | int | str]) -> None:
    """delta_clin_e = d sets kappa_e = d and delta_v_e = d (docs/environments.md); refuses a contradiction."""
    if "delta_clin_e" not in given:
        return
    d = given.pop("delta_clin_e")
    for symbol in ("kappa_e", "delta_v_e"):
        if given.setdefault(symbol, d) != d:
            raise OutOfDomain(f"delta_clin_e = {d:g} sets {symbol} = {d:g}, but {symbol} = {given[symbol]:g} is given "
                              "too; give one of them.")


def _weights(given: Mapping[str, float | int | str]) -> tuple[float, float, float]:
    """(w_c, w_u, w_v): what is not given shares equally what the given ones leave."""
    symbols = ("w_c", "w_u", "w_v")
    known = {s: float(given[s]) for s in symbols if s in given}
    if "w_c" not in known and len(known) < 2:
        known["w_c"] = 1 / 3 if not known else (1 - sum(known.values())) / 2
    rest, missing = 1 - sum(known.values()), [s for s in symbols if s not in known]
    if rest < -1e-9 or (not missing and abs(rest) > 1e-9):
        shown = " + ".join(f"{s} {v:g}" for s, v in known.items())
        raise OutOfDomain(f"the weights w_c, w_u, w_v must sum to one: {shown} = {1 - rest:g}.")
    share = max(rest, 0.0) / max(len(missing), 1)
    return tuple(known.get(s, share) for s in symbols)  # type: ignore[return-value]


def _label(knob: Knob) -> str:
    return f"knob {knob.symbol}" if knob.symbol == knob.name else f"knob {knob.symbol} ({knob.name})"


assert {f.name for f in fields(GaussianSpec)} == {k.symbol for k in GAUSSIAN_KNOBS} - {"delta_clin_e"}
