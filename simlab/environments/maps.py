"""Observation maps: how measured coordinates z become the features x = G(z) that a method sees.

Each map is invertible, so nothing that z says about the label is lost and every exact limit stays what it was
(docs/environments.md). A map is fixed by its kind, its condition number and its seed alone; all cohorts and both
hospitals of one seed share it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from simlab.errors import unknown

KINDS = ("identity", "linear", "mlp")
VIEWS = ("image", "clinical")  # append only: the position is part of the map's seed

LAYERS = 3  # of the MLP map
SLOPE = 0.2  # of its leaky ReLU on the negative side
BIAS = 0.5  # standard deviation of its hidden biases: they move the kinks away from the origin
# A leaky ReLU halves the variance, roughly; the gain restores it, so that features stay of order one.
GAIN = float(np.sqrt(2 / (1 + SLOPE**2)))

_ROWS = 1024


def by_rows(
    function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, out: np.ndarray
) -> np.ndarray:
    """Fill `out` (n, ...) with `function` of `rows` (n, p) in blocks of one fixed size, the last one padded by zeros.

    A matrix product rounds a row differently when the number of rows changes. In blocks of one size the bits of a
    record depend on its own values and its position only, so the first n records of a longer draw are the same bits.
    """
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        short = len(block)
        if short < _ROWS:
            block = np.concatenate([block, np.zeros((_ROWS - short, *block.shape[1:]), block.dtype)])
        out[start : start + short] = function(block)[:short]
    return out


@dataclass(frozen=True, eq=False)
class ObservationMap:
    """x = W_L a(... a(W_1 z + b_1) ...), with a(h) = GAIN * leaky ReLU(h); no layer: the identity; one layer: linear.

    Computed in float64 and given as float32. `inverses` are the exact inverses of `layers` (built from the same
    orthogonal factors, never solved for).
    """

    layers: tuple[Float[np.ndarray, "p p"], ...]
    inverses: tuple[Float[np.ndarray, "p p"], ...]
    biases: tuple[Float[np.ndarray, " p"], ...]  # one for each hidden layer

    def __call__(self, z: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
        """Features, float32, of measured coordinates."""
        if not self.layers:
            return z.astype(np.float32)
        return by_rows(self._forward, z, np.empty(z.shape, np.float32))

    def inverse(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
        """Measured coordinates, float64, of features."""
        if not self.layers:
            return x.astype(np.float64)
        return by_rows(self._backward, x, np.empty(x.shape, np.float64))

    def _forward(self, block: np.ndarray) -> np.ndarray:
        hidden = block.astype(np.float64)
        for depth, layer in enumerate(self.layers):
            hidden = hidden @ layer.T
            if depth < len(self.biases):
                hidden += self.biases[depth]
                hidden = GAIN * np.where(hidden >= 0, hidden, SLOPE * hidden)
        return hidden

    def _backward(self, block: np.ndarray) -> np.ndarray:
        hidden = block.astype(np.float64)
        for depth in reversed(range(len(self.layers))):
            if depth < len(self.biases):
                hidden = hidden / GAIN
                hidden = np.where(hidden >= 0, hidden, hidden / SLOPE) - self.biases[depth]
            hidden = hidden @ self.inverses[depth].T
        return hidden


@lru_cache(maxsize=8)
def observation_map(kind: str, p: int, condition: float, seed: int, view: str) -> ObservationMap:
    """The map of one view with p features. `condition` is that of the linear map, or of the MLP's layers together.

    Random numbers: `SeedSequence(seed)` below the view's position in VIEWS, and nothing else. The singular vectors do
    not depend on the condition number, so features move smoothly with it. Raises UnknownName for a kind or view that
    does not exist.
    """
    if kind not in KINDS:
        raise unknown("observation map", kind, KINDS)
    if view not in VIEWS:
        raise unknown("view", view, VIEWS)
    if kind == "identity":
        return ObservationMap((), (), ())
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(VIEWS.index(view),)))
    depth = 1 if kind == "linear" else LAYERS
    pairs = [_layer(p, condition ** (1 / depth), rng) for _ in range(depth)]
    biases = tuple(BIAS * rng.standard_normal(p) for _ in range(depth - 1))
    return ObservationMap(tuple(w for w, _ in pairs), tuple(inverse for _, inverse in pairs), biases)


def _layer(p: int, condition: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random (p, p) matrix and its inverse: log-spaced singular values, geometric mean 1; orthogonal at condition 1.
    """
    left, right = _orthogonal(p, rng), _orthogonal(p, rng)
    values = condition ** np.linspace(0.5, -0.5, p) if p > 1 else np.ones(1)
    return (left * values) @ right.T, (right / values) @ left.T


def _orthogonal(p: int, rng: np.random.Generator) -> np.ndarray:
    """A (p, p) orthogonal matrix, uniform (Haar): QR of a Gaussian matrix with the signs of R's diagonal put back."""
    q, r = np.linalg.qr(rng.standard_normal((p, p)))
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)
