"""The nodules world's bracket: the noise-free limit above, what an explicit decoder achieves below.

Above: a scan shows at most the coordinates z_I that it renders, so no score of scans exceeds the longitudinal world's
limit (data processing). It is reached where there is no texture, vessel or noise, if the renderer can be inverted:
`decode` does it, and the gate (tests/environments/test_nodules.py) asks for it and for a Jacobian of full rank on
random draws. Below: `lower`, the posterior-weighted AUC of the risk computed from decoded scans. A Cramer-Rao bound
would not do: it bounds an estimator's variance from below, not an AUC.

The decoder is Gauss-Newton with Levenberg's damping on the whitened residual,

    min over z of  sum_k |V_k - F_k(z)|^2 / S_k + |z|^2 / prior,    S = texture^2 P_t |H|^2 + noise^2 P_n + 1 HU^2

in Fourier space, F the hospital's known renderer and scanner, H its blur's transfer function, P the power laws. Vessels
are not modelled: they are what makes it less than the best.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
import scipy.fft
from jaxtyping import Float

from simlab.environments import nodules as world
from simlab.environments import visits
from simlab.environments.nodule_knobs import NoduleSpec
from simlab.environments.nodule_scan import amplitudes, blur, scanned
from simlab.environments.nodule_shape import grid, names, parameters, render
from simlab.evaluation.auc import influence, weighted_auc
from simlab.limits.visits import law_of, risk

PRIOR = 1.25  # variance of a coordinate in the decoder's penalty: that of a cause at the default reliability
ROUGH = 3e3  # HU^2 that the first descent allows the model to miss by
FAR = 7.0  # no coordinate is sought beyond it
_SEED = 141421
_STEPS = 25


def forward(z: Float[np.ndarray, " p"], spec: NoduleSpec, domain: str, dtype: type = np.float32) -> Float[
        np.ndarray, "s s s"]:
    """The scan of these coordinates without texture, vessels and noise, HU."""
    scanner = spec.scanner(domain)
    return scanned(render(parameters(z[None]), 0, spec.side, dtype), scanner["psf"], scanner["slab"],
                   scanner["gain_ct"])


def jacobian(z: Float[np.ndarray, " p"], spec: NoduleSpec, domain: str, dtype: type = np.float32) -> tuple[
        Float[np.ndarray, "s s s"], Float[np.ndarray, "p s s s"]]:
    """The scan, and its derivative by each coordinate (forward differences)."""
    step = 1e-6 if dtype == np.float64 else 1e-2
    here = forward(z, spec, domain, dtype)
    moved = np.stack([forward(z + step * unit, spec, domain, dtype) for unit in np.eye(len(z))])
    return here, (moved - here) / dtype(step)


@lru_cache(maxsize=8)
def whitener(spec: NoduleSpec, domain: str, floor: float = 1.0) -> Float[np.ndarray, "s s h"]:
    """1/sqrt(S) on the half spectrum, times the square root of how many frequencies each stands for.

    `floor`: variance of what else the model misses, HU^2.
    """
    side, scanner = spec.side, spec.scanner(domain)
    plane, along = (np.abs(scipy.fft.fft(m[side // 2])) for m in blur(side, scanner["psf"], scanner["slab"]))
    half = side // 2 + 1
    transfer = along[:, None, None] * plane[:, None] * plane[:half] * scanner["gain_ct"]
    power = (spec.texture * transfer * amplitudes(side, spec.q_texture)) ** 2 + floor
    white = scanner["q_noise"] == 0
    power += scanner["noise"] ** 2 * (1.0 if white else amplitudes(side, scanner["q_noise"]) ** 2)
    twice = np.full(half, 2.0)
    twice[0] = 1
    if side % 2 == 0:
        twice[-1] = 1
    return np.sqrt(twice / power / side**3)


def decode(
    volume: Float[np.ndarray, "s s s"], spec: NoduleSpec, domain: str, dtype: type = np.float32, prior: float = PRIOR
) -> Float[np.ndarray, " p"]:
    """The coordinates that a scan shows, by Gauss-Newton; `volume` in HU.

    From each start first with a model error of variance ROUGH, against which PRIOR keeps coordinates from where they
    change nothing any more, then as asked; the first start that explains the scan is taken, else the best.
    """
    # The misfit of the true coordinates, or a little more: texture and noise, half a HU of a stored scan, or rounding.
    enough = spec.side**3 * (1.3 if not spec.clean else 0.3 if dtype == np.float32 else 1e-12)
    rough = _Problem(volume.astype(np.float32), spec, domain, np.float32, ROUGH, PRIOR, tolerance=1e-3)
    fine = _Problem(volume, spec, domain, dtype, 1.0, prior, tolerance=1e-10 if spec.clean else 1e-5)
    tried: list[tuple[float, Float[np.ndarray, " p"]]] = []
    for start in sorted(_starts(volume, spec), key=rough.cost)[: 6 if spec.clean else 2]:
        z = fine.descend(rough.descend(start))
        tried.append((fine.cost(z) - float(z @ z) / prior, z))
        if tried[-1][0] < enough:
            break
    return min(tried, key=lambda pair: pair[0])[1]


@dataclass(frozen=True, eq=False)
class _Problem:
    """The penalised, whitened least squares of one scan."""

    volume: Float[np.ndarray, "s s s"]
    spec: NoduleSpec
    domain: str
    dtype: type
    floor: float
    prior: float
    tolerance: float  # share of the cost below which a step's gain ends the descent

    def whitened(self, x: Float[np.ndarray, "... s s s"]) -> Float[np.ndarray, "... _"]:
        """Residuals or slopes in units of their standard deviation, frequency by frequency."""
        weight = whitener(self.spec, self.domain, self.floor)
        spectrum = (scipy.fft.rfftn(x, axes=(-3, -2, -1)) * weight).reshape(*x.shape[:-3], -1)
        return np.concatenate([spectrum.real, spectrum.imag], axis=-1)

    def cost(self, z: Float[np.ndarray, " p"]) -> float:
        """What is minimised."""
        miss = self.whitened(self.volume - forward(z, self.spec, self.domain, self.dtype))
        return float(miss @ miss + z @ z / self.prior)

    def descend(self, z: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """Gauss-Newton steps from z, damped until they lower the cost."""
        now, damping = self.cost(z), 1e-2
        for _ in range(_STEPS):
            here, slopes = jacobian(z, self.spec, self.domain, self.dtype)
            slopes = self.whitened(slopes).astype(np.float64)
            normal = slopes @ slopes.T + np.eye(len(z)) / self.prior
            down = slopes @ self.whitened(self.volume - here) - z / self.prior
            then, new, damping = self._damped(z, now, normal, down, damping)
            moved, gained, z, now = np.abs(new - z).max(), now - then, new, then
            if gained <= self.tolerance * now + 1e-14 or moved < 1e-9:
                break
        return z

    def _damped(self, z: np.ndarray, now: float, normal: np.ndarray, down: np.ndarray, damping: float) -> tuple[
            float, Float[np.ndarray, " p"], float]:
        """A lower cost, its coordinates and the next damping; the old ones where none is found."""
        for _ in range(8):
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), down)
            step *= min(1.0, 1.5 / np.abs(step).max())  # no coordinate leaps over the range that it has
            new = np.clip(z + step, -FAR, FAR)
            then = self.cost(new)
            if then < now:
                return then, new, max(damping / 10, 1e-12)
            damping *= 8
        return now, z, damping


def _starts(volume: Float[np.ndarray, "s s s"], spec: NoduleSpec) -> list[Float[np.ndarray, " p"]]:
    """Where to begin: the centre of the bright mass, several diameters, margins and cores, the rest in the middle."""
    driven, axis = names(spec.p_image), grid(spec.side)
    bright = np.maximum(volume - np.median(volume) - 150, 0) ** 2
    mass = float(bright.sum()) + 1e-9
    centre = {f"centre-{name}": float((bright.sum(axis=other) * axis).sum()) / mass
              for name, other in (("x", (0, 1)), ("y", (0, 2)), ("z", (1, 2)))}
    start = np.zeros(len(driven))
    for i, name in enumerate(driven):
        if name in centre:
            s = np.clip(centre[name] / 6, -0.95, 0.95)
            start[i] = 2 * s / np.sqrt(1 - s**2)
    found = []
    for diameter, margin, solid in product((-2.5, -1.0, 0.0, 1.0, 2.5), (-1.5, 1.5), (-1.5, 1.5)):
        asked = {"log-diameter": diameter, "margin": margin, "solid-fraction": solid}
        found.append(np.array([asked.get(name, z) for name, z in zip(driven, start, strict=True)]))
    return found


def lower(spec: NoduleSpec, domain: str, view: str = "full", records: int = 150) -> tuple[float, float, float]:
    """AUC that the decoder achieves on so many records, the noise-free limit on the same ones, and the standard error
    of their difference. About a second a scan of 32^3."""
    factors_rng, rng = np.random.default_rng(np.random.SeedSequence(_SEED)).spawn(2)
    factors = world.sample_factors(records, spec, domain, factors_rng)
    of_measures, of_volumes = rng.spawn(2)
    z, _, shown = visits.measure(factors, spec, domain, of_measures)
    scans = world.volumes(z, shown.image, spec, domain, of_volumes)
    found = np.zeros_like(z)
    for i in range(records):
        for j in np.flatnonzero(shown.image[i]):
            found[i, j] = decode(scans[i, j].astype(np.float32), spec, domain)
    c, u = spec.d_c, spec.d_c + spec.d_u
    seen = replace(shown, c_image=found[..., :c].sum(axis=2, dtype=np.float64) / np.sqrt(spec.d_c),
                   u=found[..., c:u].sum(axis=2, dtype=np.float64) / np.sqrt(spec.d_u))
    law = law_of(spec, domain)
    true, achieved = risk(law, shown.view(view)), risk(law, seen.view(view))
    best, got = weighted_auc(true, true), weighted_auc(achieved, true)
    gap = influence(best, true) - influence(got, true)
    return got.value, best.value, float(np.sqrt(np.sum(gap**2)) / records)


def limits(spec: NoduleSpec) -> dict[str, object]:
    """The noise-free limits inside and outside, as `simlab.limits.visit_report` gives them: where `upper_bound`, the
    upper end of the bracket."""
    from simlab.limits.visit_report import limits as of_visits

    known = of_visits(spec)
    if not spec.clean:
        known["notes"] = [*known["notes"], "upper ends of a bracket: the limits of scans without texture, vessels and "
                          "noise; simlab.limits.nodules.lower(spec, domain) computes what an explicit decoder achieves"]
    return {**known, "upper_bound": not spec.clean, "spec": asdict(spec)}
