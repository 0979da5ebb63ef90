"""The blobs world: bright blobs that grow over five visits, one planted difference a version (docs/rendered.md).

    label     y ~ Bernoulli(prevalence)
    visits    at T_k = d_1 + ... + d_k months, d ~ |N(5, 3)|;  growth rate g ~ |N(1, sd_g)|
    size      blobs of size g T_k, effect times that where y = 1
    time      blobs of size g T_k;  the record says T_k, divided by effect where y = 1
    count     1 + Poisson(1) blobs (8 at most), 1 + Poisson(effect) where y = 1; otherwise 2 in all versions
    image     soft discs of radius sqrt(0.075 size) on waves; a share of the pixels black or white

After Tumor-CIFAR (arXiv 2209.01676's synthetic nodules; its effect is 3): tiny, whole, one difference. A pixel is exact
or visibly broken, so the image shows its sizes and counts to rounding, and limits are those of the numbers themselves.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import poisson

from simlab.cohort import Cohort, Stream, Task
from simlab.environments.blob_knobs import CELLS, MOST, SIDE, BlobSpec
from simlab.errors import unknown

DOMAINS = ("source", "external")
TASK = Task(name="outcome", kind="binary", positive="ill: the version's planted difference is there")
INTERVAL = (5.0, 3.0)  # |N(mean, sd)| months between visits
EDGE, HEIGHT = 0.35, 0.3  # pixels in which a disc fades, its brightness
GROWS = 0.075  # a disc's squared radius in pixels, of its size
_WAVES = 3
_ROWS = 1000  # records rendered at a time: bounds the memory, moves no number

_GROUPS = ("label", "interval", "growth", "count", "place", "within", "wave", "salt")


@dataclass(frozen=True, eq=False)
class BlobFactors:
    """The true state of n records."""

    label: Bool[np.ndarray, " n"]
    months: Float[np.ndarray, "n J"]  # as the record says
    size: Float[np.ndarray, "n J"]  # of each blob, as the image shows
    count: Int[np.ndarray, " n"]
    centre: Float[np.ndarray, "n blobs 2"]  # pixels; the first `count` exist
    wave: Float[np.ndarray, "n waves 4"]  # phase, frequency along both axes, amplitude

    def __len__(self) -> int:
        return len(self.label)


def sample_factors(n: int, spec: BlobSpec, domain: str, rng: np.random.Generator) -> BlobFactors:
    """The true state of n records of one domain. Raises UnknownName for a domain that does not exist."""
    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    effect, _, prevalence = spec.at(domain)
    draw = dict(zip(_GROUPS, rng.spawn(len(_GROUPS)), strict=True))
    ill = draw["label"].random(n) < prevalence
    mean, sd = INTERVAL
    months = np.abs(mean + sd * draw["interval"].standard_normal((n, spec.n_visits))).cumsum(axis=1)
    growth = np.abs(1 + spec.sd_g * draw["growth"].standard_normal(n))
    size = growth[:, None] * months
    faster = np.where(ill, effect, 1.0)
    count = np.full(n, 2)
    if spec.version == "size":
        size = size * faster[:, None]
    elif spec.version == "time":
        months = months / faster[:, None]
    else:
        count = 1 + np.minimum(poisson.ppf(draw["count"].random(n), faster), MOST - 1).astype(np.int64)
    cell = draw["place"].random((n, CELLS**2)).argsort(axis=1)[:, :MOST]
    pitch = SIDE / CELLS
    corner = np.stack(np.divmod(cell, CELLS), axis=2) * pitch
    centre = corner + pitch * (0.35 + 0.3 * draw["within"].random((n, MOST, 2)))
    raw = draw["wave"].random((n, _WAVES, 4))
    wave = np.concatenate([2 * np.pi * raw[..., :1], 2 * np.pi * (raw[..., 1:3] - 0.5) / 4, raw[..., 3:]], axis=2)
    return BlobFactors(ill, months, size, count, centre, wave)


def render(
    factors: BlobFactors, spec: BlobSpec, domain: str, rng: np.random.Generator
) -> Float[np.ndarray, "n J side side"]:
    """Images, float32 in [0, 1]; black or white pixels from `rng`."""
    n, visits = factors.size.shape
    image = np.empty((n, visits, SIDE, SIDE), np.float32)
    share = spec.at(domain)[1]
    for start in range(0, n, _ROWS):
        rows = slice(start, start + _ROWS)
        image[rows] = _clean(factors, rows, spec.background)
        broken = rng.random(image[rows].shape, np.float32)
        image[rows][broken < share] = 1.0
        image[rows][broken < share / 2] = 0.0
    return image


def _clean(factors: BlobFactors, rows: slice, background: float) -> Float[np.ndarray, "n J side side"]:
    """Images before pixels are broken, in [0.02, 0.98]."""
    size, count, centres = factors.size[rows], factors.count[rows], factors.centre[rows].astype(np.float32)
    axis = np.arange(SIDE, dtype=np.float32) + 0.5
    phase, row, column, amplitude = np.moveaxis(factors.wave[rows].astype(np.float32), 2, 0)[..., None, None]
    angle = phase + row * axis[:, None] + column * axis
    base = 0.3 + np.float32(background) * (amplitude * np.cos(angle)).mean(axis=1)
    image = np.repeat(base[:, None], size.shape[1], axis=1)
    radius = np.sqrt(GROWS * size).astype(np.float32)
    for blob in range(int(count.max(initial=0))):
        has = np.flatnonzero(count > blob)
        centre = centres[has, blob]
        far = np.hypot(axis[None, :, None] - centre[:, 0, None, None], axis[None, None] - centre[:, 1, None, None])
        inside = (radius[has, :, None, None] - far[:, None]) / np.float32(EDGE)
        image[has] += np.float32(HEIGHT) / (1 + np.exp(-np.clip(inside, -30, 30)))
    return np.clip(image, 0.02, 0.98)


def observe(
    factors: BlobFactors, spec: BlobSpec, domain: str, rng: np.random.Generator, *, first_record: int = 0,
    labelled: bool = True,
) -> Cohort:
    """The cohort that shows these records: "image", and "clinical" with the months since the start and since the last
    visit. Streams are timed by the number of the visit, so that the image alone does not say the months.

    `risk` is P(y = 1 | images and months). Raises UnknownName for a domain that does not exist.
    """
    from simlab.limits.blobs import risk

    if domain not in DOMAINS:
        raise unknown("domain", domain, DOMAINS)
    n, visits = factors.size.shape
    image = render(factors, spec, domain, rng)
    pixels = spec.layout == "pixels"
    names = tuple(f"pixel-{i}" for i in range(SIDE**2)) if pixels else ("brightness",)
    time = np.tile(np.arange(visits, dtype=np.float64), (n, 1))
    clinical = np.stack([factors.months, np.diff(factors.months, axis=1, prepend=0)], axis=2).astype(np.float32)
    record = np.arange(first_record, first_record + n, dtype=np.int64)
    provenance: dict[str, object] = {"world": "blobs", "domain": domain, "knobs": spec.stage("source")}
    answers: dict[str, object] = {}
    if labelled:
        provenance |= {"knobs": asdict(spec), "risk_given": ["image", "clinical"], "prevalence": spec.at(domain)[2]}
        answers = {"tasks": {TASK.name: TASK}, "labels": {TASK.name: factors.label.astype(np.float64)},
                   "risk": {TASK.name: risk(spec, domain, "full", factors)}}
    return Cohort(
        streams={
            "image": Stream(image.reshape(n, visits, -1) if pixels else image,
                            np.ones((n, visits, len(names)), bool), names, ("1",) * len(names), time),
            "clinical": Stream(clinical, np.ones((n, visits, 2), bool), ("months", "since-last"),
                               ("months", "months"), time.copy()),
        },
        length=np.full(n, visits),
        record=record,
        subject=record.copy(),
        site=np.full(n, domain),
        factors={"size": factors.size.astype(np.float32), "months": factors.months.astype(np.float32),
                 "count": factors.count},
        provenance=provenance,
        **answers,
    )


def limit(spec: BlobSpec, domain: str, view: str) -> float:
    """The Bayes limit (an AUC) of "full", "image" or "clinical" in a domain (`simlab.limits.blobs`)."""
    from simlab.limits.blobs import bayes

    return bayes(spec, domain, view)[0]


def limits(spec: BlobSpec) -> dict[str, object]:
    """What is best possible in this world."""
    from simlab.limits.blobs import limits as known

    return known(spec)
