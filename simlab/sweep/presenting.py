"""How a study's records are shown to its arms: as features, as tokens, or both; and which target they read."""

from __future__ import annotations

from simlab.cohort import Inputs
from simlab.environments.registry import find_world
from simlab.models import present, tokens
from simlab.sweep.schema import Study
from simlab.training.pretrain import Settings

Shown = present.Presentation | tokens.Presented | tokens.Tokeniser


def target_domain(study: Study) -> str:
    """The domain of the cohort that a study reads, where that is a target; else of the first target."""
    world = find_world(study.world)
    known = dict(zip(world.cohorts, world.domains, strict=False))
    return next(name for name in (known.get(study.compare.cohort), *world.domains[1:])
                if name is not None and name != world.domains[0])


def reading(reads: set[str]) -> str:
    """What records are shown as to arms that read these: "features", "tokens" beside them, or "tokens-alone" (where
    nobody asks for features, which volumes do not have)."""
    if "tokens" not in reads:
        return "features"
    return "tokens-alone" if reads == {"tokens"} else "tokens"


def presented(inputs: Inputs, reads: str, settings: Settings, visits: int) -> Shown:
    """The presentation of these unlabelled records as `reads` of `reading` says. Raises InvalidCohort for a stream
    that has no features where these are asked for."""
    features = None if reads == "tokens-alone" else present.fit(inputs, as_is=True)
    if reads == "features":
        assert features is not None
        return features
    cut = tokens.fit(inputs, patch=settings.cut, visits=visits)
    return cut if features is None else tokens.Presented(features, cut)


def layout_of(presentation: Shown) -> tokens.Layout:
    """The grid of tokens that records are shown on, in a study whose arms read tokens."""
    assert not isinstance(presentation, present.Presentation)
    return presentation.layout
