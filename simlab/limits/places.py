"""The oracles of a world by the road that is exact in it: closed forms where it is Gaussian, integrals elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from simlab.environments.knobs import GaussianSpec
from simlab.limits import areas, latent_areas, oracles
from simlab.limits.gaussian import Moments
from simlab.limits.joint import joint
from simlab.limits.oracles import VIEWS, Oracle
from simlab.limits.subspace import Span, canonical, cca


def oracles_of(spec: GaussianSpec, source: Moments, target: Moments, spans: Mapping[str, Span]) -> dict[
        str, Oracle | None]:
    """Limits of the three views and of the features inside each span (found on the source's moments), by name.

    None for a span whose exact risk nobody knows (causes that are not normal, mixed by the span).
    """
    if spec.alpha_lat != 2:
        return latent_areas.oracles_of(spec, dict(spans))
    if spec.gaussian:
        found = {view: oracles.view_oracle(source, target, view) for view in VIEWS}
        return {**found, **{name: oracles.span_oracle(source, target, span) for name, span in spans.items()}}
    inside, outside = joint(spec, "source"), joint(spec, "external")
    found = {view: areas.view_oracle(inside, outside, view) for view in VIEWS}
    return {**found, **{name: areas.span_oracle(inside, outside, span) for name, span in spans.items()}}


def own_pairs(spec: GaussianSpec, target: Moments, k: int) -> float | None:
    """AUC limit of the target's own first k canonical pairs; None where the target's views share nothing."""
    if spec.gaussian:
        return oracles.cross_modal_own(target, k)
    if spec.alpha_lat != 2:
        if canonical(target)[1].max(initial=0.0) <= 1e-8:
            return None
        found = latent_areas.oracles_of(spec, {"own": cca(target, k)}, ())["own"]
        return None if found is None else found.external
    if canonical(target)[1].max(initial=0.0) <= 1e-8:
        return None
    outside = joint(spec, "external")
    return areas.span_oracle(outside, outside, cca(target, k)).internal
