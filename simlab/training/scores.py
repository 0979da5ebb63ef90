"""Fitted scores as plain data: what a cohort's views are turned into a score with, storable as arrays, no code inside.

An arm whose score is one of these can be kept in the sweep's stage cache (`pack`, `unpack`); any other callable is a
valid score too, and is fitted again where it is needed again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from simlab.models import fleet
from simlab.training.data import Score, Views, columns
from simlab.training.pretrain import ROLES, Encoders

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class LinearScore:
    """A linear function of the features of the streams that the arm sees ("all", "image" or "clinical")."""

    streams: str
    weights: Float[np.ndarray, "features"]
    intercept: float = 0.0

    def __call__(self, views: Views) -> Float[np.ndarray, "records"]:
        return columns(views, self.streams) @ self.weights + self.intercept


@dataclass(frozen=True)
class ProbeScore:
    """A linear function of both views' representations by frozen encoders."""

    encoders: Encoders
    weights: Float[np.ndarray, "features"]
    intercept: float

    def __call__(self, views: Views) -> Float[np.ndarray, "records"]:
        return side_by_side(self.encoders.represent(views)) @ self.weights + self.intercept


@dataclass(frozen=True)
class ProjectionScore:
    """A linear function of linear projections (features, k) of both views, each about its centre (features,)."""

    maps: Mapping[str, Float[np.ndarray, "_ k"]]
    centres: Mapping[str, Float[np.ndarray, "_"]]
    weights: Float[np.ndarray, "features"]
    intercept: float

    def project(self, views: Views) -> Float[np.ndarray, "records features"]:
        return project(views, self.maps, self.centres)

    def __call__(self, views: Views) -> Float[np.ndarray, "records"]:
        return self.project(views) @ self.weights + self.intercept


@dataclass(frozen=True)
class JointScore:
    """A linear function of a linear projection (features, k) of the standardised features of all streams."""

    centre: Float[np.ndarray, "features"]
    scale: Float[np.ndarray, "features"]
    map: Float[np.ndarray, "features k"]
    weights: Float[np.ndarray, "k"]
    intercept: float

    def project(self, views: Views) -> Float[np.ndarray, "records k"]:
        return (columns(views, "all") - self.centre) / self.scale @ self.map

    def __call__(self, views: Views) -> Float[np.ndarray, "records"]:
        return self.project(views) @ self.weights + self.intercept


@dataclass(frozen=True)
class TreeScore:
    """The probability by gradient-boosted trees: LightGBM's own text, read again where the score is first asked for."""

    streams: str
    text: str

    def __call__(self, views: Views) -> Float[np.ndarray, "records"]:
        return np.asarray(_trees(self.text).predict(columns(views, self.streams), num_threads=1))


@lru_cache(maxsize=4)
def _trees(text: str) -> Any:
    from lightgbm import Booster

    return Booster(model_str=text)


@dataclass(frozen=True)
class NetworkScore:
    """Fine-tuned MLP encoders of these roles with a linear head (a fleet of one)."""

    parameters: fleet.Parameters
    roles: tuple[str, ...]

    def __call__(self, views: Views) -> Float[np.ndarray, "records"]:
        x = {role: torch.as_tensor(np.asarray(views[role], dtype=np.float32))[None] for role in self.roles}
        with torch.no_grad():
            return logits(self.parameters, x)[0].numpy().astype(np.float64)


def project(
    views: Views, maps: Mapping[str, Float[np.ndarray, "_ k"]], centres: Mapping[str, Float[np.ndarray, "_"]]
) -> Float[np.ndarray, "records features"]:
    """Both views' projections side by side."""
    return np.concatenate([(np.asarray(views[r], dtype=np.float64) - centres[r]) @ maps[r] for r in ROLES], axis=1)


def logits(parameters: fleet.Parameters, x: Mapping[str, Tensor]) -> Float[Tensor, "members records"]:
    """The head's output on the encoded views, side by side; views of one member serve every member."""
    members = parameters["head.0.weight"].shape[0]
    shown = [
        fleet.apply(parameters, role, v if v.shape[0] == members else v.expand(members, -1, -1))
        for role, v in x.items()
    ]
    return fleet.apply(parameters, "head", torch.cat(shown, dim=2))[:, :, 0]


def side_by_side(views: Views) -> Float[np.ndarray, "records features"]:
    """Both views' columns, the first role's first."""
    return np.concatenate([views[role] for role in ROLES], axis=1)


def pack_encoders(encoders: Encoders) -> Arrays:
    """Encoders as arrays (`unpack_encoders` gives the same bits back)."""
    parameters = {f"parameters/{k}": v.numpy() for k, v in encoders.parameters.items()}
    return {"encoder": np.array(encoders.kind), "curve": np.array(json.dumps(encoders.curve)), **parameters}


def unpack_encoders(arrays: Mapping[str, np.ndarray]) -> Encoders:
    """The encoders of `pack_encoders`. Raises KeyError or ValueError for anything else."""
    curve = tuple(json.loads(str(arrays["curve"])))
    return Encoders(str(arrays["encoder"]), _tensors(arrays, "parameters/"), curve)


def pack(score: Score) -> Arrays | None:
    """A score as arrays, or None where it is not one of this module's."""
    if isinstance(score, LinearScore):
        return {"kind": np.array("linear"), "streams": np.array(score.streams), **_line(score)}
    if isinstance(score, ProbeScore):
        return {"kind": np.array("probe"), **pack_encoders(score.encoders), **_line(score)}
    if isinstance(score, ProjectionScore):
        found = {f"{name}/{k}": v for name, part in (("maps", score.maps), ("centres", score.centres))
                 for k, v in part.items()}
        return {"kind": np.array("projection"), **found, **_line(score)}
    if isinstance(score, JointScore):
        found = {"centre": score.centre, "scale": score.scale, "map": score.map}
        return {"kind": np.array("joint"), **found, **_line(score)}
    if isinstance(score, TreeScore):
        return {"kind": np.array("trees"), "streams": np.array(score.streams), "text": np.array(score.text)}
    if isinstance(score, NetworkScore):
        parameters = {f"parameters/{k}": v.numpy() for k, v in score.parameters.items()}
        return {"kind": np.array("network"), "roles": np.array(score.roles), **parameters}
    return None


def unpack(arrays: Mapping[str, np.ndarray]) -> Score:
    """The score of `pack`. Raises KeyError or ValueError for anything else."""
    kind = str(arrays["kind"])
    if kind == "network":
        return NetworkScore(_tensors(arrays, "parameters/"), tuple(arrays["roles"].tolist()))
    if kind == "trees":
        return TreeScore(str(arrays["streams"]), str(arrays["text"]))
    line = arrays["weights"], float(arrays["intercept"])
    if kind == "linear":
        return LinearScore(str(arrays["streams"]), *line)
    if kind == "probe":
        return ProbeScore(unpack_encoders(arrays), *line)
    if kind == "projection":
        return ProjectionScore(_part(arrays, "maps/"), _part(arrays, "centres/"), *line)
    if kind == "joint":
        return JointScore(arrays["centre"], arrays["scale"], arrays["map"], *line)
    raise ValueError(f"an unknown kind of score: {kind}")


def _line(score: LinearScore | ProbeScore | ProjectionScore | JointScore) -> Arrays:
    return {"weights": score.weights, "intercept": np.array(score.intercept)}


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _tensors(arrays: Mapping[str, np.ndarray], prefix: str) -> fleet.Parameters:
    """Tensors in memory of torch's own (its alignment), with the arrays' bits."""
    return {k: torch.from_numpy(v).clone() for k, v in _part(arrays, prefix).items()}
