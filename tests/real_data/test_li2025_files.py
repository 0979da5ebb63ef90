"""li2025 end to end on files: the simulated hospital's, written and read back, and lmsignatures'."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hospital_files import cohorts, prepared, written

from simlab.train.__main__ import main

FAST = ["--splits", "2", "--quiet", "--json", "--set", "volume=cnn", "--set", "width=2", "--set", "hidden=8", "--set",
        "depth=1", "--set", "steps=3", "--set", "batch=8", "--set", "finetune_steps=2"]


def trained(file: Path, folder: Path, capsys: pytest.CaptureFixture, *more: str) -> dict:
    capsys.readouterr()
    words = ["li2025-finetuned", "--data", str(file), "--compare", "image-only-tokens", *FAST]
    assert main([*words, "--out", str(folder), *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_simulated_hospitals_files(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Two sites -> DICOM, MEDS and labels -> the adapter, signatures fitted -> pretraining, fine-tuning, a table."""
    files = written(cohorts(28, 16, prevalence=0.5, n_visits=2), tmp_path / "files")
    made = prepared(files, tmp_path / "a.cohort", "--side", 16, "--signatures", 2, "--least", 3, "--task", "outcome")
    assert made.streams["image"].values.shape[2:] == (16, 16, 16) and made.streams["signatures"].values.shape[2] == 2
    told = trained(tmp_path / "a.cohort", tmp_path / "run", capsys, "--test-share", "0.5")  # of those not fitted on
    found = {line["arm"]: line for line in told["table"]}
    assert {"li2025-finetuned", "image-only-tokens", "mask-only"} == set(found)
    assert not told.get("failed")


def test_files_of_the_lmsignatures_layout(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """labels.csv, an image and detections a session, signatures by column; one to three sessions a patient."""
    folder, rng = tmp_path / "in", np.random.default_rng(0)
    folder.mkdir()
    rows = ["pid,id,session,shifted_scan_date,Duration,lung_cancer,exp-000,exp-001"]
    for n in range(12):
        for session in range(1 + n % 3):
            name = f"p{n}time{2001 + session}0101"
            signs = ",".join(f"{v:.3f}" for v in rng.standard_normal(2))
            rows.append(f"p{n},{name},{session},{1951 + session}-01-01,{365 * (n % 3 - session)},{n % 2},{signs}")
            image = np.full((1, 24, 24, 24), 40, np.uint8)
            image[0, 8:14, 8:14, 8:14] = 150 + 20 * (n % 2)
            np.save(folder / f"{name}_clean.npy", image)
            np.save(folder / f"{name}_pbb.npy", np.array([[2.0, 10.5, 10.5, 10.5, 6.0]]))
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    prepared(folder, tmp_path / "a.cohort", "--layout", "lmsignatures", "--field", 16, "--side", 16)
    found = trained(tmp_path / "a.cohort", tmp_path / "run", capsys)
    assert {line["arm"] for line in found["table"]} >= {"li2025-finetuned", "image-only-tokens"}
