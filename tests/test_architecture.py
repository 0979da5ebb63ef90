"""The shape of the house: imports go one way, annotations mean something, commands start at once, files stay short."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
import types
import typing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("simlab", "real_data", "figures")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# Who may not import whom.
_ABOVE_MODELS = ("simlab.training", "simlab.methods", "simlab.sweep", "simlab.train", "simlab.explore")
FORBIDDEN = {
    "simlab": ("real_data", "studies", "figures"),
    "simlab.environments": _ABOVE_MODELS,
    "simlab.limits": _ABOVE_MODELS,
    "simlab.models": (*_ABOVE_MODELS, "simlab.environments", "simlab.limits"),
    "simlab.objectives": (*_ABOVE_MODELS, "simlab.environments", "simlab.limits"),
    "simlab.training": _ABOVE_MODELS[1:],
    "simlab.methods": _ABOVE_MODELS[2:],
    "simlab.evaluation": _ABOVE_MODELS,
    "simlab.trajectories": ("simlab.sweep", "simlab.train", "simlab.explore"),
    "simlab.sweep": ("simlab.train", "simlab.explore"),
    "simlab.report": (*_ABOVE_MODELS, "simlab.environments", "simlab.limits", "simlab.models", "simlab.objectives"),
}
# What alone may be imported from simlab.
ALLOWED = {
    "simlab.cohort": ("simlab.errors", "simlab.cohort", "simlab.cohort_checks", "simlab.cohort_file"),
    "simlab.cohort_checks": ("simlab.errors", "simlab.cohort", "simlab.cohort_file"),
    "simlab.cohort_file": ("simlab.errors", "simlab.cohort", "simlab.cohort_checks"),
    "simlab.errors": (),
    "simlab.rng": (),
    "real_data": ("simlab.cohort", "simlab.cohort_file", "simlab.errors", "simlab.signatures"),
}
# A broad `except` that does not raise again: only where somebody else's failure becomes a row or one clear line.
BROAD = {
    "simlab/sweep/worker.py": "a method's failure is a row of the table",
    "simlab/sweep/study.py": "a plug-in is the user's code",
    "simlab/sweep/journal.py": "a damaged journal is set aside and written afresh",
}
COMMANDS = ("simlab.sweep", "simlab.limits", "simlab.environments", "simlab.train", "simlab.explore",
            "simlab.report", "figures", "real_data.hourly", "real_data.mimic_iv", "real_data.ct_ehr", "real_data.lidc",
            "real_data.meds")
HEAVY = ("torch", "numpy", "scipy", "pandas", "matplotlib", "seaborn", "sklearn", "polars", "pyarrow", "optuna",
         "lightgbm", "pydicom", "nibabel")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Full names of all that a file imports, inside functions too: `from a import b` counts as a.b."""
    module = module_name(path).split(".")
    package = module if path.name == "__init__.py" else module[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    return names


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_go_one_way(path):
    module = module_name(path)
    for name in sorted(imported(path)):
        for owner, forbidden in FORBIDDEN.items():
            if inside(module, owner):
                assert not any(inside(name, f) and not inside(module, f) for f in forbidden), f"{module}: {name}"
        for owner, allowed in ALLOWED.items():
            if inside(module, owner) and inside(name, "simlab"):
                assert any(inside(name, a) for a in allowed), f"{module} imports {name}"


def public_modules() -> list[str]:
    names = []
    for package in ("simlab", "real_data"):
        found = importlib.import_module(package)
        names.append(package)
        names += [info.name for info in pkgutil.walk_packages(found.__path__, package + ".")]
    return [name for name in names if not name.endswith("__main__") and "._studies" not in name]


def behind_type_checking(module: types.ModuleType) -> dict[str, object]:
    """What a module imports under `if TYPE_CHECKING:`, imported. Array modules there are refused: annotations of
    shapes would silently not be checked. (A command's module may put a cohort's class there, to start at once.)"""
    names: dict[str, object] = {}
    for node in ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for line in node.body:
                top = ast.unparse(line).split()[1].split(".")[0]
                assert top not in (*HEAVY, "jaxtyping"), f"{module.__name__}, line {line.lineno}"
                exec(ast.unparse(line), names)
    names.pop("__builtins__", None)
    return names


@pytest.mark.parametrize("name", public_modules())
def test_public_annotations_resolve(name):
    """Every annotation of what is public names something that exists."""
    module = importlib.import_module(name)
    also = behind_type_checking(module)
    for label, thing in vars(module).items():
        if label.startswith("_") or getattr(thing, "__module__", None) != name:
            continue
        if inspect.isclass(thing):
            typing.get_type_hints(thing, localns={**vars(module), **also})
            for member in vars(thing).values():
                function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                if inspect.isfunction(function) and function.__module__ == name:
                    typing.get_type_hints(function, localns=also)
        elif inspect.isfunction(thing):
            typing.get_type_hints(thing, localns=also)


def runnable(module: str) -> bool:
    stem = ROOT.joinpath(*module.split("."))
    return stem.with_suffix(".py").is_file() or (stem / "__main__.py").is_file()


@pytest.mark.parametrize("module", [m for m in COMMANDS if runnable(m)])
def test_help_starts_without_array_modules(module):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{module!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_module({module!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"print('loaded:', *sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1].strip() == "loaded:", run.stdout
    assert "usage" in run.stdout.lower()


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_are_short_enough_to_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_no_failure_is_swallowed(path):
    """`except:` and `except Exception` only raise again, or stand where BROAD says why."""
    if path.relative_to(ROOT).as_posix() in BROAD:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            broad = any(c is None or getattr(c, "id", "") in ("Exception", "BaseException") for c in caught)
            again = isinstance(node.body[-1], ast.Raise)
            assert not broad or again, f"{path}, line {node.lineno}: name the errors that are expected"


def test_no_global_randomness():
    """numpy's and torch's global states are never seeded or drawn from."""
    banned = ("np.random.seed", "np.random.rand", "np.random.normal", "torch.manual_seed", "random.seed")
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in banned, f"{path}, line {node.lineno}"


def test_no_test_asserts_an_absolute_time():
    """Times are held against other work of the same run (tests/support/clock.py, tests/benchmarks)."""
    clocks = ("perf_counter", "monotonic", "process_time", "thread_time", "time.time", "getrusage")
    for path in TESTS:
        asserted = (node.test for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if
                    isinstance(node, ast.Assert))  # fmt: skip
        for compared in (node for test in asserted for node in ast.walk(test) if isinstance(node, ast.Compare)):
            sides = (compared.left, *compared.comparators)
            timed = any(clock + "()" in ast.unparse(side) for clock in clocks for side in sides)
            number = any(isinstance(side, ast.Constant) for side in sides)
            assert not (timed and number), f"{path}, line {compared.lineno}: {ast.unparse(compared)}"
