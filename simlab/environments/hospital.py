"""A simulated hospital: scans of nodules and a health record of the same subjects, two sites, linked by their causes.

    factors     those of docs/visits.md; visits on whole days, at least one day apart
    scans       those of the nodules world, where they were kept (`p_scan`)
    record      the events of the ehr world, at every visit

Synthetic throughout: there to be written as real files (`python -m real_data.ct_ehr export`) and read back. Its risk is
the ehr world's, by a Kalman filter through the scans that were kept and the laboratory values.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from simlab.cohort import Cohort, Stream
from simlab.environments import ehr, nodules, times, visits
from simlab.environments.hospital_knobs import HospitalSpec
from simlab.environments.nodule_knobs import FIELD
from simlab.environments.nodule_shape import names as driven
from simlab.environments.visits import VisitFactors
from simlab.errors import unknown
from simlab.limits.ehr import bayes
from simlab.limits.ehr import limits as known_limits
from simlab.limits.ehr import risk as risk_of
from simlab.limits.visits import law_of

DOMAINS = visits.DOMAINS
YEAR = 365.25  # days


def whole_days(
    spec: HospitalSpec, liability: Float[np.ndarray, " n"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, "n J"], Int[np.ndarray, " n"]]:
    """Visit times as `times.draw`, years, moved to whole days at least one apart."""
    time, length = times.draw(spec, liability, rng)
    day = np.rint(time * YEAR)
    for j in range(1, day.shape[1]):
        day[:, j] = np.where(j < length, np.maximum(day[:, j], day[:, j - 1] + 1), 0)
    return day / YEAR, length


def sample_factors(n: int, spec: HospitalSpec, domain: str, rng: np.random.Generator) -> VisitFactors:
    """The true latents of n records of one domain. Raises UnknownName for a domain that does not exist."""
    return visits.sample_factors(n, spec, domain, rng, whole_days)


def measure(factors: VisitFactors, spec: HospitalSpec, domain: str, rng: np.random.Generator) -> ehr.Measured:
    """Measure every visit; what a scan showed counts as seen where its images were kept (`Measured.shown`)."""
    of_visits, of_archive = rng.spawn(2)
    measured = ehr.measure(factors, spec, domain, of_visits)
    kept = archived(factors, spec, of_archive)[..., None]
    seen = {k: x & kept if k in ("c_image", "u") else x for k, x in measured.shown.seen.items()}
    return replace(measured, shown=replace(measured.shown, seen=seen))


def archived(factors: VisitFactors, spec: HospitalSpec, rng: np.random.Generator) -> Bool[np.ndarray, "n J"]:
    """Which scans were kept: each by its own coin, the last one always."""
    coin = rng.random(factors.time.shape, np.float32) < spec.p_scan
    return factors.exists & (coin | (np.arange(coin.shape[1]) == factors.length[:, None] - 1))


def observe(
    factors: VisitFactors, spec: HospitalSpec, domain: str, rng: np.random.Generator, *, first_record: int = 0,
    labelled: bool = True,
) -> Cohort:
    """The cohort that shows these factors: "image" (volumes, HU, where kept), "clinical" (laboratory values), events.

    Times are days since the first visit. `risk` is P(y = 1 | z_I of the scans that were kept, laboratory values, codes,
    times): it knows more than noisy scans show, and where codes follow values not taken, those too. Raises UnknownName.
    """
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    of_measures, of_volumes, of_codes = rng.spawn(3)
    measured = measure(factors, spec, domain, of_measures)
    kept = measured.shown.seen["c_image"].any(axis=2) | measured.shown.seen["u"].any(axis=2)
    day = np.rint(factors.time * YEAR)
    by_day = replace(factors, time=day)
    values = ehr.laboratory(measured.z_clinical)
    labs = ehr.names(spec)[0]
    units = tuple(ehr.UNITS[i % len(ehr.UNITS)][0] for i in range(len(labs)))
    latents = {k: x for k, x in vars(factors).items() if k not in ("liability", "label", "time", "length")}
    latents["z_image"] = np.where(factors.exists[..., None], measured.z_image, 0)
    provenance: dict[str, Any] = {"world": "hospital", "domain": domain, "knobs": spec.stage("source"),
                                  "driven": list(driven(spec.p_image)), "field_mm": FIELD,
                                  "time": "days since the subject's first visit", "codes": "dated",
                                  "licence": "Synthetic (simlab's hospital world): no patient is behind it"}
    answers: dict[str, Any] = {}
    if labelled:
        law = law_of(spec, domain)
        latents["liability"] = factors.liability
        codes_exact = replace(spec, layout="coordinates").exact
        sees = ["image without texture, vessels and noise" if not spec.clean else "image", "clinical", "events",
                "visit times", *([] if codes_exact else ["laboratory values that were not taken"])]
        provenance |= {"knobs": asdict(spec), "risk_given": sees, "prevalence": law.along.prevalence}
        shown = measured.shown if codes_exact else measured.shown.complete()
        answers = visits.answered(factors, risk_of(law, shown))
    return Cohort(
        streams={"image": scans(measured.z_image, by_day, kept, spec, domain, of_volumes),
                 "clinical": Stream(np.where(measured.taken, values, 0), measured.taken, tuple(labs), units, day)},
        events=ehr.events_of(spec, by_day, values, measured.taken,
                             ehr.coded(measured.z_clinical, spec, domain, of_codes)),
        factors=latents,
        provenance=provenance,
        **visits.numbered(factors, domain, first_record),
        **answers,
    )


def scans(
    z_image: Float[np.ndarray, "n J p"], by_day: VisitFactors, kept: Bool[np.ndarray, "n J"], spec: HospitalSpec,
    domain: str, rng: np.random.Generator,
) -> Stream:
    """The image stream: volumes of the scans that were kept, or (`layout = coordinates`) what they would render."""
    if spec.layout == "coordinates":
        shown = np.where(kept[..., None], z_image, 0).astype(np.float32)
        return Stream(shown, np.repeat(kept[..., None], z_image.shape[2], axis=2), driven(z_image.shape[2]),
                      ("1",) * z_image.shape[2], by_day.time)
    volumes = nodules.volumes(z_image, kept, spec, domain, rng)
    return Stream(volumes, kept[..., None], ("attenuation",), ("HU",), by_day.time)


def limit(spec: HospitalSpec, domain: str, view: str) -> float:
    """An upper bound of the Bayes limit (an AUC) of a view in a domain, exact where `spec.exact`: scans without
    texture, vessels and noise, and laboratory values not taken where codes follow them."""
    return bayes(spec, domain, view, complete=not replace(spec, layout="coordinates").exact)[0]


def limits(spec: HospitalSpec) -> dict[str, object]:
    """What is best possible in this world; without `spec.exact` an upper bound."""
    known = known_limits(spec)
    if not spec.clean:
        note = ("upper ends: of scans without texture, vessels and noise (docs/rendered.md, the nodules world); codes "
                "as in the ehr world")
        known["notes"] = [note]
    return {**known, "upper_bound": not spec.exact}
