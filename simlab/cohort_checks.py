"""What makes streams, events and cohorts valid: each rule refuses with one line that names the field and the record.

Called by the classes of `simlab.cohort` when they are built. Rules look at arrays only, in blocks of records, so that
twenty thousand vectors cost milliseconds and a memory-mapped volume is never held whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import numpy as np

from simlab.errors import InvalidCohort

VALUE_DTYPES = ("float32", "float16", "uint8")
BLOCK_BYTES = 1 << 25
# Names become members of a file: letters, digits and `_ . + -`, none of which can climb out of a folder.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")


def require(condition: bool | np.bool_, message: str) -> None:
    """Raise InvalidCohort(message) unless the condition holds."""
    if not condition:
        raise InvalidCohort(message)


def check_name(what: str, name: object) -> None:
    """Refuse a name that could not be a file member (`what` says whose name it is)."""
    good = isinstance(name, str) and NAME.fullmatch(name) is not None and ".." not in name
    require(good, f"{what} name {name!r}: use letters, digits and _ . + - (at most 100, no '..')")


def check_array(where: str, array: object, dtypes: tuple[str, ...], shape: tuple[int | None, ...]) -> None:
    """Refuse what is not an array of one of these dtypes and this shape (None: any length)."""
    require(isinstance(array, np.ndarray), f"{where}: a numpy array is needed, not {type(array).__name__}")
    good = array.dtype.name in dtypes and array.dtype.isnative
    require(good, f"{where}: dtype {array.dtype}, not {' or '.join(dtypes)}")
    fits = array.ndim == len(shape) and all(w is None or w == h for w, h in zip(shape, array.shape, strict=True))
    wanted = "(" + ", ".join("any" if w is None else str(w) for w in shape) + ")"
    require(fits, f"{where}: shape {array.shape}, not {wanted}")


def check_ids(where: str, ids: object, records: int | None = None) -> None:
    """Ids are one-dimensional and unicode or integer."""
    require(isinstance(ids, np.ndarray), f"{where}: a numpy array is needed, not {type(ids).__name__}")
    require(ids.dtype.kind in "Uiu" and ids.dtype.isnative, f"{where}: dtype {ids.dtype}, not unicode or integer")
    require(ids.ndim == 1, f"{where}: shape {ids.shape}, not one id a record")
    require(records is None or len(ids) == records, f"{where}: {len(ids)} ids for {records} records")


def blocks(values: np.ndarray) -> Iterator[slice]:
    """Slices of records whose values take at most BLOCK_BYTES (at least one record each)."""
    step = max(1, BLOCK_BYTES // max(1, values[:1].nbytes))
    for start in range(0, len(values), step):
        yield slice(start, start + step)


def by_channel(flags: np.ndarray, channels: int) -> np.ndarray:
    """Any over the features of a channel: (records, visits, *features) -> (records, visits, channels)."""
    records, visits = flags.shape[:2]
    if not flags.size:
        return np.zeros((records, visits, channels), bool)
    return flags.reshape(records, visits, channels, -1).any(axis=3)


def check_stream(
    values: object, observed: object, channels: object, units: object, time: object, scale: object, offset: object
) -> None:
    """The rules of one stream, before it has a name: shapes, dtypes, units, finite wherever observed."""
    require(
        isinstance(channels, tuple) and len(channels) > 0 and all(isinstance(c, str) for c in channels),
        f"stream channels: a tuple of at least one name is needed, not {channels!r}",
    )
    named = f"stream of channels {', '.join(channels[:3])}{', ...' if len(channels) > 3 else ''}"
    require(len(set(channels)) == len(channels), f"{named}: a channel is named twice")
    require(
        isinstance(units, tuple) and len(units) == len(channels) and all(isinstance(u, str) for u in units),
        f"{named}: units must be a tuple of {len(channels)} strings, one a channel",
    )
    require(isinstance(values, np.ndarray), f"{named}, values: a numpy array is needed, not {type(values).__name__}")
    require(
        values.dtype.name in VALUE_DTYPES and values.dtype.isnative,
        f"{named}, values: dtype {values.dtype}, not float32 (large volumes: float16 or uint8 with scale and offset)",
    )
    require(values.ndim >= 2, f"{named}, values: shape {values.shape}, not (records, visits, *features)")
    records, visits, *features = values.shape
    require(
        len(channels) == 1 or features[:1] == [len(channels)],
        f"{named}, values: shape {values.shape} for {len(channels)} channels; the third axis must be the channels",
    )
    check_array(f"{named}, observed", observed, ("bool",), (records, visits, len(channels)))
    for what, number in (("scale", scale), ("offset", offset)):
        good = isinstance(number, (int, float)) and np.isfinite(number) and (what == "offset" or number != 0)
        require(good, f"{named}, {what}: {number!r} is not a usable number")
    plain = scale == 1 and offset == 0
    require(plain or values.dtype != np.float32, f"{named}: scale and offset are for values stored as float16 or uint8")
    if time is None:
        require(visits == 1, f"{named}: no time, so it is static and has one visit, not {visits}")
    else:
        check_array(f"{named}, time", time, ("float64",), (records, visits))
    if values.dtype.kind == "f":
        check_finite(named, values, observed, channels)


def check_finite(named: str, values: np.ndarray, observed: np.ndarray, channels: tuple[str, ...]) -> None:
    """No NaN or infinity where observed."""
    for part in blocks(values):
        wrong = ~np.isfinite(values[part])
        if wrong.any():
            bad = by_channel(wrong, len(channels)) & observed[part]
            if bad.any():
                record, visit, channel = np.argwhere(bad)[0]
                raise InvalidCohort(
                    f"{named}: NaN or infinity where observed, record {part.start + record}, visit {visit}, "
                    f"channel '{channels[channel]}'"
                )


def check_events(offsets: object, time: object, code: object, value: object, unit: object) -> None:
    """The rules of ragged events: offsets rise from 0 to the number of events, times never fall inside a record."""
    check_array("events, offsets", offsets, ("int64", "int32"), (None,))
    good = len(offsets) > 0 and offsets[0] == 0 and bool((np.diff(offsets) >= 0).all())
    require(good, "events, offsets: must rise from 0, one more than there are records")
    n = int(offsets[-1])
    check_array("events, time", time, ("float64",), (n,))
    check_array("events, value", value, ("float32", "float64"), (n,))
    for where, text in (("events, code", code), ("events, unit", unit)):
        good = isinstance(text, np.ndarray) and text.dtype.kind == "U" and text.dtype.isnative and text.shape == (n,)
        require(good, f"{where}: a unicode array of {n} is needed")
    require(bool(np.isfinite(time).all()), "events, time: not a finite number")
    require(not bool(np.isinf(value).any()), "events, value: infinity (an event without a value has NaN)")
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    back = np.flatnonzero((np.diff(time) < 0) & (np.diff(owner) == 0))
    require(len(back) == 0, f"events, time: goes backwards in record {owner[back[0]] if len(back) else 0}")


def check_times(name: str, time: np.ndarray, length: np.ndarray, record: np.ndarray) -> None:
    """Times of visits that exist are finite and never go backwards. time: (records, visits); length: (records,)."""
    exists = np.arange(time.shape[1]) < length[:, None]
    wrong = exists & ~np.isfinite(time)
    if wrong.any():
        i, j = np.argwhere(wrong)[0]
        raise InvalidCohort(f"stream '{name}', record {record[i]}, visit {j}: time {time[i, j]} is not a finite number")
    if time.shape[1] > 1:
        back = exists[:, 1:] & (time[:, 1:] < time[:, :-1])
        if back.any():
            i, j = np.argwhere(back)[0]
            raise InvalidCohort(
                f"stream '{name}', record {record[i]}: time goes backwards, "
                f"from {time[i, j]:g} at visit {j} to {time[i, j + 1]:g} at visit {j + 1}"
            )


def check_padding(name: str, observed: np.ndarray, length: np.ndarray, record: np.ndarray) -> None:
    """Nothing is observed beyond a record's length: that is padding."""
    if len(length) and int(length.min()) == observed.shape[1]:
        return
    bad = observed.any(axis=2) & (np.arange(observed.shape[1]) >= length[:, None])
    if bad.any():
        i, j = np.argwhere(bad)[0]
        raise InvalidCohort(
            f"stream '{name}', record {record[i]}: observed at visit {j}, but its length is {length[i]}"
        )


