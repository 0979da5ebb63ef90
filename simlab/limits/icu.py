"""What is best possible in the ICU world: forecasts of the state and of charted values, treatment effects, tasks.

`forecast` lets the best forecaster compete with copy-forward and the mean at the hour, along the recorded treatments:
a Kalman filter where it is exact (`spec.exact_forecast`), else particles, whose own error falls with their number.
`effects` is a closed form; `simlab.limits.icu_tasks.areas` estimates the tasks' best areas. Equations: docs/icu.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from simlab.cohort import Cohort
from simlab.environments import icu as world
from simlab.environments import icu_law
from simlab.environments.icu_channels import NAMES, ORGANS, TREATMENTS
from simlab.environments.icu_knobs import IcuSpec
from simlab.errors import OutOfDomain
from simlab.limits import icu_filter
from simlab.limits.icu_filter import Particles, Shown

HORIZONS = (1, 6, 12, 24, 48)
CHARTED = ("map", "spo2", "creatinine", "lactate", "bilirubin", "temp")  # whose forecasts are told beside the state's
PARTICLES = 600
_BLOCK = 128  # stays at a time


def drawn(spec: IcuSpec, n: int, rng: np.random.Generator, domain: str = "source") -> Cohort:
    """n unlabelled stays of a domain."""
    of_factors, of_charts = rng.spawn(2)
    factors = world.sample_factors(n, spec, domain, of_factors)
    return world.observe(factors, spec, domain, of_charts, labelled=False)


def forecast(
    spec: IcuSpec, context: int, horizons: Sequence[int] = HORIZONS, n: int = 400,
    rng: np.random.Generator | None = None, *, domain: str = "source", particles: int = PARTICLES,
) -> list[dict[str, Any]]:
    """Errors of forecasts of hour context - 1 + h from the first `context` hours and the treatments before that hour.

    One row for each horizon, target ("state": the mean over organs; or a channel's standard value), forecaster and
    cohort: horizon, target, forecaster, cohort, n (stays), mae, mae_se, mse, mse_se (standard errors over stays).
    Forecasters: "best" (for mae the posterior median, for mse the mean), "copy-true" (the true state of the last hour
    shown, or its noise-free value), "copy" (its best estimate), "mean-at-hour" (the mean of another draw of stays
    still there). Cohorts: "fixed" (stays that last until the longest horizon), "active" (those there at the horizon).
    A channel's error counts its own measurement noise. Raises OutOfDomain where max_hours is too short.
    """
    steps = sorted(set(horizons))
    if context < 1 or not steps or steps[0] < 1 or context - 1 + steps[-1] >= spec.max_hours:
        raise OutOfDomain(f"forecast: context {context} and horizon {steps[-1:]} do not fit into max_hours = "
                          f"{spec.max_hours}; context + horizon may be at most max_hours.")
    rng = np.random.default_rng(0) if rng is None else rng
    of_stays, of_others, of_filter, of_noise = rng.spawn(4)
    law = icu_law.law_of(spec, domain)
    cohort = drawn(spec, n, of_stays, domain)
    usual = mean_at_hour(drawn(spec, n, of_others, domain))
    away = law.loadings[[NAMES.index(c) for c in CHARTED]]
    targets = np.concatenate([np.eye(len(ORGANS)), away])  # what is forecast, of the state
    truth, length = cohort.factors["state"].astype(np.float64), cohort.length
    median, mean, now = best(law, cohort, context, steps, targets, particles, of_filter)
    noise = of_noise.standard_normal((n, len(steps), len(CHARTED))) * law.noise[[NAMES.index(c) for c in CHARTED]]
    noise = np.concatenate([np.zeros((n, len(steps), len(ORGANS))), noise], axis=2)
    hours = [context - 1 + h for h in steps]
    goal = truth[:, hours] @ targets.T + noise
    copied = np.repeat((truth[:, context - 1] @ targets.T)[:, None], len(steps), axis=1)
    guesses = {"best": (median, mean), "copy-true": (copied, copied),
               "copy": (np.repeat(now[:, None], len(steps), 1),) * 2,
               "mean-at-hour": (np.broadcast_to(usual[hours] @ targets.T, goal.shape),) * 2}  # fmt: skip
    rows = []
    for i, (h, hour) in enumerate(zip(steps, hours, strict=True)):
        for name, (for_mae, for_mse) in guesses.items():
            absolute, squared = np.abs(for_mae[:, i] - goal[:, i]), (for_mse[:, i] - goal[:, i]) ** 2
            for cohort_name, there in (("fixed", length > hours[-1]), ("active", length > hour)):
                rows += [{"horizon": h, "target": target, "forecaster": name, "cohort": cohort_name,
                          **_moments(absolute[there][:, at], "mae"), **_moments(squared[there][:, at], "mse")}
                         for target, at in _places()]
    return rows


def _places() -> list[tuple[str, list[int]]]:
    """What is told, and the columns that it is the mean of."""
    d = len(ORGANS)
    return [("state", list(range(d))), *((name, [d + i]) for i, name in enumerate(CHARTED))]


def _moments(error: Float[np.ndarray, "n c"], name: str) -> dict[str, float | int | None]:
    """Mean over stays, and its standard error (None without stays)."""
    each = error.mean(axis=1) if len(error) else error[:, 0]
    n = len(each)
    return {"n": n, name: float(each.mean()) if n else None,
            f"{name}_se": float(each.std(ddof=1) / np.sqrt(n)) if n > 1 else None}


def mean_at_hour(cohort: Cohort) -> Float[np.ndarray, "hours d"]:
    """The mean state of the stays that are there in each hour (of an hour without any: the hour before's)."""
    there = np.arange(cohort.visits) < cohort.length[:, None]
    total = (cohort.factors["state"] * there[:, :, None]).sum(axis=0, dtype=np.float64)
    means = total / np.maximum(there.sum(axis=0), 1)[:, None]
    for t in np.flatnonzero(~there.any(axis=0)):
        means[t] = means[t - 1]
    return means


def best(
    law: icu_law.Law, cohort: Cohort, context: int, steps: Sequence[int], targets: Float[np.ndarray, "c d"],
    m: int, rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "n h c"], Float[np.ndarray, "n h c"], Float[np.ndarray, "n c"]]:
    """Posterior median and mean of targets of the state at each horizon, and the mean in the last hour shown.

    Given the first `context` hours, the treatments until the hour before the horizon, and that the stay lasts so long.
    """
    parts = []
    for begin in range(0, len(cohort), _BLOCK):
        seen = icu_filter.shown(cohort.take(np.arange(begin, min(begin + _BLOCK, len(cohort)))))
        exact = law.spec.exact_forecast
        parts.append(_exactly(law, seen, context, steps, targets) if exact else
                     _by_particles(law, seen, context, steps, targets, m, rng))  # fmt: skip
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))  # type: ignore[return-value]


