"""What is installed is whole: studies ride along, versions agree, and a wheel runs away from its sources."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def constrained() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    for pin in pins:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", pin), f"{pin}: neither local versions nor addresses"
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (pin.split("==") for pin in pins)}


def test_tested_versions_cover_what_is_asked_for():
    """Each dependency is pinned, at a version that pyproject.toml admits (extras too, dashboard apart)."""
    from packaging.requirements import Requirement

    extras = PROJECT["optional-dependencies"]
    more = (r for name in ("real", "nifti", "llm", "dev") for r in extras[name])
    asked = [Requirement(r) for r in (*PROJECT["dependencies"], *more)]
    pins = constrained()
    for requirement in asked:
        if requirement.name != "simlab":
            assert requirement.specifier.contains(pins[requirement.name.lower()]), str(requirement)


def test_versions_agree():
    import simlab

    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert simlab.__version__ == PROJECT["version"]
    assert re.search(r"^version: (.+)$", citation, flags=re.M).group(1) == PROJECT["version"]
    assert f"license: {PROJECT['license']}" in citation
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8").splitlines()[0]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built as pip builds it (its build tool comes from the package index)."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    (built,) = folder.glob("simlab-*.whl")
    return built


@pytest.mark.proof
def test_wheel_holds_packages_and_studies_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    studies = {f"simlab/_studies/{path.name}" for path in (ROOT / "studies").glob("*.toml")}
    assert studies and studies <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} <= {"simlab", "real_data", "figures"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any("__pycache__" in name or name.endswith((".cohort", ".parquet")) for name in names)


@pytest.mark.proof
def test_wheel_runs_the_default_study_from_an_empty_folder(wheel, tmp_path):
    """The installed package, not the clone, finds its packaged study and plans it."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = subprocess.run([sys.executable, "-c", "import simlab; print(simlab.__file__)"], cwd=empty, env=environment,
                           capture_output=True, text=True, check=True)
    assert Path(where.stdout.strip()).is_relative_to(site)
    plan = subprocess.run([sys.executable, "-m", "simlab.sweep", "quick", "--dry-run"], cwd=empty, env=environment,
                          capture_output=True, text=True, check=False)
    assert plan.returncode == 0, plan.stderr
    assert "quick" in plan.stdout
