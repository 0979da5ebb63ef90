"""Each leak of the list is planted, and must be seen; the same cohort without it must pass."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from real_data import audit, leakage, splits
from real_data.account import Account
from real_data.mimic_iv import __main__ as mimic_iv
from real_data.mimic_iv import adapter, binning, variables
from real_data.mimic_iv.stays import Rules
from simlab.cohort import Cohort, Events, Stream, Task
from simlab.errors import InvalidCohort


def cohort_of(n=60, visits=6, **changes):
    """Records of n / 2 subjects with a label that nothing shows, hourly values and events."""
    rng = np.random.default_rng(3)
    time = np.tile(np.arange(1.0, visits + 1), (n, 1))
    state = Stream(rng.normal(size=(n, visits, 2)).astype(np.float32), np.ones((n, visits, 2), bool), ("hr", "rr"),
                   ("bpm", "1"), time)  # fmt: skip
    static = Stream(rng.normal(size=(n, 1, 1)).astype(np.float32), np.ones((n, 1, 1), bool), ("age",), ("years",))
    record = np.arange(n)
    fields = {
        "streams": {"state": state, "static": static}, "length": np.full(n, visits), "record": record,
        "subject": record // 2, "site": np.full(n, "a"), "tasks": {"death": Task("death", "binary", "record", 3.0)},
        "labels": {"death": (rng.random(n) < 0.4).astype(float)},
        "events": Events(np.arange(n + 1), np.full(n, 2.0), np.full(n, "hr//1"), np.zeros(n), np.full(n, "bpm")),
        "provenance": {"ends": {str(r): 5.5 for r in range(n)}, "discharges": {str(r): 20.0 for r in range(n)}},
    }  # fmt: skip
    return Cohort(**(fields | changes))


def checked(cohort, sides=None):
    sides = splits.by_subject(cohort.subject) if sides is None else sides
    return {c.name: c.leaks for c in leakage.all_of(cohort, sides)}


def static(cohort, name, values):
    values = np.asarray(values, np.float32)[:, None, None]
    stream = Stream(values, np.ones(values.shape, bool), (name,), ("1",))
    return replace(cohort, streams={**cohort.streams, "static": stream})


def test_an_honest_cohort_passes():
    found = checked(cohort_of())
    assert found.pop("channels chosen beyond the training subjects") is None  # nothing was chosen
    assert set(found.values()) == {0}


def test_a_subject_in_two_splits_is_caught():
    cohort = cohort_of()
    sides = np.where(cohort.record % 3 == 0, "test", "train")  # by record, not by subject
    assert checked(cohort, sides)["a subject in two splits"] > 0


def test_the_audit_looks_at_the_splits_that_were_used():
    cohort = cohort_of()
    sides = splits.by_subject(cohort.subject)
    sides[0] = "test" if sides[1] == "train" else "train"  # records 0 and 1 are subject 0's
    said = audit.as_text(audit.of(cohort, Account(sides=sides)))
    assert "a subject in two splits: LEAK, 1 (0)" in said
    assert "a subject in two splits: none (by the subject's hash" in audit.as_text(audit.of(cohort, Account()))


def test_inputs_after_the_cutoff_are_caught_whatever_times_they_are_shown_with(monkeypatch):
    cohort = cohort_of()
    honest = Cohort.inputs
    later = np.full(60, 2.0)
    later[:4] = 3.5
    planted = replace(cohort, events=replace(cohort.events, time=later))
    assert checked(planted)["inputs after the cutoff"] == 0

    def uncut(self, task):
        """Everything, under times that all lie before the cutoff."""
        whole = honest(self, None)
        state = replace(whole.streams["state"], time=whole.streams["state"].time / 100)
        events = replace(whole.events, time=whole.events.time / 100)
        return replace(whole, streams={**whole.streams, "state": state}, events=events)

    monkeypatch.setattr(Cohort, "inputs", uncut)
    assert checked(planted)["inputs after the cutoff"] == 60 * 3 * 2 + 4


@pytest.mark.parametrize("name", ["los", "Deathtime", "hospital_expire_flag", "drg_mortality", "discharge_location"])
def test_an_outcome_column_is_caught(name):
    assert checked(static(cohort_of(), name, np.arange(60)))["outcome columns among the channels"] == 1


@pytest.mark.parametrize("how", ["the value", "the value upside down", "whether it is measured"])
def test_an_outcome_under_another_name_is_caught(how):
    cohort = cohort_of()
    label = cohort.labels["death"]
    if how == "whether it is measured":
        channel = Stream(np.ones((60, 1, 1), np.float32), (label == 1)[:, None, None], ("x7",), ("1",))
        planted = replace(cohort, streams={**cohort.streams, "static": channel})
    else:
        planted = static(cohort, "x7", np.arange(60) / 1e3 + (5 * label if how == "the value" else -5 * label))
    assert checked(planted)["channels that are a label"] == 1


def test_a_channel_that_is_the_label_only_after_the_cutoff_is_no_leak():
    cohort = cohort_of()
    state = cohort.streams["state"]
    values = state.values.copy()
    values[:, 4:, 0] = 9 * cohort.labels["death"][:, None]
    shown = replace(cohort, streams={**cohort.streams, "state": replace(state, values=values)})
    assert checked(shown)["channels that are a label"] == 0


def test_rows_after_death_or_out_time_are_caught():
    cohort = cohort_of()
    time = cohort.events.time.copy()
    time[7] = 5.6
    assert checked(replace(cohort, events=replace(cohort.events, time=time)))["rows after death or out-time"] == 1
    ends = {**cohort.provenance["ends"], "3": 4.5}  # died in the fifth hour, and has a sixth
    planted = replace(cohort, provenance={**cohort.provenance, "ends": ends})
    assert checked(planted)["rows after death or out-time"] == 2
    assert checked(replace(cohort, provenance={}))["rows after death or out-time"] is None


@pytest.mark.parametrize("code", ["DIAGNOSIS//ICD//9//496", "drg//APR//283", "icd10:J96", "HCPCS//G0378",
                                  "PROCEDURE//ICD//9//5491"])  # fmt: skip
def test_discharge_codes_at_admission_are_caught(code):
    cohort = cohort_of()
    codes = np.where(np.arange(60) == 5, code, cohort.events.code)
    planted = replace(cohort, events=replace(cohort.events, code=codes))
    assert checked(planted)["discharge codes before discharge"] == 1
    late = replace(planted, provenance={**cohort.provenance, "discharges": {str(r): 2.0 for r in range(60)}})
    assert checked(late)["discharge codes before discharge"] == 0


def test_a_scaler_and_a_vocabulary_that_see_more_than_training_are_caught():
    cohort = cohort_of()
    training = splits.by_subject(cohort.subject) == "train"

    def scaler(rows):
        def fit(c):
            return {"mean": c.streams["state"].values[rows].mean(axis=(0, 1))}

        return fit

    def vocabulary(rows):
        return lambda c: [c.streams["state"].observed[rows].sum(axis=(0, 1)) > 0]

    everyone = np.ones(60, bool)
    assert leakage.fitted_beyond_training(scaler(training), cohort, training).leaks == 0
    assert leakage.fitted_beyond_training(scaler(everyone), cohort, training).leaks == (~training).sum()
    only = cohort.streams["state"].observed.copy()
    only[training, :, 1] = False  # a channel that nobody in training has
    seen = replace(cohort, streams={"state": replace(cohort.streams["state"], observed=only)})
    assert leakage.fitted_beyond_training(vocabulary(training), seen, training, "a vocabulary").leaks == 0
    assert leakage.fitted_beyond_training(vocabulary(everyone), seen, training, "a vocabulary").leaks > 0


@pytest.fixture
def stored(tiny, tmp_path):
    """A hospital whose laboratory takes two hours; prepare it under some rules."""
    tiny.tables["hosp/labevents"][0].append("storetime")
    for hour in (3, 9, 22.5):
        row = [1, "", at(hour), 50912, 1.0, 1.0, "mg/dL", at(hour + 2)]
        tiny.rows("hosp/labevents").append(row)
    folder = tiny.write(tmp_path / "in")

    def run(**rules):
        account = Account()
        return adapter.prepare(folder, Rules(**rules), account, lambda _: None), account

    return run


def at(hour):
    from datetime import datetime, timedelta

    return str(datetime(2150, 1, 1) + timedelta(seconds=round(hour * 3600)))


def test_a_charttime_taken_for_a_storetime_is_caught(stored):
    assert [c.leaks for c in stored()[1].checks] == [0]
    assert [c.leaks for c in stored(labs_at="charttime")[1].checks] == [3]


def test_rows_after_death_that_slip_into_the_hours_are_caught(tiny, tmp_path, monkeypatch):
    """The adapter's own rule, taken away: what the rule kept out is seen by the audit, or refused by the contract."""
    tiny.rows("hosp/admissions")[1][4] = at(29.6)
    tiny.chart(21, 29.8, 220045, 52, "bpm")
    honest = adapter.prepare(tiny.write(tmp_path / "a"), Rules(), Account(), lambda _: None)
    assert checked(honest)["rows after death or out-time"] == 0
    monkeypatch.setattr(binning, "misplaced", lambda rules: binning.pl.lit(None, binning.pl.String))
    leaking = adapter.prepare(tmp_path / "a", Rules(), Account(), lambda _: None)
    assert checked(leaking)["rows after death or out-time"] == 1
    tiny.chart(21, 33.0, 220045, 52, "bpm")
    with pytest.raises(InvalidCohort, match="observed at visit 33"):
        adapter.prepare(tiny.write(tmp_path / "b"), Rules(), Account(), lambda _: None)


