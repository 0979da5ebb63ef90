"""Encoders of an hour: state, action and static each to a latent of one width; and the tabular one.

A trainer knows `HourEncoder` alone. The tabular encoder has a network for each stream (a state is value, measured and
gap of every channel); text encoders (`hour_text`, `hour_llm`) have one for all three. In either an hour is encoded
from what that hour holds; what goes on over time is the predictor's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from simlab.models import fleet
from simlab.models.windows import Windows

Parameters = Mapping[str, Tensor]
Prepared = Mapping[str, Tensor]


class Latents(NamedTuple):
    """Latents of windows, as tensors or (outside training) as numpy arrays; zero beyond a window's length."""

    state: Float[Tensor, "n hours width"] | Float[np.ndarray, "n hours width"]
    action: Float[Tensor, "n hours width"] | Float[np.ndarray, "n hours width"]
    static: Float[Tensor, "n width"] | Float[np.ndarray, "n width"]


class HourEncoder(ABC):
    """`width` of its latents. Parameters are named "encoder.…", those of the warm start's head "warm.…"."""

    width: int

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Fresh parameters."""

    @abstractmethod
    def head(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Fresh parameters of the warm start alone; none where it needs none."""

    @abstractmethod
    def prepare(self, windows: Windows) -> Prepared:
        """What is read of windows: "hour/…" (n, hours, …), "record/…" (n, …), and "table/…", shared by all."""

    @abstractmethod
    def encode(self, parameters: Parameters, batch: Prepared) -> Latents:
        """All three streams' latents."""

    @abstractmethod
    def warm(self, parameters: Parameters, batch: Prepared, length: Int[Tensor, "n"]) -> Float[Tensor, ""]:
        """The loss of the warm start (phase 0)."""

    @contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        """Meanwhile what it holds itself lies on this device, beside the parameters and batches that it is given."""
        yield


def take(prepared: Prepared, rows: Int[Tensor, "taken"], hours: int) -> Prepared:
    """These windows' first hours."""
    return {name: x if name.startswith("table/") else x[rows][:, :hours] if name.startswith("hour/") else x[rows]
            for name, x in prepared.items()}


@dataclass(frozen=True)
class Tabular(HourEncoder):
    """MLPs (two hidden layers) of each stream; warm start: one linear map of the three latents of an hour to the next
    hour's measured values and actions, squared error."""

    channels: int
    actions: int
    statics: int
    width: int = 32
    hidden: int = 64
    clock: bool = True  # whether states and actions tell the hour of the stay, as the paper's texts do
    day: float = 72.0  # hours that count as one on that clock

    @property
    def inputs(self) -> dict[str, int]:
        return {"state": 3 * self.channels + 1, "action": self.actions + 1, "static": max(self.statics, 1)}

    def initialise(self, generator: torch.Generator) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        for stream, inputs in self.inputs.items():
            made |= fleet.initialise(f"encoder.{stream}", (inputs, self.hidden, self.hidden, self.width), [generator])
        return {name: x[0] for name, x in made.items()}

    def head(self, generator: torch.Generator) -> dict[str, Tensor]:
        made = fleet.initialise("warm", (3 * self.width, self.channels + self.actions), [generator])
        return {name: x[0] for name, x in made.items()}

    def prepare(self, windows: Windows) -> Prepared:
        hour = (windows.start[:, None] + np.arange(windows.hours))[..., None] / self.day * windows.valid[..., None]
        hour = (hour if self.clock else 0 * hour).astype(np.float32)
        state = np.concatenate([windows.state, windows.observed, windows.gap, hour], axis=2, dtype=np.float32)
        static = windows.static if self.statics else np.zeros((len(windows), 1), np.float32)
        action = np.concatenate([windows.action, hour], axis=2, dtype=np.float32)
        return {"hour/state": torch.as_tensor(state), "hour/action": torch.as_tensor(action),
                "record/static": torch.as_tensor(static)}

    def encode(self, parameters: Parameters, batch: Prepared) -> Latents:
        n, hours = batch["hour/state"].shape[:2]
        own = {name: x[None] for name, x in parameters.items() if name.startswith("encoder.")}
        state, action = (
            fleet.apply(own, f"encoder.{s}", batch[f"hour/{s}"].flatten(0, 1)[None])[0].unflatten(0, (n, hours))
            for s in ("state", "action")
        )
        return Latents(state, action, fleet.apply(own, "encoder.static", batch["record/static"][None])[0])

    def warm(self, parameters: Parameters, batch: Prepared, length: Int[Tensor, "n"]) -> Float[Tensor, ""]:
        z = self.encode(parameters, batch)
        before = torch.cat([z.state, z.action, z.static[:, None].expand_as(z.state)], dim=2)[:, :-1]
        made = before @ parameters["warm.0.weight"] + parameters["warm.0.bias"]
        goal = torch.cat([batch["hour/state"][:, 1:, : self.channels], batch["hour/action"][:, 1:, :-1]], dim=2)
        there = (torch.arange(1, goal.shape[1] + 1, device=length.device) < length[:, None])[..., None]
        seen = batch["hour/state"][:, 1:, self.channels : 2 * self.channels]
        counts = torch.cat([seen, there.expand(-1, -1, self.actions)], dim=2)
        return ((made - goal).square() * counts).sum() / counts.sum().clamp_min(1)
