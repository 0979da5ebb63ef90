"""What a study asked, read from its resolved `study.toml` alone: no plug-in is executed, no world or method looked up.

So a published folder opens on any machine, whatever code the study was run with. Imports no array module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simlab.errors import InvalidStudy

Value = float | int | str
LABELS = ("n_labelled", "n_lab")  # the knob that lies along a map's columns where it is swept
PLAIN = {"w_c": "signal that both views share (w_c)", "n_labelled": "labels (n_labelled)",
         "n_lab": "labels (n_lab)", "h2": "signal fraction (h2)", "kappa_e": "coupling in the target (kappa_e)",
         "delta_v_e": "clinical slope in the target (delta_v_e)", "nu": "nuisance correlation (nu)",
         "n_unlabelled": "unlabelled records (n_unlabelled)"}


@dataclass(frozen=True)
class Axis:
    """One swept knob, named as the study names it: its values in the study's order, or (continuous) its two ends."""

    name: str
    values: tuple[Value, ...]
    scale: str
    continuous: bool = False

    @property
    def words(self) -> bool:
        return isinstance(self.values[0], str)

    @property
    def log(self) -> bool:
        return self.scale == "log" and not self.words and all(value > 0 for value in self.values)

    @property
    def label(self) -> str:
        """The axis in plain words where we have them, else the knob's name."""
        return PLAIN.get(self.name, self.name.replace("_", " "))


@dataclass(frozen=True)
class Outline:
    """A study: what was asked, of which world, over which axes, and what was compared."""

    name: str
    question: str
    hypothesis: str
    prediction: str
    falsified_if: str
    world: str
    knobs: Mapping[str, Value]
    axes: tuple[Axis, ...]
    design: str
    arms: tuple[str, ...]
    contrasts: tuple[tuple[str, str], ...]
    metric: str
    cohort: str
    task: str
    rope: float
    looks: tuple[int, ...]

    @property
    def n_seeds(self) -> int:
        return self.looks[-1]

    @property
    def grid(self) -> bool:
        """Whether cells lie in rows and columns; else at points of their own."""
        return self.design in ("grid", "tune")

    @property
    def measure(self) -> str:
        """The metric as a figure names it."""
        return "AUC" if self.metric.startswith("auc") else self.metric


def read(raw: Mapping[str, Any], where: str) -> Outline:
    """The outline of a resolved study's tables. Raises InvalidStudy, naming the file and the key that is missing."""
    try:
        head, world, compare = raw["study"], raw["world"], raw["compare"]
        pairs = tuple((first, second) for first, second in compare["contrast"])
        return Outline(
            name=head["name"],
            **{key: head.get(key, "") for key in ("question", "hypothesis", "prediction", "falsified_if")},
            world=world["name"], knobs=dict(world.get("knobs", {})),
            axes=tuple(_axis(name, given) for name, given in raw["axes"].items()),
            design=raw.get("design", {}).get("kind", "grid"),
            arms=tuple(compare["arms"]), contrasts=pairs,
            **{key: compare[key] for key in ("metric", "cohort", "task", "rope")},
            looks=tuple(raw["seeds"]["looks"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidStudy(f"{where} is no resolved study ({type(error).__name__}: {error}); a run or --publish writes "
                           "it.") from None


def _axis(name: str, given: Mapping[str, Any]) -> Axis:
    if "values" in given:
        return Axis(name, tuple(given["values"]), given["scale"])
    return Axis(name, (given["low"], given["high"]), given["scale"], continuous=True)


def directions(study: Outline) -> tuple[Axis, list[Axis]]:
    """The axis along a map's columns (labels where swept, else the last that moves), and the others: rows first."""
    moving = [axis for axis in study.axes if len(axis.values) > 1] or list(study.axes)
    columns = next((axis for axis in moving if axis.name in LABELS), moving[-1])
    return columns, sorted((axis for axis in study.axes if axis is not columns), key=lambda a: len(a.values) == 1)
