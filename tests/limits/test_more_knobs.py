"""One test a knob of the one-visit world: it moves, and limit and data move together as theory says."""

from dataclasses import replace

import numpy as np
import pytest
from agreement import agree, draw, risk_of
from gaussian_world import label_auc

from simlab.environments.gaussian import limit
from simlab.environments.knobs import spec
from simlab.environments.scenario import sample_cohort
from simlab.errors import OutOfDomain
from simlab.limits import limits
from simlab.limits.gaussian import moments
from simlab.limits.oracles import bayes_weights

SMALL = {"d_c": 2, "d_u": 2, "d_v": 3, "d_g": 2, "d_ni": 1, "d_nc": 1}
PRINTED = 0.5e-3 + 1e-9


# ------------------------------------------------------------------------------------------------------------ shortcut

TABLE = {0.5: (0.890, 0.890), 0.25: (0.870, 0.877), 0.0: (0.850, 0.873), -0.25: (0.829, 0.877), -0.5: (0.807, 0.890)}


@pytest.mark.parametrize("where", ("image", "clinical", "both"))
def test_shortcut_table_of_the_fact_sheet(where):
    """lambda_s = .5 inside, moved outside: the source's best rule, and the limit there; wherever the shortcut lives."""
    for lambda_e, (rule, best) in TABLE.items():
        out = limits(spec(w_c=0.5, shortcut=where, lambda_s=0.5, lambda_e=lambda_e))
        assert out["source_bayes_external"]["full"] == pytest.approx(rule, abs=PRINTED)
        assert out["external"]["full"] == pytest.approx(best, abs=PRINTED)


@pytest.mark.parametrize("where", ("image", "clinical", "both"))
def test_shortcut_limits_agree_with_data(where):
    out = agree(spec(SMALL, shortcut=where, lambda_s=0.6, lambda_e=-0.3, mu_e=0.3, tau_e=1.3, prevalence_e=0.5))
    plain = limits(spec(SMALL))["internal"]
    for view in ("image", "clinical"):
        assert (out["internal"][view] > plain[view] + 0.01) == (where in (view, "both"))
    # A shortcut that both views show is perfectly predictable across them; one that a single view shows is nearly not.
    assert (out["canonical_correlations"][0] > 0.999) == (where == "both")


def test_a_shortcut_carries_the_label_into_the_source_stage():
    """The unlabelled views then depend on what shapes the liability, and say so; without one they do not."""
    for shortcut in ("none", "image"):
        a, b = (spec(SMALL, h2=h2, shortcut=shortcut) for h2 in (0.7, 0.4))
        assert ("h2" in a.stage("source")) == (shortcut != "none") == (a.stage("source") != b.stage("source"))
    strong = spec(SMALL, shortcut="image", lambda_s=0.5)
    x, y = (sample_cohort(s, "pretraining-data", 50, 1, 0) for s in (strong, replace(strong, h2=0.4)))
    assert not np.array_equal(x.streams["image"].values, y.streams["image"].values)
    np.testing.assert_array_equal(x.streams["clinical"].values, y.streams["clinical"].values)
    assert not {"liability", "shortcut"} & set(x.factors)


@pytest.mark.parametrize("symbol", ("lambda_s", "lambda_e"))
def test_a_strength_without_a_shortcut_is_refused(symbol):
    with pytest.raises(OutOfDomain, match="needs a view that shows the shortcut"):
        spec({symbol: 0.3})


# -------------------------------------------------------------------------------------------------- pure coupling (R2)

# m = (.6, .35): one shared cause, h2 rel = m^2 for each view; x_I and x_C then correlate by sqrt(rel_ci rel_cc) = .3
# and by their errors, which makes .5 inside and the rest outside.
R2 = {"d_c": 1, "d_g": 0, "d_ni": 0, "d_nc": 0, "w_c": 1.0, "rel_ci": 0.36 / 0.7, "rel_cc": 0.35**2 / 0.7}
R2_TABLE = {-0.2: 0.813, 0.0: 0.805, 0.3: 0.795, 0.5: 0.788, 0.7: 0.782, 0.85: 0.778}


def errors(coupling):
    """The error correlation that makes two views of R2 correlate so much."""
    a, b = R2["rel_ci"], R2["rel_cc"]
    return (coupling - np.sqrt(a * b)) / np.sqrt((1 - a) * (1 - b))


@pytest.mark.parametrize("coupling", R2_TABLE)
def test_pure_coupling_table_of_the_fact_sheet(coupling):
    out = limits(spec(R2, eta_s=errors(0.5), eta_e=errors(coupling)), k=1)
    assert out["source_bayes_external"]["full"] == pytest.approx(R2_TABLE[coupling], abs=PRINTED)
    for place in ("internal", "external", "source_bayes_external"):
        assert out[place]["image"] == pytest.approx(0.787, abs=PRINTED)
        assert out[place]["clinical"] == pytest.approx(0.665, abs=PRINTED)


