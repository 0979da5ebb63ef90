"""Each demand of an issue names a test or command that exists (tests/acceptance/issue_N.toml)."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

_spec = importlib.util.spec_from_file_location("print_note", ROOT / "tests" / "acceptance" / "print_note.py")
print_note = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(print_note)


@cache
def ids_in(path: Path) -> frozenset[str]:
    """Test ids of a file after its name: "test_x", "TestY", "TestY::test_z"; read from its source, nothing is run."""
    found = set()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, functions) and node.name.startswith("test"):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            found.add(node.name)
            inside = [n for n in node.body if isinstance(n, functions) and n.name.startswith("test")]
            found |= {f"{node.name}::{n.name}" for n in inside}
    return frozenset(found)


def missing_test(test: str, root: Path = ROOT) -> str | None:
    """Why a test id does not exist, or None. A file alone is an id; a parameter in brackets is not checked."""
    name, _, inner = test.partition("[")[0].partition("::")
    path = root / name
    if not path.is_file() or not path.name.startswith("test_"):
        return f"no test file {name}"
    if inner and inner not in ids_in(path):
        return f"{name} has no test {inner}"
    return None


def missing_command(command: str, root: Path = ROOT) -> str | None:
    """Why a command cannot be run, or None: make targets, python modules and scripts, files of the repository."""
    for part in command.split("&&"):
        words = [w for w in shlex.split(part) if not re.fullmatch(r"[A-Z_]+=.*", w)]
        if not words:
            return "an empty command"
        if words[0] == "make":
            targets = [w for w in words[1:] if not w.startswith("-")] or ["help"]
            text = (root / "Makefile").read_text(encoding="utf-8")
            absent = [t for t in targets if not re.search(rf"^{re.escape(t)}:", text, flags=re.M)]
        elif words[0] in ("python", "python3") and words[1:2] == ["-m"]:
            stem = root.joinpath(*words[2].split("."))
            known = stem.with_suffix(".py").is_file() or (stem / "__main__.py").is_file()
            absent = [] if known or words[2] in ("pytest", "ruff") else [f"module {words[2]}"]
        elif words[0] in ("python", "python3"):
            absent = [w for w in words[1:2] if not (root / w).is_file()]
        else:
            absent = [] if os.access(root / words[0], os.X_OK) and (root / words[0]).is_file() else [words[0]]
        if absent:
            return f"{', '.join(absent)} does not exist"
    return None


@pytest.mark.parametrize("path", print_note.ledgers(), ids=lambda path: path.stem)
def test_every_demand_is_shown_by_something_that_exists(path):
    problems = []
    for entry in print_note.read(path)["demand"]:
        reasons = [missing_test(test) for test in entry.get("tests", [])]
        if "command" in entry:
            reasons.append(missing_command(entry["command"]))
        problems += [f"{entry['demand']}: {reason}" for reason in reasons if reason]
    assert not problems, "\n".join(problems)
    assert print_note.note(print_note.read(path)).count("\n- ") == len(print_note.read(path)["demand"])


def test_what_does_not_exist_is_found():
    here = "tests/test_acceptance.py"
    assert missing_test(f"{here}::test_what_does_not_exist_is_found") is None
    assert missing_test(f"{here}::test_every_demand_is_shown_by_something_that_exists[issue_1]") is None
    assert missing_test(f"{here}::test_gone") and missing_test("tests/test_gone.py") and missing_test("Makefile")
    assert missing_command("make test") is None and missing_command(".ci/run") is None
    assert missing_command("OMP_NUM_THREADS=1 python -m simlab.environments.docs") is None
    assert missing_command("python tests/acceptance/print_note.py 1") is None
    assert missing_command("make tets") and missing_command("python -m simlab.gone") and missing_command("make && gone")


def test_a_malformed_ledger_is_refused(tmp_path):
    path = tmp_path / "issue_7.toml"
    path.write_text('issue = 7\ntitle = "t"\n[[demand]]\ndemand = "x"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"issue_7\.toml, demand 1"):
        print_note.read(path)
    path.write_text('issue = 8\ntitle = "t"\ndemand = []\n', encoding="utf-8")
    with pytest.raises(ValueError, match="number of the file"):
        print_note.read(path)


def test_an_unknown_issue_is_one_line(capsys):
    assert print_note.main(["999"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
