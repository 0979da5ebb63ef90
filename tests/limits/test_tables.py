"""Reference tables, to their printed digits: internal, external, presets, two toy shifts (docs/theory.md, 9)."""

import numpy as np
import pytest
from limits_oracle import toy

from simlab.environments.knobs import spec
from simlab.environments.presets import from_preset
from simlab.limits import limits
from simlab.limits.oracles import view_oracle

PRINTED = 0.5e-3 + 1e-9  # a number printed with three decimals


def near(value, printed):
    assert value == pytest.approx(printed, abs=PRINTED)


# w_c: full, image, clinical, cross-modal; supervised and frozen at n = 100, 300, 1000; crossover
INTERNAL = {
    1.0: (0.884, 0.862, 0.862, 0.884, (0.692, 0.814, 0.862), (0.855, 0.874, 0.881), None),
    0.8: (0.879, 0.842, 0.842, 0.840, (0.688, 0.809, 0.857), (0.806, 0.828, 0.837), 458),
    0.6: (0.875, 0.822, 0.822, 0.792, (0.684, 0.805, 0.853), (0.753, 0.778, 0.788), 196),
    0.4: (0.871, 0.800, 0.800, 0.737, (0.680, 0.800, 0.848), (0.691, 0.719, 0.731), 109),
    0.2: (0.867, 0.777, 0.777, 0.666, (0.675, 0.794, 0.843), (0.613, 0.642, 0.658), 72),
    0.05: (0.863, 0.758, 0.758, 0.583, (0.672, 0.791, 0.840), (0.534, 0.552, 0.569), 62),
}


@pytest.mark.parametrize("w_c", INTERNAL)
def test_internal_table(w_c):
    *oracles, supervised, frozen, crossover = INTERNAL[w_c]
    out = limits(spec(w_c=w_c), n_labelled=(100, 300, 1000))
    for key, printed in zip(("full", "image", "clinical", "cross_modal"), oracles, strict=True):
        near(out["internal"][key], printed)
        near(out["external"][key], printed)
    for key, row in (("supervised", supervised), ("cross_modal", frozen)):
        for value, printed in zip(out["finite"][key], row, strict=True):
            near(value, printed)
    assert out["crossover_n"]["cross_modal|supervised"] == crossover
    assert out["standard_error"] == 0


# kappa_e: the source's fused, image and cross-modal rules outside; the external limit
PROXY = {1.0: (0.878, 0.777, 0.795, 0.878), 0.8: (0.833, 0.777, 0.741, 0.843), 0.6: (0.789, 0.777, 0.687, 0.822),
         0.4: (0.745, 0.777, 0.633, 0.809), 0.2: (0.701, 0.777, 0.577, 0.802), 0.0: (0.657, 0.777, 0.521, 0.800),
         -0.5: (0.547, 0.777, 0.374, 0.815)}


@pytest.mark.parametrize("kappa_e", PROXY)
def test_proxy_decoupling_table(kappa_e):
    full, image, cross_modal, limit = PROXY[kappa_e]
    out = limits(spec(w_c=0.6, w_u=0.3, w_v=0.1, rel_ci=0.4, rel_cc=0.9, kappa_e=kappa_e))
    rule = out["source_bayes_external"]
    near(rule["full"], full)
    near(rule["image"], image)
    near(rule["cross_modal"], cross_modal)
    near(out["external"]["full"], limit)
    assert (out["external"]["cross_modal_own"] is None) == (kappa_e == 0)


def test_proxy_decoupling_break_even():
    """JEPA falls below imaging-only at kappa_e of about .93, the fused rule at about .55."""
    def gap(kappa_e, key):
        out = limits(spec(w_c=0.6, w_u=0.3, w_v=0.1, rel_ci=0.4, rel_cc=0.9, kappa_e=kappa_e))["source_bayes_external"]
        return out[key] - out["image"]
    assert gap(0.94, "cross_modal") > 0 > gap(0.92, "cross_modal")
    assert gap(0.56, "full") > 0 > gap(0.54, "full")


