"""The tables of docs/atlas.md, from the published tables of results alone: `python tests/support/atlas_tables.py`.

Everything is computed anew from results.parquet by other means than the sweep's own (pandas, SciPy's t and PCHIP):
means, intervals, verdicts and changes of sign. Interval ends of a boundary are read from boundary.csv.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

ROOT = Path(__file__).resolve().parents[2]
BOUNDARIES = {
    "shared-signal": [("cca-lda", "lda"), ("vicreg-frozen", "lda"), ("vicreg-frozen", "supervised"),
                      ("jepa-frozen", "supervised")],
    "align-or-predict": [("cca-lda", "lda"), ("vicreg-frozen", "lda"), ("mae-frozen", "lda"), ("jepa-frozen", "lda")],
}
GRIDS = {
    "shared-signal": [("vicreg-finetuned", "supervised"), ("vicreg-finetuned", "self-training"),
                      ("jepa-frozen", "vicreg-frozen"), ("data2vec-frozen-ridge", "data2vec-modality-frozen-ridge")],
    "align-or-predict": [("vicreg-frozen", "mae-frozen"), ("jepa-frozen", "mae-frozen"),
                         ("vicreg-frozen", "supervised")],
    "shared-signal-wide": [("jepa-frozen", "cca-lda"), ("jepa-frozen-ridge", "ridge"),
                           ("vicreg-frozen-ridge", "ridge"),
                           ("data2vec-frozen-ridge", "data2vec-modality-frozen-ridge")],
}
MASKS = ("data2vec-modality", "data2vec", "data2vec-both")
FLAT = {"shared-signal-tokens": [*((f"{mask}-finetuned", "supervised") for mask in MASKS),
                                 *((f"{mask}-finetuned", f"{mask}-frozen-ridge") for mask in MASKS),
                                 *((f"{mask}-finetuned", "data2vec-modality-finetuned") for mask in MASKS[1:])]}
AXES = {"shared-signal": ("w_c", "n_labelled"), "shared-signal-wide": ("w_c", "n_labelled"),
        "shared-signal-tokens": ("w_c", "n_labelled"),
        "align-or-predict": ("alpha_g", "nu")}
SIGNS = {"helps": "+", "hurts": "-", "equivalent": "=", "undecided": "?"}
ROPE = 0.01


@lru_cache(maxsize=8)
def scores(study: str) -> pd.DataFrame:
    """AUC in the source hospital: rows (row axis, column axis, seed), one column an arm."""
    table = pd.read_parquet(ROOT / "results" / study / "results.parquet")
    kept = table[(table["metric"] == "auc") & (table["cohort"] == "test") & (table["status"] == "ok")]
    keys = [f"p_{name}" for name in AXES[study]]
    return kept.pivot_table(index=[*keys, "seed"], columns="method", values="value")


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % Student t interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean(), values.mean() - half, values.mean() + half


def verdict(low: float, high: float) -> str:
    """Helps, hurts, equivalent or undecided against the margin."""
    if low > ROPE or high < -ROPE:
        return "helps" if low > ROPE else "hurts"
    return "equivalent" if low >= -ROPE and high <= ROPE else "undecided"


@lru_cache(maxsize=256)
def differences(study: str, first: str, second: str) -> pd.DataFrame:
    """Mean, low, high and verdict of first - second, by (row, column)."""
    table = scores(study)
    gap = (table[first] - table[second]).groupby(level=[0, 1])
    found = gap.apply(lambda v: pd.Series(interval(v.to_numpy()), index=["mean", "low", "high"])).unstack()
    found["verdict"] = [verdict(low, high) for low, high in zip(found["low"], found["high"], strict=True)]
    return found


def crossing(study: str, first: str, second: str, row: float) -> float | None:
    """The last change of sign of the monotone cubic through the mean differences of one row."""
    mean = differences(study, first, second).loc[row, "mean"]
    log = AXES[study][1] == "n_labelled"
    x = np.log(mean.index.to_numpy(float)) if log else mean.index.to_numpy(float)
    curve = PchipInterpolator(x, mean.to_numpy())
    changes = [i for i in range(len(x) - 1) if mean.iloc[i] * mean.iloc[i + 1] < 0]
    if not changes:
        return None
    at = brentq(curve, x[changes[-1]], x[changes[-1] + 1])
    return float(np.exp(at)) if log else float(at)


def boundary(study: str) -> pd.DataFrame:
    """boundary.csv as it was published."""
    return pd.read_csv(ROOT / "results" / study / "boundary.csv")


def boundary_lines(study: str) -> list[str]:
    """Rows `| first - second | row | theory | measured [95 %] | off |` of the contrasts with a measured boundary."""
    lines, table, row_axis = [], boundary(study), f"p_{AXES[study][0]}"
    for first, second in BOUNDARIES[study]:
        for record in table[(table["first"] == first) & (table["second"] == second)].to_dict("records"):
            decided = differences(study, first, second).loc[record[row_axis], "verdict"].isin(["helps", "hurts"]).any()
            at = crossing(study, first, second, record[row_axis]) if decided else None
            theory = record["predicted"]
            none = f"none, {record['side']}" if decided else "no cell decided"
            shown = none if at is None else (
                f"{number(at)} [{number(record['low'], '<')}, {number(record['high'], '>')}]")
            off = "" if at is None or np.isnan(theory) else (
                f"{100 * (at / theory - 1):+.0f} %" if study == "shared-signal" else f"{at - theory:+.3f}")
            said = record["predicted_side"] if np.isnan(theory) else number(theory)
            lines.append(f"| {first} - {second} | {record[row_axis]:g} | {said} | {shown} | {off} |")
    return lines


def number(value: float, beyond: str = "") -> str:
    """A place on an axis: whole numbers of labels, three digits of a correlation; a missing end lies beyond."""
    if np.isnan(value):
        return f"{beyond} axis"
    return f"{value:.0f}" if value > 10 else f"{value:.3f}"


def grid_lines(study: str, first: str, second: str) -> list[str]:
    """One row a value of the row axis: difference and verdict sign in each column."""
    found, lines = differences(study, first, second), []
    for row in found.index.get_level_values(0).unique():
        cells = found.loc[row]
        marks = [f"{mean:+.3f}{SIGNS[word]}" for mean, word in zip(cells["mean"], cells["verdict"], strict=True)]
        lines.append(f"| {row:g} | " + " | ".join(marks) + " |")
    return lines


def flat_lines(study: str) -> list[str]:
    """One row a contrast of a small study: difference and verdict sign in each cell, in the order of the cells."""
    lines = []
    for first, second in FLAT[study]:
        found = differences(study, first, second)
        marks = [f"{mean:+.3f}{SIGNS[word]}" for mean, word in zip(found["mean"], found["verdict"], strict=True)]
        lines.append(f"| {first} - {second} | " + " | ".join(marks) + " |")
    return lines


def auc(study: str, arm: str, row: float, column: float) -> tuple[float, float, float]:
    """Mean AUC of an arm in one cell, with its interval."""
    return interval(scores(study)[arm].loc[row, column].to_numpy())


def all_lines() -> dict[str, list[str]]:
    """Every table's rows, by a heading."""
    found = {f"{study}: boundaries": boundary_lines(study) for study in BOUNDARIES}
    for study, contrasts in GRIDS.items():
        found |= {f"{study}: {a} - {b}": grid_lines(study, a, b) for a, b in contrasts}
    return found | {f"{study}: contrasts": flat_lines(study) for study in FLAT}


if __name__ == "__main__":
    for heading, rows in all_lines().items():
        print(f"\n{heading}\n" + "\n".join(rows))
