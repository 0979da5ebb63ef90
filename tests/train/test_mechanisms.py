"""Telling mechanisms apart: what is told is told, noise is chance, and runs are matched as they say."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simlab.environments.mechanisms import spec
from simlab.errors import command
from simlab.evaluation.auc import weighted_auc
from simlab.train import mechanisms
from simlab.train.mechanisms import MEASURES, REPORTED, Home, accuracy, domain_auc, main, read, told_apart, views

FILE = Path(__file__).resolve().parents[2] / "studies" / "mechanisms" / "li2025-mechanisms.toml"


def planted(noise: float, kinds: int = 4, seeds: int = 30) -> pd.DataFrame:
    """Runs of so many mechanisms, whose first measure names them up to noise."""
    rng = np.random.default_rng(5)
    return pd.DataFrame([{"home": "a", "seed": s, "mechanism": f"m{k}", MEASURES[0]: k + noise * rng.standard_normal(),
                          MEASURES[1]: rng.standard_normal()} for s in range(seeds) for k in range(kinds)])


def test_what_is_told_is_told_and_noise_is_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mechanisms, "TREES", 40)
    pairs, table = told_apart(planted(0.05), MEASURES[:1], 1)
    assert accuracy(pairs, 1)[0] > 0.97 and np.allclose(table.sum(axis=1), 1)
    pairs, _ = told_apart(planted(0.05), MEASURES[1:2], 1)
    mean, low, high = accuracy(pairs, 1)
    assert abs(mean - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 120) and low < mean < high
    assert 0.5 < (high - low) / (2 * 1.96 * np.sqrt(mean * (1 - mean) / 120)) < 1.6  # that of as many coins


@pytest.fixture(scope="module")
def home() -> tuple[mechanisms.Question, Home]:
    asked = mechanisms.Question(**{**asdict(read(FILE)), "seed": 8, "labels": 300, "unlabelled": 3000})
    return asked, Home(asked, "mixed", 0)


@pytest.mark.parametrize("mechanism", ["decoupling", "missingness"])
def test_the_aucs_of_a_run_are_those_of_its_records(home: tuple[mechanisms.Question, Home], mechanism: str) -> None:
    """Closed forms and hidden records against 20,000 records of the target itself."""
    asked, own = home
    strength = own.strength(mechanism)
    assert strength is not None
    four = dict(zip(REPORTED, own.reported(mechanism, strength), strict=True))
    assert four["jepa outside"] == pytest.approx(asked.jepa_outside, abs=0.002)
    there = own.sample(spec(**own.knobs, mechanism=mechanism, strength=strength), "external-data", 20_000, "external")
    for arm in ("jepa", "image"):
        measured = weighted_auc(own.fits[arm].score(views(there)), there.risk["outcome"])
        assert abs(measured.value - four[f"{arm} outside"]) < 4 * max(measured.se, 0.003) + 0.002


def test_measures_of_a_target_like_home_are_those_of_home(home: tuple[mechanisms.Question, Home]) -> None:
    _, own = home
    found = own.measured("decoupling", 0.0, 3000)
    assert abs(found["domain AUC"] - 0.5) < 0.04 and abs(found["calibration slope"] - 1) < 0.2
    assert abs(found["calibration offset"]) < 4 * np.sqrt(0.24 * 2 / 3000)
    assert own.measured("decoupling", 1.0, 3000)["cross-modal error"] > found["cross-modal error"] + 0.2
    gone = own.measured("missingness", 1.0, 3000)
    assert gone["domain AUC"] > 0.9 and gone["clinical AUC"] < found["clinical AUC"] - 0.2


def test_hospitals_that_are_one_are_not_told_apart() -> None:
    rng = np.random.default_rng(0)
    one, two = ({"image": rng.standard_normal((800, 3)), "clinical": rng.standard_normal((800, 3))} for _ in range(2))
    assert abs(domain_auc(one, two, 0) - 0.5) < 4 * np.sqrt(1 / 12 * 2 / 800)
    two["clinical"] = two["clinical"] + 1.0
    assert domain_auc(one, two, 0) > 0.8


def test_bad_input_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    text = FILE.read_text()
    for change, said in ((("seeds = 24", ""), "lacks the key seeds"),
                         (("seeds = 24", "seedz = 24\nseeds = 24"), "seedz"),
                         (('"decoupling"', '"decuopling"'), "decoupling")):
        assert change[0] in text
        file = tmp_path / "a.toml"
        file.write_text(text.replace(*change))
        assert command(main, [str(file)]) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1 and said in captured.err
