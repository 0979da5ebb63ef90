"""Whole-stay training away from the CPU: nothing is forgotten there, the same numbers are drawn, what is kept is back.

Where there is no CUDA device, `elsewhere` stands for one (its docstring says what that proves and what it does not):
every stage's loss, gradient and step, the watching, the encoding and the roll-outs run on it, in each kind of encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import elsewhere
import numpy as np
import pytest
import tiny_qwen
import torch
from stays import stays

from simlab.errors import OutOfDomain
from simlab.models import hour_llm
from simlab.models.hour_encoder import HourEncoder
from simlab.models.hour_text import serialise
from simlab.models.windows import Windows, windows
from simlab.training import trajectory_loss, trajectory_run
from simlab.training.curricula import CURRICULA, MASKED, Curriculum, Stage
from simlab.training.trajectory import Backbone, Settings, train

TABULAR = Settings(width=6, hidden=8, inner=8, inside=16, depth=1, steps=4, batch=6, dropout=0.1, attention_dropout=0.1,
                   per_sample_k=True)
TEXT = replace(TABULAR, encoder="text", width=8, encoder_depth=1, batch=3)
LLM = replace(TEXT, encoder="llm")
# A step of every kind: each objective, target, context and roll-out.
EVERY = Curriculum("every", "each kind of stage once", (
    *(replace(stage, steps=1) for stage in (*CURRICULA["clin-jepa"].stages, replace(MASKED, train_encoder=True))),
    Stage("frozen-masked", steps=1, train_predictor=False, objective="masked", target="online"),
    Stage("gradient", steps=1, train_encoder=True, target="gradient"),
    Stage("lagging", steps=1, ema=True, context="ema", target="ema"),
    Stage("apart", steps=1, context="ema", target="online", rollout="teacher_forced"),
    Stage("behind", steps=1, target="ema", rollout="none"),
), regulariser="sigreg")
CASES = {
    "every stage": (EVERY, TABULAR),
    "vicreg": (replace(CURRICULA["vicreg"], actions="zero"), replace(TABULAR, mode="residual", cache=0.0)),
    "ema deployed": ("deploy-ema", replace(TABULAR, latent_norm="layernorm", reduction="sum", dropout=0.0)),
    "text": ("clin-jepa", TEXT),
    "llm": ("clin-jepa", LLM),
}


@pytest.fixture(scope="module")
def few() -> Windows:
    return windows(stays(n=6, hours=7, least=6))


def language_model(few: Windows) -> HourEncoder:
    """The same one in each call."""
    model, tokeniser = tiny_qwen.made(serialise(few)[0])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for x in model.parameters():
            x.copy_(0.1 * torch.randn(x.shape, generator=generator))
    return hour_llm.wrap(model, tokeniser, rank=2, alpha=4.0)


def backbone(few: Windows, name: str, device: str, **more: Any) -> Backbone:
    curriculum, settings = CASES[name]
    encoder = language_model(few) if settings.encoder == "llm" else None
    return train(few, few.take(np.arange(2)), curriculum, settings, encoder=encoder, device=device, **more)


def said(made: Backbone, few: Windows) -> list[np.ndarray]:
    """What it encodes, and what it rolls out."""
    z = made.encode(few)
    return [*z, made.rollout(z, 3, 3)]


def alike(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> None:
    """Up to float32's rounding: where dropout is off, attention is another kernel's. (Parameters are not compared: one
    whose gradient is rounding alone, a key's bias, moves by a whole step of Adam's.)"""
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def watched(made: Backbone) -> list[np.ndarray]:
    """Every number of the curve and of the diagnostics."""
    rows = [*made.curve, *made.diagnostics]
    return [np.array([x for x in row.values() if not isinstance(x, str)], dtype=np.float64) for row in rows]


def plain(made: Backbone) -> bool:
    """Whether all that is kept lies on the CPU, the encoder's own networks too."""
    held = [*made.parameters.values(), *made.target.values()]
    for part in vars(made.encoder).values():
        held += [*part.parameters(), *part.buffers()] if isinstance(part, torch.nn.Module) else []
    return all(x.device.type == "cpu" and not isinstance(x, elsewhere.There) for x in held)


