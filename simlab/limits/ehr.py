"""The ehr world's exact risk: a Kalman filter for each coordinate of each cause, through encounters and scans.

Causes are Ornstein-Uhlenbeck processes with independent coordinates (docs/visits.md). With the state x = (cause, signal
of each stream) of stationary covariance Q, from one encounter to the next, a time dt later,

    predict    m <- a m,  P <- a^2 P + (1 - a^2) Q,    a = exp(-theta dt)
    update     K = P h / (h'P h + r),  m <- m + K (z - h'm),  P <- P - K h'P      for each measurement seen

(Kalman 1960; the Ornstein-Uhlenbeck process is its exact discretisation). The liability is linear in the causes at the
last visit, so P(y = 1 | seen) = Phi((E l - t)/sd l). Which values are taken is a coin's matter and says nothing; where
visit times depend on the liability (gamma_obs), what they say is weighed in as in `simlab.limits.missing`. Unlike
`simlab.limits.visits`, which needs the causes along beta alone, this knows which coordinates were seen when. (So causes
stretched along beta alone, tau_e, are none of its laws: their coordinates would be no independent processes.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import import_module

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr

from simlab.environments.ehr_knobs import EhrSpec
from simlab.errors import unknown
from simlab.evaluation.auc import weighted_auc
from simlab.limits import missing
from simlab.limits.visits import DOMAINS, JITTER, VIEWS, Block, Law, blocks, law_of

RECORDS = 20_000  # standard error about 0.0012 at an AUC of .85
_SEED = 161803
_ROWS = 5000


@dataclass(frozen=True, eq=False)
class Shown:
    """What n records measured of the causes' coordinates at up to J visits, and which of it was seen.

    Keys of both: "c_image", "u" (scans), "c_clinical", "v" (laboratory values), each (n, J, d). `time` in years.
    """

    values: Mapping[str, Float[np.ndarray, "n J d"]]
    seen: Mapping[str, Bool[np.ndarray, "n J d"]]
    time: Float[np.ndarray, "n J"]
    length: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.length)

    def view(self, view: str) -> Shown:
        """What "full", "image" or "clinical" sees (times always). Raises UnknownName."""
        if view not in VIEWS:
            raise unknown("view", view, VIEWS)
        hidden = {"image": ("c_clinical", "v"), "clinical": ("c_image", "u"), "full": ()}[view]
        return replace(self, seen={k: np.zeros_like(x) if k in hidden else x for k, x in self.seen.items()})

    def complete(self) -> Shown:
        """The same records, had every laboratory value been taken at each encounter."""
        exists = np.arange(self.time.shape[1]) < self.length[:, None]
        return replace(self, seen={k: np.broadcast_to(exists[..., None], x.shape) if k in ("c_clinical", "v") else x
                                   for k, x in self.seen.items()})

    def rows(self, part: slice) -> Shown:
        """Some of the records."""
        return Shown({k: x[part] for k, x in self.values.items()}, {k: x[part] for k, x in self.seen.items()},
                     self.time[part], self.length[part])


def filtered(
    block: Block, time: Float[np.ndarray, "n J"], streams: tuple[np.ndarray, ...], seen: tuple[np.ndarray, ...]
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
    """Posterior mean and variance of each coordinate of a cause at a record's last visit.

    streams, seen: (n, J, d) for each stream that shows the cause; nothing is seen beyond a record's visits, and there
    `time` is not used.
    """
    n, visits, d = streams[0].shape
    q = np.zeros((1 + len(streams),) * 2)
    q[0, 0], q[0, 1:], q[1:, 0], q[1:, 1:] = block.variance, block.with_cause, block.with_cause, block.gain
    mean, cov = np.zeros((n, d, len(q))), np.broadcast_to(q, (n, d, *q.shape)).copy()
    before = time[:, 0]
    for j in range(visits):
        now = np.maximum(time[:, j], before)  # no step in the padding, where times are 0
        a = np.exp(-block.theta * (now - before))[:, None, None]
        before = now
        mean, cov = a * mean, (a**2)[..., None] * cov + (1 - a**2)[..., None] * q
        for s, (values, known) in enumerate(zip(streams, seen, strict=True)):
            of = cov[..., 1 + s]
            gain = of / (of[..., 1 + s] + block.noise[s] + JITTER)[..., None] * known[:, j, :, None]
            mean = mean + gain * (np.where(known[:, j], values[:, j], 0) - mean[..., 1 + s])[..., None]
            cov = cov - gain[..., None] * of[..., None, :]
    return mean[..., 0], cov[..., 0, 0]


def risk(law: Law, shown: Shown) -> Float[np.ndarray, " n"]:
    """P(y = 1 | values seen, visit times) in the law's domain, exact."""
    out = np.empty(len(shown))
    for start in range(0, len(shown), _ROWS):
        out[start : start + _ROWS] = _risk(law, shown.rows(slice(start, start + _ROWS)))
    return out


