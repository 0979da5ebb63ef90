"""Views as data: what is context and what is target, for any records, streams, gaps and padding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simlab.objectives import views
from simlab.objectives.views import VIEWS, Places


def grid(visits: int, blocks: int = 1, static: bool = True) -> Places:
    """Image and clinical tokens at each visit (each of `blocks` blocks), and a clinical token for life."""
    role, visit, block = [], [], []
    for r in (0, 1):
        for b in range(blocks):
            role += [r] * visits
            visit += list(range(visits))
            block += [r * blocks + b] * visits
    if static:
        role, visit, block = [*role, 1], [*visit, views.FOR_LIFE], [*block, 2 * blocks]
    return Places(*(torch.tensor(x) for x in (role, visit, block)))


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[torch.Tensor, Places, torch.Generator, float]:
    places = grid(draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.booleans()))
    g = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    seen = torch.rand(40, len(places.role), generator=g) < draw(st.floats(0.05, 1.0))
    return seen, places, g, draw(st.floats(0.05, 0.95))


@pytest.mark.parametrize("name", VIEWS)
@given(cohort=cohorts())
@settings(max_examples=25, deadline=None)
def test_what_every_view_promises(name: str, cohort: tuple[torch.Tensor, Places, torch.Generator, float]) -> None:
    """Context and target are apart, both among what is seen; a record has both or neither; the draw does not decide
    which records can be split."""
    seen, places, g, share = cohort
    before = seen.clone()
    context, target = VIEWS[name](seen, places, g, share)
    assert torch.equal(seen, before)
    assert not (context & target).any()
    assert not ((context | target) & ~seen).any()
    has = target.any(dim=1)
    assert not (context.any(dim=1) & ~has).any()
    again = VIEWS[name](seen, places, torch.Generator().manual_seed(7), share)
    assert torch.equal(again[1].any(dim=1), has)
    possible = views.eligible(VIEWS[name], seen, places)
    assert torch.equal(possible, has & context.any(dim=1))


@given(cohort=cohorts())
@settings(max_examples=40, deadline=None)
def test_what_each_view_is(cohort: tuple[torch.Tensor, Places, torch.Generator, float]) -> None:
    seen, places, g, share = cohort
    context, target = views.cross_modal(seen, places, g)
    for c, t in zip(context, target, strict=True):
        assert not set(places.role[c].tolist()) & set(places.role[t].tolist())
        assert len(set(places.role[t].tolist())) <= 1
    for view, index in ((views.visit, places.visit), (views.coordinate, places.block)):
        context, target = view(seen, places, g, share)
        for c, t in zip(context, target, strict=True):
            assert not set(index[c].tolist()) & set(index[t].tolist())
    for view in (views.visit, views.next_step):
        assert not view(seen, places, g, share)[1][:, places.visit < 0].any()
    context, target = views.next_step(seen, places, g)
    for c, t in zip(context, target, strict=True):
        if t.any():
            assert len(set(places.visit[t].tolist())) == 1
            assert places.visit[c].max() < places.visit[t].min()


def test_next_step_does_not_feel_what_comes_later() -> None:
    """Given the target's visit, the context is the same whatever was seen from that visit on."""
    places, everything = grid(4), torch.ones(400, 9, dtype=torch.bool)
    context, target = views.next_step(everything, places, torch.Generator().manual_seed(0))
    for c, t in zip(context, target, strict=True):
        at = int(places.visit[t][0])
        assert torch.equal(c, places.visit < at)
    drawn = {int(places.visit[t][0]) for t in target}
    assert drawn == {1, 2, 3}


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.25, 1), (0.5, 2), (0.75, 3), (0.99, 3)])
def test_the_share_that_is_masked(share: float, expected: int) -> None:
    places, everything = grid(4, static=False), torch.ones(200, 8, dtype=torch.bool)
    _, target = views.visit(everything, places, torch.Generator().manual_seed(1), share)
    assert {len(set(places.visit[t].tolist())) for t in target} == {expected}
    _, target = views.token(everything, places, torch.Generator().manual_seed(1), share)
    assert set(target.sum(dim=1).tolist()) == {min(max(round(8 * share), 1), 7)}


def test_draws_are_uniform_and_the_coin_is_fair() -> None:
    """4,000 records: each visit is masked as often as another, and half the records get each mask (4 sd)."""
    places, everything = grid(4, static=False), torch.ones(4000, 8, dtype=torch.bool)
    _, target = views.visit(everything, places, torch.Generator().manual_seed(2), 0.25)
    assert (target.float().mean(dim=0) - 0.25).abs().max() < 4 * (0.25 * 0.75 / 4000) ** 0.5
    context, target = views.both(everything, places, torch.Generator().manual_seed(2), 0.25)
    modality = torch.tensor([len(set(places.role[c].tolist())) == 1 for c in context])
    assert abs(float(modality.float().mean()) - 0.5) < 4 * 0.5 / 4000**0.5


def test_both_falls_back_to_the_mask_that_is_possible() -> None:
    places = grid(3, static=False)
    one_role, one_visit = torch.zeros(50, 6, dtype=torch.bool), torch.zeros(50, 6, dtype=torch.bool)
    one_role[:, :3] = True
    one_visit[:, [0, 3]] = True
    for seen in (one_role, one_visit):
        assert views.eligible(views.both, seen, places).all()
    alone = torch.zeros(1, 6, dtype=torch.bool)
    alone[0, 2] = True
    assert not views.eligible(views.both, alone, places).any()


def test_both_masks_tokens_where_there_is_one_visit() -> None:
    """Two tokens a role at one visit: half the records lose a role (4 sd and the token masks that are one by chance: 2
    of the 6 pairs), the others tokens of both, so that what only one view shows can be predicted from itself."""
    role = torch.tensor([0, 0, 1, 1])
    places, seen = views.Places(role, torch.zeros(4, dtype=torch.long), torch.arange(4)), torch.ones(6000, 4).bool()
    context, target = views.both(seen, places, torch.Generator().manual_seed(5), 0.5)
    assert (context ^ target).all() and (target.sum(dim=1) == 2).all()
    whole = (target[:, :2].all(dim=1) | target[:, 2:].all(dim=1)).float().mean()
    assert abs(float(whole) - (0.5 + 0.5 / 3)) < 4 * (2 / 9 / 6000) ** 0.5


def test_slots_are_target_tokens() -> None:
    g = torch.Generator().manual_seed(3)
    target = torch.rand(100, 7, generator=g) < 0.4
    target[:, 0] |= ~target.any(dim=1)
    chosen = views.slots(target, 5, g)
    assert target.gather(1, chosen).all()


def test_centring_takes_the_mean_of_each_group() -> None:
    g = torch.Generator().manual_seed(4)
    z, group = torch.randn(2, 50, 3, generator=g), torch.randint(4, (2, 50), generator=g)
    made = views.centre(z, group, 5)
    for m in range(2):
        for k in range(4):
            rows = group[m] == k
            torch.testing.assert_close(made[m, rows], z[m, rows] - z[m, rows].mean(dim=0))


def test_causal_attention_is_blockwise() -> None:
    allowed = views.causal(torch.tensor([-1, 0, 0, 1]))
    expected = [[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert allowed.int().tolist() == expected
