"""Predictions with n labels: the formula against fitted OLS, the equivalents against fitted ridge, the crossovers."""

import numpy as np
import pytest

from simlab.environments.knobs import spec
from simlab.limits import finite
from simlab.limits.gaussian import moments, solve
from simlab.limits.liability import auc

# docs/theory.md, 9: (w_c, n) -> best-penalty ridge, fine-tuned JEPA
TABLE = {(0.8, 100): (0.800, 0.829), (0.8, 300): (0.844, 0.850), (0.6, 100): (0.783, 0.799),
         (0.4, 100): (0.766, 0.772), (0.2, 100): (0.750, 0.750), (0.2, 300): (0.811, 0.811)}
KEYS = ("supervised_tuned", "cross_modal_finetuned")


def predictions(k=4, **knobs):
    s = spec(**knobs)
    return finite.methods(s, moments(s), k)


@pytest.mark.parametrize(("w_c", "n"), TABLE)
def test_equivalents_reach_the_ruled_numbers(w_c, n):
    out = finite.predict(predictions(w_c=w_c), (n,))
    for key, printed in zip(KEYS, TABLE[w_c, n], strict=True):
        assert out[key][0] == pytest.approx(printed, abs=6e-4)


def simulate(w_c, n, repeats, seed):
    """Mean population AUC, with its standard error, of ridge and of stretched ridge at the best fixed penalty.

    Records are drawn, ridge is solved, and the fitted weights' exact AUC is taken; the penalty (and stretch) that is
    best on average is chosen afterwards, as the equivalents do.
    """
    law = moments(spec(w_c=w_c))
    rng = np.random.default_rng(seed)
    root, w = np.linalg.cholesky(law.cov), solve(law.cov, law.cov_liability)
    share = float(w @ law.cov_liability)
    kept = np.zeros(law.p)
    kept[law.blocks["c_image"]] = kept[law.blocks["c_clinical"]] = 1
    taus, penalties = np.r_[0, np.geomspace(0.2, 8, 7)], np.geomspace(0.01, 30, 24) * n
    r = np.zeros((repeats, len(taus), len(penalties)))
    for i in range(repeats):
        z = rng.standard_normal((n, law.p)) @ root.T
        y = (z @ w + np.sqrt(1 - share) * rng.standard_normal(n) > law.threshold).astype(float)
        z, y = z - z.mean(0), y - y.mean()
        gram, b = z.T @ z, z.T @ y
        for j, tau in enumerate(taus):
            s = np.sqrt(1 + tau**2 * kept)
            e, v = np.linalg.eigh(gram * np.outer(s, s))
            fitted = (v @ ((v.T @ (s * b))[:, None] / (e[:, None] + penalties))) * s[:, None]
            spread = np.sqrt(np.einsum("pl,pl->l", fitted, law.cov @ fitted))
            r[i, j] = fitted.T @ law.cov_liability / spread
    values = auc(r, 0.3)
    out = []
    for part in (values[:, :1], values):
        mean = part.mean(0)
        best = np.unravel_index(mean.argmax(), mean.shape)
        out.append((float(mean[best]), float(part[:, best[0], best[1]].std(ddof=1) / np.sqrt(repeats))))
    return out


def check(w_c, n, repeats, seed):
    """The accuracy that docs/theory.md states, .0035, and three standard errors of the simulation's mean."""
    out = finite.predict(predictions(w_c=w_c), (n,))
    for key, (mean, error) in zip(KEYS, simulate(w_c, n, repeats, seed), strict=True):
        assert abs(out[key][0] - mean) < 0.0035 + 3 * error, (key, mean, error)


@pytest.mark.parametrize(("w_c", "n"), [(0.8, 300), (0.4, 100), (0.2, 300)])
def test_equivalents_agree_with_fitted_ridge(w_c, n):
    check(w_c, n, 60, 7)


@pytest.mark.proof
@pytest.mark.parametrize(("w_c", "n"), TABLE)
def test_equivalents_agree_with_fitted_ridge_over_200_repeats(w_c, n):
    check(w_c, n, 200, 8)


@pytest.mark.parametrize(("p", "share", "n"), [(20, 0.7, 100), (60, 0.6, 300)])
def test_least_squares_formula_agrees_with_fitted_ols(p, share, n):
    """The formula is good to .005 where p/n <= .5 (docs/theory.md, 6); 300 fits, three standard errors on top."""
    rng = np.random.default_rng(3)
    w = np.sqrt(share / p) * np.ones(p)
    r = np.zeros(300)
    for i in range(300):
        x = rng.standard_normal((n, p))
        y = (x @ w + np.sqrt(1 - share) * rng.standard_normal(n) > 0.5244).astype(float)
        fitted = np.linalg.lstsq(x - x.mean(0), y - y.mean(), rcond=None)[0]
        r[i] = fitted @ w / np.linalg.norm(fitted)
    seen = auc(r, 0.3)
    predicted = auc(finite.least_squares_correlation(share, p, float(n), 0.3), 0.3)
    assert abs(seen.mean() - predicted) < 0.005 + 3 * seen.std() / np.sqrt(300)


