"""Worlds beyond one Gaussian: the product u_1 v_1, and mixtures over hospitals. Limit and data move together."""

import json

import numpy as np
import pytest
from agreement import agree, draw, views_of
from gaussian_world import label_auc
from scipy.integrate import quad
from scipy.stats import norm

from simlab.environments.knobs import spec
from simlab.errors import OutOfDomain
from simlab.limits import limits
from simlab.limits.areas import area, view_limit, weighted_area
from simlab.limits.gaussian import moments, site_effects, within
from simlab.limits.joint import NODES, above, joint, reader
from simlab.limits.liability import auc
from simlab.limits.oracles import bayes_weights, view_oracle
from simlab.limits.places import oracles_of
from simlab.limits.readouts import canonical_correlations
from simlab.limits.subspace import cca

SMALL = {"d_c": 2, "d_u": 2, "d_v": 3, "d_g": 2, "d_ni": 1, "d_nc": 1}


@pytest.mark.parametrize("w_x", (0.3, 1.0))
def test_synergy_limits_agree_with_data(w_x):
    out = agree(spec(SMALL, w_x=w_x, h2=0.8, mu_e=0.4, tau_e=1.4, delta_u_e=0.5, kappa_e=0.3), n=15_000)
    assert 0 < out["standard_error"] < 2e-4
    if w_x == 1.0:
        # One factor alone says how far the product may stray, not where to: no linear score of it helps.
        out = views_of(spec(SMALL, w_x=1.0))
        law = moments(spec(SMALL, w_x=1.0))
        assert not law.cov_liability.any() and 0.5 < out["internal"]["image"] < out["internal"]["full"] - 0.1


def test_synergy_moves_both_views_and_not_the_cross_modal_limit_of_what_is_left():
    """Weight that goes from u and v to their product is lost to one view, and kept, in part, by both."""
    plain, crossed = (limits(spec(w_c=0.4, w_u=w, w_v=w, w_x=x)) for w, x in ((0.3, 0.0), (0.0, 0.6)))
    assert crossed["internal"]["image"] < plain["internal"]["image"] - 0.05
    gap = crossed["internal"]["full"] - crossed["internal"]["image"]
    assert gap > plain["internal"]["full"] - plain["internal"]["image"]
    assert crossed["internal"]["full"] > crossed["internal"]["cross_modal"] + 0.05
    assert all(v is None for v in crossed["finite"]["supervised"]) and any("product" in n for n in crossed["notes"])


def test_threshold_stays_and_the_true_prevalence_is_reported():
    s = spec(w_x=0.6, prevalence=0.1)
    law = moments(s)
    assert law.threshold == pytest.approx(moments(spec(prevalence=0.1)).threshold)
    factors, _ = draw(s, "source", 200_000)
    k = factors.label.mean()
    assert abs(k - law.prevalence) < 4 * np.sqrt(k * (1 - k) / 200_000) and abs(law.prevalence - 0.1) > 0.002


def test_probability_of_a_product_against_two_dimensional_quadrature_and_simulation():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((3, 3))
    cov, mean = a @ a.T / 3 + 0.1 * np.eye(3), rng.standard_normal((4, 3))
    ours, fine = (above(0.4, mean, cov, 0.7, nodes) for nodes in (NODES, 200))
    np.testing.assert_allclose(ours, fine, atol=2e-5)
    x, w = np.polynomial.hermite_e.hermegauss(60)
    root = np.linalg.cholesky(cov[1:, 1:])
    u, v = np.meshgrid(x, x, indexing="ij")
    uv = np.stack([u.ravel(), v.ravel()], 1) @ root.T
    weight = np.outer(w, w).ravel() / w.sum() ** 2
    slope = np.linalg.solve(cov[1:, 1:], cov[1:, 0])
    from scipy.special import ndtr
    sd = np.sqrt(cov[0, 0] - cov[0, 1:] @ slope)
    two = [weight @ ndtr((m[0] + uv @ slope + 0.7 * (m[1] + uv[:, 0]) * (m[2] + uv[:, 1]) - 0.4) / sd) for m in mean]
    np.testing.assert_allclose(fine, two, atol=2e-4)


@pytest.mark.parametrize("h2", (0.9, 0.99))
def test_prevalence_of_a_product_alone_by_adaptive_quadrature(h2):
    """w_x = 1: l given u is N(0, 1 - h2 + h2 u^2), so P(l > t) is one integral over u, by scipy."""
    law, kinks = moments(spec(SMALL, w_x=1.0, h2=h2)), [0.01, 0.05, 0.1, 0.3]
    exact, _ = quad(lambda u: norm.pdf(u) * norm.cdf(-law.threshold / np.sqrt(1 - h2 + h2 * u * u)), 0, 9, points=kinks,
                    epsabs=1e-11, limit=200)
    assert law.prevalence == pytest.approx(2 * exact, abs=1e-6)


