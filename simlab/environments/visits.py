"""The longitudinal world: patients seen at several visits, at irregular times, with gaps. Equations: docs/visits.md.

    causes     c, u, v, c', g as in the Gaussian-liability world, each an Ornstein-Uhlenbeck process of unit stationary
               variance: corr(x(s), x(t)) = exp(-theta |s-t|)
    liability  of the causes as they are at the last visit; the label is its threshold
    shortcut   of the liability, if a view shows one: one number for life, or with fresh noise at each visit
    times      regular, Poisson or Hawkes; their rate may depend on the liability              (`environments.times`)
    measured   at every visit as in the Gaussian-liability world, with fresh noise             (`measure`)
    gaps       each stream and visit by its selection index                                    (`environments.missing`)

The last visit is drawn first, by the Gaussian-liability world's own sampler; times follow given the liability, and the
earlier visits backwards from the last one (the process is reversible). Random numbers: as in that world, each group of
variables has its own child of the generator, filled record by record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from simlab.cohort import Cohort, Stream
from simlab.environments import gaussian, missing, times
from simlab.environments.maps import ObservationMap
from simlab.environments.visit_knobs import LongitudinalSpec
from simlab.errors import unknown
from simlab.limits.visits import Evidence, law_of, risk

DOMAINS = ("source", "external")
TASK = gaussian.TASK

# Children of the generators, in this order for ever: append only.
_PATH_GROUPS = ("c", "u", "v", "c_clinical", "g_image", "g_clinical", "shortcut")
_MEASURE_GROUPS = ("image_c", "image_u", "image_noise", "clinical_c", "clinical_v", "clinical_noise", "gap_image",
                   "gap_clinical")


@dataclass(frozen=True, eq=False)
class VisitFactors:
    """The true latents of n records at up to J visits, float32, 0 beyond a record's visits; the liability float64."""

    c: Float[np.ndarray, "n J d_c"]
    u: Float[np.ndarray, "n J d_u"]
    v: Float[np.ndarray, "n J d_v"]
    c_clinical: Float[np.ndarray, "n J d_c"]
    g_image: Float[np.ndarray, "n J d_g"]
    g_clinical: Float[np.ndarray, "n J d_g"]
    shortcut: Float[np.ndarray, "n J a"]  # a = 1 column where a view shows it, else none
    time: Float[np.ndarray, "n J"]  # years since the first visit
    length: Int[np.ndarray, " n"]
    liability: Float[np.ndarray, " n"]
    label: Bool[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.liability)

    @property
    def exists(self) -> Bool[np.ndarray, "n J"]:
        """Which visits exist."""
        return np.arange(self.time.shape[1]) < self.length[:, None]


def sample_factors(
    n: int, spec: LongitudinalSpec, domain: str, rng: np.random.Generator, draw: Callable[..., Any] = times.draw
) -> VisitFactors:
    """The true latents of n records of one domain. Raises UnknownName for a domain that does not exist.

    draw: visit times and numbers of visits from specification, liability and generator, as `times.draw`.
    """
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    at_last, of_times, *of_paths = rng.spawn(2 + len(_PATH_GROUPS))
    now = gaussian.sample_factors(n, spec, domain, at_last)
    time, length = draw(spec, now.liability, of_times)
    here = domain == "external"
    mu, tau = (spec.mu_e, spec.tau_e) if here else (0.0, 1.0)
    kappa, nu = (spec.kappa_e, spec.nu_e) if here else (spec.kappa_s, spec.nu)
    draws = dict(zip(_PATH_GROUPS, of_paths, strict=True))

    def path(group: str, last: np.ndarray, theta: float, mu: float = 0.0, tau: float = 1.0, sd: float = 1.0) -> Any:
        shape = (n, spec.n_visits, last.shape[1])
        return _backwards(last, time, length, theta, mu, tau, sd, draws[group].standard_normal(shape, np.float32))

    c = path("c", now.c, spec.theta_c, mu, tau)
    own = path("c_clinical", now.c_clinical - np.float32(kappa) * now.c, spec.theta_c, sd=np.sqrt(1 - kappa**2))
    g = path("g_image", now.g_image, spec.theta_g)
    rest = path("g_clinical", now.g_clinical - np.float32(nu) * now.g_image, spec.theta_g, sd=np.sqrt(1 - nu**2))
    return VisitFactors(
        c=c,
        u=path("u", now.u, spec.theta_u, mu, tau),
        v=path("v", now.v, spec.theta_v, mu, tau),
        c_clinical=np.float32(kappa) * c + own,
        g_image=g,
        g_clinical=np.float32(nu) * g + rest,
        shortcut=_shortcut(now, spec, domain, np.arange(spec.n_visits) < length[:, None], draws["shortcut"]),
        time=time,
        length=length,
        liability=now.liability,
        label=now.label,
    )


