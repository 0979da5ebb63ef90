"""Random longitudinal worlds: limits against a second sampler, forwards in time (tests/support/visit_equations.py).

Each view's exact risk scores on the second sampler's labels what the limit says, and is calibrated on them, inside and
outside; a failing world is shrunk by hypothesis to the knobs that matter.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from visit_equations import visits

from simlab.environments.visit_knobs import spec
from simlab.errors import OutOfDomain
from simlab.evaluation.auc import label_auc
from simlab.limits.simulated import bayes
from simlab.limits.visits import VIEWS, law_of, risk

FAR = 4.75


def often(default, strategy):
    return st.just(default) | strategy


rel, sign, gamma = st.floats(0.1, 1), st.floats(-1, 1), often(0.0, st.floats(-1.5, 1.5))
KNOBS = st.fixed_dictionaries({
    **dict.fromkeys(("rel_ci", "rel_cc", "rel_u", "rel_v"), rel), "kappa_s": sign, "h2": st.floats(0.1, 0.95),
    "prevalence": st.floats(0.1, 0.6), "w_c": st.floats(0, 0.8), "n_visits": st.integers(1, 4),
    **dict.fromkeys(("theta_c", "theta_u", "theta_v"), st.floats(0, 3)), "r_v": st.floats(0.3, 6),
    "window": st.floats(0.5, 5), "times": st.sampled_from(["regular", "poisson", "hawkes"]), "b_h": st.floats(0, 0.7),
    "p_miss": often(0.0, st.floats(0.05, 0.8)), "p_miss_e": often(0.0, st.floats(0.05, 0.8)),
    "missing_in": st.sampled_from(["clinical", "image", "both"]), "gamma_1": gamma, "gamma_2": gamma, "gamma_3": gamma,
    "shortcut": often("none", st.sampled_from(["image", "clinical", "both"])), "lambda_s": st.floats(-0.8, 0.8),
    "lambda_e": st.floats(-0.8, 0.8), "shortcut_kind": st.sampled_from(["static", "per_visit"]),
    "kappa_e": sign, "delta_u_e": often(1.0, sign), "delta_v_e": often(1.0, sign), "mu_e": often(0.0, sign),
    "tau_e": often(1.0, st.floats(0.6, 1.6)), "prevalence_e": often(None, st.floats(0.1, 0.6)),
    "prevalence_kind": st.sampled_from(["reweight", "threshold"])})


def build(knobs):
    """A world along beta; contradictions are left to the tests of their refusals."""
    knobs = {key: value for key, value in knobs.items() if value is not None}
    if knobs["times"] != "hawkes":
        knobs.pop("b_h")
    if knobs["shortcut"] == "none":
        for key in ("lambda_s", "lambda_e", "shortcut_kind"):
            knobs.pop(key)
    try:
        return spec(knobs).along()
    except OutOfDomain:
        assume(False)


def agree(s, n, records, seed):
    """In sampling errors; the margins of .001 and .002 are for the second sampler's intercept of the index, which it
    estimates from its own n records (standard error sd(w)/sqrt(n)) where simlab has it exactly."""
    rng = np.random.default_rng(seed)
    for domain in ("source", "external"):
        shown, y = visits(s, domain == "external", n, rng)
        law = law_of(s, domain)
        if min(y.sum(), (~y).sum()) < 50:
            continue
        for view in VIEWS:
            p, limit = risk(law, shown.view(view)), bayes(s, domain, view, records)
            area = label_auc(p, y.astype(float))
            assert abs(area.value - limit.value) < FAR * np.hypot(area.se, limit.se) + 1e-3, (domain, view)
            assert abs((y - p).sum()) < FAR * np.sqrt((p * (1 - p)).sum()) + 2e-3 * len(y), (domain, view)


def many(examples):
    """The same examples every time: a deviation of chance was looked at once and for all."""
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None,
                    suppress_health_check=list(HealthCheck))


@many(4)
@given(KNOBS, st.integers(0, 2**32))
def test_limits_over_visits_agree_with_another_sampler(knobs, seed):
    agree(build(knobs), 1_500, 2_000, seed)


@pytest.mark.proof
@many(25)
@given(KNOBS, st.integers(0, 2**32))
def test_limits_over_visits_agree_with_another_sampler_at_length(knobs, seed):
    agree(build(knobs), 5_000, 6_000, seed)
