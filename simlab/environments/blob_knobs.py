"""The knobs of the blobs world, and the specification that they resolve to. Imports no array module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from simlab.environments.knob import Choice, Interval, Knob, check
from simlab.environments.knobs import find
from simlab.errors import OutOfDomain

VERSIONS = ("size", "time", "count")
SIDE, CELLS = 16, 4  # pixels a side; blobs sit in cells of a CELLS x CELLS grid, each cell with one at most
MOST = 8  # blobs of an image in the version `count`

_SHARE = Interval(0, 0.9)
_EFFECT = Interval(0.2, 5)
_PREVALENCE = Interval(0, 1, low_open=True, high_open=True)

BLOB_KNOBS: tuple[Knob, ...] = (
    Knob("version", "version", "size", Choice(VERSIONS), None, "choice", "source",
         "the planted difference: blobs of the ill grow faster; their visits are closer in time; they have more blobs"),
    Knob("effect", "effect", 1.25, _EFFECT, (1, 3), "linear", "source",
         "how many times faster, closer or more (1: no difference; the precedent has 3)"),
    Knob("visits", "n_visits", 5, Interval(2, 20, whole=True), (2, 10), "linear", "source", "images of a record"),
    Knob("growth_spread", "sd_g", 0.2, Interval(0, 1, low_open=True), (0.05, 0.5), "linear", "source",
         "standard deviation of the growth rate |N(1, sd)|"),
    Knob("noise", "noise", 0.1, _SHARE, (0, 0.5), "linear", "source", "share of pixels turned black or white"),
    Knob("background", "background", 0.2, Interval(0, 0.25), (0, 0.25), "linear", "source",
         "amplitude of the waves that make up a record's background"),
    Knob("layout", "layout", "pixels", Choice(("pixels", "image")), None, "choice", "source",
         "the image stream's shape: every pixel a channel (for encoders of vectors), or one channel of 16 x 16"),
    Knob("n_unlabelled", "n_unlab", 2000, Interval(2, 10_000_000, whole=True), (500, 50_000), "log", "source",
         "unlabelled records for pretraining"),
    Knob("prevalence", "prevalence", 0.5, _PREVALENCE, (0.05, 0.5), "linear", "source", "P(y = 1), the ill"),
    Knob("n_labelled", "n_lab", 300, Interval(2, 10_000_000, whole=True), (30, 3000), "log", "labels",
         "labelled records for training"),
    Knob("effect_external", "effect_e", None, _EFFECT, (1, 3), "linear", "target",
         "effect in the target (default: as in the source)"),
    Knob("noise_external", "noise_e", None, _SHARE, (0, 0.5), "linear", "target",
         "noise in the target (default: as in the source)"),
    Knob("prevalence_external", "prevalence_e", None, _PREVALENCE, (0.05, 0.5), "linear", "target",
         "prevalence in the target (default: as in the source)"),
)
_AS_SOURCE = {"effect_e": "effect", "noise_e": "noise", "prevalence_e": "prevalence"}


@dataclass(frozen=True)
class BlobSpec:
    """A complete blobs world, the target's fields resolved. Built by `spec`, which checks."""

    version: str
    effect: float
    n_visits: int
    sd_g: float
    noise: float
    background: float
    layout: str
    n_unlab: int
    prevalence: float
    n_lab: int
    effect_e: float
    noise_e: float
    prevalence_e: float
    map_seed: int | None = 0  # this world has no random map; every world's specification has the field

    def without_shift(self) -> BlobSpec:
        """The same world with a target like the source: what source cohorts depend on."""
        return replace(self, **{target: getattr(self, source) for target, source in _AS_SOURCE.items()})

    def at(self, domain: str) -> tuple[float, float, float]:
        """(effect, noise, prevalence) of "source" or "external"."""
        if domain == "external":
            return self.effect_e, self.noise_e, self.prevalence_e
        return self.effect, self.noise, self.prevalence

    def stage(self, stage: str) -> dict[str, float | int | str | None]:
        """The fields that belong to one stage ("source", "labels" or "target"), by symbol."""
        names = {k.symbol for k in BLOB_KNOBS if k.stage == stage}
        return {key: value for key, value in asdict(self).items() if key in names}


def spec(values: Mapping[str, object] | None = None, /, **knobs: object) -> BlobSpec:
    """The specification of these knobs (by name or symbol). Raises UnknownName and OutOfDomain."""
    given: dict[str, object] = {}
    for key, value in {**(values or {}), **knobs}.items():
        knob = find(key, BLOB_KNOBS)
        if knob.symbol in given:
            raise OutOfDomain(f"knob {knob.symbol} ({knob.name}) is given twice, by its name and by its symbol; give "
                              "it once.")
        given[knob.symbol] = check(knob, value)
    full = {k.symbol: given.get(k.symbol, k.default) for k in BLOB_KNOBS}
    full.update({target: full[source] for target, source in _AS_SOURCE.items() if full[target] is None})
    return BlobSpec(**full)  # type: ignore[arg-type]
