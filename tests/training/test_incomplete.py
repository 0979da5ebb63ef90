"""Pretraining on records of which a stream was never collected, and linear token encoders adapted exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import optimize
from sklearn.linear_model import Ridge

from simlab.errors import OutOfDomain
from simlab.methods import METHODS
from simlab.models import tokens
from simlab.sweep import packing
from simlab.training import ridge, token_encoders, token_ridge
from simlab.training.data import Bench, Labelled
from simlab.training.method import Method
from simlab.training.pretrain import Settings
from simlab.training.run import run_arm
from tests.support import token_records

LAYOUT = tokens.Layout((tokens.Source("ct", "image", 4, 2), tokens.Source("labs", "clinical", 4, 2)))
LINEAR = Settings(token_encoder="linear", readout="mean", width=2, hidden=8, depth=1, finetune_steps=9)
DEEP = replace(LINEAR, token_encoder="transformer")


def records(n: int, seed: int, how: str = "complete") -> Labelled:
    """The first image feature and the first clinical one, meant over the visits, carry the label."""
    draw = np.random.default_rng(seed)
    values = draw.standard_normal((n, 4, 4)).astype(np.float32)
    level = values[:, :2, 0].mean(axis=1) + values[:, 2:, 0].mean(axis=1)
    y = (level + 0.3 * draw.standard_normal(n) > 0).astype(float)
    if how != "complete":
        values[:, 2:] = np.nan if how == "masked" else 0.0
    times = np.tile(np.array([0, 1, 0, 1], np.float32), (n, 1))
    return Labelled({"tokens": values, "times": times}, y, np.arange(n))


def bench(settings: Settings = LINEAR, arm: str = "tokens-ridge", n: int = 60, more: bool = True,
          further: int = 300) -> Bench:
    method, train = METHODS[arm], records(n, 1)
    encoders = token_encoders.random_encoders(LAYOUT, method, settings, [3])[0]
    return Bench(train, train.views, encoders, settings, 7, (lambda how: records(further, 2, how)) if more else None)


def mean_tokens(labelled: Labelled) -> np.ndarray:
    values = labelled.views["tokens"].astype(float)
    return np.concatenate([values[:, :2].mean(axis=1), values[:, 2:].mean(axis=1)], axis=1)


def test_from_scratch_it_is_ridge_on_the_tokens_means() -> None:
    """scikit-learn's ridge at the chosen penalty; the score is what a stage cache gives back, too."""
    for arm, columns in (("tokens-ridge", slice(0, 8)), ("image-tokens-ridge", slice(0, 4))):
        on = bench(arm=arm)
        fit = packing.plain(run_arm(METHODS[arm], on))
        x = mean_tokens(on.train)[:, columns]
        scale = np.sum((x - x.mean(axis=0)) ** 2) / x.shape[1]
        model = Ridge(alpha=fit.diagnostics["diag/penalty"] * scale).fit(x, on.train.y)
        np.testing.assert_allclose(fit.score(on.train.views), model.predict(x), atol=1e-5)


def test_finetuned_it_is_the_optimum_of_the_penalised_problem() -> None:
    """Least squares + penalty (|a|^2/tau^2 + |b|^2) of f = a'P'x + b'x, by a general optimiser."""
    on = bench(arm="data2vec-visit-exact")
    fit = run_arm(METHODS["data2vec-visit-exact"], on)
    tau, penalty = fit.diagnostics["diag/tau"], fit.diagnostics["diag/penalty"]
    assert tau > 0  # else nothing of the encoders would be told
    weights = [on.encoders.parameters[f"encoder.source{i}.0.weight"][0].double().numpy() for i in (0, 1)]
    basis = np.linalg.qr(np.block([[weights[0], np.zeros((4, 2))], [np.zeros((4, 2)), weights[1]]]))[0]
    x, y = mean_tokens(on.train), on.train.y
    x, y = x - x.mean(axis=0), y - y.mean()
    stretched = x + (np.sqrt(1 + tau**2) - 1) * (x @ basis) @ basis.T
    unit = penalty * np.sum((stretched - stretched.mean(axis=0)) ** 2) / 8

    def loss(parts: np.ndarray) -> float:
        a, b = parts[:4], parts[4:]
        return float(np.sum((y - x @ (basis @ a + b)) ** 2) + unit * (a @ a / tau**2 + b @ b))

    best = optimize.minimize(loss, np.zeros(12), method="BFGS", options={"gtol": 1e-9}).x
    shown = fit.score(on.train.views)
    np.testing.assert_allclose(shown - shown.mean(), x @ (basis @ best[:4] + best[4:]), atol=2e-4)


