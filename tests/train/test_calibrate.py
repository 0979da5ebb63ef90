"""The presets whose trained arms meet published AUCs: re-measured on fresh seeds, found again, refused by name."""

import json

import numpy as np
import pytest

from simlab.environments.presets import TRAINED, from_preset
from simlab.errors import command
from simlab.train import calibrate
from simlab.train.calibrate import FREE, GOAL, check, main, measure

NAMES = [preset.name for preset in TRAINED]
CALIBRATION_ERROR = 1.5e-3  # of the 48 seeds that the knobs were found with (docs/log.md)


@pytest.mark.parametrize("name", NAMES)
def test_trained_comparators_meet_the_published_aucs_on_fresh_seeds(name):
    """Eight seeds that the calibration did not see; 4.5 standard errors, its own included."""
    for arm, (value, se) in measure(name, {}, seeds=8, first=1000).items():
        assert abs(value - GOAL[arm]) < 4.5 * np.hypot(max(se, 1e-3), CALIBRATION_ERROR), arm


def test_the_presets_are_whole_and_leave_the_target_alone():
    assert [f"li2025-trained-{which}" for which in FREE] == NAMES
    for name in NAMES:
        s = from_preset(name)
        assert s == s.without_shift() and s.prevalence == 0.4
        w_c = from_preset(name.replace("-trained", "")).w_c
        assert s.w_c == w_c  # where the signal lies is the world's, not the calibration's


def test_bad_input_is_one_clear_line(capsys):
    for argv, said in ((["li2025-mixed"], "li2025-trained-mixed"), (["--seeds", "1"], "2 or more"),
                       (["--sedes", "9"], "--seeds")):
        assert command(main, argv) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1 and said in captured.err


@pytest.mark.proof
def test_the_search_finds_the_committed_knobs(capsys):
    assert main(["li2025-trained-mixed", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["li2025-trained-mixed"]["knobs"]
    s = from_preset("li2025-trained-mixed")
    assert found == pytest.approx({"rel_ci": s.rel_ci, "h2": s.h2}, abs=2e-3)


@pytest.mark.proof
def test_the_named_arms_meet_them_as_any_study_trains_them(monkeypatch):
    """The arms of `simlab.methods` on 20,000 test records: 6 fresh seeds of the smallest world."""
    monkeypatch.setattr(calibrate, "CHECKED", ("image-only", "supervised-unregularised"))
    for arm, (value, se) in check("li2025-trained-mixed", 6, first=500).items():
        assert abs(value - GOAL[arm]) < 4.5 * np.hypot(max(se, 2e-3), CALIBRATION_ERROR), arm