def test_pure_coupling_limits_agree_with_data_and_leave_each_view_alone():
    s = spec(SMALL, eta_s=0.5, eta_e=-0.7, kappa_s=0.9, rel_ci=0.5, rel_cc=0.4)
    out = agree(s)
    for view in ("image", "clinical"):
        assert out["internal"][view] == pytest.approx(out["source_bayes_external"][view], abs=1e-12)
    inside, outside = (draw(s, d, 2_000)[1] for d in ("source", "external"))
    np.testing.assert_array_equal(inside[:, :s.p_image], outside[:, :s.p_image])


# -------------------------------------------------------------------------------------------- slope angle, acquisition


def test_slope_angle_limits_agree_with_data():
    agree(spec(SMALL, theta_e=0.8, mu_e=0.4, tau_e=1.5, prevalence_e=0.2, delta_u_e=0.7))


def test_slope_angle_turns_the_rule_and_leaves_the_limit():
    """r of the source's rule falls as cos(theta); the target's own limit does not move (its causes are isotropic)."""
    plain = limits(spec())
    for theta in (0.4, 1.2, np.pi / 2):
        out = limits(spec(theta_e=theta))
        assert out["external"]["full"] == pytest.approx(plain["external"]["full"], abs=1e-12)
        source, target = moments(spec()), moments(spec(theta_e=theta), "external")
        w = bayes_weights(source)
        assert w @ target.cov_liability == pytest.approx(np.cos(theta) * (w @ source.cov_liability))
    assert out["source_bayes_external"]["full"] == pytest.approx(0.5, abs=1e-6)
    with pytest.raises(OutOfDomain, match="2 or more"):
        spec(theta_e=0.3, d_u=1)


@pytest.mark.parametrize("view", ("image", "clinical", "both"))
def test_acquisition_leaves_every_limit_and_moves_the_sources_rule(view):
    s = spec(SMALL, acquired=view, gain_e=2.5, offset_e=0.7, mix_e=0.6, kappa_e=0.6)
    out, plain = agree(s), limits(spec(SMALL, kappa_e=0.6))
    for key in ("full", "image", "clinical"):
        assert out["external"][key] == pytest.approx(plain["external"][key], abs=1e-9)
    moved = {key: plain["source_bayes_external"][key] - out["source_bayes_external"][key] for key in plain["internal"]}
    assert moved["full"] > 0.005 and (moved["image"] > 0.005) == (view in ("image", "both"))
    assert (abs(moved["clinical"]) < 1e-9) == (view == "image")
    assert out["domain_auc"][view if view != "both" else "full"] > 0.8


def test_gain_and_offset_alone_leave_a_views_own_rule():
    """A scanner that reads twice as bright moves no ranking by that view alone, only its weight beside the other."""
    out, plain = limits(spec(gain_e=3.0, offset_e=1.0)), limits(spec())
    assert out["source_bayes_external"]["image"] == pytest.approx(plain["internal"]["image"], abs=1e-12)
    assert out["source_bayes_external"]["full"] < plain["internal"]["full"] - 0.005


def test_acquisition_comes_before_the_map_and_keeps_the_risk():
    """Features are G(A z): the risk is that of the world without acquisition, record by record."""
    a, b = (sample_cohort(spec(SMALL, map="mlp", map_seed=3, **k), "external-data", 500, 1, 0, "external")
            for k in ({}, {"gain_e": 0.5, "offset_e": 2.0, "mix_e": 1.0}))
    np.testing.assert_allclose(a.risk["outcome"], b.risk["outcome"], atol=1e-5)
    assert not np.allclose(a.streams["image"].values, b.streams["image"].values, atol=0.1)
    np.testing.assert_array_equal(a.streams["clinical"].values, b.streams["clinical"].values)


def test_the_worlds_own_limit_is_the_reports():
    s = spec(SMALL, shortcut="image", lambda_s=0.3, theta_e=0.4)
    out = limits(s)
    for view in ("full", "image", "clinical"):
        assert limit(s, "source", view) == out["internal"][view] and limit(s, "external", view) == out["external"][view]
    x = spec(SMALL, w_x=0.5)
    value, se = label_auc(risk_of(x, "source", *draw_z(x)), draw(x, "source", 20_000)[0].label)
    assert abs(value - limit(x, "source", "full")) < 4 * se


def draw_z(s):
    return draw(s, "source", 20_000)[1], "full"
