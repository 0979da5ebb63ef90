"""Exact best-possible answers of the Gaussian-liability world: `limits(spec, k, n_labelled)` assembles them all.

The command is `python -m simlab.limits`; the formulas stand in docs/theory.md. Importing this package imports no array
module: names load on first use.
"""

from __future__ import annotations

import importlib

_HOME = {
    "limits": "simlab.limits.report",
    "auc": "simlab.limits.liability",
    "correlation": "simlab.limits.liability",
    "moments": "simlab.limits.gaussian",
    "Moments": "simlab.limits.gaussian",
    "posterior": "simlab.limits.gaussian",
    "crossovers": "simlab.limits.finite",
    "decompose": "simlab.limits.oracles",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it."""
    if name not in _HOME:
        raise AttributeError(f"module 'simlab.limits' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
