"""A cohort of volumes: arms on tokens read it, arms on features say that they cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simlab.cohort import Cohort, Stream, Task, save
from simlab.errors import command
from simlab.train.__main__ import main

FAST = ["--splits", "2", "--quiet", "--set", "patch=4", "--set", "width=2", "--set", "hidden=4", "--set", "depth=1",
        "--set", "steps=4", "--set", "batch=16", "--set", "finetune_steps=2"]


@pytest.fixture
def file(tmp_path: Path, rng: np.random.Generator) -> Path:
    n = 60
    y = (np.arange(n) % 2).astype(float)
    seen = np.ones((n, 1, 1), bool)
    streams = {name: Stream((rng.standard_normal((n, 1, 8, 8, 8)) + y[:, None, None, None, None]).astype(np.float16),
                            seen, ("attenuation",), ("HU",)) for name in ("core", "context")}
    cohort = Cohort(streams=streams, length=np.ones(n, np.int64), record=np.arange(n), subject=np.arange(n),
                    site=np.full(n, "x"), tasks={"cancer": Task("cancer", "binary")}, labels={"cancer": y})
    save(cohort, tmp_path / "v.cohort")
    return tmp_path / "v.cohort"


def test_arms_on_tokens_read_volumes_beside_the_mask(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["ijepa-frozen-ridge", "--data", str(file), "--compare", "random-tokens", "--out", str(tmp_path / "run")]
    assert main([*words, *FAST]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("ijepa-frozen-ridge", "random-tokens", "mask-only", "Verdict"))


def test_a_volume_can_be_one_token_of_a_convolutional_network(file: Path, tmp_path: Path,
                                                              capsys: pytest.CaptureFixture) -> None:
    """Pretraining, fine-tuning, training from labels: 512 voxels a token, whatever `patch` says."""
    words = ["ijepa-finetuned", "--data", str(file), "--compare", "supervised-tokens", "--out", str(tmp_path / "run")]
    assert main([*words, *FAST, "--set", "volume=cnn", "--set", "patch=5"]) == 0
    text = capsys.readouterr().out
    assert "failed: ijepa" not in text and "failed: supervised" not in text and "supervised-tokens" in text
    assert command(main, [*words, *FAST, "--set", "volume=cube"]) == 2
    assert "volume = 'cube': expected patches or cnn" in capsys.readouterr().err


def test_an_arm_on_features_says_that_it_reads_no_volumes(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
                                                          ) -> None:
    words = ["random-tokens", "--data", str(file), "--compare", "logistic", "--out", str(tmp_path / "run")]
    assert command(main, [*words, *FAST]) == 2
    assert "take an encoder of images, or a layout of vectors" in capsys.readouterr().err