def test_no_item_that_says_that_care_is_limited_is_a_channel_and_no_coded_table_is_read():
    read = {i.itemid for v in variables.STATE for i in v.items} | {i for a in variables.ACTIONS for i in a.itemids}
    assert not read & set(variables.CARE_LIMITS)
    tables = {t.split("/")[1] for t in (*adapter.layout.COLUMNS, *adapter.layout.EXTRA)}
    assert not tables & set(variables.CODED_AT_DISCHARGE)


def test_the_audit_is_printed_and_saved(tiny, tmp_path, capsys):
    tiny.lab(1, 4, 50885, 17.1, "umol/L")
    tiny.chart(11, 4.1, 220045, 10_000_000, "bpm")
    root = tiny.write(tmp_path / "in")
    (root / "LICENSE.txt").write_text("# A licence\nwords\n")
    assert mimic_iv.main(["prepare", str(root), "--out", str(tmp_path / "t.cohort"), "--quiet"]) == 0
    said = capsys.readouterr().out
    for line in ("a subject in two splits: none", "licence: A licence", "1 values in unknown units, 1 out of range"):
        assert line in said
    saved = json.loads((tmp_path / "t.cohort.audit.json").read_text())
    assert saved["licence"] == "A licence"
    by_item = {(i["table"], i["item"]): i for i in saved["items"]}
    assert by_item["hosp/labevents", "50885"]["unknown_unit"] == 1
    hr = by_item["icu/chartevents", "220045"]
    assert (hr["used"], hr["out_of_range"]) == (3, 1)
    assert saved["sources"]["icu/chartevents"]["sha256"] == audit.sha256(root / "icu" / "chartevents.csv.gz")
    assert {m["channel"]: m["records"] for m in saved["missingness"]}["hr"] == 1
    assert all(check["leaks"] in (0, None) for check in saved["leakage"])
    assert saved["attrition"][0] == {"step": "intensive-care stays", "n": 5, "positives": 1}