def _shortcut(
    now: gaussian.Factors, spec: LongitudinalSpec, domain: str, exists: Bool[np.ndarray, "n J"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "n J a"]:
    """The shortcut at every visit: the record's own number, or with noise of its own each time."""
    if spec.shortcut == "none":
        return np.zeros((*exists.shape, 0), np.float32)
    a = np.repeat(now.shortcut, exists.shape[1], axis=1)
    if spec.shortcut_kind == "per_visit":
        strength = spec.lambda_e if domain == "external" else spec.lambda_s
        fresh = np.float32(np.sqrt(1 - strength**2)) * rng.standard_normal(exists.shape, np.float32)
        a = np.float32(strength) * now.liability.astype(np.float32)[:, None] + fresh
    return np.where(exists, a, np.float32(0))[..., None]


def _backwards(
    last: Float[np.ndarray, "n d"],
    time: Float[np.ndarray, "n J"],
    length: Int[np.ndarray, " n"],
    theta: float,
    mu: float,
    tau: float,
    sd: float,
    draws: Float[np.ndarray, "n J d"],
) -> Float[np.ndarray, "n J d"]:
    """The process at all visits, from its values at the last one: mean mu beta, spread tau along beta and sd across."""
    n, visits, d = draws.shape
    x = np.zeros((n, visits, d), np.float32)
    if d == 0:
        return x
    beta = np.full(d, 1 / np.sqrt(d), np.float32)
    centre = np.float32(mu) * beta
    step = np.float32(sd) * draws + (np.float32(tau - 1) * (draws @ beta))[..., None] * beta
    now = last - centre
    for j in range(visits - 1, -1, -1):
        if j < visits - 1:
            ahead = np.maximum(time[:, j + 1] - time[:, j], 0)  # negative in the padding alone, where it is not used
            kept = np.exp(-theta * ahead).astype(np.float32)[:, None]
            earlier = kept * now + np.sqrt(1 - kept**2) * step[:, j]
            now = np.where((j < length - 1)[:, None], earlier, now)
        x[:, j] = np.where((j < length)[:, None], now + centre, 0)
    return x


def measure(
    factors: VisitFactors, spec: LongitudinalSpec, domain: str, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "n J p_i"], Float[np.ndarray, "n J p_c"], Evidence]:
    """Measured coordinates (z_I, z_C) of every visit, float32, and what of them was seen along beta."""
    n, visits = factors.time.shape
    widths = (spec.d_c, spec.d_u, spec.d_ni, spec.d_c, spec.d_v, spec.d_nc, 1, 1)
    children = dict(zip(_MEASURE_GROUPS, zip(rng.spawn(len(widths)), widths, strict=True), strict=True))
    error = {name: child.standard_normal((n, visits, d), np.float32) for name, (child, d) in children.items()}

    def noisy(x: np.ndarray, reliability: float, group: str) -> np.ndarray:
        return x + np.float32(np.sqrt(1 / reliability - 1)) * error[group]

    c_image, u = noisy(factors.c, spec.rel_ci, "image_c"), noisy(factors.u, spec.rel_u, "image_u")
    c_clinical = noisy(factors.c_clinical, spec.rel_cc, "clinical_c")
    v = noisy(factors.v, spec.rel_v, "clinical_v")
    alpha_g, alpha_n = np.float32(spec.alpha_g), np.float32(spec.alpha_n)
    a_image, a_clinical = (factors.shortcut[..., :spec.shows_shortcut(view)] for view in missing.STREAMS)
    z_image = np.concatenate([c_image, u, alpha_g * factors.g_image, alpha_n * error["image_noise"], a_image], axis=2)
    z_clinical = np.concatenate(
        [c_clinical, v, alpha_g * factors.g_clinical, alpha_n * error["clinical_noise"], a_clinical], axis=2
    )

    along = {"c_image": _along(c_image), "u": _along(u), "c_clinical": _along(c_clinical), "v": _along(v)}
    rows, final = np.arange(n), factors.length - 1
    last = {name: x[rows, final] for name, x in along.items()}
    gaps = {name: error[f"gap_{name}"][..., 0] for name in missing.STREAMS}
    seen = missing.seen(law_of(spec, domain), factors.liability, last, factors.exists, gaps)
    shortcut = factors.shortcut[..., 0].astype(np.float64) if spec.shortcut != "none" else None
    shown = Evidence(**along, **seen, time=factors.time, length=factors.length, shortcut=shortcut)
    return z_image, z_clinical, shown


