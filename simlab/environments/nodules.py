"""The nodules world: the longitudinal world whose image is a 3-D scan of a lung nodule. Equations: docs/rendered.md.

    factors     those of docs/visits.md, at irregular visits; z_I as measured there             (`visits.measure`)
    nodule      each coordinate of z_I drives one number of the nodule, increasing            (`nodule_shape`)
    anatomy     nodule + the subject's texture + vessels, the same at all visits
    scan        the hospital's point spread, slice thickness, gain and noise                   (`nodule_scan`)

Without texture, vessels and noise a scan shows z_I exactly, and risk and limits are the longitudinal world's. With
them, those are an upper bound: the scan shows at most z_I (data processing).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from simlab.cohort import Cohort, Stream
from simlab.environments import gaussian, visits
from simlab.environments.nodule_knobs import NoduleSpec
from simlab.environments.nodule_scan import field, scanned, vessels
from simlab.environments.nodule_shape import names, parameters, render
from simlab.environments.visits import VisitFactors
from simlab.errors import unknown
from simlab.limits.simulated import bayes
from simlab.limits.visits import law_of, risk

DOMAINS = visits.DOMAINS
sample_factors = visits.sample_factors
MOST_HU = 3071.0


def volumes(
    z_image: Float[np.ndarray, "n J p"], seen: Bool[np.ndarray, "n J"], spec: NoduleSpec, domain: str,
    rng: np.random.Generator,
) -> Float[np.ndarray, "n J s s s"]:
    """Scans of the visits at which one was seen, HU as float16 (to 0.5 HU below 1024), 0 elsewhere.

    One scan at a time: besides the result, a few volumes are held, however many records there are.
    """
    of_texture, of_vessels, of_noise = rng.spawn(3)
    n, visit_count, p = z_image.shape
    scanner, side = spec.scanner(domain), spec.side
    noise, q = scanner.pop("noise"), scanner.pop("q_noise")
    shape = parameters(z_image.reshape(n * visit_count, p))
    out = np.zeros((n, visit_count, side, side, side), np.float16)
    own = np.zeros((side, side, side), np.float32)
    for i in range(n):
        if spec.texture:
            own = np.float32(spec.texture) * field(of_texture.standard_normal(own.shape, np.float32), spec.q_texture)
        if spec.n_vessels:
            tubes = vessels(of_vessels.random((spec.n_vessels, 6)), side)
            own = own + tubes if spec.texture else tubes
        for j in range(visit_count):  # noise is drawn for visits without a scan too: the next record's stays put
            white = of_noise.standard_normal(own.shape, np.float32) if noise else None
            if not seen[i, j]:
                continue
            volume = scanned(render(shape, i * visit_count + j, side) + own, *scanner.values())
            if white is not None:
                volume += np.float32(noise) * field(white, q)
            out[i, j] = np.clip(volume, -1024, MOST_HU, out=volume)
    return out


def observe(
    factors: VisitFactors, spec: NoduleSpec, domain: str, rng: np.random.Generator, *, first_record: int = 0,
    labelled: bool = True,
) -> Cohort:
    """The cohort that shows these factors: streams "image" (volumes, HU) and "clinical" (vectors) on one visit axis.

    `risk` is P(y = 1 | z_I, clinical, gaps, visit times). Raises UnknownName for a domain that does not exist.
    """
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    of_measures, of_volumes = rng.spawn(2)
    z_image, z_clinical, shown = visits.measure(factors, spec, domain, of_measures)
    g_image, g_clinical = gaussian.maps(spec)
    if spec.layout == "coordinates":
        image = visits.view_stream("image", g_image, z_image, shown.image, factors, spec)
    else:
        image = Stream(volumes(z_image, shown.image, spec, domain, of_volumes), shown.image[..., None],
                       ("attenuation",), ("HU",), factors.time if spec.n_visits > 1 else None)
    latents = {k: x for k, x in vars(factors).items() if k not in ("liability", "label", "time", "length")}
    latents["z_image"] = np.where(factors.exists[..., None], z_image, 0)
    provenance: dict[str, Any] = {"world": "nodules", "domain": domain, "knobs": spec.stage("source"),
                                  "driven": list(names(spec.p_image))}
    answers: dict[str, Any] = {}
    if labelled:
        law = law_of(spec, domain)
        latents["liability"] = factors.liability
        sees = "image" if spec.clean else "image without texture, vessels and noise"
        provenance |= {"knobs": asdict(spec), "risk_given": [sees, "clinical", "gaps", "visit times"],
                       "prevalence": law.along.prevalence}
        answers = visits.answered(factors, risk(law, shown))
    return Cohort(
        streams={"image": image,
                 "clinical": visits.view_stream("clinical", g_clinical, z_clinical, shown.clinical, factors, spec)},
        factors=latents,
        provenance=provenance,
        **visits.numbered(factors, domain, first_record),
        **answers,
    )


def limit(spec: NoduleSpec, domain: str, view: str) -> float:
    """The Bayes limit (an AUC) of a view of noise-free scans in a domain: what no method on noisy ones exceeds."""
    return bayes(spec, domain, view).value


def limits(spec: NoduleSpec) -> dict[str, object]:
    """What is best possible in this world: the bracket of `simlab.limits.nodules`."""
    from simlab.limits.nodules import limits as known

    return known(spec)
