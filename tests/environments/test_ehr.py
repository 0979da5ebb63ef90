"""The ehr world: its Kalman risk against a dense Gaussian, the longitudinal world and a simulator of the test's own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import block_diag
from scipy.special import ndtr, ndtri

from simlab.environments import ehr, visits
from simlab.environments.ehr_knobs import EHR_KNOBS, spec
from simlab.environments.registry import find_world
from simlab.environments.scenario import sample_cohort
from simlab.errors import OutOfDomain, UnknownName
from simlab.evaluation.auc import label_auc
from simlab.limits.ehr import Shown, bayes, limits, risk
from simlab.limits.visits import VIEWS, law_of, regular_auc
from simlab.limits.visits import risk as visit_risk
from simlab.signatures import Settings, fit

SMALL = {"d_c": 2, "d_u": 2, "d_v": 2, "d_g": 0, "d_ni": 0, "d_nc": 0, "n_visits": 4}


def test_every_value_taken_is_the_longitudinal_world():
    """The same risk, record by record, as the Gaussian process along beta; at regular times its closed-form limit."""
    s = spec(lab_share=1, kappa_s=0.7, theta_c=1.0, **SMALL)
    of_factors, of_measures = np.random.default_rng(0).spawn(2)
    factors = ehr.sample_factors(300, s, "source", of_factors)
    shown = ehr.measure(factors, s, "source", of_measures).shown
    of_visits, _ = np.random.default_rng(0).spawn(2)[1].spawn(2)
    along = visits.measure(factors, s, "source", of_visits)[2]
    law = law_of(s, "source")
    for view in VIEWS:
        assert risk(law, shown.view(view)) == pytest.approx(visit_risk(law, along.view(view)), abs=1e-6)
    s = spec(lab_share=1, times="regular", **SMALL)
    for view in VIEWS:
        value, se = bayes(s, "source", view)
        assert abs(value - regular_auc(s, "source", view)) < 4 * se


def test_informative_times_and_shifted_causes_are_the_longitudinal_worlds():
    """Every value taken: risk record by record as the Gaussian process has it, with times that tell of the liability
    and causes whose mean is another."""
    s = spec(lab_share=1, kappa_s=0.7, theta_c=1.0, gamma_obs=0.6, mu_e=0.8, **SMALL)
    for domain in ("source", "external"):
        of_factors, of_measures = np.random.default_rng(0).spawn(2)
        factors = ehr.sample_factors(60, s, domain, of_factors)
        shown = ehr.measure(factors, s, domain, of_measures).shown
        of_visits, _ = np.random.default_rng(0).spawn(2)[1].spawn(2)
        along = visits.measure(factors, s, domain, of_visits)[2]
        for view in VIEWS:
            want = visit_risk(law_of(s, domain), along.view(view))
            assert risk(law_of(s, domain), shown.view(view)) == pytest.approx(want, abs=1e-6)


def test_the_filter_is_the_dense_gaussian():
    """One record, coordinates and visits stacked into one covariance: E and Var of the liability by one solve."""
    s = spec(lab_share=0.5, kappa_s=0.6, theta_c=0.8, theta_u=0.3, theta_v=2.0, rel_ci=0.5, rel_v=0.6, w_c=0.5, **SMALL)
    of_factors, of_measures = np.random.default_rng(4).spawn(2)
    shown = ehr.measure(ehr.sample_factors(5, s, "source", of_factors), s, "source", of_measures).shown
    got = risk(law_of(s, "source"), shown)
    for i in range(5):
        j = shown.length[i]
        gap = np.abs(shown.time[i, :j, None] - shown.time[i, :j])

        def kernel(theta, gap=gap):
            return np.exp(-theta * gap)

        weight = np.sqrt(s.h2 * np.array([s.w_c, s.w_u, s.w_v]) / 2)
        c, k = kernel(s.theta_c), s.kappa_s
        shared = np.block([[c, k * c], [k * c, c]]) + np.diag(np.repeat([1 / s.rel_ci - 1, 1 / s.rel_cc - 1], j))
        cov = block_diag(*[shared] * 2, *[kernel(s.theta_u) + (1 / s.rel_u - 1) * np.eye(j)] * 2,
                         *[kernel(s.theta_v) + (1 / s.rel_v - 1) * np.eye(j)] * 2)
        last = [np.concatenate([c[-1], k * c[-1]]) * weight[0]] * 2
        last += [kernel(s.theta_u)[-1] * weight[1]] * 2 + [kernel(s.theta_v)[-1] * weight[2]] * 2
        order = [(name, d) for d in range(2) for name in ("c_image", "c_clinical")]
        order += [("u", 0), ("u", 1), ("v", 0), ("v", 1)]
        z = np.concatenate([shown.values[name][i, :j, d] for name, d in order])
        seen = np.concatenate([shown.seen[name][i, :j, d] for name, d in order])
        with_l = np.concatenate(last)[seen]
        solved = np.linalg.solve(cov[np.ix_(seen, seen)], with_l)
        want = ndtr((solved @ z[seen] + ndtri(s.prevalence)) / np.sqrt(1 - solved @ with_l))
        assert got[i] == pytest.approx(want, abs=1e-7)


def forward(s, n: int, rng: np.random.Generator) -> tuple[Shown, np.ndarray]:
    """Records and labels by a simulator of this test's own: processes forward in time, visit by visit."""
    d, j = s.d_c, s.n_visits
    wait = rng.exponential(1 / s.r_v, (n, j - 1))
    time = np.concatenate([np.zeros((n, 1)), wait.cumsum(axis=1)], axis=1)
    inside = time <= s.window
    length = inside.sum(axis=1)
    path = {}
    for name, theta in (("c", s.theta_c), ("own", s.theta_c), ("u", s.theta_u), ("v", s.theta_v)):
        x = [rng.standard_normal((n, d))]
        for k in range(j - 1):
            keep = np.exp(-theta * wait[:, k])[:, None]
            x.append(keep * x[-1] + np.sqrt(1 - keep**2) * rng.standard_normal((n, d)))
        path[name] = np.stack(x, axis=1)
    path["c_clinical"] = s.kappa_s * path["c"] + np.sqrt(1 - s.kappa_s**2) * path["own"]
    rel = {"c_image": ("c", s.rel_ci), "u": ("u", s.rel_u), "c_clinical": ("c_clinical", s.rel_cc), "v": ("v", s.rel_v)}
    values = {k: path[name] + np.sqrt(1 / r - 1) * rng.standard_normal((n, j, d)) for k, (name, r) in rel.items()}
    seen = {k: np.broadcast_to(inside[..., None], (n, j, d)) for k in ("c_image", "u")}
    seen |= {k: inside[..., None] & (rng.random((n, j, d)) < s.p_lab) for k in ("c_clinical", "v")}
    at = np.arange(n), length - 1
    level = sum(np.sqrt(s.h2 * w / d) * path[k][at].sum(axis=1) for k, w in (("c", s.w_c), ("u", s.w_u), ("v", s.w_v)))
    level = level + np.sqrt(1 - s.h2) * rng.standard_normal(n)
    return Shown(values, seen, np.where(inside, time, 0), length), (level > -ndtri(s.prevalence)).astype(float)


