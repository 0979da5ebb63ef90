"""A Qwen3 of a few thousand random parameters, and a tokeniser trained on texts of our own: nothing is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch


def made(texts: Sequence[str]) -> tuple[Any, Any]:
    """Model and tokeniser, as transformers has them. Skips the test without the extra `llm`."""
    transformers = pytest.importorskip("transformers", reason="needs the extra llm")
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra llm")
    pytest.importorskip("peft", reason="needs the extra llm")
    own = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>", "<end>", "<unk>"],
                                             show_progress=False)
    own.train_from_iterator(texts, trainer)
    tokeniser = transformers.PreTrainedTokenizerFast(tokenizer_object=own, pad_token="<pad>", eos_token="<end>",
                                                     unk_token="<unk>")
    config = transformers.Qwen3Config(
        vocab_size=len(tokeniser), hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=128, tie_word_embeddings=True)
    with torch.random.fork_rng(devices=[]):
        model = transformers.Qwen3ForCausalLM(config)
    return model, tokeniser
