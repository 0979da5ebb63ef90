"""The figure of three shifts: its numbers are the limits', and it starts without array modules."""

import csv
import subprocess
import sys

import pytest

from figures.theory_shifts import COUPLED, LABELS, PANELS, PROXY, STYLES, curves, main
from simlab.environments.knobs import spec
from simlab.limits import limits


@pytest.fixture(scope="module")
def found():
    return curves()


def test_curves_are_the_limits(found):
    """At points of each panel, the dense path's numbers; the label shift's AUC is one number."""
    assert list(found) == list(PANELS) and {name for lines in found.values() for name in lines} <= set(STYLES)
    for panel, symbol, world, key in (("proxy decoupling", "kappa_e", PROXY, "cross_modal"),
                                      ("pure coupling", "eta_e", COUPLED, "full")):
        name = "cross-modal" if key == "cross_modal" else "both views"
        for x, y in found[panel][name][::30]:
            assert limits(spec(world, **{symbol: x}))["source_bayes_external"][key] == pytest.approx(y, abs=1e-10)
    shift = found["label shift"]
    assert {y for _, y in shift["classes resampled"]} == {shift["classes resampled"][0][1]}
    x, y = shift["threshold moved"][10]
    moved = spec(LABELS, prevalence_e=x, prevalence_kind="threshold")
    assert limits(moved)["source_bayes_external"]["full"] == pytest.approx(y, abs=1e-10)
    assert min(y for _, y in shift["calibration error"]) < 1e-3 < max(y for _, y in shift["calibration error"])


def test_files(tmp_path, found, monkeypatch):
    monkeypatch.setattr("figures.theory_shifts.curves", lambda: found)
    assert main(["--out", str(tmp_path)]) == 0
    for ending, start in (("csv", b"# simlab: {"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
        found = (tmp_path / f"theory_shifts.{ending}").read_bytes()
        assert found.startswith(start) and len(found) > 5000
    with (tmp_path / "theory_shifts.csv").open(encoding="utf-8") as file:
        assert file.readline().startswith("#")
        rows = list(csv.DictReader(file))
    assert {row["panel"] for row in rows} == set(PANELS) and len(rows) == 4 * 61 + 3 * 61 + 3 * 58


def test_help_starts_without_array_modules():
    code = ("import sys, figures.theory_shifts; "
            "print(sorted({'numpy', 'matplotlib', 'scipy', 'torch'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
