"""Hours as text: the paper's form, a vocabulary that loses nothing, encoders that are their last token's last layer."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny_qwen
import torch
from stays import stays

from simlab.errors import InvalidData, MissingExtra
from simlab.models import hour_llm
from simlab.models.hour_text import serialise, spell
from simlab.models.hour_words import Words, build
from simlab.models.windows import Windows, windows
from simlab.training.trajectory import Settings, find, train

SETTINGS = Settings(encoder="text", width=8, encoder_depth=1, inner=8, inside=16, depth=1, steps=8, batch=4)


@pytest.fixture(scope="module")
def few() -> Windows:
    return windows(stays(n=6, hours=7, least=6))


def test_texts_have_the_paper_s_form(few: Windows) -> None:
    """Against values of the cohort itself, and the two sentences of an empty hour."""
    inputs = stays(n=6, hours=7, least=6)
    texts, index = serialise(few)
    state, doses = inputs.streams["state"], inputs.streams["action"]
    for i, t in ((0, 0), (3, 5)):
        told = [f"Lab {c}: {state.values[i, t, c]:.4g} mmHg" for c in np.flatnonzero(state.observed[i, t])]
        assert texts[index["state"][i, t]] == f"t={t}h | {'. '.join(told) or 'No observations recorded'}."
        given = [f"Drug {c}: {doses.values[i, t, c]:.4g} mcg/h" for c in np.flatnonzero(doses.values[i, t])]
        assert texts[index["action"][i, t]] == f"t={t}h | {'. '.join(given) or 'No active interventions'}."
    own = inputs.streams["static"]
    told = [spell(n, float(own.values[2, 0, c]), u) for c, (n, u) in enumerate((("age", "years"), ("male", "1")))
            if own.observed[2, 0, c]]
    assert texts[index["static"][2]] == ". ".join(told) + "."
    assert len(set(texts)) == len(texts)
    assert [spell("ph", x, "1") for x in (-2e-8, 7.3512, 1e5)] == ["Ph: 0", "Ph: 7.351", "Ph: 1e+05"]
    blank = replace(few, observed=few.observed & False)
    assert "t=3h | No observations recorded." in serialise(blank)[0]
    assert "No observations recorded." in serialise(blank, clock=False)[0]


def test_a_vocabulary_spells_what_it_does_not_know_and_loses_nothing() -> None:
    words = Words.of(["t=12h | Heart rate: 88 bpm. MAP: 56 mmHg."], most=8)
    assert words.size == 2 + 256 + 8
    for text in ("t=12h | Heart rate: 88 bpm.", "Größe_x: -1.5e-05 µg; \n\tnew words", ""):
        assert words.decode(words.encode(text)) == text
        assert 0 not in words.encode(text) and words.encode(text)[-1] == 1


def test_a_latent_is_the_last_token_s_and_no_other_text_reaches_it(few: Windows) -> None:
    encoder = build(few, 8, 1, True)
    p = encoder.initialise(torch.Generator().manual_seed(0))
    z = encoder.encode(p, encoder.prepare(few))
    texts, index = serialise(few)
    for role, found in (("state", z.state[1, 4]), ("action", z.action[2, 0])):
        text = texts[index[role][(1, 4) if role == "state" else (2, 0)]]
        tokens = torch.tensor([encoder.words.encode(text)])
        alone = encoder.last_layer(p, tokens, torch.ones_like(tokens, dtype=torch.bool))[0, -1]
        torch.testing.assert_close(found, alone, rtol=0, atol=1e-5)
    tokens = torch.tensor([encoder.words.encode(texts[0])])
    there = torch.ones_like(tokens, dtype=torch.bool)
    other = tokens.clone()
    other[0, -1] = 70
    a, b = (encoder.last_layer(p, x, there)[0] for x in (tokens, other))
    torch.testing.assert_close(a[:-1], b[:-1], rtol=0, atol=0)


def test_next_token_training_lowers_the_loss_below_that_of_chance(few: Windows) -> None:
    """Phase 0 in text: cross-entropy begins near log of the vocabulary and falls well below."""
    settings = replace(SETTINGS, steps=150, rate_encoder=2e-2, rate_predictor=2e-2)
    backbone = train(few, few, find("phase0-only").without("predictor"), settings)
    chance = np.log(backbone.encoder.words.size)  # type: ignore[attr-defined]
    assert backbone.curve[0]["loss"] > 0.9 * chance
    assert backbone.diagnostics[0]["validation"] < 0.6 * chance


def test_a_text_curriculum_runs_whole_and_rolls_out(few: Windows) -> None:
    backbone = train(few, few, "clin-jepa", SETTINGS)
    z = backbone.encode(few)
    assert z.state.shape == (6, 7, 8) and not z.state[~few.valid].any()
    assert np.isfinite(backbone.rollout(z, 3, 3)).all()


@pytest.fixture(scope="module")
def qwen(few: Windows) -> hour_llm.LanguageModel:
    """A Qwen3 of a few thousand random parameters, and a tokeniser trained on our own texts."""
    return tiny(few)


def tiny(few: Windows) -> hour_llm.LanguageModel:
    return hour_llm.wrap(*tiny_qwen.made(serialise(few)[0]), rank=2, alpha=4.0)


def test_lora_is_on_four_projections_and_begins_as_the_base_says(qwen: hour_llm.LanguageModel, few: Windows) -> None:
    p = qwen.initialise(torch.Generator().manual_seed(0))
    assert qwen.width == 16 and len(p) == 2 * 4 * 2  # A and B, q k v o, two layers
    inputs, outputs = {"q": 16, "k": 16, "v": 16, "o": 16}, {"q": 16, "k": 8, "v": 8, "o": 16}
    assert sum(x.numel() for x in p.values()) == 2 * sum(2 * (inputs[k] + outputs[k]) for k in "qkvo")
    text = "t=1h | Lab 0: 51.2 mmHg."
    tokens = torch.tensor(qwen.numbers([text]))
    there = torch.ones_like(tokens, dtype=torch.bool)
    before = qwen.last_layer(p, tokens, there)
    base = qwen.body(input_ids=tokens, output_hidden_states=True)
    torch.testing.assert_close(before, base.hidden_states[-1], rtol=0, atol=1e-6)
    moved = {k: x + 0.5 for k, x in p.items()}
    assert (qwen.last_layer(moved, tokens, there) - before).abs().max() > 1e-3


def test_a_language_model_goes_through_the_whole_curriculum_and_its_base_stands_still(
    qwen: hour_llm.LanguageModel, few: Windows
) -> None:
    base = {k: x.clone() for k, x in qwen.body.state_dict().items()}
    backbone = train(few, few, "clin-jepa", replace(SETTINGS, encoder="llm"), encoder=qwen)
    assert all(torch.equal(x, base[k]) for k, x in qwen.body.state_dict().items())
    assert any(x.abs().max() > 0 for k, x in backbone.parameters.items() if "lora_B" in k)
    z = backbone.encode(few)
    assert z.state.shape == (6, 7, 16) and z.state.dtype == np.float32
    assert np.isfinite(backbone.rollout(z, 3, 3)).all()


def test_padding_between_texts_reaches_no_latent(qwen: hour_llm.LanguageModel) -> None:
    p = qwen.initialise(torch.Generator().manual_seed(0))
    short, long = qwen.numbers(["t=1h | No active interventions.", "t=1h | Lab 0: 51.2 mmHg. Lab 1: 9.87 mmHg."])
    both = torch.zeros(2, max(len(short), len(long)), dtype=torch.long)
    for row, x in zip(both, (short, long), strict=True):
        row[: len(x)] = torch.tensor(x)
    count = torch.tensor([len(short), len(long)])
    there = torch.arange(both.shape[1]) < count[:, None]
    together = qwen.last_layer(p, both, there)[torch.arange(2), count - 1]
    for i, x in enumerate((short, long)):
        alone = torch.tensor([x])
        last = qwen.last_layer(p, alone, torch.ones_like(alone, dtype=torch.bool))[0, -1]
        torch.testing.assert_close(together[i], last, rtol=0, atol=1e-5)


def test_without_the_extra_one_line_says_what_to_install(few: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"encoder = 'llm' needs transformers: pip install 'simlab\[llm\]'"):
        train(few, few, "clin-jepa", replace(SETTINGS, encoder="llm"))


def test_a_model_that_cannot_be_had_is_named(few: Windows, tmp_path) -> None:
    pytest.importorskip("transformers", reason="needs the extra llm")
    pytest.importorskip("peft", reason="needs the extra llm")
    with pytest.raises(InvalidData, match="neither a folder nor a model"):
        train(few, few, "clin-jepa", replace(SETTINGS, encoder="llm", llm=str(tmp_path)))
