"""Pretraining over tokens: every point trains in the one loop, resumes exactly, looks at nothing that it may not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from token_records import LAYOUT, SETTINGS, run, same, shown

from simlab.errors import OutOfDomain
from simlab.methods import METHODS, Method
from simlab.training import token_encoders, token_pretrain
from simlab.training.loop import Diverged
from simlab.training.pretrain import Encoders, Settings

POINTS = {m.recipe: m for m in METHODS.values() if m.pretrained and m.name.endswith("-frozen") and m.reads == "tokens"}
NAMED = [
    *POINTS.values(),
    replace(METHODS["ijepa-frozen"], name="barlow-mlp-stopgrad", view="coordinate", target="stop-gradient",
            against_collapse="barlow", predictor="mlp"),
    replace(METHODS["ijepa-frozen"], name="vicreg-ema-linear-next", view="next-step", against_collapse="vicreg",
            predictor="linear"),
    replace(METHODS["ijepa-frozen"], name="alone-ema", view="both", against_collapse="contrastive", predictor="none"),
    replace(METHODS["ijepa-frozen"], name="sigreg-input", target="input", against_collapse="sigreg", predictor="mlp"),
]  # fmt: skip


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", NAMED, ids=lambda m: m.name)
def test_every_point_trains_alone_or_in_a_fleet_and_goes_on_where_it_stopped(method: Method, tmp_path: Path) -> None:
    """Bits: of a member in any fleet, and of a run killed after two steps and resumed. Finite losses, no dead end."""
    data = shown()
    together = run(method, data)
    assert all(isinstance(made, Encoders) and math.isfinite(made.curve[-1]["loss"]) for made in together)
    alone = run(method, {k: v[1:] for k, v in data.items()}, first=1)
    assert same(alone[0], together[1])

    def kill(step: int, parts: dict[str, float]) -> None:
        if step > 2:
            raise Killed

    file = tmp_path / "c.pt"
    with pytest.raises(Killed):
        run(method, data, report=kill, checkpoint=file, every=2)
    assert all(same(a, b) for a, b in zip(run(method, data, checkpoint=file, every=2), together, strict=True))
    start = token_encoders.random_encoders(LAYOUT, method, SETTINGS, [0])[0]
    assert start.parameters.keys() == together[0].parameters.keys()
    view = {k: v[0] for k, v in data.items()}
    for made in (start, together[0]):
        z = made.represent(view)
        assert {k: x.shape for k, x in z.items()} == {"image": (40, 4), "clinical": (40, 4)}
        assert all(np.isfinite(x).all() for x in z.values())
    again = run(method, data, replace(SETTINGS, steps=1))
    assert not same(again[0], together[0])


def test_a_width_of_one_has_the_same_bits_in_a_fleet_too() -> None:
    one = replace(SETTINGS, width=1)
    together = run(METHODS["multimodal-jepa-frozen"], shown(), one)
    alone = run(METHODS["multimodal-jepa-frozen"], {k: v[1:] for k, v in shown().items()}, one, first=1)
    assert same(alone[0], together[1])


def test_a_neighbour_with_fewer_records_to_split_does_not_shrink_a_members_batch() -> None:
    """Its second and later visits taken away from most of the neighbour's records: 6 are left, the batch is 12."""
    data = shown()
    later = LAYOUT.places().visit.numpy() > 0
    for x in data.values():
        x[0, 9:, later] = np.nan
    together = run(METHODS["visit-jepa-frozen"], data)
    alone = run(METHODS["visit-jepa-frozen"], {k: v[1:] for k, v in data.items()}, first=1)
    assert same(alone[0], together[1])


