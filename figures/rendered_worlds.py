"""What the rendered worlds show: blobs, nodules at two hospitals, one record's events (docs/rendered.md).

    python -m figures rendered_worlds

A picture of the docs: PNG alone. Draws a few records of each world; takes seconds.
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
OTHER = {"psf_e": 3.5, "slab_e": 5.0, "noise_e": 60.0, "q_noise_e": 1.5}
COLUMNS = 5


def main(argv: list[str] | None = None) -> int:
    """Draw the figure; returns the exit status."""
    from figures.__main__ import single

    return single("rendered_worlds", argv)


def draw(_: Data) -> Figure:
    """Rows: blobs of a healthy and of an ill record over time, nodules of five records in each hospital; events."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 7.6), layout="constrained")
    spaces = figure.add_gridspec(5, COLUMNS, height_ratios=(1, 1, 1, 1, 1.7))
    axes = [[figure.add_subplot(spaces[row, i]) for i in range(COLUMNS)] for row in range(4)]
    blob_rows(axes[:2])
    nodule_rows(axes[2:])
    event_row(figure.add_subplot(spaces[4, :]))
    return figure


def blob_rows(axes: list[list[Axes]]) -> None:
    """Five visits of one healthy and of one ill record."""
    from simlab.environments.blob_knobs import spec

    cohort = _drawn("blobs", spec(layout="image", effect=3), 20)
    for ill, row in enumerate(axes):
        i = int((cohort.labels["outcome"] == ill).argmax())
        for j, one in enumerate(row):
            _image(one, cohort.streams["image"].values[i, j], 0, 1)
            one.set_title(f"month {cohort.streams['clinical'].values[i, j, 0]:.0f}")
        _name(row[0], "blobs, ill" if ill else "blobs, healthy")


def nodule_rows(axes: list[list[Axes]]) -> None:
    """The middle slices of five records' first scans, at the source's scanner and at another."""
    from simlab.environments.nodule_knobs import spec

    for row, knobs, domain in ((axes[0], {}, "source"), (axes[1], OTHER, "external")):
        cohort = _drawn("nodules", spec(side=48, **knobs), COLUMNS, domain)
        volumes = cohort.streams["image"].floats()
        for i, one in enumerate(row):
            _image(one, volumes[i, 0, volumes.shape[2] // 2], -1000, 200)
        _name(row[0], f"nodules, {domain}")


def event_row(axes: Axes) -> None:
    """All events of one record: laboratory values as their departure from the centre, codes and drugs as marks."""
    import numpy as np

    from simlab.environments.ehr import UNITS
    from simlab.environments.ehr_knobs import spec

    events = _drawn("ehr", spec(n_codes=6, n_drugs=4, d_nc=0, code_density=2.0), 12).events
    i = int(np.diff(events.offsets).argmax())
    rows = slice(*events.offsets[i : i + 2])
    codes = sorted(set(events.code[rows]), reverse=True)
    axes.set_yticks(range(len(codes)), codes)
    for time, code, value, unit in zip(*(getattr(events, k)[rows] for k in ("time", "code", "value", "unit")),
                                       strict=True):
        level = codes.index(code)
        if np.isfinite(value):
            _, centre, spread = next(u for u in UNITS if u[0] == unit)
            z = float((value - centre) / spread)
            axes.scatter(time, level, c=[z], cmap="coolwarm", vmin=-2.5, vmax=2.5, s=26, edgecolor="0.3", linewidth=0.4)
        else:
            axes.plot(time, level, "k|" if code.startswith("DIAG") else "kx", markersize=6)
    axes.tick_params(axis="y", labelsize=5.5)
    axes.set_xlabel("years since the first encounter")
    axes.set_title("ehr: one record (colour: laboratory value, blue low, red high; bar: diagnosis; cross: drug)")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _drawn(world: str, spec: object, n: int, domain: str = "source") -> Cohort:
    from simlab.environments.scenario import sample_cohort

    return sample_cohort(spec, "external-data" if domain == "external" else "test-data", n, 0, 0, domain, world=world)


def _image(axes: Axes, image: object, low: float, high: float) -> None:
    axes.imshow(image, cmap="gray", vmin=low, vmax=high)
    axes.set_xticks([])
    axes.set_yticks([])


def _name(axes: Axes, text: str) -> None:
    axes.set_ylabel(text)


if __name__ == "__main__":
    sys.exit(command(main))