@pytest.mark.parametrize("known", ("rel_u", "rel_v"))
def test_the_risk_of_a_product_of_which_one_cause_is_all_but_known(known):
    """What is left then turns sharply in the other cause, whatever its name: 40 points against 400."""
    s = spec({**SMALL, "w_x": 1.0, "h2": 0.99, "rel_u": 0.5, "rel_v": 0.5, known: 0.99})
    _, z = draw(s, "source", 2_000)
    read = reader(joint(s))
    means = read.joint.mean + read.stats(z)[:, :3]
    ours, fine = (above(read.joint.total.threshold, means, read.cov, read.joint.product, n) for n in (NODES, 400))
    np.testing.assert_allclose(ours, fine, atol=1e-4)


@pytest.mark.parametrize("s", (spec(SMALL, kappa_e=0.3, mu_e=0.5, tau_e=1.3), spec(w_c=0.8)))
def test_the_integrals_meet_the_closed_forms_where_both_hold(s):
    """A Gaussian world by the general road: the same AUCs, within the stated error."""
    source, target = joint(s, "source"), joint(s, "external")
    known = view_oracle(moments(s), moments(s, "external"), "full")
    for (value, se), exact in ((area(reader(source)), known.internal), (area(reader(target)), known.external),
                               (area(reader(target), reader(source)), known.source_bayes_external)):
        assert se < 2e-4 and value == pytest.approx(exact, abs=max(5 * se, 2e-5))
    assert auc(0.0, 0.3) == 0.5


SITES = {**SMALL, "n_sites": 4, "omega_s": 0.6, "rho_s": 0.4, "h2": 0.7}


def test_site_limits_agree_with_data():
    agree(spec(SITES, n_sites_e=2, mu_site_e=0.7, rho_s_e=-0.3, nu_e=0.3), n=20_000)
    agree(spec(SITES, n_sites_e=1, mu_site_e=1.0, prevalence_e=0.5, prevalence_kind="threshold", w_x=0.2), n=8_000)


def test_a_site_that_sets_label_and_nuisance_is_used_inside_and_misleads_outside():
    """The nuisance tells the hospital and so the label: the limit rises above that of causes alone; turned round
    outside, the source's rule falls below it, and the data say so too."""
    plain = views_of(spec(SITES, omega_s=0.0))
    turned = spec(SITES, rho_s_e=-0.4)
    out = views_of(turned)
    assert out["internal"]["full"] > plain["internal"]["full"] + 0.01
    assert out["source_bayes_external"]["full"] < out["external"]["full"] - 0.01
    factors, z = draw(turned, "external", 60_000)
    read = reader(joint(turned, "source"))
    value, se = label_auc(read.risk(read.stats(z)), factors.label)
    assert abs(value - out["source_bayes_external"]["full"]) < 4 * se + 1e-3


def test_nuisance_loading_makes_the_site_cross_predictable():
    """Correlation of the nuisance between views: omega^2 + (1 - omega^2) nu."""
    law = moments(spec(SITES, nu=0.2))
    # Two nuisance factors share the hospital's effect: along (1, 1) the covariance .64 nu + .72 of variance .64 + .72,
    # across it nu; the causes .8, twice.
    assert canonical_correlations(law)[:4] == pytest.approx([0.8, 0.8, (0.64 * 0.2 + 0.72) / 1.36, 0.2])
    g = law.cov[law.blocks["g_image"], law.blocks["g_clinical"]]
    np.testing.assert_allclose(np.diag(g), 0.36 + 0.64 * 0.2)


def test_hospitals_are_named_and_the_risk_says_that_they_are_marginalised():
    from simlab.environments.scenario import sample_cohort
    s = spec(SITES, n_sites_e=3)
    inside = sample_cohort(s, "test-data", 4_000, 1, 0)
    outside = sample_cohort(s, "external-data", 4_000, 1, 0, "external")
    assert set(inside.site) == {f"source-{i}" for i in range(4)}
    assert set(outside.site) == {f"external-{i}" for i in range(3)}
    assert inside.provenance["risk_over"] == ["site"] and "site" not in inside.provenance["risk_given"]
    assert (np.abs(np.unique(inside.site, return_counts=True)[1] - 1000) < 5 * np.sqrt(750)).all()


@pytest.mark.parametrize(("given", "said"), [
    ({"n_sites": 3, "rho_s": 0.8}, "rho_s^2 = 0.64 > 1 - h2 = 0.3"), ({"rho_s": 0.2}, "n_sites >= 2"),
    ({"omega_s": 0.2}, "mu_site_e"), ({"site_shown": "image"}, "site_shown need hospitals that differ"),
    ({"n_sites": 2, "omega_s": 0.2, "d_g": 0}, "d_g >= 1"),
    ({"n_sites": 2, "rho_s": 0.2, "rho_s_e": 0.9}, "rho_s_e^2"), ({"mu_site_e": 1.0}, "moves nothing"),
    ({"w_x": 0.2, "prevalence_e": 0.2}, "threshold"), ({"w_c": 0.5, "w_u": 0.4, "w_x": 0.2}, "sum to one"),
    ({"w_x": 0.2, "shortcut": "image", "lambda_s": 0.2}, "w_x = 0"),
])
def test_contradictions_are_refused_with_their_condition(given, said):
    with pytest.raises(OutOfDomain) as caught:
        spec(given)
    assert said in str(caught.value)


