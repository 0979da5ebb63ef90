"""The command that computes a study's cells again, as its page prints it: by name where the name is this very study."""

from __future__ import annotations

import shlex
from pathlib import Path

from simlab.errors import SimlabError
from simlab.report.published import STUDY
from simlab.sweep import study as studies
from simlab.sweep.schema import Study, difference, resolved


def command(study: Study, folder: Path) -> str:
    """`python -m simlab.sweep STUDY [--out DIR]` for a run's folder, to which --cell and --seed are added."""
    out = _near(folder)
    if not _named(study):
        return f"python -m simlab.sweep {shlex.quote(str(out / STUDY))} --out {shlex.quote(str(out))}"
    elsewhere = "" if out == Path("runs") / study.name else f" --out {shlex.quote(str(out))}"
    return f"python -m simlab.sweep {study.name}{elsewhere}"


def published(study: Study, folder: Path) -> str:
    """The same for `results/STUDY`, wherever it was cloned: no machine's folder in it."""
    return f"python -m simlab.sweep {study.name if _named(study) else shlex.quote(f'results/{folder.name}/{STUDY}')}"


def _named(study: Study) -> bool:
    """Whether the study's name leads to this study: not to another of that name, or to one that --set changed."""
    path = studies.available().get(study.name)
    if path is None:
        return False
    try:
        found = studies.load(str(path))
    except SimlabError:
        return False
    return difference(resolved(found), study) is None


def _near(folder: Path) -> Path:
    full = folder.resolve()
    return full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else full
