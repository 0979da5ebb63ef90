"""Which mask finds the causes: trained token encoders against what `simlab.limits.persistence` says is kept."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from simlab.environments.persistence import from_preset
from simlab.environments.scenario import sample_cohort
from simlab.evaluation.verdict import readability
from simlab.limits.persistence import kept
from simlab.methods import METHODS, Method
from simlab.models import tokens
from simlab.training import token_pretrain
from simlab.training.pretrain import Encoders, Settings

LINEAR = Settings(token_encoder="linear", width=4, steps=150, batch=256, learning_rate=0.03, weight_decay=0.0)


@cache
def world(preset: str) -> tuple[tokens.Tokeniser, dict[str, np.ndarray], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Tokens of 4,000 unlabelled and of 4,000 other records, and the latter's factors at the last visit."""
    spec = from_preset(preset)
    cohort, other = (sample_cohort(spec, stage, 4000, 1, 0, world="longitudinal")
                     for stage in ("pretraining-data", "test-data"))
    made = tokens.fit(cohort.inputs(None), visits=cohort.visits)
    factors = {name: x[:, -1] for name, x in other.factors.items() if x.ndim == 3}
    return made, made(cohort.inputs(None)), made(other.inputs("outcome")), factors


def trained(method: Method, preset: str, settings: Settings) -> tuple[Encoders, dict[str, dict[str, float]]]:
    """The encoder, and the R2 of each factor at the last visit read from each role's representation there."""
    made, unlabelled, other, factors = world(preset)
    views = {k: unlabelled[k][None] for k in ("tokens", "times")}
    encoder = token_pretrain.pretrain(views, made.layout, method, settings, [(3, 4)])[0]
    assert isinstance(encoder, Encoders)
    return encoder, {role: readability(z, factors) for role, z in encoder.represent(other).items()}


@pytest.mark.parametrize(
    ("preset", "mask"),
    [
        ("persistence-causes", "visit"),
        ("persistence-static-nuisance", "visit"),
        ("persistence-static-nuisance-shared", "modality"),
        ("persistence-causes-shared", "visit"),
    ],
)
def test_a_linear_encoder_keeps_what_its_mask_makes_predictable(preset: str, mask: str) -> None:
    """Four numbers, VICReg between the two halves of the mask. A family of which a share is kept is read at that share
    of its reliability, the others not at all (.05: 2,000 records read, and a linear map's noise).

    Independent causes that outlast a fresh nuisance are found between visits (R2 = rel); a nuisance that never changes
    takes their place (4 of its 12 directions); a modality mask does not feel it, where causes are shared.
    """
    spec = from_preset(preset)
    closed = kept(spec, mask, LINEAR.width)
    _, found = trained(METHODS[f"{'modality' if mask == 'modality' else 'visit'}-vicreg-frozen"], preset, LINEAR)
    measured = {"image": {"c": ("c", spec.rel_ci), "own": ("u", spec.rel_u), "g": ("g_image", 1.0)},
                "clinical": {"c": ("c", spec.rel_cc), "own": ("v", spec.rel_v), "g": ("g_clinical", 1.0)}}  # fmt: skip
    for role, families in measured.items():
        for family, (factor, reliability) in families.items():
            expected = closed.shares[role][family] * reliability
            assert found[role][factor] == pytest.approx(expected, abs=0.05), (role, factor)


TRANSFORMER = Settings(width=8, hidden=32, depth=1, decay="none", goal="target", steps=600, batch=256,
                       learning_rate=0.003)  # fmt: skip


@pytest.mark.proof
def test_a_transformer_with_an_ema_target_follows_its_mask_too() -> None:
    """No closed form: what theory says of the linear encoder holds in sign. Independent causes are predicted between
    visits where they outlast nuisance (R2 above .3) and lost where nuisance never changes (below .05); between
    modalities nothing can be predicted, and with goals encoded alone the skill says so (below .05)."""
    own = {"image": "u", "clinical": "v"}
    fresh, found = trained(METHODS["visit-jepa-frozen"], "persistence-causes", TRANSFORMER)
    assert all(found[role][cause] > 0.3 for role, cause in own.items()) and fresh.curve[-1]["skill"] > 0.2
    static, found = trained(METHODS["visit-jepa-frozen"], "persistence-static-nuisance", TRANSFORMER)
    assert all(found[role][cause] < 0.05 for role, cause in own.items()) and static.curve[-1]["skill"] > 0.9
    across, _ = trained(METHODS["modality-jepa-frozen"], "persistence-causes", TRANSFORMER)
    assert abs(across.curve[-1]["skill"]) < 0.05
