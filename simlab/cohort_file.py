"""The `.cohort` file: an uncompressed zip of `.npy` members and one `cohort.json`.

`cohort.json` holds the format version, names, units, tasks, provenance, and for every member its dtype, shape and
sha256. Members lie uncompressed and aligned, so a big one is memory-mapped where it lies. Nothing is ever unpickled or
extracted to a path, and a member that `cohort.json` does not list is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np

from simlab.cohort import Cohort, Events, Stream, Task
from simlab.errors import DamagedFile, InvalidCohort, SimlabError

FORMAT = "simlab-cohort"
VERSION = 1
MANIFEST = "cohort.json"
MAP_FROM = 1 << 24  # members of at least this many bytes are memory-mapped
ALIGN = 64
# What `zipfile` raises for bytes that are not, or no longer, a zip that it can read.
NOT_A_ZIP = (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError, struct.error)
EPOCH = (1980, 1, 1, 0, 0, 0)  # every member's date, so that the same cohort gives the same bytes


def members(cohort: Cohort) -> Iterator[tuple[str, np.ndarray]]:
    """Every array of a cohort with its member name, in the order in which they are written."""
    for name, s in cohort.streams.items():
        yield f"streams/{name}/values.npy", s.values
        yield f"streams/{name}/observed.npy", s.observed
        if s.time is not None:
            yield f"streams/{name}/time.npy", s.time
    if cohort.events is not None:
        for part in ("offsets", "time", "code", "value", "unit"):
            yield f"events/{part}.npy", getattr(cohort.events, part)
    for group in ("labels", "risk", "factors"):
        for name, array in getattr(cohort, group).items():
            yield f"{group}/{name}.npy", array
    for name in ("record", "subject", "site", "length"):
        yield f"{name}.npy", getattr(cohort, name)


def save(cohort: Cohort, path: Path) -> None:
    """Write the file aside, sync it and put it in place. Raises InvalidCohort, or SimlabError where it cannot write."""
    head = describe(cohort)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimlabError(f"{path}: cannot be written, its folder cannot be made ({error.strerror})") from error
    try:
        with aside.open("wb") as f:
            write(cohort, head, f)
            f.flush()
            os.fsync(f.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise SimlabError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        aside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename inside this folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def describe(cohort: Cohort) -> dict[str, object]:
    """What `cohort.json` says apart from the members. Raises InvalidCohort for provenance that JSON cannot hold."""
    head: dict[str, object] = {
        "format": FORMAT,
        "version": VERSION,
        "streams": [
            {"name": n, "channels": s.channels, "units": s.units, "scale": s.scale, "offset": s.offset}
            for n, s in cohort.streams.items()
        ],
        "tasks": [asdict(task) for task in cohort.tasks.values()],
        "labels": list(cohort.labels),
        "risk": list(cohort.risk),
        "factors": list(cohort.factors),
        "provenance": dict(cohort.provenance),
    }
    try:
        again = json.loads(json.dumps(head["provenance"], allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidCohort(f"provenance: only strings, numbers, lists and mappings can be saved ({error})") from error
    if set(again) != set(head["provenance"]):
        raise InvalidCohort("provenance: keys must be strings")
    return head


def write(cohort: Cohort, head: dict[str, object], f: BinaryIO) -> None:
    """Write members, then `cohort.json` with their hashes, into an open file."""
    listed: dict[str, dict[str, object]] = {}
    with zipfile.ZipFile(f, "w", zipfile.ZIP_STORED) as z:
        for name, array in members(cohort):
            array = np.ascontiguousarray(array)
            with z.open(aligned(name, f.tell()), "w", force_zip64=True) as member:
                hashing = Hashing(member)
                np.lib.format.write_array(hashing, array, version=(1, 0), allow_pickle=False)
            listed[name] = {
                "dtype": array.dtype.str,
                "shape": list(array.shape),
                "sha256": hashing.sha256.hexdigest(),
            }
        text = json.dumps({**head, "members": listed}, indent=1, allow_nan=False)
        z.writestr(zipfile.ZipInfo(MANIFEST, EPOCH), text)


def aligned(name: str, at: int) -> zipfile.ZipInfo:
    """The zip entry of a member whose header begins at byte `at`, padded so that its contents begin aligned."""
    info = zipfile.ZipInfo(name, EPOCH)
    info.external_attr = 0o644 << 16
    start = at + 30 + len(name) + 20 + 4  # local header, name, the zip64 field, this padding's own header
    gap = -start % ALIGN
    info.extra = struct.pack("<HH", 0xD935, gap) + bytes(gap)
    return info


class Hashing:
    """A writer that hashes what passes through it."""

    def __init__(self, out: io.IOBase) -> None:
        self.out = out
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self.out.write(data)


def load(path: Path) -> Cohort:
    """Read a `.cohort` file. Raises DamagedFile naming the member that is missing, altered or not what it claims."""
    try:
        with path.open("rb") as f, zipfile.ZipFile(f) as z:
            head = read_manifest(path, z)
            arrays = {name: read_member(path, f, z, name, said) for name, said in head["members"].items()}
    except FileNotFoundError as error:
        raise DamagedFile(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise DamagedFile(f"{path}: is a folder, not a .cohort file") from error
    except NOT_A_ZIP as error:
        raise DamagedFile(f"{path}: not a .cohort file, or cut short ({error})") from error
    except OSError as error:
        raise DamagedFile(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return build(head, arrays)
    except KeyError as error:
        raise DamagedFile(f"{path}: {error.args[0]} is missing") from error
    except (InvalidCohort, TypeError, AttributeError) as error:
        raise DamagedFile(f"{path}: {MANIFEST} and the members do not make a cohort ({error})") from error


def read_manifest(path: Path, z: zipfile.ZipFile) -> dict:
    """`cohort.json`, checked: its format, its version, and that it lists exactly the members that are there."""
    names = z.namelist()
    if MANIFEST not in names:
        raise DamagedFile(f"{path}: no {MANIFEST} inside, so not a .cohort file")
    try:
        head = json.loads(z.read(MANIFEST))
    except (*NOT_A_ZIP, OSError) as error:
        raise DamagedFile(f"{path}: {MANIFEST} is damaged ({error})") from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise DamagedFile(f"{path}: {MANIFEST} is not that of a .cohort file")
    version = head.get("version")
    if not isinstance(version, int) or version < 1:
        raise DamagedFile(f"{path}: {MANIFEST} has no usable format version ({version!r})")
    if version > VERSION:
        raise DamagedFile(
            f"{path}: is in format version {version}, and this simlab reads up to {VERSION}: update simlab"
        )
    listed = head.get("members")
    if not isinstance(listed, dict):
        raise DamagedFile(f"{path}: {MANIFEST} lists no members")
    if len(set(names)) != len(names):
        raise DamagedFile(f"{path}: member {next(n for n in names if names.count(n) > 1)} is there twice")
    for name in sorted(set(listed) ^ (set(names) - {MANIFEST})):
        state = f"is missing, and {MANIFEST} lists it" if name in listed else f"is not listed in {MANIFEST}"
        raise DamagedFile(f"{path}: member {name} {state}")
    return head


def read_member(path: Path, f: BinaryIO, z: zipfile.ZipFile, name: str, said: object) -> np.ndarray:
    """One array, its bytes checked against the sha256, dtype and shape that `cohort.json` gives."""
    where = f"{path}: member {name}"
    info = z.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise DamagedFile(f"{where} is compressed or encrypted; members of a .cohort file are plain")
    begin = content_offset(f, info)
    if begin is None or begin + info.file_size > os.fstat(f.fileno()).st_size:
        raise DamagedFile(f"{where} is damaged or cut short")
    if not isinstance(said, dict) or sha256(f, begin, info.file_size) != said.get("sha256"):
        raise DamagedFile(f"{where} is altered: its sha256 is not the one in {MANIFEST}")
    try:
        f.seek(begin)
        if np.lib.format.read_magic(f) != (1, 0):
            raise ValueError("an .npy version that is never written")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(f)
    except (ValueError, SyntaxError, EOFError) as error:
        raise DamagedFile(f"{where} is not a plain .npy array ({error})") from error
    data = f.tell()
    fits = data + math.prod(shape) * dtype.itemsize == begin + info.file_size
    if dtype.hasobject or fortran or not fits or dtype.str != said.get("dtype") or list(shape) != said.get("shape"):
        raise DamagedFile(f"{where} is {dtype} {shape}, not the {said.get('dtype')} {said.get('shape')} of {MANIFEST}")
    if info.file_size >= MAP_FROM and math.prod(shape):
        return np.memmap(f, dtype, "r", data, shape).view(np.ndarray)
    f.seek(data)
    return np.frombuffer(bytearray(f.read(math.prod(shape) * dtype.itemsize)), dtype).reshape(shape)


def content_offset(f: BinaryIO, info: zipfile.ZipInfo) -> int | None:
    """Where a member's bytes begin, from its local header; None when that header is damaged or names another member."""
    f.seek(info.header_offset)
    local = f.read(30)
    if len(local) < 30 or local[:4] != b"PK\x03\x04":
        return None
    name, extra = struct.unpack("<HH", local[26:30])
    if f.read(name) != info.filename.encode():
        return None
    return info.header_offset + 30 + name + extra


