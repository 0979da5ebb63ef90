"""Tied canonical correlations: the numbers of docs/theory.md (5), and quadrature against plain Haar draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simlab.environments.knobs import spec
from simlab.errors import OutOfDomain
from simlab.limits import subspace
from simlab.limits.gaussian import moments, only
from simlab.limits.oracles import best_in_span, span_aucs, span_oracle

LAW = moments(spec(w_c=0.8))


@pytest.mark.parametrize(("k", "mean", "low", "high"), [(2, 0.724, 0.500, 0.840), (4, 0.840, 0.840, 0.840),
                                                        (16, 0.859, 0.840, 0.879)])
def test_ruled_numbers(k, mean, low, high):
    oracle = span_oracle(LAW, LAW, subspace.cca(LAW, k))
    assert oracle.ranges[0] == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5.1e-4))
    assert oracle.internal == pytest.approx(mean, abs=5e-4)
    assert low - 1e-3 < oracle.internal < high + 1e-3 and oracle.standard_error == 0


@pytest.mark.parametrize(("k", "knobs"), [(1, {}), (2, {"kappa_e": 0.3, "tau_e": 1.5}), (3, {"kappa_e": -0.5}), (9, {}),
                                          (16, {"delta_u_e": 0.2, "tau_e": 0.6}), (29, {})])
def test_quadrature_agrees_with_haar_draws(k, knobs):
    """Means of internal, external and source-Bayes AUCs over 1,500 uniform choices, within 4.5 standard errors."""
    s = spec(w_c=0.5, **knobs)
    source, target = moments(s), moments(s, "external")
    span = subspace.cca(source, k)
    evaluate = span_aucs(source, target)
    exact = subspace.average(span, (source, target), evaluate)
    seen = np.vstack([evaluate(part) for part in subspace._draws(span, 1500)])
    error = seen.std(0) / np.sqrt(len(seen))
    assert exact.standard_error.max() == 0
    assert np.all(np.abs(seen.mean(0) - exact.mean) < 4.5 * error + 1e-12)
    assert np.all(seen.min(0) > exact.low - 1e-6) and np.all(seen.max(0) < exact.high + 1e-6)


def test_no_quadrature_where_the_target_breaks_the_symmetry():
    """k past the shared causes draws zero-correlation pairs; a target whose nuisance is coupled ties them together."""
    s = spec(w_c=0.5, nu_e=0.6)
    source, target = moments(s), moments(s, "external")
    oracle = span_oracle(source, target, subspace.cca(source, 12))
    assert 0 < oracle.standard_error < 2e-3
    assert oracle == span_oracle(source, target, subspace.cca(source, 12))


def test_canonical_pairs_whiten_and_correlate():
    left, s, right = subspace.canonical(LAW)
    assert np.allclose(left.T @ LAW.cov @ left, np.eye(left.shape[1]), atol=1e-9)
    assert np.allclose(right.T @ LAW.cov @ right, np.eye(right.shape[1]), atol=1e-9)
    assert np.allclose((left.T @ LAW.cov @ right)[:30, :30], np.diag(s), atol=1e-9)
    assert np.allclose(s[:4], 0.8) and np.all(s[4:] < 1e-9)


@given(rel_ci=st.floats(0.1, 1), rel_cc=st.floats(0.1, 1), nu=st.floats(-0.95, 0.95), kappa=st.floats(-1, 1))
@settings(max_examples=40, deadline=None)
def test_canonical_correlations_in_closed_form(rel_ci, rel_cc, nu, kappa):
    """|kappa| sqrt(rel_ci rel_cc), d_c times, and |nu|, d_g times."""
    law = moments(spec(rel_ci=rel_ci, rel_cc=rel_cc, nu=nu, kappa_s=kappa))
    expected = np.sort([abs(kappa) * np.sqrt(rel_ci * rel_cc)] * 4 + [abs(nu)] * 2 + [0.0] * 24)[::-1]
    assert np.allclose(subspace.canonical(law)[1], expected, atol=1e-7)


def test_correlated_nuisance_takes_the_place_of_the_shared_cause():
    """k = d_c pairs collapse to 0.5 once nu passes sqrt(rel_ci rel_cc); none with k = d_c + d_g."""
    def limit(nu, k):
        law = moments(spec(w_c=0.8, nu=nu, d_g=4))
        return span_oracle(law, law, subspace.cca(law, k)).internal
    assert limit(0.79, 4) == pytest.approx(0.840, abs=5e-4) and limit(0.81, 4) == pytest.approx(0.5, abs=1e-9)
    assert limit(0.81, 8) == pytest.approx(0.840, abs=5e-4)
    assert 0.5 < limit(0.8, 4) < 0.84


def test_pca_follows_magnitude_and_cca_does_not():
    def limits(alpha):
        law = moments(spec(w_c=1.0, d_u=1, d_v=1, rel_u=0.99, rel_v=0.99, d_g=4, alpha_g=alpha))
        return [span_oracle(law, law, f(law, 4)).internal for f in (subspace.pca, subspace.cca)]
    quiet, loud = limits(1.0), limits(1.3)
    assert quiet[0] == pytest.approx(quiet[1], abs=1e-9) and loud[0] == pytest.approx(0.5, abs=1e-9)
    assert loud[1] == pytest.approx(quiet[1], abs=1e-12)


def test_cross_prediction_prefers_what_predicts_in_the_others_units():
    """A loud correlated nuisance (alpha_g = 4, nu = .5) beats the shared cause for prediction, not for alignment."""
    law = moments(spec(w_c=0.8, d_g=4, nu=0.5, alpha_g=4.0))
    predicted, aligned = (span_oracle(law, law, f(law, 4)).internal for f in (subspace.cross_prediction, subspace.cca))
    assert predicted == pytest.approx(0.5, abs=1e-9) and aligned == pytest.approx(0.840, abs=5e-4)


def test_best_in_span_is_least_squares():
    rng = np.random.default_rng(4)
    basis = rng.standard_normal((1, LAW.p, 5))
    weights, r = best_in_span(LAW, basis)
    others = rng.standard_normal((200, 5)) @ basis[0].T
    reached = others @ LAW.cov_liability / np.sqrt(np.einsum("np,np->n", others @ LAW.cov, others))
    assert np.all(np.abs(reached) <= r[0] + 1e-12)
    assert weights[0] @ LAW.cov_liability / np.sqrt(weights[0] @ LAW.cov @ weights[0]) == pytest.approx(r[0])


@pytest.mark.parametrize("k", [0, 31, -1])
def test_k_outside_its_domain(k):
    with pytest.raises(OutOfDomain, match=r"\[1, 30\]"):
        subspace.cca(LAW, k)


@pytest.mark.parametrize("k", [3, 12])
def test_leaving_out_unused_coordinates_changes_nothing(k):
    """A span's limits in the coordinates that it uses are those in all coordinates; blocks stay where they belong."""
    span = subspace.cca(LAW, k)
    rows, short = subspace.used(span)
    law = only(LAW, rows)
    assert (len(rows) < LAW.p) == (k == 3)
    for name in ("c_image", "v", "image", "n_clinical"):
        assert np.array_equal(law.cov_liability[law.blocks[name]], [
            LAW.cov_liability[i] for i in range(LAW.p)[LAW.blocks[name]] if i in rows])
    whole, part = (subspace.average(one, (where, where), span_aucs(where, where)).mean
                   for one, where in ((span, LAW), (short, law)))
    assert np.allclose(whole, part, atol=1e-9)
