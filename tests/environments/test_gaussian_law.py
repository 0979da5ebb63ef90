"""The sampler draws from the law that the equations state: moments, posterior, prevalence shifts, controls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gaussian_world import MANY, label_auc, law_by_hand, moment_errors, random_spec
from scipy import stats

from simlab.environments import gaussian
from simlab.environments.knobs import spec
from simlab.limits.gaussian import moments, posterior

N = 100_000
DOMAINS = ("source", "external")


def draw(s, domain, n=N, seed=1):
    """Factors and measured coordinates (n, p) of both views."""
    rng = np.random.default_rng(seed)
    factors = gaussian.sample_factors(n, s, domain, rng)
    return factors, np.concatenate(gaussian.measure(factors, s, rng), axis=1).astype(np.float64)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("seed", range(6))
def test_assembled_moments_are_those_of_the_equations(seed, domain):
    s = random_spec(seed)
    mean, cov = law_by_hand(s, domain)
    known = moments(s, domain)
    np.testing.assert_allclose(known.mean, mean[:-1], atol=1e-12)
    np.testing.assert_allclose(known.cov, cov[:-1, :-1], atol=1e-12)
    np.testing.assert_allclose(known.cov_liability, cov[:-1, -1], atol=1e-12)
    assert known.mean_liability == pytest.approx(mean[-1], abs=1e-12)
    assert known.var_liability == pytest.approx(cov[-1, -1], abs=1e-12)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("seed", range(4))
def test_sampled_moments(seed, domain):
    """Every mean and covariance of (z, l), in its own standard errors; at most about 500 comparisons a case."""
    s = random_spec(seed)
    factors, z = draw(s, domain)
    mean, cov = law_by_hand(s, domain)
    first, second = moment_errors(np.column_stack([z, factors.liability]), mean, cov)
    assert np.abs(first).max() < MANY
    assert np.abs(second).max() < MANY
    # Not only the largest: errors of this size on average, so none is suspiciously small either.
    assert 0.5 < np.sqrt((second**2).mean()) < 1.6


@pytest.mark.parametrize("domain", DOMAINS)
def test_liability_is_normal_and_the_label_its_threshold(domain):
    s = random_spec(11)
    factors, _ = draw(s, domain)
    law = gaussian.liability(s, domain)
    assert stats.kstest(factors.liability, stats.norm(law.mean, law.sd).cdf).pvalue > 1e-4
    np.testing.assert_array_equal(factors.label, factors.liability > law.threshold)
    se = np.sqrt(law.prevalence * (1 - law.prevalence) / N)
    assert abs(factors.label.mean() - law.prevalence) < 4 * se


CALIBRATED = {
    "source": ("source", {}),
    "external": ("external", {}),
    "reweight": ("external", {"prevalence_e": 0.07}),
    "threshold": ("external", {"prevalence_e": 0.07, "prevalence_kind": "threshold"}),
}


@pytest.mark.parametrize("case", CALIBRATED)
@pytest.mark.parametrize("seed", (21, 22))
def test_posterior_is_calibrated(case, seed):
    """20 bins by risk; the sum of squared standardised errors is chi-squared with 20 degrees of freedom."""
    domain, fixed = CALIBRATED[case]
    s = random_spec(seed, **fixed)
    cohort = gaussian.observe(
        gaussian.sample_factors(N, s, domain, np.random.default_rng(seed)), s, domain, np.random.default_rng(seed + 99)
    )
    risk, y = cohort.risk["outcome"], cohort.labels["outcome"]
    bins = np.array_split(np.argsort(risk), 20)
    z2 = [(y[b] - risk[b]).sum() ** 2 / (risk[b] * (1 - risk[b])).sum() for b in bins]
    assert stats.chi2(20).sf(sum(z2)) > 1e-4
    assert risk.std() > 0.02
    assert cohort.provenance["prevalence"] == pytest.approx(y.mean(), abs=4 * np.sqrt(0.25 / N))


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("fixed", ({}, {"prevalence_e": 0.1}, {"rel_ci": 1.0, "rel_cc": 1.0, "kappa_s": 1.0}))
def test_risk_is_the_posterior_of_all_coordinates(domain, fixed):
    """Also where both views show a cause without error, and the covariance is singular."""
    s = random_spec(23, **fixed)
    _, z = draw(s, domain, n=500)
    ours = gaussian.risk(z[:, : s.p_image], z[:, s.p_image :], s, domain)
    np.testing.assert_allclose(ours, posterior(moments(s, domain), z), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("target", (0.05, 0.6))
def test_reweight_resamples_classes_and_nothing_else(target):
    """P(l, z | y) is that of the target without reweighting: a truncated normal liability, and equal moments."""
    plain = random_spec(31)
    moved = replace(plain, prevalence_e=target)
    base, z0 = draw(plain, "external", seed=1)
    new, z1 = draw(moved, "external", seed=2)
    assert abs(new.label.mean() - target) < 4 * np.sqrt(target * (1 - target) / N)
    law = gaussian.liability(moved, "external")
    cut = (law.threshold - law.mean) / law.sd
    for positive in (False, True):
        ends = (cut, np.inf) if positive else (-np.inf, cut)
        truncated = stats.truncnorm(*ends, law.mean, law.sd)
        assert stats.kstest(new.liability[new.label == positive], truncated.cdf).pvalue > 1e-4
        a = np.column_stack([z0, base.liability])[base.label == positive]
        b = np.column_stack([z1, new.liability])[new.label == positive]
        assert np.abs(_difference(a, b)).max() < MANY


def _difference(a, b):
    """Means and second moments of two samples, their differences in standard errors."""
    a2, b2 = (np.column_stack([x, (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)]) for x in (a, b))
    return (a2.mean(0) - b2.mean(0)) / np.sqrt(a2.var(0) / len(a) + b2.var(0) / len(b))


def test_reweight_moves_no_fixed_scores_auc():
    """Each score's label AUC with and without reweighting, on independent draws; `threshold` does move one."""
    plain = random_spec(33, h2=0.9, prevalence=0.4, delta_u_e=1.0, delta_v_e=1.0)
    _, p = draw(plain, "external", n=2)
    scores = np.random.default_rng(5).standard_normal((p.shape[1], 5))
    base, z0 = draw(plain, "external", seed=3)
    for kind in ("reweight", "threshold"):
        new, z1 = draw(replace(plain, prevalence_e=0.03, prevalence_kind=kind), "external", seed=4)
        gaps = []
        for w in scores.T:
            (auc0, se0), (auc1, se1) = label_auc(z0 @ w, base.label), label_auc(z1 @ w, new.label)
            gaps.append((auc1 - auc0) / np.hypot(se0, se1))
        assert (np.abs(gaps) < 4).all() == (kind == "reweight"), (kind, gaps)