def sha256(f: BinaryIO, begin: int, size: int) -> str:
    """The hash of a stretch of the file, read in pieces."""
    f.seek(begin)
    digest, left = hashlib.sha256(), size
    while left and (piece := f.read(min(left, 1 << 20))):
        digest.update(piece)
        left -= len(piece)
    return digest.hexdigest()


def build(head: dict, arrays: dict[str, np.ndarray]) -> Cohort:
    """The cohort of a checked manifest and its arrays. Raises KeyError naming what is missing, InvalidCohort."""
    streams = {}
    for said in head["streams"]:
        at = f"streams/{said['name']}"
        streams[said["name"]] = Stream(
            values=arrays[f"{at}/values.npy"],
            observed=arrays[f"{at}/observed.npy"],
            channels=tuple(said["channels"]),
            units=tuple(said["units"]),
            time=arrays.get(f"{at}/time.npy"),
            scale=said["scale"],
            offset=said["offset"],
        )
    events = None
    if "events/offsets.npy" in arrays:
        events = Events(*(arrays[f"events/{part}.npy"] for part in ("offsets", "time", "code", "value", "unit")))
    groups = {g: {n: arrays[f"{g}/{n}.npy"] for n in head[g]} for g in ("labels", "risk", "factors")}
    return Cohort(
        streams=streams,
        events=events,
        tasks={said["name"]: Task(**said) for said in head["tasks"]},
        provenance=head["provenance"],
        **groups,
        **{name: arrays[f"{name}.npy"] for name in ("record", "subject", "site", "length")},
    )
