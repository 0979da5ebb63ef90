"""What must hold in every world: order of the limits, nulls, invariances, strict JSON; over random specifications."""

import inspect
import json
import math
import typing
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simlab.environments.knobs import spec
from simlab.limits import finite, gaussian, liability, limits, oracles, readouts, report, subspace, table

SLACK = 1e-7
unit, small = st.floats(0, 1), st.integers(0, 3)


@st.composite
def worlds(draw):
    """Knobs of random worlds, degenerate corners included (reliability one, no nuisance, no coupling, no weight)."""
    w_c = draw(unit)
    w_u = draw(unit) * (1 - w_c)
    rel = st.one_of(st.just(1.0), st.floats(0.05, 1))
    slope = st.floats(-1, 1)
    return {
        "d_c": draw(st.integers(1, 4)), "d_u": draw(st.integers(1, 4)), "d_v": draw(st.integers(1, 4)),
        "d_g": draw(small), "d_ni": draw(small), "d_nc": draw(small),
        "rel_ci": draw(rel), "rel_cc": draw(rel), "rel_u": draw(rel), "rel_v": draw(rel),
        "kappa_s": draw(st.one_of(st.sampled_from([0.0, 1.0, -1.0]), slope)),
        "nu": draw(st.floats(-0.95, 0.95)), "alpha_g": draw(st.floats(0.1, 20)), "alpha_n": draw(st.floats(0.1, 20)),
        "h2": draw(st.one_of(st.just(0.0), st.floats(0, 0.97))), "prevalence": draw(st.floats(0.02, 0.98)),
        "w_c": w_c, "w_u": w_u, "w_v": max(1 - w_c - w_u, 0.0),
        "kappa_e": draw(slope), "delta_u_e": draw(slope), "delta_v_e": draw(slope),
        "nu_e": draw(st.floats(-0.95, 0.95)), "mu_e": draw(st.floats(-2, 2)), "tau_e": draw(st.floats(0.3, 3)),
    }


@given(worlds(), st.integers(1, 6))
@settings(max_examples=7, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_order_of_limits_and_strict_json(knobs, k):
    s = spec(knobs)
    out = limits(s, min(k, s.p_image, s.p_clinical), (10, 200))
    slack = SLACK + 5 * out["standard_error"]
    for place in ("internal", "external"):
        full = out[place]["full"]
        for key in ("image", "clinical", "cross_modal"):
            assert 0.5 - SLACK <= out[place][key] <= full + slack
        for name in report.SPANS:
            assert out[name][place] <= full + SLACK + 5 * out[name]["standard_error"]
    for key, rule in out["source_bayes_external"].items():
        assert 0 <= rule <= out["external"][key] + slack
    low, high = out["cross_modal_range"]["internal"]
    assert low - slack <= out["internal"]["cross_modal"] <= high + slack
    for key, terms in out["decomposition"].items():
        assert terms["transfer"] >= -slack
        assert terms["irreducible"] + terms["transfer"] == pytest.approx(
            out["internal"][key] - out["source_bayes_external"][key], abs=1e-12)
    for name in ("supervised", "supervised_tuned", "cross_modal", "cross_modal_finetuned"):
        best = out["cross_modal_range"]["internal"][1] if name == "cross_modal" else out["internal"]["full"]
        assert all(v is None or 0.5 - SLACK <= v <= best + 1e-6 for v in out["finite"][name])
    assert json.loads(json.dumps(out, allow_nan=False)) == out


@given(worlds())
@settings(max_examples=4, deadline=None)
def test_same_hospital_same_numbers(knobs):
    """No shift: outside is inside, nothing is lost, and nobody can tell the hospitals apart."""
    s = spec(knobs)
    out = limits(replace(s, kappa_e=s.kappa_s, nu_e=s.nu, delta_u_e=1.0, delta_v_e=1.0, mu_e=0.0, tau_e=1.0))
    for key, value in out["internal"].items():
        assert out["external"][key] == pytest.approx(value, abs=1e-9)
        assert out["source_bayes_external"][key] == pytest.approx(value, abs=1e-7 if value > 0.5001 else 0.51)
    assert out["domain_auc"]["full"] == 0.5 and out["prevalence"] == out["prevalence_external"]


def test_no_signal_is_one_half_everywhere():
    out = limits(spec(h2=0.0, kappa_e=0.3, mu_e=1.0), n_labelled=(50, 500))
    for place in ("internal", "external", "source_bayes_external"):
        assert all(v == 0.5 for v in out[place].values())
    for name in report.SPANS:
        assert out[name]["internal"] == out[name]["external"] == 0.5
    values = [v for key in ("supervised", "supervised_tuned", "cross_modal", "cross_modal_finetuned")
              for v in out["finite"][key] if v is not None]
    assert len(values) == 7 and all(v == 0.5 for v in values)
    assert all(n is None for n in out["crossover_n"].values())
    assert all(abs(v) < 1e-12 for key, v in out["mutual_information"].items() if key != "views")


def test_block_closed_forms():
    """R_I^2, R_C^2, R*^2 and R_sh^2 of docs/theory.md (4) for coupling one, through g."""
    s = spec(w_c=0.5, w_u=0.2, w_v=0.3, rel_ci=0.4, rel_cc=0.7, rel_u=0.6, rel_v=0.9, h2=0.8, prevalence=0.2)
    rho = 1 - 1 / (1 + 0.4 / 0.6 + 0.7 / 0.3)
    shares = {"full": 0.5 * rho + 0.2 * 0.6 + 0.3 * 0.9, "image": 0.5 * 0.4 + 0.2 * 0.6,
              "clinical": 0.5 * 0.7 + 0.3 * 0.9, "cross_modal": 0.5 * rho}
    out = limits(s)["internal"]
    for key, share in shares.items():
        assert out[key] == pytest.approx(liability.auc(math.sqrt(0.8 * share), 0.2), abs=1e-12)


@pytest.mark.parametrize("other", [{"map": "identity"}, {"map": "mlp"}, {"condition": 50.0}, {"alpha_n": 7.0},
                                   {"alpha_g": 0.2}, {"d_ni": 90}, {"map_seed": 9}])
def test_maps_amplitudes_and_noise_leave_the_limits(other):
    plain, changed = (limits(spec(w_c=0.6, kappa_e=0.4, **k)) for k in ({}, other))
    for place in ("internal", "external", "source_bayes_external"):
        for key, value in plain[place].items():
            assert changed[place][key] == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("prevalence_e", [0.05, 0.3, 0.9])
def test_reweighted_prevalence_leaves_every_auc(prevalence_e):
    plain, changed = (limits(spec(w_c=0.6, kappa_e=0.4, mu_e=0.3, **k), n_labelled=(100,))
                      for k in ({}, {"prevalence_e": prevalence_e}))
    for key in ("internal", "external", "source_bayes_external", "finite", "crossover_n", "decomposition"):
        assert plain[key] == changed[key]
    assert changed["prevalence_external"] == prevalence_e != plain["prevalence_external"]


def test_pure_and_repeatable():
    s = spec(w_c=0.3, nu_e=0.5)
    assert limits(s, 6, (30,)) == limits(s, 6, (30,))


@pytest.mark.parametrize("module", [finite, gaussian, liability, oracles, readouts, report, subspace, table])
def test_public_annotations_resolve(module):
    public = [value for name, value in vars(module).items() if not name.startswith("_")
              and getattr(value, "__module__", "") == module.__name__
              and (inspect.isfunction(value) or inspect.isclass(value))]
    assert public
    for value in public:
        assert value.__doc__, value
        assert typing.get_type_hints(value), value
