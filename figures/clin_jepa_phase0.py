"""Every edit of Clin-JEPA's curriculum after a warm start and without one: what it changes, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from figures.style import LINES
from figures.trajectory_panels import panels
from figures.trajectory_rows import paired, record, values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.report import Published

NAME = "clin-jepa-phase0"
INPUTS = ("results/clin-jepa-phases", "results/clin-jepa-ablations", "results/clin-jepa-cold")
WHOLE, COLD, NAMED_COLD = "clin-jepa", "-cold", "clin-jepa-cold"
STARTS = ("after phase 0", "without phase 0", "phase 0 itself taken away")
NO_PHASE0 = ("no-phase0", "random-encoder")  # edits that take it away
METRICS = {"auc-mean": "mean AUROC,\n15 tasks", "drift-fixed-48": "drift at 48 h,\nfixed cohort",
           "diag/latent-rank": "effective rank\nof latents", "diag/latent-norm": "norm of latents"}


def numbers(*studies: Published) -> list[dict[str, Any]]:
    """One record an edit, start and metric: the edited curriculum minus the whole one of the same start and study; of
    edits that take phase 0 away, minus the whole one after phase 0."""
    found = []
    for published, metric in ((p, m) for p in studies for m in METRICS):
        known = {arm: by_seed for (arm, _), by_seed in values(published, metric).items()}
        cold = published.study.name == NAMED_COLD
        whole = WHOLE + COLD if cold else WHOLE
        for arm in (a for a in known if a != whole and a.endswith(COLD) == cold):
            edit = arm.removeprefix(f"{WHOLE}-").removesuffix(COLD)
            found.append(record(STARTS[2 if edit in NO_PHASE0 else cold], edit, paired(known[arm], known[whole]),
                                metric=metric, study=published.study.name))
        if cold:
            found.append(record(STARTS[2], NO_PHASE0[0], paired(known[whole], known[WHOLE]), metric=metric,
                                study=published.study.name))
    return found


def draw(data: Data) -> Figure:
    """A panel a metric; a row an edit, those that were run after both starts first."""
    starts = {place: {r["series"] for r in data.numbers if r["place"] == place} for place in
              dict.fromkeys(r["place"] for r in data.numbers)}
    rows = sorted(starts, key=lambda place: (place not in NO_PHASE0, -len(starts[place])))

    def look(r: Mapping[str, Any]) -> tuple[str, str, float, float]:
        place = STARTS.index(r["series"])
        colour, _, mark = LINES[place]
        return colour, mark, 3, 0 if place == 2 else (place - 0.5) * 0.28

    return panels(data.numbers, METRICS, rows, look, "the edited curriculum minus the whole one of the same start, and "
                  "95 % interval over seeds", 3)