@pytest.mark.parametrize("name", CASES)
def test_every_stage_trains_encodes_and_rolls_out_elsewhere_as_on_the_cpu(name: str, few: Windows) -> None:
    """The same draws give the same numbers; what is kept is read where there is no such device."""
    here = backbone(few, name, "cpu")
    with elsewhere.Elsewhere() as there:
        made = backbone(few, name, elsewhere.NAME)
        assert {"gelu_backward", "_foreach_lerp_", "_foreach_addcdiv_"} <= there.seen  # gradients, target, optimiser
        assert plain(made)
        there.seen.clear()
        z = made.encode(few)
        assert "mul" in there.seen
        there.seen.clear()
        rolled = made.rollout(z, 3, 3)
        assert "gelu" in there.seen
    assert plain(made)
    want = said(here, few)
    alike(want, [*z, rolled])
    alike(want, said(replace(made, device="cpu"), few))
    for a, b in zip(watched(here), watched(made), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)  # differences of parameters are among them


class Killed(Exception):
    pass


@pytest.mark.parametrize(("first", "then"), [("cpu", elsewhere.NAME), (elsewhere.NAME, "cpu")])
def test_a_checkpoint_of_either_device_is_gone_on_from_on_the_other(
    first: str, then: str, few: Windows, tmp_path: Path
) -> None:
    file = tmp_path / "c.pt"

    def kill(step: int, parts: dict[str, float]) -> None:
        if step == 4:
            raise Killed

    with elsewhere.Elsewhere():
        with pytest.raises(Killed):
            backbone(few, "every stage", first, checkpoint=file, every=3, report=kill)
        made = backbone(few, "every stage", then, checkpoint=file)
    saved = torch.load(file, weights_only=True)  # wherever it was made: plain tensors of the CPU
    assert saved["step"] == len(EVERY.stages) and saved["parameters"]["encoder.state.0.weight"].device.type == "cpu"
    alike(said(backbone(few, "every stage", "cpu"), few), said(replace(made, device="cpu"), few))


@pytest.mark.parametrize(("place", "name"), [
    (trajectory_run.Draw, "to"), (trajectory_run, "moved"), (trajectory_loss.Reach, "to")])
def test_what_is_forgotten_on_the_cpu_is_found(
    place: object, name: str, few: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With any one of the moves taken out."""
    monkeypatch.setattr(place, name, lambda x, device: x)
    with elsewhere.Elsewhere(), pytest.raises(elsewhere.Mixed):
        said(backbone(few, "every stage", elsewhere.NAME), few)


def test_the_device_that_stands_for_another_is_as_strict() -> None:
    """Numbers, gradients and steps are the CPU's; tensors of both devices in one operation are refused."""
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    with elsewhere.Elsewhere():
        there = x.to(elsewhere.NAME)
        w = x.T.contiguous().to(elsewhere.NAME).requires_grad_(True)
        (there @ w).square().sum().backward()
        assert w.grad.device.type == elsewhere.NAME and there.tolist() == x.tolist()
        torch.testing.assert_close(w.grad.cpu(), 2 * x.T @ (x @ x.T))
        torch.testing.assert_close((there + torch.ones(())).cpu(), x + 1)  # a number, as CUDA takes it
        for mixed in (lambda: there + x, lambda: torch.cat([there, x]), lambda: there @ x.T, lambda: there[[0]] * x[:1],
                      lambda: there[torch.arange(2)], lambda: x[torch.arange(2, device=elsewhere.NAME)],
                      lambda: torch.where(there > 0, x, there), lambda: torch.stack([there.sum(), torch.zeros(())])):
            with pytest.raises(elsewhere.Mixed):
                mixed()
        with pytest.raises((RuntimeError, TypeError), match="numpy"):
            there.numpy()


def test_a_device_that_is_not_there_is_one_line(few: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OutOfDomain, match="torch finds no CUDA device on this machine; use --device cpu"):
        backbone(few, "every stage", "cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device on this machine")
@pytest.mark.parametrize("name", CASES)
def test_on_a_cuda_device(name: str, few: Windows) -> None:
    """The same on a real one, where kernels round otherwise too: a few steps keep within a hundredth."""
    made = backbone(few, name, "cuda")
    assert plain(made)
    for a, b in zip(said(backbone(few, name, "cpu"), few), said(made, few), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-2)
