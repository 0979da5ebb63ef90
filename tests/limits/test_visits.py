"""Limits of the longitudinal world: exact posteriors by two roads, closed forms against sampled data, masks."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_ndtr, ndtr, ndtri
from scipy.stats import multivariate_normal

from simlab.environments import visits as world
from simlab.environments.knobs import spec as one_visit
from simlab.environments.persistence import PERSISTENCE, from_preset
from simlab.environments.visit_knobs import spec
from simlab.errors import OutOfDomain, UnknownName
from simlab.evaluation.auc import label_auc, weighted_auc
from simlab.limits import gaussian, oracles
from simlab.limits.missing import Gaps, Selection, exceeds
from simlab.limits.persistence import MASKS, kept, of_shortcut
from simlab.limits.simulated import bayes, draw, simulated, source_rule
from simlab.limits.visit_report import limits
from simlab.limits.visits import (
    VIEWS,
    Block,
    blocks,
    condition,
    law_of,
    of_liability,
    regular_auc,
    risk,
    selections,
)


@pytest.mark.parametrize(("rate", "published"), [(0.4, 0.700), (1.0, 0.751), (4.0, 0.823)])
def test_published_numbers_of_an_irregularly_observed_process(rate, published):
    """One cause at theta .5, noise .5, h2 .7, K .3, the state at the end of a 5-year window, seen at one
    visit and a Poisson number more, all uniform in the window. Rao-Blackwell Monte Carlo on the posterior's law."""
    rng, n, h2, k = np.random.default_rng(1), 20_000, 0.7, 0.3
    count = 1 + rng.poisson(rate * 5, n)
    time = rng.uniform(0, 5, (n, count.max()))
    seen = np.arange(count.max()) < count[:, None]
    block = Block(0.5, 1.0, np.eye(1), np.ones(1), np.array([0.5]), np.zeros(1), 0.0)
    _, cov = condition(block, time, np.full(n, 5.0), np.zeros((n, 1, count.max())), seen[:, None], np.full(n, -1))
    share = h2 * (1 - cov[:, 0, 0])
    p = ndtr((np.sqrt(share) * rng.standard_normal(n) - ndtri(1 - k)) / np.sqrt(1 - share))
    area = weighted_auc(p, p)
    assert abs(area.value - published) < 3 * area.se + 0.0005


def kalman(block, time, values, seen):
    """Mean and variance of the cause at the last time, by a Kalman filter forwards in time (one record).

    State: the signals of the streams and the cause itself, all of one Ornstein-Uhlenbeck rate.
    """
    streams = len(block.noise)
    stationary = np.block([[np.array([[block.variance]]), block.with_cause[None]],
                           [block.with_cause[:, None], block.gain]])
    centre = np.concatenate([[block.mean_cause], block.mean])
    m, cov, before = np.zeros(1 + streams), stationary, None
    for j, t in enumerate(time):
        if before is not None:
            fade = np.exp(-block.theta * (t - before))
            m, cov = fade * m, fade**2 * cov + (1 - fade**2) * stationary
        before = t
        for s in range(streams):
            if seen[s, j]:
                gain = cov[:, 1 + s] / (cov[1 + s, 1 + s] + block.noise[s])
                m = m + gain * (values[s, j] - centre[1 + s] - m[1 + s])
                cov = cov - np.outer(gain, cov[1 + s])
    return centre[0] + m[0], cov[0, 0]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), theta=st.floats(0, 5), kappa=st.floats(-1, 1), rel=st.floats(0.1, 1.0))
