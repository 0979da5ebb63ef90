"""The table of knobs in docs/environments.md: `python -m simlab.environments.docs` prints it."""

from __future__ import annotations

from simlab.environments.knobs import GAUSSIAN_KNOBS, Knob

_HEAD = (
    "| Name | Symbol | Default | Domain | Sweep | Stage | Meaning |",
    "|---|---|---|---|---|---|---|",
)


def knob_table(knobs: tuple[Knob, ...] = GAUSSIAN_KNOBS) -> str:
    """A markdown table, one row a knob, in their order."""
    return "\n".join([*_HEAD, *(_row(knob) for knob in knobs)])


def _row(knob: Knob) -> str:
    default = "–" if knob.default is None else knob.default
    if isinstance(default, float):
        default = f"{default:.4g}"
    sweep = "–"
    if knob.sweep is not None:
        sweep = f"{knob.sweep[0]:g} to {knob.sweep[1]:g}{' (log)' if knob.scale == 'log' else ''}"
    cells = (f"`{knob.name}`", f"`{knob.symbol}`", default, knob.domain, sweep, knob.stage, knob.meaning)
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    print(knob_table())