def test_channels_chosen_from_a_subject_that_is_not_in_training_are_caught():
    cohort = cohort_of()
    sides = np.where(np.arange(len(cohort)) < 40, "train", "held_out")
    assert checked(cohort, sides)["channels chosen beyond the training subjects"] is None
    chosen = {"what": "channels", "subjects": sorted(set(cohort.subject[sides == "train"].tolist()))}
    honest = replace(cohort, provenance={**cohort.provenance, "fitted": chosen})
    assert checked(honest, sides)["channels chosen beyond the training subjects"] == 0
    chosen["subjects"].append(int(cohort.subject[-1]))
    assert checked(honest, sides)["channels chosen beyond the training subjects"] == 1


def test_train_tests_on_no_subject_that_the_channels_were_chosen_from(tmp_path, monkeypatch, capsys):
    """And where it is told to, it calls it a leak."""
    from simlab.cohort import save
    from simlab.train import experiment
    from simlab.train.__main__ import main
    from simlab.training.data import Fit

    cohort = cohort_of()
    chosen = sorted(set(cohort.subject.tolist()))[::2]
    told = {**cohort.provenance, "fitted": {"what": "channels", "subjects": chosen}}
    save(replace(cohort, provenance=told), tmp_path / "made.cohort")
    tested, repeated = [], experiment.splits.repeated

    def spy(subjects, *rest):
        for train, test in repeated(subjects, *rest):
            tested.extend(subjects[test].tolist())
            yield train, test

    monkeypatch.setattr(experiment.splits, "repeated", spy)
    command = ["logistic", "--data", str(tmp_path / "made.cohort"), "--compare", "", "--splits", "2", "--quiet"]
    monkeypatch.setattr(experiment, "run_arm", lambda arm, bench: Fit(lambda views: views["image"][:, 0]))
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    assert tested and not set(tested) & set(chosen)
    assert f"chosen by looking at {len(chosen)} subjects: test sides are drawn among" in capsys.readouterr().out
    tested.clear()
    assert main([*command, "--out", str(tmp_path / "all"), "--test-among", "all"]) == 0
    assert set(tested) & set(chosen) and "LEAK" in capsys.readouterr().out
    for folder, word in (("run", "test sides are drawn among"), ("all", "LEAK")):  # for those who read no table, too
        assert word in json.loads((tmp_path / folder / "result.json").read_text())["fitted"]


