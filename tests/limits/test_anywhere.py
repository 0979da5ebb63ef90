"""All limits against independent Monte Carlo at random settings over the whole domain of the one-visit world's knobs.

Records come from a second sampler (tests/support/equations.py), labels from its liabilities; what is tested is that the
exact rules score on them what the limits say, within the sampling error and the limits' own.
"""

import numpy as np
import pytest
from agreement import FAR, risk_of
from domains import inside, often, room, stated_area_error
from equations import records
from gaussian_world import label_auc
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from simlab.environments.knobs import GaussianSpec, spec
from simlab.errors import OutOfDomain
from simlab.limits.gaussian import moments
from simlab.limits.oracles import bayes_weights, best_in_span
from simlab.limits.places import oracles_of
from simlab.limits.subspace import cca

SOURCE = {
    **{name: st.integers(2, 4) for name in ("d_c", "d_u", "d_v")}, **{name: st.integers(0, 3) for name in (
        "d_g", "d_ni", "d_nc")},
    **{name: inside(name, 0.05) for name in ("rel_ci", "rel_cc", "rel_u", "rel_v")}, "kappa_s": inside("kappa_s"),
    "nu": inside("nu"), "alpha_g": inside("alpha_g", 0.1, 10), "alpha_n": inside("alpha_n", 0.1, 10),
    "h2": inside("h2", 0.0, 0.95), "prevalence": inside("prevalence", 0.05, 0.95), "w_c": inside("w_c"),
    "eta_s": often(0.0, inside("eta_s")), "shortcut": often("none", st.sampled_from(["image", "clinical", "both"])),
    "lambda_s": often(0.0, inside("lambda_s", -0.9, 0.9))}
TARGET = {
    "kappa_e": inside("kappa_e"), "delta_u_e": often(1.0, inside("delta_u_e")), "nu_e": inside("nu_e"),
    "delta_v_e": often(1.0, inside("delta_v_e")), "mu_e": often(0.0, inside("mu_e", -1.5, 1.5)),
    "tau_e": often(1.0, inside("tau_e", 0.3, 3)), "theta_e": often(0.0, inside("theta_e")),
    "eta_e": often(0.0, inside("eta_e")), "lambda_e": often(0.0, inside("lambda_e", -0.9, 0.9)),
    "acquired": st.sampled_from(["image", "clinical", "both"]), "gain_e": often(1.0, inside("gain_e", 0.1, 10)),
    "offset_e": often(0.0, inside("offset_e", -5, 5)), "mix_e": often(0.0, inside("mix_e")),
    "prevalence_e": often(None, inside("prevalence_e", 0.05, 0.95)),
    "prevalence_kind": st.sampled_from(["reweight", "threshold"])}
# Slopes on the site effect are shares of the largest that is not refused.
BEYOND = {"w_x": often(0.0, inside("w_x")), "h2": inside("h2"), "n_sites": st.integers(1, 6),
          "n_sites_e": st.integers(1, 4), "omega_s": often(0.0, inside("omega_s")),
          "rho_s": often(0.0, inside("rho_s")), "rho_s_e": often(0.0, inside("rho_s_e")),
          "mu_site_e": often(0.0, inside("mu_site_e", -1, 1)),
          "site_shown": often("none", st.sampled_from(["image", "clinical", "both"]))}


def build(knobs, share):
    """A world from drawn knobs; contradictions are left to the tests of their refusals."""
    given_ones = {key: value for key, value in knobs.items() if value is not None}
    w_x = given_ones.get("w_x", 0.0)
    given_ones["w_c"] *= 1 - w_x
    if given_ones["shortcut"] == "none":
        given_ones.pop("lambda_s"), given_ones.pop("lambda_e")
    given_ones |= {"w_x": w_x, "w_u": (1 - w_x - given_ones["w_c"]) * share}
    for symbol, most in zip(("rho_s", "rho_s_e"), room(given_ones), strict=True):
        if symbol in given_ones:
            given_ones[symbol] *= most
    try:
        return spec(given_ones)
    except OutOfDomain:
        assume(False)