def test_pure_coupling_shift():
    """The views' correlation alone moves: m = (.6, .35), coupling .5 inside; each view's own law with y stays."""
    m = np.array([0.6, 0.35])
    source = toy(np.array([[1, 0.5], [0.5, 1]]), m, 0.3, 1)
    for coupling, printed in ((-0.2, 0.813), (0, 0.805), (0.3, 0.795), (0.5, 0.788), (0.7, 0.782), (0.85, 0.778)):
        target = toy(np.array([[1, coupling], [coupling, 1]]), m, 0.3, 1)
        near(view_oracle(source, target, "full").source_bayes_external, printed)
        near(view_oracle(source, target, "image").source_bayes_external, 0.787)
        near(view_oracle(source, target, "clinical").source_bayes_external, 0.665)


def test_shortcut():
    """a = lambda l + noise beside a score that explains R^2 (w = .5/.25/.25): lambda .5 inside, moved outside."""
    share = 0.7 * (0.5 * (1 - 1 / 9) + 0.5 * 0.8)

    def law(lam):
        return toy(np.array([[share, lam * share], [lam * share, 1]]), np.array([share, lam]), 0.3, 1)
    for lam, rule, limit in ((0.5, 0.890, 0.890), (0.25, 0.870, 0.877), (0, 0.850, 0.873), (-0.25, 0.829, 0.877),
                             (-0.5, 0.807, 0.890)):
        oracle = view_oracle(law(0.5), law(lam), "full")
        near(oracle.source_bayes_external, rule)
        near(oracle.external, limit)


PRESETS = {
    "li2025-shared": ((0.917, 0.731, 0.906, 0.895), {400: (0.817, 0.889), 800: (0.868, 0.892), 1500: (0.891, 0.893)},
                      1654, (140, 0.53)),
    "li2025-mixed": ((0.924, 0.730, 0.901, 0.821), {300: (0.868, 0.810)}, 135, (60, 0.56)),
    "li2025-independent": ((0.918, 0.716, 0.848, 0.589), {300: (0.861, 0.561)}, 62, (60, 0.56)),
}


@pytest.mark.parametrize("name", PRESETS)
def test_preset_inside(name):
    oracles, finite, crossover, (p, rho) = PRESETS[name]
    s = from_preset(name)
    out = limits(s, n_labelled=tuple(finite))
    for key, printed in zip(("full", "image", "clinical", "cross_modal"), oracles, strict=True):
        near(out["internal"][key], printed)
    for i, printed in enumerate(finite.values()):
        near(out["finite"]["supervised"][i], printed[0])
        near(out["finite"]["cross_modal"][i], printed[1])
    assert out["crossover_n"]["cross_modal|supervised"] == crossover
    assert s.p_image + s.p_clinical == p
    assert out["canonical_correlations"][0] == pytest.approx(rho, abs=0.005)
    assert len(out["canonical_correlations"]) == 4


OUTSIDE = [
    ("li2025-shared", {"kappa_e": 0.8}, {"full": 0.838, "cross_modal": 0.813, "image": 0.731, "limit": 0.849}),
    ("li2025-shared", {"kappa_e": 0.6}, {"full": 0.762, "cross_modal": 0.735, "limit": 0.803}),
    ("li2025-shared", {"kappa_e": 0.5}, {"full": 0.726, "cross_modal": 0.697, "limit": 0.786}),
    ("li2025-shared", {"kappa_e": 0.4}, {"full": 0.690, "cross_modal": 0.660, "limit": 0.772}),
    ("li2025-shared", {"kappa_e": 0.56}, {"cross_modal": 0.720}),
    ("li2025-mixed", {"delta_v_e": 0.33}, {"full": 0.829}),
    ("li2025-mixed", {"kappa_e": 0.5}, {"full": 0.796}),
    ("li2025-mixed", {"delta_clin_e": 0.33}, {"full": 0.669, "image": 0.730}),
    ("li2025-independent", {"delta_v_e": 0.33}, {"full": 0.719, "image": 0.716}),
    ("li2025-independent", {"kappa_e": 0.5}, {"full": 0.906}),
]


@pytest.mark.parametrize(("name", "shift", "printed"), OUTSIDE)
def test_preset_outside(name, shift, printed):
    out = limits(from_preset(name, **shift))
    for key, value in printed.items():
        near(out["external"]["full"] if key == "limit" else out["source_bayes_external"][key], value)


def test_shared_preset_break_even():
    """The cross-modal rule falls below imaging-only at kappa_e just below .59."""
    def gap(kappa_e):
        out = limits(from_preset("li2025-shared", kappa_e=kappa_e))["source_bayes_external"]
        return out["cross_modal"] - out["image"]
    assert gap(0.59) > 0 > gap(0.585)
