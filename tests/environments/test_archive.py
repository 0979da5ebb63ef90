"""The archive world: the longitudinal world's records, labels that cost no pretraining, records without a stream."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from simlab.environments import visit_knobs
from simlab.environments.archive import shown_as
from simlab.environments.archive_knobs import ARCHIVE_KNOBS, ARCHIVE_OWN, spec
from simlab.environments.docs import knob_table
from simlab.environments.registry import find_world
from simlab.environments.scenario import sample_cohort
from simlab.errors import OutOfDomain, UnknownName
from simlab.limits.persistence import kept
from simlab.sweep import plan, study

ROOT = Path(__file__).parents[2]


SMALL = {"n_unlab": 60, "d_ni": 1, "d_nc": 1, "map_seed": 3}


def drawn(stage: str, world: str = "archive", **knobs: object) -> dict[str, np.ndarray]:
    asked = find_world(world).spec({**SMALL, **knobs})
    cohort = sample_cohort(asked, stage, 50, 4, 0, world=world)
    return {name: s.values for name, s in cohort.streams.items()} | {"y": cohort.labels.get("outcome", np.zeros(0))}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[k], b[k]) for k in a)


def test_it_is_the_longitudinal_world_where_causes_and_nuisance_keep_these_shares() -> None:
    theta, fast = -math.log(0.8) * 2, 100.0
    like = {"n_visits": 3, "r_v": 2.0, "d_g": 2, "alpha_g": 2.0}
    rates = {"theta_c": theta, "theta_u": theta, "theta_v": theta, "theta_g": fast}
    for stage in ("training-data", "test-data"):
        own = drawn(stage, alpha_cause=0.8, alpha_nuis=0.0, **like)
        assert same(own, drawn(stage, "longitudinal", **like, **rates))
    one = spec(alpha_cause=0.8, alpha_nuis=0.5)  # reliability x persistence against the nuisance's
    assert kept(one, "visit", 8).correlations["image"] == pytest.approx({"c": 0.64, "own": 0.64, "g": 0.5, "noise": 0})


def test_label_knobs_leave_the_unlabelled_records_and_their_job_alone() -> None:
    base = drawn("pretraining-data")
    for change in ({"w_c": 0.9}, {"h2": 0.2}, {"n_inc": 7}, {"n_lab": 30}, {"prevalence": 0.5}):
        assert same(base, drawn("pretraining-data", **change))
    assert not same(base, drawn("pretraining-data", alpha_nuis=0.1))
    asked = study.build({
        "study": {"name": "a"}, "world": {"name": "archive"},
        "axes": {"alpha_nuis": [0.0, 0.5], "w_c": [0.0, 1.0], "n_incomplete": [10, 20]},
        "compare": {"arms": ["visit-vicreg-exact", "tokens-ridge"], "contrast": ["visit-vicreg-exact", "tokens-ridge"]},
        "seeds": {"looks": [2]}, "train": {"fleet": 2}})
    assert len(plan.jobs(asked)) == 2 and plan.trainings(asked) == 4


def test_the_further_records_are_their_own_and_change_nobody_elses() -> None:
    few, more = drawn("incomplete-data"), drawn("training-data")
    assert not any(np.array_equal(few[k], more[k]) for k in few)
    assert same(more, drawn("training-data", n_inc=9000))
    cohort = sample_cohort(spec(SMALL), "incomplete-data", 20, 4, 0, world="archive")
    other = sample_cohort(spec(SMALL), "training-data", 20, 4, 0, world="archive")
    assert not set(cohort.subject) & set(other.subject)


def test_what_was_never_collected_is_unobserved_or_zero() -> None:
    cohort = sample_cohort(spec(SMALL), "incomplete-data", 20, 4, 0, world="archive")
    assert shown_as(cohort, "complete") is cohort
    for how in ("masked", "zero_filled"):
        made = shown_as(cohort, how)
        assert made.streams["image"] is cohort.streams["image"] and not made.streams["clinical"].values.any()
        assert made.streams["clinical"].observed.any() == (how == "zero_filled")
        assert not made.risk and np.array_equal(made.labels["outcome"], cohort.labels["outcome"])
    with pytest.raises(UnknownName, match="zero_filled"):
        shown_as(cohort, "zero-filled")


def test_bad_knobs_are_refused_by_name() -> None:
    for knobs, words in (({"theta_c": 0.1}, "theta_c"), ({"p_miss": 0.1}, "p_miss"), ({"alpha_cause": 1.2}, "alpha_c"),
                         ({"alpha_nuis": 1e-9, "r_v": 12.0}, "lower r_v"), ({"alpha_nuis": 0.0, "r_v": 50.0}, "r_v")):
        with pytest.raises((OutOfDomain, UnknownName), match=words):
            spec(**knobs)
    assert spec(alpha_nuis=1.0).theta_g == 0


def test_its_page_has_its_table() -> None:
    text = (ROOT / "docs" / "visits.md").read_text(encoding="utf-8")
    assert knob_table(ARCHIVE_OWN) in text
    known = {k.symbol for k in visit_knobs.LONGITUDINAL_KNOBS}
    dropped = known - {k.symbol for k in ARCHIVE_KNOBS}
    told = text[text.index("## The archive world"):]
    assert all(f"`{symbol}`" in told for symbol in dropped)
