"""The headline studies: they load, they predict what the closed forms say, docs/atlas.md says what was found."""

from __future__ import annotations

import json
import math
from pathlib import Path

import atlas_sentences
import atlas_tables
import numpy as np
import pytest

from simlab.environments.knobs import spec
from simlab.limits import finite
from simlab.limits.gaussian import moments
from simlab.limits.subspace import cca, cross_prediction
from simlab.sweep import plan, results, theory
from simlab.sweep.schema import Study
from simlab.sweep.study import load

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ("shared-signal", "align-or-predict", "shared-signal-wide", "shared-signal-tokens")
N = np.array([75.0, 150, 300, 600, 1200, 2400])


@pytest.fixture(scope="module", params=STUDIES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def study(name: str) -> Study:
    return load(str(ROOT / "studies" / f"{name}.toml"))


def world(study: Study, **knobs: float) -> object:
    return spec(**study.knobs, **knobs)


def test_each_seed_is_pretrained_once_for_the_whole_map_of_labels() -> None:
    """Both axes of the first map touch labels alone: as many jobs as fleets. Nuisance touches the source: one job a
    point and fleet."""
    for name, fleets in (("shared-signal", 4), ("shared-signal-wide", 2)):
        found = study(name)
        assert [axis.stage for axis in found.axes] == ["labels", "labels"]
        assert len(plan.jobs(found)) == fleets
    assert len(plan.jobs(study("align-or-predict"))) == 24 * 3


def test_the_predicted_boundaries_are_the_closed_forms() -> None:
    """n* against least squares and against the best penalty, as the study's prediction has them."""
    first = study("shared-signal")
    plain, tuned = [], []
    for w_c in (0.4, 0.6, 0.8, 0.9, 0.95):
        law = moments(world(first, w_c=w_c), "source")
        found = finite.crossovers(finite.methods(world(first, w_c=w_c), law, 4))
        plain.append(found["cross_modal|supervised"].n)
        tuned.append(found["cross_modal|supervised_tuned"].n)
    assert "n* = " + " / ".join(f"{n:.0f}" for n in plain) in first.prediction
    assert tuned[:2] == [None, None]
    assert "changes sign at " + " / ".join(f"{n:.0f}" for n in tuned[2:]) in first.prediction


def test_the_predicted_gains_of_fine_tuning_are_the_closed_forms() -> None:
    first = study("shared-signal")
    gains = {}
    for w_c in (0.2, 0.8, 0.9, 0.95):
        forms = finite.methods(world(first, w_c=w_c), moments(world(first, w_c=w_c), "source"), 4)
        gains[w_c] = forms["cross_modal_finetuned"].curve(N) - forms["supervised_tuned"].curve(N)
    few, some = ([f"{gains[w_c][i]:.3f}".lstrip("0") for w_c in (0.95, 0.9, 0.8)] for i in (0, 2))
    assert f"ahead by {' / '.join(few)} at w_c" in first.prediction
    assert f"by {' / '.join(some)} with 300" in first.prediction
    assert gains[0.2].max() < 0.003


def test_the_world_has_the_limits_of_the_default_one() -> None:
    """Two readings of reliability 2/3 are one of .8, and 60 features are 60: n* are those of docs/theory.md."""
    here, default = world(study("shared-signal"), w_c=0.6), spec(w_c=0.6)
    one, two = (finite.methods(found, moments(found, "source"), 4) for found in (here, default))
    for form in ("supervised", "cross_modal"):
        np.testing.assert_allclose(one[form].curve(N), two[form].curve(N), rtol=0, atol=1e-12)


def test_the_thresholds_of_aligning_and_predicting() -> None:
    """The study's own theory, 2 % to either side: mae-frozen falls behind lda where nu alpha_g passes sqrt(.5), at no
    correlation for an amplitude of .5; vicreg-frozen where nu passes .5."""
    found = study("align-or-predict")
    for arm, thresholds in (("mae-frozen", {1.0: 0.5**0.5, 2.0: 0.5**0.5 / 2, 4.0: 0.5**0.5 / 4}),
                            ("vicreg-frozen", {1.0: 0.5, 4.0: 0.5})):
        for amplitude, at in thresholds.items():
            sides = [world(found, alpha_g=amplitude, nu=at * side) for side in (0.98, 1.02)]
            below, above = theory.points(found, (arm, "lda"), sides).cells
            assert below > 0.07 and above < -0.19
    beyond = theory.points(found, ("mae-frozen", "lda"), [world(found, alpha_g=0.5, nu=0.99)])
    assert beyond.cells[0] > 0.07


def test_the_predicted_scores_of_the_regimes() -> None:
    """.765 where recovered, .5 where not, .692 for least squares, with 150 labels."""
    found = study("align-or-predict")
    here = world(found, alpha_g=2.0, nu=0.45)
    law, n = moments(here, "source"), np.array([150.0])
    kept, lost = (finite.frozen(law, span(law, 4), 4).curve(n)[0] for span in (cca, cross_prediction))
    plain = finite.methods(here, law, 4)["supervised"].curve(n)[0]
    told = [f"{value:.3f}".lstrip("0") for value in (kept, lost, plain)]
    assert told == [".765", ".500", ".692"]
    assert all(value.rstrip("0") in found.prediction for value in told)


def test_published_tables_are_the_runs(name: str) -> None:
    """The digest of the table as it lies there is the manifest's; all rows are there; the study is the one in studies/;
    less than 2 MB."""
    folder = ROOT / "results" / name
    manifest = json.loads((folder / "manifest.json").read_text())
    published = load(str(folder / "study.toml"))
    assert (published.prediction, published.falsified_if, published.seed, published.axes, published.contrasts) == (
        (one := study(name)).prediction, one.falsified_if, one.seed, one.axes, one.contrasts)
    table = results.read(published, folder / "results.parquet")
    assert results.digest(table) == manifest["digest"]
    assert manifest["failed"] == 0 and manifest["missing_jobs"] == 0
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2_000_000


def test_published_verdicts_follow_from_the_tables(name: str) -> None:
    """Each difference and interval in verdicts.csv, computed anew by pandas and SciPy."""
    import pandas as pd

    told = pd.read_csv(ROOT / "results" / name / "verdicts.csv")
    rows, columns = (f"p_{axis}" for axis in atlas_tables.AXES[name])
    for (first, second), group in told.groupby(["first", "second"]):
        found = atlas_tables.differences(name, first, second)
        group = group.set_index([rows, columns]).sort_index()
        for mine, theirs in (("mean", "difference"), ("low", "low"), ("high", "high")):
            np.testing.assert_allclose(found[mine], group[theirs].loc[found.index], rtol=0, atol=1e-9)
        assert (found["verdict"] == group["verdict"].loc[found.index]).all()


def test_published_boundaries_are_where_the_mean_curves_cross() -> None:
    for name in atlas_tables.BOUNDARIES:
        table = atlas_tables.boundary(name)
        wanted = table[table["first"].isin(["cca-lda", "mae-frozen"]) & (table["second"] == "lda")]
        for told in wanted.to_dict("records"):
            at = atlas_tables.crossing(name, told["first"], told["second"], told[f"p_{atlas_tables.AXES[name][0]}"])
            assert (at is None) == math.isnan(told["measured"])
            assert at is None or at == pytest.approx(told["measured"], rel=0.003)  # theirs is sought on 129 points


def test_every_table_of_the_atlas_is_recomputed() -> None:
    """Each row of each table stands in docs/atlas.md as the published results give it."""
    text = (ROOT / "docs" / "atlas.md").read_text()
    missing = [row for rows in atlas_tables.all_lines().values() for row in rows if row not in text]
    assert not missing, "not in docs/atlas.md:\n" + "\n".join(missing)


def test_sentences_of_the_atlas_are_recomputed() -> None:
    """Each sentence of docs/atlas.md that holds a number of results stands there as the published tables give it."""
    text = " ".join((ROOT / "docs" / "atlas.md").read_text().split())
    missing = [told for told in atlas_sentences.sentences() if told not in text]
    assert not missing, "not in docs/atlas.md:\n" + "\n".join(missing)


@pytest.mark.proof
def test_dry_runs_tell_the_cost_and_write_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command as a newcomer gives it, at small sizes: cells, pretrainings, a time."""
    from simlab.sweep.__main__ import main

    small = [f"--set={key}" for key in ("n_unlabelled=600", "train.n_test=200", "train.steps=10",
                                        "train.finetune_steps=9")]
    assert main([str(ROOT / "studies" / f"{name}.toml"), "--dry-run", "--out", str(tmp_path / name), *small]) == 0
    told = capsys.readouterr().out
    assert f"cells {plan.n_cells(study(name))} " in " ".join(told.split())
    assert "trainings" in told and "time" in told and not (tmp_path / name).exists()
