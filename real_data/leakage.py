"""Checks that a cohort does not know its own future: each names what it looked at and what it found.

They look at the cohort as it is, not at how it was made, so that a leak is seen whatever brought it in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from simlab.cohort import Cohort

SLACK = 1e-6  # hours
PERFECT = 0.999  # a single channel that ranks a label better than this is the label
FEWEST = 10  # of each class, before such a ranking means anything
OUTCOMES = ("dod", "death", "deathtime", "dischtime", "discharge", "outtime", "los", "discharge_location",
            "hospital_expire_flag", "expire_flag", "drg_severity", "drg_mortality")  # fmt: skip
# Codes that are given after discharge, in any vocabulary that spells them so.
CODED = re.compile(r"(?i)(^|[^a-z])(diagnos[ei]s|icd[-_]?(9|10)?|drg|hcpcs|apr[-_]?drg)([^a-z]|$)")


@dataclass(frozen=True)
class Check:
    """One item of the list. leaks: how many records, channels or rows; None where the cohort has nothing to look at."""

    name: str
    leaks: int | None
    detail: str

    def line(self) -> str:
        word = "nothing to look at" if self.leaks is None else "none" if not self.leaks else f"LEAK, {self.leaks}"
        return f"{self.name}: {word}" + (f" ({self.detail})" if self.detail else "")


def all_of(cohort: Cohort, sides: np.ndarray) -> list[Check]:
    """Every check that needs the cohort alone. sides: each record's split, (records,) unicode."""
    return [
        subject_on_two_sides(cohort.subject, sides),
        chosen_beyond_training(cohort, sides),
        outcome_channels(cohort),
        channels_that_are_labels(cohort),
        rows_after_the_end(cohort),
        codes_before_discharge(cohort),
        inputs_after_the_cutoff(cohort),
    ]


def subject_on_two_sides(subject: np.ndarray, sides: np.ndarray) -> Check:
    """A subject whose records lie in more than one split."""
    pairs = {(s, side) for s, side in zip(subject.tolist(), sides.tolist(), strict=True)}
    counts: dict[object, int] = {}
    for s, _ in pairs:
        counts[s] = counts.get(s, 0) + 1
    twice = sorted(str(s) for s, n in counts.items() if n > 1)
    return Check("a subject in two splits", len(twice), ", ".join(twice[:3]))


def chosen_beyond_training(cohort: Cohort, sides: np.ndarray) -> Check:
    """Subjects outside the training side that the cohort's channels were chosen from (`provenance`: fitted)."""
    name, told = "channels chosen beyond the training subjects", cohort.provenance.get("fitted")
    if not isinstance(told, Mapping):
        return Check(name, None, "no channel is chosen by looking at records")
    side_of = {str(s): str(side) for s, side in zip(cohort.subject.tolist(), sides.tolist(), strict=True)}
    beyond = [str(s) for s in told["subjects"] if side_of.get(str(s), "train") != "train"]
    others = len(side_of) - len(told["subjects"])
    detail = f"{told['what']}, from {len(told['subjects'])} subjects; simlab.train tests on the other {others}"
    return Check(name, len(beyond), ", ".join(beyond[:3]) or detail)


def outcome_channels(cohort: Cohort) -> Check:
    """A channel with the name of an outcome column."""
    names = [c for s in cohort.streams.values() for c in s.channels]
    bad = [c for c in names if c.lower() in OUTCOMES]
    return Check("outcome columns among the channels", len(bad), ", ".join(bad[:3]))


def channels_that_are_labels(cohort: Cohort) -> Check:
    """A channel that, by its last value or by being measured before the cutoff, ranks a label perfectly."""
    bad = []
    for name, task in cohort.tasks.items():
        label = cohort.labels.get(name)
        if task.kind != "binary" or task.level != "record" or label is None:
            continue
        if min((label == 1).sum(), (label == 0).sum()) < FEWEST:
            continue
        for stream, s in cohort.inputs(name).streams.items():
            if s.values.ndim != 3:
                continue
            last = last_values(s.floats(), s.observed)
            ever = s.observed.any(axis=1).astype(float)
            bad += [f"{stream}/{c} is {name}" for n, c in enumerate(s.channels)
                    if max(separation(last[:, n], label), separation(ever[:, n], label)) > PERFECT]  # fmt: skip
    return Check("channels that are a label", len(bad), ", ".join(bad[:3]))


def last_values(
    values: Float[np.ndarray, "records visits channels"], observed: Bool[np.ndarray, "records visits channels"]
) -> Float[np.ndarray, "records channels"]:
    """The last observed value of each channel, NaN where there is none."""
    visit = np.where(observed, np.arange(observed.shape[1])[:, None], -1).max(axis=1)
    last = np.take_along_axis(values, visit.clip(0)[:, None, :], axis=1)[:, 0].astype(float)
    return np.where(visit >= 0, last, np.nan)


def separation(score: Float[np.ndarray, "records"], label: Float[np.ndarray, "records"]) -> float:
    """max(AUC, 1 - AUC) among labelled records that have a score; 0.5 with fewer than FEWEST of a class."""
    here = ~np.isnan(score) & ~np.isnan(label)
    score, label = score[here], label[here]
    if min((label == 1).sum(), (label == 0).sum()) < FEWEST:
        return 0.5
    ordered = np.sort(score[label == 0])
    hits = score[label == 1]
    below = (np.searchsorted(ordered, hits, "left") + np.searchsorted(ordered, hits, "right")) / 2
    auc = float(below.mean() / len(ordered))
    return max(auc, 1 - auc)


