"""Hours as text, in the form of Clin-JEPA's, and what encoders of text share.

    state   t=12h | Heart rate: 88 bpm. MAP: 56 mmHg.     t=12h | No observations recorded.
    action  t=12h | Norepinephrine: 0.08 mcg/kg/min.      t=12h | No active interventions.
    static  Age: 53 years. Male: 1.

One encoder reads all three; a latent is the last layer at a text's last token. Texts are told apart once: windows
overlap and empty hours repeat. The warm start (phase 0) is next-token prediction on states and actions. Values are
those of the windows (drawn in to 8 deviations, four digits); channels have the cohort's names.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from simlab.models.hour_encoder import HourEncoder, Latents, Parameters, Prepared
from simlab.models.windows import Scaling, Windows

EMPTY = {"state": "No observations recorded.", "action": "No active interventions.", "static": "Nothing known."}
TEXTS = 256  # that are encoded at a time


def spell(name: str, value: float, unit: str) -> str:
    """One reading: `Heart rate: 88 bpm`; a unit of 1 is none."""
    words = name.replace("_", " ")
    value = round(value, 6) + 0.0  # what scaling left of a zero is a zero, and no minus
    return f"{words[:1].upper()}{words[1:]}: {value:.4g}{'' if unit in ('', '1') else f' {unit}'}"


def sentence(role: str, of: Scaling, values: Float[np.ndarray, "channels"], told: Bool[np.ndarray, "channels"]) -> str:
    """All that is told, in the channels' order."""
    said = [spell(of.channels[c], float(values[c]), of.units[c]) for c in np.flatnonzero(told)]
    return ". ".join(said) + "." if said else EMPTY[role]


def serialise(windows: Windows, clock: bool = True) -> tuple[list[str], dict[str, Int[np.ndarray, "..."]]]:
    """Distinct texts, and which of them each hour's state and action and each window's static is (0 beyond a window's
    length). `clock`: whether hours begin with the stay's hour, as in the paper."""
    shown = windows.presentation
    values = {"state": shown.state.back(windows.state), "action": shown.action.back(windows.action)}
    told = {"state": windows.observed, "action": windows.action != 0}
    scaling = {"state": shown.state, "action": shown.action}
    number: dict[str, int] = {}
    index = {role: np.zeros((len(windows), windows.hours), np.int64) for role in values}
    for i, length in enumerate(windows.length):
        for t in range(length):
            hour = f"t={windows.start[i] + t}h | " if clock else ""
            for role, x in values.items():
                text = hour + sentence(role, scaling[role], x[i, t], told[role][i, t])
                index[role][i, t] = number.setdefault(text, len(number))
    known = windows.static.shape[1] // 2
    own, there = shown.static.back(windows.static[:, :known]), windows.static[:, known:] > 0
    index["static"] = np.array([
        number.setdefault(sentence("static", shown.static, x, seen), len(number))
        for x, seen in zip(own, there, strict=True)
    ])
    return list(number), index


class ByText(HourEncoder):
    """An encoder that reads texts: a subclass tells tokens and the last layer."""

    clock: bool = True

    @abstractmethod
    def numbers(self, texts: Sequence[str]) -> list[list[int]]:
        """Every text's tokens, an end among them; none is 0 (padding is)."""

    @abstractmethod
    def last_layer(
        self, parameters: Parameters, tokens: Int[Tensor, "texts tokens"], there: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts tokens width"]:
        """What the last layer says at every token, from it and those before."""

    @abstractmethod
    def logits(
        self, parameters: Parameters, layer: Float[Tensor, "texts tokens width"]
    ) -> Float[Tensor, "texts tokens vocabulary"]:
        """Of the next token."""

    def prepare(self, windows: Windows) -> Prepared:
        texts, index = serialise(windows, self.clock)
        numbers = self.numbers(texts)
        count = torch.tensor([len(x) for x in numbers])
        table = torch.zeros(len(texts), int(count.max()), dtype=torch.int32)
        for row, x in zip(table, numbers, strict=True):
            row[: len(x)] = torch.tensor(x, dtype=torch.int32)
        places = {role: torch.as_tensor(index[role]) for role in index}
        return {"hour/state": places["state"], "hour/action": places["action"], "record/static": places["static"],
                "table/tokens": table, "table/count": count}

    def encode(self, parameters: Parameters, batch: Prepared) -> Latents:
        places = [batch["hour/state"], batch["hour/action"], batch["record/static"]]
        distinct, back = torch.unique(torch.cat([x.flatten() for x in places]), return_inverse=True)
        parts = []
        for some in distinct.split(TEXTS):
            tokens, there, count = _cut(batch, some)
            layer = self.last_layer(parameters, tokens, there)
            parts.append(layer[torch.arange(len(some), device=count.device), count - 1])
        z = torch.cat(parts).float()[back]
        parts = z.split([x.numel() for x in places])
        return Latents(*(part.unflatten(0, x.shape) for part, x in zip(parts, places, strict=True)))

    def warm(self, parameters: Parameters, batch: Prepared, length: Int[Tensor, "n"]) -> Float[Tensor, ""]:
        there = torch.arange(batch["hour/state"].shape[1], device=length.device) < length[:, None]
        places = torch.cat([batch["hour/state"][there], batch["hour/action"][there]])
        tokens, there, _ = _cut(batch, torch.unique(places))
        logits = self.logits(parameters, self.last_layer(parameters, tokens, there)[:, :-1])
        goal = tokens[:, 1:].long().masked_fill(~there[:, 1:], -100)
        return functional.cross_entropy(logits.flatten(0, 1).float(), goal.flatten())


def _cut(
    batch: Mapping[str, Tensor], texts: Int[Tensor, "texts"]
) -> tuple[Int[Tensor, "texts tokens"], Bool[Tensor, "texts tokens"], Int[Tensor, "texts"]]:
    """These texts' tokens, as many as the longest has, which of them exist, and how many."""
    count = batch["table/count"][texts]
    tokens = batch["table/tokens"][texts, : int(count.max())].long()
    return tokens, torch.arange(tokens.shape[1], device=count.device) < count[:, None], count