def test_records_without_a_role_are_told_from_those_that_have_it() -> None:
    """Where no token of a role was seen its representation is 0, and `exists` says that it is nobody's."""
    view = {k: v[0].copy() for k, v in shown().items()}
    ct = LAYOUT.slices()[0]
    view["tokens"][::5, ct] = np.nan
    made = token_encoders.random_encoders(LAYOUT, METHODS["ijepa-frozen"], SETTINGS, [0])[0]
    exists, z = made.exists(view), made.represent(view)
    assert (exists["image"] == (np.arange(40) % 5 > 0)).all() and exists["clinical"].all()
    assert not z["image"][~exists["image"]].any() and z["image"][exists["image"]].any(axis=1).all()


def test_records_that_a_view_cannot_split_are_no_part_of_it() -> None:
    """Other values in the records of one visit: not one bit of a pretraining between visits moves."""
    data = shown(1)
    one = run(METHODS["visit-vicreg-frozen"], data)[0]
    alone = np.arange(40) % 3 == 0
    data["tokens"][0, alone] *= 99.0
    assert same(one, run(METHODS["visit-vicreg-frozen"], data)[0])


def task_of(method: Method, settings: Settings = SETTINGS, records: int = 40):
    """A task, its parameters with gradient, and one batch."""
    encoder, blocks = token_encoders.shape(LAYOUT, method, settings)
    task = token_pretrain.Task(method, encoder, settings)
    g = [torch.Generator().manual_seed(0)]
    parameters = encoder.initialise(g) | task.predictor.initialise(g)
    task.state = {k: v.clone() for k, v in parameters.items() if k.startswith("encoder.")}
    for p in parameters.values():
        p.requires_grad_(True)
    data = shown(1, records)
    values, times = LAYOUT.cut(data["tokens"], data["times"], blocks)
    draws = token_pretrain.Draws(task, torch.as_tensor(values), torch.as_tensor(times), g, torch.device("cpu"))
    return task, parameters, draws.batch(0)


@pytest.mark.parametrize("predictor", ["linear", "mlp", "transformer"])
def test_a_next_step_prediction_does_not_feel_that_step_or_what_follows(predictor: str) -> None:
    """Everything from the target's visit on is replaced, values and gaps alike: no prediction moves, goals do."""
    method = replace(METHODS["next-jepa-frozen"], predictor=predictor)
    task, parameters, draw = task_of(method)
    visit = task.places.visit
    at = torch.where(draw.target, visit, 99).amin(dim=2, keepdim=True)
    later = visit >= at
    tokens_ = replace(draw.tokens, values=torch.where(later[..., None], -3.0, draw.tokens.values),
                      observed=draw.tokens.observed ^ later[..., None])
    first, second = (task.pair(parameters, d)[:2] for d in (draw, replace(draw, tokens=tokens_)))
    assert torch.equal(first[0], second[0]) and not torch.allclose(first[1], second[1])


@pytest.mark.parametrize("target", ["ema", "stop-gradient", "online", "input"])
def test_a_target_has_a_gradient_only_when_it_is_online(target: str) -> None:
    method = replace(METHODS["multimodal-jepa-frozen"], target=target)
    task, parameters, draw = task_of(method)
    prediction, goal, _ = task.pair(parameters, draw)
    assert goal.requires_grad == (target == "online")
    task.loss(parameters, draw, 0)[0].sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for k, p in parameters.items() if "fade" not in k)
    assert all(v.grad is None for v in task.state.values())
    assert prediction.shape == goal.shape


def test_watching_touches_no_gradient_and_no_generator() -> None:
    task, parameters, draw = task_of(METHODS["multimodal-jepa-frozen"])
    found = task.observe(parameters, draw)
    assert all(p.grad is None for p in parameters.values())
    assert {"skill", "skill-image", "skill-clinical", "rankme-image", "sd-min-clinical", "lag"} <= set(found)


