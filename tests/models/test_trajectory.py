"""The trajectory predictor: torch's own transformer, the published count, causality by perturbation, kept keys."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from simlab.errors import OutOfDomain
from simlab.models.trajectory import Predictor

HOURS, N, D = 7, 3, 5
TINY = Predictor(D, inner=16, depth=2, heads=4, inside=24, max_hours=10)


def parameters(model: Predictor, seed: int = 0) -> dict[str, Tensor]:
    """Fresh ones in double precision, biases and norms moved off their beginnings."""
    g = torch.Generator().manual_seed(seed)
    made = {k: v.double() for k, v in model.initialise(g).items()}
    return {k: v + 0.1 * torch.randn(v.shape, generator=g, dtype=torch.double) for k, v in made.items()}


def latents(seed: int = 1, hours: int = HOURS) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = (N, hours, D), (N, hours, D), (N, D)
    return tuple(torch.randn(*shape, generator=g, dtype=torch.double) for shape in shapes)


def test_the_paper_s_sizes_have_the_published_count() -> None:
    paper = Predictor(4096, inner=1024, depth=6, heads=8, inside=4096, max_hours=72)
    assert sum(math.prod(shape) for shape in paper.shapes().values()) == 92_514_304
    made = TINY.initialise(torch.Generator().manual_seed(0))
    assert {k: tuple(v.shape) for k, v in made.items()} == TINY.shapes()


def test_it_is_torch_s_transformer_under_the_block_causal_mask() -> None:
    p = parameters(TINY)
    layer = torch.nn.TransformerEncoderLayer(16, 4, 24, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).double().eval()
    names = {"self_attn.in_proj_": "qkv.", "self_attn.out_proj.": "mix.", "linear1.": "up.", "linear2.": "down.",
             "norm1.": "before.", "norm2.": "between."}
    own = {f"layers.{i}.{a}{part}": p[f"predictor.{i}.{b}{part}"]
           for i in range(2) for a, b in names.items() for part in ("weight", "bias")}
    theirs.load_state_dict(own)
    state, action, static = latents()
    rows = []  # the mask, written out: hour by hour, what each token may see
    for hour in range(HOURS + 1):
        for _ in range(1 if hour == 0 else 2):
            rows.append([k > 2 * hour for k in range(2 * HOURS + 1)])
    out = theirs(TINY.tokens(p, state, action, static), mask=torch.tensor(rows))
    expected = out[:, 1::2] @ p["predictor.read.weight"].T + p["predictor.read.bias"]
    torch.testing.assert_close(TINY.predict(p, state, action, static)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stream", [0, 1], ids=["state", "action"])
def test_no_later_hour_reaches_a_prediction_and_the_same_hour_does(stream: int) -> None:
    """Bit for bit: perturbing hour j moves no prediction after hours before j, and the one after hour j."""
    p, z = parameters(TINY), latents()
    before = TINY.predict(p, *z)[0]
    for j in range(HOURS):
        moved = [x.clone() for x in z]
        moved[stream][:, j] += 1.0
        after = TINY.predict(p, *moved)[0]
        assert torch.equal(before[:, :j], after[:, :j])
        assert ((before[:, j:] - after[:, j:]).abs().amax(dim=2) > 1e-6).all()


def test_statics_see_statics_alone() -> None:
    """The first token comes out of every block the same, whatever the hours hold."""
    p, z = parameters(TINY), latents()
    other = latents(seed=5)
    keys = TINY.predict(p, *z)[1].keys
    moved = TINY.predict(p, other[0], other[1], z[2])[1].keys
    for a, b in zip(keys, moved, strict=True):
        assert torch.equal(a[:, :, 0], b[:, :, 0])
        assert not torch.equal(a[:, :, 1], b[:, :, 1])


@pytest.mark.parametrize("mode", ["absolute", "residual"])
def test_an_hour_more_from_what_was_kept_is_the_whole_sequence_anew(mode: str) -> None:
    model = Predictor(D, 16, 2, 4, 24, 10, mode)
    p, (state, action, static) = parameters(model), latents()
    whole, past = model.predict(p, state, action, static)
    for hour in range(1, HOURS):
        at = torch.full((N,), hour)
        for kept in (past.until(at), model.predict(p, state[:, :hour], action[:, :hour], static)[1]):
            one, _ = model.extend(p, state[:, hour], action[:, hour], at, kept)
            torch.testing.assert_close(one, whole[:, hour], rtol=0, atol=1e-12)


def test_each_window_may_go_on_from_an_hour_of_its_own() -> None:
    p, (state, action, static) = parameters(TINY), latents()
    whole, past = TINY.predict(p, state, action, static)
    hour, rows = torch.tensor([1, 4, 6]), torch.arange(N)
    one, _ = TINY.extend(p, state[rows, hour], action[rows, hour], hour, past.until(hour))
    torch.testing.assert_close(one, whole[rows, hour], rtol=0, atol=1e-12)


def test_a_trajectory_beyond_the_positions_is_refused() -> None:
    p = parameters(TINY)
    TINY.predict(p, *latents(hours=12))
    with pytest.raises(OutOfDomain, match="13 hours: this predictor has positions for 12"):
        TINY.predict(p, *latents(hours=13))
    state, action, static = latents(hours=12)
    past = TINY.predict(p, state, action, static)[1]
    with pytest.raises(OutOfDomain, match="13 hours"):
        TINY.extend(p, state[:, 0], action[:, 0], torch.full((N,), 12), past)


def test_dropout_is_drawn_from_its_own_generator_and_off_without_one() -> None:
    model = Predictor(D, 16, 2, 4, 24, 10, dropout=0.15, attention_dropout=0.1)
    p, z = parameters(model), latents()
    plain = model.predict(p, *z)[0]
    torch.testing.assert_close(plain, TINY.predict(p, *z)[0], rtol=0, atol=0)
    drawn = [model.predict(p, *z, torch.Generator().manual_seed(s))[0] for s in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_attention_dropout_of_nothing_is_the_fused_attention() -> None:
    model = Predictor(D, 16, 2, 4, 24, 10, attention_dropout=1e-12)
    p, z = parameters(model), latents()
    with_ = model.predict(p, *z, torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(with_, TINY.predict(p, *z)[0], rtol=0, atol=1e-9)
