"""Shuffled pairs touch pretraining alone, flipped labels training alone; both move theory as they move data."""

from dataclasses import replace

import numpy as np
import pytest
from agreement import FAR

from simlab.environments.knobs import spec
from simlab.environments.scenario import sample_cohort
from simlab.limits import limits
from simlab.limits.gaussian import moments
from simlab.limits.liability import auc

SMALL = {"d_c": 2, "d_u": 2, "d_v": 2, "d_g": 1, "d_ni": 1, "d_nc": 1, "map": "identity"}


def shown(cohort):
    return np.concatenate([s.values[:, 0].astype(float) for s in cohort.streams.values()], axis=1)


def test_mismatch_weakens_the_unlabelled_coupling_in_proportion():
    """Cov(z_I, z_C) is (1 - pi) times the honest one in the unlabelled cohort, each view's own covariance stays, and no
    other cohort knows of it; nor does any limit, since all canonical correlations shrink together."""
    s, honest, n = spec(SMALL, pi_mis=0.4, nu=0.5), spec(SMALL, nu=0.5), 60_000
    law = moments(honest)
    expected = law.cov.copy()
    expected[law.image, law.clinical] *= 0.6
    expected[law.clinical, law.image] *= 0.6
    cohort = sample_cohort(s, "pretraining-data", n, 1, 0)
    z = shown(cohort)
    products = z[:, :, None] * z[:, None, :]
    assert (np.abs(products.mean(0) - expected) < FAR * products.std(0) / np.sqrt(n)).all()
    for stage in ("training-data", "test-data"):
        np.testing.assert_array_equal(*(shown(sample_cohort(x, stage, 100, 1, 0)) for x in (s, honest)))
    plain = sample_cohort(honest, "pretraining-data", n, 1, 0)
    np.testing.assert_array_equal(cohort.streams["image"].values, plain.streams["image"].values)
    moved = (cohort.streams["clinical"].values != plain.streams["clinical"].values)[:, 0].any(axis=1)
    assert abs(moved.mean() - 0.4) < 5 * np.sqrt(0.24 / n)
    assert (cohort.factors["v"] != plain.factors["v"]).any(axis=1).sum() == moved.sum()
    a, b = limits(s), limits(honest)
    assert a["internal"] == b["internal"]
    np.testing.assert_allclose(a["canonical_correlations_unlabelled"], 0.6 * np.array(b["canonical_correlations"]))
    assert b["canonical_correlations_unlabelled"] == b["canonical_correlations"]


def test_first_records_stay_in_a_longer_mismatched_draw():
    s = spec(SMALL, pi_mis=0.5)
    short, long = (sample_cohort(s, "pretraining-data", n, 1, 0) for n in (77, 500))
    np.testing.assert_array_equal(shown(short), shown(long)[:77])


def test_flips_touch_training_labels_alone():
    s, honest = spec(SMALL, flip=0.2, n_lab=4_000), spec(SMALL, n_lab=4_000)
    for stage in ("validation-data", "test-data"):
        x, y = (sample_cohort(w, stage, 500, 1, 0) for w in (s, honest))
        np.testing.assert_array_equal(x.labels["outcome"], y.labels["outcome"])
    x, y = (sample_cohort(w, "training-data", 4_000, 1, 0) for w in (s, honest))
    wrong = x.labels["outcome"] != y.labels["outcome"]
    assert abs(wrong.mean() - 0.2) < 5 * np.sqrt(0.16 / 4_000) and x.provenance["flipped"] == 0.2
    np.testing.assert_array_equal(x.risk["outcome"], y.risk["outcome"])
    more = sample_cohort(replace(s, flip=0.3), "training-data", 4_000, 1, 0).labels["outcome"] != y.labels["outcome"]
    assert (more | ~wrong).all()  # common random numbers: a larger share flips these and others
    assert limits(s)["internal"] == limits(honest)["internal"]


@pytest.mark.parametrize("flip", (0.1, 0.3))
def test_flips_lower_what_n_labels_give_as_predicted(flip):
    """Least squares on flipped labels of sampled cohorts: the AUC of the formula, .006 (its own accuracy is .005)."""
    s = spec(SMALL, flip=flip, n_lab=150)
    out = limits(s, n_labelled=(150,))["finite"]
    assert out["supervised"][0] < limits(spec(SMALL), n_labelled=(150,))["finite"]["supervised"][0] - 0.01
    law, reached = moments(s), []
    for seed in range(120):
        cohort = sample_cohort(s, "training-data", 150, 5, seed)
        z, y = shown(cohort), cohort.labels["outcome"]
        z, y = z - z.mean(0), y - y.mean()
        w = np.linalg.lstsq(z, y, rcond=None)[0]
        reached.append(auc(float(w @ law.cov_liability / np.sqrt(w @ law.cov @ w)), s.prevalence))
    error = np.std(reached) / np.sqrt(len(reached))
    assert abs(np.mean(reached) - out["supervised"][0]) < 0.006 + 3 * error
    assert out["supervised_tuned"][0] >= out["supervised"][0] - 1e-3
