"""Planted sources come back; the future, other subjects and other readers change no bit; bad input has its error."""

from __future__ import annotations

import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.special import ndtri

from simlab.cohort import Events
from simlab.errors import DamagedFile, InvalidData, NotConverged, OutOfDomain
from simlab.signatures import Settings, Signatures, fit

SOURCES, DAYS, LABS = 3, 730.0, 9
SETTINGS = Settings(signatures=SOURCES)


def events_of(rows: list[list[tuple[float, str, float, str]]]) -> Events:
    """Events from each record's rows (time, code, value, unit), sorted."""
    flat = [row for record in rows for row in sorted(record, key=lambda r: r[0])]
    offsets = np.concatenate([[0], np.cumsum([len(record) for record in rows])]).astype(np.int64)
    time, code, value, unit = zip(*flat, strict=True)
    return Events(offsets, np.array(time), np.array(code), np.array(value, np.float64), np.array(unit))


def planted(n: int = 500) -> tuple[np.ndarray, Events]:
    """n records of 3 independent Laplace sources: 9 laboratory values, linear in them, measured once (two of them three
    times) with an error of SD 0.3; 2 codes whose log10 rate follows a source; one drug that a source above its mean
    brings about."""
    rng = np.random.default_rng(5)
    s = rng.laplace(size=(n, SOURCES)) / np.sqrt(2)
    mixing = rng.standard_normal((LABS, SOURCES))
    level = s @ mixing.T
    rows: list[list[tuple[float, str, float, str]]] = []
    for i in range(n):
        one = [(t, f"LAB//{j}", level[i, j] + 0.3 * ndtri(e), "mg/dL") for j in range(LABS)
               for t, e in rng.uniform(0, [DAYS, 1], (3 if j < 2 else 1, 2))]
        for k in range(2):
            count = rng.poisson(20 * 10 ** (0.3 * np.clip(s[i, k], -3, 3)))
            one += [(t, f"ICD//{k}", np.nan, "") for t in rng.uniform(0, DAYS, count)]
        if s[i, 2] > 0:
            one.append((rng.uniform(0, DAYS), "RX//a", np.nan, ""))
        rows.append(one)
    return s, events_of(rows)


@pytest.fixture(scope="module")
def case():
    s, events = planted()
    training = np.arange(len(s)) < 400
    time = np.full((len(s), 1), DAYS)
    found = fit(events, training, SETTINGS, np.random.default_rng(0), time)
    return s, events, training, time, found


def test_planted_sources_are_recovered_on_subjects_not_fitted(case):
    s, events, training, time, found = case
    stream = found.read(events.take(np.flatnonzero(~training)), time[~training], np.ones((100, 1), bool))
    read = stream.floats()[:, 0]
    match = np.abs(np.corrcoef(s[~training].T, read.T)[:SOURCES, SOURCES:])
    pairs = linear_sum_assignment(-match)
    assert match[pairs].min() >= 0.9  # .959 seen; its standard error over 100 subjects is .008
    assert read.shape[1] == SOURCES and stream.channels[0] == "exp-000"
    assert np.all(found.mixing[np.abs(found.mixing).argmax(axis=0), np.arange(SOURCES)] > 0)


def test_sources_have_a_standard_deviation_of_one_half_on_training(case):
    _, events, _, time, _ = case
    small = fit(events.take(np.arange(60)), np.ones(60, bool), replace(SETTINGS, signatures=2),
                np.random.default_rng(0), time[:60])
    assert small.at(events, np.arange(60), time[:60, 0])[0].std(axis=0) == pytest.approx(0.5)


def test_nothing_after_a_scan_reaches_its_signatures(case):
    """Readings and fit at day 365: later events shuffled, altered, dropped or added leave every bit as it was."""
    _, events, _, _, _ = case
    small = events.take(np.arange(60))
    time, mask = np.full((60, 1), 365.0), np.arange(60) < 40
    settings = replace(SETTINGS, signatures=2)
    known = fit(small, mask, settings, np.random.default_rng(0), time)
    before = known.read(small, time, np.ones(time.shape, bool)).values
    later = small.time > 365
    rng = np.random.default_rng(2)
    value, code = small.value.copy(), small.code.copy()
    order = rng.permutation(np.flatnonzero(later))
    value[later], code[later] = 1e6, small.code[order]
    altered = Events(small.offsets, small.time, code.astype("U20"), value, np.where(later, "mg/dL", small.unit))
    renamed = Events(small.offsets, small.time, np.where(later, "NEW//code", small.code), small.value, small.unit)
    for other in (altered, renamed, small.rows(~later)):
        assert np.array_equal(known.read(other, time, np.ones(time.shape, bool)).values, before)
        again = fit(other, mask, settings, np.random.default_rng(0), time)
        assert again.channels == known.channels and np.array_equal(again.unmixing, known.unmixing)
        assert np.array_equal(again.read(other, time, np.ones(time.shape, bool)).values, before)


