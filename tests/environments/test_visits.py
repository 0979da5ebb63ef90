"""The longitudinal world: its processes, times and gaps are those of the equations, and its risk is calibrated."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from simlab.environments import visits
from simlab.environments.archive_knobs import ARCHIVE_OWN
from simlab.environments.docs import knob_table
from simlab.environments.knobs import GAUSSIAN_KNOBS
from simlab.environments.registry import find_world
from simlab.environments.scenario import sample_cohort, sample_scenario
from simlab.environments.visit_knobs import LONGITUDINAL_KNOBS, VISIT_KNOBS, spec
from simlab.errors import OutOfDomain, UnknownName
from simlab.evaluation.auc import label_auc
from simlab.limits.simulated import bayes
from simlab.limits.visits import law_of, risk

DOCS = Path(__file__).parents[2] / "docs" / "visits.md"
SMALL = {"d_ni": 1, "d_nc": 1}


def cohort(s, domain="source", n=20_000, seed=0):
    stage = "external-data" if domain == "external" else "test-data"
    return sample_cohort(s, stage, n, 7, seed, domain, world="longitudinal")


def calibration(p, y, bins=20):
    """P-value of the chi-squared test of risk against labels in bins of equal size."""
    parts = np.array_split(np.argsort(p), bins)
    return stats.chi2(bins).sf(sum((y[b] - p[b]).sum() ** 2 / (p[b] * (1 - p[b])).sum() for b in parts))


# ------------------------------------------------------------------------------------------------------------- knobs


def test_reused_knobs_are_the_one_visit_worlds_but_for_the_stage_of_the_liability():
    known = {k.symbol: k for k in GAUSSIAN_KNOBS}
    for knob in LONGITUDINAL_KNOBS[: -len(VISIT_KNOBS)]:
        assert replace(knob, stage=known[knob.symbol].stage) == known[knob.symbol]
    names = [n for knob in LONGITUDINAL_KNOBS for n in {knob.name, knob.symbol}]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("knob", VISIT_KNOBS, ids=lambda knob: knob.symbol)
def test_a_knob_is_whole(knob):
    assert knob.default is None or knob.default in knob.domain
    if knob.sweep is not None:
        low, high = knob.sweep
        assert low < high and low in knob.domain and high in knob.domain
        assert knob.scale == "linear" or low > 0
    extra = {"b_h": {"times": "hawkes"}, "gamma_obs": {"times": "poisson"},
             "shortcut_kind": {"shortcut": "both"}}.get(knob.symbol, {})
    value = knob.domain.words[-1] if knob.scale == "choice" else knob.sweep[1]
    assert spec({**extra, knob.name: value}) == spec({**extra, knob.symbol: value}) != spec(extra)


@pytest.mark.parametrize(("given", "said"), [
    ({"b_h": 0.5, "times": "poisson"}, "hawkes"),
    ({"gamma_obs": 0.5}, "irregular"),
    ({"p_miss": 0.3, "gamma_1": 1.0, "w_v": 1.0}, "image view's evidence"),
    ({"p_miss": 0.3, "gamma_2": 1.0, "w_u": 1.0}, "clinical view's evidence"),
    ({"p_miss_e": 0.3, "missing_in": "both", "gamma_2": 1.0, "w_u": 1.0}, "clinical view's evidence"),
    ({"p_miss": 1.0}, r"\[0, 1\)"),
    ({"n_visits": 0}, "whole numbers"),
    ({"shortcut_kind": "per_visit"}, "shortcut = image, clinical or both"),
    ({"lambda_s": 0.4}, "needs a view that shows the shortcut"),
    ({"theta_c": 0.1, "drift_shared": 0.1}, "given twice"),
])
def test_contradictions_are_refused_with_the_condition_that_fails(given, said):
    with pytest.raises(OutOfDomain, match=said):
        spec(given)


def test_an_unknown_knob_gets_the_nearest_name():
    with pytest.raises(UnknownName, match="visit_rate"):
        spec(visits_rate=1.0)


def test_without_shift_and_stages():
    s = spec(kappa_e=0.2, p_miss=0.1, p_miss_e=0.4)
    assert s.without_shift() == spec(p_miss=0.1) and spec(p_miss=0.1).p_miss_e == 0.1
    assert {"h2", "w_c", "gamma_3", "theta_g"} <= set(s.stage("source")) and set(s.stage("labels")) == {
        "prevalence", "n_lab"}


# ----------------------------------------------------------------------------------------------------- the processes


@pytest.mark.parametrize("domain", visits.DOMAINS)
def test_covariances_over_visits(domain):
    """Every second moment of (measured coordinates at two visits, l), in its own standard errors."""
    s = spec(d_c=1, d_u=1, d_v=1, d_g=1, d_ni=0, d_nc=0, n_visits=3, r_v=1.0, theta_c=0.2, theta_u=0.9, theta_v=0.0,
             theta_g=0.5, nu=0.6, nu_e=-0.3, kappa_s=0.8, kappa_e=0.4, tau_e=1.5, rel_u=0.6)
    n, rng = 100_000, np.random.default_rng(2)
    factors = visits.sample_factors(n, s, domain, rng)
    z = np.concatenate(visits.measure(factors, s, domain, rng)[:2], axis=2)  # c, u, g; c_C, v, g_C
    out = domain == "external"
    kappa, nu, var = (0.4, -0.3, 2.25) if out else (0.8, 0.6, 1.0)
    theta, slope = np.array([0.2, 0.9, 0.5, 0.2, 0.0, 0.5]), np.sqrt(0.7 / 3)
    own = np.array([var, var, 1, kappa**2 * var + 1 - kappa**2, var, 1])
    with_l = np.array([var, var, 0, kappa * var, var, 0]) * slope
    noise = np.array([0.25, 1 / 0.6 - 1, 0, 0.25, 0.25, 0])
    for i in range(3):
        product = z[:, i] * factors.liability[:, None]
        error = (product.mean(0) - with_l * np.exp(-theta * (2 - i))) / (product.std(0) / np.sqrt(n))
        assert np.abs(error).max() < 4.5
        for j in range(i, 3):
            fade = np.exp(-theta * (j - i))
            known = np.diag(own * fade + noise * (i == j))
            known[0, 3], known[3, 0] = (kappa * var * fade[0],) * 2
            known[2, 5], known[5, 2] = (nu * fade[2],) * 2
            products = z[:, i, :, None] * z[:, j, None, :]
            error = (products.mean(0) - known) / (products.std(0) / np.sqrt(n))
            assert np.abs(error).max() < 4.5, (i, j)


def test_times_have_their_rates():
    """Poisson: 1 + a Poisson count; Hawkes: the same long-run rate, more clustered; informative: exp(gamma l)."""
    base = {"n_visits": 60, "window": 5.0, "r_v": 2.0, **SMALL}
    rng = np.random.default_rng
    poisson = visits.sample_factors(8_000, spec(times="poisson", **base), "source", rng(0))
    count = poisson.length - 1
    assert abs(count.mean() - 10) < 4 * np.sqrt(10 / 8_000) and abs(count.var() - 10) < 0.8
    hawkes = visits.sample_factors(8_000, spec(times="hawkes", b_h=0.5, **base), "source", rng(0))
    # The stationary rate is r_v; the first visit adds b/(1-b) = 1 descendant, and the start is without a past.
    assert abs(hawkes.length.mean() - 1 - 10.9) < 0.2 and hawkes.length.var() > 2 * count.var()
    gaps = np.diff(hawkes.time, axis=1)[hawkes.exists[:, 1:]]
    assert (gaps < 0.05).mean() > 2 * (np.diff(poisson.time, axis=1)[poisson.exists[:, 1:]] < 0.05).mean()
    sick = visits.sample_factors(8_000, spec(times="poisson", gamma_obs=0.5, **base), "source", rng(0))
    expected = 10 * np.exp(0.5 * sick.liability - 0.125)
    score = ((sick.length - 1) - expected) / np.sqrt(expected)
    assert abs(score.mean()) < 4 / np.sqrt(8_000) and abs(np.corrcoef(score, sick.liability)[0, 1]) < 4 / np.sqrt(8_000)


def test_the_cohort_keeps_the_contract():
    s = spec(times="poisson", n_visits=6, p_miss=0.3, missing_in="both", **SMALL)
    c = cohort(s, n=500)
    image = c.streams["image"]
    assert image.values.shape == (500, 6, s.p_image) and c.visits == 6 and c.length.min() >= 1
    exists = np.arange(6) < c.length[:, None]
    assert not image.observed[~exists].any() and (image.values[~image.observed] == 0).all()
    assert c.provenance["risk_given"] == ["image", "clinical", "gaps", "visit times"]
    unlabelled = sample_cohort(s, "pretraining-data", 50, 7, 0, world="longitudinal")
    assert not unlabelled.tasks and "liability" not in unlabelled.factors
    assert "n_lab" not in unlabelled.provenance["knobs"]
    with pytest.raises(UnknownName):
        visits.sample_factors(3, s, "extern", np.random.default_rng(0))


def test_zero_filled_gaps_are_zeros_that_count_as_observed():
    masked, zeros = (cohort(spec(p_miss=0.4, gaps=gaps, **SMALL), n=400) for gaps in ("masked", "zero_filled"))
    a, b = masked.streams["clinical"], zeros.streams["clinical"]
    assert b.observed.all() and 0.3 < (~a.observed).mean() < 0.5
    np.testing.assert_array_equal(a.floats(), b.values)
    np.testing.assert_array_equal(masked.risk["outcome"], zeros.risk["outcome"])


def test_records_are_prefixes_and_label_knobs_touch_no_source_bit():
    s = spec(times="hawkes", b_h=0.4, gamma_obs=0.5, p_miss=0.3, gamma_3=1.0, **SMALL)
    long, short = cohort(s, n=300), cohort(s, n=100)
    other = cohort(replace(s, prevalence=0.1, n_lab=50, kappa_e=0.1, p_miss_e=0.7), n=100)
    for name in ("image", "clinical"):
        np.testing.assert_array_equal(long.streams[name].values[:100], short.streams[name].values)
        np.testing.assert_array_equal(short.streams[name].values, other.streams[name].values)
    np.testing.assert_array_equal(long.risk["outcome"][:100], short.risk["outcome"])
    scenario = sample_scenario(replace(s, n_unlab=30, n_lab=20), 1, 0, n_test=40, world="longitudinal")
    assert len(scenario.external["external"]) == 40


# ---------------------------------------------------------------------------------------------------- the exact risk

CALIBRATED = {
    "regular": {},
    "static": {"theta_c": 0.0, "theta_u": 0.0, "theta_v": 0.0, "rel_ci": 1.0, "rel_cc": 1.0},
    "poisson": {"times": "poisson", "n_visits": 7, "kappa_s": 0.6},
    "informative": {"times": "hawkes", "n_visits": 7, "r_v": 1.0, "b_h": 0.6, "gamma_obs": 0.8},
    "mcar": {"p_miss": 0.5, "missing_in": "both"},
    "mar": {"p_miss": 0.4, "gamma_1": 1.5},
    "mnar-own": {"p_miss": 0.4, "gamma_2": 1.5},
    "mnar-label": {"p_miss": 0.4, "gamma_3": 1.0, "missing_in": "image"},
    "shortcut-static": {"shortcut": "both", "lambda_s": 0.5, "lambda_e": -0.3, "p_miss": 0.3, "missing_in": "both"},
    "shortcut-per-visit": {"shortcut": "clinical", "lambda_s": 0.4, "lambda_e": 0.2, "p_miss": 0.4, "gamma_3": 0.7,
                           "shortcut_kind": "per_visit"},
    "all": {"p_miss": 0.4, "missing_in": "both", "gamma_1": 1.0, "gamma_2": -1.5, "gamma_3": 0.7, "n_visits": 2},
}
SHIFT = {"kappa_e": 0.5, "delta_v_e": 0.3, "mu_e": 0.5, "tau_e": 1.4, "prevalence_e": 0.15, "p_miss_e": 0.3}


@pytest.mark.parametrize("domain", visits.DOMAINS)
@pytest.mark.parametrize("case", CALIBRATED)
def test_the_risk_is_calibrated(case, domain):
    s = spec(**CALIBRATED[case], **SMALL, **(SHIFT if domain == "external" else {}))
    c = cohort(s, domain, n=8_000 if case == "all" else 15_000)
    p, y = c.risk["outcome"], c.labels["outcome"]
    assert calibration(p, y) > 1e-4 and p.std() > 0.05
    if domain == "source":
        assert abs((1 - c.streams["clinical"].observed[..., 0].sum() / c.length.sum()) - (
            0.0 if s.missing_in == "image" else s.p_miss)) < 0.02


@pytest.mark.parametrize("gammas", [{}, {"gamma_1": 1.0}, {"gamma_2": 1.0}, {"gamma_3": 0.75}],
                         ids=["mcar", "mar", "mnar-own", "mnar-label"])
def test_the_mask_aware_risk_is_calibrated_where_the_record_is_missing(gammas):
    """One visit, four mechanisms: among the missing, the mean risk is the share of positives, within .003
    and sampling error; ignoring the mask is far off where the liability decides."""
    s = spec(n_visits=1, p_miss=0.4, w_c=0, w_u=0.25 / 0.56, **gammas).along()
    n = 40_000 if "gamma_3" in gammas else 12_000
    factors = visits.sample_factors(n, s, "source", np.random.default_rng(3))
    shown = visits.measure(factors, s, "source", np.random.default_rng(4))[2]
    gone = ~shown.clinical[:, 0]
    y, p = factors.label[gone], risk(law_of(s, "source"), shown)[gone]
    assert abs((y - p).mean()) < 0.003 + 3 * np.sqrt((p * (1 - p)).sum()) / gone.sum()
    assert calibration(p, y) > 1e-4
    ignoring = risk(law_of(replace(s, gamma_1=0.0, gamma_2=0.0, gamma_3=0.0), "source"), shown)[gone]
    if "gamma_3" in gammas:
        assert y.mean() == pytest.approx(0.527, abs=0.01)  # as published, where the setting was not
        assert ignoring.mean() == pytest.approx(0.353, abs=0.006)
    elif "gamma_2" not in gammas:
        np.testing.assert_allclose(ignoring, p, atol=1e-6)  # MCAR and MAR: what is not seen may be ignored


# ---------------------------------------------------------------------------- every knob moves limit and data together

MOVES = [  # knobs, values of one of them, the direction in which the limit of both views moves, the domain
    ("theta_c", 0.0, 2.0, {}, -1, "source"),
    ("theta_u", 0.0, 2.0, {}, -1, "source"),
    ("theta_v", 0.0, 2.0, {}, -1, "source"),
    ("theta_g", 0.0, 2.0, {}, 0, "source"),
    ("n_visits", 1, 4, {"rel_ci": 0.4, "rel_u": 0.4}, 1, "source"),
    ("times", "poisson", "hawkes", {"b_h": 0.0, "n_visits": 5}, 0, "source"),
    ("r_v", 0.4, 8.0, {}, 1, "source"),
    ("window", 0.2, 5.0, {"times": "poisson", "rel_u": 0.3, "rel_v": 0.3}, 1, "source"),
    ("b_h", 0.0, 0.8, {"times": "hawkes", "n_visits": 5, "gamma_obs": 1.0}, -1, "source"),
    ("omega_h", 1.0, 50.0, {"times": "hawkes", "b_h": 0.8, "n_visits": 5, "gamma_obs": 1.0}, None, "source"),
    ("gamma_obs", 0.0, 1.0, {"times": "poisson", "n_visits": 6}, 1, "source"),
    ("shortcut_kind", "static", "per_visit", {"shortcut": "image", "lambda_s": 0.6}, 1, "source"),
    ("p_miss", 0.0, 0.8, {}, -1, "source"),
    ("missing_in", "clinical", "both", {"p_miss": 0.6}, -1, "source"),
    ("gamma_1", 0.0, 1.5, {"p_miss": 0.4, "n_visits": 1}, None, "source"),
    ("gamma_2", 0.0, 1.5, {"p_miss": 0.4, "n_visits": 1}, None, "source"),
    ("gamma_3", 0.0, 1.5, {"p_miss": 0.4, "n_visits": 1}, 1, "source"),
    ("gaps", "masked", "zero_filled", {"p_miss": 0.4}, 0, "source"),
    ("p_miss_e", 0.0, 0.8, {}, -1, "external"),
]


@pytest.mark.parametrize(("symbol", "low", "high", "fixed", "direction", "domain"), MOVES, ids=[m[0] for m in MOVES])
def test_a_knob_moves_limit_and_data_together(symbol, low, high, fixed, direction, domain):
    """The labels' AUC of the risk follows the limit, each within four standard errors; the limit moves as predicted."""
    known = []
    for value in (low, high):
        s = spec({**fixed, symbol: value}, **SMALL)
        limit, c = bayes(s, domain, "full", 16_000), cohort(s, domain, n=6_000)
        area = label_auc(c.risk["outcome"], c.labels["outcome"])
        assert abs(area.value - limit.value) < 4 * np.hypot(area.se, limit.se)
        known.append(limit)
    change, error = known[1].value - known[0].value, np.hypot(known[0].se, known[1].se)
    if direction is not None:
        assert change * direction > 4 * error + 0.003 if direction else abs(change) < 1e-12


def test_every_new_knob_is_moved():
    assert {m[0] for m in MOVES} == {k.symbol for k in VISIT_KNOBS}


# --------------------------------------------------------------------------------------------------------------- docs


def test_documented_table_is_the_codes():
    text = DOCS.read_text(encoding="utf-8")
    assert knob_table(VISIT_KNOBS) in text
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| `([a-z0-9_]+)` \|", text, flags=re.M)
    archive = [(knob.name, knob.symbol) for knob in ARCHIVE_OWN]
    assert [row for row in rows if row not in archive] == [(knob.name, knob.symbol) for knob in VISIT_KNOBS]
    assert [row for row in rows if row in archive] == archive  # the archive world's own, in a table of their own


def test_the_registered_world_is_whole():
    world = find_world("longitudinal")
    assert world.domains == ("source", "external") and world.knobs is LONGITUDINAL_KNOBS
    assert world.limit(spec(), "source", "full") == bayes(spec(), "source", "full").value
