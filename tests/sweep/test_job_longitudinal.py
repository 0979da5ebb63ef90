"""A job in the longitudinal world: gaps and irregular visits go through presentation, limits and the leak guard."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from simlab.environments.registry import World, find_world
from simlab.environments.scenario import sample_cohort
from simlab.environments.visit_knobs import spec
from simlab.evaluation import leak
from simlab.models import present
from simlab.sweep import job, progress, study
from simlab.sweep.plan import jobs


@pytest.fixture(autouse=True)
def known_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each limit (a simulation of seconds) once a test, however often a job or an assertion asks for it."""
    monkeypatch.setattr(World, "limit", lru_cache(maxsize=None)(World.limit))


def rows_of(axes: dict, **knobs: object) -> list[dict]:
    asked = study.build(
        {
            "study": {"name": "visits", "seed": 4},
            "world": {"name": "longitudinal", "knobs": {"n_unlab": 500, "d_ni": 2, "d_nc": 2, **knobs}},
            "axes": axes,
            "compare": {"arms": ["vicreg-frozen", "ridge"], "contrast": ["vicreg-frozen", "ridge"]},
            "seeds": {"looks": [2]},
            "train": {"width": 4, "steps": 10, "fleet": 2, "n_test": 1500},
        }
    )
    return [row for j in jobs(asked) for row in job.run_job(asked, j)]


def test_a_study_with_gaps_knows_its_limits() -> None:
    rows = rows_of({"p_miss_e": {"values": [0.2, 0.7]}}, p_miss=0.2, gamma_3=0.5)
    assert all(r["status"] == "ok" for r in rows)
    areas = {(r["cell"], r["seed"], r["method"], r["cohort"]): r for r in rows if r["metric"] == "auc"}
    assert (1, 0, "ridge", "external") in areas and (0, 0, "ridge", "external") not in areas
    world, s = find_world("longitudinal"), spec(p_miss=0.2, gamma_3=0.5, p_miss_e=0.7)
    assert areas[1, 0, "ridge", "external"]["limit"] == world.limit(s, "external", "full")
    assert areas[1, 0, "ridge", "test"]["limit"] == world.limit(s, "source", "full")
    for row in areas.values():
        assert 0.5 < row["value"] < row["limit"] + 4 * row["se"] + 0.003
    leak.check([r["value"] for r in rows if r["metric"] == "diag/leak-z"], [])


def test_irregular_visits_go_through_and_runs_repeat() -> None:
    asked = {"gamma_obs": {"values": [0.0, 1.0]}}, {"times": "poisson", "n_visits": 8, "r_v": 1.0}
    rows = rows_of(asked[0], **asked[1])
    assert all(r["status"] == "ok" for r in rows) and rows == rows_of(asked[0], **asked[1])
    gain = {r["cell"]: r["value"] for r in rows if r["metric"] == "auc" and r["method"] == "ridge"}
    assert gain[1] > gain[0] + 0.02  # the number of visits is shown, and speaks of the liability


def test_one_presentation_serves_cohorts_of_any_number_of_visits() -> None:
    """The same record looks the same whichever other records, and so padding, it comes with."""
    s = spec(times="poisson", n_visits=8, r_v=1.0, p_miss=0.3, d_ni=1, d_nc=1)
    inputs = sample_cohort(s, "training-data", 200, 1, 0, world="longitudinal").inputs(None)
    shown = present.fit(inputs)
    cohort = sample_cohort(s, "test-data", 400, 1, 0, world="longitudinal")
    for longest in (1, 2, 5):
        few = np.flatnonzero(cohort.length <= longest)
        alone = shown(cohort.take(few).inputs(None))
        for role, whole in shown(cohort.inputs(None)).items():
            np.testing.assert_array_equal(alone[role], whole[few])


def test_a_world_that_knows_no_limit_says_none() -> None:
    assert World("bare", (), spec, module=object()).limit(spec(), "source", "full") is None


@pytest.mark.parametrize("gaps", ["masked", "zero_filled"])
def test_both_presentations_of_gaps_reach_the_trainer(gaps: str) -> None:
    """One visit: masked gaps come with a flag for each channel; zero-filled ones are plain zeros."""
    s = spec(n_visits=1, p_miss=0.4, gaps=gaps, d_ni=1, d_nc=1)
    inputs = sample_cohort(s, "training-data", 300, 1, 0, world="longitudinal").inputs(None)
    clinical = present.fit(inputs, as_is=True)(inputs)["clinical"]
    gone = (inputs.streams["clinical"].floats() == 0).all(axis=(1, 2))
    assert 0.3 < gone.mean() < 0.5 and (clinical[gone][:, : s.p_clinical] == 0).all()
    assert clinical.shape[1] == s.p_clinical * (2 if gaps == "masked" else 1)


def test_arms_on_tokens_are_arms_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Irregular visits, gaps and a shifted hospital: arms that read tokens beside one that reads summaries, two seeds
    in one fleet; a seed's numbers depend neither on the other's nor on the stage cache."""
    monkeypatch.setattr("simlab.environments.registry.World.limit", lambda *_: None)  # not what this is about
    arms = ["multimodal-jepa-frozen-ridge", "coordinate-jepa-frozen", "random-tokens", "ridge", "visit-jepa-partial"]

    def made(fleet: int, cache: str = "") -> list[dict]:
        asked = study.build(
            {
                "study": {"name": "tokens", "seed": 4},
                "world": {"name": "longitudinal", "knobs": {"n_unlab": 200, "times": "poisson", "p_miss": 0.3}},
                "axes": {"p_miss_e": {"values": [0.6]}},
                "compare": {"arms": arms, "contrast": [arms[0], "ridge"]},
                "seeds": {"looks": [2]},
                "train": {"width": 3, "hidden": 8, "depth": 1, "steps": 3, "batch": 32, "fleet": fleet, "n_test": 300,
                          "coordinates": 2, "finetune_steps": 9},
            }
        )  # fmt: skip
        return [row for j in jobs(asked, cache=cache) for row in job.run_job(asked, j)]

    rows = made(2, str(tmp_path))
    assert [r["error"] for r in rows if r["status"] != "ok"] == []
    areas = {(r["seed"], r["method"], r["cohort"]) for r in rows if r["metric"] == "auc"}
    assert areas == {(s, a, c) for s in (0, 1) for a in arms for c in ("test", "external")}
    key = ("seed", "method", "cohort", "metric")
    assert {tuple(r[k] for k in key): r["value"] for r in rows} == {tuple(r[k] for k in key): r["value"]
                                                                     for r in made(1)}  # fmt: skip
    progress.counted()
    assert made(2, str(tmp_path)) == rows
    found = progress.counted()
    assert found == {"source-data/cached": 2, "adaptation/cached": 10, "evaluation/cached": 20}
