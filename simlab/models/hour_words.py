"""A small text transformer over hours, with a vocabulary made from the training texts: nothing is fetched.

Words (each with the space before it) that training texts use often are one token, digits one each, all else is spelled
in bytes. A causal pre-norm transformer with sinusoidal positions reads them (no limit to a text's length).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from simlab.models.hour_encoder import Parameters
from simlab.models.hour_text import ByText, serialise
from simlab.models.sequence import positions
from simlab.models.trajectory import Predictor
from simlab.models.windows import Windows

PIECE = re.compile(r" ?[^\W\d]+| ?\d|\s|[^\w\s]|_")
END, BYTES = 1, 2  # 0 is padding; 256 bytes from here on, then words
MOST = 512  # words of a vocabulary


@dataclass(frozen=True)
class Words:
    """A vocabulary: the number of each word; whatever is not among them is spelled in bytes."""

    number: Mapping[str, int]

    @classmethod
    def of(cls, texts: Sequence[str], most: int = MOST) -> Words:
        """The most frequent pieces of these texts (ties in the order of the alphabet)."""
        counts = Counter(piece for text in texts for piece in PIECE.findall(text))
        kept = sorted(counts, key=lambda piece: (-counts[piece], piece))[:most]
        return cls({piece: BYTES + 256 + i for i, piece in enumerate(kept)})

    @property
    def size(self) -> int:
        return BYTES + 256 + len(self.number)

    def encode(self, text: str) -> list[int]:
        """Its tokens, and the end."""
        made: list[int] = []
        for piece in PIECE.findall(text):
            known = self.number.get(piece)
            made += [known] if known is not None else [BYTES + b for b in piece.encode()]
        return [*made, END]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, up to the end."""
        words = {i: piece for piece, i in self.number.items()}
        said = b""
        for token in tokens:
            if token == END:
                break
            said += words[token].encode() if token in words else bytes([token - BYTES])
        return said.decode()


@dataclass(frozen=True)
class TextTransformer(ByText):
    """`width` is that of its tokens and of latents alike: no projection stands between."""

    words: Words
    width: int
    depth: int = 2
    heads: int = 2
    clock: bool = True

    @property
    def _body(self) -> Predictor:
        return Predictor(self.width, self.width, self.depth, self.heads, 4 * self.width)

    def initialise(self, generator: torch.Generator) -> dict[str, Tensor]:
        fresh = self._body.initialise(generator, "encoder")
        made = {name: x for name, x in fresh.items() if name.split(".")[1].isdigit()}
        made["encoder.word"] = torch.randn(self.words.size, self.width, generator=generator)
        return made | {"encoder.last.weight": torch.ones(self.width), "encoder.last.bias": torch.zeros(self.width)}

    def head(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {"warm.word": torch.randn(self.words.size, self.width, generator=generator) / self.width**0.5}

    def numbers(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.words.encode(text) for text in texts]

    def last_layer(
        self, parameters: Parameters, tokens: Int[Tensor, "texts tokens"], there: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts tokens width"]:
        long = tokens.shape[1]
        x = parameters["encoder.word"][tokens] + positions(long, self.width).to(tokens.device)
        causal = torch.ones(long, long, dtype=torch.bool, device=tokens.device).tril()
        x, _, _ = self._body.blocks(parameters, x, causal, prefix="encoder")
        last = parameters["encoder.last.weight"], parameters["encoder.last.bias"]
        return functional.layer_norm(x, (self.width,), *last)

    def logits(
        self, parameters: Parameters, layer: Float[Tensor, "texts tokens width"]
    ) -> Float[Tensor, "texts tokens vocabulary"]:
        return layer @ parameters["warm.word"].T


def build(windows: Windows, width: int, depth: int, clock: bool) -> TextTransformer:
    """For the texts of these (training) windows."""
    return TextTransformer(Words.of(serialise(windows, clock)[0]), width, depth, clock=clock)
