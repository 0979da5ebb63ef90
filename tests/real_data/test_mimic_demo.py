"""The MIMIC-IV demo 2.2, counted independently once: the adapter must find the same numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
import pytest

from real_data.account import Account
from real_data.mimic_iv import adapter, binning, layout, stays
from real_data.mimic_iv.stays import Rules
from real_data.mimic_iv.variables import STATE

# The counts below belong to these files and no others.
SHA256 = {
    "icu/icustays": "e05e81aa52a3022e522b6832a898101a69b84e64c17bb344d819e458d5bc21b3",
    "icu/chartevents": "b48fec1243fe0c371e47c105181e1c3c585ad4b37eaf6e02a4ed41328047cd3d",
}


@pytest.fixture(scope="module")
def found(data_dir):
    tables = layout.find(data_dir / "mimic-iv-demo-2.2")
    for table, expected in SHA256.items():
        digest = hashlib.sha256(tables.paths[table].read_bytes()).hexdigest()
        if digest != expected:
            pytest.fail(f"{tables.paths[table]} is another file than the one that was counted (sha256 {digest})")
    return tables


@pytest.fixture(scope="module")
def everyone(found):
    return stays.read(found, Account())


@pytest.fixture(scope="module")
def prepared(data_dir):
    account = Account()
    return adapter.prepare(data_dir / "mimic-iv-demo-2.2", Rules(), account, lambda _: None), account


def test_stays_subjects_and_ages(everyone):
    assert (everyone.height, everyone["subject_id"].n_unique()) == (140, 100)
    assert (everyone["age"].min(), everyone["age"].max()) == (21, 92)
    assert everyone.filter(pl.col("anchor_age") == 91)["subject_id"].n_unique() == 3
    assert everyone["died"].sum() == 20
    assert everyone.filter(pl.col("died") == 1)["hadm_id"].n_unique() == 15
    assert everyone.filter(pl.col("outtime") > pl.col("dischtime")).height == 22
    assert everyone.filter(pl.col("hours_in_hospital") < 0).height == 2


@pytest.mark.parametrize(
    ("window", "first", "counts"),
    [
        (24, False, (117, 88, 14, 10)),
        (48, False, (74, 56, 12, 9)),
        (30, False, (96, 72, 13, 10)),
        (24, True, (88, 88, 9, 7)),
        (48, True, (56, 56, 8, 7)),
    ],
)
def test_cohorts_by_window(everyone, window, first, counts):
    kept = stays.select(everyone, Rules(window=window, first_stay=first), Account())
    in_icu = (kept["death_h"] <= kept["los_h"]).sum()
    assert (kept.height, kept["subject_id"].n_unique(), kept["died"].sum(), in_icu) == counts


def test_rows_outside_the_stay_and_after_death(found, everyone):
    rows = binning.once(found, "icu/chartevents", None)
    at = everyone.lazy().select("stay_id", "intime", "outtime", "deathtime")
    rows = rows.join(at, on="stay_id")
    time, n = pl.col("charttime"), pl.col("copies")
    (counts,) = found.collect(
        "icu/chartevents",
        rows.select(
            n.sum().alias("all"),
            n.filter(time < pl.col("intime")).sum().alias("before"),
            n.filter(time > pl.col("outtime")).sum().alias("after"),
            n.filter(time > pl.col("deathtime")).sum().alias("dead"),
        ),
    )
    assert counts.row(0) == (668_862, 2_945, 46, 381)


def test_laboratory_rows_without_admission_or_number(found):
    path = found.paths["hosp/labevents"]
    rows = pl.read_csv(path, infer_schema=False, columns=["hadm_id", "valuenum"])
    assert rows.height == 107_727
    shares = rows.select(pl.all().is_null().mean()).row(0)
    assert [round(100 * s, 1) for s in shares] == [26.4, 11.6]


def test_the_cohort(prepared):
    cohort, account = prepared
    assert len(cohort) == 117
    assert len(set(cohort.subject.tolist())) == 88
    assert (cohort.labels["hospital-mortality"] == 1).sum() == 14
    assert [r["n"] for r in account.attrition] == [140, 140, 140, 140, 140, 117, 117, 117]
    assert cohort.provenance["release"] == "demo 2.2"


@pytest.mark.parametrize(("name", "share"), [("hr", 0.96), ("rr", 0.96), ("spo2", 0.94)])
def test_how_full_the_first_day_is(prepared, name, share):
    cohort, _ = prepared
    observed = cohort.streams["state"].observed[:, :24, [v.name for v in STATE].index(name)]
    assert round(float(observed.mean()), 2) == pytest.approx(share, abs=0.005)


def test_impossible_values_are_counted_by_item(prepared):
    cohort, account = prepared
    assert account.counts["icu/chartevents", "220045", "outside 1 to 300 bpm"] == 3
    assert account.counts["icu/chartevents", "223762", "outside 32 to 42 C"] == 5  # one of them the 99.0
    state = cohort.streams["state"]
    for channel, variable in enumerate(STATE):
        if variable.how == "mean":
            shown = state.values[..., channel][state.observed[..., channel]]
            assert len(shown) and shown.min() >= variable.low - 1e-3 and shown.max() <= variable.high + 1e-3


def test_nothing_lies_beyond_death_or_out_time(prepared, everyone):
    cohort, _ = prepared
    end = dict(everyone.select("stay_id", "end_h").iter_rows())
    for row, stay in enumerate(cohort.record.tolist()):
        assert cohort.length[row] == min(72, int(np.ceil(end[stay])))
        assert not cohort.streams["state"].observed[row, cohort.length[row] :].any()


def test_values_are_those_of_a_plain_computation(prepared, found):
    """Heart rate and temperature of the first day, again by hand from the raw rows."""
    cohort, _ = prepared
    place = {stay: row for row, stay in enumerate(cohort.record.tolist())}
    stays_file = pl.read_csv(found.paths["icu/icustays"], try_parse_dates=True)
    begin = dict(stays_file.select("stay_id", "intime").iter_rows())
    wanted = {"220045": ("hr", 1, 300), "223761": ("temp", 32, 42), "223762": ("temp", 32, 42)}
    chart = pl.read_csv(found.paths["icu/chartevents"], infer_schema=False).unique()
    chart = chart.filter(pl.col("itemid").is_in(list(wanted))).select(
        pl.col("stay_id").cast(int), pl.col("charttime").str.to_datetime(), "itemid", pl.col("valuenum").cast(float)
    )
    sums: dict[tuple[int, int, str], list[float]] = {}
    for stay, when, item, shown in chart.iter_rows():
        name, low, high = wanted[item]
        value = (shown - 32) * 5 / 9 if item == "223761" else shown
        hour = (when - begin[stay]).total_seconds() / 3600
        if stay in place and 0 <= hour < 24 and low <= value <= high:
            sums.setdefault((place[stay], int(hour), name), []).append(value)
    state = cohort.streams["state"]
    for name in ("hr", "temp"):
        found_hours = state.observed[:, :24, state.channels.index(name)].sum()
        assert found_hours == sum(key[2] == name for key in sums) > 500
    for (row, hour, name), values in sums.items():
        assert state.values[row, hour, state.channels.index(name)] == pytest.approx(np.mean(values), rel=1e-5)


def test_results_come_back_about_an_hour_after_they_are_charted(found):
    """Why results enter at storetime: 65 minutes at the median over all laboratory rows, 27.8 days at most."""
    rows = found.scan("hosp/labevents")
    times = [pl.col(c).str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False) for c in ("charttime", "storetime")]
    (table,) = found.collect("hosp/labevents", rows.select(*times))
    delay = (table["storetime"] - table["charttime"]).dt.total_minutes()
    assert delay.median() == 65
    assert delay.max() / 1440 == pytest.approx(27.8, abs=0.05)


LABELS = {  # positive, negative, not known
    "hospital-mortality": (14, 103, 0),
    "icu-mortality": (10, 107, 0),
    "mortality-7d": (7, 110, 0),
    "mortality-14d": (11, 106, 0),
    "mortality-30d": (18, 99, 0),
    "mortality-90d": (24, 93, 0),
    "stay-over-7d": (20, 97, 0),
    "sepsis": (2, 47, 68),
    "mortality-at-24h": (10, 107, 0),
    "decompensation": (37, 6509, 1878),
    "respiratory-failure": (519, 1195, 6710),
    "severe-respiratory-failure": (232, 1905, 6287),
    "circulatory-failure": (111, 472, 7841),
    "kidney-failure": (1059, 4687, 2678),
    "severe-meld": (291, 2856, 5277),
}


def test_labels_of_the_demo(prepared):
    """Deaths in hospital and in intensive care are known from elsewhere, those by days and long stays are counted by
    hand below; the other counts are kept as they were first found."""
    cohort, _ = prepared
    counts = {n: (y == 1, y == 0, np.isnan(y)) for n, y in cohort.labels.items()}
    assert {n: tuple(int(flag.sum()) for flag in flags) for n, flags in counts.items()} == LABELS


def test_deaths_by_days_counted_by_hand(prepared, found):
    cohort, _ = prepared
    admissions = pl.read_csv(found.paths["hosp/admissions"], try_parse_dates=True)
    patients = pl.read_csv(found.paths["hosp/patients"], try_parse_dates=True)
    stay = pl.read_csv(found.paths["icu/icustays"], try_parse_dates=True)
    whole = stay.join(admissions.select("hadm_id", "deathtime"), on="hadm_id").join(
        patients.select("subject_id", "dod"), on="subject_id"
    )
    whole = whole.filter(pl.col("stay_id").is_in(cohort.record.tolist()))
    for days in (7, 14, 30, 90):
        n = 0
        for begin, death, day in whole.select("intime", "deathtime", "dod").iter_rows():
            if death is not None:
                n += (death - begin).total_seconds() <= days * 86_400
            elif day is not None:
                n += (day - begin.date()).days <= days
        assert n == LABELS[f"mortality-{days}d"][0]
    assert (stay.filter(pl.col("stay_id").is_in(cohort.record.tolist()))["los"] > 7).sum() == LABELS["stay-over-7d"][0]
