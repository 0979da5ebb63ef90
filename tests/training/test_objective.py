"""How a loss is composed from the axes: gradients go where the target says, and meaningless points are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from simlab.errors import OutOfDomain
from simlab.methods import METHODS
from simlab.models import fleet
from simlab.training import objective


def gradient(target: str, predictor: str = "linear") -> dict[str, float]:
    """Size of the gradient of the image-to-clinical direction alone, by network."""
    g = [torch.Generator().manual_seed(0)]
    method = replace(METHODS["jepa-frozen"], name="point", target=target, predictor=predictor)
    parameters = {k: v for role in objective.ROLES for k, v in fleet.initialise(role, (4, 3), g).items()}
    outputs = 4 if target == "input" else 3
    for role in objective.ROLES:
        parameters |= fleet.initialise(f"predict-{role}", (3, outputs), g)
    state = {k: v.clone() for k, v in parameters.items() if k.split(".")[0] in objective.ROLES}
    for p in parameters.values():
        p.requires_grad_(True)
    batch = {role: torch.randn(1, 32, 4, generator=g[0]) for role in objective.ROLES}
    z = {role: fleet.apply(parameters, role, batch[role]) for role in objective.ROLES}
    prediction, goal = objective._pairs(method, parameters, state, batch, z)["predict-clinical"]
    objective.of(method).match(prediction, goal).sum().backward()
    return {k: 0.0 if p.grad is None else float(p.grad.abs().sum()) for k, p in parameters.items()}


@pytest.mark.parametrize("target", ["ema", "stop-gradient", "online", "input"])
def test_gradients_reach_the_target_encoder_only_when_it_is_online(target: str) -> None:
    found = gradient(target)
    assert found["image.0.weight"] > 0 and found["predict-image.0.weight"] > 0
    assert (found["clinical.0.weight"] > 0) == (target == "online")


def test_watching_a_training_touches_no_gradient() -> None:
    g = [torch.Generator().manual_seed(0)]
    parameters = {k: v for role in objective.ROLES for k, v in fleet.initialise(role, (4, 3), g).items()}
    for p in parameters.values():
        p.requires_grad_(True)
    batch = {role: torch.randn(1, 32, 4, generator=g[0]) for role in objective.ROLES}
    method = METHODS["vicreg-frozen"]
    found = objective.observe(method, objective.of(method), parameters, {}, batch)
    assert all(p.grad is None for p in parameters.values())
    assert not any(v.requires_grad for v in found.values())
    assert {"skill", "rankme-image", "sd-min-clinical"} <= set(found)


def test_every_objective_is_a_value_of_its_axis() -> None:
    from simlab.training.method import AGAINST_COLLAPSE

    assert set(objective.OBJECTIVES) == set(AGAINST_COLLAPSE)


@pytest.mark.parametrize(
    ("axes", "words"),
    [({"target": "input", "predictor": "none"}, "predictor"), ({"view": "none"}, "view and target"),
     ({"against_collapse": "hope"}, "against_collapse")],
)  # fmt: skip
def test_points_that_mean_nothing_are_refused(axes: dict[str, str], words: str) -> None:
    with pytest.raises(OutOfDomain, match=words):
        replace(METHODS["jepa-frozen"], **axes)
