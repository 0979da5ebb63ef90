"""The blobs world: limits against densities integrated by another route, risk calibrated, images as said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from simlab.environments import blobs
from simlab.environments.blob_knobs import BLOB_KNOBS, MOST, VERSIONS, spec
from simlab.environments.registry import find_world
from simlab.environments.scenario import sample_cohort
from simlab.errors import OutOfDomain, UnknownName
from simlab.evaluation.auc import label_auc
from simlab.limits.blobs import VIEWS, bayes, limits, risk


def area(one: np.ndarray, zero: np.ndarray) -> float:
    """AUC of the best score from two discretised laws."""
    order = np.argsort(one / zero)
    one, zero = one[order] / one.sum(), zero[order] / zero.sum()
    return float(one @ (np.cumsum(zero) - zero / 2))


def test_the_limit_of_growth_is_that_of_two_folded_normals():
    s = spec(effect=1.4, growth_spread=0.3)
    g = np.linspace(1e-6, 4, 40_001)
    ratio = {e: stats.foldnorm(1 / 0.3, scale=0.3 * e).pdf(g) for e in (1.0, 1.4)}
    value, se = bayes(s, "source", "full")
    assert 0 < se < 0.003 and abs(value - area(ratio[1.4], ratio[1.0])) < 4 * se
    assert bayes(s, "source", "clinical") == (0.5, 0.0)


def test_the_limit_of_counts_is_that_of_two_poissons():
    s = spec(version="count", effect=2.5)
    k = np.arange(MOST - 1)
    law = {m: np.append(stats.poisson.pmf(k, m), stats.poisson.sf(MOST - 2, m)) for m in (1.0, 2.5)}
    value, se = bayes(s, "source", "image")
    assert abs(value - area(law[2.5], law[1.0])) < 4 * se
    assert bayes(s, "source", "full")[0] == value


def test_months_have_the_laws_of_scaled_intervals():
    """With two visits the clinical limit is an integral over two independent intervals."""
    s = spec(version="time", effect=1.5, n_visits=2)
    d = np.linspace(0.01, 20, 400)
    law = {e: stats.foldnorm(5 / 3, scale=3 / e).pdf(d) for e in (1.0, 1.5)}
    both = {e: np.outer(p, p).ravel() for e, p in law.items()}
    value, se = bayes(s, "source", "clinical")
    assert abs(value - area(both[1.5], both[1.0])) < 4 * se + 1e-3  # the grid's own error
    assert bayes(s, "source", "image") == (0.5, 0.0)


@pytest.mark.parametrize("version", VERSIONS)
def test_risk_is_calibrated_and_labels_agree_with_the_limits(version):
    s = spec(version=version, effect=1.5, prevalence=0.3, effect_e=1.2, prevalence_e=0.5)
    for domain in blobs.DOMAINS:
        shown = blobs.sample_factors(12_000, s, domain, np.random.default_rng(3))
        for view in VIEWS:
            p = risk(s, domain, view, shown)
            z = (shown.label - p).sum() / np.sqrt((p * (1 - p)).sum())
            high = p > np.median(p)
            z_high = (shown.label - p)[high].sum() / max(np.sqrt((p * (1 - p))[high].sum()), 1e-9)
            assert abs(z) < 4 and abs(z_high) < 4, (domain, view)
            found, known = label_auc(p, shown.label.astype(float)), bayes(s, domain, view)
            assert abs(found.value - known[0]) < 4 * np.hypot(found.se, known[1]) + 1e-9, (domain, view)


def test_an_image_shows_its_sizes_and_counts():
    """A disc of radius R that fades as 1/(1 + exp((r - R)/w)) has the area pi R^2 + pi^3 w^2/3 (Sommerfeld), but for
    terms of order exp(-R/w)."""
    s = spec(noise=0.0, background=0.0)
    shown = blobs.sample_factors(200, s, "source", np.random.default_rng(0))
    image = blobs.render(shown, s, "source", np.random.default_rng(1))
    area_of = np.pi * blobs.GROWS * shown.size + np.pi**3 * blobs.EDGE**2 / 3
    fits = (shown.size > 12) & (shown.size < 25)  # round enough, and inside the picture
    found = (image - 0.3).sum(axis=(2, 3)) / blobs.HEIGHT / 2
    assert fits.sum() > 100 and np.abs(found / area_of - 1)[fits].mean() < 0.03
    s = spec(version="count", noise=0.0, background=0.0)
    shown = blobs.sample_factors(200, s, "source", np.random.default_rng(0))
    image = blobs.render(shown, s, "source", np.random.default_rng(1))
    blob = np.pi * blobs.GROWS * shown.size + np.pi**3 * blobs.EDGE**2 / 3
    fits = (shown.size > 8) & (shown.size < 15)
    found = ((image - 0.3).sum(axis=(2, 3)) / blobs.HEIGHT / blob)[fits]
    assert np.abs(found - np.broadcast_to(shown.count[:, None], fits.shape)[fits]).mean() < 0.1


def test_noise_breaks_its_share_of_pixels():
    s = spec(noise=0.3)
    shown = blobs.sample_factors(20, s, "source", np.random.default_rng(0))
    image = blobs.render(shown, s, "source", np.random.default_rng(1))
    assert (image == 0).mean() == pytest.approx(0.15, abs=0.01) and (image == 1).mean() == pytest.approx(0.15, abs=0.01)


def test_the_world_is_whole_and_its_first_records_are_those_of_a_longer_draw():
    world = find_world("blobs")
    for layout, shape in (("pixels", (256,)), ("image", (16, 16))):
        s = world.spec(layout=layout)
        few, more = (sample_cohort(s, "test-data", n, 0, 0, world="blobs") for n in (5, 9))
        assert few.streams["image"].values.shape == (5, 5, *shape)
        for name in few.streams:
            assert np.array_equal(few.streams[name].values, more.streams[name].values[:5])
        assert np.array_equal(few.risk["outcome"], more.risk["outcome"][:5])
    assert not sample_cohort(s, "pretraining-data", 4, 0, 0, world="blobs").tasks
    shift = limits(world.spec(effect_e=1.0), records=4000)
    assert shift["external"]["full"] == 0.5 < shift["internal"]["full"]


def test_bad_knobs_are_refused():
    for bad in ({"effect": 9}, {"noise": 1}, {"version": "colour"}, {"n_visits": 1}):
        with pytest.raises(OutOfDomain, match=next(iter(bad))):
            spec(**bad)
    with pytest.raises(UnknownName, match="effect"):
        spec(efect=1)
    with pytest.raises(OutOfDomain, match="twice"):
        spec(visits=3, n_visits=3)
    assert all(k.default is None or k.default in k.domain for k in BLOB_KNOBS)
