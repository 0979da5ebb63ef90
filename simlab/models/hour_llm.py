"""A Hugging Face causal language model with LoRA as the encoder of hours: what Clin-JEPA has (Qwen3-8B).

The base stands still and is shared by the online and the target encoder; each of these is a set of LoRA matrices on the
attention's four projections (kept in float32: 1 - tau = .004 is at bfloat16's resolution). A latent is the last layer's
hidden state at a text's last token, without projection. Needs the extra `llm` (transformers, peft); models come from
a folder or the hub, by name. Not built: packing of texts into one sequence, gradient checkpointing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import functional_call

from simlab.errors import InvalidData, MissingExtra
from simlab.models.hour_encoder import Parameters
from simlab.models.hour_text import ByText

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True, eq=False)
class LanguageModel(ByText):
    """`body`: the model without its head, LoRA injected; `read`: the head; `tokeniser`: of transformers."""

    width: int
    body: torch.nn.Module
    read: torch.nn.Module
    tokeniser: Any
    longest: int = 4096  # tokens of a text, the end among them
    clock: bool = True

    def initialise(self, generator: torch.Generator) -> dict[str, Tensor]:
        """A from U(-1/sqrt(inputs), 1/sqrt(inputs)), B zero, as peft does: the model begins as its base."""
        made = {}
        for name, x in self._adapters():
            fresh = (2 * torch.rand(x.shape, generator=generator) - 1) / x.shape[-1] ** 0.5
            made[f"encoder.{name}"] = torch.zeros(x.shape) if "lora_B" in name else fresh
        return made

    def head(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {}

    def numbers(self, texts: Sequence[str]) -> list[list[int]]:
        end = self.tokeniser.eos_token_id
        return [[*tokens[: self.longest - 1], end] for tokens in self.tokeniser(list(texts))["input_ids"]]

    def last_layer(
        self, parameters: Parameters, tokens: Int[Tensor, "texts tokens"], there: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts tokens width"]:
        own = {name: parameters[f"encoder.{name}"] for name, _ in self._adapters()}
        asked = {"input_ids": tokens, "attention_mask": there.long(), "use_cache": False}
        return functional_call(self.body, own, args=(), kwargs=asked).last_hidden_state

    def logits(
        self, parameters: Parameters, layer: Float[Tensor, "texts tokens width"]
    ) -> Float[Tensor, "texts tokens vocabulary"]:
        return self.read(layer)

    @contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        """The base there, and back on the CPU afterwards: a device holds one base at a time, whatever was trained."""
        try:
            for part in (self.body, self.read):
                part.to(device)
            yield
        finally:
            for part in (self.body, self.read):
                part.to("cpu")

    def _adapters(self) -> list[tuple[str, Tensor]]:
        return [(name, x) for name, x in self.body.named_parameters() if "lora_" in name]


def load(name: str, rank: int, alpha: float, longest: int = 4096, clock: bool = True) -> LanguageModel:
    """The model of this name or folder. Raises MissingExtra, InvalidData where it cannot be had."""
    library = _library("transformers")
    try:
        model = library.AutoModelForCausalLM.from_pretrained(name)
        tokeniser = library.AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _absent(name, str(error).strip().splitlines()[0]) from error
    return wrap(model, tokeniser, rank, alpha, longest, clock)


def check(name: str) -> None:
    """Refuse what `load` could not: a missing library, a model whose configuration, tokeniser or (of a folder) weights
    are not there. Loads no weights, fetches none. Raises MissingExtra, InvalidData."""
    library = _library("transformers")
    _library("peft")
    try:
        library.AutoConfig.from_pretrained(name)
        library.AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _absent(name, str(error).strip().splitlines()[0]) from error
    if Path(name).is_dir() and not any(p.suffix in (".safetensors", ".bin") for p in Path(name).iterdir()):
        raise _absent(name, "its folder holds no weights")


def _absent(name: str, why: str) -> InvalidData:
    return InvalidData(f"llm = {name!r}: neither a folder nor a model that can be fetched ({why}).")


def wrap(
    model: Any, tokeniser: Any, rank: int, alpha: float, longest: int = 4096, clock: bool = True
) -> LanguageModel:
    """A causal language model of transformers, changed in place: frozen, LoRA injected. Raises MissingExtra."""
    peft = _library("peft")
    model.requires_grad_(False)
    model.eval()
    body, read = model.get_decoder(), model.get_output_embeddings()
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(PROJECTIONS), lora_dropout=0.0, bias="none")
    with torch.random.fork_rng(devices=[]):  # peft draws first weights from torch's global state; ours replace them
        peft.inject_adapter_in_model(config, body)
    return LanguageModel(body.config.hidden_size, body, read, tokeniser, longest, clock)


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtra(f"encoder = 'llm' needs {name}: pip install 'simlab[llm]' "
                           f"({type(error).__name__}: {error}).") from error
