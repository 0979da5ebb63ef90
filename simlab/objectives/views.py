"""Views: which tokens of a record are shown (context) and which are predicted (target). Pure functions, drawn anew.

A token is what one source says at one visit (or one patch or block of it). Each function draws, for every record:

    cross-modal   one role's tokens are the target, those of the other role the context
    visit         all tokens of some visits
    token         some tokens
    coordinate    some blocks of coordinates, at every visit
    both          cross-modal or visit, by a coin a record (the other one where a record cannot be split so); tokens in
                  the place of visits where there is one visit
    next-step     one visit, from what came before it alone

Tokens that are not seen (padding, absent visits, missing streams) are neither. What holds for life (visit -1) is never
a target of visit and next-step, and always their context. A record that cannot be split has neither context nor
target; `eligible` tells. A new view is one function and one line in `VIEWS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

FOR_LIFE = -1


@dataclass(frozen=True, eq=False)
class Places:
    """Where each token of a record stands: its role (0 image, 1 clinical), visit (-1: for life), block of coordinates.

    The same for all records; which tokens a record has is told by `seen`.
    """

    role: Int[Tensor, "tokens"]
    visit: Int[Tensor, "tokens"]
    block: Int[Tensor, "tokens"]


Split = tuple[Bool[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]  # context, target
View = Callable[[Bool[Tensor, "batch tokens"], Places, torch.Generator, float], Split]


def cross_modal(
    seen: Bool[Tensor, "batch tokens"], places: Places, generator: torch.Generator, share: float = 0.5
) -> Split:
    """One role, drawn at random among those a record has, is the target. `share` has no meaning here."""
    available = groups(seen, places.role)
    one = (available.sum(dim=1) >= 2).long()
    return _split(seen, _draw(available, one, generator), places.role)


def visit(
    seen: Bool[Tensor, "batch tokens"], places: Places, generator: torch.Generator, share: float = 0.5
) -> Split:
    """A share of the visits (at least one, never all) is the target, with all that was seen there."""
    return _share_of(seen, places.visit, generator, share)


def token(
    seen: Bool[Tensor, "batch tokens"], places: Places, generator: torch.Generator, share: float = 0.5
) -> Split:
    """A share of the tokens (at least one, never all) is the target."""
    return _share_of(seen, torch.arange(seen.shape[1]), generator, share)


def coordinate(
    seen: Bool[Tensor, "batch tokens"], places: Places, generator: torch.Generator, share: float = 0.5
) -> Split:
    """A share of the blocks of coordinates is the target, at every visit: no visit tells what another one hides."""
    return _share_of(seen, places.block, generator, share)


def both(
    seen: Bool[Tensor, "batch tokens"], places: Places, generator: torch.Generator, share: float = 0.5
) -> Split:
    """Each record by a coin: a modality or visits are masked; the other where it cannot be split that way.

    Where the layout has one visit nothing could be masked within a modality but its tokens: those stand for visits.
    """
    coin = torch.rand(len(seen), generator=generator) < 0.5
    within = visit if len(places.visit[places.visit >= 0].unique()) > 1 else token
    one, two = cross_modal(seen, places, generator, share), within(seen, places, generator, share)
    first = ((coin & one[1].any(dim=1)) | ~two[1].any(dim=1))[:, None]
    return torch.where(first, one[0], two[0]), torch.where(first, one[1], two[1])


def next_step(
    seen: Bool[Tensor, "batch tokens"], places: Places, generator: torch.Generator, share: float = 0.5
) -> Split:
    """One visit, any but a record's first, is the target; the context is all that was seen before it."""
    available = groups(seen, places.visit)
    order = torch.arange(available.shape[1])
    first = torch.where(available, order, available.shape[1]).amin(dim=1) if len(order) else seen.new_zeros(len(seen))
    later = available & (order > first[:, None])
    chosen = _draw(later, later.any(dim=1).long(), generator)
    has = chosen.any(dim=1)
    at = (chosen * order).sum(dim=1)
    target = seen & (places.visit == at[:, None]) & has[:, None]
    return seen & (places.visit < at[:, None]) & has[:, None], target


VIEWS: dict[str, View] = {
    "cross-modal": cross_modal,
    "visit": visit,
    "token": token,
    "coordinate": coordinate,
    "both": both,
    "next-step": next_step,
}


def eligible(view: View, seen: Bool[Tensor, "records tokens"], places: Places) -> Bool[Tensor, "records"]:
    """Which records a view can split (that does not depend on the draw)."""
    context, target = view(seen, places, torch.Generator().manual_seed(0), 0.5)
    return context.any(dim=1) & target.any(dim=1)


def slots(
    target: Bool[Tensor, "batch tokens"], count: int, generator: torch.Generator
) -> Int[Tensor, "batch count"]:
    """`count` of each record's target tokens, drawn with replacement: as many rows from every record."""
    return torch.multinomial(target.float(), count, replacement=True, generator=generator)


def causal(visit: Int[Tensor, "tokens"]) -> Bool[Tensor, "tokens tokens"]:
    """Whether the token of a row may attend to that of a column: never to a later visit; within one, both ways."""
    return visit[None, :] <= visit[:, None]


def centre(
    z: Float[Tensor, "members rows width"], group: Int[Tensor, "members rows"], count: int
) -> Float[Tensor, "members rows width"]:
    """z without the mean of each row's group (of `count`), so that what a token is called predicts nothing of it."""
    member_of = torch.nn.functional.one_hot(group, count).to(z.dtype)
    means = member_of.transpose(1, 2) @ z / member_of.sum(dim=1).clamp_min(1)[:, :, None]
    return z - member_of @ means


def groups(seen: Bool[Tensor, "batch tokens"], index: Int[Tensor, "tokens"]) -> Bool[Tensor, "batch groups"]:
    """Which groups (visits, roles, blocks) of tokens a record has; an index below 0 belongs to none."""
    count = max(int(index.max()) + 1, 0) if len(index) else 0
    return (seen[:, None, :] & (index == torch.arange(count)[:, None])).any(dim=2)


def _share_of(
    seen: Bool[Tensor, "batch tokens"], index: Int[Tensor, "tokens"], generator: torch.Generator, share: float
) -> Split:
    available = groups(seen, index)
    n = available.sum(dim=1)
    count = torch.where(n >= 2, (share * n).round().long().clamp_min(1).minimum(n - 1), 0)
    return _split(seen, _draw(available, count, generator), index)


def _draw(
    available: Bool[Tensor, "batch groups"], count: Int[Tensor, "batch"], generator: torch.Generator
) -> Bool[Tensor, "batch groups"]:
    """`count` of each record's available groups, uniformly, without replacement."""
    key = torch.rand(available.shape, generator=generator).masked_fill(~available, 2.0)
    return available & (key.argsort(dim=1).argsort(dim=1) < count[:, None])


def _split(
    seen: Bool[Tensor, "batch tokens"], chosen: Bool[Tensor, "batch groups"], index: Int[Tensor, "tokens"]
) -> Split:
    if not chosen.shape[1]:
        return torch.zeros_like(seen), torch.zeros_like(seen)
    target = seen & chosen[:, index.clamp_min(0)] & (index >= 0)
    return seen & ~target & target.any(dim=1, keepdim=True), target
