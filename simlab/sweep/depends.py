"""Which of a world's fields each stage of a cell follows from: what keys hash, and what a forecast counts.

Imports no array module.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from simlab.environments.registry import World

LABELS_ALONE = ("n_lab", "flip")  # fields of training labels, which touch no other records


def canonical(value: Any) -> str:
    """One text for equal values: sorted keys, numbers in full."""
    return json.dumps(value, sort_keys=True, default=repr)


def fields(spec: Any) -> dict[str, Any]:
    """Every field of a cell's world."""
    return {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)} if dataclasses.is_dataclass(spec) else {
        "spec": repr(spec)}


def source(world: World, spec: Any) -> dict[str, Any]:
    """What touches the unlabelled records: no label or target knob, but where the world says so.

    A world's `spec.stage("source")` may name more than the knobs of that stage (a shortcut shows the label).
    """
    more = spec.stage("source") if hasattr(spec, "stage") else {}
    away = {k.symbol for k in world.knobs if k.stage in ("labels", "target")} - set(more)
    return {"world": world.name, "fields": {k: v for k, v in fields(spec).items() if k not in away}}


def before_target(world: World, spec: Any) -> dict[str, Any]:
    """Every field but those that touch the target alone (a field that is no knob counts as a source one)."""
    target = {k.symbol for k in world.knobs if k.stage == "target"}
    return {k: v for k, v in fields(spec).items() if k not in target}


def outside(spec: Any) -> dict[str, Any]:
    """What records of the target follow from: every field but those of training labels alone."""
    return {k: v for k, v in fields(spec).items() if k not in LABELS_ALONE}


def of_areas(spec: Any, home: bool) -> Any:
    """The world that best areas follow from: no numbers of records, no map, and in the source no target knobs."""
    less = {k: v for k, v in {"n_lab": 2, "n_unlab": 2, "map_seed": 0}.items() if k in fields(spec)}
    spec = dataclasses.replace(spec, **less)
    return spec.without_shift() if home else spec