def _exactly(
    law: icu_law.Law, seen: Shown, context: int, steps: Sequence[int], targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By the Kalman filter: the posterior is Gaussian, its mean its median."""
    mean, _ = icu_filter.kalman(law, seen, context)
    now = mean[:, -1]
    later = np.stack([icu_filter.ahead(law, now, seen, context - 1, h) for h in steps], axis=1) @ targets.T
    return later, later, now @ targets.T


def _by_particles(
    law: icu_law.Law, seen: Shown, context: int, steps: Sequence[int], targets: np.ndarray, m: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By particles, which go on without charts."""
    found = icu_filter.particles(law, seen, context, m, rng)
    now, medians, means = found.mean() @ targets.T, [], []
    for h in range(1, steps[-1] + 1):
        found = icu_filter.step(law, seen, found, rng, charts=False)
        if h in steps:
            medians.append(_median(found, targets))
            means.append(found.mean() @ targets.T)
    return np.stack(medians, axis=1), np.stack(means, axis=1), now


def _median(found: Particles, targets: Float[np.ndarray, "c d"]) -> Float[np.ndarray, "n c"]:
    """Weighted medians of targets of the state."""
    values = found.x @ targets.T
    order = np.argsort(values, axis=1)
    total = np.cumsum(np.take_along_axis(found.weight[:, :, None], order, axis=1), axis=1)
    pick: Int[np.ndarray, "n 1 c"] = (total < 0.5).sum(axis=1, keepdims=True).clip(max=values.shape[1] - 1)
    return np.take_along_axis(np.take_along_axis(values, order, axis=1), pick, axis=1)[:, 0]


def effects(spec: IcuSpec, horizons: Sequence[int] = HORIZONS, domain: str = "source") -> dict[str, Any]:
    """True effects of treatments at dose 1 on the mean state, by treatment, horizon and organ: closed forms.

    pulse: of one hour of treatment, h hours later, A^(h-1) B; held: of h hours of it, (I + A + ... + A^(h-1)) B. All
    other treatments as they are; regimes do not follow treatments, so both hold with and without them.
    """
    law = icu_law.law_of(spec, domain)
    found: dict[str, Any] = {"organs": list(ORGANS), "horizons": list(horizons), "pulse": {}, "held": {}}
    powers = [np.eye(len(ORGANS))]
    for _ in range(max(horizons) - 1):
        powers.append(law.step @ powers[-1])
    for k, treatment in enumerate(TREATMENTS):
        pulses = [p @ law.effect[k] for p in powers]
        found["pulse"][treatment.name] = [pulses[h - 1].tolist() for h in horizons]
        found["held"][treatment.name] = [np.sum(pulses[:h], axis=0).tolist() for h in horizons]
    return found


def limits(spec: IcuSpec, n: int = 200, context: int = 24) -> dict[str, Any]:
    """Forecasts at the horizons that fit behind `context` hours, treatment effects, and the tasks' best areas."""
    from simlab.limits.icu_tasks import areas

    fitting = [h for h in HORIZONS if context - 1 + h < spec.max_hours]
    notes = ["forecasts run along the recorded treatments, of stays that last so long",
             "areas: posterior-weighted, of the hour-24 risk by particles; no closed form exists"]
    if not spec.exact_forecast:
        notes.insert(0, f"forecasts by {PARTICLES} particles; exact with " + ", ".join(
            f"{k} = {v}" for k, v in {"regimes": "off", "lambda_p": 0, "iota": 0, "sigma": 0}.items()))
    return {
        "exact": {"filter": spec.exact, "forecast": spec.exact_forecast},
        "context": context,
        "forecast": forecast(spec, context, fitting, n) if fitting else [],
        "effects": effects(spec),
        "tasks": {domain: areas(spec, domain=domain) for domain in
                  (("source",) if spec == spec.without_shift() else world.DOMAINS)},
        "notes": notes,
    }  # fmt: skip
