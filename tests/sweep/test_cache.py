"""The stage cache: only the work that a knob touches, the same bits with it and without, and no trust in its files."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweep_fakes import hammer

from simlab.methods import METHODS
from simlab.models import tokens
from simlab.sweep import packing, plan, progress, results, study
from simlab.sweep.cache import Cache
from simlab.sweep.job import run_job
from simlab.sweep.schema import Study
from simlab.training import baselines
from simlab.training.data import Bench, Fit, Labelled
from simlab.training.loop import Diverged
from simlab.training.pretrain import Settings, random_encoders
from simlab.training.run import run_arm
from simlab.training.token_encoders import random_encoders as random_tokens

NINE = [round(0.1 * i, 1) for i in range(1, 10)]
ARMS = ["vicreg-frozen", "vicreg-finetuned", "supervised", "lda", "cca-lda"]


def small(
    axes: dict[str, Any], arms: list[str] | None = None, name: str = "small", seeds: int = 2, **more: Any
) -> Study:
    return study.build(
        {
            "study": {"name": name, "seed": 4},
            "world": {"knobs": {"n_unlab": 300}},
            "axes": axes,
            "compare": {"arms": arms or ARMS, "contrast": (arms or ARMS)[:2], "cohort": "external"},
            "seeds": {"looks": [seeds]},
            "train": {"width": 4, "steps": 8, "fleet": 2, "n_test": 200, **more},
        }
    )


def computed(asked: Study, cache: Path | None) -> tuple[str, dict[str, int]]:
    """The table's digest, and how often each stage was computed or found."""
    progress.counted()
    jobs = plan.jobs(asked, cache=str(cache) if cache else "")
    tables = [results.job_table(asked, job, run_job(asked, job)) for job in jobs]
    return results.digest(results.collect(tables)), progress.counted()


def test_a_map_over_two_shift_knobs_costs_exactly_one_cells_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simlab.environments.registry.World.limit", lambda *_: None)  # 81 closed forms: not this test's
    arms = ["vicreg-frozen", "vicreg-finetuned", "supervised"]
    _, one = computed(small({"kappa_e": [0.5], "delta_u_e": [0.5]}, arms, seeds=1), tmp_path / "one")
    _, nine = computed(small({"kappa_e": NINE, "delta_u_e": NINE}, arms, seeds=1), tmp_path / "nine")
    for stage in ("source-data", "pretraining", "adaptation"):
        assert nine.pop(stage) == one.pop(stage) == {"adaptation": 3}.get(stage, 1)  # one recipe, three arms
    assert nine["evaluation"] == 3 * (1 + 81)  # in the source hospital once, outside in each cell


def test_label_knobs_pretrain_once_a_seed_also_in_another_study_and_after_a_loss(tmp_path: Path) -> None:
    arms = ["vicreg-frozen", "supervised"]
    _, first = computed(small({"n_lab": [60, 120]}, arms), tmp_path)
    assert (first["pretraining"], first["adaptation"]) == (2, 8)
    _, other = computed(small({"n_lab": [60, 120], "w_c": [0.5, 0.9]}, arms, name="other"), tmp_path)
    assert "pretraining" not in other and other["pretraining/cached"] == 2
    assert other["adaptation"] == 16
    _, again = computed(small({"n_lab": [60, 120]}, arms), tmp_path)
    assert again == {"source-data/cached": 2, "adaptation/cached": 8, "evaluation/cached": 8 * 2}


def test_the_same_bits_with_the_cache_off_cold_and_warm(tmp_path: Path) -> None:
    asked = small({"n_lab": [80], "kappa_e": [1.0, 0.4]})
    off, done = computed(asked, None)
    cold, _ = computed(asked, tmp_path)
    warm, found = computed(asked, tmp_path)
    assert off == cold == warm
    assert done["adaptation"] == 2 * len(ARMS) and found["adaptation/cached"] == 2 * len(ARMS)
    mlp = small({"n_lab": [80]}, ["vicreg-finetuned", "supervised", "image-only"], encoder="mlp", hidden=8,
                finetune_steps=5)
    assert computed(mlp, None)[0] == computed(mlp, tmp_path)[0] == computed(mlp, tmp_path)[0]


