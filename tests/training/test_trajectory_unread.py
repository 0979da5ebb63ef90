"""Settings that nothing reads: another value of them changes no bit of a training, and of the others it does."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from stays import stays

from simlab.models.windows import Windows, windows
from simlab.training.curricula import CURRICULA
from simlab.training.trajectory import Settings, train
from simlab.training.trajectory_settings import ENCODERS, READ_BY, READ_IN, unread

SETTINGS = Settings(width=6, hidden=8, inner=8, inside=16, depth=1, steps=14, batch=4, max_hours=20)
OTHER = {"mode": "residual", "dropout": 0.3, "attention_dropout": 0.3, "horizon": 3, "per_sample_k": True,
         "masked": 0.7, "tau": 0.5, "rate_encoder": 1e-2, "regulariser_weight": 9.0}  # fmt: skip
READS = {key: "clin-jepa" for key in OTHER} | {"masked": "masked-refinement", "regulariser_weight": "vicreg"}
DOES_NOT = (("masked", "clin-jepa"), ("regulariser_weight", "clin-jepa"), ("tau", "unguarded"), ("tau", "phase0-only"),
            ("rate_encoder", "random-encoder"), ("horizon", "no-rollout"), ("per_sample_k", "no-rollout"),
            *((key, "masked-refinement") for key in ("mode", "dropout", "attention_dropout", "horizon", "per_sample_k",
                                                     "regulariser_weight")))  # fmt: skip


@pytest.fixture(scope="module")
def data() -> tuple[Windows, Windows]:
    training = windows(stays(n=12))
    return training, windows(stays(n=4, seed=1), training.presentation)


@pytest.fixture(scope="module")
def trained(data) -> Any:
    """Every tensor of a training, by curriculum and one setting that is another; each once."""
    known: dict[tuple, dict] = {}

    def tensors(name: str, **more: Any) -> dict:
        key = name, *more.items()
        if key not in known:
            made = train(*data, CURRICULA[name], replace(SETTINGS, **more))
            known[key] = made.parameters | {f"target.{k}": v for k, v in made.target.items()}
        return known[key]

    return tensors


@pytest.mark.parametrize(("key", "name"), DOES_NOT)
def test_what_is_unread_changes_no_bit(key: str, name: str, trained) -> None:
    assert "nothing reads it in " + name in unread(key, "tabular", [CURRICULA[name]])
    plain, other = trained(name), trained(name, **{key: OTHER[key]})
    assert all(torch.equal(plain[k], other[k]) for k in plain)


@pytest.mark.parametrize(("key", "name"), sorted(READS.items()))
def test_what_is_read_does(key: str, name: str, trained) -> None:
    assert unread(key, "tabular", [CURRICULA["random-encoder"], CURRICULA[name]]) == "", "of a study any arm will do"
    plain, other = trained(name), trained(name, **{key: OTHER[key]})
    assert not all(torch.equal(plain[k], other[k]) for k in plain)


def test_names_are_settings_and_their_defaults_are_read_by_the_default_encoder() -> None:
    names = {f.name for f in fields(Settings)}
    assert {*READ_BY, *READ_IN} <= names and set(OTHER) == set(READ_IN)
    whole = [CURRICULA["clin-jepa"]]
    for encoder in ENCODERS:
        found = {key for key in names - set(READ_IN) if unread(key, encoder, whole)}
        assert found == {key for key, of in READ_BY.items() if encoder not in of}
    assert unread("hidden", "llm", whole).endswith("set encoder = 'tabular'")
