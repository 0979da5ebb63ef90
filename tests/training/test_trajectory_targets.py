"""What joint refinement learns from: the lagging encoder's latents as constants, every stream's own gradient, one
schedule over the stages.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from stays import stays
from torch import Tensor

from simlab.models.hour_encoder import Latents, take
from simlab.models.windows import windows
from simlab.training import trajectory_loss
from simlab.training.curricula import CURRICULA
from simlab.training.trajectory import Settings, build
from simlab.training.trajectory_run import Draw, Run, own, predictor

SETTINGS = Settings(width=6, hidden=8, inner=8, inside=16, depth=1, steps=20, batch=8, max_hours=20, tau=0.9)
CLIN = CURRICULA["clin-jepa"]
JOINT = next(place for place, stage in enumerate(CLIN.stages) if stage.name == "joint")


def made(settings: Settings = SETTINGS) -> Run:
    training = windows(stays())
    encoder = build(training, settings)
    return Run(encoder, predictor(settings, 6), CLIN, settings, 0, training,
               windows(stays(n=12, seed=1), training.presentation))


@pytest.fixture
def joint() -> tuple[Run, Draw]:
    """A training whose target has been left behind, and the first batch of the joint stage."""
    run, generator = made(), torch.Generator().manual_seed(1)
    for x in run.target.values():
        x += 0.2 * torch.randn(x.shape, generator=generator)
    for x in run.parameters.values():
        x.requires_grad_()
    return run, run.draw(run.spans[JOINT][0])


def latents(run: Run, parameters: dict[str, Tensor], batch: Draw) -> Latents:
    """The batch's latents, zero beyond each window's length."""
    z = run.encoder.encode(own(parameters), take(run.data, batch.rows, batch.hours))
    there = (torch.arange(batch.hours) < batch.length[:, None])[..., None]
    return Latents(z.state * there, z.action * there, z.static)


def test_joint_refinement_predicts_the_target_s_latents_as_constants(joint: tuple[Run, Draw]) -> None:
    run, batch = joint
    z, goal = run._read(own(run.parameters), CLIN.stages[JOINT], JOINT, batch)
    assert torch.equal(goal.state, latents(run, run.target, batch).state)
    assert torch.equal(z.state, latents(run, run.parameters, batch).state)
    assert (goal.state - z.state).abs().mean() > 0.1 * z.state.detach().abs().mean()
    assert not goal.state.requires_grad and z.state.requires_grad


def test_the_gradient_of_joint_refinement_is_that_of_a_loss_with_a_constant_goal(joint: tuple[Run, Draw]) -> None:
    """Every network's, and none of any stream's is zero: actions and statics learn through the predictor alone, for
    nothing predicts them (the released code's losses)."""
    run, batch = joint
    step = run.spans[JOINT][0]
    goal = latents(run, run.target, batch).state.detach().clone()
    stage = CLIN.stages[JOINT]
    value, _ = trajectory_loss.predict(run.model, own(run.parameters), latents(run, run.parameters, batch), goal,
                                       batch.length, stage.rollout, batch.at)
    names = [name for name in run.parameters if not name.startswith("warm.")]
    expected = torch.autograd.grad(value, [run.parameters[name] for name in names])
    found, _ = run.loss(run.parameters, batch, step)
    assert found.item() == pytest.approx(value.item(), rel=1e-6)
    for name, one, other in zip(names, torch.autograd.grad(found.sum(), [run.parameters[n] for n in names]), expected,
                                strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7, msg=name)
        if name.startswith("encoder."):
            assert one.abs().max() > 1e-5, name


def test_one_cosine_runs_through_all_stages_but_phase_0_or_each_has_its_own() -> None:
    """20 steps: phase 0 has 6, then 3, 9, 3 and 5, of which a tenth (2 of 20; 1 in short ones) warms up."""
    run, full = made(), SETTINGS.rate_predictor
    assert run.spans == ((0, 6), (6, 9), (9, 18), (18, 21), (21, 26))

    def rates(run: Run) -> list[float]:
        return [run.job.optimiser.rate(step, run.job.steps) for step in range(26)]

    def cosine(done: int, of: int) -> float:
        return full * (1 + math.cos(math.pi * done / of)) / 2

    phase0 = [full, *(cosine(i, 5) for i in range(5))]
    whole = [full / 2, full, *(cosine(i, 18) for i in range(18))]
    assert rates(run) == pytest.approx([*phase0, *whole])
    each = [rate for n in (3, 9, 3, 5) for rate in (full, *(cosine(i, n - 1) for i in range(n - 1)))]
    assert rates(made(replace(SETTINGS, schedule="stage"))) == pytest.approx([*phase0, *each])
