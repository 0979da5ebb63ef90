"""Fleets: a member's bits do not depend on its fleet; the same seed gives the same bits, another seed others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from simlab.methods import METHODS, Method
from simlab.models import fleet
from simlab.training.loop import Diverged
from simlab.training.pretrain import Encoders, Settings, pretrain, random_encoders

LINEAR = Settings(encoder="linear", width=4, steps=25, batch=32)
MLP = Settings(encoder="mlp", width=4, hidden=16, steps=25, batch=32)


def views(members: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {role: rng.standard_normal((members, 300, 10)).astype(np.float32) for role in ("image", "clinical")}


def weights(encoders: Encoders) -> torch.Tensor:
    return torch.cat([v.flatten() for v in encoders.parameters.values()])


WIDE = Settings(encoder="mlp", width=32, hidden=64, steps=15, batch=256)
ONE = Settings(encoder="linear", width=1, steps=15, batch=256)


# One of each recipe that trains, and two points that have no name: any point on the axes runs.
RECIPES = {m.recipe: m for m in METHODS.values() if m.pretrained and m.reads == "features"}
POINTS = [
    *RECIPES.values(),
    replace(METHODS["lejepa-frozen"], name="sigreg-ema-mlp", target="ema", predictor="mlp"),
    replace(METHODS["vicreg-frozen"], name="vicreg-stopgrad-linear", target="stop-gradient", predictor="linear"),
]


@pytest.mark.parametrize("method", POINTS, ids=lambda m: m.name)
@pytest.mark.parametrize("settings", [LINEAR, MLP, WIDE, ONE], ids=["linear", "mlp", "wide", "one"])
def test_a_member_does_not_depend_on_its_fleet(method: Method, settings: Settings) -> None:
    data, seeds = views(4), [(i, 10 + i) for i in range(4)]
    together = pretrain(data, method, settings, seeds)
    for m in (0, 3):
        alone = pretrain({k: v[m : m + 1] for k, v in data.items()}, method, settings, [seeds[m]])[0]
        assert torch.equal(weights(alone), weights(together[m]))


def test_same_seed_same_bits_other_seed_other_bits() -> None:
    one = pretrain(views(1), METHODS["vicreg-frozen"], LINEAR, [(1, 2)])[0]
    assert torch.equal(weights(one), weights(pretrain(views(1), METHODS["vicreg-frozen"], LINEAR, [(1, 2)])[0]))
    for other in ((9, 2), (1, 9)):  # initialisation and order each matter
        assert not torch.equal(weights(one), weights(pretrain(views(1), METHODS["vicreg-frozen"], LINEAR, [other])[0]))


def test_pretraining_starts_from_the_random_encoder_of_its_seed() -> None:
    floor = random_encoders({"image": 10, "clinical": 10}, LINEAR, [5])[0]
    still = pretrain(
        views(1), METHODS["vicreg-frozen"], Settings(width=4, steps=1, batch=32, learning_rate=1e-12), [(5, 0)]
    )
    torch.testing.assert_close(weights(floor), weights(still[0]), atol=1e-6, rtol=0)


def test_the_mlp_and_its_gradient_are_what_torch_modules_compute() -> None:
    """The same weights in an nn.Sequential under autograd give the same outputs and gradients, towards every parameter
    and the input: an implementation that is not ours. Double precision, so that what differs is a mistake."""
    g = torch.Generator().manual_seed(3)
    parameters = {k: (v + 0.1 * torch.randn(v.shape, generator=g)).double().requires_grad_()
                  for k, v in fleet.initialise("net", (5, 8, 8, 2), [g]).items()}
    layers: list[torch.nn.Module] = []
    for i, (a, b) in enumerate(((5, 8), (8, 8), (8, 2))):
        linear = torch.nn.Linear(a, b, dtype=torch.float64)
        linear.weight.data = parameters[f"net.{i}.weight"][0].detach().T
        linear.bias.data = parameters[f"net.{i}.bias"][0, 0].detach()
        layers += [linear] if i == 2 else [linear, torch.nn.LayerNorm(b, elementwise_affine=False), torch.nn.GELU()]
    theirs = torch.nn.Sequential(*layers)
    x = torch.randn(1, 6, 5, generator=g, dtype=torch.float64, requires_grad=True)
    out, expected = fleet.apply(parameters, "net", x)[0], theirs(x[0])
    torch.testing.assert_close(out, expected)
    with torch.no_grad():
        torch.testing.assert_close(fleet.apply(parameters, "net", x)[0], expected)
    weight = torch.randn(6, 2, generator=g, dtype=torch.float64)
    found = torch.autograd.grad((weight * out).sum(), [x, *parameters.values()])
    other = torch.autograd.grad((weight * expected).sum(), [x, *theirs.parameters()])
    torch.testing.assert_close(found[0], other[0])
    for mine, own in zip(found[1:], other[1:], strict=True):
        torch.testing.assert_close(mine[0] if own.ndim == 2 else mine[0, 0], own.T if own.ndim == 2 else own)


def test_ema_methods_hand_over_the_target_encoder() -> None:
    """After training, the target lags the online encoder; what is evaluated must be the average."""
    made = pretrain(views(1), METHODS["jepa-frozen"], LINEAR, [(1, 2)])[0]
    assert set(made.parameters) == {f"{r}.0.{k}" for r in ("image", "clinical") for k in ("weight", "bias")}
    vicreg = pretrain(views(1), METHODS["vicreg-frozen"], LINEAR, [(1, 2)])[0]
    assert not torch.equal(weights(made), weights(vicreg))


@pytest.mark.parametrize("name", ["jepa-frozen", "vicreg-frozen"])
def test_a_member_that_diverges_leaves_the_others_as_they_were(name: str) -> None:
    """One member's data hold a NaN: it alone becomes an error, and its neighbours keep their bits."""
    data, seeds = views(3), [(i, 10 + i) for i in range(3)]
    whole = pretrain(data, METHODS[name], LINEAR, seeds)
    data["image"][1] = np.nan
    found = pretrain(data, METHODS[name], LINEAR, seeds)
    assert isinstance(found[1], Diverged)
    for m in (0, 2):
        assert torch.equal(weights(found[m]), weights(whole[m]))
