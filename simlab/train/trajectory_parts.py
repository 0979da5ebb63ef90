"""What is kept of a finished split of `python -m simlab.train clin-jepa`: its report, as it is shown, in the run's
folder (`parts`). A run that is killed and started again evaluates no finished split a second time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simlab.methods import Method
from simlab.sweep import keys
from simlab.sweep.whole_stays import of_model
from simlab.train import folder as run_folder
from simlab.trajectories import show
from simlab.trajectories.evaluate import Report

Part = dict[str, Any]  # "report": as JSON knows it; "text": its tables, of the first split alone
HERE = ("simlab.train.trajectory_run", "simlab.models.hour_llm", "simlab.models.hour_words")


def part(report: Report, shown: bool = True) -> Part:
    """A report as it is kept and printed: the same whether it was computed just now or read back."""
    return {"report": show.plain(report), "text": show.text(report) if shown else ""}


def made_with(frozen: Mapping[str, object], arms: Sequence[Method], plugins: Sequence[str] = ()) -> dict[str, Any]:
    """What a split's numbers follow from: what the run is, the sources that compute, and library versions."""
    modules = dict.fromkeys((*HERE, *(arm.trainer.partition(":")[0] for arm in arms)))
    known = {**frozen, "sources": keys.sources(tuple(modules), tuple(plugins)), "libraries": keys.libraries()}
    settings = frozen["settings"]
    if isinstance(settings, Mapping) and settings["encoder"] == "llm":
        known["model"] = of_model(settings["llm"])
    return json.loads(json.dumps(known))


def keep(folder: Path, index: int, made: Part, by: Mapping[str, Any]) -> None:
    run_folder.save(run_folder.part(folder, index), {**made, "made_with": by})


def kept(folder: Path, index: int, by: Mapping[str, Any]) -> Part | None:
    """The finished split; None where there is none, or one of another run, code or library. One that cannot be read is
    set aside."""
    found = run_folder.read(run_folder.part(folder, index))
    if not found or found.get("made_with") != by or not {"report", "text"} <= set(found):
        return None
    return {"report": found["report"], "text": found["text"]}
