"""A tuning trial as a job: one arm, one cell, one setting of its hyperparameters. Imports no array module."""

from __future__ import annotations

from dataclasses import dataclass

from simlab.sweep.plan import Job
from simlab.sweep.schema import Setting


@dataclass(frozen=True)
class Trial(Job):
    """`number`: its place among the trials of its arm in its cell, from 0."""

    arm: str = ""
    number: int = 0
    setting: Setting = ()
