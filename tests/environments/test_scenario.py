"""Streams of random numbers: what each knob may touch, and that cohorts share nothing that they should not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from clock import over
from gaussian_world import COMPANIONS

from simlab import rng
from simlab.environments.knobs import GAUSSIAN_KNOBS, spec
from simlab.environments.scenario import COHORT_STAGES, sample_cohort, sample_scenario, with_map
from simlab.errors import UnknownName

SMALL = {"d_ni": 3, "d_nc": 2, "n_unlab": 500, "n_lab": 60}
# Another value of every knob that belongs to labels or target.
OTHERS = {
    "h2": 0.2, "prevalence": 0.11, "w_c": 0.9, "w_u": 0.1, "w_v": 0.05, "n_lab": 70, "kappa_e": 0.2, "delta_u_e": -0.5,
    "delta_v_e": 0.1, "delta_clin_e": 0.3, "nu_e": 0.4, "prevalence_e": 0.05, "prevalence_kind": "threshold",
    "mu_e": 1.0, "tau_e": 2.0, "w_x": 0.3, "rho_s": 0.2, "theta_e": 0.5, "eta_e": 0.4, "lambda_e": 0.3, "n_sites_e": 3,
    "mu_site_e": 0.7, "rho_s_e": 0.3, "acquired": "both", "gain_e": 2.0, "offset_e": 1.0, "mix_e": 0.5, "flip": 0.2,
}


def values(cohort):
    return {name: stream.values for name, stream in cohort.streams.items()}


def same(a, b):
    """Bitwise equality of the views of two cohorts."""
    return all(np.array_equal(x, values(b)[name]) for name, x in values(a).items())


@pytest.mark.parametrize("symbol", [k.symbol for k in GAUSSIAN_KNOBS if k.stage != "source"])
def test_label_and_target_knobs_leave_source_views_alone(symbol):
    """Bitwise, in every source stage; the pretraining cohort is the same in everything, its provenance included."""
    base = {**SMALL, **COMPANIONS.get(symbol, {})}
    a, b = spec(base), spec({**base, symbol: OTHERS[symbol]})
    assert a != b
    for stage in COHORT_STAGES[:4]:
        x, y = (sample_cohort(s, stage, 200, 3, 1) for s in (a, b))
        assert same(x, y)
        for factor in ("c", "u", "v", "c_clinical", "g_image", "g_clinical"):
            np.testing.assert_array_equal(x.factors[factor], y.factors[factor])
    x, y = (sample_cohort(s, "pretraining-data", 200, 3, 1) for s in (a, b))
    assert x.provenance == y.provenance
    assert set(x.factors) == set(y.factors) == {"c", "u", "v", "c_clinical", "g_image", "g_clinical"}


@pytest.mark.parametrize("symbol", [k.symbol for k in GAUSSIAN_KNOBS if k.stage == "target"])
def test_target_knobs_leave_source_labels_alone(symbol):
    base = {**SMALL, **COMPANIONS.get(symbol, {})}
    a, b = spec(base), spec({**base, symbol: OTHERS[symbol]})
    x, y = (sample_cohort(s, "training-data", 300, 3, 1) for s in (a, b))
    np.testing.assert_array_equal(x.labels["outcome"], y.labels["outcome"])
    np.testing.assert_array_equal(x.risk["outcome"], y.risk["outcome"])


def test_external_draws_do_not_depend_on_the_prevalence_asked_for():
    """Nuisance and noise, which reweighting does not touch, keep their bits."""
    a, b = (sample_cohort(spec(SMALL, map="identity", **k), "external-data", 300, 3, 1, "external")
            for k in ({}, {"prevalence_e": 0.05}))
    np.testing.assert_array_equal(a.streams["image"].values[:, 0, 8:], b.streams["image"].values[:, 0, 8:])
    assert not np.array_equal(a.streams["image"].values[:, 0, :8], b.streams["image"].values[:, 0, :8])


@pytest.mark.parametrize("n", (1, 7, 300, 1024, 1500))
@pytest.mark.parametrize("kind", ("identity", "linear", "mlp"))
def test_a_longer_draw_begins_with_the_same_records(kind, n):
    s = spec(map=kind, mu_e=0.3, tau_e=1.3, prevalence_e=0.1)
    for stage, domain in (("training-data", "source"), ("external-data", "external")):
        short, long = (sample_cohort(s, stage, m, 3, 1, domain) for m in (n, 2_500))
        assert all(np.array_equal(x, values(long)[name][:n]) for name, x in values(short).items())
        np.testing.assert_array_equal(short.labels["outcome"], long.labels["outcome"][:n])
        np.testing.assert_array_equal(short.risk["outcome"], long.risk["outcome"][:n])
        for name, x in short.factors.items():
            np.testing.assert_array_equal(x, long.factors[name][:n])
        np.testing.assert_array_equal(short.record, long.record[:n])


def test_a_groups_size_moves_no_other_groups_draws():
    a, b = (sample_cohort(spec(SMALL, d_ni=k, map="identity"), "test-data", 100, 3, 1) for k in (3, 9))
    np.testing.assert_array_equal(a.streams["clinical"].values, b.streams["clinical"].values)
    np.testing.assert_array_equal(a.streams["image"].values[:, 0, :10], b.streams["image"].values[:, 0, :10])
    np.testing.assert_array_equal(a.labels["outcome"], b.labels["outcome"])


def test_stages_seeds_and_studies_differ():
    s = spec(SMALL, map="identity")
    draws = [sample_cohort(s, stage, 50, 3, 1) for stage in COHORT_STAGES[:4]]
    draws += [sample_cohort(s, "test-data", 50, 3, 2), sample_cohort(s, "test-data", 50, 4, 1)]
    draws += [sample_cohort(s, "external-data", 50, 3, 1, d) for d in ("source", "external")]
    assert not any(same(a, b) for i, a in enumerate(draws) for b in draws[:i])


def test_one_map_for_all_cohorts_of_a_seed_and_another_for_the_next():
    from simlab.environments.gaussian import maps

    fixed = spec(SMALL, map="identity")
    for seed in (1, 2):
        resolved = with_map(spec(SMALL), 3, seed)
        assert resolved.map_seed == rng.integer(3, seed, "environment")
        for stage, domain in (("pretraining-data", "source"), ("test-data", "source"), ("external-data", "external")):
            plain, mapped = (sample_cohort(s, stage, 40, 3, seed, domain) for s in (fixed, spec(SMALL)))
            for g, view in zip(maps(resolved), ("image", "clinical"), strict=True):
                z = plain.streams[view].values[:, 0]
                np.testing.assert_array_equal(g(z), mapped.streams[view].values[:, 0])
    assert not same(*(sample_cohort(spec(SMALL, map_seed=m), "test-data", 40, 3, 1) for m in (0, 1)))


def test_scenario_holds_what_was_asked_for():
    s = spec(SMALL, kappa_e=0.4)
    scenario = sample_scenario(s, 3, 1, n_test=400, n_validation=50)
    assert len(scenario.pretrain) == 500 and len(scenario.train) == 60
    assert len(scenario.test) == len(scenario.external["external"]) == 400 and len(scenario.validation) == 50
    everyone = [scenario.pretrain, scenario.train, scenario.validation, scenario.test, scenario.external["external"]]
    ids = np.concatenate([c.record for c in everyone])
    assert len(np.unique(ids)) == len(ids) and ids.dtype == np.int64
    assert not scenario.pretrain.tasks and not scenario.pretrain.labels and not scenario.pretrain.risk
    for cohort in everyone[1:]:
        assert set(cohort.labels) == set(cohort.risk) == set(cohort.tasks) == {"outcome"}
        assert cohort.streams["image"].values.dtype == np.float32
        assert cohort.streams["image"].values.shape == (len(cohort), 1, s.p_image)
        assert cohort.streams["clinical"].values.shape == (len(cohort), 1, s.p_clinical)
        assert cohort.streams["image"].observed.all()
    assert set(everyone[-1].site) == {"external"}
    bare = sample_scenario(s, 3, 1, n_test=10, with_external=False)
    assert bare.validation is None and not bare.external
    assert same(bare.train, scenario.train)


def test_external_view_of_the_image_ignores_decoupling():
    """kappa_e acts on the clinical record alone."""
    a, b = (sample_cohort(replace(spec(SMALL), kappa_e=k), "external-data", 100, 3, 1, "external") for k in (1.0, 0.1))
    np.testing.assert_array_equal(a.streams["image"].values, b.streams["image"].values)
    assert not np.array_equal(a.streams["clinical"].values, b.streams["clinical"].values)


def test_wrong_names_are_named():
    with pytest.raises(UnknownName, match="test-data"):
        sample_cohort(spec(), "test-dat", 3, 0, 0)
    with pytest.raises(UnknownName, match="external"):
        sample_cohort(spec(), "external-data", 3, 0, 0, "extern")
    with pytest.raises(UnknownName, match="gaussian"):
        sample_cohort(spec(), "test-data", 3, 0, 0, world="gausian")


def test_sampling_is_quick():
    """20,000 records of 60 features from 79 normal numbers each: a few times what drawing these takes (seen: 1.9)."""
    s = spec()
    sample_cohort(s, "test-data", 100, 0, 0)
    assert over(lambda: sample_cohort(s, "test-data", 20_000, 0, 0),
                lambda: np.random.default_rng(0).standard_normal((20_000, 79), dtype=np.float32)) < 5  # fmt: skip
