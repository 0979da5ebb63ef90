"""Encoders of token sets: what is not kept does not matter, and the blocks are those of a library."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from simlab.models import transformer
from simlab.models.predictor import Predictor
from simlab.models.token_encoder import KINDS, TokenBatch, TokenEncoder, batch_of, last, pool, readout
from simlab.models.tokens import Layout, Source
from simlab.objectives import views

LAYOUT = Layout((Source("ct", "image", 4, 3, 2), Source("labs", "clinical", 3, 3, partial=True),
                 Source("history", "clinical", 2, 1, static=True)))  # fmt: skip


def generators(members: int = 1, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + m) for m in range(members)]


def arrays(members: int = 1, records: int = 6, layout: Layout = LAYOUT) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and times with a missing stream, missing features and records of one, two or three visits."""
    g = torch.Generator().manual_seed(5)
    tokens = torch.full((members, records, layout.tokens, layout.features), torch.nan)
    times = torch.full((members, records, layout.tokens), torch.nan)
    visit = layout.places().visit
    when = torch.rand(members, records, 3, generator=g).sort(dim=2).values
    for s, at in zip(layout.sources, layout.slices(), strict=True):
        tokens[..., at, : s.features] = torch.randn(members, records, s.tokens, s.features, generator=g)
        if not s.static:
            times[..., at] = when[..., visit[at]]
    length = torch.arange(records) % 3 + 1
    gone = visit >= length[:, None]
    tokens[gone.expand(members, -1, -1)], times[gone.expand(members, -1, -1)] = torch.nan, torch.nan
    tokens[:, 1, LAYOUT.slices()[1]] = torch.nan  # record 1 lacks its laboratory values
    tokens[:, 2, LAYOUT.slices()[1].start, 0] = torch.nan
    return tokens, times


def encoder(kind: str = "transformer", decay: str = "key") -> TokenEncoder:
    return TokenEncoder(LAYOUT, kind, width=5, hidden=16, depth=2, decay=decay)


def shown(missing: str = "masked") -> TokenBatch:
    return batch_of(*arrays(), LAYOUT, missing)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decay", transformer.DECAYS)
def test_what_is_not_kept_changes_nothing(kind: str, decay: str) -> None:
    """Values, observation and times of padding, absent streams and masked tokens are replaced: no kept one moves."""
    one = encoder(kind, decay)
    parameters = one.initialise(generators())
    batch = shown()
    kept = batch.seen & (torch.arange(LAYOUT.tokens) % 4 != 1)
    g = torch.Generator().manual_seed(9)
    noise = 100 * torch.randn(batch.values.shape, generator=g)
    other = TokenBatch(torch.where(kept[..., None], batch.values, noise),
                       batch.observed ^ ~kept[..., None], batch.seen,
                       torch.where(kept, batch.time, 50.0), batch.timed | ~kept)  # fmt: skip
    a, b = (one.encode(parameters, x, kept) for x in (batch, other))
    assert torch.equal(a, b) and not a[~kept].any()
    for how in ("last", "mean"):
        a, b = (readout(one.encode(parameters, x, x.seen), x, LAYOUT, how)["clinical"] for x in (batch, batch))
        assert torch.equal(a, b)


def test_padding_more_visits_changes_nothing() -> None:
    """The same records on a longer grid of visits have the same representation."""
    longer = replace(LAYOUT, sources=tuple(s if s.static else replace(s, visits=7) for s in LAYOUT.sources))
    tokens, times = arrays()
    wide = torch.full((1, 6, longer.tokens, longer.features), torch.nan)
    when = torch.full((1, 6, longer.tokens), torch.nan)
    for s, short, long in zip(LAYOUT.sources, LAYOUT.slices(), longer.slices(), strict=True):
        at = slice(long.start, long.start + s.tokens)
        wide[..., at, :], when[..., at] = tokens[..., short, :], times[..., short]
    one = encoder()
    parameters = one.initialise(generators())
    small, large = batch_of(tokens, times, LAYOUT, "masked"), batch_of(wide, when, longer, "masked")
    two = replace(one, layout=longer)
    for how in ("last", "mean"):
        a = readout(one.encode(parameters, small, small.seen), small, LAYOUT, how)
        b = readout(two.encode(parameters, large, large.seen), large, longer, how)
        for role in a:
            torch.testing.assert_close(a[role], b[role], atol=1e-5, rtol=1e-5)


def test_a_missing_stream_is_masked_or_filled_with_zeros() -> None:
    """Masked: not a token at all. Zero-filled: a token of zeros at every visit that exists, and it is attended to."""
    masked, filled = shown(), shown("zero-filled")
    labs = LAYOUT.slices()[1]
    assert not masked.seen[0, 1, labs].any()
    assert filled.seen[0, 1, labs].tolist() == [True, True, False]  # record 1 has two visits
    assert not filled.values[0, 1, labs].any()
    one = encoder()
    parameters = one.initialise(generators())
    a, b = (one.encode(parameters, x, x.seen)[0, 1, 0] for x in (masked, filled))
    assert not torch.allclose(a, b)


def test_a_record_moved_in_time_is_the_same_record() -> None:
    one = encoder()
    parameters = one.initialise(generators())
    batch = shown()
    moved = replace(batch, time=torch.where(batch.timed, batch.time + 3.0, batch.time))
    stretched = replace(batch, time=2 * batch.time)
    a, b, c = (one.encode(parameters, x, x.seen) for x in (batch, moved, stretched))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(a, c, atol=1e-3)  # but time does matter


