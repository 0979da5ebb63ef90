"""The reduction to beta against the dense path: equal to 1e-10 over the domain, and clear where it falls back."""

import numpy as np
import pytest
from clock import over
from gaussian_world import random_spec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simlab.environments.knobs import find, spec
from simlab.environments.presets import from_preset
from simlab.errors import OutOfDomain, UnknownName
from simlab.limits import limits
from simlab.limits.fast import FEATURES, crossover, fast_limits, theory_map
from simlab.limits.finite import least_squares_correlation
from simlab.limits.report import PLACES

EXACT = 1e-10
COUNTS = (5, 60, 400)


def agree(world, found, i=0):
    """All keys of one setting against `limits`."""
    full = limits(world, None, COUNTS)
    for place in PLACES:
        for name in FEATURES:
            assert found[f"{place}/{name}"][i] == pytest.approx(full[place][name], abs=EXACT), (place, name)
    for name in ("supervised", "cross_modal"):
        printed = [np.nan if v is None else v for v in full["finite"][name]]
        assert found[f"finite/{name}"][i] == pytest.approx(printed, abs=EXACT, nan_ok=True)
    assert found["prevalence_external"][i] == pytest.approx(full["prevalence_external"], abs=1e-13)
    star, fast = full["crossover_n"]["cross_modal|supervised"], found["crossover_n"][i]
    if star is None:  # there: none, or where the two are level to 1e-7, or too close to the pole to be looked for
        assert np.isnan(fast) or world.h2 < 0.02 or fast < world.p_image + world.p_clinical + 1.2
    elif world.h2 > 0.02:
        assert fast == pytest.approx(star, abs=0.6, rel=1e-4)


def floats(symbol, low=None, high=None):
    """The knob's whole domain, unless narrowed, to six decimals."""
    domain = find(symbol).domain
    inside = st.floats(domain.low if low is None else low, domain.high if high is None else high,
                       exclude_min=domain.low_open and low is None, exclude_max=domain.high_open and high is None)
    return inside.map(lambda x: round(x, 6))


REL = floats("rel_ci", 0.02)
SETTINGS = {
    "d_c": st.integers(1, 4), "d_u": st.integers(1, 3), "d_v": st.integers(1, 3), "d_g": st.integers(0, 4),
    "d_ni": st.integers(0, 3), "d_nc": st.integers(0, 3), "rel_ci": REL, "rel_cc": REL, "rel_u": REL, "rel_v": REL,
    "kappa_s": floats("kappa_s"), "nu": floats("nu", -0.99, 0.99), "h2": floats("h2", 0.0, 0.98),
    "prevalence": floats("prevalence", 0.01, 0.99), "w_c": floats("w_c"), "kappa_e": floats("kappa_e"),
    "delta_u_e": floats("delta_u_e"), "delta_v_e": floats("delta_v_e"), "nu_e": floats("nu_e", -0.99, 0.99),
    "mu_e": floats("mu_e", -2, 2), "tau_e": floats("tau_e", 0.05, 8), "alpha_g": floats("alpha_g", 0.05, 20),
    "prevalence_e": st.none() | floats("prevalence_e", 0.01, 0.99),
    "prevalence_kind": st.sampled_from(["reweight", "threshold"])}


def anywhere(examples):
    """Settings over the whole domain of every knob that the reduction knows."""
    drawn = given(knobs=st.fixed_dictionaries(SETTINGS), share=st.floats(0, 1), eta_s=floats("eta_s", -0.95, 0.95),
                  eta_e=floats("eta_e", -0.95, 0.95))
    return lambda test: settings(max_examples=examples, deadline=None, derandomize=True)(drawn(test))


@anywhere(8)
def test_equal_to_the_dense_path_anywhere(knobs, share, eta_s, eta_e):
    """Ties and singular worlds take the dense path."""
    equal(knobs, share, eta_s, eta_e)


@pytest.mark.proof
@anywhere(80)
def test_equal_to_the_dense_path_anywhere_at_length(knobs, share, eta_s, eta_e):
    equal(knobs, share, eta_s, eta_e)


def equal(knobs, share, eta_s, eta_e):
    knobs = {key: value for key, value in knobs.items() if value is not None}
    world = spec({**knobs, "w_u": (1 - knobs["w_c"]) * share, "eta_s": eta_s, "eta_e": eta_e})
    errors = np.sqrt((1 / world.rel_ci - 1) * (1 / world.rel_cc - 1))
    rho = abs(world.kappa_s + eta_s * errors) * np.sqrt(world.rel_ci * world.rel_cc)
    assume(abs(abs(world.nu) - rho) > 1e-4 or world.nu == rho)  # nearly a tie: rounding decides in the dense path
    agree(world, fast_limits([world], COUNTS))


@pytest.mark.parametrize("seed", range(6))
def test_equal_where_nuisance_takes_some_pairs(seed):
    """nu above the shared correlation and d_g < d_c: a Haar mean over what is left for the causes."""
    world = random_spec(seed, nu=0.97, d_c=4, d_g=1 + seed % 3, kappa_s=0.5, d_ni=3, d_nc=5)
    found = fast_limits([world], COUNTS)
    assert not found["dense"][0]
    agree(world, found)


FALLBACKS = [{"nu": 0.8}, {"kappa_s": 0.0}, {"rel_ci": 1.0, "rel_cc": 1.0}, {"kappa_s": 0.0, "nu": 0.3, "d_g": 2},
             {"theta_e": 0.4}, {"gain_e": 2.0}, {"shortcut": "image", "lambda_s": 0.4}, {"tau_e": 1e-4}]


