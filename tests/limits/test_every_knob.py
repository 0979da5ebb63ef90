"""Every knob of the one-visit world, one line each: it moves, and limit and data move together as predicted.

At two values the exact score's AUC on sampled labels meets the limit, each within its error, and the limit moves in the
predicted direction: up (1), down (-1), not at all (0), or either way (None: it depends). "limit" is that of both views;
"rule" is the source's best rule in the target. What else a knob moves has tests of its own.
"""

import numpy as np
import pytest
from agreement import FAR, risk_of
from gaussian_world import label_auc

from simlab.environments import gaussian
from simlab.environments.knobs import GAUSSIAN_KNOBS, spec
from simlab.limits import latent_areas
from simlab.limits.gaussian import moments
from simlab.limits.places import oracles_of

SMALL = {"d_c": 2, "d_u": 2, "d_v": 2, "d_g": 2, "d_ni": 1, "d_nc": 1, "map_seed": 1}
TOKENS = {"n_tok": 4, "rel_ci": 0.4, "rel_cc": 0.4, "rel_u": 0.4, "rel_v": 0.4}
HOSPITALS = {"n_sites": 3, "omega_s": 0.6, "rho_s": 0.4, "h2": 0.6}
SHORT = {"shortcut": "image", "lambda_s": 0.5}

MOVES = [  # symbol, two values, direction, knobs beside, what moves
    *((symbol, 1, 5, 0, {}, "limit") for symbol in ("d_c", "d_u", "d_v")),
    *((symbol, 0, 5, 0, {}, "limit") for symbol in ("d_g", "d_ni", "d_nc")),
    *((symbol, 0.2, 0.95, 1, {}, "limit") for symbol in ("rel_ci", "rel_cc", "rel_u", "rel_v")),
    ("kappa_s", 0.2, 1.0, 1, {"w_c": 0.6}, "limit"),
    ("nu", 0.0, 0.9, 0, {}, "limit"),
    ("alpha_g", 0.3, 4.0, 0, {}, "limit"),
    ("alpha_n", 0.3, 4.0, 0, {}, "limit"),
    ("n_tok", 1, 4, 1, {**TOKENS, "n_tok": 1}, "limit"),
    *((symbol, 0.25, 1.0, 1, TOKENS, "limit") for symbol in ("r_tok_c", "r_tok_u", "r_tok_v")),
    ("r_tok_g", 0.25, 1.0, 0, TOKENS, "limit"),
    ("record_tokens", "blocks", "coordinates", 0, TOKENS, "limit"),
    ("eta_s", -0.8, 0.8, -1, {"w_c": 0.8, "rel_ci": 0.5, "rel_cc": 0.5}, "limit"),
    ("shortcut", "image", "both", 0, {"lambda_s": 0.6}, "limit"),
    ("lambda_s", 0.0, 0.7, 1, {"shortcut": "image"}, "limit"),
    ("n_sites", 2, 5, None, HOSPITALS, "limit"),
    ("site_shown", "none", "image", 1, {**HOSPITALS, "omega_s": 0.0}, "limit"),
    ("omega_s", 0.0, 0.8, 1, HOSPITALS, "limit"),
    ("rho_s", 0.0, 0.6, 1, HOSPITALS, "limit"),
    ("alpha_lat", 0.7, 6.0, None, {}, "limit"),
    ("map", "identity", "mlp", 0, {}, "limit"),
    ("condition", 1.0, 100.0, 0, {}, "limit"),
    ("map_seed", 2, 3, 0, {}, "limit"),
    ("n_unlab", 500, 5000, 0, {}, "limit"),
    ("pi_mis", 0.0, 0.5, 0, {}, "limit"),
    ("h2", 0.2, 0.9, 1, {}, "limit"),
    ("prevalence", 0.05, 0.5, -1, {}, "limit"),
    ("w_c", 0.1, 0.9, 1, {}, "limit"),
    ("w_u", 0.1, 0.8, -1, {"rel_u": 0.3}, "limit"),
    ("w_v", 0.1, 0.8, -1, {"rel_v": 0.3}, "limit"),
    ("w_x", 0.0, 0.8, -1, {}, "limit"),
    ("n_lab", 50, 1000, 0, {}, "limit"),
    ("flip", 0.0, 0.3, 0, {}, "limit"),
    ("kappa_e", 1.0, 0.3, -1, {"w_c": 0.6}, "limit"),
    ("delta_u_e", 1.0, 0.2, -1, {}, "limit"),
    ("delta_v_e", 1.0, 0.2, -1, {}, "limit"),
    ("delta_clin_e", 1.0, 0.2, -1, {}, "rule"),
    ("nu_e", 0.0, 0.9, 0, {}, "limit"),
    ("prevalence_e", 0.3, 0.1, 0, {}, "limit"),
    ("prevalence_kind", "reweight", "threshold", 1, {"prevalence_e": 0.05}, "limit"),
    ("mu_e", 0.0, 1.3, 1, {}, "limit"),
    ("tau_e", 1.0, 1.8, 1, {}, "limit"),
    ("theta_e", 0.0, 1.0, -1, {}, "rule"),
    ("eta_e", -0.8, 0.8, -1, {"w_c": 0.8, "rel_ci": 0.5, "rel_cc": 0.5}, "rule"),
    ("lambda_e", 0.5, -0.5, -1, SHORT, "rule"),
    ("n_sites_e", 1, 4, None, HOSPITALS, "limit"),
    ("mu_site_e", 0.0, 1.5, None, HOSPITALS, "rule"),
    ("rho_s_e", 0.4, -0.4, -1, HOSPITALS, "rule"),
    ("acquired", "image", "both", 0, {"gain_e": 3.0}, "limit"),
    ("gain_e", 1.0, 4.0, -1, {}, "rule"),
    ("offset_e", 0.0, 2.0, 0, {}, "rule"),
    ("mix_e", 0.0, 1.0, -1, {}, "rule"),
]


@pytest.mark.parametrize(("symbol", "low", "high", "direction", "beside", "what"), MOVES, ids=[m[0] for m in MOVES])
def test_a_knob_moves_limit_and_data_together(symbol, low, high, direction, beside, what, monkeypatch):
    monkeypatch.setattr(latent_areas, "RECORDS", 500)
    outside = next(k for k in GAUSSIAN_KNOBS if k.symbol == symbol).stage == "target"
    domain, n, limits = "external" if outside else "source", 5_000, []
    for value in (low, high):
        s = spec({**SMALL, **beside, symbol: value})
        oracle = oracles_of(s, moments(s), moments(s, "external"), {})["full"]
        limit = oracle.source_bayes_external if what == "rule" else oracle.external if outside else oracle.internal
        rng = np.random.default_rng(4)
        factors = gaussian.sample_factors(n, s, domain, rng)
        z = np.hstack(gaussian.measure(factors, s, rng, domain)).astype(float)
        area, se = label_auc(risk_of(s, "source" if what == "rule" else domain, z, "full"), factors.label)
        assert abs(area - limit) < FAR * se + 5 * oracle.standard_error, (value, area, limit)
        limits.append((limit, oracle.standard_error))
    (one, e1), (two, e2) = limits
    if direction == 0:
        assert two == pytest.approx(one, abs=1e-9)
    elif direction is not None:
        assert (two - one) * direction > 0.003 + 5 * np.hypot(e1, e2)


def test_every_knob_is_moved():
    assert sorted(m[0] for m in MOVES) == sorted(k.symbol for k in GAUSSIAN_KNOBS)
