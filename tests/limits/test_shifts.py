"""Hypotheses H7, H8 and H10 of the design, on closed forms alone: what each kind of shift must do, known in advance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits_oracle import toy
from scipy.optimize import brentq

from simlab.environments.knobs import spec
from simlab.environments.presets import from_preset
from simlab.errors import OutOfDomain
from simlab.limits import limits
from simlab.limits.gaussian import moments, posterior
from simlab.limits.liability import correlation
from simlab.limits.oracles import bayes_weights, retained, view_oracle
from simlab.limits.shifts import break_even, calibration, rule

R1 = {"w_c": 0.6, "w_u": 0.3, "w_v": 0.1, "rel_ci": 0.4, "rel_cc": 0.9, "d_ni": 1, "d_nc": 1}
UNIT = st.floats(0.02, 0.98)
WORLDS = st.fixed_dictionaries({"w_c": UNIT, "rel_ci": UNIT, "rel_cc": UNIT, "rel_u": UNIT, "rel_v": UNIT, "h2": UNIT,
                                "kappa_s": st.floats(0.2, 1), "prevalence": UNIT})


def fixed(s, view="full"):
    """The source's rule of a view (and of c alone, for "cross_modal")."""
    law = moments(s)
    if view != "cross_modal":
        return bayes_weights(law, view)
    rows = np.r_[law.blocks["c_image"], law.blocks["c_clinical"]]
    weights = np.zeros(law.p)
    weights[rows] = np.linalg.solve(law.cov[np.ix_(rows, rows)], law.cov_liability[rows])
    return weights


# ------------------------------------------------------------------------------------------- H7, proxy decoupling (R1)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(knobs=WORLDS, kappa_e=st.floats(-1, 1))
def test_h7_curve_of_a_frozen_rule(knobs, kappa_e):
    """r = (a + b kappa_e)/sqrt(c + d kappa_e): numerator and variance are linear in kappa_e; imaging-only is flat."""
    s = spec(knobs, d_ni=1, d_nc=1)
    for view in ("full", "clinical", "cross_modal"):
        one, two, here = (rule(fixed(s, view), moments(spec(knobs, d_ni=1, d_nc=1, kappa_e=k), "external"))
                          for k in (1.0, -1.0, kappa_e))
        share = (1 - kappa_e) / 2
        assert here.signal == pytest.approx((1 - share) * one.signal + share * two.signal, abs=1e-12)
        assert here.variance == pytest.approx((1 - share) * one.variance + share * two.variance, abs=1e-12)
    image = [rule(fixed(s, "image"), moments(spec(knobs, d_ni=1, d_nc=1, kappa_e=k), "external")).auc
             for k in (-1.0, kappa_e, 1.0)]
    assert np.ptp(image) < 1e-12


@pytest.mark.parametrize(("world", "fused", "shared"), [(R1, 0.55, 0.93), ("li2025-shared", None, 0.59)])
def test_h7_break_even_is_known_in_advance(world, fused, shared):
    """Where the fused and the shared-only rule fall below imaging-only: as published, and by search."""
    build = (lambda **k: spec(world, **k)) if isinstance(world, dict) else (lambda **k: from_preset(world, **k))
    s = build()
    near, far = moments(s), moments(build(kappa_e=-1.0), "external")
    level = np.sqrt(retained(near, "image"))
    for view, printed in (("full", fused), ("cross_modal", shared)):
        kappa = 1 - 2 * break_even(fixed(s, view), near, far, level)
        assert printed is None or kappa == pytest.approx(printed, abs=0.01)

        def gap(k, view=view):
            outside = moments(build(kappa_e=k), "external")
            return rule(fixed(s, view), outside).correlation - rule(fixed(s, "image"), outside).correlation
        assert kappa == pytest.approx(brentq(gap, -1, 1), abs=1e-9)


def test_h7_near_linear():
    """In the published world no frozen AUC is further than .002 from its chord over kappa_e in [0, 1]."""
    kappas = np.linspace(0, 1, 21)
    outside = [limits(spec(R1, kappa_e=float(k)))["source_bayes_external"] for k in kappas]
    for view, fall in (("full", 0.221), ("cross_modal", 0.274)):
        seen = np.array([o[view] for o in outside])
        assert np.abs(seen - np.interp(kappas, [0, 1], seen[[0, -1]])).max() < 0.002
        assert seen[-1] - seen[0] == pytest.approx(fall, abs=1e-3) and (np.diff(seen) > 0).all()
    assert np.ptp([o["image"] for o in outside]) < 1e-12


# --------------------------------------------------------------------------------------------- H8, pure coupling (R2)


@pytest.mark.parametrize(("coupling", "printed"), [(-0.2, 0.813), (0, 0.805), (0.3, 0.795), (0.5, 0.788),
                                                   (0.7, 0.782), (0.85, 0.778)])