# -------------------------------------------------------------------------------------------- the hospital as an input


@pytest.mark.parametrize("where", ("clinical", "both"))
def test_limits_with_the_hospital_shown_agree_with_data(where):
    agree(spec(SITES, site_shown=where, n_sites_e=2, mu_site_e=0.7, rho_s_e=-0.3), n=8_000)


def test_the_hospital_as_an_input_is_conditioning_on_it():
    """Known by hand: nuisance then says nothing, and l = rho e + the rest: within a hospital the risk is the Gaussian
    one at its own mean, so that the AUC is that of a mixture over pairs of hospitals."""
    s = spec(SITES, site_shown="clinical", omega_s=0.0)
    out = views_of(s)
    law = moments(spec(SITES, omega_s=0.0, n_sites=1, rho_s=0.0))
    r2 = bayes_weights(law) @ law.cov_liability
    effects, t, n = site_effects(s, "source"), law.threshold, 4_001
    x = norm.ppf((np.arange(n) + 0.5) / n)
    level = (0.4 * effects[:, None] + np.sqrt(r2) * x).ravel()
    risk = norm.cdf((level - t) / np.sqrt(1 - 0.16 - r2))
    assert out["internal"]["full"] == pytest.approx(weighted_area(risk, risk), abs=5e-4)
    hidden = views_of(spec(SITES, omega_s=0.0))
    assert out["internal"]["full"] > hidden["internal"]["full"] + 0.005
    assert out["internal"]["image"] == pytest.approx(hidden["internal"]["image"], abs=1e-4)  # does not show it


@pytest.mark.parametrize("given", ({"n_sites": 1, "n_sites_e": 3}, {"n_sites": 1, "mu_site_e": 0.5}))
def test_a_lone_hospital_that_is_shown_is_a_constant_and_tells_nothing(given):
    """Inside, the one more feature never moves: every limit is that of the world without it."""
    shown, plain = limits(spec(SMALL, site_shown="both", **given)), limits(spec(SMALL))
    for key, value in plain["internal"].items():
        assert shown["internal"][key] == pytest.approx(value, abs=2e-3), key
    assert shown["canonical_correlations"] == pytest.approx(plain["canonical_correlations"])
    json.dumps(shown, allow_nan=False)


def test_where_the_hospital_alone_tells_ties_count_one_half():
    """h2 = 0: the risk takes one value a hospital, Phi(rho e - t): its AUC by a sum over pairs of hospitals."""
    s = spec(SITES, site_shown="image", h2=0.0, rho_s=0.5)
    t = -norm.ppf(s.prevalence)
    p = norm.cdf((0.5 * site_effects(s, "source") - t) / np.sqrt(1 - 0.25))
    above = p[:, None] * (1 - p) * ((p[:, None] > p) + 0.5 * (p[:, None] == p))
    exact = above.sum() / (p.sum() * (1 - p).sum())
    value, se = view_limit(joint(s), "image")
    assert value == pytest.approx(exact, abs=1e-9 + 5 * se) and exact > 0.55


def test_a_hospital_shown_by_both_views_is_the_first_canonical_pair():
    """The trap: perfectly predictable across views, so a pretrainer of narrow width takes it first."""
    s = spec(SITES, site_shown="both", rho_s=0.0)
    assert canonical_correlations(moments(s))[0] > 1 - 1e-9 > canonical_correlations(moments(s))[1]
    first = oracles_of(s, moments(s), moments(s, "external"), {"one": cca(moments(s), 1)})["one"]
    assert first.internal == pytest.approx(0.5, abs=1e-9)


def test_a_cohort_says_that_the_hospital_is_an_input():
    from simlab.environments.scenario import sample_cohort
    cohort = sample_cohort(spec(SITES, site_shown="image", map="identity"), "test-data", 300, 1, 0)
    assert "site" in cohort.provenance["risk_given"] and "risk_over" not in cohort.provenance
    shown = cohort.streams["image"].values[:, 0, -1]
    assert len(set(zip(shown.tolist(), cohort.site.tolist(), strict=True))) == 4


def test_a_label_that_the_hospital_alone_decides():
    """h2 = 0 and rho_s = 1 leave the liability no noise: l is the site effect, and the hospital shown is the label."""
    s = spec(h2=0.0, rho_s=1.0, n_sites=4, site_shown="clinical", prevalence=0.4)
    assert moments(s).var_liability == pytest.approx(1) and within(s).var_liability == 0
    found = limits(s, n_labelled=())["internal"]
    assert found["clinical"] == pytest.approx(1, abs=1e-9)
    assert found["image"] == pytest.approx(0.5, abs=1e-9)
