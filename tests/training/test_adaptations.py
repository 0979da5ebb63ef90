"""Adaptations: what moves and what does not, rates, equal budgets; of encoders of features and of tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from simlab.evaluation.auc import label_auc
from simlab.methods import METHODS
from simlab.models import tokens
from simlab.training import finetune, token_encoders
from simlab.training.data import Bench, Labelled
from simlab.training.pretrain import Settings, random_encoders
from simlab.training.run import run_arm

SETTINGS = Settings(encoder="mlp", width=3, hidden=8, depth=2, decay="none", finetune_steps=9)
LAYOUT = tokens.Layout((tokens.Source("ct", "image", 4, 2), tokens.Source("labs", "clinical", 4, 2)))
READS = ("features", "tokens")


def bench(reads: str, n: int = 120, settings: Settings = SETTINGS) -> Bench:
    """Records whose first image feature, at the last visit, carries the label."""
    draw = np.random.default_rng(2)
    values = draw.standard_normal((n, 4, 4)).astype(np.float32)
    y = (values[:, 1, 0] + 0.3 * draw.standard_normal(n) > 0).astype(float)
    views = {"image": values[:, 1], "clinical": values[:, 3], "tokens": values,
             "times": np.tile(np.array([0, 1, 0, 1], np.float32), (n, 1))}  # fmt: skip
    if reads == "features":
        encoders = random_encoders({"image": 4, "clinical": 4}, settings, [3])[0]
    else:
        encoders = token_encoders.random_encoders(LAYOUT, METHODS["multimodal-jepa-frozen"], settings, [3])[0]
    return Bench(Labelled(views, y, np.arange(n)), views, encoders, settings, 7)


def method(reads: str, way: str):
    return METHODS[f"{'jepa' if reads == 'features' else 'multimodal-jepa'}-{way}"]


def trained(reads: str, way: str, rate: float = 1.0) -> tuple[finetune.Network, dict[str, torch.Tensor], Bench]:
    on = bench(reads, settings=replace(SETTINGS, encoder_rate=rate))
    network = finetune.Network(method(reads, way), on)
    y = torch.as_tensor(on.train.y, dtype=torch.float32)
    everyone = torch.ones(1, len(y), dtype=torch.bool)
    return network, finetune._train(network, y, everyone, [0.0], 4, lambda *_: None), on


@pytest.mark.parametrize("reads", READS)
def test_what_moves_is_what_the_adaptation_says(reads: str) -> None:
    found = {way: set(trained(reads, way)[0].moving) for way in ("frozen-mlp", "partial", "finetuned")}
    assert found["frozen-mlp"] == set()
    assert set() < found["partial"] < found["finetuned"] == set(bench(reads).encoders.own())
    if reads == "tokens":
        assert all(name.startswith(("encoder.block.1.", "encoder.out.")) for name in found["partial"])
    else:
        assert {name.split(".")[1] for name in found["partial"]} == {"2"}  # the last of three layers
    for way in found:
        network, final, on = trained(reads, way, 0.5)
        shown = network.logits(final, network.shown)[0].numpy()
        np.testing.assert_allclose(network.fitted(final)(on.train.views), shown, atol=1e-5)  # what is kept is the same
        moved = {k for k in network.moving if final[k].abs().sum() > 0}
        assert moved == {k for k in network.moving if "fade" not in k}
        assert final["head.0.weight"].abs().sum() > 0


@pytest.mark.parametrize("reads", READS)
def test_encoders_learn_at_their_own_rate(reads: str) -> None:
    """Adam's first two steps (the head says nothing before the first) move each weight by about the rate: ten times as
    far at ten times the rate, whatever the head does."""
    size = {}
    for rate in (0.1, 1.0):
        on = bench(reads, settings=replace(SETTINGS, encoder_rate=rate))
        network = finetune.Network(method(reads, "finetuned"), on)
        y = torch.as_tensor(on.train.y, dtype=torch.float32)
        final = finetune._train(network, y, torch.ones(1, len(y), dtype=torch.bool), [0.0], 2, lambda *_: None)
        name = next(k for k in network.moving if k.endswith(".weight"))
        size[rate] = float((rate * final[name]).abs().mean())
        head = float(final["head.0.weight"].abs().mean())
        assert head == pytest.approx(2 * finetune.RATE, rel=0.5)
    assert size[1.0] / size[0.1] == pytest.approx(10, rel=0.2)
    assert size[1.0] == pytest.approx(finetune.RATE, rel=0.5)


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("way", ["frozen", "frozen-ridge", "frozen-mlp", "partial", "finetuned"])
def test_every_adaptation_finds_a_label_that_is_there(reads: str, way: str) -> None:
    on = bench(reads, 200, replace(SETTINGS, width=12, depth=1, finetune_steps=18))
    fit = run_arm(method(reads, way), on)
    scores = fit.score(on.train.views)
    assert np.isfinite(scores).all() and label_auc(scores, on.train.y).value > 0.75
    part = {k: v[:50] for k, v in on.train.views.items()}
    np.testing.assert_allclose(fit.score(part), scores[:50], atol=1e-5)


def test_a_frozen_head_does_not_touch_the_encoder_and_a_scratch_arm_has_no_anchor() -> None:
    on = bench("tokens")
    before = {k: v.clone() for k, v in on.encoders.parameters.items()}
    for name in ("multimodal-jepa-frozen-mlp", "supervised-tokens"):
        run_arm(METHODS[name], on)
    assert all(torch.equal(v, on.encoders.parameters[k]) for k, v in before.items())
    network = finetune.Network(METHODS["supervised-tokens"], on)
    start = network.parameters(1)
    expected = sum(float(v.square().sum()) for v in on.encoders.parameters.values())
    assert float(network.departure(start)) == pytest.approx(expected, rel=1e-4)
    anchored = finetune.Network(METHODS["multimodal-jepa-finetuned"], on)
    assert float(anchored.departure(anchored.parameters(1))) == 0.0


class Seen(Exception):
    pass


def test_every_gradient_adaptation_has_the_same_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """36 candidates, 4 penalties x 9 stopping times in three folds, for each way and both kinds of encoder: what the
    first fleet, that of tuning, is made of."""
    found: list[tuple[int, int]] = []

    def first(network: object, y: object, masks: torch.Tensor, penalties: object, steps: int, look: object) -> None:
        found.append((len(masks), steps))
        raise Seen

    monkeypatch.setattr(finetune, "_train", first)
    for reads in READS:
        for way in ("frozen-mlp", "partial", "finetuned"):
            with pytest.raises(Seen):
                run_arm(method(reads, way), bench(reads))
    assert found == [(len(finetune.PENALTIES) * finetune.FOLDS, SETTINGS.finetune_steps)] * 6
    assert len(finetune.PENALTIES) * finetune.LOOKS == 36
