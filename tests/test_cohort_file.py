"""Saving and loading lose nothing; a file that is damaged, altered or foreign is refused by member."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simlab import cohort_file
from simlab.cohort import Cohort, Events, Stream, Task, load, save
from simlab.errors import DamagedFile, InvalidCohort, SimlabError

NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_+-]{0,8}", fullmatch=True)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


def floats(width=32):
    return st.floats(-100, 100, width=width)


def unicode(draw, n, unique=False):
    ids = draw(st.lists(WORDS.filter(bool), min_size=n, max_size=n, unique=unique))
    return np.array(ids, dtype=None if ids else "U1")


@st.composite
def streams(draw, n: int, visits: int):
    channels = draw(st.lists(WORDS, min_size=1, max_size=3, unique=True))
    static = draw(st.booleans())
    visits = 1 if static else visits
    features = draw(st.sampled_from([(len(channels),), (len(channels), 2, 2)]))
    dtype = draw(st.sampled_from(["float32", "float16", "uint8"]))
    elements = st.integers(0, 255) if dtype == "uint8" else floats(16) | st.just(np.nan)
    values = draw(hnp.arrays(dtype, (n, visits, *features), elements=elements))
    observed = draw(hnp.arrays(bool, (n, visits, len(channels))))
    flat = np.isnan(values.astype(np.float32)).reshape(n, visits, len(channels), 4 if len(features) > 1 else 1)
    observed &= ~flat.any(axis=3)
    time = np.cumsum(draw(hnp.arrays(float, (n, visits), elements=st.floats(0, 5))), axis=1)
    scale = {} if dtype == "float32" else {"scale": draw(st.floats(0.5, 3)), "offset": draw(floats())}
    units = tuple(draw(WORDS) for _ in channels)
    return Stream(values, observed, tuple(channels), units, None if static else time, **scale)


@st.composite
def cohorts(draw):
    n, visits = draw(st.integers(0, 4)), draw(st.integers(1, 3))
    events = None
    if draw(st.booleans()):
        counts = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 2)))
        m = int(counts.sum())
        value = draw(hnp.arrays(np.float32, m, elements=floats() | st.just(np.nan)))
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        events = Events(offsets, np.zeros(m), unicode(draw, m), value, unicode(draw, m))
    tasks = {
        name: Task(name, draw(st.sampled_from(["binary", "regression"])), "record", draw(st.none() | floats(64)))
        for name in draw(st.lists(NAMES, max_size=2, unique=True))
    }
    labels = {t: draw(hnp.arrays("float64", n, elements=st.sampled_from([0.0, 1.0, np.nan]))) for t in tasks}
    risk = {t: draw(hnp.arrays("float32", n, elements=st.floats(0, 1, width=32))) for t in tasks}
    parts = {name: draw(streams(n, visits)) for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))}
    return Cohort(
        streams=parts,
        length=np.full(n, max(s.visits for s in parts.values())),
        record=unicode(draw, n, unique=True) if draw(st.booleans()) else np.arange(n) - 7,
        subject=draw(hnp.arrays(np.int64, n)),
        site=unicode(draw, n),
        tasks=tasks,
        labels=labels,
        risk={t: r for t, r in risk.items() if tasks[t].kind == "binary"},
        factors={"f": draw(hnp.arrays(draw(st.sampled_from(["float64", "int32", "bool"])), (n, 2)))},
        events=events,
        provenance={"source": draw(WORDS), "counts": [1, 2.5, None, {"a": True}]},
    )


def same_arrays(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_same(a: Cohort, b: Cohort) -> None:
    names = [name for name, _ in cohort_file.members(a)]
    assert names == [name for name, _ in cohort_file.members(b)]
    for (name, left), (_, right) in zip(cohort_file.members(a), cohort_file.members(b), strict=True):
        assert same_arrays(left, right), name
    plain = ("channels", "units", "scale", "offset")
    for name in a.streams:
        assert [getattr(a.streams[name], p) for p in plain] == [getattr(b.streams[name], p) for p in plain]
    assert {k: asdict(v) for k, v in a.tasks.items()} == {k: asdict(v) for k, v in b.tasks.items()}
    assert a.provenance == b.provenance


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cohort=cohorts())
def test_save_and_load_lose_nothing(cohort, tmp_path_factory):
    path = tmp_path_factory.mktemp("round") / "a.cohort"
    save(cohort, path)
    again = load(path)
    assert_same(cohort, again)
    save(again, path.with_name("b.cohort"))
    assert path.read_bytes() == path.with_name("b.cohort").read_bytes()


def small(n=3) -> Cohort:
    s = Stream(
        np.arange(n * 2, dtype=np.float32).reshape(n, 1, 2), np.ones((n, 1, 2), bool), ("a", "b"), ("x", ""), None
    )
    ids = np.array([f"p{i}" for i in range(n)])
    return Cohort(
        {"image": s},
        np.ones(n, np.int64),
        ids,
        ids,
        ids,
        tasks={"y": Task("y", "binary", cutoff=3.0, positive="dies")},
        labels={"y": np.array([0.0, 1.0, np.nan][:n])},
    )


@pytest.fixture
def path(tmp_path) -> Path:
    save(small(), tmp_path / "a.cohort")
    return tmp_path / "a.cohort"


def test_the_file_is_a_plain_zip_of_npy_members(path):
    with zipfile.ZipFile(path) as z:
        assert z.namelist() == [
            "streams/image/values.npy",
            "streams/image/observed.npy",
            "labels/y.npy",
            "record.npy",
            "subject.npy",
            "site.npy",
            "length.npy",
            "cohort.json",
        ]
        assert all(i.compress_type == zipfile.ZIP_STORED for i in z.infolist())
        assert z.testzip() is None
        head = json.loads(z.read("cohort.json"))
        assert np.load(z.open("labels/y.npy"), allow_pickle=False)[1] == 1
    assert head["version"] == 1
    assert set(head["members"]["record.npy"]) == {"dtype", "shape", "sha256"}
    assert [p.name for p in path.parent.iterdir()] == ["a.cohort"]  # nothing aside is left


def test_big_members_are_memory_mapped_and_aligned(tmp_path, monkeypatch):
    monkeypatch.setattr(cohort_file, "MAP_FROM", 1)
    save(small(), tmp_path / "a.cohort")
    again = load(tmp_path / "a.cohort")
    values = again.streams["image"].values
    assert isinstance(values.base, np.memmap) and not values.flags.writeable and values.flags.aligned
    assert values.ctypes.data % 64 == 0
    assert_same(small(), again)
    shown = again.inputs("y").streams["image"].values
    assert shown.base is None and shown.flags.writeable and type(shown) is np.ndarray


def test_arrays_that_are_not_contiguous_are_saved_whole(tmp_path):
    s = small().streams["image"]
    turned = replace(s, values=np.asfortranarray(s.values), observed=s.observed[::-1])
    save(replace(small(), streams={"image": turned}), tmp_path / "a.cohort")
    assert np.array_equal(load(tmp_path / "a.cohort").streams["image"].values, s.values)


def rewrite(path: Path, change) -> None:
    """Write the zip again with its members passed through `change`, which edits a dict of name to bytes."""
    with zipfile.ZipFile(path) as z:
        parts = {name: z.read(name) for name in z.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        for name, data in parts.items():
            z.writestr(name, data)


def edit_manifest(path: Path, **changes) -> None:
    def change(parts):
        head = json.loads(parts["cohort.json"])
        parts["cohort.json"] = json.dumps({**head, **changes}).encode()

    rewrite(path, change)


def refused(path: Path) -> str:
    with pytest.raises(DamagedFile) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_every_truncation_is_refused(path):
    whole = path.read_bytes()
    for keep in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:keep])
        refused(path)


def test_every_flipped_byte_is_refused_or_harmless(path):
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        broken = bytearray(whole)
        broken[at] ^= 0xFF
        path.write_bytes(broken)
        try:
            assert_same(load(path), small())  # dates, padding: bytes that carry nothing
        except DamagedFile as error:
            assert "\n" not in str(error)


def test_an_altered_member_is_named(path):
    with zipfile.ZipFile(path) as z:
        at = z.getinfo("labels/y.npy").header_offset + 250
    broken = bytearray(path.read_bytes())
    broken[at] ^= 1
    path.write_bytes(broken)
    assert "member labels/y.npy is altered" in refused(path)


def test_a_missing_and_an_added_member_are_named(path):
    whole = path.read_bytes()
    rewrite(path, lambda parts: parts.pop("length.npy"))
    assert "member length.npy is missing" in refused(path)
    path.write_bytes(whole)
    rewrite(path, lambda parts: parts.update({"../../evil.npy": parts["length.npy"]}))
    assert "member ../../evil.npy is not listed" in refused(path)
    assert not (path.parent.parent / "evil.npy").exists()


def test_a_pickle_is_never_loaded(path, tmp_path):
    import hashlib
    import pickle

    marker = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (marker,))

    def change(parts):
        objects = np.empty(3, object)
        objects[:] = [Bomb()] * 3
        with (tmp_path / "o.npy").open("wb") as f:
            np.save(f, objects, allow_pickle=True)
        parts["record.npy"] = (tmp_path / "o.npy").read_bytes()
        assert b"Bomb" in parts["record.npy"] or pickle.dumps(marker)
        head = json.loads(parts["cohort.json"])
        head["members"]["record.npy"] = {
            "dtype": "|O",
            "shape": [3],
            "sha256": hashlib.sha256(parts["record.npy"]).hexdigest(),
        }
        parts["cohort.json"] = json.dumps(head).encode()

    rewrite(path, change)
    assert "member record.npy" in refused(path)
    assert not marker.exists()


def test_foreign_files_are_refused(path, tmp_path):
    assert "no such file" in refused(tmp_path / "none.cohort")
    (tmp_path / "text.cohort").write_text("subject_id,hadm_id\n")
    assert "not a .cohort file" in refused(tmp_path / "text.cohort")
    assert "folder" in refused(tmp_path)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as z:
        z.writestr("readme.txt", "hello")
    assert "no cohort.json" in refused(tmp_path / "other.zip")
    edit_manifest(path, format="other")
    assert "not that of a .cohort file" in refused(path)


def test_a_newer_version_is_refused_clearly(path):
    edit_manifest(path, version=2)
    assert "format version 2" in refused(path) and "update simlab" in refused(path)
    edit_manifest(path, version="new")
    assert "no usable format version" in refused(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"streams": [{"name": "../../etc", "channels": ["a"], "units": [""], "scale": 1, "offset": 0}]},
        {"streams": "image"},
        {"streams": []},
        {"tasks": [{"name": "y", "kind": "binary", "surprise": 1}]},
        {"tasks": []},
        {"labels": ["z"]},
        {"labels": 3},
        {"provenance": 3},
        {"members": []},
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(path, changes):
    edit_manifest(path, **changes)
    refused(path)


def test_compressed_members_are_refused(path):
    with zipfile.ZipFile(path) as z:
        parts = {name: z.read(name) for name in z.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in parts.items():
            z.writestr(name, data)
    assert "compressed" in refused(path)


def test_what_cannot_be_saved_leaves_the_old_file_alone(path):
    before = path.read_bytes()
    for wrong in ({"when": np.int64(3)}, {"x": float("nan")}, {3: "x"}):
        with pytest.raises(InvalidCohort, match="provenance"):
            save(replace(small(), provenance=wrong), path)
    assert path.read_bytes() == before
    with pytest.raises(SimlabError, match="cannot be written"):
        save(small(), path / "below-a-file.cohort")
    assert [p.name for p in path.parent.iterdir()] == ["a.cohort"]


def test_a_failed_write_leaves_nothing_behind(path, monkeypatch):
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cohort_file, "write", full)
    with pytest.raises(SimlabError, match="No space left on device"):
        save(small(2), path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["a.cohort"]


def test_every_field_of_a_stream_and_a_task_is_in_the_file():
    head = cohort_file.describe(small())
    assert set(head["tasks"][0]) == {f.name for f in fields(Task)}
    assert set(head["streams"][0]) | {"values", "observed", "time"} == {f.name for f in fields(Stream)} | {"name"}
