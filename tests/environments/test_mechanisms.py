"""The world of one mechanism at a time: it is the preset's world, and the target differs in that one way."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from simlab.environments.knobs import GaussianSpec
from simlab.environments.mechanisms import KNOBS, MECHANISMS, WORLD, spec
from simlab.environments.presets import from_preset
from simlab.environments.registry import find_world
from simlab.errors import OutOfDomain, UnknownName
from simlab.evaluation.auc import label_auc

PRESETS = KNOBS[0].domain.words


def plain(made: object) -> dict[str, object]:
    return {f.name: getattr(made, f.name) for f in fields(GaussianSpec)}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_home_is_the_preset_and_no_strength_is_no_shift(name: str, mechanism: str) -> None:
    made = spec(preset=name, mechanism=mechanism, strength=0.0)
    at_home = {"n_sites": 5, "site_shown": "clinical", "rho_s": 0.25} if mechanism == "site" else {}
    assert plain(made.without_shift()) == plain(from_preset(name, **at_home))
    for view in ("full", "image", "clinical"):
        assert WORLD.limit(made, "external", view) == pytest.approx(WORLD.limit(made, "source", view), abs=1e-9)
    assert spec(preset=name, mechanism=mechanism, strength=1.0).without_shift() == made.without_shift()


@pytest.mark.parametrize(("mechanism", "knobs"), [
    ("clinical-slope", {"delta_v_e": 0.3}), ("all-clinical-slope", {"kappa_e": 0.3, "delta_v_e": 0.3}),
    ("decoupling", {"kappa_e": 0.3}), ("coupling", {"eta_e": 0.63}), ("acquisition-image", {"mix_e": 1.05}),
    ("acquisition-record", {"mix_e": 1.05, "acquired": "clinical"}),
])
def test_a_strength_is_a_choice_of_knobs(mechanism: str, knobs: dict[str, object]) -> None:
    made, by_hand = plain(spec(mechanism=mechanism, strength=0.7)), plain(from_preset("li2025-trained-mixed", **knobs))
    assert made == pytest.approx(by_hand, abs=1e-12)


def test_missing_records_leave_the_image_and_the_law_of_the_rest() -> None:
    """At .45 missing: so many zeros that count as unobserved, and the limits of the longitudinal world at one visit."""
    made = spec(mechanism="missingness", strength=0.5, map="identity")
    rng = np.random.default_rng(3)
    cohort = WORLD.observe(WORLD.sample_factors(8000, made, "external", rng), made, "external", rng)
    clinical = cohort.streams["clinical"]
    gone = ~clinical.observed[:, 0].any(axis=1)
    assert abs(gone.mean() - 0.45) < 4 * np.sqrt(0.45 * 0.55 / 8000) and not clinical.values[gone].any()
    assert cohort.streams["image"].observed.all()
    y, risk = cohort.labels["outcome"], cohort.risk["outcome"]
    assert abs(label_auc(risk, y).value - WORLD.limit(made, "external", "full")) < 0.02  # 4 standard errors of each
    longitudinal = find_world("longitudinal").spec(d_c=4, n_visits=1, p_miss_e=0.45, **{
        k: getattr(made, k) for k in ("h2", "w_c", "w_u", "w_v", "rel_ci", "rel_cc", "rel_u", "rel_v", "prevalence")})
    assert WORLD.limit(made, "external", "full") == pytest.approx(find_world("longitudinal").limit(
        longitudinal, "external", "full"), abs=1e-9)


def test_bad_choices_are_one_clear_line() -> None:
    with pytest.raises(OutOfDomain, match="mechanism decoupling sets kappa_e"):
        spec(mechanism="decoupling", coupling_external=0.2)
    with pytest.raises(OutOfDomain, match="given twice"):
        spec(w_c=0.5, weight_shared=0.5)
    with pytest.raises(UnknownName, match="strength"):
        spec(stregnth=0.5)
