"""Do a world's data and its exact limits agree? Moments, calibration of the risk, and AUCs, each in its own error."""

from __future__ import annotations

import numpy as np
from domains import stated_area_error, stated_error
from gaussian_world import label_auc
from scipy import stats

from simlab.environments import gaussian
from simlab.environments.knobs import GaussianSpec
from simlab.limits.gaussian import moments, posterior, view_index
from simlab.limits.joint import joint, reader
from simlab.limits.latent import latent
from simlab.limits.latent_areas import SHOWN
from simlab.limits.places import oracles_of
from simlab.limits.report import PLACES, limits

FAR = 4.75  # a normal deviation that 500 comparisons exceed with probability 1e-3; seeds are fixed
VIEWS = ("full", "image", "clinical")


def draw(s: GaussianSpec, domain: str, n: int, seed: int = 1) -> tuple[gaussian.Factors, np.ndarray]:
    """Factors and measured coordinates (n, p) of both views."""
    rng = np.random.default_rng(seed)
    factors = gaussian.sample_factors(n, s, domain, rng)
    return factors, np.concatenate(gaussian.measure(factors, s, rng, domain), axis=1).astype(np.float64)


def risk_of(s: GaussianSpec, domain: str, z: np.ndarray, view: str) -> np.ndarray:
    """The exact risk given what a view shows."""
    if s.alpha_lat != 2:
        return latent(s, domain, SHOWN[view]).risk(z)
    if s.gaussian:
        return posterior(moments(s, domain), z, view)
    read = reader(joint(s, domain), view_index(moments(s, domain), view))
    return read.risk(read.stats(z))


def agree(s: GaussianSpec, n: int = 40_000, seed: int = 1) -> dict[str, object]:
    """Assert agreement in both hospitals; returns the limits (those of the views alone where each is an integral)."""
    out = limits(s, n_labelled=()) if s.gaussian else views_of(s)
    own = 5 * out["standard_error"] + stated_area_error(s)
    for domain, place in (("source", "internal"), ("external", "external")):
        factors, z = draw(s, domain, n, seed)
        assert_moments(s, domain, factors, z)
        for view in VIEWS:
            risk = risk_of(s, domain, z, view)
            assert_calibrated(risk, factors.label, stated_error(s))
            area, se = label_auc(risk, factors.label)
            assert abs(area - out[place][view]) < FAR * se + own, (domain, view, area, out[place])
            if domain == "external":
                area, se = label_auc(risk_of(s, "source", z, view), factors.label)
                known = out["source_bayes_external"][view]
                assert abs(area - known) < FAR * se + own, (view, area, known)
    return out


def views_of(s: GaussianSpec) -> dict[str, object]:
    """The limits of the three views, in the form of the report."""
    found = oracles_of(s, moments(s), moments(s, "external"), {})
    out: dict[str, object] = {place: {view: getattr(o, place) for view, o in found.items()} for place in PLACES}
    return {**out, "standard_error": max(o.standard_error for o in found.values())}


def assert_moments(s: GaussianSpec, domain: str, factors: gaussian.Factors, z: np.ndarray) -> None:
    """Means and covariances of (z, l) and the prevalence, in standard errors estimated from the draws."""
    law = moments(s, domain)
    x = np.column_stack([z, factors.liability])
    mean = np.append(law.mean, law.mean_liability)
    cov = np.block([[law.cov, law.cov_liability[:, None]], [law.cov_liability[None], np.array([[law.var_liability]])]])
    if law.prevalence == law.prevalence_law:  # a law before classes are resampled
        centred = x - mean
        n = len(x)
        rounding = 1e-6 * (1 + np.abs(mean))  # features are float32, and the effect of a lone hospital is a constant
        assert (np.abs(centred.mean(0)) < FAR * np.sqrt(np.diag(cov) / n) + rounding).all()
        products = centred[:, :, None] * centred[:, None, :]
        error = products.std(0) / np.sqrt(n)
        assert (np.abs(products.mean(0) - cov) < FAR * error + 1e-6).all()
    k = factors.label.mean()
    assert abs(k - law.prevalence) < FAR * np.sqrt(k * (1 - k) / len(x))


def assert_calibrated(risk: np.ndarray, label: np.ndarray, off: float = 0.0) -> None:
    """20 bins by risk: the sum of squared standardised errors is chi-squared with 20 degrees of freedom.

    `off` is the mean error of the risk over all records, which may all lie in one bin. A bin whose labels are all but
    certain (variance of their sum below 1) counts as of variance 1: one surprise there is no normal deviate.
    """
    bins = np.array_split(np.argsort(risk), 20)
    far = [max(abs((label[b] - risk[b]).sum()) - off * len(risk), 0.0) for b in bins]
    z2 = [x**2 / max((risk[b] * (1 - risk[b])).sum(), 1.0) for x, b in zip(far, bins, strict=True)]
    assert stats.chi2(20).sf(sum(z2)) > 1e-4, z2