def test_boundary_by_retained_share():
    """R^2 = .5, p = 40, k = 4, K = .3: retained share .9/.75/.5/.25 crosses at 822/287/109/55 labels.

    There a probe of k = 4 numbers is meant (not 2k).
    """
    for kept, printed in ((0.9, 822), (0.75, 287), (0.5, 109), (0.25, 55)):
        n = np.arange(42.0, 5000.0)
        gap = (finite.least_squares_correlation(0.5 * kept, 4, n, 0.3)
               - finite.least_squares_correlation(0.5, 40, n, 0.3))
        assert n[np.flatnonzero(gap > 0)[-1]] == pytest.approx(printed, abs=1.01)


@pytest.mark.parametrize(("w_c", "against_ols", "against_ridge"), [(0.8, 458, 132), (0.6, 196, None), (0.4, 109, None),
                                                                    (0.2, 72, None)])
def test_crossovers(w_c, against_ols, against_ridge):
    crossings = finite.crossovers(predictions(w_c=w_c))
    assert round(crossings["cross_modal|supervised"].n) == against_ols
    found = crossings["cross_modal|supervised_tuned"]
    assert (found.n if found.n is None else round(found.n)) == against_ridge
    if against_ridge is None:
        assert found.above == "supervised_tuned"
    tuned = crossings["cross_modal_finetuned|supervised_tuned"]
    assert tuned.n is None and "ahead" in tuned.reading and tuned.above == "cross_modal_finetuned"


def test_crossover_is_where_the_curves_meet():
    methods = predictions(w_c=0.7)
    for pair, crossing in finite.crossovers(methods).items():
        if crossing.n is None:
            continue
        one, two = (methods[name].curve for name in pair.split("|"))
        below, above = (float((one(n) - two(n))[0]) for n in (np.array([crossing.n - 1]), np.array([crossing.n + 1])))
        assert below * above < 0 and crossing.below == pair.split("|")[0 if below > 0 else 1]


def test_undefined_where_least_squares_has_no_solution():
    out = finite.predict(predictions(w_c=0.6), (9, 10, 61, 62))
    assert [v is None for v in out["supervised"]] == [True, True, True, False]
    assert [v is None for v in out["cross_modal"]] == [True, False, False, False]
    assert all(0.5 < v < 0.9 for v in out["supervised_tuned"] + out["cross_modal_finetuned"])


@pytest.mark.parametrize(("knobs", "said"), [({"condition": 3.0}, "condition number is 3"), ({"map": "mlp"}, "MLP")])
def test_tuned_predictions_are_null_under_other_maps(knobs, said):
    s = spec(w_c=0.6, **knobs)
    methods = finite.methods(s, moments(s), 4)
    assert methods["supervised_tuned"] is None and methods["cross_modal_finetuned"] is None
    crossings = finite.crossovers(methods, finite.untuned_reason(s))
    assert round(crossings["cross_modal|supervised"].n) == 196
    assert crossings["cross_modal|supervised_tuned"].n is None
    assert said in crossings["cross_modal|supervised_tuned"].reading
    identity = spec(w_c=0.6, map="identity", condition=3.0)  # the condition number belongs to the linear map alone
    assert finite.untuned_reason(identity) is None


def test_noise_coordinates_may_be_counted_instead_of_diagonalised():
    """The equivalent with noise left out of the eigendecomposition is the plain one."""
    law = moments(spec(w_c=0.6, alpha_n=0.7))
    short = finite.equivalent(law)
    e, v = np.linalg.eigh(law.cov)
    long = finite._sums(e, v, law.cov_liability * finite.density(0.3), np.zeros(0), 160)
    assert np.allclose(short.a, long[0]) and np.allclose(short.c, long[1])
    assert np.allclose(short.df1, long[2]) and np.allclose(short.df2, long[3]) and short.b == pytest.approx(long[4])


def test_grids_are_fine_enough():
    """Four times as many penalties and three times as many stretches change no prediction by more than 2e-4."""
    law = moments(spec(w_c=0.8))
    basis = np.zeros((law.p, 8))
    basis[law.blocks["c_image"], :4] = basis[law.blocks["c_clinical"], 4:] = np.eye(4)
    n = np.array([30.0, 100.0, 300.0, 1000.0])
    coarse = finite.equivalent(law, basis).correlation(n)
    dense = finite.equivalent(law, basis, taus=84, kappas=640).correlation(n)
    assert np.abs(auc(coarse, 0.3) - auc(dense, 0.3)).max() < 2e-4


def test_many_labels_reach_the_limit():
    from simlab.limits.oracles import view_oracle
    law = moments(spec(w_c=0.6))
    limit = view_oracle(law, law, "full").internal
    out = finite.predict(predictions(w_c=0.6), (1_000_000,))
    assert all(abs(out[key][0] - limit) < 1e-4 for key in ("supervised", *KEYS))
    assert out["cross_modal"][0] == pytest.approx(0.79219, abs=1e-4)