def test_causal_attention_does_not_see_the_future() -> None:
    one = encoder()
    parameters = one.initialise(generators())
    batch = batch_of(*(x[:, 2::3] for x in arrays()), LAYOUT, "masked")  # records of three visits
    visit = LAYOUT.places().visit
    allowed = views.causal(visit)
    changed = replace(batch, values=torch.where((visit == 2)[:, None], -batch.values, batch.values))
    a, b = (one.encode(parameters, x, x.seen, allowed) for x in (batch, changed))
    assert torch.equal(a[:, :, visit < 2], b[:, :, visit < 2])
    assert not torch.allclose(a[:, :, visit == 2], b[:, :, visit == 2])


def test_a_block_is_that_of_torch() -> None:
    """With the same weights, nn.TransformerEncoderLayer (pre-norm, GELU) gives the same numbers: not our code."""
    width = 16
    parameters = transformer.initialise("block", width, 1, generators())
    layer = torch.nn.TransformerEncoderLayer(width, transformer.heads(width), 4 * width, 0.0, "gelu", norm_first=True,
                                             batch_first=True).eval()  # fmt: skip
    with torch.no_grad():
        layer.self_attn.in_proj_weight.copy_(parameters["block.0.qkv"][0].T)
        layer.self_attn.in_proj_bias.zero_()
        layer.self_attn.out_proj.weight.copy_(parameters["block.0.mix"][0].T)
        layer.self_attn.out_proj.bias.zero_()
        for i, linear in enumerate((layer.linear1, layer.linear2)):
            linear.weight.copy_(parameters[f"block.0.mlp.{i}.weight"][0].T)
            linear.bias.copy_(parameters[f"block.0.mlp.{i}.bias"][0, 0])
        x = torch.randn(1, 5, 7, width, generator=generators()[0])
        kept = torch.rand(1, 5, 7, generator=generators(seed=3)[0]) < 0.7
        kept[:, :, 0] = True
        found = transformer.apply(parameters, "block", x, kept)
        expected = layer(x[0], src_key_padding_mask=~kept[0])
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-5)


def test_old_keys_fade_and_the_released_form_is_a_temperature() -> None:
    """One key far in the past. By key it loses weight as it ages (its logit tends to 0); by query, what the released
    code does, the age of the attended token is nothing."""
    g = generators()
    parameters = transformer.initialise("b", 8, 1, g)
    parameters["b.0.fade"] = torch.ones(1, 2, transformer.heads(8))
    x, kept = torch.randn(1, 1, 4, 8, generator=g[0]), torch.ones(1, 1, 4, dtype=torch.bool)
    ages = [torch.tensor([[[a, 0.0, 0.0, 0.0]]]) for a in (0.0, 1.0, 9.0)]
    by_key, by_query = ([transformer.apply(parameters, "b", x, kept, a, how) for a in ages] for how in ("key", "query"))
    assert not torch.allclose(by_key[0][:, :, 1], by_key[2][:, :, 1])
    for later in by_query[1:]:
        torch.testing.assert_close(by_query[0][:, :, 1:], later[:, :, 1:])


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_does_not_depend_on_its_fleet(kind: str) -> None:
    one = encoder(kind)
    batch = batch_of(*arrays(members=3), LAYOUT, "masked")
    parameters = one.initialise(generators(3))
    together = one.encode(parameters, batch, batch.seen)
    alone = batch_of(*(x[1:2] for x in arrays(members=3)), LAYOUT, "masked")
    own = {k: v[1:2] for k, v in parameters.items()}
    assert torch.equal(one.encode(own, alone, alone.seen), together[1:2])


@pytest.mark.parametrize("kind", ["linear", "mlp", "transformer"])
def test_a_prediction_depends_on_its_context_and_place_alone(kind: str) -> None:
    """What a target holds, and which other tokens are predicted, do not matter; where and when it is does."""
    one, net = encoder(), Predictor(LAYOUT, kind, 5, 7, 16, 1)
    g = generators()
    parameters = {**one.initialise(g), **net.initialise(g)}
    batch = batch_of(*(x[:, 2::3] for x in arrays()), LAYOUT, "masked")
    context = batch.seen & (LAYOUT.places().visit == 0)
    hidden = replace(batch, values=torch.where(context[..., None], batch.values, 9.0))
    slots = torch.tensor([2, 4, 8]).expand(1, 2, 3)
    made = [net.predict(parameters, one.encode(parameters, b, context), context, b, slots) for b in (batch, hidden)]
    assert made[0].shape == (1, 2, 3, 7) and torch.equal(*made)
    z = one.encode(parameters, batch, context)
    alone = net.predict(parameters, z, context, batch, slots[:, :, 1:2])
    torch.testing.assert_close(alone, made[0][:, :, 1:2], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(made[0][:, :, 0], made[0][:, :, 1])  # the same source, another visit


def test_pooling_is_over_kept_tokens_alone() -> None:
    z, kept = torch.randn(1, 2, 3, 4, generator=generators()[0]), torch.tensor([[[True, False, True], [False] * 3]])
    torch.testing.assert_close(pool(z, kept)[0, 0], (z[0, 0, 0] + z[0, 0, 2]) / 2)
    assert not pool(z, kept)[0, 1].any()
    torch.testing.assert_close(last(z, kept, torch.tensor([0, 1, 2]))[0, 0], z[0, 0, 2])
    torch.testing.assert_close(last(z, kept, torch.tensor([0, 1, -1]))[0, 0], z[0, 0, 0])
