"""Running an arm: its trainer, named as `module:function`, is imported when it runs and called with the bench."""

from __future__ import annotations

from importlib import import_module

from simlab.errors import UnknownName
from simlab.training.data import Bench, Fit
from simlab.training.method import Method


def run_arm(method: Method, bench: Bench) -> Fit:
    """The fitted arm. Raises UnknownName when its trainer does not exist; what the trainer raises passes through."""
    module, _, name = method.trainer.partition(":")
    trainer = getattr(import_module(module), name, None)
    if trainer is None:
        raise UnknownName(f"method {method.name}: its trainer {method.trainer} does not exist.")
    return trainer(method, bench)
