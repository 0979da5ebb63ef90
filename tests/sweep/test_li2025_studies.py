"""The studies of docs/li2025.md: foretold before they ran; the page says what their tables hold."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from simlab.environments.registry import WORLDS
from simlab.report import open_results
from simlab.sweep import study
from simlab.sweep.schema import difference
from simlab.train.mechanisms import MEASURES, REPORTED, accuracy, read, told_apart

ROOT = Path(__file__).resolve().parents[2]
SEEDS = {"li2025": 20, "li2025-limits": 20, "li2025-model": 12, "li2025-nodules": 8}
PAIR = ("jepa-finetuned", "image-only")
PAGE = (ROOT / "docs" / "li2025.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SEEDS)
def test_the_study_foretells_and_its_results_came_after_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # plug-ins are named from there
    monkeypatch.setattr("simlab.environments.registry.WORLDS", dict(WORLDS))  # they register for this test alone
    monkeypatch.setattr(study, "_RUN", set())
    asked = study.load(str(ROOT / "studies" / f"{name}.toml"))
    assert all((asked.question, asked.hypothesis, asked.prediction, asked.falsified_if))
    assert asked.n_seeds == SEEDS[name]
    published = open_results(ROOT / "results" / name)
    told = tomllib.loads((ROOT / "results" / name / "study.toml").read_text(encoding="utf-8"))
    assert difference(told, asked) is None and published.manifest["standing"]["kind"] == "confirmatory"
    table = published.table.to_pandas()
    assert set(table["status"]) == {"ok"}
    areas = table[(table["metric"] == "auc") & table["method"].isin(asked.arms)]
    assert areas["limit"].notna().all() and areas["value"].notna().all()  # each with limit and trained value
    assert areas.groupby(["cell", "method", "cohort"])["seed"].nunique().eq(SEEDS[name]).all()


def two(x: float) -> str:
    """As the page writes shares: .47."""
    return f"{x:.2f}".lstrip("0")


def test_the_page_says_what_the_tables_hold() -> None:
    """From which strength the order turns, with its interval; what is never reversed; the arms at home."""
    published = open_results(ROOT / "results" / "li2025")
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    words = {"clinical-slope": "clinical slope", "decoupling": "proxy decoupling", "acquisition-record":
             "acquisition, record", "acquisition-image": "acquisition, image"}
    ends = {(r["p_mechanism"], r["p_preset"]): r["difference"] for r in published.of(published.verdicts, PAIR)
            if r["p_strength"] == 1}
    turned = 0
    for r in published.of(published.boundary, PAIR):
        name = r["p_mechanism"].replace("all-clinical-slope", "all-clinical slope")
        row = next(line for line in rows if line.startswith(f"| {words.get(name, name)} |"))
        if r["measured"] is None:
            said = f"{ends[r['p_mechanism'], r['p_preset']]:+.3f}".replace("0.", ".")
            assert r["side"] == "ahead" and said in row, (r, row)
        else:
            turned += 1
            assert f"{two(r['measured'])} [{two(r['low'])}, {two(r['high'])}]" in row, (r, row)
    assert turned == 11
    table = published.table.to_pandas().query("metric == 'auc' and cohort == 'test' and p_mechanism == 'decoupling'")
    home = table[table["p_strength"] == 1].groupby(["p_preset", "method"])["value"].mean()
    for line, arm in (("JEPA, EMA target, fine-tuned", "jepa-finetuned"), ("both views, tuned", "supervised"),
                      ("imaging alone (published .73)", "image-only")):
        row = next(one for one in rows if one.startswith(f"| {line} |"))
        values = [home[f"li2025-trained-{which}", arm] for which in ("shared", "mixed", "independent")]
        assert [float(x) for x in re.findall(r"(\.\d{3}) \[", row)] == pytest.approx(values, abs=6e-4)


def test_the_page_has_each_arm_outside_where_the_order_first_turns() -> None:
    """AUCs by Student's t over seeds and the two limits, at the first strength where JEPA is decided behind."""
    published = open_results(ROOT / "results" / "li2025")
    table = published.table.to_pandas().query("metric == 'auc' and cohort == 'external'")
    first: dict[tuple[str, str], float] = {}
    for r in published.of(published.verdicts, PAIR):
        if r["verdict"] == "hurts":
            at = r["p_preset"], r["p_mechanism"]
            first[at] = min(first.get(at, 1.0), r["p_strength"])
    words = {"all-clinical-slope": "all-clinical slope", "clinical-slope": "clinical slope",
             "acquisition-record": "record's acquisition"}
    assert len(first) == 11
    for (preset, mechanism), strength in first.items():
        of = table.query("p_preset == @preset and p_mechanism == @mechanism and p_strength == @strength")
        told = []
        for arm in ("jepa-finetuned", "vicreg-finetuned", "supervised", "supervised-unregularised", "image-only"):
            values = of.loc[of["method"] == arm, "value"]
            half = stats.t.ppf(0.975, len(values) - 1) * values.std() / np.sqrt(len(values))
            told += [values.mean(), values.mean() - half, values.mean() + half]
        limits = of.groupby("method")["limit"].first()
        told += [limits["jepa-finetuned"], limits["image-only"]]
        start = f"| {preset.rpartition('-')[2]}, {words.get(mechanism, mechanism)} |"
        cells = next(line for line in PAGE.splitlines() if line.startswith(start)).split(" | ", 2)
        assert float(cells[1]) == strength
        assert [float(x) for x in re.findall(r"\.\d{3}", cells[2])] == pytest.approx(told, abs=6e-4)


def test_the_runs_that_mechanisms_are_told_by_are_matched_and_their_tables_follow_from_them() -> None:
    folder = ROOT / "results" / "li2025-mechanisms"
    asked = read(ROOT / "studies" / "mechanisms" / "li2025-mechanisms.toml")
    runs = pd.read_csv(folder / "runs.csv")
    spread = runs[list(REPORTED)].max() - runs[list(REPORTED)].min()
    assert (spread <= asked.within).all() and runs["seed"].nunique() == asked.seeds == 24
    assert "241 runs" in PAGE and len(runs) == 241 * len(asked.records)
    of = runs[runs["records"] == 1500].reset_index(drop=True)
    assert len(of[list(REPORTED)].round(2).drop_duplicates()) == 1  # as printed, one and the same
    scores = pd.read_csv(folder / "accuracy.csv").set_index(["home", "records", "given"])
    for n in asked.records:
        row = scores.loc[("any", n, "all")]
        assert f"{row['accuracy']:.3f} [{row['low']:.3f}, {row['high']:.3f}]".replace("0.", ".") in PAGE
    confusion = pd.read_csv(folder / "confusion.csv")
    right = confusion[confusion["true"] == confusion["named"]].groupby(["home", "records"])["share"].mean()
    told = scores.xs("all", level="given")["accuracy"]
    assert right.to_dict() == pytest.approx(told.to_dict(), abs=1e-5)  # balanced accuracy is the diagonal's mean
    pairs, table = told_apart(of, MEASURES, asked.seed)
    assert accuracy(pairs, asked.seed, draws=2)[0] == pytest.approx(told["any", 1500], abs=1e-5)
    drawn = confusion.query("home == 'any' and records == 1500").set_index(["true", "named"])["share"]
    assert table.stack().to_dict() == pytest.approx(drawn.to_dict(), abs=1e-5)
