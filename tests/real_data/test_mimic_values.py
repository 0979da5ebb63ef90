"""What enters an hour, what does not, and that every row is accounted for."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from real_data import splits
from real_data.account import Account
from real_data.clock import in_hours
from real_data.mimic_iv import adapter, variables
from real_data.mimic_iv.stays import Rules
from simlab.errors import InvalidData

from_state = [v.name for v in variables.STATE]
from_action = [a.name for a in variables.ACTIONS]


@pytest.fixture
def prepared(tiny, tmp_path):
    """Prepare the tiny tables; gives the cohort and its account."""
    count = iter(range(99))

    def run(**rules):
        account = Account()
        folder = tiny.write(tmp_path / str(next(count)))
        return adapter.prepare(folder, Rules(**rules), account, lambda _: None), account

    return run


def value(cohort, stay, hour, name):
    """One value of the state or action stream; None where it was not observed."""
    stream, names = ("state", from_state) if name in from_state else ("action", from_action)
    s, row = cohort.streams[stream], cohort.record.tolist().index(stay)
    shown = s.observed[row, hour, names.index(name)]
    return float(s.values[row, hour, names.index(name)]) if shown else None


def test_the_rules_are_counted_one_by_one(prepared):
    cohort, account = prepared()
    assert [(r["step"], r["n"], r["positives"]) for r in account.attrition] == [
        ("intensive-care stays", 5, 1),
        ("with a patient and an admission", 5, 1),
        ("with out-time after in-time", 5, 1),
        ("aged 18 or more", 4, 1),
        ("alive on arrival", 4, 1),
        ("in intensive care for at least 24 h", 3, 1),
        ("alive at 24 h", 3, 1),
        ("with a value in the first 24 h", 3, 1),
    ]
    assert cohort.subject.tolist() == [1, 1, 2]
    assert cohort.labels["hospital-mortality"].tolist() == [0, 0, 1]
    assert cohort.length.tolist() == [40, 30, 30]  # the third ends with death at 30 h, not with out-time at 36 h
    assert prepared(first_stay=True)[0].record.tolist() == [11, 21]
    assert prepared(window=36, max_hours=36)[0].record.tolist() == [11]


def test_a_stay_that_dies_inside_the_window_is_left_out(tiny, prepared):
    tiny.rows("hosp/admissions")[1][4] = "2150-01-01 23:59:00"
    cohort, account = prepared()
    assert 21 not in cohort.record
    assert account.attrition[-2]["n"] == 2


def test_hours_take_the_mean_of_all_items_and_fahrenheit_becomes_celsius(tiny, prepared):
    tiny.chart(11, 2.0, 223761, 98.6, "°F")
    tiny.chart(11, 2.9, 223762, 38.0, "°C")
    tiny.chart(11, 3.0, 223762, 36.0, "°C")
    tiny.chart(11, 2.5, 220050, 120, "mmHg")
    tiny.chart(11, 2.5, 220179, 100, "mmHg")
    cohort, _ = prepared()
    assert value(cohort, 11, 2, "temp") == pytest.approx(37.5)
    assert value(cohort, 11, 3, "temp") == pytest.approx(36.0)
    assert value(cohort, 11, 2, "sbp") == pytest.approx(110)
    assert value(cohort, 11, 1, "temp") is None


def test_ranges_come_before_the_mean_and_are_counted_by_item(tiny, prepared):
    tiny.chart(11, 4.1, 220045, 10_000_000, "bpm")
    tiny.chart(11, 4.2, 220045, 90, "bpm")
    tiny.chart(11, 4.3, 220045, 0, "bpm")
    tiny.chart(11, 4.4, 223762, 99.0, "°C")
    cohort, account = prepared()
    assert value(cohort, 11, 4, "hr") == pytest.approx(90)
    assert value(cohort, 11, 4, "temp") is None
    assert account.counts["icu/chartevents", "220045", "outside 1 to 300 bpm"] == 2
    assert account.counts["icu/chartevents", "223762", "outside 32 to 42 C"] == 1


def test_nothing_charted_before_in_time_after_death_or_out_time_enters(tiny, prepared):
    tiny.chart(21, 30.0, 220045, 50, "bpm")  # at death: the last hour
    tiny.chart(21, 30.1, 220045, 51, "bpm")
    tiny.chart(21, 33.0, 220045, 52, "bpm")
    tiny.chart(11, -0.1, 220045, 53, "bpm")
    tiny.chart(11, 40.1, 220045, 54, "bpm")
    tiny.lab(2, 31, 50912, 9.0, "mg/dL")
    tiny.infuse(21, 29.5, 36, 221906, 0.1, "mcg/kg/min")
    tiny.infuse(21, 31, 36, 221906, 0.1, "mcg/kg/min")
    cohort, account = prepared()
    row = cohort.record.tolist().index(21)
    assert value(cohort, 21, 29, "hr") == 50
    assert not cohort.streams["state"].observed[row, 30:].any()
    assert not cohort.streams["action"].observed[row, 30:].any()
    assert value(cohort, 21, 29, "norepinephrine") == pytest.approx(0.05)
    assert account.counts["icu/chartevents", "220045", "after death"] == 2
    assert account.counts["icu/chartevents", "220045", "before the stay"] == 1
    assert account.counts["icu/chartevents", "220045", "after out-time"] == 1
    assert account.counts["hosp/labevents", "50912", "after death"] == 1
    assert account.counts["icu/inputevents", "221906", "after death or out-time"] == 1


def test_exact_duplicates_count_once(tiny, prepared):
    for _ in range(3):
        tiny.rows("icu/outputevents").append([11, "2150-01-01 05:30:00", 226559, 100, "ml"])
        tiny.infuse(11, 5, 6, 223258, "", "", 4, "units")
    tiny.chart(11, 5.5, 220045, 60, "bpm")
    tiny.chart(11, 5.5, 220045, 60, "bpm")
    tiny.chart(11, 5.6, 220045, 90, "bpm")
    tiny.rows("icu/icustays").append(list(tiny.rows("icu/icustays")[0]))
    tiny.rows("hosp/patients").append(list(tiny.rows("hosp/patients")[0]))
    cohort, account = prepared()
    assert len(cohort) == 3
    assert value(cohort, 11, 5, "urine") == 100
    assert value(cohort, 11, 5, "insulin") == pytest.approx(4)
    assert value(cohort, 11, 5, "hr") == pytest.approx(75)
    duplicates = {(t, i): n for (t, i, reason), n in account.counts.items() if reason == "duplicate row"}
    assert duplicates == {
        ("icu/outputevents", "226559"): 2,
        ("icu/inputevents", "223258"): 2,
        ("icu/chartevents", "220045"): 1,
        ("icu/icustays", "*"): 1,
        ("hosp/patients", "*"): 1,
    }


def test_two_different_rows_of_one_stay_are_refused(tiny, prepared):
    other = list(tiny.rows("icu/icustays")[0])
    other[5] = "2150-01-09 00:00:00"
    tiny.rows("icu/icustays").append(other)
    with pytest.raises(InvalidData, match="two different rows with stay_id 11"):
        prepared()


def test_laboratory_values_belong_to_the_stay_that_holds_their_time(tiny, prepared):
    tiny.lab(1, 10, 50912, 1.0, "mg/dL")
    tiny.lab(1, 55, 50912, 2.0, "mg/dL")
    tiny.lab(1, 45, 50912, 3.0, "mg/dL")  # between the two stays
    tiny.lab(1, -48, 50912, 4.0, "mg/dL")
    tiny.lab(9, 10, 50912, 5.0, "mg/dL")  # a subject without a stay
    cohort, account = prepared()
    assert value(cohort, 11, 10, "creatinine") == 1.0
    assert value(cohort, 12, 5, "creatinine") == 2.0
    assert account.counts["hosp/labevents", "50912", "outside every stay of the cohort"] == 3
    assert cohort.streams["state"].observed[:, :, from_state.index("creatinine")].sum() == 2


def test_units_bounds_and_words_in_laboratory_values(tiny, prepared):
    tiny.lab(1, 1, 50885, "", "mg/dL", "<0.1")
    tiny.lab(1, 2, 50885, "", "mg/dL", "___")
    tiny.lab(1, 3, 50885, 17.1, "umol/L")
    tiny.lab(1, 4, 50885, 1.2, "MG/DL")
    tiny.lab(1, 5, 50885, 1.3, "")
    tiny.lab(1, 6, 50885, "nan", "mg/dL")
    cohort, account = prepared()
    assert [value(cohort, 11, h, "bilirubin") for h in range(1, 7)] == [
        pytest.approx(0.1), None, None, pytest.approx(1.2), pytest.approx(1.3), None,
    ]  # fmt: skip
    assert account.counts["hosp/labevents", "50885", "unknown unit 'umol/L'"] == 1
    assert account.counts["hosp/labevents", "50885", "no number"] == 2


def test_fractions_of_oxygen_become_percent(tiny, prepared):
    for hour, shown in ((1, 0.5), (2, 40), (3, 1.0), (4, 5)):
        tiny.chart(11, hour, 223835, shown)
    cohort, account = prepared()
    assert [value(cohort, 11, h, "fio2") for h in (1, 2, 3, 4)] == [50, 40, 100, None]
    assert account.counts["icu/chartevents", "223835", "outside 21 to 100 %"] == 1


def test_irrigant_is_subtracted_from_urine(tiny, prepared):
    out = tiny.rows("icu/outputevents")
    out += [[11, "2150-01-01 01:10:00", 226559, 300, "ml"], [11, "2150-01-01 01:20:00", 227488, 200, "mL"]]
    out += [[11, "2150-01-01 02:10:00", 226559, -5, "ml"], [11, "2150-01-01 02:20:00", 227488, -5, "ml"]]
    cohort, account = prepared()
    assert value(cohort, 11, 1, "urine") == 100
    assert value(cohort, 11, 2, "urine") is None
    assert account.counts["icu/outputevents", "226559", "outside 0 to 5000 mL"] == 1
    assert account.counts["icu/outputevents", "227488", "outside 0 to 5000 mL"] == 1


def test_infusions_are_the_mean_rate_of_the_hour_in_one_unit(tiny, prepared):
    tiny.infuse(11, 1.5, 3, 221906, 0.2, "mcg/kg/min")
    tiny.infuse(11, 4, 5, 221906, 0.0002, "mg/kg/min")
    tiny.infuse(11, 5, 6, 221906, 0.0002, "mg/kg/min", kg=1)
    tiny.infuse(11, 6, 7, 221906, 16, "mcg/min", kg=80)
    tiny.infuse(11, 7, 8, 221906, 0.2, "mcg/kg/min", status="Rewritten")
    tiny.infuse(11, 8, 9, 221906, 0.2, "drops")
    tiny.infuse(11, 9, 10, 221906, 500, "mcg/kg/min")
    tiny.infuse(11, 11, 11, 221906, 0.2, "mcg/kg/min")
    tiny.infuse(11, 12, 13, 221906, "", "", 1, "mg")
    tiny.infuse(11, 1, 2, 222315, 0.04, "units/min")
    tiny.infuse(11, 2, 4, 223258, "", "", 6, "units")
    cohort, account = prepared()
    rates = [value(cohort, 11, h, "norepinephrine") for h in range(13)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0, 0.2, 0, 0.2, 0, 0, 0, 0, 0, 0])
    assert value(cohort, 11, 1, "vasopressin") == pytest.approx(2.4)
    assert [value(cohort, 11, h, "insulin") for h in (1, 2, 3, 4)] == pytest.approx([0, 3, 3, 0])
    reasons = {reason for (_, item, reason) in account.counts if item == "221906"}
    assert reasons == {
        "no usable weight", "rewritten", "unknown unit 'drops'", "outside 0 to 20 mcg/kg/min", "no duration", "no rate",
    }  # fmt: skip


def test_ventilation_is_the_share_of_the_hour(tiny, prepared):
    for start, stop in (("00:30:00", "02:15:00"), ("01:00:00", "02:00:00")):
        tiny.rows("icu/procedureevents").append([11, f"2150-01-01 {start}", f"2150-01-01 {stop}", 225792, "", ""])
    cohort, _ = prepared()
    assert [value(cohort, 11, h, "ventilation_invasive") for h in range(4)] == pytest.approx([0.5, 1, 0.25, 0])


def test_every_row_is_counted_or_dropped_for_one_reason(tiny, prepared):
    rng = np.random.default_rng(5)
    for _ in range(400):
        stay, hour = int(rng.choice([11, 12, 21, 31, 41, 99])), float(rng.uniform(-5, 90))
        tiny.chart(stay, hour, 220045, float(rng.choice([80, 0, 500])), str(rng.choice(["bpm", "", "kg"])))
        tiny.lab(int(rng.choice([1, 2, 3, 4, 9])), hour, 50912, float(rng.choice([1, 99])), "mg/dL")
    _, account = prepared(max_hours=30)
    for table, item, total in (("icu/chartevents", "220045", 403), ("hosp/labevents", "50912", 400)):
        dropped = sum(n for (t, i, _), n in account.counts.items() if (t, i) == (table, item))
        assert 0 < dropped < total
        used = used_rows(tiny, table, item)
        assert dropped + used == total


def used_rows(tiny, table, item):
    """By hand: good rows inside the three stays' first 30 hours, and not after death."""
    stays = {11: (1, 0, 40), 12: (1, 50, 80), 21: (2, 0, 30)}
    from datetime import datetime

    n = 0
    for row in tiny.rows(table):
        chart = table == "icu/chartevents"
        when = (datetime.fromisoformat(row[1 if chart else 2]) - datetime(2150, 1, 1)).total_seconds() / 3600
        good = row[5] == 80 and row[6] != "kg" if chart else row[5] == 1
        for stay, (subject, begin, end) in stays.items():
            mine = row[0] == (stay if chart else subject)
            n += mine and good and begin <= when <= end and when - begin < 30
    return n


