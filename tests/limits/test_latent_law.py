"""Causes that are not normal: draws, exact risk, limits with their error, and the normal path left as it was."""

import numpy as np
import pytest
from agreement import agree, draw
from scipy.special import gamma

from simlab.environments import gaussian
from simlab.environments.knobs import spec
from simlab.errors import OutOfDomain
from simlab.limits import latent as module
from simlab.limits import latent_areas, limits
from simlab.limits.gaussian import moments, posterior
from simlab.limits.latent import latent, shaped

SMALL = {"d_c": 2, "d_u": 2, "d_v": 3, "d_g": 1, "d_ni": 1, "d_nc": 1}


@pytest.mark.parametrize("alpha", (0.5, 1.0, 8.0))
def test_draws_have_variance_one_and_the_shape(alpha):
    x = shaped(np.random.default_rng(0).standard_normal(400_000), alpha)
    kurtosis = gamma(5 / alpha) * gamma(1 / alpha) / gamma(3 / alpha) ** 2
    for power, exact in ((2, 1.0), (4, kurtosis)):
        assert abs((x**power).mean() - exact) < 5 * (x**power).std() / np.sqrt(len(x))
    assert (np.sign(x) == np.sign(np.random.default_rng(0).standard_normal(400_000))).all()


def test_shape_two_is_the_normal_path():
    x = np.random.default_rng(0).standard_normal((5, 3), dtype=np.float32)
    assert shaped(x, 2.0) is x and spec(alpha_lat=2.0) == spec() and spec().gaussian


def test_near_two_the_risk_is_the_normal_one():
    """Another road to the same number: tables and inversion against the closed form."""
    s = spec(mu_e=0.3, kappa_e=0.4, theta_e=0.3, gain_e=2.0, mix_e=0.4)
    for domain in ("source", "external"):
        _, z = draw(s, domain, 3_000)
        near = spec(mu_e=0.3, kappa_e=0.4, theta_e=0.3, gain_e=2.0, mix_e=0.4, alpha_lat=2.0 + 1e-9)
        for view, shown in latent_areas.SHOWN.items():
            ours = latent(near, domain, shown).risk(z)
            np.testing.assert_allclose(ours, posterior(moments(s, domain), z, view), atol=3e-5)


def test_at_the_largest_signal_the_inversion_is_that_of_many_more_frequencies():
    """h2 = .98, one cause a kind, of which the image leaves one unseen: 64 frequencies against 200, as near as
    docs/theory.md (11) says of single records and of their mean."""
    s = spec(SMALL, d_c=1, d_u=1, d_v=1, alpha_lat=0.5, h2=0.98)
    z, coarse = draw(s, "source", 300)[1], latent(s, "source", ("image",))
    few = coarse.risk(z)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "FREQUENCIES", 200)
        for cached in (module.table, module.prior, module._frequencies):
            cached.cache_clear()
        many = coarse.risk(z)
    for cached in (module.table, module.prior, module._frequencies):
        cached.cache_clear()
    far = np.abs(few - many)
    assert far.mean() < 5e-4 and 0 < far.max() < 0.01


@pytest.mark.parametrize("alpha", (0.5, 8.0))
def test_limits_agree_with_data(alpha, monkeypatch):
    """Calibration of every view's risk and its AUC inside, outside and by the source's rule; moments as ever."""
    monkeypatch.setattr(latent_areas, "RECORDS", 800)
    agree(spec(SMALL, alpha_lat=alpha, h2=0.85, mu_e=0.4, kappa_e=0.5, delta_u_e=0.5, theta_e=0.4, eta_e=0.5,
                     gain_e=2.0, mix_e=0.5), n=6_000)


def test_what_is_known_of_causes_that_are_not_normal_is_said(monkeypatch):
    monkeypatch.setattr(latent_areas, "RECORDS", 300)
    out = limits(spec(SMALL, alpha_lat=1.0, kappa_e=0.5))
    assert 0 < out["standard_error"] < 2e-2 and out["internal"]["cross_modal"] is not None
    assert out["pca"]["internal"] is None and all(v is None for v in out["finite"]["supervised_tuned"])
    assert any("alpha_lat" in note for note in out["notes"])


def test_heavier_tails_move_limit_and_prevalence(monkeypatch):
    """The threshold stays and the true prevalence moves with the shape, in data as in theory. One cause carries l."""
    monkeypatch.setattr(latent_areas, "RECORDS", 400)
    one = {"d_c": 1, "d_u": 1, "d_v": 1, "d_g": 0, "d_ni": 1, "d_nc": 1, "w_c": 1.0, "h2": 0.9, "prevalence": 0.1}
    found = {}
    for alpha in (0.5, 2.0, 16.0):
        s = spec(one, alpha_lat=alpha)
        k = gaussian.sample_factors(100_000, s, "source", np.random.default_rng(1)).label.mean()
        prevalence = moments(s).prevalence
        assert abs(prevalence - k) < 4.5 * np.sqrt(k * (1 - k) / 100_000)
        found[alpha] = (prevalence, gaussian.limit(s, "source", "full"))
    assert found[0.5][0] < found[2.0][0] - 0.01 < found[16.0][0]
    assert abs(found[0.5][1] - found[2.0][1]) > 0.005


@pytest.mark.parametrize(("given", "said"), [
    ({"w_x": 0.2}, "w_x = 0"), ({"tau_e": 1.2}, "tau_e = 1"), ({"rel_u": 1.0}, "up to 0.999"),
    ({"prevalence_e": 0.2}, "threshold"), ({"shortcut": "image"}, "shortcut = none"),
    ({"n_sites": 2, "omega_s": 0.2}, "omega_s"), ({"h2": 0.99}, "h2 up to 0.98"),
])
def test_what_has_no_exact_risk_is_refused(given, said):
    with pytest.raises(OutOfDomain) as caught:
        spec(given, alpha_lat=1.0)
    assert said in str(caught.value)
