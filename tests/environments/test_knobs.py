"""Knobs resolve to a complete specification, by name or symbol, or are refused with one clear line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from gaussian_world import COMPANIONS

from simlab.environments import knobs as k
from simlab.environments.docs import knob_table
from simlab.environments.knobs import GAUSSIAN_KNOBS, spec
from simlab.errors import OutOfDomain, UnknownName

DOCS = Path(__file__).parents[2] / "docs" / "environments.md"


def another(knob):
    """A value of the knob that differs from its default."""
    if isinstance(knob.domain, k.Choice):
        return next(w for w in knob.domain.words if w != knob.default)
    low, high = knob.sweep or (3, 5)
    if knob.symbol.startswith("rho_s"):
        return 0.3  # the default world's noise leaves room for no more than sqrt(1 - h2)
    return int(high) if knob.domain.whole else (0.9 * high + 0.1 * low)


@pytest.mark.parametrize("knob", GAUSSIAN_KNOBS, ids=lambda knob: knob.symbol)
def test_name_and_symbol_mean_the_same(knob):
    value = another(knob)
    beside = COMPANIONS.get(knob.symbol, {})
    by_name, by_symbol = spec({knob.name: value, **beside}), spec({knob.symbol: value, **beside})
    assert by_name == by_symbol != spec(beside)
    assert k.find(knob.name) is k.find(knob.symbol) is knob
    assert k.parse(knob, str(value)) == k.check(knob, value)
    if knob.symbol != "delta_clin_e":
        assert getattr(by_name, knob.symbol) == value


@pytest.mark.parametrize("knob", GAUSSIAN_KNOBS, ids=lambda knob: knob.symbol)
def test_a_knob_is_whole(knob):
    """Default and sweep lie inside the domain; the sweep is an interval; a log scale is positive; it has a meaning."""
    if knob.default is not None:
        assert knob.default in knob.domain
    if knob.sweep is not None:
        low, high = knob.sweep
        assert low < high and low in knob.domain and high in knob.domain
        assert knob.scale in ("linear", "log") and (knob.scale == "linear" or low > 0)
    assert knob.stage in ("source", "labels", "target") and len(knob.meaning) > 10


def test_names_and_symbols_are_unique():
    names = [n for knob in GAUSSIAN_KNOBS for n in {knob.name, knob.symbol}]
    assert len(names) == len(set(names))


def test_defaults_are_those_of_the_documented_world():
    s = spec()
    assert (s.d_c, s.d_u, s.d_v, s.d_g, s.d_ni, s.d_nc) == (4, 4, 4, 2, 20, 20)
    assert (s.h2, s.prevalence, s.n_unlab, s.n_lab) == (0.7, 0.3, 20_000, 300)
    assert (s.w_c, s.w_u, s.w_v) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert (s.kappa_e, s.nu_e, s.prevalence_e) == (s.kappa_s, s.nu, None)
    assert s.p_image == s.p_clinical == 30


@pytest.mark.parametrize(("given", "weights"), [
    ({"w_c": 0.6}, (0.6, 0.2, 0.2)),
    ({"w_c": 0.6, "w_u": 0.1}, (0.6, 0.1, 0.3)),
    ({"w_u": 0.1}, (0.45, 0.1, 0.45)),
    ({"w_u": 0.1, "w_v": 0.2}, (0.7, 0.1, 0.2)),
    ({"w_c": 1}, (1, 0, 0)),
    ({"w_c": 0.05, "w_u": 0.3, "w_v": 0.65}, (0.05, 0.3, 0.65)),
])
def test_weights_share_what_is_left(given, weights):
    s = spec(given)
    assert (s.w_c, s.w_u, s.w_v) == pytest.approx(weights)
    assert s.w_c + s.w_u + s.w_v == pytest.approx(1)


@pytest.mark.parametrize("given", [{"w_c": 0.6, "w_u": 0.6}, {"w_c": 0.2, "w_u": 0.2, "w_v": 0.2}])
def test_weights_that_do_not_sum_to_one_are_refused(given):
    with pytest.raises(OutOfDomain, match="must sum to one"):
        spec(given)


@pytest.mark.parametrize(("given", "said"), [
    ({"h2": 1.0}, r"\[0, 1\)"),
    ({"rel_u": 0.0}, r"\(0, 1\]"),
    ({"nu": 1.0}, r"\(-1, 1\)"),
    ({"d_c": 2.5}, "whole numbers"),
    ({"d_c": True}, "whole numbers"),
    ({"prevalence": float("nan")}, r"\(0, 1\)"),
    ({"map": "spline"}, "identity, linear, mlp"),
    ({"h2": "high"}, r"\[0, 1\)"),
])
def test_outside_the_domain_is_refused_with_the_domain(given, said):
    with pytest.raises(OutOfDomain, match=said) as caught:
        spec(given)
    assert next(iter(given)) in str(caught.value)


def test_text_that_is_no_number_is_refused():
    with pytest.raises(OutOfDomain, match="not a number"):
        k.parse(k.find("h2"), "high")


def test_unknown_knob_gets_the_nearest_names():
    with pytest.raises(UnknownName, match="weight_shared"):
        spec(weight_share=0.5)


def test_given_twice_is_refused():
    with pytest.raises(OutOfDomain, match="given twice"):
        spec(h2=0.5, signal_fraction=0.5)


def test_clinical_slope_sets_both_and_refuses_a_contradiction():
    s = spec(delta_clin_e=0.4)
    assert (s.kappa_e, s.delta_v_e) == (0.4, 0.4)
    assert spec(delta_clin_e=0.4, kappa_e=0.4) == s
    with pytest.raises(OutOfDomain, match="kappa_e"):
        spec(delta_clin_e=0.4, kappa_e=0.5)


def test_the_target_follows_the_source_unless_told():
    s = spec(kappa_s=0.5, nu=0.3)
    assert (s.kappa_e, s.nu_e) == (0.5, 0.3)


def test_stages_split_the_fields():
    s = spec()
    parts = [s.stage(stage) for stage in ("source", "labels", "target")]
    assert sum(map(len, parts)) == len({key for part in parts for key in part}) == len(GAUSSIAN_KNOBS) - 1


def test_documented_table_is_the_codes():
    """docs/environments.md holds exactly the table that `python -m simlab.environments.docs` prints."""
    assert knob_table() in DOCS.read_text(encoding="utf-8")


def test_every_knob_is_in_the_documented_table():
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| `([a-z0-9_]+)` \|", DOCS.read_text(encoding="utf-8"), flags=re.M)
    assert rows == [(knob.name, knob.symbol) for knob in GAUSSIAN_KNOBS]