def test_what_train_fits_is_fitted_on_training_subjects_and_a_leak_there_is_caught(monkeypatch):
    """The scaler, the hours' scaling, the mask's and all that arms are handed by `simlab.train`, looked at whole."""
    from simlab.methods import METHODS
    from simlab.train import experiment
    from simlab.training.data import Fit
    from simlab.training.pretrain import Settings

    cohort = cohort_of()
    plan = experiment.Plan("death", splits=1)
    arms = [METHODS["logistic"], METHODS["mask-only"], METHODS["gru"]]
    train, _ = next(iter(experiment.splits.repeated(cohort.subject, cohort.labels["death"], 1, 0.25, 0)))
    training = np.isin(np.arange(len(cohort)), train)

    def handed(c):
        """Everything that the arms of one split are given."""
        seen = []

        def spy(arm, bench):
            seen.append([dict(bench.train.views), bench.train.y, dict(bench.pretraining)])
            return Fit(lambda views: views["image"][:, 0])

        monkeypatch.setattr(experiment, "run_arm", spy)
        experiment.run_split(c, arms, Settings(width=2, hidden=4), plan, 0, lambda _: None)
        assert len(seen) == len(arms) and "hours" in seen[0][0] and "mask" in seen[0][0]
        return seen

    assert leakage.fitted_beyond_training(handed, cohort, training, "what simlab.train fits").leaks == 0
    for module in (experiment.present, experiment.hours):

        def leaky(c, module=module, honest=module.fit):
            with monkeypatch.context() as patch:
                patch.setattr(module, "fit", lambda inputs, *more, **named: honest(c.inputs("death"), *more, **named))
                return handed(c)

        assert leakage.fitted_beyond_training(leaky, cohort, training, "a scaler").leaks == (~training).sum()