def _risk(law: Law, shown: Shown) -> Float[np.ndarray, " n"]:
    mean, variance = np.zeros(len(shown)), np.full(len(shown), law.noise)
    for block, slope, names in zip(blocks(law), law.slopes, (("c_image", "c_clinical"), ("u",), ("v",)), strict=True):
        root = np.sqrt(shown.values[names[0]].shape[2])  # a mean along beta is the same in each coordinate, times that
        centred = tuple(shown.values[k] - m / root for k, m in zip(names, block.mean, strict=True))
        x, var = filtered(block, shown.time, centred, tuple(shown.seen[k] for k in names))
        mean += slope * (x.sum(axis=1) / root + block.mean_cause)
        variance += slope**2 * var.mean(axis=1)
    if law.spec.gamma_obs != 0:  # the times depend on the liability alone
        at, cov = np.zeros((len(shown), 3)), np.zeros((len(shown), 3, 3))
        at[:, 0], cov[:, 0, 0] = mean, variance
        said = missing.times(law.spec, shown.time, shown.length)
        p = missing.exceeds(law.along.threshold, at, cov, [], said)
    else:
        p = ndtr((mean - law.along.threshold) / np.sqrt(variance))
    k, target = law.along.prevalence_law, law.along.prevalence
    if k == target:
        return p
    up, down = p * (target / k), (1 - p) * ((1 - target) / (1 - k))  # classes resampled: odds times their ratio
    return up / (up + down)


def bayes(spec: EhrSpec, domain: str, view: str, records: int = RECORDS, *, rule: str | None = None,
          complete: bool = False) -> tuple[float, float]:
    """AUC limit of scans and taken laboratory values in a domain, by Rao-Blackwell Monte Carlo, and its standard error.

    `rule`: the domain whose best score is used (default: this one). `complete`: had every value been taken. With codes
    that follow values not taken, the true limit lies between the two. Raises UnknownName.
    """
    for what, name, known in (("domain", domain, DOMAINS), ("view", view, VIEWS)):
        if name not in known:
            raise unknown(what, name, known)
    key = replace(spec, n_lab=2, n_unlab=2, n_codes=0, n_drugs=0, d_g=0, d_ni=0, d_nc=0, map="identity", condition=1.0,
                  map_seed=0, density=1.0, density_e=1.0)
    return _area(key, domain, view, records, rule or domain, complete)


@lru_cache(maxsize=64)
def _area(spec: EhrSpec, domain: str, view: str, records: int, rule: str, complete: bool) -> tuple[float, float]:
    shown = _draw(spec, domain, records).view(view)
    if complete and view != "image":
        shown = shown.complete()
    score = risk(law_of(spec, rule), shown)
    true = score if rule == domain else risk(law_of(spec, domain), shown)
    area = weighted_auc(score, true)
    return area.value, area.se


@lru_cache(maxsize=2)
def _draw(spec: EhrSpec, domain: str, records: int) -> Shown:
    world = import_module(spec.measured_in)
    of_factors, of_measures = np.random.default_rng(_SEED).spawn(2)
    return world.measure(world.sample_factors(records, spec, domain, of_factors), spec, domain, of_measures).shown


def limits(spec: EhrSpec, records: int = RECORDS) -> dict[str, object]:
    """Bayes limits inside and outside, the source's rule outside, with standard errors, as JSON can hold them.

    `upper`: had every laboratory value been taken. Where codes follow values that were not taken (`spec.exact` is
    false) the true limit lies between the limit of the values taken, given first, and that one.
    """
    found = {place: {view: bayes(spec, domain, view, records, rule=rule) for view in VIEWS}
             for place, domain, rule in (("internal", "source", None), ("external", "external", None),
                                         ("source_bayes_external", "external", "source"))}
    upper = {place: {view: bayes(spec, domain, view, records, complete=True)[0] for view in VIEWS}
             for place, domain in (("internal", "source"), ("external", "external"))}
    note = ("exact for scans, times and laboratory values; codes add nothing to them" if spec.exact else
            "a bracket: codes follow laboratory values that were not taken, so that the limit lies between these "
            "numbers (values taken alone) and upper (every value taken): full " +
            f"{found['internal']['full'][0]:.4f} to {upper['internal']['full']:.4f} inside")
    return {
        **{place: {view: value for view, (value, _) in row.items()} for place, row in found.items()},
        "standard_error": {place: {view: se for view, (_, se) in row.items()} for place, row in found.items()},
        "upper": upper,
        "prevalence": law_of(spec, "source").along.prevalence,
        "prevalence_external": law_of(spec, "external").along.prevalence,
        "notes": [note],
        "spec": asdict(spec),
    }
