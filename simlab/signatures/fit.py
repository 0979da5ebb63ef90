"""Clinical signatures: independent sources of a record's curves, fitted once on training subjects, then frozen.

    curves x_c(t) -> scaled (x - shift_c) / (2 SD_c) -> S = W (x - mean), rows of S as independent as FastICA finds them

After the clinical signatures of Lasko and others: X = A S, each source an unobserved root cause of what a record shows
(J Biomed Inform 2025). Scaling by two standard deviations is Gelman's (Stat Med 2008, 27:2865): conditions as
log10(rate + 1e-6) and medications unshifted, with one SD for the whole kind; measurements channel by channel. FastICA
is scikit-learn's (Hyvarinen and Oja 2000; parallel, log cosh, whitened by PCA). Sources are scaled to a standard
deviation of 1/2 on the training cross-sections, signed such that the largest loading is positive, and ordered by the
variance that they explain.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning

from simlab.cohort import Events, Stream
from simlab.errors import InvalidData, NotConverged, OutOfDomain
from simlab.signatures import file
from simlab.signatures.cross_sections import channel_of, cross_sections, vocabulary
from simlab.signatures.settings import Channel, Settings

FLOOR = 1e-6  # added to a rate before its logarithm: a condition never coded


@dataclass(frozen=True, eq=False)
class Signatures:
    """A frozen fit: channels with their scaling, mean and unmixing matrix. `mixing` has the sources' loadings."""

    settings: Settings
    channels: tuple[Channel, ...]
    fill: Float[np.ndarray, " channels"]  # what a channel without events reads
    shift: Float[np.ndarray, " channels"]
    scale: Float[np.ndarray, " channels"]
    mean: Float[np.ndarray, " channels"]
    unmixing: Float[np.ndarray, "signatures channels"]
    mixing: Float[np.ndarray, "channels signatures"]

    def at(
        self, events: Events, records: Int[np.ndarray, " m"], times: Float[np.ndarray, " m"]
    ) -> tuple[Float[np.ndarray, "m signatures"], Bool[np.ndarray, " m"]]:
        """Expressions of the sources in record `records[i]` at `times[i]`, and whether it has any event by then."""
        raw, known = cross_sections(events, self.channels, records, times, self.settings)
        x = (_transformed(np.where(np.isnan(raw), self.fill, raw), self.channels) - self.shift) / self.scale
        # Not a BLAS product: a row's bits must not depend on how many others are read with it.
        return np.einsum("nc,kc->nk", x - self.mean, self.unmixing, optimize=False), known

    def read(self, events: Events, time: Float[np.ndarray, "records visits"],
             exists: Bool[np.ndarray, "records visits"]) -> Stream:
        """The signatures as a stream at the dates of a record's visits, of events up to each date alone.

        Unobserved where a visit does not exist or nothing precedes it. Raises InvalidData for units that were not
        fitted and for another number of records.
        """
        if len(events) != len(time):
            raise InvalidData(f"events of {len(events)} records, dates of {len(time)}; both must be the same records.")
        found, known = self.at(events, np.nonzero(exists)[0], time[exists])
        k = len(self.unmixing)
        values, seen = np.zeros((*time.shape, k), np.float32), np.zeros(time.shape, bool)
        seen[exists] = known
        values[exists] = np.where(known[:, None], found, 0)
        return Stream(values, np.repeat(seen[..., None], k, axis=2), tuple(f"exp-{i:03d}" for i in range(k)),
                      ("SD/2",) * k, np.where(exists, time, 0.0))

    def ignored(self, events: Events) -> dict[str, int]:
        """How many events of each code the fit has no channel for."""
        place = channel_of(events, self.channels, self.settings)
        return dict(sorted(Counter(events.code[place < 0].tolist()).items()))

    def save(self, path: Path) -> None:
        """Write the fit to a file (arrays and JSON, no pickle), aside and moved into place."""
        file.write(path, self)

    @staticmethod
    def load(path: Path) -> Signatures:
        """The fit that `save` wrote. Raises DamagedFile."""
        return Signatures(**file.read(path))