def agree(world: GaussianSpec, n: int, seed: int) -> None:
    """Every view's exact rule, inside and outside, and the first d_c canonical pairs where they are one subspace."""
    rng = np.random.default_rng(seed)
    source, target = moments(world), moments(world, "external")
    span = cca(source, world.d_c)
    untied = world.gaussian and not span.tied
    known = oracles_of(world, source, target, {"cross_modal": span} if untied else {})
    own = stated_area_error(world)
    rules = {"internal": ("source", False), "external": ("external", True), "source_bayes_external": ("source", True)}
    drawn = {out: records(world, out, n, rng) for out in (False, True)}
    check_moments(drawn[False][0], source)
    if target.prevalence == target.prevalence_law:  # no class was resampled
        check_moments(drawn[True][0], target)
    for place, (knows, out) in rules.items():
        z, y = drawn[out]
        if min(y.sum(), (~y).sum()) < 50:
            continue
        for view, oracle in known.items():
            if view == "cross_modal":
                score = z @ best_in_span(source if knows == "source" else target, span.fixed[None])[0][0]
            elif world.gaussian:  # the linear score: far from home a risk is 0 or 1 to the last digit, and ties
                score = z @ bayes_weights(source if knows == "source" else target, view)
            else:
                score = risk_of(world, knows, z, view)
            check(score, y, getattr(oracle, place), oracle.standard_error, (place, view), own)


def check_moments(z, law):
    """Means and covariances of all that is measured, in their standard errors."""
    n, sd = len(z), np.sqrt(np.diag(law.cov))
    sd = np.where(sd > 0, sd, 1.0)  # the effect of a lone hospital, shown, is a constant
    x = (z - law.mean) / sd
    assert (np.abs(x.mean(0)) < FAR / np.sqrt(n)).all()
    seen, squares = x.T @ x / n, (x**2).T @ (x**2) / n
    far = np.abs(seen - law.cov / np.outer(sd, sd))
    assert (far < FAR * np.sqrt(np.maximum(squares - seen**2, 0) / n) + 1e-6).all()


def check(score, y, exact, error, where, own=0.0):
    """A rank AUC against the exact one: in its DeLong error, its least where classes are all but apart.

    `error` is the limit's standard error, `own` what its quadrature may be off by.
    """
    if np.ptp(score) < 1e-9:
        assert exact == pytest.approx(0.5, abs=1e-6), where
        return
    score = score + np.random.default_rng(0).standard_normal(len(y)) * 1e-12 * np.std(score)  # no ties at 0 and 1
    seen, se = label_auc(score, y)
    least = 0.3 / np.sqrt(min(y.sum(), (~y).sum())) * np.sqrt(max(exact * (1 - exact), 1e-3))
    assert abs(seen - exact) < FAR * max(se, least) + 5 * error + own, (where, seen, exact, se)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(source=st.fixed_dictionaries(SOURCE), target=st.fixed_dictionaries(TARGET), share=st.floats(0, 1),
       seed=st.integers(0, 2**32))
def test_limits_agree_with_another_sampler(source, target, share, seed):
    """Gaussian worlds: closed forms, some 300 AUCs and all moments."""
    agree(build({**source, **target}, share), 20_000, seed)


@pytest.mark.proof
@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(source=st.fixed_dictionaries(SOURCE), target=st.fixed_dictionaries(TARGET), share=st.floats(0, 1),
       seed=st.integers(0, 2**32))
def test_limits_agree_with_another_sampler_at_length(source, target, share, seed):
    agree(build({**source, **target}, share), 40_000, seed)


@pytest.mark.proof
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(source=st.fixed_dictionaries(SOURCE), target=st.fixed_dictionaries(TARGET), beyond=st.fixed_dictionaries(BEYOND),
       share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_integrals_agree_with_another_sampler(source, target, beyond, share, seed):
    """Products of causes and mixtures of hospitals: limits by quadrature, with their standard error."""
    near = {key: value for key, value in target.items() if key not in ("gain_e", "offset_e")}
    agree(build({**source, **near, **beyond}, share), 20_000, seed)
