"""The arm `li2025`: attention, signature token, axes; and that a sweep runs it on vectors and on volumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import nn

from simlab.environments.scenario import sample_cohort
from simlab.methods import METHODS
from simlab.models import transformer
from simlab.models.token_encoder import TokenEncoder, batch_of
from simlab.models.tokens import Layout, Source
from simlab.sweep import keys, packing, stages
from simlab.sweep.job import run_job
from simlab.sweep.plan import Job
from simlab.sweep.schema import Compare, Study, Train
from simlab.training.pretrain import Settings

WIDTH, TOKENS = 8, 5


def released(
    x: Float[np.ndarray, "tokens width"], packed: Float[np.ndarray, "width three_width"],
    mix: Float[np.ndarray, "width width"], a: Float[np.ndarray, "heads"], c: Float[np.ndarray, "heads"],
    months: Float[np.ndarray, "tokens"], padded: np.ndarray, by_key: bool,
) -> Float[np.ndarray, "tokens width"]:
    """x plus one layer of temporal emphasis as the published description has it, head by head and row by row:

        logits = (relu(q k') R + M)/sqrt(d),  R = 1/(1 + exp(|a| r - |c|)),  M = -9e15 on padding

    r_ij = |t_0 - t_i|, whatever j, in the released code; |t_0 - t_j| where old keys are to fade (`by_key`).
    """
    normed = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    q, k, v = np.split(normed @ packed, 3, axis=1)
    d, made = WIDTH // len(a), np.zeros_like(x)
    for h in range(len(a)):
        own = slice(h * d, (h + 1) * d)
        for i in range(TOKENS):
            logits = np.array([
                (max(q[i, own] @ k[j, own], 0) / (1 + np.exp(abs(a[h]) * months[j if by_key else i] - abs(c[h])))
                 + (-9e15 if padded[j] else 0)) / np.sqrt(d) for j in range(TOKENS)])
            weight = np.exp(logits - logits.max())
            made[i, own] = weight / weight.sum() @ v[:, own]
    return x + made @ mix


@pytest.mark.parametrize("decay", ["key", "query"])
def test_the_attention_is_the_published_one_by_query_and_its_description_by_key(decay: str) -> None:
    g = torch.Generator().manual_seed(4)
    parameters = transformer.initialise("b", WIDTH, 1, [g])
    for name in ("weight", "bias"):
        parameters[f"b.0.mlp.1.{name}"] = torch.zeros_like(parameters[f"b.0.mlp.1.{name}"])  # the attention alone
    x = torch.randn(1, 1, TOKENS, WIDTH, generator=g)
    age = torch.tensor([[[0.0, 0.3, 0.7, 1.2, 5.0]]])
    padded = np.array([False, False, True, False, True])
    found = transformer.apply(parameters, "b", x, torch.as_tensor(~padded)[None, None], age, decay)[0, 0].numpy()
    a, c = parameters["b.0.fade"][0].double().numpy()
    expected = released(x[0, 0].double().numpy(), parameters["b.0.qkv"][0].double().numpy(),
                        parameters["b.0.mix"][0].double().numpy(), a, c,
                        12 * age[0, 0].double().numpy(), padded, decay == "key")
    np.testing.assert_allclose(found[~padded], expected[~padded], atol=2e-6)  # nobody asks what padding makes


def test_a_signature_token_is_a_perceptron_of_torchs() -> None:
    layout = Layout((Source("ct", "image", 64, 2, sides=(4, 4, 4)), Source("signatures", "clinical", 6, 2)))
    one = TokenEncoder(layout, "transformer", 5, 16, 1, vectors="mlp")
    g = [torch.Generator().manual_seed(1)]
    parameters = one.initialise(g)
    tokens = torch.randn(1, 3, 4, 64, generator=g[0])
    batch = batch_of(tokens, torch.zeros(1, 3, 4), layout, "masked")
    net = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16, elementwise_affine=False), nn.GELU(), nn.Linear(16, 16),
                        nn.LayerNorm(16, elementwise_affine=False), nn.GELU(), nn.Linear(16, 16))
    with torch.no_grad():
        for i, linear in enumerate(layer for layer in net if isinstance(layer, nn.Linear)):
            linear.weight.copy_(parameters[f"encoder.source1.{i}.weight"][0].T)
            linear.bias.copy_(parameters[f"encoder.source1.{i}.bias"][0, 0])
        expected = net(tokens[0, :, 2:, :6])
    torch.testing.assert_close(one._embed(parameters, batch, "encoder")[0, :, 2:], expected, atol=1e-5, rtol=1e-5)


def test_the_arm_is_what_its_page_says() -> None:
    arm = METHODS["li2025-finetuned"]
    assert (arm.reads, arm.view, arm.target, arm.predictor, arm.against_collapse) == (
        "tokens", "both", "ema", "transformer", "none")
    assert (arm.vectors, arm.encoder_rate) == ("mlp", 0.3)
    assert Settings().of(arm).encoder_rate == 0.3 and Settings().of(METHODS["multimodal-jepa-finetuned"]) == Settings()
    assert arm.recipe == METHODS["li2025-frozen-ridge"].recipe != METHODS["multimodal-jepa-finetuned"].recipe
    for name, streams, tuning in (("image-only-tokens", "image", "cross-validated"),
                                  ("clinical-only-tokens", "clinical", "cross-validated"),
                                  ("supervised-tokens-unregularised", "all", "none")):
        own = METHODS[name]
        assert (own.reads, own.adaptation, own.streams, own.tuning) == ("tokens", "scratch", streams, tuning)


ARMS = ("li2025-finetuned", "li2025-frozen-ridge", "image-only-tokens")
SMALL = Train(width=4, hidden=8, depth=1, steps=3, batch=16, finetune_steps=2, n_test=100,
              volume="cnn", fleet=1)  # type: ignore[call-arg]


def study(world: str, knobs: dict, arms: tuple[str, ...] = ARMS) -> Study:
    return Study(name="t", seed=3, question="", hypothesis="", prediction="", falsified_if="", world=world, knobs=knobs,
                 axes=(), compare=Compare(arms, (arms[:2],)), looks=(1,), train=SMALL)


@pytest.mark.parametrize(("world", "knobs"), [
    ("gaussian", {"n_unlab": 60, "n_lab": 40}),
    pytest.param("longitudinal", {"n_unlab": 60, "n_lab": 40, "n_visits": 3, "p_miss": 0.3}, marks=pytest.mark.proof),
    ("nodules", {"n_unlab": 24, "n_lab": 24, "side": 16, "n_visits": 1, "prevalence": 0.5}),
    pytest.param("hospital", {"n_unlab": 24, "n_lab": 24, "side": 16, "n_visits": 2, "prevalence": 0.5},
                 marks=pytest.mark.proof),
])
def test_a_sweep_runs_it_on_vectors_and_on_volumes(world: str, knobs: dict, tmp_path) -> None:
    """In every world, and with the same bits from the stage cache."""
    asked = study(world, knobs)
    rows = run_job(asked, Job(0, (0,), (0,), "cpu", 1, cache=str(tmp_path)))
    assert {r["status"] for r in rows} == {"ok"} and {r["method"] for r in rows} == set(ARMS)
    assert run_job(asked, Job(0, (0,), (0,), "cpu", 1, cache=str(tmp_path))) == rows
    limits = {r["method"]: r["limit"] for r in rows if r["metric"] == "auc"}
    assert limits["image-only-tokens"] < limits["li2025-finetuned"]


def test_records_without_features_are_packed_as_they_are_and_have_keys_of_their_own() -> None:
    """Volumes are shown as tokens alone: nothing then asks for features, which they do not have."""
    asked = study("nodules", {"n_unlab": 8, "n_lab": 24, "side": 16, "n_visits": 1})
    for reads, shown in (({"features"}, "features"), ({"tokens"}, "tokens-alone"), ({"tokens", "features"}, "tokens")):
        assert stages.reading(reads) == shown
    settings = Settings(volume="cnn")
    keyed = keys.Keys(asked, Job(0, (0,), (0,), "cpu", 1), settings)
    from simlab.environments.registry import find_world

    spec = find_world("nodules").spec(**asked.knobs)
    assert len({keyed.source(spec, 0, how) for how in ("features", "tokens", "tokens-alone")}) == 3
    cohort = sample_cohort(spec, "pretraining-data", 8, 3, 0, world="nodules")
    made = stages.presented(cohort.inputs(None), "tokens-alone", settings, 1)
    back = packing.unpack_source(packing.pack_source(packing.Source(made, cohort.subject, {"image": ("a",)})))
    one, two = (p(cohort.inputs(None)) for p in (made, back.presentation))
    assert set(one) == {"tokens", "times"} and all(np.array_equal(one[k], two[k], equal_nan=True) for k in one)