def test_h8_published_curve(coupling, printed):
    """m = (.6, .35), coupling .5 inside: the fused rule gains .788 -> .805 when the views come uncoupled."""
    m = np.array([0.6, 0.35])
    source, target = (toy(np.array([[1, q], [q, 1]]), m, 0.3, 1) for q in (0.5, coupling))
    assert rule(bayes_weights(source), target).auc == pytest.approx(printed, abs=5.1e-4)
    for view, flat in (("image", 0.787), ("clinical", 0.665)):
        assert view_oracle(source, target, view).source_bayes_external == pytest.approx(flat, abs=5.1e-4)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(knobs=WORLDS, inside=st.floats(-0.9, 0.9), outside=st.floats(-0.9, 0.9))
def test_h8_direction_is_the_sign_of_the_change_of_variance(knobs, inside, outside):
    """Errors coupled differently outside: the signal stays, each view stays, and the AUC moves against w'S w."""
    s = spec(knobs, d_ni=1, d_nc=1, eta_s=inside, eta_e=outside)
    source, target = moments(s), moments(s, "external")
    here, there = rule(fixed(s), source), rule(fixed(s), target)
    assert there.signal == pytest.approx(here.signal, abs=1e-12)
    for view in ("image", "clinical"):
        assert view_oracle(source, target, view).source_bayes_external == pytest.approx(
            view_oracle(source, source, view).internal, abs=1e-12)
    change = there.variance - here.variance
    if abs(change) > 1e-9 * here.variance:
        assert np.sign(there.auc - here.auc) == -np.sign(change)


def test_h8_can_improve_and_can_hurt():
    """In one world: coupling the errors the one way raises the frozen rule's AUC, the other way lowers it."""
    aucs = [limits(spec(w_c=0.6, rel_ci=0.5, rel_cc=0.5, eta_e=e))["source_bayes_external"]["full"]
            for e in (-0.8, 0.0, 0.8)]
    assert aucs[0] > aucs[1] + 0.005 and aucs[2] < aucs[1] - 0.005


# ------------------------------------------------------------------------------------------------ H10, label shift


@settings(max_examples=12, deadline=None, derandomize=True)
@given(knobs=WORLDS, prevalence_e=st.floats(0.02, 0.98))
def test_h10_no_auc_moves_and_calibration_does(knobs, prevalence_e):
    """Classes resampled: every rule's AUC is the source's, bit for bit; the source's risk is wrong unless K_e = K."""
    s = spec(knobs, d_ni=1, d_nc=1, prevalence_e=prevalence_e)
    source, target = moments(s), moments(s, "external")
    for view in ("full", "image", "clinical", "cross_modal"):
        assert rule(fixed(s, view), source) == rule(fixed(s, view), target)
    off = calibration(source, target)
    assert off.prevalence == pytest.approx(prevalence_e, abs=1e-6)
    if abs(prevalence_e - s.prevalence) > 1e-3:
        assert off.error > 0 and np.sign(off.mean_risk - prevalence_e) == np.sign(s.prevalence - prevalence_e)


@pytest.mark.parametrize("prevalence_e", [0.05, 0.5])
def test_h10_calibration_by_sampling(prevalence_e):
    """200,000 source records weighted to the target's classes, the library's two risks on each; 4.5 standard errors."""
    s = spec(w_c=0.6, prevalence_e=prevalence_e)
    source, target = moments(s), moments(s, "external")
    z = np.random.default_rng(1).multivariate_normal(source.mean, source.cov, 200_000, method="cholesky")
    old, new = posterior(source, z), posterior(target, z)
    weight = old * prevalence_e / 0.3 + (1 - old) * (1 - prevalence_e) / 0.7
    exact = calibration(source, target)
    for seen, value in ((weight * old, exact.mean_risk), (weight * np.abs(old - new), exact.error)):
        assert abs(seen.mean() - value) < 4.5 * seen.std() / np.sqrt(len(seen))


def test_h10_moving_the_threshold_is_no_label_shift():
    """The threshold kind moves P(z | y) too, and with it every AUC (but no correlation)."""
    plain, moved = (limits(spec(w_c=0.6, d_ni=1, d_nc=1, **k)) for k in (
        {}, {"prevalence_e": 0.05, "prevalence_kind": "threshold"}))
    for view in ("full", "image", "cross_modal"):
        gain = moved["source_bayes_external"][view] - plain["internal"][view]
        assert gain > 0.02
        assert correlation(moved["external"][view], 0.05) == pytest.approx(correlation(plain["internal"][view], 0.3))


def test_refusals():
    s = spec(R1, tau_e=1.5)
    with pytest.raises(OutOfDomain, match="Var"):
        break_even(fixed(s), moments(s), moments(s, "external"), 0.5)
    with pytest.raises(OutOfDomain, match="positive"):
        break_even(fixed(s), moments(s), moments(s), 0.0)
    with pytest.raises(OutOfDomain, match="resampled classes alone"):
        calibration(moments(s), moments(s, "external"))
    law = moments(spec(R1))
    assert break_even(fixed(spec(R1)), law, law, 0.3) is None and rule(np.zeros(law.p), law).auc == 0.5
