"""docs/clin-jepa.md against the published tables: what it says we measured is what they hold, at the size asked for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs" / "clin-jepa.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def means() -> pd.DataFrame:
    """Means over seeds of numbers that are of no task or of all: a row a method, a column a metric."""
    rows = pd.read_parquet(RESULTS / "clin-jepa-phases" / "results.parquet")
    assert set(rows["status"]) == {"ok"}
    rows = rows[~rows["metric"].isin(["auc-label", "auc-label-rolled"])]
    seeds = rows.groupby(["method", "metric"])["seed"].agg(["count", "nunique"])
    assert (seeds == 8).all(axis=None)  # every arm on every seed: pairs
    return rows.pivot_table(index="method", columns="metric", values="value")


def section(page: str, title: str) -> str:
    return page.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]


def table(text: str, first: str) -> list[dict[str, str]]:
    """The rows of the table whose first column has this name."""
    lines = text[text.index(f"| {first} |") :].split("\n\n", 1)[0].splitlines()
    head, _, *rows = ([cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines)
    return [dict(zip(head, row, strict=True)) for row in rows]


def percent(value: float) -> str:
    return f"{100 * value:+.0f} %"


def short(value: float, places: int) -> str:
    return f"{value:.{places}f}".removeprefix("0")


def test_every_arm_of_the_phases_has_its_means(page: str, means: pd.DataFrame) -> None:
    told = set()
    for row in table(section(page, "The phases"), "arm"):
        for name in re.sub(r" \(.*\)", "", row["arm"]).split(" = "):
            method = f"clin-jepa-{name.replace(', ', '-')}" if name != "clin-jepa" else name
            own = means.loc[method]
            assert row["drift at 48 h: published"] == percent(own["drift-48"]), method
            assert row["fixed cohort"] == percent(own["drift-fixed-48"]), method
            rank, norm = own["diag/latent-rank"], own["diag/latent-norm"]
            assert row["latent rank, norm"] == f"{rank:.1f}, {norm:.1f}", method
            assert row["mean AUROC"] == short(own["auc-mean"], 3), method
            told.add(method)
    assert told == set(means.index)


def test_paper_and_measurements_stand_side_by_side_and_the_unknown_beneath(page: str, means: pd.DataFrame) -> None:
    """The published numbers are those of the abstract; ours the means over seeds."""
    beside = page.split("\n## Side by side", 1)[1]
    head = next(line for line in beside.splitlines() if line.startswith("| |"))
    assert head == "| | the paper reports | we measured | on what |"
    rows = {line.split(" | ")[0].strip("| "): line for line in beside.split("\n## ", 1)[0].splitlines()
            if line.startswith("| ") and not line.startswith("| |")}
    drift = next(row for name, row in rows.items() if name.startswith("rollout drift"))
    tasks = next(row for name, row in rows.items() if name.startswith("tasks"))
    displaced = next(row for name, row in rows.items() if name.startswith("displacement"))
    for published, row in (("-15.7 %", drift), ("+4951 %", drift), ("4.83 against at most 2.62", displaced),
                           (".851", tasks), (".883", tasks)):
        assert published in row.split(" | ")[1]
    arms = {"frozen encoder": "clin-jepa-frozen-encoder", "phase 0 alone": "clin-jepa-phase0-only",
            "random encoder": "clin-jepa-random-encoder", "unguarded (collapsed)": "clin-jepa-unguarded"}
    for words, method in arms.items():
        own = means.loc[method]
        assert f"{words} {percent(own['drift-48'])} and {percent(own['drift-fixed-48'])}" in drift, method
    of_stay = [short(means.loc[m, "auc-stay"], 3) for m in ("clin-jepa", *list(arms.values())[:3])]
    early = [short(means.loc[m, "auc-early"], 3) for m in ("clin-jepa", *list(arms.values())[:3])]
    assert f"of the stay: {', '.join(of_stay)}" in tasks
    assert [name in tasks for name in early] == [True] * 4 and f"clin-jepa {early[0]}" in tasks
    assert f"clin-jepa {short(means.loc['clin-jepa', 'displacement-regime-latent'], 2)}" in displaced
    unknown = section(page, "What is unknown")
    assert [word for word in ("Of the paper", "Of our reading", "Of our numbers") if word not in unknown] == []


@pytest.mark.parametrize(("study", "trained"), [("phases", 96), ("ablations", 76), ("cold", 160), ("shift", 16)])
def test_studies_took_three_minutes_a_run_on_one_core_at_most_and_were_foretold(study: str, trained: int) -> None:
    """As their manifests record: one worker, one thread, predictions committed before the first results."""
    manifest = json.loads((RESULTS / f"clin-jepa-{study}" / "manifest.json").read_text(encoding="utf-8"))
    ended = [run for run in manifest["runs"] if run.get("seconds")]
    assert manifest["threads"] == 1 and {run["workers"] for run in ended} == {1}
    assert sum(run["stages"]["pretraining"]["computed"] for run in ended) == trained
    assert sum(run["seconds"] for run in ended) / trained < 180
    assert manifest["standing"]["kind"] == "confirmatory" and manifest["failed"] == manifest["missing_jobs"] == 0
