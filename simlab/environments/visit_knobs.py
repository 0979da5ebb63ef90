"""The knobs of the longitudinal world, and the specification that they resolve to. Imports no array module.

It reuses the Gaussian-liability world's knobs, by name and symbol, for everything that holds at one visit, and adds
those of time and of what is missing (docs/visits.md). The knobs that shape the liability count as source knobs here:
visit times and gaps may depend on the liability, so that what an encoder is pretrained on moves with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from simlab.environments import knobs as one_visit
from simlab.environments.knob import Choice, Interval, Knob, check
from simlab.environments.knobs import GAUSSIAN_KNOBS, GaussianSpec, find
from simlab.errors import OutOfDomain

_REUSED = ("d_c", "d_u", "d_v", "d_g", "d_ni", "d_nc", "rel_ci", "rel_cc", "rel_u", "rel_v", "kappa_s", "nu", "alpha_g",
           "alpha_n", "shortcut", "lambda_s", "map", "condition", "map_seed", "n_unlab", "h2", "prevalence",
           "w_c", "w_u", "w_v", "n_lab",
           "kappa_e", "delta_u_e", "delta_v_e", "delta_clin_e", "nu_e", "prevalence_e", "prevalence_kind", "mu_e",
           "tau_e", "lambda_e")
_LIABILITY = ("h2", "w_c", "w_u", "w_v")

_RATE = Interval(0, 100)
_GAMMA = Interval(-3, 3)
_SHARE = Interval(0, 1, high_open=True)

VISIT_KNOBS: tuple[Knob, ...] = (
    # How causes and nuisance move
    Knob("drift_shared", "theta_c", 0.3, _RATE, (0.01, 10), "log", "source",
         "rate of the shared causes c, a year: corr(c(s), c(t)) = exp(-theta |s-t|); 0 is static"),
    Knob("drift_image", "theta_u", 0.3, _RATE, (0.01, 10), "log", "source", "rate of the image-only causes u, a year"),
    Knob("drift_clinical", "theta_v", 0.3, _RATE, (0.01, 10), "log", "source",
         "rate of the clinical-only causes v, a year"),
    Knob("drift_nuisance", "theta_g", 0.0, _RATE, (0.01, 10), "log", "source",
         "rate of the nuisance g in both views, a year; 0: one value for life"),
    # When patients come
    Knob("visits", "n_visits", 4, Interval(1, 64, whole=True), (1, 16), "linear", "source",
         "visits of a record: their number at regular times, the most at irregular ones (follow-up stops there)"),
    Knob("visit_times", "times", "regular", Choice(("regular", "poisson", "hawkes")), None, "choice", "source",
         "when visits are: evenly spaced, a Poisson process after the first visit, or a self-exciting (Hawkes) one"),
    Knob("visit_rate", "r_v", 2.0, Interval(0, 1000, low_open=True), (0.2, 24), "log", "source",
         "visits a year: their spacing is 1/r_v, or their long-run mean rate"),
    Knob("window", "window", 5.0, Interval(0, 1000, low_open=True), (1, 10), "linear", "source",
         "years of follow-up after the first visit (irregular times alone)"),
    Knob("branching", "b_h", 0.0, Interval(0, 0.95), (0, 0.8), "linear", "source",
         "further visits that a visit brings about, in the mean (Hawkes times alone)"),
    Knob("branching_decay", "omega_h", 12.0, Interval(0, 1000, low_open=True), (1, 50), "log", "source",
         "rate at which the excitation that a visit leaves fades, a year (Hawkes times alone)"),
    Knob("informative_sampling", "gamma_obs", 0.0, Interval(-2, 2), (-1, 1), "linear", "source",
         "log visit rate per unit of liability (irregular times alone): the sick come more often"),
    Knob("shortcut_kind", "shortcut_kind", "static", Choice(("static", "per_visit")), None, "choice", "source",
         "whether a shortcut is one number for life or has noise of its own at each visit"),
    # What is missing
    Knob("missing_share", "p_miss", 0.0, _SHARE, (0, 0.9), "linear", "source",
         "share of the visits at which a stream that can be missing is missing"),
    Knob("missing_stream", "missing_in", "clinical", Choice(("clinical", "image", "both")), None, "choice", "source",
         "the streams that can be missing"),
    Knob("missing_by_other", "gamma_1", 0.0, _GAMMA, (-2, 2), "linear", "source",
         "weight of the other view's evidence in the selection index: missing at random while that view is shown"),
    Knob("missing_by_own", "gamma_2", 0.0, _GAMMA, (-2, 2), "linear", "source",
         "weight of the view's own evidence in the selection index: missing not at random"),
    Knob("missing_by_liability", "gamma_3", 0.0, _GAMMA, (-2, 2), "linear", "source",
         "weight of the liability in the selection index: missing not at random"),
    Knob("gaps", "gaps", "masked", Choice(("masked", "zero_filled")), None, "choice", "source",
         "how a missing measurement is presented: as unobserved, or as zeros that count as observed"),
    Knob("missing_share_external", "p_miss_e", None, _SHARE, (0, 0.9), "linear", "target",
         "p_miss in the target, before its classes are resampled (default: as in the source)"),
)

LONGITUDINAL_KNOBS: tuple[Knob, ...] = (
    *(replace(k, stage="source") if k.symbol in _LIABILITY else k for k in GAUSSIAN_KNOBS if k.symbol in _REUSED),
    *VISIT_KNOBS,
)


@dataclass(frozen=True, kw_only=True)
class LongitudinalSpec(GaussianSpec):
    """A complete longitudinal world: a Gaussian-liability world for each visit, and how visits and gaps arise.

    Built by `spec`, which checks. What the one-visit world has and this one does not stands at its default.
    """

    theta_c: float
    theta_u: float
    theta_v: float
    theta_g: float
    n_visits: int
    times: str
    r_v: float
    window: float
    b_h: float
    omega_h: float
    gamma_obs: float
    shortcut_kind: str
    p_miss: float
    missing_in: str
    gamma_1: float
    gamma_2: float
    gamma_3: float
    gaps: str
    p_miss_e: float

    def without_shift(self) -> LongitudinalSpec:
        """The same world with a target hospital like the source: what source cohorts depend on."""
        return replace(super().without_shift(), p_miss_e=self.p_miss)  # type: ignore[return-value]

    def stage(self, stage: str) -> dict[str, float | int | str | None]:
        """The fields that belong to one stage ("source", "labels" or "target"), by symbol."""
        names = {k.symbol for k in LONGITUDINAL_KNOBS if k.stage == stage}
        return {key: value for key, value in vars(self).items() if key in names}

    def along(self) -> LongitudinalSpec:
        """The same world with one cause of each kind and nothing else: the law of all that bears on the label."""
        return replace(self, d_c=1, d_u=1, d_v=1, d_g=0, d_ni=0, d_nc=0, map="identity", condition=1.0, map_seed=0)

    @property
    def gappy(self) -> bool:
        """Whether a measurement can be missing, in either hospital."""
        return self.p_miss > 0 or self.p_miss_e > 0


def spec(values: Mapping[str, object] | None = None, /, **knobs: object) -> LongitudinalSpec:
    """The specification that these knobs (by name or symbol) resolve to; what is not given takes its default.

    Raises UnknownName for a knob that does not exist, OutOfDomain for a value outside its domain, a knob given twice,
    or knobs that contradict each other (with the condition that fails).
    """
    given: dict[str, float | int | str] = {}
    for key, value in {**(values or {}), **knobs}.items():
        knob = find(key, LONGITUDINAL_KNOBS)
        if knob.symbol in given:
            raise OutOfDomain(f"knob {knob.symbol} ({knob.name}) is given twice, by its name and by its symbol; give "
                              "it once.")
        given[knob.symbol] = check(knob, value)
    base = one_visit.spec({symbol: value for symbol, value in given.items() if symbol in _REUSED})
    own: dict[str, object] = {k.symbol: given.get(k.symbol, k.default) for k in VISIT_KNOBS}
    if own["p_miss_e"] is None:
        own["p_miss_e"] = own["p_miss"]
    made = LongitudinalSpec(**{f.name: getattr(base, f.name) for f in fields(GaussianSpec)},
                            **own)  # type: ignore[arg-type]
    _check_together(made)
    return made


def _check_together(s: LongitudinalSpec) -> None:
    """Refuse knobs that contradict each other. Raises OutOfDomain with the condition that fails."""
    if s.b_h > 0 and s.times != "hawkes":
        raise OutOfDomain(f"b_h = {s.b_h:g} needs visit_times = hawkes, not {s.times}: only there does a visit bring "
                          "about another.")
    if s.gamma_obs != 0 and s.times == "regular":
        raise OutOfDomain(f"gamma_obs = {s.gamma_obs:g} needs irregular visit_times (poisson or hawkes): regular "
                          "visits come at no rate that the liability could move.")
    if s.shortcut_kind != "static" and s.shortcut == "none":
        raise OutOfDomain(f"shortcut_kind = {s.shortcut_kind} needs a view that shows the shortcut: shortcut = image, "
                          "clinical or both, not none.")
    used = {"image": s.gamma_2 if s.missing_in == "image" else s.gamma_1,
            "clinical": s.gamma_2 if s.missing_in == "clinical" else s.gamma_1}
    if s.missing_in == "both":
        used = dict.fromkeys(used, abs(s.gamma_1) + abs(s.gamma_2))
    evidence = {"image": s.w_c + s.w_u, "clinical": s.w_c * s.kappa_s**2 + s.w_v}
    for view, weight in used.items():
        if s.gappy and weight != 0 and evidence[view] <= 0:
            raise OutOfDomain(f"gamma_1 or gamma_2 weighs the {view} view's evidence, which is none: its share of the "
                              "liability must be above 0 (w_c + w_u for the image, kappa_s^2 w_c + w_v for the "
                              "clinical record).")


assert {f.name for f in fields(LongitudinalSpec)} - {f.name for f in fields(GaussianSpec)} == {
    k.symbol for k in VISIT_KNOBS}
