"""Planted outcomes on a cohort's own covariates: the risk is the closed form's, the weights go where they are sent."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from simlab.cohort import Cohort, Stream, Task, load, save
from simlab.errors import InvalidCohort, OutOfDomain, UnknownName
from simlab.evaluation.auc import label_auc, weighted_auc
from simlab.limits import liability
from simlab.train import plasmode
from simlab.train.__main__ import main
from simlab.train.plasmode import TASK, Plasmode

N = 1500


def cohort_of(rng: np.random.Generator, n: int = N, wild: bool = True) -> Cohort:
    """Two streams of one visit, heavy-tailed, that share two causes; a real task whose labels are all one constant."""
    cause = rng.standard_normal((n, 2))
    made = {}
    for name in ("vitals", "labs"):
        noise = rng.standard_t(2, (n, 6)) if wild else rng.standard_normal((n, 6))
        x = np.concatenate([cause + 0.3 * noise[:, :2], noise[:, 2:]], axis=1)[:, None]
        made[name] = Stream(x.astype(np.float32), np.ones(x.shape, bool), tuple("abcdef"), ("",) * 6)
    return Cohort(
        streams=made, length=np.ones(n, np.int64), record=np.arange(n), subject=np.arange(n) // 2,
        site=np.full(n, "x"), tasks={"death": Task("death", "binary")},
        labels={"death": (np.arange(n) % 4 == 0).astype(float)},
        provenance={"course": {"1": "dead"}, "fitted": {"what": "channels", "subjects": [0]}},
    )  # fmt: skip


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def test_the_best_auc_is_the_closed_forms_whatever_the_covariates(rng: np.random.Generator) -> None:
    """g is normal scores, so only the grid of ranks keeps the two apart: 1/n, not 1/sqrt(n)."""
    for h2, prevalence in ((0.5, 0.2), (0.8, 0.05)):
        truth = Plasmode(0.6, h2=h2, prevalence=prevalence, pairs=2)
        p = plasmode.risk(cohort_of(rng), "death", truth)
        assert truth.limit == pytest.approx(liability.auc(np.sqrt(h2), prevalence))
        assert weighted_auc(p, p).value == pytest.approx(truth.limit, abs=0.004)
        assert p.mean() == pytest.approx(prevalence, abs=0.002)


def test_labels_come_true_as_often_as_the_risk_says(rng: np.random.Generator) -> None:
    planted = plasmode.plant(cohort_of(rng), "death", Plasmode(0.5, pairs=2), seed=3)
    p = planted.risk[TASK]
    drawn = np.mean([plasmode.redraw(planted, seed).labels[TASK] for seed in range(200)], axis=0)
    assert np.abs((drawn - p) / np.sqrt(np.maximum(p * (1 - p), 1e-9) / 200)).mean() == pytest.approx(0.8, abs=0.05)
    area = label_auc(p, planted.labels[TASK])
    assert abs(area.value - weighted_auc(p, p).value) < 4 * area.se


def test_the_extremes_of_w_c_are_shared_alone_and_private_alone(rng: np.random.Generator) -> None:
    """At 1 the risk follows what both views show and at 0 it does not; the private parts are seen by their own view."""
    cohort = cohort_of(rng, wild=False)
    shared, first, second = plasmode.components(cohort, "death", 2)
    assert max(abs(correlation(a, b)) for a, b in ((shared, first), (shared, second), (first, second))) < 0.05
    for w_c, w_u, expected in ((1.0, None, (1, 0, 0)), (0.0, 1.0, (0, 1, 0)), (0.0, 0.0, (0, 0, 1))):
        p = plasmode.risk(cohort, "death", Plasmode(w_c, w_u, pairs=2))
        g = np.argsort(np.argsort(p))
        ranks = [np.argsort(np.argsort(part)) for part in (shared, first, second)]
        found = [correlation(g, rank) for rank in ranks]
        np.testing.assert_allclose(found, expected, atol=0.06)
    # The pairs are the two causes: what both views show is read off either.
    cause = sum(cohort.streams[name].values[:, 0, :2].astype(float) for name in cohort.streams)
    design = np.column_stack([np.ones(N), cause])
    left = shared - design @ np.linalg.lstsq(design, shared)[0]
    assert 1 - left.var() / shared.var() > 0.9


def test_no_real_label_is_left(rng: np.random.Generator) -> None:
    cohort = cohort_of(rng)
    planted = plasmode.plant(cohort, "death", Plasmode(0.5, pairs=2), seed=0)
    assert set(planted.tasks) == set(planted.labels) == set(planted.risk) == {TASK}
    assert "course" not in planted.provenance and not planted.factors
    assert planted.provenance["fitted"]["subjects"] == [0]  # simlab.train must know whom never to test on
    other = Cohort(**{**vars(cohort), "labels": {"death": 1 - cohort.labels["death"]}})
    again = plasmode.plant(other, "death", Plasmode(0.5, pairs=2), seed=0)
    np.testing.assert_array_equal(planted.labels[TASK], again.labels[TASK])
    np.testing.assert_array_equal(planted.risk[TASK], again.risk[TASK])


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (["w_c=1.2"], OutOfDomain, r"w_c = 1.2: expected a value in \[0, 1\]"),
        (["w_c=0.8", "w_u=0.5"], OutOfDomain, "w_u = 0.5"),
        (["w_c=0.8,h2=1"], OutOfDomain, "h2 = 1"),
        (["w_c=0.8", "prevalence=0"], OutOfDomain, "prevalence"),
        (["w_c=0.8", "pairs=0"], OutOfDomain, "pairs"),
        (["w_c=x"], OutOfDomain, "expected a number"),
        (["w_c=0.8", "pairs=2.5"], OutOfDomain, "expected a whole number"),
        (["w_c"], OutOfDomain, "KEY=VALUE"),
        (["h2=0.5"], OutOfDomain, "needs w_c"),
        (["wc=0.5"], UnknownName, "w_c"),
    ],
)
def test_impossible_plasmodes_are_refused(given: list[str], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        plasmode.parse(given)


def test_more_pairs_than_a_view_has_are_refused(rng: np.random.Generator) -> None:
    """Six features a view: three pairs leave three private components, four leave two and rounding."""
    plasmode.components(cohort_of(rng, 200), "death", 3)
    for pairs in (4, 30):
        with pytest.raises(InvalidCohort, match=f"pairs = {pairs}: a view has only 6 independent features"):
            plasmode.components(cohort_of(rng, 200), "death", pairs)


def test_the_command_says_the_limit_and_scores_by_the_known_risk(
    rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(cohort_of(rng, 600, wild=False), tmp_path / "toy.cohort")
    argv = ["ridge", "--data", str(tmp_path / "toy.cohort"), "--compare", "clinical-only", "--splits", "2", "--quiet",
            "--plasmode", "w_c=0,w_u=1,h2=0.8,pairs=2", "--set", "encoder=linear",
            "--out", str(tmp_path / "run")]  # fmt: skip
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert f"Best possible AUC {Plasmode(0, 1, 0.8).limit:.3f}" in text and "AUC, known risk" in text
    assert "about 120 positive in each draw" in text  # .2 of 600
    saved = json.loads((tmp_path / "run" / "result.json").read_text())
    table = {line["arm"]: line["metrics"] for line in saved["table"]}
    # The first view's private part: a linear score of both views finds it, the second view alone cannot.
    assert table["ridge"]["known-risk"]["value"] > 0.75 > 0.6 > table["clinical-only"]["known-risk"]["value"]
    assert "mask-only" in table
    assert load(tmp_path / "toy.cohort").labels["death"].mean() == 0.25  # the file is as it was
