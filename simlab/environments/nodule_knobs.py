"""The knobs of the nodules world, and the specification that they resolve to. Imports no array module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from simlab.environments.knob import Choice, Interval, Knob
from simlab.environments.rendered_knobs import base, build
from simlab.environments.visit_knobs import LongitudinalSpec
from simlab.errors import OutOfDomain

FIELD = 48.0  # millimetres a side, whatever the number of voxels
# What the coordinates of z_I drive, in the order causes c, u, nuisance g, noise; then further harmonics.
DRIVEN = ("log-diameter", "solid-fraction", "spicule-0", "margin", "solid-HU", "calcification", "spicule-1",
          "spicule-2", "background-HU", "centre-x", "centre-y", "centre-z")
HARMONICS = 45  # real spherical harmonics of degree 2 to 6
MOST = len(DRIVEN) - 3 + HARMONICS

_MM = Interval(0, 12)
_SLOPE = Interval(0, 4)

_SITE = (
    Knob("point_spread", "psf", 1.5, _MM, (0, 6), "linear", "source",
         "full width at half maximum of the scanner's point spread, mm"),
    Knob("slice_thickness", "slab", 1.5, _MM, (0, 6), "linear", "source", "thickness that a slice averages over, mm"),
    Knob("scanner_gain", "gain_ct", 1.0, Interval(0.5, 2), (0.8, 1.2), "linear", "source",
         "factor of HU + 1000 as scanned"),
    Knob("voxel_noise", "noise", 20.0, Interval(0, 500), (0, 100), "linear", "source",
         "standard deviation of the scan's noise, HU"),
    Knob("noise_slope", "q_noise", 0.0, _SLOPE, (0, 3), "linear", "source",
         "power law of the noise's spectrum, |k|^-q (0: white)"),
)
_TARGET = tuple(replace(k, name=f"{k.name}_external", symbol=f"{k.symbol}_e", default=None, stage="target",
                        meaning=f"{k.meaning.partition(',')[0]} in the target (default: as in the source)")
                for k in _SITE)
NODULE_OWN: tuple[Knob, ...] = (
    Knob("side", "side", 32, Interval(16, 64, whole=True), (32, 64), "linear", "source",
         "voxels a side of a volume of 48 mm (32, 48 or 64; others for tests)"),
    Knob("layout", "layout", "volume", Choice(("volume", "coordinates")), None, "choice", "source",
         "the image stream: rendered volumes, or the coordinates that are rendered (for encoders of vectors)"),
    Knob("texture", "texture", 30.0, Interval(0, 300), (0, 100), "linear", "source",
         "standard deviation of the lung's texture, HU; a subject's own, the same at all visits"),
    Knob("texture_slope", "q_texture", 3.0, _SLOPE, (0, 4), "linear", "source",
         "power law of the texture's spectrum, |k|^-q"),
    Knob("vessels", "n_vessels", 2, Interval(0, 8, whole=True), (0, 6), "linear", "source",
         "vessels that cross the volume; a subject's own"),
    *_SITE, *_TARGET,
)
NODULE_KNOBS: tuple[Knob, ...] = (
    *base((), times="poisson", n_visits=3, d_ni=2, d_nc=8, r_v=1.0, window=3.0, n_unlab=2000, map="identity"),
    *NODULE_OWN,
)
AS_SOURCE = {k.symbol: k.symbol.removesuffix("_e") for k in _TARGET}


Nodular = TypeVar("Nodular", bound="NoduleSpec")


@dataclass(frozen=True, kw_only=True)
class NoduleSpec(LongitudinalSpec):
    """A complete nodules world: a longitudinal one, and how its image coordinates become volumes. Built by `spec`."""

    side: int
    layout: str
    texture: float
    q_texture: float
    n_vessels: int
    psf: float
    slab: float
    gain_ct: float
    noise: float
    q_noise: float
    psf_e: float
    slab_e: float
    gain_ct_e: float
    noise_e: float
    q_noise_e: float

    def without_shift(self) -> NoduleSpec:
        """The same world with a target hospital like the source: what source cohorts depend on."""
        here = {target: getattr(self, source) for target, source in AS_SOURCE.items()}
        return replace(super().without_shift(), **here)  # type: ignore[return-value]

    def stage(self, stage: str) -> dict[str, float | int | str | None]:
        """The fields that belong to one stage ("source", "labels" or "target"), by symbol."""
        names = {k.symbol for k in NODULE_KNOBS if k.stage == stage}
        return {key: value for key, value in vars(self).items() if key in names}

    def scanner(self, domain: str) -> dict[str, float]:
        """psf, slab, gain_ct, noise and q_noise of "source" or "external"."""
        return {k.symbol: getattr(self, f"{k.symbol}_e" if domain == "external" else k.symbol) for k in _SITE}

    @property
    def clean(self) -> bool:
        """Whether volumes show their coordinates exactly, in both hospitals: no texture, vessel or noise."""
        return self.layout == "coordinates" or self.texture == self.n_vessels == self.noise == self.noise_e == 0


def spec(values: Mapping[str, object] | None = None, /, **knobs: object) -> NoduleSpec:
    """The specification of these knobs (by name or symbol). Raises UnknownName and OutOfDomain."""
    return check_driven(build(NoduleSpec, NODULE_KNOBS, {**(values or {}), **knobs}, AS_SOURCE))


def check_driven(made: Nodular) -> Nodular:
    """The specification itself. Raises OutOfDomain where its coordinates cannot each drive a number of a nodule."""
    if made.p_image > MOST:
        raise OutOfDomain(f"d_c + d_u + d_g + d_ni = {made.p_image} coordinates, but a nodule has {MOST} that can be "
                          "driven; lower one of them.")
    if made.layout == "volume" and made.gaps == "zero_filled":
        raise OutOfDomain("gaps = zero_filled shows zeros, and a volume of 0 HU is one of water: take gaps = masked, "
                          "or layout = coordinates.")
    if made.layout == "volume" and made.map != "identity":
        raise OutOfDomain(f"observation_map = {made.map} mixes coordinates, and a volume renders them as they are: "
                          "take map = identity, or layout = coordinates.")
    return made