@pytest.mark.parametrize("encoder", ["linear", "mlp"])
def test_every_method_is_kept_and_read_back_with_the_same_bits(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "TREE_SHAPES", ((4, 5),))
    monkeypatch.setattr(baselines, "TREE_COUNTS", (2, 4))
    rng = np.random.default_rng(3)
    settings = Settings(encoder=encoder, width=2, hidden=3, finetune_steps=2)

    def views(n: int) -> dict[str, np.ndarray]:
        made = {role: rng.standard_normal((n, p)).astype(np.float32)
                for role, p in (("image", 5), ("clinical", 4), ("mask", 3), ("tokens", 16))}
        return made | {"tokens": made["tokens"].reshape(n, 4, 4), "times": np.tile(np.float32([0, 1, 0, 1]), (n, 1))}

    y = (np.arange(60) % 3 == 0).astype(float)
    train, unlabelled, shown = Labelled(views(60), y, np.arange(60)), views(200), views(50)
    (encoders,) = random_encoders({"image": 5, "clinical": 4}, settings, [1])
    layout = tokens.Layout((tokens.Source("ct", "image", 4, 2), tokens.Source("labs", "clinical", 4, 2)), 0.1 + 0.2)
    for name, method in METHODS.items():
        if encoder == "mlp" and method.encoder == "identity":
            continue  # the same as with linear encoders
        if encoder == "mlp" and method.trainer.endswith("coral_finetuned"):
            continue  # of linear encoders alone
        if method.reads == "hours" or (method.pretrained and not name.startswith(("vicreg", "coordinate-jepa"))):
            continue  # hours are in no study; the adaptations of all points are the same
        start = encoders
        own = settings
        if method.reads == "tokens":
            solved = method.trainer.startswith("simlab.training.token_ridge")  # of linear token encoders alone
            own = replace(settings, token_encoder="linear", readout="mean") if solved else settings
            (start,) = random_tokens(layout, method, replace(own, depth=1), [1])
        bench = Bench(train, unlabelled, start, own, 7, incomplete=lambda how: train, target=views(90))
        fit = packing.plain(run_arm(method, bench))
        packed = packing.pack_fit(fit)
        assert packed is not None, method.name
        again = packing.unpack_fit(packed)
        np.testing.assert_array_equal(again.score(shown), fit.score(shown))
        assert again.diagnostics == fit.diagnostics
    assert packing.pack_fit(Fit(lambda views: views["image"][:, 0])) is None  # any callable is a score


def test_a_member_that_diverged_alone_is_kept_as_such() -> None:
    (one,) = random_encoders({"image": 5, "clinical": 4}, Settings(width=2), [1])
    back = packing.unpack_fleet(packing.pack_fleet([one, Diverged("its loss is not a number"), *[one] * 9]))
    assert [type(found).__name__ for found in back] == ["Encoders", "Diverged", *["Encoders"] * 9]
    assert str(back[1]) == "its loss is not a number"
    assert all((back[10].parameters[k] == v).all() for k, v in one.parameters.items())


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.entry"))


@pytest.mark.parametrize("harm", ["cut", "flipped", "emptied", "swapped"])
def test_a_damaged_entry_is_said_and_computed_again(
    tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = small({"n_lab": [80]}, ["vicreg-frozen", "lda"])
    whole, _ = computed(asked, tmp_path)
    for path in entries(tmp_path):
        data = path.read_bytes()
        data = {"cut": data[: len(data) // 2], "emptied": b"", "swapped": entries(tmp_path)[0].read_bytes(),
                "flipped": data[:-99] + bytes([data[-99] ^ 1]) + data[-98:]}[harm]
        path.write_bytes(data)
    capsys.readouterr()
    again, found = computed(asked, tmp_path)
    assert again == whole
    assert "is damaged: removed, computed again" in capsys.readouterr().err
    assert found["adaptation"] >= 3
    assert computed(asked, tmp_path)[1]["adaptation/cached"] == 4


def test_it_stays_below_its_size_and_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit_mb=1)
    block = {"x": np.zeros(8000)}  # 64 kB
    for i in range(40):
        cache.put(f"{i:064x}", block)
        os.utime(cache.path(f"{i:064x}"), (i, i)) if cache.path(f"{i:064x}").exists() else None
        assert cache.get("0" * 64) is not None  # used again and again: kept
    total = sum(path.stat().st_size for path in entries(tmp_path))
    assert 0.5 * 2**20 < total <= 2**20
    assert cache.get(f"{39:064x}") is not None and cache.get(f"{1:064x}") is None
    cache.put("f" * 64, {"x": np.zeros(200_000)})  # alone above the limit: not kept, nothing dropped for it
    assert cache.get("f" * 64) is None and cache.get(f"{39:064x}") is not None


def test_workers_share_it_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.starmap(hammer, [(str(tmp_path), 1), (str(tmp_path), 2)]) == [60, 60]
    assert not list(tmp_path.glob("*/*.tmp"))


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    cache = Cache(tmp_path / "file" / "deeper", limit_mb=1)
    cache.put("0" * 64, {"x": np.zeros(3)})
    cache.put("1" * 64, {"x": np.zeros(3)})
    assert capsys.readouterr().err.count("going on") == 1
    asked = small({"n_lab": [80]}, ["vicreg-frozen", "lda"])
    assert computed(asked, tmp_path / "file" / "deeper")[0] == computed(asked, None)[0]