def test_inputs_hold_the_first_hours_alone(tiny, prepared):
    for hour in range(40):
        tiny.chart(11, hour + 0.5, 220045, 100 + hour, "bpm")
    shown = prepared()[0].inputs("hospital-mortality")
    assert shown.length.tolist() == [24, 24, 24]
    state = shown.streams["state"]
    assert state.time.max() == 24
    assert state.values[0, :, 0].max() == 123  # charted at 23.5 h
    assert shown.streams["action"].visits == 24


def test_no_outcome_is_a_channel(prepared):
    cohort, _ = prepared()
    names = {c for s in cohort.streams.values() for c in s.channels}
    assert not names & set(variables.FORBIDDEN)
    assert {n for n, _ in variables.STATIC} == {"age", "male", "hours_in_hospital", "emergency"}
    assert cohort.streams["static"].values[:, 0].tolist() == [[50, 0, 5, 0], [50, 0, 55, 0], [60, 1, 0, 1]]


def test_a_subject_is_on_one_side_of_a_split_for_ever():
    subject = np.arange(1000) // 2
    sides = splits.by_subject(subject)
    assert (sides[::2] == sides[1::2]).all()
    assert np.array_equal(splits.by_subject(subject[300:700]), sides[300:700])
    assert {name: abs((sides == name).mean() - f) < 0.05 for name, f in splits.FRACTIONS.items()} == {
        "train": True, "validation": True, "test": True,
    }  # fmt: skip
    assert (splits.by_subject(subject, seed=1) != sides).any()
    with pytest.raises(ValueError, match="not 1"):
        splits.by_subject(subject, {"train": 0.5})