def test_reweight_to_the_prevalence_that_holds_changes_nothing():
    plain = random_spec(35)
    same = replace(plain, prevalence_e=gaussian.liability(plain, "external").prevalence)
    (a, za), (b, zb) = (draw(s, "external", n=2_000) for s in (plain, same))
    np.testing.assert_allclose(za, zb, atol=1e-5)
    np.testing.assert_array_equal(a.label, b.label)


def test_common_random_numbers_make_target_knobs_smooth():
    """A small step of any target knob moves every record a little: no record is redrawn."""
    base = {"prevalence_e": 0.2, "kappa_e": 0.5, "delta_u_e": 0.4, "delta_v_e": 0.4, "mu_e": 0.3, "tau_e": 1.2}
    _, z = draw(random_spec(37, **base), "external", n=5_000)
    for knob in base:
        _, near = draw(random_spec(37, **{**base, knob: base[knob] + 1e-4}), "external", n=5_000)
        assert 0 < np.abs(near - z).max() < 0.02, knob


def test_without_signal_labels_are_independent():
    s = spec(h2=0.0, d_ni=2, d_nc=2)
    factors, z = draw(s, "source")
    correlations = [np.corrcoef(column, factors.label)[0, 1] * np.sqrt(N) for column in z.T]
    assert np.abs(correlations).max() < MANY
    cohort = gaussian.observe(factors, s, "source", np.random.default_rng(0))
    np.testing.assert_allclose(cohort.risk["outcome"], s.prevalence, atol=1e-12)


def test_delta_shorthand_is_both_of_its_knobs():
    a, b = spec(delta_clin_e=0.3), spec(kappa_e=0.3, delta_v_e=0.3)
    assert a == b
    np.testing.assert_array_equal(draw(a, "external", n=100)[1], draw(b, "external", n=100)[1])
