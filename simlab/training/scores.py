"""Fitted scores as plain data: what a cohort's views are turned into a score with, storable as arrays, no code inside.

An arm whose score is one of these can be kept in the sweep's stage cache (`pack`, `unpack`); any other callable is a
valid score too, and is fitted again where it is needed again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from simlab.models import fleet
from simlab.models.token_encoder import TokenEncoder
from simlab.models.tokens import Layout, Source
from simlab.training.data import Score, Views, columns
from simlab.training.pretrain import ROLES, Encoders
from simlab.training.token_encoders import TokenEncoders

Arrays = dict[str, np.ndarray]

CHUNK = 4096  # records that are scored at once
OF_TOKENS = ("encoder", "layout", "blocks", "missing", "how")  # what token encoders have beside their parameters


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
    """A linear function of the representations by frozen encoders."""

    encoders: Encoders
    weights: Float[np.ndarray, "features"]
    intercept: float

    def __call__(self, views: Views) -> Float[np.ndarray, "records"]:
        return side_by_side(self.encoders.represent(views)) @ self.weights + self.intercept


@dataclass(frozen=True)
class ProjectionScore:
    """A linear function of linear projections (features, k) of views, each about its centre (features,)."""

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
    """A linear function of a linear projection (features, k) of the standardised features of the streams it sees."""

    centre: Float[np.ndarray, "features"]
    scale: Float[np.ndarray, "features"]
    map: Float[np.ndarray, "features k"]
    weights: Float[np.ndarray, "k"]
    intercept: float
    streams: str = "all"

    def project(self, views: Views) -> Float[np.ndarray, "records k"]:
        return (columns(views, self.streams) - self.centre) / self.scale @ self.map

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
    """A head on adapted encoders of these roles (a fleet of one).

    `standard`: centre and scale (1, 1, features) of what the head reads, where it reads it standardised.
    """

    encoders: Encoders
    head: fleet.Parameters
    roles: tuple[str, ...]
    standard: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def represent(self, views: Views) -> Float[np.ndarray, "records features"]:
        """What the head reads."""
        return np.concatenate([z[0].numpy().astype(np.float64) for z in self._shown(views)])

    @torch.no_grad()
    def __call__(self, views: Views) -> Float[np.ndarray, "records"]:
        parts = [fleet.apply(self.head, "head", z)[0, :, 0] for z in self._shown(views)]
        return np.concatenate([part.numpy().astype(np.float64) for part in parts])

    def _shown(self, views: Views) -> Iterator[Tensor]:
        for start in range(0, len(next(iter(views.values()))), CHUNK):
            part = {name: x[start : start + CHUNK] for name, x in views.items()}
            z = self.encoders.features(self.encoders.parameters, self.encoders.inputs(part, self.roles), self.roles)
            yield z if self.standard is None else (z - self.standard[0]) / self.standard[1]


def project(
    views: Views, maps: Mapping[str, Float[np.ndarray, "_ k"]], centres: Mapping[str, Float[np.ndarray, "_"]]
) -> Float[np.ndarray, "records features"]:
    """The projections of the roles that have one, side by side."""
    roles = [role for role in ROLES if role in maps]
    return np.concatenate([(np.asarray(views[r], dtype=np.float64) - centres[r]) @ maps[r] for r in roles], axis=1)


def side_by_side(views: Views) -> Float[np.ndarray, "records features"]:
    """The columns of the roles that are there, the first role's first."""
    return np.concatenate([views[role] for role in ROLES if role in views], axis=1)


def pack_encoders(encoders: Encoders) -> Arrays:
    """Encoders as arrays (`unpack_encoders` gives the same bits back)."""
    parameters = {f"parameters/{k}": v.numpy() for k, v in encoders.parameters.items()}
    told = {"encoder": np.array(encoders.kind), "curve": np.array(json.dumps(encoders.curve)),
            "seen": np.array(encoders.roles)}
    if isinstance(encoders, TokenEncoders):
        told["tokens"] = np.array(json.dumps({name: _plain(getattr(encoders, name)) for name in OF_TOKENS}))
    return told | parameters


def unpack_encoders(arrays: Mapping[str, np.ndarray]) -> Encoders:
    """The encoders of `pack_encoders`. Raises KeyError or ValueError for anything else."""
    kind, parameters = str(arrays["encoder"]), _tensors(arrays, "parameters/")
    curve, roles = tuple(json.loads(str(arrays["curve"]))), tuple(arrays["seen"].tolist())
    if "tokens" not in arrays:
        return Encoders(kind, parameters, curve, roles)
    told = json.loads(str(arrays["tokens"]))
    shape = told.pop("encoder")
    encoder = TokenEncoder(**{**shape, "layout": layout_of(shape["layout"])})
    told["layout"] = layout_of(told["layout"])
    return TokenEncoders(kind=kind, parameters=parameters, curve=curve, roles=roles, encoder=encoder, **told)


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def layout_of(told: Mapping[str, Any]) -> Layout:
    """A layout of tokens from what `dataclasses.asdict` made of it."""
    sources = tuple(Source(**{**s, "sides": tuple(s.get("sides", ()))}) for s in told["sources"])
    return Layout(**{**told, "sources": sources})


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
        return {"kind": np.array("joint"), "streams": np.array(score.streams), **found, **_line(score)}
    if isinstance(score, TreeScore):
        return {"kind": np.array("trees"), "streams": np.array(score.streams), "text": np.array(score.text)}
    if isinstance(score, NetworkScore):
        parts = {f"head/{k}": v.numpy() for k, v in score.head.items()}
        if score.standard is not None:
            parts |= {f"standard/{i}": v.numpy() for i, v in enumerate(score.standard)}
        return {"kind": np.array("network"), "roles": np.array(score.roles), **pack_encoders(score.encoders), **parts}
    return None


def unpack(arrays: Mapping[str, np.ndarray]) -> Score:
    """The score of `pack`. Raises KeyError or ValueError for anything else."""
    kind = str(arrays["kind"])
    if kind == "network":
        standard = _tensors(arrays, "standard/")
        return NetworkScore(unpack_encoders(arrays), _tensors(arrays, "head/"), tuple(arrays["roles"].tolist()),
                            (standard["0"], standard["1"]) if standard else None)
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
        return JointScore(arrays["centre"], arrays["scale"], arrays["map"], *line, str(arrays["streams"]))
    raise ValueError(f"an unknown kind of score: {kind}")


def _line(score: LinearScore | ProbeScore | ProjectionScore | JointScore) -> Arrays:
    return {"weights": score.weights, "intercept": np.array(score.intercept)}


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _tensors(arrays: Mapping[str, np.ndarray], prefix: str) -> fleet.Parameters:
    """Tensors in memory of torch's own (its alignment), with the arrays' bits."""
    return {k: torch.from_numpy(v).clone() for k, v in _part(arrays, prefix).items()}
