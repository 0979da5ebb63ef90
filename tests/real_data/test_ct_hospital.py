"""The hospital's round trip: a world's cohort -> DICOM + MEDS + labels -> the adapter -> the same cohort.

Tolerances. A scan is stored as whole HU: half a HU (below 2048 HU; above, float16 holds even numbers alone, and they
survive). Laboratory values are float32 on both sides: none. Times are whole days: none. Signatures are fitted on the
same numbers in another order of rows: 1e-4 of a standard deviation of 1/2 (FastICA's own tolerance is 1e-4).
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hospital_files import cohorts, prepared, written

from real_data import splits
from real_data.ct_ehr.__main__ import main
from simlab.cohort import Cohort, Events, save
from simlab.errors import InvalidData, command
from simlab.signatures import Settings, fit


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    made = cohorts(3, 16)
    return made, written(made, tmp_path_factory.mktemp("hospital"))


WORDS = ("--side", 16, "--look-back", 0, "--least", 1, "--task", "outcome")


@pytest.fixture(scope="module")
def once(small, tmp_path_factory):
    """The file that the command makes of the small hospital, and the cohort in it."""
    file = tmp_path_factory.mktemp("prepared") / "a.cohort"
    return file, prepared(small[1], file, *WORDS)


def rows_of(whole: Cohort, part: Cohort) -> np.ndarray:
    """Where the records of one site lie in the prepared cohort."""
    place = {int(s): n for n, s in enumerate(whole.subject)}
    return np.array([place[int(s)] for s in part.subject])


def same(back: Cohort, made: Cohort) -> None:
    """What must come back exactly, and the volumes to half a HU."""
    back = back.take(rows_of(back, made))
    assert back.record.tolist() == made.record.tolist() and back.site.tolist() == made.site.tolist()
    assert np.array_equal(back.labels["outcome"], made.labels["outcome"])
    assert np.array_equal(back.length, made.length)
    visits = made.streams["image"].visits
    for name in ("image", "clinical"):
        b, m = back.streams[name], made.streams[name]
        assert np.array_equal(b.time[:, :visits], m.time) and np.array_equal(b.observed[:, :visits], m.observed)
        assert b.units == m.units and b.values.dtype == m.values.dtype
    volumes, told = (c.streams["image"].values[:, :visits].astype(float) for c in (back, made))
    assert np.abs(volumes - told).max() <= 0.5 and np.abs(volumes - told).max() > 0
    lab = made.streams["clinical"]
    place = [back.streams["clinical"].channels.index(c) for c in lab.channels]
    found = back.streams["clinical"].values[:, :visits][:, :, place]
    assert np.array_equal(np.where(lab.observed, found, 0), np.where(lab.observed, lab.values, 0))
    assert told_of(back.events) == told_of(made.events)


def told_of(events: Events) -> list[list[tuple]]:
    """Each record's events, in an order that does not depend on how ties of time were kept."""
    value = np.where(np.isnan(events.value), -(2.0**40), events.value).tolist()
    rows = list(zip(events.time.tolist(), events.code.tolist(), value, events.unit.tolist(), strict=True))
    return [sorted(rows[a:b]) for a, b in zip(events.offsets[:-1], events.offsets[1:], strict=True)]


def at_visits(made: list[Cohort], look_back: float) -> tuple[Events, np.ndarray, np.ndarray]:
    """Every visit's own past as one record each, by plain loops; the subject and date of each."""
    parts, subject, time = [], [], []
    for cohort in made:
        e = cohort.events
        for n in range(len(cohort)):
            own = slice(e.offsets[n], e.offsets[n + 1])
            for t in cohort.streams["image"].time[n, : cohort.length[n]]:
                keep = [i for i in range(own.start, own.stop) if t - look_back <= e.time[i] <= t]
                parts.append(sorted(keep, key=lambda i: (e.time[i], e.code[i])))
                subject.append((cohort, n, keep))
                time.append(t)
    order = [(c, i) for (c, _, _), rows in zip(subject, parts, strict=True) for i in rows]
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in parts])]).astype(np.int64)
    columns = [np.array([getattr(c.events, name)[i] for c, i in order]) for name in ("time", "code", "value", "unit")]
    ids = np.array([int(c.subject[n]) for c, n, _ in subject])
    return Events(offsets, columns[0], columns[1], columns[2].astype(np.float64), columns[3]), ids, np.array(time)


