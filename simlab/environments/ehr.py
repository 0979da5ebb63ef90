"""The ehr world: the longitudinal world whose clinical record is a stream of events. Equations: docs/rendered.md.

    encounters  the visits of docs/visits.md, at irregular times; a scan at each (a vector, as there)
    laboratory  value i of an encounter = centre_i + spread_i z_i in its own unit, z = z_C as measured there; each is
                taken with probability p_lab, by a coin of its own
    codes       code k is recorded at an encounter with probability 1 - exp(-density base_k exp(b z_j)), j = k mod p
    drugs       likewise

`clinical` is the stream of the laboratory values (unobserved where not taken); `events` has them with codes and drugs.
The map from z to the values is one-to-one, so a value says what its coordinate says (`simlab.limits.ehr`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float

from simlab.cohort import Cohort, Events, Stream
from simlab.environments import gaussian, visits
from simlab.environments.ehr_knobs import EhrSpec
from simlab.environments.visits import VisitFactors
from simlab.errors import unknown
from simlab.limits.ehr import Shown, bayes
from simlab.limits.ehr import limits as known_limits
from simlab.limits.ehr import risk as risk_of
from simlab.limits.visits import law_of

DOMAINS = visits.DOMAINS
sample_factors = visits.sample_factors

# Unit, centre and spread of laboratory values, in turn: whatever the unit, a value is six spreads from zero.
UNITS = (("mg/dL", 90.0, 15.0), ("mmol/L", 138.0, 3.0), ("g/dL", 13.0, 1.5), ("U/L", 60.0, 10.0), ("10^9/L", 7.5, 1.2),
         ("%", 40.0, 4.0))
BASE_RATES = (0.02, 0.5)  # of codes and drugs at an encounter, log-spaced between


@dataclass(frozen=True, eq=False)
class Measured:
    """What scans and encounters measured: coordinates of both views, which laboratory values were taken, and Shown."""

    z_image: Float[np.ndarray, "n J p_i"]
    z_clinical: Float[np.ndarray, "n J p_c"]
    taken: Bool[np.ndarray, "n J p_c"]
    shown: Shown


def measure(factors: VisitFactors, spec: EhrSpec, domain: str, rng: np.random.Generator) -> Measured:
    """Measure every encounter of these records."""
    of_visits, of_coins = rng.spawn(2)
    z_image, z_clinical, _ = visits.measure(factors, spec, domain, of_visits)
    coin = of_coins.random(z_clinical.shape, np.float32)
    taken = (coin < spec.p_lab) & factors.exists[..., None]
    c, own, scans = spec.d_c, spec.d_c + spec.d_v, factors.exists[..., None]
    values = {"c_image": z_image[..., :c], "u": z_image[..., c : c + spec.d_u], "c_clinical": z_clinical[..., :c],
              "v": z_clinical[..., c:own]}
    seen = {"c_image": np.broadcast_to(scans, values["c_image"].shape),
            "u": np.broadcast_to(scans, values["u"].shape), "c_clinical": taken[..., :c], "v": taken[..., c:own]}
    shown = Shown({k: x.astype(np.float64) for k, x in values.items()}, seen, factors.time, factors.length)
    return Measured(z_image, z_clinical, taken, shown)


def laboratory(z: Float[np.ndarray, "n J p"]) -> Float[np.ndarray, "n J p"]:
    """Laboratory values, float32 in their own units, of measured coordinates."""
    which = np.arange(z.shape[2]) % len(UNITS)
    centre, spread = (np.array([unit[i] for unit in UNITS], np.float32)[which] for i in (1, 2))
    return (centre + spread * z).astype(np.float32)


def names(spec: EhrSpec) -> tuple[list[str], list[str], list[str]]:
    """Codes of the laboratory values, of diagnoses and of drugs."""
    return ([f"LAB//L{i:03d}" for i in range(spec.p_clinical)], [f"DIAGNOSIS//D{i:03d}" for i in range(spec.n_codes)],
            [f"MEDICATION//M{i:03d}" for i in range(spec.n_drugs)])


def coded(z: Float[np.ndarray, "n J p"], spec: EhrSpec, domain: str, rng: np.random.Generator) -> Bool[
        np.ndarray, "n J k"]:
    """Which codes and drugs (in this order) each encounter records."""
    k = spec.n_codes + spec.n_drugs
    base = np.geomspace(*BASE_RATES, max(k, 1))[:k]
    density = spec.density_e if domain == "external" else spec.density
    follows = z[..., np.arange(k) % z.shape[2]].astype(np.float64)
    rate = density * base * np.exp(spec.b_code * np.clip(follows, -8, 8))
    return rng.random((*z.shape[:2], k)) < -np.expm1(-rate)


def events_of(spec: EhrSpec, factors: VisitFactors, values: np.ndarray, taken: np.ndarray, codes: np.ndarray) -> Events:
    """Everything recorded, by record and time: laboratory values, then diagnoses, then drugs of an encounter."""
    labs, diagnoses, drugs = names(spec)
    recorded = np.concatenate([taken, codes & factors.exists[..., None]], axis=2)
    record, visit, which = np.nonzero(recorded)
    value = np.full(len(record), np.nan, np.float32)
    lab = which < len(labs)
    value[lab] = values[record[lab], visit[lab], which[lab]]
    units = np.array([UNITS[i % len(UNITS)][0] for i in range(len(labs))] + [""] * (len(diagnoses) + len(drugs)))
    offsets = np.concatenate([[0], np.cumsum(recorded.sum(axis=(1, 2)))]).astype(np.int64)
    return Events(offsets, factors.time[record, visit], np.array([*labs, *diagnoses, *drugs])[which], value,
                  units[which])


def observe(
    factors: VisitFactors, spec: EhrSpec, domain: str, rng: np.random.Generator, *, first_record: int = 0,
    labelled: bool = True,
) -> Cohort:
    """The cohort that shows these factors: streams "image" and "clinical", and the events of the record.

    `risk` is P(y = 1 | scans, laboratory values, codes, times): exact where `spec.exact`, else given all laboratory
    values, taken or not (it then knows more than is shown). Raises UnknownName for a domain that does not exist.
    """
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    of_values, of_codes = rng.spawn(2)
    measured = measure(factors, spec, domain, of_values)
    values = laboratory(measured.z_clinical)
    image = visits.view_stream("image", gaussian.maps(spec)[0], measured.z_image, factors.exists, factors, spec)
    labs, _, _ = names(spec)
    clinical = Stream(np.where(measured.taken, values, 0), measured.taken, tuple(labs),
                      tuple(UNITS[i % len(UNITS)][0] for i in range(len(labs))),
                      factors.time if spec.n_visits > 1 else None)
    latents = {k: x for k, x in vars(factors).items() if k not in ("liability", "label", "time", "length")}
    provenance: dict[str, object] = {"world": "ehr", "domain": domain, "knobs": spec.stage("source")}
    answers: dict[str, object] = {}
    if labelled:
        law = law_of(spec, domain)
        latents["liability"] = factors.liability
        more = [] if spec.exact else ["laboratory values that were not taken"]
        provenance |= {"knobs": asdict(spec), "risk_given": ["image", "clinical", "events", "visit times", *more],
                       "prevalence": law.along.prevalence}
        shown = measured.shown if spec.exact else measured.shown.complete()
        answers = visits.answered(factors, risk_of(law, shown))
    return Cohort(
        streams={"image": image, "clinical": clinical},
        events=events_of(spec, factors, values, measured.taken, coded(measured.z_clinical, spec, domain, of_codes)),
        factors=latents,
        provenance=provenance,
        **visits.numbered(factors, domain, first_record),
        **answers,
    )


def limit(spec: EhrSpec, domain: str, view: str) -> float | None:
    """The Bayes limit (an AUC) of a view in a domain; None where codes make it a bracket (`limits` has both ends)."""
    value, _ = bayes(spec, domain, view)
    return value if spec.exact or view == "image" else None


def limits(spec: EhrSpec) -> dict[str, object]:
    """What is best possible in this world."""
    return known_limits(spec)