def test_a_constant_encoder_has_no_skill_whatever_its_places_are_called() -> None:
    """An encoder that answers with the name of a token's source alone: centred goals leave nothing to predict."""
    task, parameters, draw = task_of(METHODS["multimodal-jepa-frozen"], replace(SETTINGS, token_encoder="mlp"))
    g = torch.Generator().manual_seed(1)
    for k, v in task.state.items():
        task.state[k] = torch.zeros_like(v) if k.endswith("0.weight") else torch.randn(v.shape, generator=g)
    whole = task.encoder.encode(task.state, draw.tokens, draw.tokens.seen)
    _, goal, _ = task.pair(parameters, draw)
    assert float(whole.std()) > 0.5 and float(goal.abs().max()) < 1e-5
    assert float(task.observe(parameters, draw)["skill"]) <= 0


def test_a_contrast_costs_log_n_at_collapse() -> None:
    """One row a record: of 12 constant embeddings every partner is as good as another."""
    task, parameters, draw = task_of(METHODS["cpc-frozen"])
    dead = {k: torch.zeros_like(v) for k, v in parameters.items()}
    loss, _ = task.loss(dead, draw, 0)
    assert float(loss) == pytest.approx(math.log(12), abs=1e-5)


def test_reconstruction_asks_for_observed_values_alone() -> None:
    task, parameters, draw = task_of(METHODS["token-mae-frozen"])
    prediction, goal, _ = task.pair(parameters, draw)
    known = task._rows(draw.tokens.observed.float(), draw.slots)
    assert not prediction[known == 0].any() and not goal[known == 0].any()
    assert prediction[known == 1].abs().min() > 0


def test_naming_the_sources_mean_is_no_skill_at_reconstruction(monkeypatch: pytest.MonkeyPatch) -> None:
    """One source lies at 5, of the other a third was never observed: the means of what was observed have skill 0, what
    the tokens hold has 1, in all and by role."""
    task, parameters, draw = task_of(METHODS["token-mae-frozen"], records=200)
    ct = LAYOUT.slices()[0]
    draw.tokens.values[:, :, ct] += 5.0 * draw.tokens.observed[:, :, ct]
    _, goal, _ = task.pair(parameters, draw)
    for prediction, skill in ((task.constant(draw, goal), 0.0), (goal, 1.0)):
        monkeypatch.setattr(task, "pair", lambda *_, p=prediction: (p, goal, {}))
        found = task.observe(parameters, draw)
        said = [float(found[k]) for k in ("skill", "skill-image", "skill-clinical")]
        assert said == pytest.approx([skill] * 3, abs=0.02)


def test_records_without_a_stream_do_not_count_in_the_curve() -> None:
    """A fifth of the records have no scan, and the representation 0 there: their rows move no number of that role."""
    task, parameters, draw = task_of(METHODS["visit-vicreg-frozen"], records=100)
    keep = torch.arange(draw.tokens.seen.shape[1]) % 5 > 0
    draw.tokens.seen[:, ~keep, LAYOUT.slices()[0]] = False
    everything = task.observe(parameters, draw)
    part = replace(draw, tokens=type(draw.tokens)(*(x[:, keep] for x in vars(draw.tokens).values())),
                   context=draw.context[:, keep], target=draw.target[:, keep], slots=draw.slots[:, keep])
    for name, value in task.observe(parameters, part).items():
        if name.endswith("-image"):
            torch.testing.assert_close(value, everything[name])


def test_a_view_that_can_split_nothing_says_what_it_needs() -> None:
    one = {k: v[:, ::3] for k, v in shown(1, 60).items()}  # records of one visit
    with pytest.raises(OutOfDomain, match=r"'visit' .* two visits"):
        run(METHODS["visit-jepa-frozen"], one)
    assert isinstance(run(METHODS["multimodal-jepa-frozen"], one)[0], Encoders)  # a modality can still be masked


def test_a_member_that_diverges_leaves_the_others_as_they_were() -> None:
    data = shown(2)
    whole = run(METHODS["visit-vicreg-frozen"], data)
    data["tokens"][0] *= 1e30
    found = run(METHODS["visit-vicreg-frozen"], data)
    assert isinstance(found[0], Diverged) and isinstance(found[1], Encoders)
    assert all(torch.equal(v, whole[1].parameters[k]) for k, v in found[1].parameters.items())
