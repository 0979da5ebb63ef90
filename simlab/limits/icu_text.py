"""The ICU world's limits as lines that a person reads. Imports no array module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FORECASTERS = ("best", "copy", "copy-true", "mean-at-hour")


def lines(found: Mapping[str, Any]) -> list[str]:
    """Forecasts (mean absolute error of the state and of channels), treatment effects, areas of the tasks."""
    return [*_forecasts(found), "", *_effects(found["effects"]), "", *_tasks(found["tasks"]), "",
            *(f"Note: {note}." for note in found["notes"])]


def _forecasts(found: Mapping[str, Any]) -> list[str]:
    rows = [r for r in found["forecast"] if r["cohort"] == "fixed"]
    if not rows:
        return [f"No forecast fits behind {found['context']} hours: raise max_hours."]
    kind = "exact, by a Kalman filter" if found["exact"]["forecast"] else "by particles"
    out = [f"Mean absolute error of forecasts from {found['context']} hours ({kind}), {rows[0]['n']} stays that last; "
           "in standard units (standard error)"]
    horizons = sorted({r["horizon"] for r in rows})
    out.append(f"  {'':14s}{'':14s}" + "".join(f"{f'{h} h':>16}" for h in horizons))
    for target in dict.fromkeys(r["target"] for r in rows):
        for name in _FORECASTERS:
            at = {r["horizon"]: r for r in rows if (r["target"], r["forecaster"]) == (target, name)}
            cells = "".join(f"{_with_error(at[h]['mae'], at[h]['mae_se']):>16}" for h in horizons)
            out.append(f"  {target if name == _FORECASTERS[0] else '':14s}{name:14s}{cells}")
    return out


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" + ("" if error is None else f" ({error:.3f})")


def _effects(effects: Mapping[str, Any]) -> list[str]:
    out = ["True effect on the state of a treatment held on at dose 1 (closed form)"]
    out.append(f"  {'':14s}{'hours':>6}" + "".join(f"{organ:>14}" for organ in effects["organs"]))
    for name, rows in effects["held"].items():
        for i, (h, row) in enumerate(zip(effects["horizons"], rows, strict=True)):
            out.append(f"  {name if i == 0 else '':14s}{h:6d}" + "".join(f"{v:14.3f}" for v in row))
    return out


def _tasks(tasks: Mapping[str, Any]) -> list[str]:
    out = ["Best area under the curve at hour 24 (Monte Carlo): extrapolated, lower end, standard error over stays"]
    for domain, found in tasks.items():
        out.append(f"  {domain}")
        for name, row in found.items():
            told = "nobody knows" if row["auc"] is None else (
                f"{row['auc']:.3f}  {row['lower']:.3f}  {row['se']:.3f}   prevalence {row['prevalence']:.3f}")
            out.append(f"    {name:28s}{told}")
    return out
