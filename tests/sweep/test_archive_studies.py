"""The studies of the archive world: foretold before their runs, predictions closed forms, words recomputed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from simlab.environments.archive_knobs import spec
from simlab.limits.persistence import kept
from simlab.report import open_results
from simlab.sweep import study
from simlab.sweep.power import decides
from simlab.sweep.schema import difference

ROOT = Path(__file__).resolve().parents[2]
STUDIES = {"independent-causes": 8, "incomplete-data": 24}
MASKED, FILLED = "data2vec-modality-exact", "label-ridge-zero-filled"


@pytest.mark.parametrize("name", STUDIES)
def test_the_study_foretells_and_its_results_came_after_it(name: str) -> None:
    asked = study.load(str(ROOT / "studies" / f"{name}.toml"))
    assert all((asked.question, asked.hypothesis, asked.prediction, asked.falsified_if))
    assert asked.n_seeds == STUDIES[name]
    published = open_results(ROOT / "results" / name)
    told = tomllib.loads((ROOT / "results" / name / "study.toml").read_text(encoding="utf-8"))
    assert difference(told, asked) is None
    assert published.manifest["standing"]["kind"] == "confirmatory"
    assert {r["status"] for r in published.table.select(["status"]).to_pylist()} == {"ok"}


def test_what_each_mask_is_foretold_to_keep_is_the_closed_form() -> None:
    """A visit mask keeps independent causes where reliability x persistence exceeds the persistence of the nuisance."""
    for causes, nuisance in ((0.5, 0.0), (0.5, 0.5), (0.5, 0.9), (0.9, 0.0), (0.9, 0.5), (0.9, 0.9)):
        for w_c in (0.0, 0.25, 0.5, 1.0):
            world = spec(alpha_cause=causes, alpha_nuis=nuisance, w_c=w_c)
            low, high = kept(world, "visit", 8).auc
            assert low == high and (low > 0.86) == (0.8 * causes > nuisance) and (low > 0.86 or low == 0.5)
            least = kept(world, "modality", 8).auc[0]
            assert least == pytest.approx({0.0: 0.5, 0.25: 0.69, 0.5: 0.77, 1.0: 0.885}[w_c], abs=0.006)


def test_published_equivalences_are_two_one_sided_tests_from_the_table() -> None:
    """Recomputed from the seeds: both one-sided t tests against the margin at .025, the 95 % interval inside it."""
    published = open_results(ROOT / "results" / "incomplete-data")
    table = published.table.to_pylist()
    values = {(r["cell"], r["seed"], r["method"]): r["value"] for r in table
              if r["metric"] == "auc" and r["cohort"] == "test"}
    for first, second in ((MASKED, FILLED), (FILLED, "label-ridge-masked")):
        for record in published.of(published.verdicts, (first, second)):
            gaps = np.array([values[record["cell"], s, first] - values[record["cell"], s, second] for s in range(24)])
            if gaps.std() == 0:
                assert record["verdict"] == "equivalent"
                continue
            ends = (stats.ttest_1samp(gaps, -0.01, alternative="greater").pvalue,
                    stats.ttest_1samp(gaps, 0.01, alternative="less").pvalue)
            assert (max(ends) < 0.025) == (record["verdict"] == "equivalent")


def test_few_labels_leave_equivalence_out_of_reach() -> None:
    """The power of these seeds to show the equivalence of two arms that are equal, at the standard deviations seen."""
    published = open_results(ROOT / "results" / "incomplete-data")
    power = {}
    for record in published.of(published.verdicts, (MASKED, FILLED)):
        half = (record["high"] - record["low"]) / 2
        sd = half * np.sqrt(24) / stats.t.ppf(0.975, 23)
        power.setdefault(record["p_n_labelled"], []).append(decides(24, 0.0, sd, 0.01))
    assert np.median(power[120]) < np.median(power[400])