def rows_after_the_end(cohort: Cohort) -> Check:
    """Hours beyond a record's length, and events after its death or out-time (`provenance`: end of each record)."""
    name = "rows after death or out-time"
    ends = cohort.provenance.get("ends")
    late = 0
    for s in cohort.streams.values():
        if s.visits > 1:
            late += int(s.observed[np.arange(s.visits) >= cohort.length[:, None]].sum())
    if not isinstance(ends, Mapping):
        return Check(name, late or None, "the cohort does not say when its records end")
    end = np.array([float(ends[str(r)]) for r in cohort.record.tolist()])
    for s in cohort.streams.values():
        if s.visits > 1 and s.time is not None:
            # An hour is told at its end: the last one may be over after the stay is.
            late += int(s.observed[s.time - 1 > end[:, None] + SLACK].sum())
    if cohort.events is not None:
        owner = np.repeat(np.arange(len(cohort)), np.diff(cohort.events.offsets))
        late += int((cohort.events.time > end[owner] + SLACK).sum())
    return Check(name, late, "")


def codes_before_discharge(cohort: Cohort) -> Check:
    """Diagnosis, procedure and DRG codes among the events before a record's discharge (any, where that is not told)."""
    name = "discharge codes before discharge"
    if cohort.events is None:
        return Check(name, None, "no events")
    if cohort.provenance.get("codes") == "dated":
        return Check(name, None, "codes carry the day of their coding, not a discharge's")
    found, number = np.unique(cohort.events.code, return_inverse=True)
    coded = np.array([bool(CODED.search(c)) for c in found.tolist()], dtype=bool)[number]
    known = cohort.provenance.get("discharges")
    if isinstance(known, Mapping):
        discharge = np.array([float(known.get(str(r), np.inf)) for r in cohort.record.tolist()])
    else:
        discharge = np.full(len(cohort), np.inf)
    owner = np.repeat(np.arange(len(cohort)), np.diff(cohort.events.offsets))
    early = coded & (cohort.events.time < discharge[owner] - SLACK)
    return Check(name, int(early.sum()), ", ".join(np.unique(cohort.events.code[early])[:3].tolist()))


def inputs_after_the_cutoff(cohort: Cohort) -> Check:
    """What a method is shown of each task, held against the cohort's own times (not those that it is shown with):
    values at visits later than the cutoff, and more events of a record than it has until then."""
    late = 0
    for name, task in cohort.tasks.items():
        if task.cutoff is None:
            continue
        shown = cohort.inputs(name)
        for stream, s in shown.streams.items():
            time = cohort.streams[stream].time
            if time is not None:
                after = time[:, : s.visits] > task.cutoff + SLACK
                values = (s.values != 0).reshape(*s.observed.shape, -1).any(axis=3)
                late += int((s.observed | values)[after].sum())
        if shown.events is not None and cohort.events is not None:
            before = np.concatenate([[0], np.cumsum(cohort.events.time <= task.cutoff + SLACK)])
            allowed = np.diff(before[cohort.events.offsets])
            late += int(np.maximum(np.diff(shown.events.offsets) - allowed, 0).sum())
    return Check("inputs after the cutoff", late, "")


def known_too_early(cohort: Cohort, stream: str, known: Mapping[str, Collection[tuple[int, int]]]) -> Check:
    """Values that enter before anybody knew them. known: by channel, (record id, hour) pairs in which one was known."""
    s = cohort.streams[stream]
    early: list[str] = []
    for channel, pairs in known.items():
        rows, hours = np.nonzero(s.observed[:, :, s.channels.index(channel)])
        told = set(pairs)
        early += [channel for r, h in zip(rows, hours, strict=True) if (int(cohort.record[r]), int(h)) not in told]
    return Check("laboratory values before their storetime", len(early), ", ".join(sorted(set(early))[:3]))


def fitted_beyond_training(
    fit: Callable[[Cohort], object], cohort: Cohort, training: Bool[np.ndarray, "records"], what: str = "a scaler"
) -> Check:
    """Whether fit(cohort) changes when the records outside training do: then it was fitted on them too.

    fit gets the whole cohort and must itself keep to the training records; it gives arrays, names or mappings of them.
    """
    from dataclasses import replace

    streams = {
        name: replace(
            s,
            values=np.where(training.reshape(-1, *[1] * (s.values.ndim - 1)), s.values, s.values * 3 + 7).astype(
                s.values.dtype
            ),
            observed=np.where(training[:, None, None], s.observed, False),
        )
        for name, s in cohort.streams.items()
    }
    changed = replace(cohort, streams=streams)
    leaks = 0 if same(fit(cohort), fit(changed)) else int((~training).sum())
    return Check(f"{what} fitted beyond the training subjects", leaks, "")


def same(a: object, b: object) -> bool:
    """Equal, arrays by value (NaN equals NaN), mappings and sequences by what is inside."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return bool(a == b)