def test_linear_encoders_read_zeros_as_they_read_nothing() -> None:
    """Zeros move no weight of a linear encoder, so that both ways are one; the records' clinical half would help."""
    on = bench()
    fits = {how: run_arm(METHODS[f"label-ridge-{how}"], on) for how in ("zero-filled", "masked", "complete")}
    test = records(4000, 9)
    scores = {how: fit.score(test.views) for how, fit in fits.items()}
    np.testing.assert_allclose(scores["zero-filled"], scores["masked"], atol=1e-6)
    assert all(fit.diagnostics["diag/more-labels"] == 300 for fit in fits.values())
    error = {how: np.mean((s - test.y) ** 2) for how, s in scores.items()}
    error["scratch"] = np.mean((run_arm(METHODS["tokens-ridge"], on).score(test.views) - test.y) ** 2)
    assert error["complete"] < error["masked"] < error["scratch"]


def test_a_pretrained_direction_is_what_ridge_found_there() -> None:
    """With endless faith in the direction (tau to infinity) the score lies along it, whatever the few labels say."""
    on, method = bench(n=12), METHODS["label-ridge-masked"]
    more = records(300, 2, "masked")
    x = mean_tokens(Labelled({**more.views, "tokens": np.nan_to_num(more.views["tokens"])}, more.y, more.subjects))
    first = ridge.fit(x, more.y, more.subjects).weights[:4]
    encoders = token_ridge._linear(method, on)
    basis = token_ridge._basis(encoders, method, [first[None], None])
    assert basis.shape == (8, 1)
    np.testing.assert_allclose(np.abs(basis[:4, 0]), np.abs(first) / np.linalg.norm(first), atol=1e-9)


def test_by_gradient_the_ways_of_showing_nothing_differ_where_tokens_meet() -> None:
    on = bench(DEEP, "label-pretrained-masked", further=40)
    fits = {how: run_arm(METHODS[f"label-pretrained-{how}"], on) for how in ("zero-filled", "masked")}
    shown = {how: fit.score(on.train.views) for how, fit in fits.items()}
    assert np.abs(shown["zero-filled"] - shown["masked"]).max() > 1e-3
    assert all(fit.diagnostics["diag/more-labels"] == 40 and fit.scale == "logit" for fit in fits.values())


@pytest.mark.parametrize("arm", ["label-ridge-masked", "label-pretrained-masked"])
def test_without_such_records_it_is_said(arm: str) -> None:
    with pytest.raises(OutOfDomain, match=f"{arm}.*n_incomplete"):
        run_arm(METHODS[arm], bench(more=False))


def test_other_encoders_are_refused() -> None:
    with pytest.raises(OutOfDomain, match="token_encoder = linear"):
        run_arm(METHODS["tokens-ridge"], bench(DEEP))
    with pytest.raises(OutOfDomain, match="readout = mean"):
        run_arm(METHODS["tokens-ridge"], bench(replace(LINEAR, readout="last")))


def test_an_archive_of_images_knows_nothing_of_the_other_stream() -> None:
    """Bitwise: other clinical values, the same encoder; the clinical embedding only shrinks, by weight decay."""
    method = METHODS["image-data2vec-visit-finetuned"]
    settings = replace(token_records.SETTINGS, token_encoder="linear")
    data = token_records.shown()
    other = {**data, "tokens": data["tokens"].copy()}
    clinical = token_records.LAYOUT.places().role.numpy() == 1
    other["tokens"][:, :, clinical] *= 3
    one, two = (token_records.run(method, records, settings)[0] for records in (data, other))
    assert all(torch.equal(v, two.parameters[k]) for k, v in one.parameters.items())
    start = token_encoders.random_encoders(token_records.LAYOUT, method, settings, [0])[0]
    moved = [one.parameters[f"encoder.source{i}.0.weight"] / start.parameters[f"encoder.source{i}.0.weight"]
             for i in (0, 1)]
    assert moved[1].std() < 1e-5 and moved[0].std() > 1e-3
    assert method.roles == ("image", "clinical") and method.recipe != METHODS["data2vec-visit-finetuned"].recipe


def test_an_archive_is_of_arms_that_see_more_later() -> None:
    common = {"trainer": "a:b", "reads": "tokens", "target": "ema"}
    for axes, words in (({"view": "visit", "archive": "image", "streams": "image"}, "streams alone"),
                        ({"view": "cross-modal", "archive": "image"}, "takes both"),
                        ({"view": "visit", "archive": "images"}, "known: all")):
        with pytest.raises(OutOfDomain, match=words):
            Method("x", "", **common, **axes)
