"""Observation maps are invertible, well scaled, and leave what is known about the label as it was."""

from __future__ import annotations

import numpy as np
import pytest

from simlab.environments.knobs import spec
from simlab.environments.maps import by_rows, observation_map
from simlab.environments.scenario import sample_cohort
from simlab.errors import UnknownName


@pytest.mark.parametrize("condition", (1.0, 10.0, 1000.0))
@pytest.mark.parametrize("kind", ("identity", "linear", "mlp"))
@pytest.mark.parametrize("p", (1, 2, 30, 140))
def test_inverse_recovers_the_coordinates(kind, condition, p):
    """From float32 features: rounding (6e-8 of the largest feature) grows by the map's condition number at most."""
    z = np.random.default_rng(0).standard_normal((500, p)).astype(np.float32)
    g = observation_map(kind, p, condition, 7, "image")
    x = g(z)
    assert x.dtype == np.float32 and x.shape == z.shape and np.isfinite(x).all()
    worst = condition * (25 if kind == "mlp" else 1)  # two leaky ReLUs of slope 1/5
    assert np.abs(g.inverse(x) - z).max() < 1e-6 * worst + 1e-9


@pytest.mark.parametrize("kind", ("linear", "mlp"))
def test_exact_in_real_numbers(kind):
    """Without float32 storage the round trip is exact to float64 rounding, at the largest condition number too."""
    z = np.random.default_rng(1).standard_normal((200, 30))
    g = observation_map(kind, 30, 1000.0, 3, "clinical")
    np.testing.assert_allclose(g._backward(g._forward(z)), z, atol=1e-9)


@pytest.mark.parametrize("condition", (1.0, 100.0))
def test_linear_map_has_the_condition_number_and_geometric_mean_one(condition):
    (w,) = observation_map("linear", 24, condition, 5, "image").layers
    values = np.linalg.svd(w, compute_uv=False)
    assert values[0] / values[-1] == pytest.approx(condition)
    assert np.log(values).mean() == pytest.approx(0, abs=1e-12)
    steps = np.diff(np.log(values))
    np.testing.assert_allclose(steps, steps[0], atol=1e-10)


def test_mlp_layers_share_the_condition_number():
    layers = observation_map("mlp", 12, 64.0, 5, "image").layers
    assert [round(np.linalg.cond(w), 9) for w in layers] == [4.0] * 3


def test_mlp_is_not_linear_and_keeps_the_scale():
    z = np.random.default_rng(2).standard_normal((20_000, 30)).astype(np.float32)
    x = observation_map("mlp", 30, 1.0, 9, "image")(z)
    design = np.column_stack([z, np.ones(len(z))])
    residual = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    assert 0.02 < residual.var() / x.var() < 0.9
    assert 0.5 < x.std() < 2


def test_views_and_seeds_have_their_own_map():
    first = observation_map("linear", 5, 1.0, 0, "image").layers[0]
    assert not np.allclose(first, observation_map("linear", 5, 1.0, 0, "clinical").layers[0])
    assert not np.allclose(first, observation_map("linear", 5, 1.0, 1, "image").layers[0])


def test_unknown_kind_and_view_are_named():
    with pytest.raises(UnknownName, match="linear"):
        observation_map("liner", 3, 1.0, 0, "image")
    with pytest.raises(UnknownName, match="clinical"):
        observation_map("linear", 3, 1.0, 0, "clinic")


@pytest.mark.parametrize("domain", ("source", "external"))
def test_maps_leave_the_risk_as_it_was_and_invert_to_it(domain):
    """Bitwise: the risk is a function of the measured coordinates. And those are in the features: inverted, they give
    the risk again, to float32 rounding."""
    from simlab.environments.gaussian import maps, risk

    stage = "test-data" if domain == "source" else "external-data"
    target = {"mu_e": 0.4, "tau_e": 1.3, "prevalence_e": 0.1}
    plain = sample_cohort(spec(map="identity", **target), stage, 2_000, 1, 0, domain)
    for kind in ("linear", "mlp"):
        s = spec(map=kind, map_seed=12, **target)
        cohort = sample_cohort(s, stage, 2_000, 1, 0, domain)
        np.testing.assert_array_equal(cohort.risk["outcome"], plain.risk["outcome"])
        np.testing.assert_array_equal(cohort.labels["outcome"], plain.labels["outcome"])
        z = [g.inverse(cohort.streams[v].values[:, 0]) for g, v in zip(maps(s), ("image", "clinical"), strict=True)]
        np.testing.assert_allclose(z[0], plain.streams["image"].values[:, 0], atol=3e-5)
        np.testing.assert_allclose(risk(*z, s, domain), plain.risk["outcome"], atol=1e-4)


@pytest.mark.parametrize("n", (1, 7, 1023, 1024, 1025, 3000))
def test_rows_have_the_same_bits_whatever_follows(n):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4000, 37)).astype(np.float32), rng.standard_normal((37, 41)).astype(np.float32)
    whole, part = (by_rows(lambda b: b @ w, rows, np.empty((len(rows), 41), np.float32)) for rows in (x, x[:n]))
    np.testing.assert_array_equal(part, whole[:n])