def _along(x: Float[np.ndarray, "n J d"]) -> Float[np.ndarray, "n J"]:
    """beta'x, float64."""
    return x.sum(axis=2, dtype=np.float64) / np.sqrt(x.shape[2])


def observe(
    factors: VisitFactors,
    spec: LongitudinalSpec,
    domain: str,
    rng: np.random.Generator,
    *,
    first_record: int = 0,
    labelled: bool = True,
) -> Cohort:
    """The cohort that shows these factors: streams "image" and "clinical" on one visit axis, gaps unobserved.

    `risk` is P(y = 1 | all values, gaps and visit times of both streams). Without `labelled` the cohort holds no task,
    label, risk or liability. Raises UnknownName for a domain that does not exist.
    """
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    z_image, z_clinical, shown = measure(factors, spec, domain, rng)
    g_image, g_clinical = gaussian.maps(spec)
    apart = ("liability", "label", "time", "length", "shortcut")
    latents = {k: x for k, x in vars(factors).items() if k not in apart}
    provenance: dict[str, object] = {"world": "longitudinal", "domain": domain, "knobs": spec.stage("source")}
    answers: dict[str, object] = {}
    if labelled:
        law = law_of(spec, domain)
        latents["liability"] = factors.liability
        if spec.shortcut != "none":
            latents["shortcut"] = factors.shortcut
        provenance["knobs"] = asdict(spec)
        provenance["risk_given"] = ["image", "clinical", "gaps", "visit times"]
        provenance["prevalence"] = law.along.prevalence
        answers = answered(factors, risk(law, shown))
    return Cohort(
        streams={
            "image": view_stream("image", g_image, z_image, shown.image, factors, spec),
            "clinical": view_stream("clinical", g_clinical, z_clinical, shown.clinical, factors, spec),
        },
        factors=latents,
        provenance=provenance,
        **numbered(factors, domain, first_record),
        **answers,
    )


def numbered(factors: VisitFactors, domain: str, first_record: int) -> dict[str, Any]:
    """A cohort's lengths, records, subjects and site: one record a subject, numbered from `first_record`."""
    record = np.arange(first_record, first_record + len(factors), dtype=np.int64)
    return {"length": factors.length.astype(np.int64), "record": record, "subject": record.copy(),
            "site": np.full(len(factors), domain)}


def answered(factors: VisitFactors, risk: Float[np.ndarray, "n"]) -> dict[str, Any]:
    """A cohort's task, labels and exact risk."""
    return {"tasks": {TASK.name: TASK}, "labels": {TASK.name: factors.label.astype(np.float64)},
            "risk": {TASK.name: risk}}


def view_stream(
    name: str,
    to_features: ObservationMap,
    z: Float[np.ndarray, "n J p"],
    seen: Bool[np.ndarray, "n J"],
    factors: VisitFactors,
    spec: LongitudinalSpec,
) -> Stream:
    """A stream's features, 0 where not seen; a static stream where there is but one visit."""
    n, visits, p = z.shape
    x = to_features(z.reshape(n * visits, p)).reshape(n, visits, p)
    x[~seen] = 0.0
    observed = factors.exists if spec.gaps == "zero_filled" else seen
    return Stream(
        values=x,
        observed=np.repeat(observed[:, :, None], p, axis=2),
        channels=tuple(f"{name}-{i}" for i in range(p)),
        units=("1",) * p,
        time=factors.time if visits > 1 else None,
    )


def limit(spec: LongitudinalSpec, domain: str, view: str) -> float:
    """The Bayes limit (an AUC) of a view in a domain: closed form, or by Rao-Blackwell Monte Carlo."""
    from simlab.limits.simulated import bayes

    return bayes(spec, domain, view).value


def limits(spec: LongitudinalSpec) -> Any:
    """What is best possible in this world (`simlab.limits.visit_report`)."""
    from simlab.limits.visit_report import limits as known

    return known(spec)
