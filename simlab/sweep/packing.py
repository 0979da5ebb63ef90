"""What stages came to, as named arrays for the stage cache and back with the same bits: no code, no pickle.

A score that is none of `simlab.training.scores` (a plug-in's own callable) cannot be packed, and is fitted again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from simlab.errors import OutOfDomain
from simlab.models.present import Presentation
from simlab.models.tokens import Presented, Tokeniser
from simlab.training import scores
from simlab.training.data import Fit
from simlab.training.loop import Diverged
from simlab.training.pretrain import Encoders, Failed

Arrays = dict[str, np.ndarray]
ERRORS = {Diverged: "diverged", OutOfDomain: "refused"}  # of a member that could not be trained


@dataclass(frozen=True)
class Source:
    """What remains of a seed's unlabelled records for all its other cohorts: how they are presented, whose they are."""

    presentation: Presentation | Presented | Tokeniser
    subjects: np.ndarray
    channels: Mapping[str, tuple[str, ...]]


def pack_source(source: Source) -> Arrays:
    """A seed's presentation, with the subjects and channels of its unlabelled records."""
    whole = source.presentation
    features, cut = (whole.features, whole.tokeniser) if isinstance(whole, Presented) else (
        (None, whole) if isinstance(whole, Tokeniser) else (whole, None))
    told: dict[str, Any] = {"channels": {k: list(v) for k, v in source.channels.items()}}
    scaling: Arrays = {}
    if features is not None:
        told |= {"roles": {k: list(v) for k, v in features.roles.items()}, "visits": dict(features.visits)}
        scaling |= _scaling("", features.scaling)
    if cut is not None:
        told["tokens"] = {"layout": asdict(cut.layout), "patch": cut.patch}
        scaling |= _scaling("token-", cut.scaling)
    return {"told": np.array(json.dumps(told)), "subjects": source.subjects, **scaling}


def _scaling(what: str, scaling: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Arrays:
    return {f"{what}{part}/{name}": pair[i] for name, pair in scaling.items()
            for i, part in enumerate(("centre", "scale"))}


def unpack_source(arrays: Mapping[str, np.ndarray]) -> Source:
    """The presentation, subjects and channels of `pack_source`."""
    told = json.loads(str(arrays["told"]))
    features = cut = None
    if "roles" in told:
        scaling = {name: (arrays[f"centre/{name}"], arrays[f"scale/{name}"]) for name in told["visits"]}
        features = Presentation({k: tuple(v) for k, v in told["roles"].items()}, scaling, told["visits"])
    if "tokens" in told:
        layout = scores.layout_of(told["tokens"]["layout"])
        scaling = {s.name: (arrays[f"token-centre/{s.name}"], arrays[f"token-scale/{s.name}"]) for s in layout.sources}
        cut = Tokeniser(layout, scaling, told["tokens"]["patch"])
    shown = Presented(features, cut) if features and cut else features or cut
    assert shown is not None
    return Source(shown, arrays["subjects"], {k: tuple(v) for k, v in told["channels"].items()})


def pack_fleet(made: Sequence[Encoders | Failed]) -> Arrays:
    """A fleet's encoders in the order of its members; one that could not be trained as its error's kind and text."""
    packed: Arrays = {}
    for member, found in enumerate(made):
        word = next((name for kind, name in ERRORS.items() if isinstance(found, kind)), None)
        part = {word: np.array(str(found))} if word else scores.pack_encoders(found)
        packed |= {f"{member}/{name}": array for name, array in part.items()}
    return packed


def unpack_fleet(arrays: Mapping[str, np.ndarray]) -> list[Encoders | Failed]:
    parts: dict[int, Arrays] = {}
    for name, array in arrays.items():
        member, _, rest = name.partition("/")
        parts.setdefault(int(member), {})[rest] = array
    return [next((kind(str(part[name])) for kind, name in ERRORS.items() if name in part), None)
            or scores.unpack_encoders(part) for _, part in sorted(parts.items())]


def pack_fit(fit: Fit) -> Arrays | None:
    """A fitted arm, or None where its score is no plain data."""
    packed = scores.pack(fit.score)
    if packed is None:
        return None
    told = {name: float(value).hex() for name, value in fit.diagnostics.items()}
    return {**packed, "diagnostics": np.array(json.dumps(told)), "of": np.array(fit.scale)}


def unpack_fit(arrays: Mapping[str, np.ndarray]) -> Fit:
    told = json.loads(str(arrays["diagnostics"]))
    return Fit(scores.unpack(arrays), {name: float.fromhex(value) for name, value in told.items()},
               str(arrays["of"]))


def pack_rows(rows: Sequence[Mapping[str, Any]]) -> Arrays:
    """Rows of a table: words, numbers and None."""
    kept = [{k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()} for row in rows]
    return {"rows": np.array(json.dumps(kept))}  # a float is written with all the digits that make it


def unpack_rows(arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    return json.loads(str(arrays["rows"]))


def plain(fit: Fit) -> Fit:
    """The fit as it comes out of an entry; itself where it cannot be packed."""
    packed = pack_fit(fit)
    return fit if packed is None else unpack_fit(packed)
