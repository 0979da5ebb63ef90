"""Supervised pretraining on further labelled records, then fine-tuning on the few with both streams.

Two adaptations of one encoder, one after the other, each by gradient and each tuned inside its own labels
(`simlab.training.finetune`): from the random initialisation on records whose clinical record was never collected, then,
with a fresh head, from where that came to on the labelled records. What the first stage is shown of the missing stream:

    zero_filled   zeros that count as observed: a token of zeros that is attended to and pooled
    masked        nothing: no token
    complete      the stream itself, which nobody has: what these labels could teach at best

Their labels are not among `n_labelled`; `diag/more-labels` says how many there were.
"""

from __future__ import annotations

from dataclasses import replace

from simlab.errors import OutOfDomain
from simlab.training import finetune
from simlab.training.data import Bench, Fit, Labelled
from simlab.training.method import Method
from simlab.training.scores import NetworkScore


def zero_filled(method: Method, bench: Bench) -> Fit:
    """Pretrained on labelled images with zeros in the place of the clinical record."""
    return _twice(method, bench, "zero_filled")


def masked(method: Method, bench: Bench) -> Fit:
    """Pretrained on labelled images alone."""
    return _twice(method, bench, "masked")


def complete(method: Method, bench: Bench) -> Fit:
    """Pretrained on the same records with their clinical record."""
    return _twice(method, bench, "complete")


def further(method: Method, bench: Bench, how: str) -> Labelled:
    """The further labelled records, shown so. Raises OutOfDomain where there are none."""
    if bench.incomplete is None:
        raise OutOfDomain(f"method {method.name} is pretrained on labelled records without a clinical record, and "
                          "there are none: take the world archive with n_incomplete above 0.")
    return bench.incomplete(how)


def _twice(method: Method, bench: Bench, how: str) -> Fit:
    more = further(method, bench, how)
    first = finetune.fit(replace(method, adaptation="scratch"), replace(bench, train=more))
    assert isinstance(first.score, NetworkScore)
    second = finetune.fit(replace(method, adaptation="finetuned"), replace(bench, encoders=first.score.encoders))
    told = {"diag/more-labels": float(len(more.y)), "diag/more-steps": first.diagnostics["diag/steps"],
            "diag/more-penalty": first.diagnostics["diag/penalty"]}
    return Fit(second.score, {**second.diagnostics, **told}, scale=second.scale)