def test_limits_and_risk_agree_with_an_independent_simulation():
    s = spec(lab_share=0.5, kappa_s=0.8, theta_c=1.0, theta_v=0.5, w_c=0.4, **SMALL)
    shown, label = forward(s, 15_000, np.random.default_rng(8))
    for view in VIEWS:
        p = risk(law_of(s, "source"), shown.view(view))
        parts = np.array_split(np.argsort(p), 10)
        z = [(label - p)[b].sum() / np.sqrt((p * (1 - p))[b].sum()) for b in parts]
        assert np.abs(z).max() < 4, view
        found, (known, se) = label_auc(p, label), bayes(s, "source", view)
        assert abs(found.value - known) < 4 * np.hypot(found.se, se), view


def test_the_target_is_calibrated_and_what_is_not_taken_costs():
    s = spec(lab_share=0.4, kappa_e=0.3, delta_v_e=0.5, prevalence_e=0.5, **SMALL)
    cohort = sample_cohort(s, "external-data", 6000, 3, 0, "external", world="ehr")
    y, p = cohort.labels["outcome"], cohort.risk["outcome"]
    assert abs((y - p).sum()) < 4 * np.sqrt((p * (1 - p)).sum()) and abs(p.mean() - 0.5) < 0.02
    found, (known, se) = label_auc(p, y), bayes(s, "external", "full")
    assert abs(found.value - known) < 4 * np.hypot(found.se, se)
    assert bayes(s, "external", "full", rule="source")[0] < known < bayes(s, "external", "full", complete=True)[0]