def test_gaussian_process_and_kalman_filter_agree(seed, theta, kappa, rel):
    """Irregular times, gaps in both streams, a shifted and stretched target: two roads to one posterior."""
    rng, visits = np.random.default_rng(seed), 6
    s = spec(theta_c=theta, rel_ci=rel, rel_cc=0.7, kappa_e=kappa, mu_e=0.7, tau_e=1.6)
    block = blocks(law_of(s, "external"))[0]
    time = np.sort(rng.uniform(0, 4, visits))
    values, seen = rng.standard_normal((2, visits)) * 2, rng.random((2, visits)) < 0.6
    mean, cov = condition(block, time[None], time[-1:], values[None], seen[None], np.array([visits - 1]))
    m, v = kalman(block, time, values, seen)
    if rel < 0.999 or theta > 0.01:  # exact repetitions of a noiseless value that random values contradict
        assert mean[0, 0] == pytest.approx(m, abs=1e-5)
    assert cov[0, 0, 0] == pytest.approx(v, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_one_visit_is_the_one_visit_world(seed):
    rng = np.random.default_rng(seed)
    knobs = {"rel_ci": rng.uniform(0.2, 1), "rel_u": rng.uniform(0.2, 1), "kappa_s": rng.uniform(0.3, 1),
             "w_c": rng.uniform(0, 1), "h2": rng.uniform(0.3, 0.95), "kappa_e": rng.uniform(-1, 1),
             "delta_v_e": rng.uniform(-1, 1), "mu_e": rng.uniform(-1, 1), "tau_e": rng.uniform(0.5, 1.8)}
    many, one = spec(knobs, n_visits=1), one_visit(knobs)
    source, target = gaussian.moments(one, "source"), gaussian.moments(one, "external")
    for view in VIEWS:
        oracle = oracles.view_oracle(source, target, view)
        assert regular_auc(many, "source", view) == pytest.approx(oracle.internal, abs=1e-7)
        assert regular_auc(many, "external", view) == pytest.approx(oracle.external, abs=1e-7)
        rule = source_rule(many, view, 20_000)
        assert abs(rule.value - oracle.source_bayes_external) < 4 * rule.se + 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_closed_form_and_monte_carlo_agree_at_random_settings(seed):
    rng = np.random.default_rng(100 + seed)
    rates = dict(zip(("theta_c", "theta_u", "theta_v"), rng.uniform(0, 2, 3), strict=True))
    s = spec(**rates, n_visits=int(rng.integers(1, 7)), r_v=rng.uniform(0.3, 6), rel_ci=rng.uniform(0.1, 1),
             rel_v=rng.uniform(0.1, 1), kappa_s=rng.uniform(0, 1), w_c=rng.uniform(0, 1), h2=rng.uniform(0.2, 0.95),
             prevalence=rng.uniform(0.05, 0.6), kappa_e=rng.uniform(-1, 1), mu_e=rng.uniform(-1, 1))
    for domain in world.DOMAINS:
        for view in VIEWS:
            known, found = bayes(s, domain, view), simulated(s, domain, view, 10_000)
            assert known.se == 0 and abs(known.value - found.value) < 4 * found.se


@settings(max_examples=25, deadline=None)
@given(p=st.floats(0.05, 0.9), g1=st.floats(-2, 2), g2=st.floats(-2, 2), g3=st.floats(-2, 2), seed=st.integers(0, 999))
def test_one_gap_is_a_bivariate_normal(p, g1, g2, g3, seed):
    """With one visit, P(y = 1 | x_I, missing) = Phi2 / Phi, by an independent bivariate normal integral."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((3, 5))
    cov = np.diag([0.3, 0.2, 0.2]) + a @ a.T / 10
    mean, t = rng.standard_normal(3) * 0.5, 0.5
    g = np.array([g3, g1, g2])
    chosen = Selection(g, float(ndtri(p)))
    found = exceeds(t, mean[None], cov[None], [Gaps(chosen, np.array([1]), np.array([0]))], None)[0]
    # l - t > 0 and q > 0, jointly normal
    joint = np.array([[cov[0, 0], cov[0] @ g], [cov[0] @ g, 1 + g @ cov @ g]])
    centre = np.array([mean[0] - t, chosen.intercept + g @ mean])
    both = multivariate_normal(mean=-centre, cov=joint).cdf(np.zeros(2))
    assert found == pytest.approx(both / ndtr(centre[1] / np.sqrt(joint[1, 1])), abs=1e-4)


def test_more_of_the_record_is_never_worse():
    s = spec(times="poisson", n_visits=5, p_miss=0.4, missing_in="both", gamma_3=0.5)
    full, *parts = (bayes(s, "source", view, 10_000) for view in VIEWS)
    assert all(part.value < full.value - 3 * full.se for part in parts)


def test_limits_are_reproducible_strict_json_and_exact_where_they_say_so():
    s = spec(p_miss_e=0.5, gamma_3=0.8)
    out = limits(s, records=4_000)
    assert json.loads(json.dumps(out, allow_nan=False)) == limits(s, records=4_000)
    error = out["standard_error"]
    assert error["internal"] == dict.fromkeys(VIEWS, 0.0) and min(error["external"].values()) > 0
    assert out["internal"]["full"] == regular_auc(s, "source")
    for view in VIEWS:
        assert out["source_bayes_external"][view] <= out["external"][view] + 1e-3
    assert set(limits(spec(n_visits=1), records=2_000)["masks"]) == {"modality"}
    with pytest.raises(UnknownName):
        bayes(s, "external", "imaging")
    with pytest.raises(UnknownName):
        bayes(s, "outside", "full")


# ------------------------------------------------------------------------------------------------------------- masks


def canonical(x, y):
    """Canonical correlations of two samples, descending, and the directions of x."""
    root = [np.linalg.inv(np.linalg.cholesky(np.cov(a.T))).T for a in (x, y)]
    one, two = ((a - a.mean(0)) @ r for a, r in zip((x, y), root, strict=True))
    u, rho, _ = np.linalg.svd(one.T @ two / len(x))
    return rho, root[0] @ u


def sampled(s, n=40_000):
    rng = np.random.default_rng(11)
    factors = world.sample_factors(n, s, "source", rng)
    image, clinical, _ = world.measure(factors, s, "source", rng)
    return image.astype(float), clinical.astype(float), factors


@pytest.mark.parametrize("seed", range(3))
def test_canonical_correlations_of_masks_are_those_of_sampled_data(seed):
    rng = np.random.default_rng(seed)
    s = spec(d_c=2, d_u=1, d_v=1, d_g=2, d_ni=1, d_nc=1, n_visits=3, r_v=1.0, theta_c=rng.uniform(0, 1),
             theta_u=rng.uniform(0, 1), theta_v=0.0, theta_g=rng.uniform(0.05, 1), nu=rng.uniform(0, 0.9),
             kappa_s=rng.uniform(0.4, 1), rel_ci=rng.uniform(0.4, 0.9), alpha_g=3.0)
    image, clinical, _ = sampled(s)
    pairs = {"modality": (image[:, 2], clinical[:, 2]), "visit": (image[:, 1], image[:, 2]),
             "token": (image[:, 2], np.concatenate([image[:, 0], image[:, 1], *np.moveaxis(clinical, 1, 0)], axis=1))}
    for mask in MASKS:
        known = kept(s, mask, 4).correlations["image"]
        expected = sorted(2 * [known["c"]] + [known["own"]] + 2 * [known["g"]] + [known["noise"]], reverse=True)
        found, _ = canonical(*pairs[mask])
        # A sample correlation has standard error below 1/sqrt(n); a null one with p features is sqrt(p/n) in the mean.
        error = (3 + np.sqrt(pairs[mask][1].shape[1])) / np.sqrt(len(image))
        np.testing.assert_allclose(found, expected, atol=error)


@pytest.mark.parametrize(("name", "modality", "visit"), [
    ("causes", "open", "all"), ("causes-mild", "open", "all"), ("level", "open", "none"), ("nuisance", "open", "none"),
    ("static-nuisance", "open", "none"), ("causes-shared", "all", "all"), ("causes-mild-shared", "all", "all"),
    ("level-shared", "all", "none"), ("nuisance-shared", "all", "none"), ("static-nuisance-shared", "all", "none")])
def test_the_masking_policy_decides(name, modality, visit):
    """With independent causes a modality mask has nothing to keep; a visit mask keeps the causes that outlast nuisance,
    and nothing of them where nuisance lasts longer. With shared causes the modality mask keeps them throughout."""
    s = from_preset(f"persistence-{name}")
    limit = bayes(s, "source", "full").value
    for mask, what in (("modality", modality), ("visit", visit)):
        low, high = kept(s, mask, 4).auc
        assert {"all": low == high == pytest.approx(limit, abs=1e-9), "none": low == high == 0.5,
                "open": low == 0.5 and high == pytest.approx(limit, abs=1e-9)}[what], (mask, low, high)
    assert kept(s, "modality", 4).correlations["image"]["own"] == 0


@pytest.mark.parametrize("name", ["persistence-causes", "persistence-nuisance"])
def test_what_a_visit_mask_keeps_predicts_labels_as_predicted(name):
    """CCA-4 between two visits of each view, then least squares on the kept numbers of both visits, scored afresh."""
    s = from_preset(name)
    image, clinical, factors = sampled(s, 30_000)
    half, columns = 15_000, []
    for x in (image, clinical):
        _, directions = canonical(x[:half, 0], x[:half, 1])
        columns += [x[:, 0] @ directions[:, :4], x[:, 1] @ directions[:, :4]]
    features = np.concatenate(columns, axis=1)
    weights = np.linalg.lstsq(features[:half], factors.liability[:half], rcond=None)[0]
    area = weighted_auc(features[half:] @ weights, factors.label[half:].astype(float))
    low, high = kept(s, "visit", 4).auc
    assert low - 4 * area.se < area.value < high + 4 * area.se


def test_the_visit_mask_loses_the_causes_where_drift_says_so():
    """The boundary rel exp(-theta_u D) = exp(-theta_g D): on either side of it, k = d_u keeps all or nothing."""
    base = {"d_c": 1, "d_u": 4, "d_v": 4, "d_g": 12, "theta_c": 25.0, "w_c": 0.0, "n_visits": 2, "r_v": 1.0}
    cross = 0.3 - np.log(0.8)
    for theta_g, share in ((cross + 0.01, 1.0), (cross - 0.01, 0.0)):
        s = spec(**base, theta_u=0.3, theta_v=0.3, theta_g=float(theta_g))
        assert kept(s, "visit", 4).shares["image"]["own"] == share
    tied = kept(spec(**base, theta_u=0.3, theta_v=0.3, theta_g=float(cross)), "visit", 4)
    assert tied.shares["image"]["own"] == 0.25 and tied.auc[0] < tied.auc[1]


def test_masks_refuse_what_has_no_meaning():
    with pytest.raises(UnknownName, match="modality"):
        kept(spec(), "modalities", 4)
    with pytest.raises(OutOfDomain, match="n_visits"):
        kept(spec(n_visits=1), "visit", 4)
    with pytest.raises(OutOfDomain, match="k = 0"):
        kept(spec(), "visit", 0)
    with pytest.raises(UnknownName, match="persistence-causes"):
        from_preset("persistence-cause")
    assert len({p.name for p in PERSISTENCE}) == len(PERSISTENCE) == 10


# ------------------------------------------------------------------------------------------------ informative sampling


def test_informative_times_alone_carry_risk_and_ignoring_them_costs():
    """The exact risk reads the times; a posterior that does not is worse ranked and badly calibrated (Monte Carlo)."""
    s = spec(times="poisson", n_visits=12, r_v=1.0, gamma_obs=1.0).along()
    shown = draw(s, "source", 7_000)
    knows, ignores = (risk(law_of(one, "source"), shown) for one in (s, replace(s, gamma_obs=0.0)))
    best, other = weighted_auc(knows, knows), weighted_auc(ignores, knows)
    assert best.value - other.value > 0.005
    many = shown.length >= 10
    assert knows[many].mean() - ignores[many].mean() > 0.1
    blank = replace(shown, image=np.zeros_like(shown.image), clinical=np.zeros_like(shown.clinical))
    alone = risk(law_of(s, "source"), blank)
    assert weighted_auc(alone, alone).value > 0.7


# ------------------------------------------------------------------------------------- gaps and times, by brute force


def hawkes_log_likelihood(s, level, time, length):
    """Of one record's visits after the first, by the definition: intensities summed, their integral by the rule of
    Simpson on a fine grid between visits."""
    end = s.window if length < len(time) else time[-1]
    base = (1 - s.b_h) * s.r_v * np.exp(s.gamma_obs * level - s.gamma_obs**2 / 2)
    log, total, marks = np.zeros_like(level), np.zeros_like(level), [*time[:length], end]

    def intensity(t, past):
        return base + sum(s.b_h * s.omega_h * np.exp(-s.omega_h * (t - p)) for p in past)

    for i in range(length):
        if i:
            log = log + np.log(intensity(time[i], time[:i]))
        grid = np.linspace(marks[i], marks[i + 1], 101)
        weight = np.full(101, 2.0)
        weight[1::2], weight[[0, -1]] = 4.0, 1.0
        values = np.array([intensity(t, time[: i + 1]) for t in grid])
        total = total + (weight[:, None] * values).sum(0) * (grid[1] - grid[0]) / 3
    return log - total


@pytest.mark.parametrize("stream", ["clinical", "both"])
def test_the_quadrature_is_the_weighted_average_of_draws(stream):
    """Given the Gaussian posterior of (l, s_I, s_C): draws weighted by the likelihood of gaps and times as defined."""
    s = spec(times="hawkes", n_visits=5, r_v=1.5, b_h=0.5, omega_h=3.0, gamma_obs=0.6, p_miss=0.4, missing_in=stream,
             gamma_1=0.8, gamma_2=-1.2, gamma_3=0.9).along()
    law, shown = law_of(s, "source"), draw(s, "source", 400).rows(slice(0, 5))
    mean, cov = of_liability(law, shown)
    known, chosen = risk(law, shown), selections(law)
    rng = np.random.default_rng(5)
    for i in range(len(shown)):
        values, vectors = np.linalg.eigh(cov[i])
        h = mean[i] + rng.standard_normal((30_000, 3)) @ (vectors * np.sqrt(np.maximum(values, 0))).T
        log = hawkes_log_likelihood(s, h[:, 0], shown.time[i], int(shown.length[i]))
        for name, g in chosen.items():
            index = g.intercept + h @ g.direction
            seen = int(getattr(shown, name)[i].sum())
            log = log + (shown.length[i] - seen) * log_ndtr(index) + seen * log_ndtr(-index)
        weight = np.exp(log - log.max())
        found = weight @ (h[:, 0] > law.along.threshold) / weight.sum()
        effective = weight.sum() ** 2 / (weight @ weight)
        assert abs(found - known[i]) < 5 * np.sqrt(max(known[i] * (1 - known[i]), 1e-4) / effective) + 1e-4


@pytest.mark.parametrize("seed", range(4))
def test_calibration_and_limits_at_random_settings(seed):
    """Anywhere in the domain: the risk's AUC against labels is the limit, and the risk is calibrated, for each view."""
    s = random_longitudinal(seed)
    domain = world.DOMAINS[seed % 2]
    rng, law = np.random.default_rng(seed + 1000), law_of(s, domain)
    factors = world.sample_factors(900, s.along(), domain, rng)
    shown = world.measure(factors, s.along(), domain, rng)[2]
    for view in VIEWS:
        p, limit = risk(law, shown.view(view)), simulated(s, domain, view, 900)
        area = label_auc(p, factors.label.astype(float))
        assert abs(area.value - limit.value) < 4.5 * np.hypot(area.se, limit.se)
        assert abs((factors.label - p).sum()) < 4.5 * np.sqrt((p * (1 - p)).sum())


def random_longitudinal(seed):
    """A world with every continuous knob drawn at random over most of its domain."""
    rng = np.random.default_rng(seed)
    draw_in = {"rel_ci": (0.1, 1), "rel_cc": (0.1, 1), "rel_u": (0.1, 1), "rel_v": (0.1, 1), "kappa_s": (-1, 1),
               "h2": (0.1, 0.95), "prevalence": (0.05, 0.6), "kappa_e": (-1, 1), "delta_u_e": (-1, 1),
               "delta_v_e": (-1, 1), "mu_e": (-1, 1), "tau_e": (0.5, 1.8), "theta_c": (0, 3), "theta_u": (0, 3),
               "theta_v": (0, 3), "r_v": (0.3, 12), "window": (1, 10), "p_miss": (0, 0.9), "p_miss_e": (0, 0.9),
               "gamma_1": (-2, 2), "gamma_2": (-2, 2), "gamma_3": (-2, 2)}
    knobs = {name: float(rng.uniform(*ends)) for name, ends in draw_in.items()}
    times = ("regular", "poisson", "hawkes")[rng.integers(3)]
    knobs |= {"times": times, "missing_in": ("clinical", "image", "both")[rng.integers(3)],
              "n_visits": int(rng.integers(1, 8)), "gamma_obs": 0.0 if times == "regular" else rng.uniform(-1, 1),
              "b_h": rng.uniform(0, 0.8) if times == "hawkes" else 0.0, "prevalence_e": float(rng.uniform(0.05, 0.6)),
              "prevalence_kind": ("reweight", "threshold")[rng.integers(2)]}
    shares = rng.dirichlet((1, 1, 1))
    return spec({**knobs, "w_c": float(shares[0]), "w_u": float(shares[1])})


# --------------------------------------------------------------------------------------------------------- shortcuts


@pytest.mark.parametrize("kind", ["static", "per_visit"])
def test_a_shortcut_over_visits_against_the_one_visit_world(kind):
    """One visit: that world's limits. More visits: a static shortcut is one reading of the liability, one with noise of
    its own at each of J visits is a single reading of strength lambda^2 J/(1 + lambda^2 (J - 1))."""
    knobs = {"shortcut": "image", "lambda_s": 0.5, "lambda_e": -0.2, "theta_c": 0.0, "theta_u": 0.0, "theta_v": 0.0}
    plain = {key: value for key, value in knobs.items() if not key.startswith("theta")}
    for domain, law in (("source", one_visit(plain)), ("external", one_visit(plain))):
        known = oracles.view_oracle(*(gaussian.moments(law, d) for d in world.DOMAINS), "full")
        found = regular_auc(spec(knobs, n_visits=1, shortcut_kind=kind), domain)
        assert found == pytest.approx(known.internal if domain == "source" else known.external, abs=1e-9)
    together = np.sqrt(0.25 * 3 / (1 + 0.25 * 2)) if kind == "per_visit" else 0.5
    rel = {name: 1 / (1 + 0.25 / 3) for name in ("rel_ci", "rel_cc", "rel_u", "rel_v")}  # three readings of each cause
    one = gaussian.moments(one_visit(rel, shortcut="image", lambda_s=float(together)))
    for view in ("full", "image"):
        found = regular_auc(spec(knobs, n_visits=3, shortcut_kind=kind), "source", view)
        assert found == pytest.approx(oracles.view_oracle(one, one, view).internal, abs=1e-9)


@pytest.mark.parametrize("kind", ["static", "per_visit"])
def test_how_well_a_mask_predicts_a_shortcut(kind):
    """A static one is its own prediction across visits, one in both views across views; elsewhere only through the
    liability: the multiple correlation of sampled data, within its error."""
    s = spec(d_c=1, d_u=1, d_v=1, d_g=0, d_ni=0, d_nc=0, n_visits=3, shortcut="image", lambda_s=0.7, h2=0.9,
             shortcut_kind=kind)
    image, clinical, _ = sampled(s, 60_000)
    a = image[:, 2, -1]
    contexts = {"modality": clinical[:, 2], "visit": image[:, 1],
                "token": np.concatenate([image[:, 0], image[:, 1], *np.moveaxis(clinical, 1, 0)], axis=1)}
    for mask, x in contexts.items():
        known = of_shortcut(s, mask, "image")
        fit = x @ np.linalg.lstsq(x, a, rcond=None)[0]
        assert np.corrcoef(fit, a)[0, 1] == pytest.approx(known, abs=4 / np.sqrt(len(a)))
        assert (known == 1.0) == (kind == "static" and mask != "modality")
    assert of_shortcut(replace(s, shortcut="both"), "modality", "clinical") == 1.0
    with pytest.raises(OutOfDomain, match="shows no shortcut"):
        of_shortcut(s, "visit", "clinical")
    with pytest.raises(OutOfDomain, match="ties them together"):
        kept(s, "visit", 2)
    out = limits(s, records=500)
    assert out["masks"] == {} and out["shortcut"]["visit"]["image"] == of_shortcut(s, "visit", "image")
