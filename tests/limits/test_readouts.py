"""Read-outs against closed forms, published values and simulation."""

import numpy as np
import pytest
from limits_oracle import rank_auc
from scipy.stats import norm

from simlab.environments.knobs import spec
from simlab.limits import readouts
from simlab.limits.gaussian import moments, posterior
from simlab.limits.oracles import VIEWS, decompose


def both(**knobs):
    s = spec(**knobs)
    return moments(s), moments(s, "external")


@pytest.mark.parametrize(("w_c", "w_u", "r", "unique", "synergy"), [
    (0, 0.5, 0.164, 0, 0.246), (0, 0.7, 0.092, 0.157, 0.162), (1, 0, 0.410, 0, 0.076)])
def test_information_to_printed_digits(w_c, w_u, r, unique, synergy):
    info = readouts.informations(moments(spec(w_c=w_c, w_u=w_u, w_v=1 - w_c - w_u)))
    assert info["pid_redundancy"] == pytest.approx(r, abs=5.1e-4)
    assert info["pid_unique_image"] == pytest.approx(unique, abs=5.1e-4)
    assert info["pid_unique_clinical"] == pytest.approx(0, abs=1e-9)
    assert info["pid_synergy"] == pytest.approx(synergy, abs=5.1e-4)
    assert info["interaction"] == pytest.approx(info["pid_redundancy"] - info["pid_synergy"], abs=1e-12)


def test_information_chain_rules_and_closed_forms():
    s = spec(w_c=0.4, nu=0.3, rel_ci=0.6)
    info = readouts.informations(moments(s))
    assert info["views"] == pytest.approx(-0.5 * (4 * np.log(1 - 0.48) + 2 * np.log(1 - 0.09)))
    for view, rest in (("image", "clinical_given_image"), ("clinical", "image_given_clinical")):
        assert info[f"liability_{view}"] + info[f"liability_{rest}"] == pytest.approx(info["liability_full"])
    assert 0 < info["label_image"] < info["label_full"] < info["liability_full"]
    assert readouts.informations(moments(spec(rel_ci=1.0, rel_cc=1.0)))["views"] is None


def test_label_information_by_sampling():
    """I(y; z) = E[p log(p/K) + (1-p) log((1-p)/(1-K))] over 200,000 sampled risks, within 4.5 standard errors."""
    law = moments(spec(w_c=0.4, prevalence=0.2))
    z = np.random.default_rng(0).multivariate_normal(law.mean, law.cov, 200_000, method="cholesky")
    p = posterior(law, z)
    seen = p * np.log(p / 0.2) + (1 - p) * np.log((1 - p) / 0.8)
    assert abs(seen.mean() - readouts.about_label(law)) < 4.5 * seen.std() / np.sqrt(len(seen))


SHIFTS = [{"kappa_e": 0.4}, {"tau_e": 1.5}, {"mu_e": 1.0, "tau_e": 0.5}, {"nu_e": 0.5}, {"mu_e": 3.0, "tau_e": 8.0},
          {"kappa_e": 0.4, "mu_e": 0.3, "tau_e": 1.2, "d_c": 1, "d_u": 1, "d_v": 1}]


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("view", VIEWS)
def test_domain_auc_by_sampling(shift, view):
    """The exact likelihood ratio scored on 40,000 records of each hospital, within 4.5 standard errors."""
    source, target = both(w_c=0.6, d_ni=2, d_nc=2, **shift)
    at = slice(0, source.p) if view == "full" else source.blocks[view]
    rng = np.random.default_rng(5)
    n = 40_000
    z = np.vstack([rng.multivariate_normal(law.mean[at], law.cov[at, at], n, method="cholesky")
                   for law in (target, source)])
    score = np.zeros(2 * n)
    for sign, law in ((-0.5, target), (0.5, source)):
        away = z - law.mean[at]
        score += sign * np.einsum("np,np->n", away, np.linalg.solve(law.cov[at, at], away.T).T)
    exact = readouts.domain_auc(source, target, view)
    if exact == 0.5:
        assert np.abs(score).max() < 1e-6
        return
    seen, error = rank_auc(score, np.arange(2 * n) < n)
    assert abs(seen - exact) < 4.5 * error


def test_domain_auc_in_closed_form():
    source, target = both(mu_e=0.7)
    for view, causes in (("full", None), ("image", 2)):
        shown = slice(0, source.p) if causes is None else source.image
        delta = target.mean[shown]
        distance = np.sqrt(delta @ np.linalg.solve(source.cov[shown, shown], delta))
        assert readouts.domain_auc(source, target, view) == pytest.approx(norm.cdf(distance / np.sqrt(2)), abs=1e-9)
    same, changed = both(delta_v_e=0.2, delta_u_e=-1.0)
    assert readouts.domain_auc(same, changed) == 0.5  # the concept moved, the records did not


def test_domain_auc_quadrature_is_converged():
    ratio, shift = np.array([3.0, 0.2]), np.array([0.5, 1.0])
    values = [readouts._imhof(ratio, shift, points) for points in (12, 24, 48)]
    assert abs(values[1] - values[2]) < 1e-7 and abs(values[0] - values[2]) < 1e-4


def test_domain_auc_of_resampled_classes():
    source, target = both(w_c=0.6, prevalence_e=0.6)
    z = np.random.default_rng(0).multivariate_normal(source.mean, source.cov, 400_000, method="cholesky")
    p = posterior(source, z)
    u = np.random.default_rng(1).uniform(size=len(p))
    weight = 0.6 / 0.3 * p + 0.4 / 0.7 * (1 - p)  # density of the target relative to the source
    moved = u[200_000:] < weight[200_000:] / weight.max()
    score = np.concatenate([p[:200_000], p[200_000:][moved]])
    seen, error = rank_auc(score, np.arange(len(score)) >= 200_000)
    assert abs(seen - readouts.domain_auc(source, target)) < 4.5 * error
    assert readouts.domain_auc(*both(w_c=0.6, prevalence_e=0.6, kappa_e=0.2)) is None


def test_jeffreys_in_closed_form():
    source, target = both(mu_e=0.7)
    assert readouts.jeffreys(source, target) == pytest.approx(
        target.mean @ np.linalg.solve(source.cov, target.mean), rel=1e-9)
    source, target = both(tau_e=1.7, kappa_e=0.2, nu_e=0.3, mu_e=0.2)
    d = target.mean - source.mean
    a, b = np.linalg.inv(source.cov), np.linalg.inv(target.cov)
    kl = 0.5 * (np.trace(a @ target.cov) + np.trace(b @ source.cov) - 2 * len(d) + d @ (a + b) @ d)
    assert readouts.jeffreys(source, target) == pytest.approx(kl, rel=1e-9)


def test_hospitals_that_share_no_support():
    """A cause that both views show without error, always equal inside, not outside: told apart with certainty."""
    source, target = both(rel_ci=1.0, rel_cc=1.0, kappa_e=0.5)
    assert readouts.domain_auc(source, target) == 1.0 and readouts.jeffreys(source, target) is None


def test_decomposition_adds_up():
    terms = decompose(0.88, 0.85, 0.80, achieved=0.77)
    assert terms.total == pytest.approx(0.88 - 0.77) and terms.learning == pytest.approx(0.03)
    assert decompose(0.88, 0.85, 0.80).learning is None
    assert decompose(0.88, 0.85, 0.80).total == pytest.approx(0.08)
