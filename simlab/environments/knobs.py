"""The knobs of the Gaussian-liability world, and the specification that they resolve to. Imports no array module.

Each knob has a name that explains itself and the short symbol that the equations use; either is accepted wherever a
knob is named. `spec(**knobs)` turns a choice of knobs into a complete, checked `GaussianSpec`, whose fields are the
symbols, so that code reads like the equations of docs/environments.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from simlab.environments.gaussian_knobs import GAUSSIAN_KNOBS
from simlab.environments.knob import Choice, Interval, Knob, check, label, parse
from simlab.environments.rules import check_together
from simlab.errors import OutOfDomain, unknown

__all__ = ["GAUSSIAN_KNOBS", "Choice", "GaussianSpec", "Interval", "Knob", "check", "find", "parse", "spec"]

# What shapes the liability, but for its threshold.
LIABILITY_KNOBS = {"h2", "w_c", "w_u", "w_v", "w_x", "rho_s"}
# Target knobs whose default is the source's value.
_AS_SOURCE = {"kappa_e": "kappa_s", "nu_e": "nu", "eta_e": "eta_s", "lambda_e": "lambda_s", "n_sites_e": "n_sites",
              "rho_s_e": "rho_s"}


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
    n_tok: int
    r_tok_c: float
    r_tok_u: float
    r_tok_v: float
    r_tok_g: float
    record_tokens: str
    eta_s: float
    shortcut: str
    lambda_s: float
    n_sites: int
    site_shown: str
    omega_s: float
    alpha_lat: float
    map: str
    condition: float
    map_seed: int | None
    n_unlab: int
    pi_mis: float
    h2: float
    prevalence: float
    w_c: float
    w_u: float
    w_v: float
    w_x: float
    rho_s: float
    n_lab: int
    flip: float
    kappa_e: float
    delta_u_e: float
    delta_v_e: float
    nu_e: float
    prevalence_e: float | None
    prevalence_kind: str
    mu_e: float
    tau_e: float
    theta_e: float
    eta_e: float
    lambda_e: float
    n_sites_e: int
    mu_site_e: float
    rho_s_e: float
    acquired: str
    gain_e: float
    offset_e: float
    mix_e: float

    @property
    def p_image(self) -> int:
        """Features of the image view: c, u, g, noise, then shortcut and site where it shows them, in each token."""
        return self.n_tok * self.token_width("image")

    @property
    def p_clinical(self) -> int:
        """Features of the clinical view: c, v, g, noise, then shortcut and site where it shows them, in each token."""
        return self.n_tok * self.token_width("clinical")

    def token_width(self, view: str) -> int:
        """Features of one token of a view (of one block of coordinates, where each coordinate is a token)."""
        own, noise = (self.d_u, self.d_ni) if view == "image" else (self.d_v, self.d_nc)
        return self.d_c + own + self.d_g + noise + self.shows_shortcut(view) + self.shows_site(view)

    def by_coordinate(self, view: str) -> bool:
        """Whether each measured coordinate of a view is a token of its own."""
        return view == "clinical" and self.record_tokens == "coordinates"

    def carriers(self, factor: str) -> int:
        """How many tokens of a view show a factor: "c", "u", "v" or "g"."""
        return math.ceil(getattr(self, f"r_tok_{factor}") * self.n_tok - 1e-9)

    def widths(self, view: str) -> tuple[int, int, int, int, int, int]:
        """Measured coordinates of a view by part, all tokens: shared causes, own causes, nuisance, noise, shortcut,
        site.

        Where a token does not show a factor it shows noise.
        """
        own, d = ("u", self.d_u) if view == "image" else ("v", self.d_v)
        parts = (self.carriers("c") * self.d_c, self.carriers(own) * d, self.carriers("g") * self.d_g)
        shortcut, site = self.n_tok * self.shows_shortcut(view), self.n_tok * self.shows_site(view)
        return (*parts, self.n_tok * self.token_width(view) - sum(parts) - shortcut - site, shortcut, site)

    def shows_shortcut(self, view: str) -> int:
        """1 where a view ("image" or "clinical") shows the shortcut, else 0."""
        return int(self.shortcut in (view, "both"))

    def shows_site(self, view: str) -> int:
        """1 where a view ("image" or "clinical") shows the hospital's effect, else 0."""
        return int(self.site_shown in (view, "both"))

    def slopes(self, domain: str) -> tuple[float, float, float]:
        """Slopes of the liability on b'c, b'u and b'v in the "source" or the "external" domain."""
        du, dv = (self.delta_u_e, self.delta_v_e) if domain == "external" else (1.0, 1.0)
        return (math.sqrt(self.h2 * self.w_c), math.sqrt(self.h2 * self.w_u) * du, math.sqrt(self.h2 * self.w_v) * dv)

    def noise_variance(self, domain: str) -> float:
        """Variance of the liability's own noise, which refills Var(l) = 1; negative where nothing is left to refill."""
        taken = sum(a * a for a in self.slopes(domain))
        site = self.rho_s_e if domain == "external" else self.rho_s
        return 1 - taken - self.h2 * self.w_x - site**2

    @property
    def acquires(self) -> bool:
        """Whether the target's acquisition differs from the source's."""
        return (self.gain_e, self.offset_e, self.mix_e) != (1.0, 0.0, 0.0)

    def gaussian_in(self, domain: str) -> bool:
        """Whether (z, l) is jointly Gaussian in the "source" or the "external" domain."""
        sites, rho = (self.n_sites_e, self.rho_s_e) if domain == "external" else (self.n_sites, self.rho_s)
        mixed = sites > 1 and (self.omega_s > 0 or rho != 0 or self.site_shown != "none")
        return self.w_x == 0 and self.alpha_lat == 2 and not mixed

    @property
    def gaussian(self) -> bool:
        """Whether it is in both, so that every limit has its closed form."""
        return self.gaussian_in("source") and self.gaussian_in("external")

    def without_shift(self) -> GaussianSpec:
        """The same world with a target hospital like the source: what source cohorts depend on."""
        return replace(self, kappa_e=self.kappa_s, delta_u_e=1.0, delta_v_e=1.0, nu_e=self.nu, prevalence_e=None,
                       prevalence_kind="reweight", mu_e=0.0, tau_e=1.0, theta_e=0.0, eta_e=self.eta_s,
                       lambda_e=self.lambda_s, n_sites_e=self.n_sites, mu_site_e=0.0, rho_s_e=self.rho_s,
                       acquired="image", gain_e=1.0, offset_e=0.0, mix_e=0.0)

    def stage(self, stage: str) -> dict[str, float | int | str | None]:
        """The fields that belong to one stage ("source", "labels" or "target"), by symbol.

        A shortcut carries the liability into the source's features: the knobs that shape it then belong to both stages.
        """
        names = {k.symbol for k in GAUSSIAN_KNOBS if k.stage == stage}
        if stage == "source" and self.shortcut != "none":
            names |= LIABILITY_KNOBS
        return {key: value for key, value in vars(self).items() if key in names}