@pytest.mark.parametrize("knobs", FALLBACKS)
def test_falls_back_where_it_does_not_apply(knobs):
    """Ties, singular covariances, knobs that it does not know: the dense path, marked as such."""
    worlds = [spec(w_c=0.6), spec(w_c=0.6, d_ni=3, d_nc=3, **knobs), spec(w_c=0.2)]
    found = fast_limits(worlds, COUNTS)
    assert found["dense"].tolist() == [False, True, False]
    agree(worlds[1], found, 1)
    plain = fast_limits([worlds[0], worlds[2]], COUNTS)
    assert all((found[key][[0, 2]] == values).all() for key, values in plain.items() if key.endswith("full"))


@pytest.mark.parametrize("knobs", [{"map": "mlp"}, {"condition": 30.0}, {"map_seed": 3}, {"n_lab": 50},
                                   {"alpha_n": 5.0}, {"alpha_g": 3.0}, {"record_tokens": "coordinates"}])
def test_knobs_without_effect_do_not_cost_the_reduction(knobs):
    assert not fast_limits([spec(kappa_e=0.3, **knobs)])["dense"][0]


def test_published_numbers():
    """The internal and external tables of the design, and a preset's crossover."""
    found = theory_map({"w_c": [0.8, 0.6, 0.4, 0.2, 0.05]}, (300,))
    assert found["internal/full"] == pytest.approx([0.879, 0.875, 0.871, 0.867, 0.863], abs=5.1e-4)
    assert found["finite/cross_modal"][:, 0] == pytest.approx([0.828, 0.778, 0.719, 0.642, 0.552], abs=5.1e-4)
    assert found["crossover_n"] == pytest.approx([458, 196, 109, 72, 62], abs=0.6)
    shift = theory_map({"kappa_e": [0.8, 0.4, 0.0, -0.5]}, w_c=0.6, w_u=0.3, w_v=0.1, rel_ci=0.4, rel_cc=0.9)
    assert shift["source_bayes_external/cross_modal"] == pytest.approx([0.741, 0.633, 0.521, 0.374], abs=5.1e-4)
    assert fast_limits([from_preset("li2025-shared")])["crossover_n"][0] == pytest.approx(1654, abs=0.6)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(full=st.floats(0.05, 0.95), share=st.floats(0.05, 0.98), p=st.integers(10, 300), k=st.integers(1, 4),
       prevalence=st.floats(0.03, 0.97))
def test_crossover_is_where_both_are_level(full, share, p, k, prevalence):
    """The root of the quadratic gives equal correlations; beyond it the wider method is ahead."""
    args = [np.array([float(x)]) for x in (full, p, share * full, 2 * k, prevalence)]
    n = crossover(*args)
    assume(np.isfinite(n[0]))

    def gap(at):
        return (least_squares_correlation(args[2], args[3], at, args[4])
                - least_squares_correlation(args[0], args[1], at, args[4]))[0]
    assert abs(gap(n)) < 1e-9
    assert gap(n * 1.01) < 0 < gap(np.maximum(n * 0.999, p + 1 + (n - p - 1) * 0.99))


def test_theory_map_has_the_shape_of_its_grid():
    out = theory_map({"weight_shared": [0.2, 0.5, 0.8], "kappa_e": [0.0, 1.0], "prevalence_kind": ["threshold"]},
                     (50, 100), rel_ci=0.5)
    assert out["internal/full"].shape == (3, 2, 1) and out["finite/supervised"].shape == (3, 2, 1, 2)
    assert out["w_c"].tolist() == [0.2, 0.5, 0.8]
    one = fast_limits([spec(w_c=0.8, kappa_e=0.0, rel_ci=0.5, prevalence_kind="threshold")], (50, 100))
    assert out["external/image"][2, 0, 0] == one["external/image"][0]
    assert not np.isnan(out["finite/cross_modal"]).any() and not out["dense"].any()


def test_refusals():
    with pytest.raises(OutOfDomain, match="at least one axis"):
        theory_map({})
    with pytest.raises(OutOfDomain, match="at least one"):
        theory_map({"w_c": []})
    with pytest.raises(UnknownName, match="kappa_e"):
        theory_map({"kapa_e": [1.0]})
    with pytest.raises(OutOfDomain, match=r"\[0, 1\]"):
        theory_map({"w_c": [0.5, 1.5]})
    with pytest.raises(OutOfDomain, match="n_labelled = 1"):
        fast_limits([spec()], (1,))
    assert fast_limits([])["internal/full"].shape == (0,)


@pytest.mark.proof
def test_a_map_of_100_000_cells_takes_as_long_as_some_hundred_cells_one_by_one():
    out = {}

    def whole():
        out.update(theory_map({"w_c": np.linspace(0.005, 0.995, 400).tolist(),
                               "kappa_e": np.linspace(-1, 1, 250).tolist()}, (100, 300, 1000)))  # fmt: skip

    def ten():
        for n in range(10):
            limits(spec(w_c=0.3 + n / 100, kappa_e=0.2), n_labelled=(100, 300, 1000))

    assert 10 * over(whole, ten, repeats=1) < 1000  # seen: 70
    assert out["internal/full"].size == 100_000 and not out["dense"].any()
    assert not any(np.isnan(values).any() for key, values in out.items() if key != "crossover_n")
