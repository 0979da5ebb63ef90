"""Running an arm: its trainer, named as `module:function`, is imported when it runs and called with the bench."""

from __future__ import annotations

from importlib import import_module

from simlab.errors import OutOfDomain, UnknownName
from simlab.training.data import Bench, Fit
from simlab.training.method import Method

# What an arm may raise and the others survive, as a reason in the table: everything but an interrupt or an exit, since
# a plug-in's method is anybody's code, and a library's errors may be no kind of Python's own (LightGBM's).
FAILURES = (Exception,)


def reason(error: Exception) -> str:
    """A failure as one line: its type and first line, nothing that varies from run to run."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def run_arm(method: Method, bench: Bench) -> Fit:
    """The fitted arm. Raises UnknownName when its trainer does not exist, OutOfDomain when it asks for target records
    and there are none; what the trainer raises passes through."""
    if method.outside != "none" and bench.target is None:
        raise OutOfDomain(f"method {method.name} needs unlabelled records of the target, which only a sweep draws: "
                          "name it in a study's compare.arms (docs/methods/target.md).")
    module, _, name = method.trainer.partition(":")
    trainer = getattr(import_module(module), name, None)
    if trainer is None:
        raise UnknownName(f"method {method.name}: its trainer {method.trainer} does not exist.")
    return trainer(method, bench)