def signatures_agree(made: list[Cohort], back: Cohort, count: int, least: int) -> float:
    """The largest difference between the signatures of the cohort and those of its files."""
    events, subject, time = at_visits(made, 1095.0)
    training = splits.by_subject(back.subject) == "train"
    train = np.isin(subject, back.subject[training])
    fitted = fit(events, train, Settings(signatures=count, records=least), np.random.default_rng(0), time[:, None])
    want, known = fitted.at(events, np.arange(len(time)), time)
    assert known.all()
    place = {int(s): n for n, s in enumerate(back.subject)}
    found = back.streams["signatures"]
    at = [(place[int(s)], int(np.flatnonzero(found.time[place[int(s)]] == t)[0])) for s, t in zip(subject, time,
                                                                                               strict=True)]
    got = np.array([found.values[n, j] for n, j in at])
    assert all(found.observed[n, j].all() for n, j in at)
    return float(np.abs(got - want).max())


def test_the_files_give_the_cohort_back(small, once):
    made, back = small[0], once[1]
    for cohort in made:
        same(back, cohort)
    assert (~back.streams["image"].observed[:, :, 0]).any()  # some scans were not kept, and stay unobserved


def test_signatures_of_the_files_are_those_of_the_cohort(small, tmp_path):
    made, folder = small
    back = prepared(folder, tmp_path / "a.cohort", "--side", 16, "--signatures", 2, "--least", 3, "--task", "outcome")
    assert signatures_agree(made, back, 2, 3) < 1e-4
    told = back.provenance["fitted"]  # whom simlab.train then never tests on
    assert "signatures" in told["what"] and told["subjects"] == [
        str(s) for s, side in zip(back.subject, splits.by_subject(back.subject), strict=True) if side == "train"
    ]


@pytest.mark.proof
def test_a_larger_hospital_comes_back_too(tmp_path):
    made = cohorts(25, 32)
    folder = written(made, tmp_path / "files")
    back = prepared(folder, tmp_path / "a.cohort", "--look-back", 0, "--least", 1, "--task", "outcome")
    for cohort in made:
        same(back, cohort)
    # Two sources: the causes are Gaussian, and FastICA finds no fixed point for more.
    back = prepared(folder, tmp_path / "b.cohort", "--signatures", 2, "--task", "outcome")
    assert signatures_agree(made, back, 2, 20) < 1e-4


def test_a_prepared_cohort_is_written_again_and_comes_back(once, tmp_path):
    """A second trip loses nothing: HU are whole by now, and the dates are those of the files."""
    file, once = once
    assert main(["export", str(file), "--out", str(tmp_path / "again"), "--quiet"]) == 0
    twice = prepared(tmp_path / "again", tmp_path / "b.cohort", *WORDS)
    assert twice.provenance["begins"] == once.provenance["begins"]
    for name, stream in once.streams.items():
        assert np.array_equal(twice.streams[name].values, stream.values)
        assert np.array_equal(twice.streams[name].observed, stream.observed)
    assert np.array_equal(twice.events.value, once.events.value, equal_nan=True)


def test_files_are_what_their_standards_ask(small):
    """pydicom finds both sites' ways of storing HU; MEDS columns have the standard's types; the order is in no name."""
    import pydicom

    made, folder = small
    heads = [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted((folder / "dicom").rglob("*.dcm"))[::16]]
    assert {(h.InstitutionName, float(h.RescaleIntercept), h.PixelRepresentation) for h in heads} == {
        ("source", -1024.0, 0), ("external", 0.0, 1)}
    assert any(h.StudyDate < "1970" for h in heads)
    one = sorted(next((folder / "dicom").rglob("V01")).glob("*.dcm"))
    z = [float(pydicom.dcmread(p, stop_before_pixels=True).ImagePositionPatient[2]) for p in one]
    assert z not in (sorted(z), sorted(z, reverse=True))
    schema = pl.read_parquet_schema(folder / "meds" / "data" / "S1.parquet")
    assert (schema["subject_id"], schema["time"], schema["code"], schema["numeric_value"]) == (
        pl.Int64, pl.Datetime("us"), pl.String, pl.Float32)
    told = pl.read_parquet(folder / "meds" / "labels" / "outcome.parquet")
    assert told.columns == ["subject_id", "prediction_time", "boolean_value"]
    assert told["boolean_value"].sum() == sum(int(c.labels["outcome"].sum()) for c in made)


def test_an_export_refuses_what_it_cannot_write(small, tmp_path, capsys):
    made, folder = small
    save(made[0], tmp_path / "a.cohort")
    assert command(main, ["export", str(tmp_path / "a.cohort"), "--out", str(folder)]) == 2
    assert "already holds site source" in capsys.readouterr().err
    (tmp_path / "other" / "dicom").mkdir(parents=True)
    assert command(main, ["export", str(tmp_path / "a.cohort"), "--out", str(tmp_path / "other")]) == 2
    assert "of something else" in capsys.readouterr().err
    from real_data.ct_ehr.export import export
    from simlab.environments.scenario import sample_cohort
    from simlab.environments.visit_knobs import spec

    with pytest.raises(InvalidData, match="only a cohort of volumes in HU"):
        export(sample_cohort(spec(), "test-data", 2, 0, 0, world="longitudinal"), tmp_path / "x", print)
