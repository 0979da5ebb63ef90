"""What pretraining minimises, composed from a method's axes; the table below holds one line an objective.

For each direction, the encoder's embedding z of one view passes a predictor (or none) to a prediction p of the goal g
made of the other view: its EMA encoder's embedding, its online embedding without or with gradient, or the input itself.

    without predictor, online target:   match(z_image, z_clinical) + sum over views of spread(z)
    otherwise:                          sum over directions of match(p, g)            (halved where there is a spread)
                                          + sum over views of spread(z)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from simlab.evaluation import online as online_probe
from simlab.evaluation import spectrum
from simlab.models import fleet
from simlab.objectives import sigreg, vicreg
from simlab.objectives.barlow import barlow
from simlab.objectives.contrastive import SHARPEST, chance, clip, first_scale
from simlab.objectives.prediction import constant_loss, prediction_loss, skill, squared_error
from simlab.training.method import Method

ROLES = ("image", "clinical")
OTHER = {"image": "clinical", "clinical": "image"}
Parts = dict[str, Tensor]
Loss = Callable[[fleet.Parameters, Mapping[str, Tensor], int], tuple[Tensor, Parts]]


@dataclass(frozen=True)
class Objective:
    """`match`: prediction against goal; `spread`: what keeps one view's embedding apart, given the step's slices.

    `constant`: what the best constant prediction costs (None: the goal's mean). `pair`: match and both spreads of two
    views in one function, with its parts, where the published loss is one. `sliced`: whether slices are drawn.
    `scaled`: whether `match` takes a learned log scale too, the parameter "scale".
    """

    match: Callable[..., Tensor]
    constant: Callable[[Tensor], Tensor] | None = None
    spread: Callable[[Tensor, Tensor | None], Tensor] | None = None
    pair: Callable[[Tensor, Tensor], tuple[Tensor, Parts]] | None = None
    sliced: bool = False
    scaled: bool = False

    @property
    def at_most(self) -> dict[str, float]:
        """The largest value of a parameter: CLIP keeps its scale at 100 after each step."""
        return {"scale": math.log(SHARPEST)} if self.scaled else {}

    def parameters(self, members: int) -> fleet.Parameters:
        """Parameters of the objective itself."""
        return {"scale": first_scale(members)} if self.scaled else {}

    def value(self, prediction: Tensor, goal: Tensor, scale: Tensor | None = None) -> Float[Tensor, "members"]:
        """`match`, at the learned scale where there is one."""
        return self.match(prediction, goal, scale) if self.scaled else self.match(prediction, goal)

    def skill(
        self, prediction: Tensor, goal: Tensor, scale: Tensor | None = None, flat: Tensor | None = None
    ) -> Float[Tensor, "members"]:
        """1 - loss / loss of the best constant, for each member. `flat`: that constant, where it is not one for all."""
        if flat is None and self.constant:
            best = self.constant(goal)
        else:
            best = self.match(goal.mean(dim=1, keepdim=True).expand_as(goal) if flat is None else flat, goal)
        return skill(self.value(prediction, goal, scale), best)


# The axis "against collapse". "none" is JEPA's prediction loss; PLAIN takes its place where the goal is the input or
# carries a gradient.
OBJECTIVES = {
    "none": Objective(prediction_loss, constant=constant_loss),
    "vicreg": Objective(vicreg.match, spread=lambda z, _: vicreg.spread(z), pair=vicreg.parts),
    "sigreg": Objective(sigreg.centroid, spread=sigreg.spread, sliced=True),
    "barlow": Objective(barlow),
    "contrastive": Objective(clip, constant=chance),
    "contrastive-learned": Objective(clip, constant=chance, scaled=True),
}
PLAIN = Objective(squared_error)


def of(method: Method) -> Objective:
    """The objective of a method's point on the axes."""
    plain = method.against_collapse == "none" and method.target in ("online", "input")
    return PLAIN if plain else OBJECTIVES[method.against_collapse]


def loss(method: Method, terms: Objective, state: fleet.Parameters) -> Loss:
    """The loss of a batch, one value a member, and its parts. `state`: the EMA encoders, if there are any."""

    def value(parameters: fleet.Parameters, batch: Mapping[str, Tensor], step: int) -> tuple[Tensor, Parts]:
        z = {role: fleet.apply(parameters, role, batch[role]) for role in ROLES}
        slices = batch.get("slices")
        if _symmetric(method) and terms.pair:
            return terms.pair(z["image"], z["clinical"])
        apart = {f"spread-{role}": terms.spread(z[role], slices) for role in ROLES} if terms.spread else {}
        pairs = _pairs(method, parameters, state, batch, z)
        parts = {name: terms.value(p, g, parameters.get("scale")) for name, (p, g) in pairs.items()}
        total = sum(parts.values(), start=torch.zeros(()))
        if apart:
            total = sum(apart.values(), start=total / len(pairs))
        return total, {k: v.detach() for k, v in {**parts, **apart}.items()}

    return value


@torch.no_grad()
def observe(
    method: Method,
    terms: Objective,
    parameters: fleet.Parameters,
    state: fleet.Parameters,
    views: Mapping[str, Tensor],
) -> Parts:
    """Diagnostics along the training, one value a member: skill by direction; of each view's embedding (the EMA
    encoder's, where there is one) the numbers of `spectrum.along`; how far the EMA encoder lags; the online probe.

    `views`: the watched records, by role; "subject" and "probe/NAME" as in `simlab.training.pretrain.pretrain`.
    """
    online = {role: fleet.apply(parameters, role, views[role]) for role in ROLES}
    pairs = _pairs(method, parameters, state, views, online)
    scale = parameters.get("scale")
    found = {name.replace("predict", "skill").replace("match", "skill"): terms.skill(*pg, scale)
             for name, pg in pairs.items()}
    if scale is not None:
        found["temperature"] = (-scale).exp()[:, 0]
    shown = {role: pairs[f"predict-{role}"][1] for role in ROLES} if state else online
    found |= spectrum.along(shown, views.get("subject")) | online_probe.along(shown, views)
    if state:
        found |= {f"lag-{role}": _distance(state, parameters, role) for role in ROLES}
    return found


def _symmetric(method: Method) -> bool:
    return method.target == "online" and method.predictor == "none"


def _pairs(
    method: Method,
    parameters: fleet.Parameters,
    state: fleet.Parameters,
    batch: Mapping[str, Tensor],
    z: Mapping[str, Tensor],
) -> dict[str, tuple[Tensor, Tensor]]:
    """Prediction and goal of each direction; the two embeddings themselves where both directions are one."""
    if _symmetric(method):
        return {"match": (z["image"], z["clinical"])}
    found = {}
    for role in ROLES:
        prediction = z[role] if method.predictor == "none" else fleet.apply(parameters, f"predict-{role}", z[role])
        found[f"predict-{OTHER[role]}"] = (prediction, _goal(method, state, batch, z, OTHER[role]))
    return found


def _goal(
    method: Method, state: fleet.Parameters, batch: Mapping[str, Tensor], z: Mapping[str, Tensor], role: str
) -> Tensor:
    if method.target == "ema":
        with torch.no_grad():
            return fleet.apply(state, role, batch[role])
    if method.target == "input":
        return batch[role]
    return z[role] if method.target == "online" else z[role].detach()


def _distance(state: fleet.Parameters, parameters: fleet.Parameters, role: str) -> Float[Tensor, "members"]:
    """|target - online| / |online| over one encoder's parameters, for each member."""
    names = [name for name in state if name.split(".")[0] == role]
    apart = torch.cat([(state[n] - parameters[n]).flatten(1) for n in names], dim=1).norm(dim=1)
    return apart / torch.cat([parameters[n].flatten(1) for n in names], dim=1).norm(dim=1).clamp_min(1e-12)