def fit(
    events: Events,
    training: Bool[np.ndarray, " records"],
    settings: Settings,
    rng: np.random.Generator,
    time: Float[np.ndarray, "records visits"] | None = None,
) -> Signatures:
    """Signatures of the training records alone; no other record's events are looked at, nor any after a record's last
    cross-section.

    Cross-sections are taken at `time` (NaN: none), or, without it, at uniformly drawn instants, a Poisson number of
    mean `settings.per_year` a year of record (`rng`). Raises OutOfDomain where training shows too little for so many
    signatures, NotConverged where FastICA finds no fixed point.
    """
    if len(training) != len(events):
        raise InvalidData(f"events of {len(events)} records, a training mask of {len(training)}.")
    records, times = _instants(events, training, settings, rng) if time is None else _dates(time, training)
    last = np.full(len(events), -np.inf)
    np.maximum.at(last, records, times)
    events = events.rows(events.time <= np.repeat(last, np.diff(events.offsets)))
    channels = vocabulary(events, settings)
    raw, known = cross_sections(events, channels, records, times, settings)
    raw = raw[known]
    if min(raw.shape) == 0:
        raise OutOfDomain(f"signatures: no code is in {settings.records} training records with a cross-section; lower "
                          "records, or give more training subjects.")
    shown = ~np.isnan(raw).all(axis=0)
    channels, raw = tuple(c for c, keep in zip(channels, shown, strict=True) if keep), raw[:, shown]
    fill = np.array([np.nanmedian(x) if c.kind == "measurement" else 0.0
                     for c, x in zip(channels, raw.T, strict=True)])
    x = _transformed(np.where(np.isnan(raw), fill, raw), channels)
    shift, scale = _gelman(x, channels)
    varies = x.std(axis=0) > 1e-12
    channels = tuple(c for c, keep in zip(channels, varies, strict=True) if keep)
    fill, shift, scale, x = fill[varies], shift[varies], scale[varies], x[:, varies]
    scaled = (x - shift) / scale
    if settings.signatures > min(len(x) - 1, len(channels)):
        raise OutOfDomain(f"signatures: {settings.signatures} sources need as many channels and more cross-sections; "
                          f"training shows {len(channels)} channels in {len(x)} cross-sections.")
    mean, unmixing, mixing = _independent(scaled, settings)
    return Signatures(settings, channels, fill, shift, scale, mean, unmixing, mixing)


def _dates(time: np.ndarray, training: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.isfinite(time) & training[:, None]
    return np.nonzero(chosen)[0], time[chosen]


def _instants(
    events: Events, training: np.ndarray, settings: Settings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Uniform instants between a training record's first and last event (one at least, so that none is lost)."""
    has = training & (np.diff(events.offsets) > 0)
    first, last = events.time[events.offsets[:-1][has]], events.time[events.offsets[1:][has] - 1]
    years = (last - first) / (365.25 * settings.day)
    count = np.maximum(rng.poisson(settings.per_year * years), 1)
    share = rng.random(int(count.sum()))
    return np.repeat(np.flatnonzero(has), count), np.repeat(first, count) + share * np.repeat(last - first, count)


def _transformed(raw: Float[np.ndarray, "m c"], channels: tuple[Channel, ...]) -> Float[np.ndarray, "m c"]:
    """Rates of conditions on a logarithmic scale; the rest as it is."""
    rates = np.array([c.kind == "condition" for c in channels])
    return np.where(rates, np.log10(np.where(rates, raw, 0) + FLOOR), raw)


def _gelman(x: Float[np.ndarray, "m c"], channels: tuple[Channel, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Shift and scale: measurements by their own mean and 2 SD, the other kinds unshifted by their kind's 2 SD."""
    shift, scale = np.zeros(len(channels)), np.ones(len(channels))
    kinds = np.array([c.kind for c in channels])
    for kind in set(kinds):
        here = kinds == kind
        if kind == "measurement":
            shift[here], scale[here] = x[:, here].mean(axis=0), 2 * x[:, here].std(axis=0)
        else:
            scale[here] = 2 * x[:, here].std()
    return shift, np.where(scale > 1e-12, scale, 1.0)


def _independent(
    x: Float[np.ndarray, "m c"], settings: Settings
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, "k c"], Float[np.ndarray, "c k"]]:
    """Mean, unmixing and mixing matrix, sources ordered, signed and scaled as the module says."""
    ica = FastICA(n_components=settings.signatures, algorithm="parallel", whiten="unit-variance", fun="logcosh",
                  max_iter=settings.iterations, tol=settings.tolerance, random_state=settings.seed,
                  whiten_solver="svd")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            sources = ica.fit_transform(x)
        except ConvergenceWarning:
            raise NotConverged(f"FastICA found no {settings.signatures} independent sources in {settings.iterations} "
                               "iterations: ask for fewer signatures, or raise iterations or tolerance.") from None
    factor = 0.5 / sources.std(axis=0)
    unmixing, mixing = ica.components_ * factor[:, None], ica.mixing_ / factor
    sign = np.sign(mixing[np.abs(mixing).argmax(axis=0), np.arange(mixing.shape[1])])
    order = np.argsort(-np.sum(mixing**2, axis=0), kind="stable")
    return ica.mean_, (unmixing * sign[:, None])[order], (mixing * sign)[:, order]