def check_outcome(
    field: str, task: str, kind: str, level: str, array: object, length: np.ndarray, visits: int, record: np.ndarray
) -> None:
    """Labels: 0, 1 or NaN (binary), finite or NaN (regression). Risk: binary tasks only, in [0, 1] where a visit is."""
    shape = (len(record),) if level == "record" else (len(record), visits)
    check_array(f"{field} '{task}'", array, ("float32", "float64"), shape)
    missing = np.isnan(array)
    if field == "labels":
        good = missing | ((array == 0) | (array == 1) if kind == "binary" else np.isfinite(array))
        rule = "0, 1 or NaN" if kind == "binary" else "finite or NaN"
    else:
        require(kind == "binary", f"risk '{task}': is the probability of a positive label, not for a regression")
        padding = np.arange(visits) >= length[:, None] if level == "visit" else np.zeros(shape, bool)
        good = ((array >= 0) & (array <= 1)) | (missing & padding)
        rule = "in [0, 1]"
    if not good.all():
        first = tuple(np.argwhere(~good)[0])
        at = f", visit {first[1]}" if len(first) == 2 else ""
        raise InvalidCohort(f"{field} '{task}', record {record[first[0]]}{at}: {array[first]:g} is not {rule}")


def check_subjects(groups: Mapping[str, np.ndarray]) -> None:
    """No subject is in two groups (the cohorts of a scenario, by name)."""
    owner: dict[object, str] = {}
    for name, subject in groups.items():
        here = set(subject.tolist())
        # The smaller walk first: most scenarios share nobody, and sets say so at once.
        shared = sorted((s for s in here if s in owner), key=str)
        if shared:
            more = f" and {len(shared) - 1} more" if len(shared) > 1 else ""
            raise InvalidCohort(f"subject {shared[0]}{more} is in two cohorts: '{owner[shared[0]]}' and '{name}'")
        owner.update(dict.fromkeys(here, name))
