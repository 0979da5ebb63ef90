"""A job in the archive world: arms that read further labelled records, or an archive of images alone."""

from __future__ import annotations

from pathlib import Path

from simlab.environments.registry import find_world
from simlab.sweep import job, progress, study
from simlab.sweep.plan import jobs

ARMS = ["label-ridge-zero-filled", "label-ridge-masked", "label-ridge-complete", "image-data2vec-visit-exact",
        "data2vec-visit-exact", "tokens-ridge", "image-tokens-ridge"]


def rows_of(cache: str = "") -> list[dict]:
    asked = study.build({
        "study": {"name": "archive", "seed": 4},
        "world": {"name": "archive", "knobs": {"n_unlab": 120, "d_g": 2, "d_ni": 1, "d_nc": 1, "n_lab": 40}},
        "axes": {"w_c": [0.0, 1.0], "n_incomplete": [60, 200]},
        "compare": {"arms": ARMS, "contrast": [ARMS[0], ARMS[-2]]},
        "seeds": {"looks": [2]},
        "train": {"width": 2, "steps": 3, "batch": 32, "fleet": 2, "n_test": 300, "token_encoder": "linear",
                  "readout": "mean", "goal": "target"}})
    (one,) = jobs(asked, cache=cache)  # label knobs alone: one pretraining a recipe
    return job.run_job(asked, one)


def test_further_labels_are_counted_and_all_arms_have_the_limit_of_what_they_see(tmp_path: Path) -> None:
    rows = rows_of(str(tmp_path))
    assert [r["error"] for r in rows if r["status"] != "ok"] == []
    told = {(r["cell"], r["method"]): r["value"] for r in rows if r["metric"] == "diag/more-labels"}
    assert told == {(cell, arm): (60, 200)[cell % 2] for cell in range(4) for arm in ARMS[:3]}
    areas = {(r["cell"], r["seed"], r["method"]): r for r in rows if r["metric"] == "auc"}
    world = find_world("archive")
    spec = world.spec(n_unlab=120, d_g=2, d_ni=1, d_nc=1, n_lab=40, w_c=0.0)
    for arm in ARMS:
        view = "image" if arm == "image-tokens-ridge" else "full"
        assert areas[0, 0, arm]["limit"] == world.limit(spec, "source", view)
    for cell in (0, 2):  # more records without signatures: other fits of the arms that read them, and of no other
        for arm in ARMS:
            assert (areas[cell, 0, arm]["value"] != areas[cell + 1, 0, arm]["value"]) == arm.startswith("label-")
    progress.counted()
    assert rows_of(str(tmp_path)) == rows and "pretraining" not in progress.counted()
