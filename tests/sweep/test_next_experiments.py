"""The next experiments of docs/li2025.md: committed before their runs; held to closed forms where there are any."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

import simlab.methods
from simlab.environments.knobs import spec
from simlab.limits.finite import frozen
from simlab.limits.finite import methods as forms
from simlab.limits.gaussian import moments
from simlab.limits.subspace import cca
from simlab.report import open_results
from simlab.report.scores import scores
from simlab.sweep import study
from simlab.sweep.schema import difference

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ("unlabelled-size", "unlabelled-size-shared", "width", "label-accrual", "label-accrual-outside",
           "pretraining-sites", "pretraining-sites-label", "target-adaptation", "target-adaptation-nuisance")


@pytest.mark.parametrize("name", STUDIES)
def test_the_study_foretells_and_its_results_came_after_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # plug-ins are named from there
    monkeypatch.setattr(simlab.methods, "METHODS", dict(simlab.methods.METHODS))  # they register for this test alone
    monkeypatch.setattr(study, "_RUN", set())
    asked = study.load(str(ROOT / "studies" / f"{name}.toml"))
    assert all((asked.question, asked.hypothesis, asked.prediction, asked.falsified_if)) and asked.n_seeds >= 8
    published = open_results(ROOT / "results" / name)
    told = tomllib.loads((ROOT / "results" / name / "study.toml").read_text(encoding="utf-8"))
    assert difference(told, asked) is None
    assert published.manifest["standing"]["kind"] == "confirmatory"
    assert {r["status"] for r in published.table.select(["status"]).to_pylist()} == {"ok"}


def test_labels_that_catch_up_are_as_many_as_the_closed_form_says() -> None:
    """Least squares beside canonical pairs: the measured change of sign within 15 % of it, or its interval holds it."""
    published = open_results(ROOT / "results" / "label-accrual")
    rows = [r for r in published.boundary if (r["first"], r["second"]) == ("cca-lda", "lda") and r["measured"]]
    assert len(rows) == 4
    n = np.geomspace(70, 9600, 2000)
    for row in rows:
        world = spec(w_c=row["p_w_c"])
        made = forms(world, moments(world, "source"), 4)
        gap = made["cross_modal"].curve(n) - made["supervised"].curve(n)
        at = n[np.flatnonzero(gap > 0)[-1]]
        assert abs(np.log(float(row["measured"]) / at)) < 0.15 or float(row["low"]) < at < float(row["high"])


def test_a_frozen_encoder_of_any_width_is_that_many_canonical_pairs() -> None:
    """VICReg of 4 to 30 numbers a view within .015 of the closed form; means of 12 seeds err by about .005."""
    published = open_results(ROOT / "results" / "width")
    points = {r["cell"]: (r["p_w_c"], r["p_n_labelled"]) for r in published.verdicts}
    widths = {f"vicreg-w{k}-frozen": k for k in (4, 8, 16, 30)}
    found = [r for r in scores(published) if r["method"] in widths]
    assert len(found) == len(widths) * len(points)
    for record in found:
        w_c, labels = points[record["cell"]]
        law = moments(spec(w_c=w_c), "source")
        k = widths[record["method"]]
        assert abs(record["mean"] - frozen(law, cca(law, k), k).curve(np.array([float(labels)]))[0]) < 0.015