def test_the_test_can_fail(case):
    """An event of the past that is altered does change what is read."""
    _, events, _, time, found = case
    value = np.where(np.arange(len(events.value)) < events.offsets[1], events.value + 5, events.value)
    altered = Events(events.offsets, events.time, events.code, value, events.unit)
    at = np.array([0]), time[:1, 0]
    assert not np.array_equal(found.at(altered, *at)[0], found.at(events, *at)[0])


def test_other_subjects_change_neither_fit_nor_reading(case):
    _, events, _, time, found = case
    first, chosen = events.take(np.arange(80)), np.arange(80) < 50
    rng, settings = np.random.default_rng(9), replace(SETTINGS, signatures=2)
    both = fit(first, chosen, settings, rng, time[:80])
    alone = fit(events.take(np.arange(50)), np.ones(50, bool), settings, rng, time[:50])
    assert np.array_equal(alone.unmixing, both.unmixing) and alone.channels == both.channels
    some = np.array([3, 55, 70])
    few = found.read(events.take(some), time[some], np.ones((3, 1), bool)).values
    assert np.array_equal(few, found.read(first, time[:80], np.ones((80, 1), bool)).values[some])


def test_a_frozen_fit_is_saved_and_loaded_bit_for_bit(case, tmp_path):
    _, events, _, time, found = case
    found.save(tmp_path / "fit.npz")
    again = Signatures.load(tmp_path / "fit.npz")
    assert again.settings == found.settings and again.channels == found.channels
    some = np.arange(20), time[:20, 0]
    assert np.array_equal(again.at(events, *some)[0], found.at(events, *some)[0])
    data = (tmp_path / "fit.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.npz").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as z:
        z.writestr("a", "b")
    for name in ("cut", "text", "other", "missing"):
        with pytest.raises(DamagedFile, match=name):
            Signatures.load(tmp_path / f"{name}.npz")


def test_visits_without_history_are_unobserved(case):
    _, events, _, _, found = case
    time = np.array([[-1.0, 400.0, 500.0]])
    stream = found.read(events.take(np.array([0])), time, np.array([[True, True, False]]))
    assert stream.observed[0, :, 0].tolist() == [False, True, False] and np.all(stream.values[0, 2] == 0)


def test_a_record_of_unknown_codes_alone_reads_as_what_is_filled_in(case):
    *_, found = case
    got, known = found.at(events_of([[(1.0, "NEW//a", np.nan, "")]]), np.array([0]), np.array([2.0]))
    assert known.all() and np.isfinite(got).all()
    assert found.ignored(events_of([[(1.0, "NEW//a", np.nan, "")]])) == {"NEW//a": 1}


def test_cross_sections_are_drawn_where_no_dates_are_given(case):
    _, events, _, _, _ = case
    small = events.take(np.arange(60))
    settings = replace(SETTINGS, signatures=2, per_year=0.5)
    fits = [fit(small, np.ones(60, bool), settings, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(fits[0].unmixing, fits[1].unmixing)
    assert not np.array_equal(fits[0].unmixing, fits[2].unmixing)


def test_units_and_codes_that_were_not_fitted(case):
    _, events, _, time, found = case
    foreign = Events(events.offsets, events.time, events.code, events.value,
                     np.where(events.code == "LAB//3", "mmol/L", events.unit))
    with pytest.raises(InvalidData, match=r"LAB//3.*mmol/L.*mg/dL"):
        found.read(foreign, time, np.ones(time.shape, bool))
    lenient = replace(found, settings=replace(SETTINGS, strays="drop"))
    assert lenient.ignored(foreign) == {"LAB//3": 500} and found.ignored(events) == {}
    with pytest.raises(InvalidData, match="500 records, dates of 3"):
        found.read(events, time[:3], np.ones((3, 1), bool))


def test_what_cannot_be_fitted_is_refused(case):
    _, events, training, time, _ = case
    rng = np.random.default_rng(0)
    for bad in ({"signatures": 0}, {"window": -1}, {"day": -1.0}, {"strays": "keep"}, {"seed": -1}):
        with pytest.raises(OutOfDomain, match=next(iter(bad))):
            Settings(**bad)
    with pytest.raises(OutOfDomain, match=re.escape("99 sources")):
        fit(events.take(np.arange(60)), training[:60], replace(SETTINGS, signatures=99), rng, time[:60])
    with pytest.raises(OutOfDomain, match="no code is in 500"):
        fit(events, training, replace(SETTINGS, records=500), rng, time)
    with pytest.raises(InvalidData, match="mask of 2"):
        fit(events, training[:2], SETTINGS, rng)
    with pytest.raises(NotConverged, match="iterations"):
        fit(events.take(np.arange(60)), training[:60], replace(SETTINGS, iterations=1, tolerance=1e-12), rng, time[:60])
