"""Stays of the ICU world: hidden state and regime, what is charted of it, treatments (docs/icu.md).

    python -m figures icu_world

A picture of the docs: PNG alone. Draws a few hundred stays; takes seconds.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from simlab.errors import command

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from figures.catalog import Data
    from simlab.cohort import Cohort

INPUTS = ()
FOLDER, KINDS, DPI = "docs/pictures", ("png",), 90
STYLE = {"font.size": 8, "axes.titlesize": 8}
STAYS, SHADE = 60, {1: "#f4c7c3", 2: "#c9e4ca"}


def main(argv: list[str] | None = None) -> int:
    """Draw the figure; returns the exit status."""
    from figures.__main__ import single

    return single("icu_world", argv)


def draw(_: Data) -> Figure:
    """Columns: one stay that deteriorates and one that does not. Rows: state, charts, treatments."""
    from matplotlib.figure import Figure

    from simlab.environments.icu_knobs import spec
    from simlab.environments.scenario import sample_cohort

    cohort = sample_cohort(spec(hours=96), "test-data", STAYS, 0, 1, world="icu")
    regime, long = cohort.factors["regime"], cohort.length == 96
    falls = long & ((regime == 1).sum(axis=1) > 30) & (regime[:, 0] == 0)
    calm = long & (regime == 0).all(axis=1)
    figure = Figure(figsize=(7.0, 6.0), layout="constrained")
    axes = figure.subplots(4, 2, sharex=True, sharey="row", height_ratios=(1.5, 1, 1, 0.9))
    for column, (who, title) in enumerate(((falls, "deteriorates"), (calm, "stable throughout"))):
        stay(axes[:, column], cohort, int(who.argmax()), title)
    for row, name in enumerate(("true state\n(higher: worse)", "MAP, mmHg", "creatinine, mg/dL", "treatments")):
        axes[row, 0].set_ylabel(name)
    axes[0, 0].legend(ncols=2, fontsize=6, frameon=False, loc="upper left")
    return figure


def stay(axes: list[Axes], cohort: Cohort, i: int, title: str) -> None:
    """One stay from above to below; red shade: deteriorating, green: recovering."""
    import numpy as np

    from simlab.environments.icu_channels import ORGANS, TREATMENTS

    hour = np.arange(96) + 1
    state, action = cohort.streams["state"], cohort.streams["action"]
    for one in axes:
        for which, colour in SHADE.items():
            one.fill_between(hour, 0, 1, where=cohort.factors["regime"][i] == which, color=colour, lw=0,
                             transform=one.get_xaxis_transform())
    for k, organ in enumerate(ORGANS):
        axes[0].plot(hour, cohort.factors["state"][i, :, k], lw=1, label=organ)
    axes[0].set_title(f"a stay that is {title}" if title.startswith("stable") else f"a stay that {title}")
    for one, name in ((axes[1], "map"), (axes[2], "creatinine")):
        c = state.channels.index(name)
        seen = state.observed[i, :, c]
        one.plot(hour[seen], state.values[i, seen, c], ".", ms=4, color="black")
    for k, treatment in enumerate(TREATMENTS):
        on = action.values[i, :, action.channels.index(treatment.gives[0][0])] > 0
        axes[3].fill_between(hour, k - 0.35, k + 0.35, where=on, step="pre", color=f"C{k}", lw=0)
    axes[3].set_yticks(range(len(TREATMENTS)), [t.name for t in TREATMENTS])
    axes[3].set_ylim(len(TREATMENTS) - 0.5, -0.5)
    axes[3].set_xlabel("hours in intensive care")


if __name__ == "__main__":
    sys.exit(command(main))