def test_the_split_is_recorded(prepared):
    cohort, _ = prepared()
    assert sum(cohort.provenance["split"]["records"].values()) == 3


def test_nobody_left_is_said_with_the_attrition(prepared):
    with pytest.raises(InvalidData, match=r"no stay in .* meets the rules; attrition: intensive-care stays 5"):
        prepared(min_age=120)


def test_a_stay_without_hours_is_left_out_and_counted(tiny, prepared):
    rows = tiny.rows("icu/chartevents")
    rows[:] = [row for row in rows if row[0] != 12]
    tiny.chart(12, 50 + 26, 220045, 80, "bpm")  # after the window alone
    cohort, account = prepared()
    assert cohort.record.tolist() == [11, 21] and len(cohort.labels["decompensation"]) == 2
    assert account.attrition[-1] == {"step": "with a value in the first 24 h", "n": 2, "positives": 1}
    rows.clear()
    with pytest.raises(InvalidData, match=r"no stay in .* has a value; attrition: intensive-care stays 5"):
        prepared()


def test_hours_are_the_same_to_the_last_bit_one_row_or_many():
    """A stream hands on whatever number of rows it has; a row alone was divided, many were multiplied."""
    minutes = np.arange(0, 60 * 24 * 30, 7)
    spans = pl.DataFrame({"span": [timedelta(minutes=int(m)) for m in minutes]})
    many = spans.lazy().select(in_hours(pl.col("span")).alias("t")).collect(engine="streaming")["t"].to_numpy()
    for n in range(0, len(minutes), 40):
        one = spans[n : n + 1].lazy().select(in_hours(pl.col("span")).alias("t")).collect(engine="streaming")
        assert one["t"][0] == many[n]
    np.testing.assert_allclose(many, minutes / 60, rtol=1e-15)
    np.testing.assert_array_equal(np.floor(many), minutes // 60)


def test_the_same_tables_in_another_order_give_the_same_bits(tiny, prepared):
    rng = np.random.default_rng(0)
    for _ in range(500):
        tiny.chart(11, float(rng.uniform(0, 20)), 220050, round(float(rng.uniform(80, 160)), 3), "mmHg")
        tiny.infuse(11, float(rng.uniform(0, 9)), float(rng.uniform(10, 20)), 221906, 0.001, "mcg/kg/min")
    first = prepared()[0]
    for _, rows in tiny.tables.values():
        rows.reverse()
    again = prepared()[0]
    for name in ("state", "action"):
        assert first.streams[name].values.tobytes() == again.streams[name].values.tobytes()
