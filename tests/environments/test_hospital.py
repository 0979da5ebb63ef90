"""The simulated hospital: nodules and events of the same subjects, on whole days; its risk against what it claims."""

from __future__ import annotations

import numpy as np
import pytest

from simlab.cohort import Cohort
from simlab.environments import ehr, hospital
from simlab.environments.hospital_knobs import HOSPITAL_KNOBS, spec
from simlab.environments.nodule_knobs import FIELD
from simlab.environments.registry import find_world
from simlab.environments.scenario import sample_cohort
from simlab.errors import OutOfDomain, UnknownName
from simlab.evaluation.auc import label_auc, weighted_auc
from simlab.limits.ehr import bayes
from simlab.limits.ehr import risk as kalman
from simlab.limits.visits import law_of, regular_auc

SHOWN = {"layout": "coordinates", "visits": 3}


def draw(n: int, domain: str = "source", **knobs: object) -> Cohort:
    return sample_cohort(spec(**knobs), "test-data", n, 1, 0, domain, world="hospital")


def test_a_hospital_has_scans_events_two_sites_and_whole_days():
    site = {"point_spread_external": 3, "code_density_external": 3}
    inside, outside = (draw(30, domain, side=16, archived_share=0.5, **site) for domain in ("source", "external"))
    assert {*inside.site} == {"source"} and {*outside.site} == {"external"}
    for cohort in (inside, outside):
        image, labs = cohort.streams["image"], cohort.streams["clinical"]
        assert image.values.shape[2:] == (16, 16, 16) and image.units == ("HU",)
        assert np.array_equal(image.time, np.rint(image.time)) and np.array_equal(image.time, labs.time)
        last = cohort.length - 1
        assert image.observed[np.arange(30), last, 0].all()  # the last scan was always kept
        earlier = (np.arange(4) < last[:, None]) & (np.arange(4) < cohort.length[:, None])
        assert 0.2 < image.observed[:, :, 0][earlier].mean() < 0.8
        assert not image.values[~image.observed[:, :, 0]].any()
        days = [np.diff(t[:n]) for t, n in zip(image.time, cohort.length, strict=True)]
        assert min(d.min() for d in days if len(d)) >= 1
        assert cohort.events.time.max() <= image.time.max()
        assert cohort.provenance["field_mm"] == FIELD
    coded = [sum(c.startswith("DIAG") for c in cohort.events.code.tolist()) for cohort in (inside, outside)]
    assert coded[1] > 1.5 * coded[0]


def test_the_first_records_of_a_longer_draw_are_the_same():
    short, long = draw(4, side=16), draw(9, side=16)
    for name, stream in short.streams.items():
        assert np.array_equal(stream.values, long.streams[name].values[:4])
    assert np.array_equal(short.risk["outcome"], long.risk["outcome"][:4])
    assert short.events.code.tolist() == long.events.code[: len(short.events.code)].tolist()


def test_with_every_scan_kept_and_regular_days_it_is_the_longitudinal_world():
    """Half-yearly visits are 182.6 days, moved to 183: the closed form's times to 1 part in 400."""
    s = spec(archived_share=1, lab_share=1, visit_times="regular", **SHOWN)
    for view in ("full", "image", "clinical"):
        value, se = bayes(s, "source", view, 5000)
        assert abs(value - regular_auc(s, "source", view)) < 4 * se + 2e-4
    assert s.exact and hospital.limits(s)["upper_bound"] is False


def test_scans_that_were_not_kept_tell_nothing_and_cost():
    few, all_of = (spec(archived_share=p, drift_shared=3, **SHOWN) for p in (0, 1))
    lost, kept = (bayes(s, "source", "image", 8000) for s in (few, all_of))
    assert kept[0] - lost[0] > 3 * np.hypot(kept[1], lost[1])
    factors = hospital.sample_factors(50, few, "source", np.random.default_rng(0))
    shown = hospital.measure(factors, few, "source", np.random.default_rng(1)).shown
    assert (shown.seen["c_image"].any(axis=2).sum(axis=1) == 1).all()
    moved = {k: np.where(shown.seen[k], x, x + 100) for k, x in shown.values.items()}
    law = law_of(few, "source")
    assert np.array_equal(kalman(law, shown), kalman(law, type(shown)(moved, shown.seen, shown.time, shown.length)))


def test_risk_is_calibrated_and_no_score_of_scans_passes_the_limit():
    cohort = draw(4000, **SHOWN)
    p, y = cohort.risk["outcome"], cohort.labels["outcome"]
    assert abs((y - p).mean()) < 4 * np.sqrt((p * (1 - p)).sum()) / len(p)
    area = label_auc(p, y)
    assert abs(area.value - weighted_auc(p, p).value) < 4 * area.se
    s = spec(**SHOWN)
    assert hospital.limit(s, "source", "full") == pytest.approx(weighted_auc(p, p).value, abs=0.02)


def test_causes_link_scans_and_record():
    """The same shared cause drives the diameter and the first laboratory value; own causes drive others, unlinked."""
    cohort = draw(2000, layout="coordinates", visits=1)
    z = cohort.streams["image"].values[:, 0, 0]
    labs, seen = cohort.streams["clinical"].values[:, 0], cohort.streams["clinical"].observed[:, 0]
    shared, own = (np.corrcoef(z[seen[:, i]], labs[seen[:, i], i])[0, 1] for i in (0, 5))
    assert shared > 0.4 and abs(own) < 4 / np.sqrt(seen[:, 5].sum())


def test_bad_knobs_are_refused():
    with pytest.raises(OutOfDomain, match="mixes coordinates"):
        spec(observation_map="linear")
    with pytest.raises(UnknownName, match="archived_share"):
        spec(archived_shaer=0.5)
    with pytest.raises(UnknownName):
        hospital.observe(hospital.sample_factors(2, spec(), "source", np.random.default_rng(0)), spec(), "mars",
                         np.random.default_rng(0))
    names = [n for k in HOSPITAL_KNOBS for n in {k.name, k.symbol}]
    assert len(names) == len(set(names))
    assert find_world("hospital").limit(spec(), "source", "full") > 0.5
    assert ehr.names(spec())[0][0] == "LAB//L000"
