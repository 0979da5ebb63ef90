"""Which figures there are: every script in `figures/` that has `INPUTS` and `draw`, and what each would be drawn from.

A script is one module:

    INPUTS = ("results/quick",)                 folders that --publish wrote, or files; () for closed forms and samples
    def numbers(quick): ...                     optional: the plotted numbers as records (else read from the figure)
    def draw(data): ...                         data.inputs, data.numbers -> a matplotlib Figure; reads nothing else

`NAME` and `INPUTS` with `{study}` in them stand for one figure a published study. `FIGURES` (name -> input) makes a
script several figures. `FOLDER`, `KINDS`, `DPI`, `SHADES`, `STYLE` say where and how files are
written, where not as usual.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from simlab.errors import SimlabError, unknown

HERE = Path(__file__).resolve().parent
FOLDER, KINDS, DPI = "results/figures", ("pdf", "png", "csv"), 300
UNREAD = ("manifest.json", "report.html")  # of a results folder: when and how it was made, which no figure shows


@dataclass(frozen=True)
class Data:
    """What `draw` gets: the opened inputs (`simlab.report.Published`, or paths), and the script's numbers, if any."""

    inputs: tuple[Any, ...]
    numbers: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Script:
    """One figure: its name, the module that draws it, and its inputs (paths from the root; or words of the script)."""

    name: str
    module: ModuleType
    inputs: tuple[str, ...]
    words: tuple[Any, ...] = ()

    @property
    def title(self) -> str:
        return (self.module.__doc__ or "").strip().splitlines()[0]

    @property
    def kinds(self) -> tuple[str, ...]:
        return getattr(self.module, "KINDS", KINDS)

    @property
    def folder(self) -> str:
        return getattr(self.module, "FOLDER", FOLDER)

    def record(self, root: Path) -> dict[str, str]:
        """What is embedded in each file of the figure: hashes of the script and of its data as they are now."""
        return {"figure": self.name, "script": source_hash(self.module.__name__), "data": self._data_hash(root)}

    def _data_hash(self, root: Path) -> str:
        digest = hashlib.sha256(repr(self.words).encode())
        for name in self.inputs:
            for path in files_of(self.name, root / name):
                digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:16]

    def data(self, root: Path) -> Data:
        """The opened inputs and the numbers. Raises SimlabError for an input that is not there."""
        from simlab.report import open_results

        for name in self.inputs:
            files_of(self.name, root / name)
        opened = [open_results(root / name) if (root / name).is_dir() else root / name for name in self.inputs]
        numbers = getattr(self.module, "numbers", None)
        return Data((*opened, *self.words), numbers(*opened, *self.words) if numbers else [])


def files_of(figure: str, path: Path) -> list[Path]:
    """The files of an input that a figure may show, by name. Raises SimlabError when the input is not there."""
    if path.is_file():
        return [path]
    found = sorted(p for p in path.glob("*") if p.is_file() and p.name not in UNREAD) if path.is_dir() else []
    if not found:
        study = path.name
        raise SimlabError(f"figure {figure}: {path} does not exist; python -m simlab.sweep {study}, then python -m "
                          f"simlab.sweep {study} --publish, makes it.")
    return found


def root() -> Path:
    """Where `results/` lies: the current folder, else the checkout that this package is in."""
    here = Path.cwd()
    return here if (here / "results").is_dir() or not (HERE.parent / "results").is_dir() else HERE.parent


def scripts(where: Path) -> dict[str, Script]:
    """Every figure by name, those of published studies included. Imports the scripts, which import no array module."""
    found: dict[str, Script] = {}
    for path in sorted(HERE.glob("*.py")):
        if path.stem.startswith("__") or not _declares(path):
            continue
        module = importlib.import_module(f"figures.{path.stem}")
        for script in _figures(module, path.stem, where):
            found[script.name] = script
    return found


def _figures(module: ModuleType, stem: str, where: Path) -> list[Script]:
    name, inputs = getattr(module, "NAME", stem), tuple(module.INPUTS)
    if hasattr(module, "FIGURES"):
        return [Script(key, module, inputs, (word,)) for key, word in module.FIGURES.items()]
    if "{study}" not in name:
        return [Script(name, module, inputs)]
    studies = sorted(p.parent.name for p in (where / "results").glob("*/study.toml"))
    return [Script(name.format(study=study), module, tuple(i.format(study=study) for i in inputs))
            for study in studies]


@lru_cache(maxsize=64)
def _declares(path: Path) -> bool:
    """Whether a file of this folder is a figure's script: it assigns INPUTS at its top level (read, not run)."""
    lines = ast.parse(path.read_text(encoding="utf-8")).body
    named = {target.id for line in lines if isinstance(line, ast.Assign) for target in line.targets
             if isinstance(target, ast.Name)}
    named |= {line.target.id for line in lines if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)}
    return "INPUTS" in named


def chosen(names: list[str], where: Path) -> list[Script]:
    """The figures of these names (all, without any), hyphens and underscores alike. Raises UnknownName."""
    there = scripts(where)
    by = {name.replace("_", "-"): script for name, script in there.items()}
    for name in names:
        if name.replace("_", "-") not in by:
            raise unknown("figure", name, list(there), "python -m figures --list shows all.")
    return [by[name.replace("_", "-")] for name in names] or list(there.values())


@lru_cache(maxsize=64)
def source_hash(module: str) -> str:
    """A hash of a script and of what it imports from this folder."""
    seen: dict[str, bytes] = {}
    todo = [module, "figures.style"]  # every figure is drawn in that style
    while todo:
        name = todo.pop()
        path = HERE / f"{name.removeprefix('figures.')}.py"
        if name in seen or not name.startswith("figures.") or not path.is_file():
            continue
        seen[name] = path.read_bytes()
        for node in ast.walk(ast.parse(seen[name])):
            if isinstance(node, ast.ImportFrom) and node.module:
                todo += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                todo += [alias.name for alias in node.names]
    digest = hashlib.sha256()
    for name in sorted(set(seen) - {"figures.__main__", "figures.catalog", "figures.files"}):  # these draw nothing
        digest.update(name.encode() + b"\0" + seen[name])
    return digest.hexdigest()[:16]