def find(name: str, knobs: tuple[Knob, ...] = GAUSSIAN_KNOBS) -> Knob:
    """The knob of this name or symbol. Raises UnknownName with the nearest names."""
    for knob in knobs:
        if name in (knob.name, knob.symbol):
            return knob
    known = sorted({k.name for k in knobs} | {k.symbol for k in knobs})
    raise unknown("knob", name, known, _ELSEWHERE.get(name, "python -m simlab.limits --list shows all."))


# Knobs that some worlds have and others cannot: said to who asks for one where it does not hold.
_ELSEWHERE = {
    **dict.fromkeys(
        ("p_miss", "missing_share", "missing_in", "missing_stream", "gamma_1", "missing_by_other", "gamma_2",
         "missing_by_own", "gamma_3", "missing_by_liability", "gaps", "p_miss_e", "missing_share_external"),
        "Gaps are of the worlds longitudinal and nodules; in ehr and hospital lab_share, in hospital also "
        "archived_share, say what was measured."),
    **dict.fromkeys(("tau_e", "scale_external"), "ehr and hospital know no spread of the causes along beta alone: "
                    "their risk follows each coordinate by itself."),
    **dict.fromkeys(("gamma_obs", "informative_sampling"), "Times that depend on the liability are of the worlds "
                    "longitudinal, nodules and ehr; the hospital moves its visits to whole days."),
}


def spec(values: Mapping[str, object] | None = None, /, **knobs: object) -> GaussianSpec:
    """The specification that these knobs (by name or symbol) resolve to; what is not given takes its default.

    Raises UnknownName for a knob that does not exist, OutOfDomain for a value outside its domain, weights that do not
    sum to one, a knob given twice, or knobs that contradict each other.
    """
    given: dict[str, float | int | str] = {}
    for key, value in {**(values or {}), **knobs}.items():
        knob = find(key)
        if knob.symbol in given:
            raise OutOfDomain(f"{label(knob)} is given twice, by its name and by its symbol; give it once.")
        given[knob.symbol] = check(knob, value)
    _clinical_shorthand(given)
    full: dict[str, object] = {k.symbol: given.get(k.symbol, k.default) for k in GAUSSIAN_KNOBS}
    full.pop("delta_clin_e")
    full.update(zip(("w_c", "w_u", "w_v"), _weights(given), strict=True))
    full.update({symbol: full[source] for symbol, source in _AS_SOURCE.items() if full[symbol] is None})
    resolved = GaussianSpec(**full)  # type: ignore[arg-type]
    check_together(resolved)
    return resolved


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
    """(w_c, w_u, w_v): what is not given shares equally what the given ones (w_x among them) leave."""
    symbols, synergy = ("w_c", "w_u", "w_v"), float(given.get("w_x", 0.0))
    known = {s: float(given[s]) for s in symbols if s in given}
    if "w_c" not in known and len(known) < 2:
        known["w_c"] = (1 - synergy) / 3 if not known else (1 - synergy - sum(known.values())) / 2
    rest, missing = 1 - synergy - sum(known.values()), [s for s in symbols if s not in known]
    if rest < -1e-9 or (not missing and abs(rest) > 1e-9):
        shown = " + ".join(f"{s} {v:g}" for s, v in {**known, **({"w_x": synergy} if synergy else {})}.items())
        raise OutOfDomain(f"the weights w_c, w_u, w_v, w_x must sum to one: {shown} = {1 - rest:g}.")
    share = max(rest, 0.0) / max(len(missing), 1)
    return tuple(known.get(s, share) for s in symbols)  # type: ignore[return-value]


assert {f.name for f in fields(GaussianSpec)} == {k.symbol for k in GAUSSIAN_KNOBS} - {"delta_clin_e"}