def test_events_are_what_the_streams_say_and_codes_follow_their_density():
    s = spec(lab_share=0.6, code_density=2.0, density_e=0.5, d_ni=1)
    counts = {}
    for domain, stage in (("source", "test-data"), ("external", "external-data")):
        cohort = sample_cohort(s, stage, 400, 0, 0, domain, world="ehr")
        events, stream = cohort.events, cohort.streams["clinical"]
        labs = np.char.startswith(events.code, "LAB//")
        assert labs.sum() == stream.observed.sum() and np.isnan(events.value[~labs]).all()
        first = slice(*events.offsets[:2])
        shown = {(t, c): (v, u) for t, c, v, u in zip(*(getattr(events, k)[first][labs[first]] for k in (
            "time", "code", "value", "unit")), strict=True)}
        visit, channel = np.nonzero(stream.observed[0])
        assert shown == {(stream.time[0, j], stream.channels[i]): (stream.values[0, j, i], stream.units[i])
                         for j, i in zip(visit, channel, strict=True)}
        counts[domain] = (~labs).sum() / cohort.length.sum()
        k = s.n_codes + s.n_drugs
        want = -np.expm1(-(2.0 if domain == "source" else 0.5) * np.geomspace(*ehr.BASE_RATES, k)).sum()
        assert counts[domain] == pytest.approx(want, rel=0.08)
    assert counts["source"] > 2 * counts["external"]


def test_codes_follow_their_coordinates_and_then_the_limit_is_a_bracket():
    s = spec(code_slope=1.0, n_codes=4, n_drugs=0, lab_share=0.5, **SMALL)
    z = np.random.default_rng(0).standard_normal((4000, 1, 4)).astype(np.float32)
    hits = ehr.coded(z, s, "source", np.random.default_rng(1))
    for k in range(4):
        assert np.corrcoef(hits[:, 0, k], z[:, 0, k])[0, 1] > 0.1
        assert abs(np.corrcoef(hits[:, 0, k], z[:, 0, (k + 1) % 4])[0, 1]) < 4 / np.sqrt(4000)
    assert not s.exact and ehr.limit(s, "source", "full") is None and ehr.limit(s, "source", "image") is not None
    known = limits(s, records=4000)
    assert known["internal"]["full"] < known["upper"]["internal"]["full"] and "bracket" in known["notes"][0]
    assert spec(code_slope=1.0, lab_share=1).exact and spec(code_slope=0).exact
    cohort = sample_cohort(s, "test-data", 50, 0, 0, world="ehr")
    assert "laboratory values that were not taken" in cohort.provenance["risk_given"]


def test_the_first_records_are_those_of_a_longer_draw_and_signatures_read_them():
    few, more = (sample_cohort(spec(), "test-data", n, 0, 0, world="ehr") for n in (40, 70))
    assert np.array_equal(few.streams["clinical"].values, more.streams["clinical"].values[:40])
    assert np.array_equal(few.events.code, more.events.take(np.arange(40)).code)
    settings = Settings(signatures=3, day=1 / 365.25, records=10, window=60, tolerance=1e-3)
    time = few.streams["image"].time[np.arange(40), few.length - 1][:, None]
    found = fit(few.events, np.arange(40) < 30, settings, np.random.default_rng(0), time)
    assert found.read(few.events, time, np.ones((40, 1), bool)).observed.all()
    assert not sample_cohort(spec(), "pretraining-data", 5, 0, 0, world="ehr").risk


def test_bad_knobs_are_refused():
    for bad in ({"p_lab": 0}, {"n_codes": -1}, {"b_code": 9}, {"density_e": 11}, {"h2": 1}):
        with pytest.raises(OutOfDomain, match=next(iter(bad))):
            spec(**bad)
    for gone, said in (("tau_e", "along beta alone"), ("gamma_1", "lab_share"), ("p_miss", "lab_share")):
        with pytest.raises(UnknownName, match=f"{gone}.*{said}"):
            spec(**{gone: 0.1})
    with pytest.raises(OutOfDomain, match="hawkes"):
        spec(b_h=0.3)
    assert find_world("ehr").spec(density=3.0).density_e == 3.0
    assert all(k.default is None or k.default in k.domain for k in EHR_KNOBS)
