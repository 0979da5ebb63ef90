"""Bad scans and bad records: each gets one clear line or a line of the audit, never a silent guess."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pydicom
import pytest
from hospital_files import edit, meds, prepared, ramp, slices
from pydicom.uid import JPEGLSLossless

from real_data.account import Account
from real_data.ct_ehr import dicom
from real_data.ct_ehr.__main__ import main
from simlab.errors import InvalidData, command

GOOD = {"uid": "1.2.900", "patient": "8"}  # a sound series beside the bad one: the rest goes on


def reasons(folder: Path, out: Path, *words: object) -> tuple[dict[str, int], dict[str, int]]:
    """What `prepare` dropped, n by reason, and the facts of its audit."""
    prepared(folder, out, "--side", 4, *words)
    audit = json.loads(Path(f"{out}.audit.json").read_text())
    dropped: dict[str, int] = {}
    for item in audit["items"]:
        for reason, n in item["dropped"].items():
            dropped[reason] = dropped.get(reason, 0) + n
    return dropped, audit["facts"]


def refused(capsys, *words: object) -> str:
    """The one line of a refusal; no file is left."""
    out = Path(str(words[words.index("--out") + 1]))
    assert command(main, [str(w) for w in ("prepare", *words, "--quiet")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("error: ") and not out.exists()
    return err


def truncate(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def write_over(path: Path, old: bytes, new: bytes) -> None:
    """Bytes that pydicom would not write."""
    data = path.read_bytes()
    assert old in data and len(old) == len(new)
    path.write_bytes(data.replace(old, new, 1))


def compress(path: Path) -> None:
    """Pixels marked as JPEG-LS, which nothing here decodes."""
    d = pydicom.dcmread(path)
    d.file_meta.TransferSyntaxUID = JPEGLSLossless
    d.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xf7" + b"\0" * 60])
    d.save_as(path, enforce_file_format=True)


SLICE_FAULTS = {
    "missing slice": (lambda p: p[2].unlink(), "missing slices"),
    "uneven slices": (lambda p: edit(p[2], ImagePositionPatient=[0, 0, 6.4]), "slices are unevenly spaced"),
    "two at one place": (lambda p: edit(p[2], ImagePositionPatient=[0, 0, 3]), "different slices at one position"),
    "another orientation": (lambda p: edit(p[1], ImageOrientationPatient=[0, 1, 0, 1, 0, 0]),
                            "slices differ in orientation"),
    "no unit vectors": (lambda p: [edit(q, ImageOrientationPatient=[1, 0, 0, 0.5, 1, 0]) for q in p],
                        "ImageOrientationPatient is not two unit vectors at right angles"),
    "mixed kernels": (lambda p: edit(p[1], ConvolutionKernel="L"), "several kernels in one series: B, L"),
    "two patients": (lambda p: edit(p[1], PatientID="9"), "a series of several patients: 7, 9"),
    "no patient id": (lambda p: [edit(q, PatientID="") for q in p], "no PatientID"),
    "no position": (lambda p: edit(p[1], ImagePositionPatient=None), "no ImagePositionPatient in"),
    "no intercept": (lambda p: edit(p[1], RescaleIntercept=None), "no RescaleIntercept in"),
    "no date": (lambda p: [edit(q, StudyDate=None) for q in p], "no date"),
    "no such date": (lambda p: [edit(q, StudyDate="20011399") for q in p], "'20011399' is no date"),
    "reformatted": (lambda p: [edit(q, ImageType=["DERIVED", "SECONDARY", "REFORMATTED"]) for q in p],
                    "a localiser or a reformatted series"),
    "one slice": (lambda p: [q.unlink() for q in p[1:]], "a single slice is no volume"),
    "other sizes": (lambda p: edit(p[1], PixelSpacing=[1, 1]), "slices differ in PixelSpacing"),
    "a vector too short": (lambda p: edit(p[1], ImagePositionPatient=[0, 0]), "is not 3 finite numbers"),
    "a pixel's one side": (lambda p: [edit(q, PixelSpacing=[2]) for q in p], "is not 2 finite numbers"),
    "slope 0": (lambda p: edit(p[1], RescaleSlope=0), "RescaleSlope of"),
    "no HU": (lambda p: [edit(q, RescaleType="Z_EFF") for q in p], "RescaleType Z_EFF; HU is expected"),
    "no such hour": (lambda p: [write_over(q, b"101500", b"251500") for q in p], "StudyTime '251500' is no time"),
    "no number": (lambda p: write_over(p[1], b"1\\0\\0\\0", b"1\\a\\0\\0"),
                  "ImageOrientationPatient of"),
    "not CT": (lambda p: [edit(q, Modality="PT") for q in p], "modality PT, not CT"),
}


@pytest.mark.parametrize("fault", SLICE_FAULTS)
def test_a_series_that_is_no_volume_is_dropped_with_its_reason(fault, tmp_path, capsys):
    break_it, reason = SLICE_FAULTS[fault]
    paths = slices(tmp_path / "in" / "bad", ramp())
    break_it(paths)
    line = refused(capsys, tmp_path / "in", "--out", tmp_path / "a.cohort")
    assert reason in line or fault == "not CT"  # alone: nothing can be used, and the reason is told
    slices(tmp_path / "in" / "good", ramp(), **GOOD)
    dropped, _ = reasons(tmp_path / "in", tmp_path / "a.cohort")
    assert any(reason in r for r in dropped), dropped


@pytest.mark.parametrize(("break_it", "reason"), [
    (lambda p: truncate(p, 0.9), "is cut short or damaged"),
    (compress, "compressed (JPEG-LS Lossless Image Compression) and not to be decoded here"),
])
def test_pixels_that_cannot_be_read_leave_the_visit_without_an_image(break_it, reason, tmp_path, capsys):
    paths = slices(tmp_path / "in" / "bad", ramp())
    break_it(paths[3])
    assert reason in refused(capsys, tmp_path / "in", "--out", tmp_path / "a.cohort")
    slices(tmp_path / "in" / "good", ramp(), **GOOD)
    dropped, _ = reasons(tmp_path / "in", tmp_path / "a.cohort")
    assert any(reason in r for r in dropped)


def test_a_header_that_is_cut_is_told(tmp_path):
    paths = slices(tmp_path / "in", ramp())
    extra = tmp_path / "in" / "extra.dcm"
    extra.write_bytes(paths[0].read_bytes()[:90])
    dropped, _ = reasons(tmp_path / "in", tmp_path / "a.cohort")
    assert dropped["not a DICOM file, or its header is cut short or damaged"] == 1


def test_no_damage_of_a_header_ends_in_a_stack_trace(tmp_path):
    """Bytes written over at random anywhere behind the preamble, 60 times: each is counted, refused, or still read."""
    rng = np.random.default_rng(0)
    path = slices(tmp_path, ramp())[1]
    source = np.frombuffer(path.read_bytes(), np.uint8)
    refusals = 0
    for _ in range(60):
        data = source.copy()
        data[rng.integers(132, len(data), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(data.tobytes())
        try:
            dicom.series(tmp_path, None, Account(), lambda line: None)[0].volume()
        except InvalidData:
            refusals += 1
    assert 0 < refusals < 60


def test_a_type_of_rescale_that_is_not_told_is_in_the_audit(tmp_path):
    for path in slices(tmp_path / "in", ramp()):
        edit(path, RescaleType="US")
    _, facts = reasons(tmp_path / "in", tmp_path / "a.cohort")
    assert facts["series whose RescaleType is US, unspecified (taken as HU)"] == 1


def test_copies_of_a_slice_count_once_and_another_image_of_its_name_does_not(tmp_path, capsys):
    paths = slices(tmp_path / "in", ramp())
    (tmp_path / "in" / "copy.dcm").write_bytes(paths[1].read_bytes())
    _, facts = reasons(tmp_path / "in", tmp_path / "a.cohort")
    assert facts["copies of slices (counted once)"] == 1
    edit(tmp_path / "in" / "copy.dcm", RescaleIntercept=5)
    line = refused(capsys, tmp_path / "in", "--out", tmp_path / "b.cohort")
    assert "two images with the SOPInstanceUID of" in line


def test_slices_are_sorted_by_place_whatever_their_numbers_say(tmp_path):
    paths = slices(tmp_path / "a", ramp())
    sound = prepared(tmp_path / "a", tmp_path / "a.cohort", "--side", 4, "--field", 8)
    for n, path in zip((3, 1, 5, 2, 4), paths, strict=True):
        edit(path, InstanceNumber=n)
    shuffled = prepared(tmp_path / "a", tmp_path / "b.cohort", "--side", 4, "--field", 8)
    assert np.array_equal(sound.streams["image"].values, shuffled.streams["image"].values)
    facts = json.loads((tmp_path / "b.cohort.audit.json").read_text())["facts"]
    assert facts["series whose InstanceNumber does not follow position (sorted by position)"] == 1


def test_series_of_one_folder_are_told_apart_and_one_kernel_can_be_named(tmp_path, capsys):
    slices(tmp_path / "in", ramp(), uid="1.2.111")
    slices(tmp_path / "in", ramp() + 50, uid="1.2.222", ConvolutionKernel="L")
    _, facts = reasons(tmp_path / "in", tmp_path / "a.cohort")
    assert facts["folders with several series (told apart by SeriesInstanceUID)"] == 1
    assert facts["further scans of a subject on one day (thinnest slices are taken)"] == 1
    both = [prepared(tmp_path / "in", tmp_path / f"{k}.cohort", "--side", 4, "--field", 8, "--kernel", k)
            for k in ("B", "L")]
    b, l = (c.streams["image"].values.astype(float) for c in both)
    assert l - b == pytest.approx(np.full(b.shape, 50), abs=0.5)  # float16
    assert "kernel 'B', not 'X'" in refused(capsys, tmp_path / "in", "--out", tmp_path / "x.cohort", "--kernel", "X")


def test_a_nodule_outside_its_scan_is_no_crop(tmp_path, capsys):
    """Coordinates with the signs of RAS, say."""
    slices(tmp_path / "in", ramp())
    (tmp_path / "in" / "nodules.csv").write_text("seriesuid,coordX,coordY,coordZ\n1.2.3,-6,-5,6\n")
    line = refused(capsys, tmp_path / "in", "--out", tmp_path / "a.cohort")
    assert "the nodule lies outside the scan (its place must be LPS millimetres of this series)" in line
    for text, said in (("seriesuid,coordX,coordY\n1,2,3\n", "no column 'coordZ or z'"),
                       ("seriesuid,coordX,coordY,coordZ\n1.2.3,6,5,nan\n", "line 2, coordZ: 'nan' is not a finite"),
                       ("seriesuid,coordX,coordY,coordZ\n1.2.3,6,5\n", "line 2: 4 fields are expected"),
                       ("seriesuid,coordX,coordY,coordZ\n", "no nodule in it")):
        (tmp_path / "in" / "nodules.csv").write_text(text)
        assert said in refused(capsys, tmp_path / "in", "--out", tmp_path / "a.cohort")


# ------------------------------------------------------------------------------------------------------------- records

LAB = [(7, -10.0, "LAB//A", 5.0, "mg/dL"), (7, -5.0, "LAB//A", 6.0, "mg/dL"), (7, -400.0, "LAB//A", 1.0, "mg/dL")]


def test_events_after_the_label_and_after_the_last_scan_never_enter(tmp_path):
    slices(tmp_path / "in", ramp())
    late = [(7, 0.5, "LAB//A", 99.0, "mg/dL"), (7, 3.0, "LAB//A", 98.0, "mg/dL")]
    meds(tmp_path / "ehr", [*LAB, *late, (7, None, "GENDER//F", None, ""), LAB[0]])
    labels = tmp_path / "labels.csv"
    labels.write_text("pid,label,date\n7,1,2001-02-04\n")
    dropped, _ = reasons(tmp_path / "in", tmp_path / "a.cohort", "--ehr", tmp_path / "ehr", "--labels", labels,
                         "--least", 1, "--exclude", "^LAB//Z")
    assert (dropped["after the label's time"], dropped["after the last scan"]) == (1, 1)
    assert (dropped["without a time"], dropped["the same row again"]) == (1, 1)
    audit = json.loads((tmp_path / "a.cohort.audit.json").read_text())
    leaks = {c["name"]: c["leaks"] for c in audit["leakage"]}
    assert leaks["visits or events after the label's time"] == 0
    assert leaks["channels chosen beyond the training subjects"] == 0  # None: it would not have looked
    assert "record/data/a.parquet" in audit["sources"]
    assert audit["facts"]["--exclude ^LAB//Z matches no code"] == 1
    labels.write_text("pid,label,date\n7,1,2001-02-03\n")  # 00:00 of the scan's own day: the scan comes too late
    words = ("prepare", tmp_path / "in", "--labels", labels, "--out", tmp_path / "b.cohort", "--quiet")
    assert command(main, [str(w) for w in words]) == 2


def test_look_back_unknown_units_and_codes_that_say_the_label(tmp_path):
    slices(tmp_path / "in", ramp())
    slices(tmp_path / "in", ramp(), uid="1.2.4", patient="11")
    stray = (7, -2.0, "LAB//A", 600.0, "mmol/L")
    meds(tmp_path / "ehr", [*LAB, stray, (7, -1.0, "ICD10//C34.1", None, ""), (7, -1.0, "ICD10//J44", None, "")])
    words = ("--ehr", tmp_path / "ehr", "--least", 1, "--exclude", "C34")
    dropped, facts = reasons(tmp_path / "in", tmp_path / "a.cohort", *words)
    assert dropped["unknown unit 'mmol/L' ('mg/dL' in training)"] == 1
    assert dropped["says the label (--exclude C34)"] == 1
    assert facts["subjects without an event in the record"] == 1
    made = prepared(tmp_path / "in", tmp_path / "b.cohort", "--side", 4, *words)
    assert made.events.code.tolist() == ["LAB//A", "LAB//A", "LAB//A", "ICD10//J44"]
    assert made.streams["clinical"].values[0, 0].tolist() == [6.0]  # the last one, in the known unit
    assert made.streams["clinical"].observed[:, 0, 0].tolist() == [True, False]
    for days, observed in ((5, True), (4, False)):
        made = prepared(tmp_path / "in", tmp_path / "c.cohort", "--side", 4, *words, "--look-back", days)
        assert ("clinical" in made.streams and bool(made.streams["clinical"].observed[0, 0, 0])) == observed


def test_numbers_of_the_record_are_matched_to_patient_ids_or_refused(tmp_path, capsys):
    slices(tmp_path / "in", ramp(), patient="Lung-1")
    record = meds(tmp_path / "ehr", LAB)
    words = ("--ehr", record, "--least", 1)
    line = refused(capsys, tmp_path / "in", "--out", tmp_path / "a.cohort", *words)
    assert "no subject of the record (such as 7) is among the scans' patient ids (such as Lung-1)" in line
    (record / "subjects.csv").write_text("patient_id,subject_id\nLung-1,7\n")
    made = prepared(tmp_path / "in", tmp_path / "a.cohort", "--side", 4, *words)
    assert made.record.tolist() == ["Lung-1"] and len(made.events.time) == 3
    (record / "subjects.csv").write_text("patient_id,subject_id\nLung-1,7\nLung-1,8\n")
    assert "is there twice" in refused(capsys, tmp_path / "in", "--out", tmp_path / "b.cohort", *words)


def test_a_meds_label_file_names_patients_as_the_events_do_and_labels_of_nobody_are_refused(tmp_path, capsys):
    slices(tmp_path / "in", ramp(), patient="Lung-1")
    record = meds(tmp_path / "ehr", LAB)
    (record / "subjects.csv").write_text("patient_id,subject_id\nLung-1,7\n")
    told = pl.DataFrame({"subject_id": [7, 8], "prediction_time": [datetime(2001, 2, 4)] * 2,
                         "boolean_value": [True, False]})  # fmt: skip
    (record / "labels").mkdir()
    told.write_parquet(record / "labels" / "cancer.parquet")
    words = ("--ehr", record, "--least", 1)
    made = prepared(tmp_path / "in", tmp_path / "a.cohort", "--side", 4, *words)
    assert made.labels["cancer"].tolist() == [1.0]
    audit = json.loads((tmp_path / "a.cohort.audit.json").read_text())
    assert audit["facts"]["labels of subjects without a scan"] == 1
    told[1:].write_parquet(record / "labels" / "cancer.parquet")
    line = refused(capsys, tmp_path / "in", "--out", tmp_path / "b.cohort", *words)
    assert "no subject of the labels (such as 8) is among the scans' patient ids (such as Lung-1)" in line


def test_a_date_alone_on_the_day_of_a_scan_is_in_the_audit(tmp_path):
    slices(tmp_path / "in", ramp(), time="000000")
    meds(tmp_path / "ehr", [*LAB, (7, -10.25 / 24, "LAB//A", 7.0, "mg/dL")])
    _, facts = reasons(tmp_path / "in", tmp_path / "b.cohort", "--ehr", tmp_path / "ehr", "--least", 2)
    assert facts["codes with values that fewer than 2 training subjects show (--least; events only)"] == 1
    assert facts["no labels (none beside the files; --labels and --outcome name others)"] == 1
    _, facts = reasons(tmp_path / "in", tmp_path / "a.cohort", "--ehr", tmp_path / "ehr", "--least", 1)
    assert facts["events dated 00:00 on a scan's day (of a time not told, perhaps: taken as known by then)"] == 1


def test_labels_of_the_records_own_codes(tmp_path, capsys):
    """C34 within a year of the last scan before it: yes; followed for less than a year without it: not known."""
    for n, patient in enumerate(("1", "2", "3", "4")):
        slices(tmp_path / "in", ramp(), uid=f"1.2.{n + 5}", patient=patient)
    days = [(1, 200.0, "C34"), (2, 400.0, "Z"), (3, 200.0, "Z"), (4, 500.0, "C34"), (1, -3.0, "Z")]
    record = meds(tmp_path / "ehr", [(*row, None, "") for row in days])
    made = prepared(tmp_path / "in", tmp_path / "a.cohort", "--side", 4, "--ehr", record, "--outcome", "^C34$")
    y = dict(zip(made.subject.tolist(), made.labels["cancer"].tolist(), strict=True))
    assert (y[1], y[2], y[4]) == (1, 0, 0) and math.isnan(y[3])
    assert made.tasks["cancer"].horizon == 365.25 and made.events.code.tolist() == ["Z"]
    line = refused(capsys, tmp_path / "in", "--out", tmp_path / "b.cohort", "--ehr", record, "--outcome", "^C43$")
    assert "--outcome ^C43$: no code of" in line


@pytest.mark.parametrize(("labels", "said"), [
    ("pid,label\n7,1\n7,0\n", "subject 7 has two labels"),
    ("pid,label\n7,yes\n", "label 'yes'; 0, 1 or nothing is expected"),
    ("pid,outcome\n7,1\n", "no column 'boolean_value or label or lung_cancer or cancer'"),
    ("pid,label,date\n7,1,31.31.2001\n", "'31.31.2001' is no date"),
])
def test_labels_that_cannot_be_are_refused(labels, said, tmp_path, capsys):
    slices(tmp_path / "in", ramp())
    (tmp_path / "labels.csv").write_text(labels)
    words = ("--labels", tmp_path / "labels.csv")
    assert said in refused(capsys, tmp_path / "in", "--out", tmp_path / "a.cohort", *words)


def test_names_that_leave_their_folder_are_refused(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    head = "pid,id,session,shifted_scan_date,Duration,lung_cancer,exp-000\n"
    (tmp_path / "in" / "labels.csv").write_text(head + "7,../../7,0,2001-02-03,0,1,0.5\n")
    line = refused(capsys, tmp_path / "in", "--layout", "lmsignatures", "--out", tmp_path / "a.cohort")
    assert "leaves" in line and "names must stay inside the folder" in line
    for layout, row in (("nifti", "fpath\n7,2001-02-03,/etc/passwd\n"), ("features", "x\n../7,2001-02-03,1\n")):
        (tmp_path / "in" / "scans.csv").write_text("pid,scandate," + row)
        line = refused(capsys, tmp_path / "in", "--layout", layout, "--out", tmp_path / "a.cohort")
        assert "names must stay inside the folder" in line


@pytest.mark.parametrize(("words", "said"), [
    (("--side", 2), "--side 2: 4 to 512"), (("--field", 0), "--field 0: 1 to 1000"), (("--ehr", "no"), "--ehr no does"),
    (("--signatures", 3), "--signatures reads a health record"), (("--lookback", 3), "did you mean --look-back?"),
    (("--outcome", "C34"), "--outcome looks for codes"), (("--layout", "dcm"), "invalid choice"),
    (("--nodules", "no.csv"), "--nodules no.csv does not exist"), (("--boxes", "no"), "--boxes no does not exist"),
])
def test_options_that_cannot_be_are_refused(words, said, tmp_path, capsys):
    slices(tmp_path / "in", ramp())
    assert said in refused(capsys, tmp_path / "in", "--out", tmp_path / "a.cohort", *words)
