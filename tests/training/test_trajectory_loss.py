"""The losses by hand: teacher-forced, rolled out, masked; padding; copy and oracle; groups in the loop; roll-outs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from stays import stays
from torch import Tensor

from simlab.errors import OutOfDomain
from simlab.models.hour_encoder import Latents
from simlab.models.trajectory import Predictor
from simlab.models.windows import windows
from simlab.objectives import vicreg
from simlab.training import loop
from simlab.training.trajectory import Backbone, Settings, train
from simlab.training.trajectory_loss import Reach, hidden, masked, predict, reach, spread, teacher_forced

N, T, D = 4, 9, 3
MODEL = Predictor(D, inner=8, depth=2, heads=2, inside=12, max_hours=12)
LENGTH = torch.tensor([9, 7, 6, 9])


def drawn(seed: int = 0, model: Predictor = MODEL) -> tuple[dict[str, Tensor], Latents, Tensor]:
    g = torch.Generator().manual_seed(seed)
    p = {k: v.double() for k, v in (model.initialise(g) | model.initialise(g, "masked")).items()}
    p["masked.mask"] = torch.randn(8, generator=g, dtype=torch.double)
    z = [torch.randn(*shape, generator=g, dtype=torch.double) for shape in ((N, T, D), (N, T, D), (N, D), (N, T, D))]
    return p, Latents(*z[:3]), z[3]


def by_hand(p: dict[str, Tensor], z: Latents, goal: Tensor, k: list[int], horizon: int, native: bool) -> float:
    """L_roll by running the whole predictor anew at each step, window by window."""
    total = 0.0
    for i, start in enumerate(k):
        state = z.state[i : i + 1].clone()
        for j in range(horizon):
            hours = start + j + 1
            made = MODEL.predict(p, state[:, :hours], z.action[i : i + 1, :hours], z.static[i : i + 1])[0][:, -1]
            total += float((made[0] - goal[i, hours]).abs().mean())
            if native and hours < T:
                state[:, hours] = made
    return total / len(k)


@pytest.mark.parametrize("kind", ["native", "teacher_forced"])
@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_a_roll_out_is_the_predictor_run_anew_at_every_step(kind: str, horizon: int) -> None:
    p, z, goal = drawn()
    k = [1, 2, 1, 4]
    at = Reach(torch.tensor(k), torch.ones(N, dtype=torch.bool), horizon)
    _, parts = predict(MODEL, p, z, goal, LENGTH, kind, at)
    assert float(parts["rollout"]) == pytest.approx(by_hand(p, z, goal, k, horizon, kind == "native"), abs=1e-12)


def test_at_horizon_one_self_fed_is_teacher_forced_and_beyond_it_is_not() -> None:
    p, z, goal = drawn()
    at = {h: Reach(torch.tensor([1, 2, 1, 4]), torch.ones(N, dtype=torch.bool), h) for h in (1, 2)}
    value = {(h, kind): float(predict(MODEL, p, z, goal, LENGTH, kind, at[h])[0])
             for h in (1, 2) for kind in ("native", "teacher_forced")}
    assert value[1, "native"] == value[1, "teacher_forced"]
    assert abs(value[2, "native"] - value[2, "teacher_forced"]) > 1e-4


def test_the_published_teacher_forced_roll_out_is_two_terms_of_the_teacher_forced_loss_again() -> None:
    """What the fact sheet computes (3.4): it weighs hours k and k + 1 more, and rolls nothing out."""
    p, z, goal = drawn()
    k = torch.tensor([2, 2, 2, 2])
    _, parts = predict(MODEL, p, z, goal, LENGTH, "teacher_forced", Reach(k, torch.ones(N, dtype=torch.bool), 2))
    made = MODEL.predict(p, z.state[:, :-1], z.action[:, :-1], z.static)[0]
    each = (made - goal[:, 1:]).abs().mean(dim=2)
    assert float(parts["rollout"]) == pytest.approx(float((each[:, 2] + each[:, 3]).mean()), abs=1e-12)


def test_teacher_forced_is_a_mean_over_hours_that_exist_and_a_sum_over_features_where_asked() -> None:
    _, z, goal = drawn()
    there = [(i, t) for i in range(N) for t in range(int(LENGTH[i]) - 1)]
    expected = [float((z.state[i, t] - goal[i, t + 1]).abs().mean()) for i, t in there]
    made = z.state[:, :-1]
    assert float(teacher_forced(made, goal, LENGTH)) == pytest.approx(np.mean(expected), abs=1e-12)
    assert float(teacher_forced(made, goal, LENGTH, "sum")) == pytest.approx(D * np.mean(expected), abs=1e-12)


def test_an_oracle_costs_nothing_and_a_residual_predictor_that_adds_nothing_copies() -> None:
    p, z, _ = drawn()
    assert float(teacher_forced(z.state[:, 1:], z.state, LENGTH)) == 0
    copy = replace(MODEL, mode="residual")
    still = p | {"predictor.read.weight": torch.zeros(D, 8, dtype=torch.double)}
    at = Reach(torch.tensor([1, 2, 1, 4]), torch.ones(N, dtype=torch.bool), 2)
    _, parts = predict(copy, still, z, z.state, LENGTH, "native", at)
    assert float(parts["teacher-forced"]) == float(teacher_forced(z.state[:, :-1], z.state, LENGTH))
    far = np.mean([float((z.state[i, k] - z.state[i, k + 2]).abs().mean()) for i, k in enumerate([1, 2, 1, 4])])
    near = np.mean([float((z.state[i, k] - z.state[i, k + 1]).abs().mean()) for i, k in enumerate([1, 2, 1, 4])])
    assert float(parts["rollout"]) == pytest.approx(near + far, abs=1e-12)  # MASE 1 at each step


def test_what_lies_in_the_padding_changes_no_loss_and_no_gradient() -> None:
    p, z, goal = drawn()
    beyond = (torch.arange(T) >= LENGTH[:, None])[..., None]
    wild = Latents(*(torch.where(beyond, 1e3, x) for x in (z.state, z.action)), z.static)
    k = Reach(torch.tensor([1, 2, 1, 4]), torch.ones(N, dtype=torch.bool), 2)
    mask = hidden(LENGTH, T, 0.4, torch.Generator().manual_seed(0))
    found = []
    for inputs, target in ((z, goal), (wild, torch.where(beyond, -1e3, goal))):
        own = {name: x.clone().requires_grad_(True) for name, x in p.items()}
        goals = Latents(target, target, z.static)
        loss = predict(MODEL, own, inputs, target, LENGTH, "native", k)[0]
        loss = loss + masked(MODEL, own, inputs, goals, LENGTH, mask) + spread(inputs.state, LENGTH, "vicreg")
        loss.backward()
        found.append((loss.detach(), [x.grad for x in own.values()]))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-12, atol=0)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_starts_of_roll_outs_stay_inside_their_windows_and_reach_every_hour() -> None:
    g = torch.Generator().manual_seed(0)
    length = torch.tensor([4, 6, 20, 3])
    seen = [reach(length, 2, True, g) for _ in range(400)]
    starts = torch.stack([x.start for x in seen])
    assert [sorted(set(starts[:, i].tolist())) for i in range(3)] == [[1], [1, 2, 3], list(range(1, 18))]
    assert seen[0].there.tolist() == [True, True, True, False]
    one = reach(length[:3], 2, False, g)
    assert one.start.tolist() == [1, 1, 1] and one.there.all()
    assert not reach(length, 2, False, g).there.any()  # as released: the shortest window allows none


def test_a_masked_hour_is_hidden_whole_and_seen_by_nobody() -> None:
    p, z, goal = drawn()
    g = torch.Generator().manual_seed(1)
    mask = hidden(LENGTH, T, 0.4, g)
    assert mask.sum(dim=1).tolist() == [4, 3, 2, 4] and not mask[LENGTH[:, None] <= torch.arange(T)].any()
    assert hidden(torch.tensor([3, 2]), 3, 0.9, g).sum(dim=1).tolist() == [1, 0]
    goals = Latents(goal, goal, z.static)
    loss = masked(MODEL, p, z, goals, LENGTH, mask)
    hide = Latents(*(torch.where(mask[..., None], 1e3, x) for x in (z.state, z.action)), z.static)
    torch.testing.assert_close(masked(MODEL, p, hide, goals, LENGTH, mask), loss, rtol=0, atol=0)
    moved = replace_hour(z, int((~mask[0]).nonzero()[0]))
    assert float(masked(MODEL, p, moved, goals, LENGTH, mask)) != float(loss)


def replace_hour(z: Latents, hour: int) -> Latents:
    state = z.state.clone()
    state[0, hour] += 1
    return z._replace(state=state)


def test_the_spread_is_that_of_all_hours_that_exist() -> None:
    _, z, _ = drawn()
    rows = torch.cat([z.state[i, : int(n)] for i, n in enumerate(LENGTH)])[None]
    assert float(spread(z.state, LENGTH, "vicreg")) == pytest.approx(float(vicreg.spread(rows)[0] / 25), abs=1e-12)


def test_the_loop_s_groups_are_torch_s_parameter_groups() -> None:
    """Two rates in one AdamW, gradients clipped apart; a group that is held whole is passed over, moments and all."""
    g = torch.Generator().manual_seed(0)
    start = {"encoder.w": torch.randn(1, 3, generator=g), "predictor.w": torch.randn(1, 2, generator=g)}
    goal = {k: torch.randn(v.shape, generator=g) * 30 for k, v in start.items()}
    ours = {k: v.clone() for k, v in start.items()}

    def loss(p: dict[str, Tensor], batch: object, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return sum((p[k] - goal[k]).square().sum(dim=1) for k in p), {}

    optimiser = loop.Optimiser(0.1, 0.01, clip=1.0)
    job = loop.Job(ours, loss, lambda s: None, 12, optimiser, rates={"encoder.": 0.3},
                   held=lambda s: ("encoder.w",) if 4 <= s < 8 else ())
    loop.train(job)
    theirs = {k: torch.nn.Parameter(v.clone()) for k, v in start.items()}
    adam = torch.optim.AdamW([{"params": [x]} for x in theirs.values()], weight_decay=0.01)
    for step in range(12):
        for group, share in zip(adam.param_groups, (0.3, 1.0), strict=True):
            group["lr"] = optimiser.rate(step, 12) * share
        adam.zero_grad()
        loss(theirs, None, step)[0].sum().backward()
        for p in theirs.values():
            torch.nn.utils.clip_grad_norm_([p], 1.0)
        if 4 <= step < 8:
            theirs["encoder.w"].grad = None
        adam.step()
    for k, v in ours.items():
        torch.testing.assert_close(v, theirs[k].detach(), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def trained() -> tuple[Backbone, Latents]:
    data = windows(stays(least=14))
    settings = Settings(width=4, hidden=8, inner=8, inside=16, depth=2, steps=10, batch=8)
    backbone = train(data, data, "clin-jepa", settings)
    return backbone, backbone.encode(data)


def test_a_roll_out_feeds_its_own_predictions_back(trained: tuple[Backbone, Latents]) -> None:
    backbone, z = trained
    context, horizons = 5, 6
    state = torch.as_tensor(z.state).clone()
    for hour in range(context, context + horizons):
        made = backbone.predictor.predict(backbone.parameters, state[:, :hour], torch.as_tensor(z.action)[:, :hour],
                                          torch.as_tensor(z.static))[0]
        state[:, hour] = made[:, -1]
    found = backbone.rollout(z, context, horizons)
    np.testing.assert_allclose(found, state[:, context : context + horizons].numpy(), atol=1e-5)
    later = z._replace(state=np.concatenate([z.state[:, :context], z.state[:, context:] + 9], axis=1))
    np.testing.assert_array_equal(backbone.rollout(later, context, horizons), found)


def test_told_actions_are_those_of_the_hours_from_the_context_on(trained: tuple[Backbone, Latents]) -> None:
    backbone, z = trained
    rng = np.random.default_rng(0)
    kinds = {kind: backbone.rollout(z, 5, 6, kind, rng) for kind in ("true", "zero", "shuffled", "held")}
    for kind, found in kinds.items():
        np.testing.assert_array_equal(found[:, 0], kinds["true"][:, 0])
        assert kind == "true" or np.abs(found[:, 1:] - kinds["true"][:, 1:]).max() > 1e-6
    told = z.action.copy()
    told[:, 5:] = told[:, 4:5]
    np.testing.assert_array_equal(backbone.rollout(z._replace(action=told), 5, 6), kinds["held"])
    for words, call in (("needs actions of 15 h", (10, 6)), ("known: true, zero", (5, 6, "none")),
                        ("needs rng", (5, 6, "shuffled"))):
        with pytest.raises(OutOfDomain, match=words):
            backbone.rollout(z, *call)
