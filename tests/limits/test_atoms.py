"""Information atoms, epsilons and separation ratios: definitions, published numbers, closed forms, sampling."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits_oracle import draw
from scipy.optimize import minimize_scalar

from simlab.environments.knobs import spec
from simlab.limits import limits
from simlab.limits.atoms import dependence, mmi, regime, separation
from simlab.limits.gaussian import moments
from simlab.limits.liability import auc
from simlab.limits.oracles import retained
from simlab.limits.subspace import cca, cross_prediction


@pytest.mark.parametrize(("w_c", "w_u", "r", "unique", "synergy", "interaction"), [
    (0, 0.5, 0.164, 0, 0.246, -0.082), (0, 0.7, 0.092, 0.157, 0.162, -0.070), (1, 0, 0.410, 0, 0.076, 0.334)])
def test_atoms_of_the_fact_sheet(w_c, w_u, r, unique, synergy, interaction):
    """Independent equal, asymmetric and fully shared causes; interaction -.082 as printed (the others: r - synergy)."""
    atoms = limits(spec(w_c=w_c, w_u=w_u, w_v=1 - w_c - w_u))["atoms"]
    printed = {"redundancy": r, "unique_image": unique, "unique_clinical": 0, "synergy": synergy,
               "interaction": interaction}
    assert atoms == {key: pytest.approx(value, abs=1.1e-3 if key == "interaction" else 5.1e-4)
                     for key, value in printed.items()}


@settings(max_examples=30, deadline=None, derandomize=True)
@given(w_c=st.floats(0, 1), split=st.floats(0, 1), h2=st.floats(0.05, 0.95), rel=st.floats(0.15, 0.99))
def test_atoms_by_definition(w_c, split, h2, rel):
    """BROJA: the least I(l; z_I, z_C) over couplings that keep both pairs; Gaussian ones reach it. One score a view."""
    law = moments(spec(w_c=w_c, w_u=(1 - w_c) * split, h2=h2, rel_ci=rel, d_ni=0, d_nc=0))
    a, b, full = (math.sqrt(retained(law, view)) for view in ("image", "clinical", "full"))
    least = minimize_scalar(lambda q: (a * a + b * b - 2 * q * a * b) / (1 - q * q), bounds=(-1 + 1e-9, 1 - 1e-9),
                            method="bounded", options={"xatol": 1e-12}).fun
    one, two, union, both = (-0.5 * math.log1p(-s) for s in (a * a, b * b, least, full**2))
    atoms = mmi(one, two, both)
    seen = (atoms.redundancy, atoms.unique_image, atoms.unique_clinical, atoms.synergy)
    assert seen == pytest.approx((one + two - union, union - two, union - one, both - union), abs=1e-6)
    assert sum(seen) == pytest.approx(both) and min(seen) >= -1e-12
    assert atoms.interaction == pytest.approx(one + two - both, abs=1e-12)


@pytest.mark.parametrize("knobs", [{"w_c": 0.6, "nu": 0.5, "rel_ci": 0.5}, {"w_c": 0.2, "kappa_s": -0.6, "d_c": 2},
                                   {"w_c": 1.0, "d_c": 1, "h2": 0.9}])
def test_epsilons_by_regression(knobs):
    """Fit both conditional means on 300,000 draws; the excess is measured on 300,000 others."""
    s = spec(d_ni=1, d_nc=1, **knobs)
    z, l = draw(s, 600_000, 3)
    half = len(l) // 2
    image, clinical = z[:, :s.p_image], z[:, s.p_image:]
    on_image = np.linalg.lstsq(image[:half], np.c_[clinical, l][:half], rcond=None)[0]
    on_label = clinical[:half].T @ l[:half] / half
    seen = ((image[half:] @ (on_image[:, :-1] - np.outer(on_image[:, -1], on_label))) ** 2).sum(1)
    exact = dependence(moments(s))
    bias = 2 * s.p_image * s.p_clinical / half * 3  # estimation noise of the fitted means adds at most this
    assert abs(seen.mean() - exact["epsilon_ci_squared"]) < 4.5 * seen.std() / math.sqrt(half) + bias


def test_epsilons_in_closed_form():
    """One shared cause that is nearly the liability: (1 - h2)^2 rel; independent equal causes: half of R*^2."""
    far = dependence(moments(spec(w_c=1.0, d_c=1, h2=0.9, d_g=0, rel_ci=0.7, rel_cc=0.6)))
    assert far["epsilon_ci_squared"] == pytest.approx(0.01 * 0.7) and far["epsilon_ic_squared"] == pytest.approx(0.006)
    far = dependence(moments(spec(w_c=0.0)))
    assert far["epsilon_image"] == pytest.approx(0.28) == far["epsilon_clinical"]


def recovers(basis, law):
    """Whether a span holds every direction of c that its view shows."""
    found = basis @ np.linalg.pinv(basis)
    return [bool(np.abs(found[rows, rows] - np.eye(rows.stop - rows.start)).max() < 1e-6)
            for rows in (law.blocks["c_image"], law.blocks["c_clinical"])]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(nu=st.floats(-0.95, 0.95), rel_ci=st.floats(0.1, 1), rel_cc=st.floats(0.1, 1), kappa=st.floats(-1, 1),
       alpha_g=st.floats(0.1, 10), alpha_n=st.floats(0.1, 10), d_c=st.integers(1, 3))
def test_separation_by_its_formulas_and_by_what_is_recovered(nu, rel_ci, rel_cc, kappa, alpha_g, alpha_n, d_c):
    """rho, tau, nu, xi by the knobs; a learner of width d_c keeps exactly c iff its ratio exceeds one."""
    s = spec(nu=nu, rel_ci=rel_ci, rel_cc=rel_cc, kappa_s=kappa, alpha_g=alpha_g, alpha_n=alpha_n, d_c=d_c, d_g=2,
             d_ni=2, d_nc=2)
    law, out = moments(s), separation(moments(s))
    xi = abs(nu) * alpha_g
    by_hand = {"rho": abs(kappa) * math.sqrt(rel_ci * rel_cc), "nu": abs(nu), "tau_image": abs(kappa * rel_ci**0.5),
               "tau_clinical": abs(kappa) * rel_cc**0.5, "xi_image": xi, "xi_clinical": xi}
    assert {key: out[key] for key in by_hand} == pytest.approx(by_hand, abs=1e-9)
    ratios = [by_hand["rho"] / max(abs(nu), 1e-300)] + [
        by_hand[f"tau_{view}"] / max(abs(nu) * alpha_g, 1e-300) for view in ("image", "clinical")]
    if abs(nu) < 1e-6 or abs(kappa) < 1e-3 or min(abs(ratio - 1) for ratio in ratios) < 1e-4:
        return  # ties
    assert out["delta_ca"] / out["delta_cp_image"] == pytest.approx(alpha_g * math.sqrt(rel_cc))
    assert recovers(cca(law, d_c).fixed, law) == [ratios[0] > 1] * 2
    assert recovers(cross_prediction(law, d_c).fixed, law) == [ratios[1] > 1, ratios[2] > 1]
    for view, ratio in zip(("image", "clinical"), ratios[1:], strict=True):
        assert out[f"regime_{view}"] == regime(ratios[0], ratio)


@pytest.mark.parametrize(("nu", "alpha_g", "name"), [
    (0.4, 1.0, "both"), (0.4, 3.0, "alignment only"), (0.7, 0.5, "prediction only"), (0.7, 3.0, "neither")])
def test_four_regimes(nu, alpha_g, name):
    """What a ratio above one promises, in AUC: alignment and prediction reach the shared limit, or know nothing."""
    out = limits(spec(w_c=0.8, rel_ci=0.5, rel_cc=0.5, d_g=4, nu=nu, alpha_g=alpha_g))
    assert out["separation"]["regime_image"] == out["separation"]["regime_clinical"] == name
    shared = auc(math.sqrt(0.7 * 0.8 * 2 / 3), 0.3)
    for key, told in (("cross_modal", ("both", "alignment only")), ("cross_prediction", ("both", "prediction only"))):
        reached = out["internal"][key] if key == "cross_modal" else out[key]["internal"]
        assert reached == pytest.approx(shared if name in told else 0.5, abs=1e-9)


def test_the_jump_at_the_threshold():
    """.792 to .500 as nu crosses sqrt(rel_ci rel_cc) = .5."""
    def kept(nu):
        return limits(spec(w_c=0.8, rel_ci=0.5, rel_cc=0.5, d_g=4, nu=nu))["internal"]["cross_modal"]
    assert kept(0.499) == pytest.approx(0.792, abs=5e-4) and kept(0.501) == 0.5
    assert kept(0.1) == kept(0.499)


@pytest.mark.proof
@pytest.mark.parametrize(("nu", "printed"), [(0.3, 0.782), (0.4, 0.781), (0.5, 0.715), (0.6, 0.562)])
def test_the_jump_is_smooth_with_2000_records(nu, printed):
    """CCA-4 fitted on 2,000 unlabelled records, its population AUC; mean of 40 data sets, printed .782 to .562."""
    s = spec(w_c=0.8, rel_ci=0.5, rel_cc=0.5, d_g=4, nu=nu)
    law, seen = moments(s), []
    for seed in range(40):
        z, _ = draw(s, 2000, seed)
        one, two = (np.linalg.qr(x - x.mean(0)) for x in (z[:, :s.p_image], z[:, s.p_image:]))
        u, _, vt = np.linalg.svd(one[0].T @ two[0])
        basis = np.zeros((law.p, 8))
        basis[law.image, :4] = np.linalg.solve(one[1], u[:, :4])
        basis[law.clinical, 4:] = np.linalg.solve(two[1], vt[:4].T)
        m = basis.T @ law.cov_liability
        seen.append(auc(math.sqrt(m @ np.linalg.solve(basis.T @ law.cov @ basis, m)), 0.3))
    assert np.mean(seen) == pytest.approx(printed, abs=0.01 + 3 * np.std(seen) / math.sqrt(40))


def test_without_shared_nuisance_the_ratio_is_infinite():
    for s in (spec(), spec(d_g=0)):
        out = separation(moments(s))
        assert out["delta_ca"] is None and out["regime_image"] == "both" and out["nu"] == 0
    nothing = separation(moments(spec(kappa_s=0.0)))
    assert nothing["delta_ca"] == 0 and nothing["regime_image"] == "neither"


def test_atoms_and_information_agree():
    out = limits(spec(w_c=0.3, rel_ci=0.5))
    info = out["mutual_information"]
    for name, value in out["atoms"].items():
        assert value == info[name if name == "interaction" else f"pid_{name}"]
