"""The default study itself: what a newcomer's first map must show. A proof: it takes about a minute."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

# Crossings of docs/theory.md (9) above 1.5 p = 90 labels; the map must find them within 15 %.
PREDICTED = {0.8: 458, 0.6: 196, 0.4: 109}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    out = tmp_path_factory.mktemp("quick") / "run"
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "simlab.sweep", "quick", "--out", str(out)], capture_output=True,
                          text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return out, done.stdout, time.monotonic() - start


@pytest.mark.proof
@pytest.mark.parametrize("contrast", [("cca-lda", "lda"), ("vicreg-frozen", "lda")])
@pytest.mark.parametrize("w_c", PREDICTED)
def test_the_measured_boundaries_are_the_predicted_ones(
    run: tuple[Path, str, float], contrast: tuple[str, str], w_c: float
) -> None:
    table = pd.read_csv(run[0] / "boundary.csv")
    mine = table[(table["first"] == contrast[0]) & (table["second"] == contrast[1]) & (table["p_w_c"] == w_c)]
    assert len(mine) == 1
    assert mine["measured"].item() == pytest.approx(PREDICTED[w_c], rel=0.15)
    assert mine["predicted"].item() == pytest.approx(PREDICTED[w_c], rel=0.01)


@pytest.mark.proof
def test_fine_tuning_hurts_nowhere_and_frozen_encoders_where_little_is_shared(
    run: tuple[Path, str, float],
) -> None:
    table = pd.read_csv(run[0] / "verdicts.csv")
    verdict = {(r["first"], r["second"], r["p_w_c"], r["p_n_labelled"]): r["verdict"] for _, r in table.iterrows()}
    assert "hurts" not in {v for k, v in verdict.items() if k[0] == "vicreg-finetuned"}
    assert {v for k, v in verdict.items() if k[:3] == ("vicreg-frozen", "supervised", 0.2)} == {"hurts"}
    assert verdict["vicreg-frozen", "supervised", 0.8, 75] == "helps"


@pytest.mark.proof
def test_no_arm_beats_the_limit(run: tuple[Path, str, float]) -> None:
    """Population limit plus four Monte-Carlo errors (2,100 rows of which the largest of as many normals is 3.6)."""
    table = pd.read_parquet(run[0] / "results.parquet")
    auc = table[table["metric"] == "auc"]
    assert len(auc) == 25 * 12 * 7
    assert ((auc["value"] - auc["limit"]) < 4 * auc["se"]).all()


@pytest.mark.proof
def test_running_again_computes_nothing(run: tuple[Path, str, float]) -> None:
    out, first, seconds = run
    start = time.monotonic()
    again = subprocess.run([sys.executable, "-m", "simlab.sweep", "quick", "--out", str(out)], capture_output=True,
                           text=True, timeout=600)
    assert again.returncode == 0 and first.splitlines()[:10] == again.stdout.splitlines()[:10]
    assert time.monotonic() - start < 0.5 * seconds
