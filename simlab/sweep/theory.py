"""What theory predicts for a contrast: the difference in each cell and the boundary of its own (docs/theory.md).

Each arm names the closed form that predicts it (`Method.theory`); a contrast has a prediction where both arms have one,
the world is the Gaussian one, and the metric is the AUC in the source hospital. Theory is of linear encoders of
`train.width` numbers a view and of unlimited unlabelled records; other encoders are compared with it, not held to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from simlab import methods
from simlab.environments.registry import find_world
from simlab.limits import finite
from simlab.limits.gaussian import moments
from simlab.limits.subspace import cross_prediction
from simlab.sweep.layout import Layout
from simlab.sweep.schema import Study, Value
from simlab.sweep.verdicts import last_crossing

DENSE = 65  # points along the column axis on which the predicted boundary is sought
MOST_FEATURES = 4096  # as `simlab.limits`: dense algebra above this takes minutes


@dataclass(frozen=True)
class Line:
    """A prediction along the columns of one row: `cells` (one number a column, NaN where theory has none).

    `at`: where it changes sign within the axis; `side`: who is ahead (as `verdicts.Crossing.side`), "level" where the
    two forms agree throughout, "" where nothing is known.
    """

    cells: Float[np.ndarray, " columns"]
    at: float | None
    side: str


def keys(study: Study, contrast: tuple[str, str]) -> tuple[str, str] | None:
    """The closed forms that predict the contrast's arms, or None where either has none."""
    first, second = (methods.find(arm).theory for arm in contrast)
    plain = study.world == "gaussian" and study.compare.cohort == "test" and study.metric in ("auc", "auc-label")
    return (first, second) if plain and first is not None and second is not None else None


def line(study: Study, contrast: tuple[str, str], layout: Layout, point: dict[str, Value]) -> Line | None:
    """The prediction along one row; `point` holds the axes' values other than the columns'. None: no closed form."""
    forms = keys(study, contrast)
    if forms is None:
        return None
    columns, log = layout.column_values, layout.columns.scale == "log"
    cells = differences(study, forms, layout, point, columns)
    if isinstance(columns[0], str) or len(columns) < 2:
        return Line(cells, None, "")
    dense = _dense(columns, log, whole=isinstance(columns[0], int))
    curve = differences(study, forms, layout, point, dense)
    known = curve[np.isfinite(curve)]
    decided = np.where(np.abs(curve) > finite.LEVEL, curve, np.nan)  # level is no change of sign
    signs = decided[np.isfinite(decided)]
    if not len(known):
        return Line(cells, None, "")
    if not len(signs):
        return Line(cells, None, "level")
    at = np.array(dense, dtype=float)
    where = last_crossing(np.log(at) if log else at, decided)
    if where is None:
        return Line(cells, None, "ahead" if signs[-1] > 0 else "behind")
    return Line(cells, float(np.exp(where)) if log else where, "ahead-below" if signs[-1] < 0 else "ahead-above")


def points(study: Study, contrast: tuple[str, str], specs: Sequence[Any]) -> Line | None:
    """The prediction in cells that lie on no line, one specification each. None: no closed form."""
    forms = keys(study, contrast)
    if forms is None:
        return None
    found = [_differences(spec, study.train.width, forms, [float(spec.n_lab)]) for spec in specs]
    return Line(np.concatenate(found), None, "")


def _dense(columns: Sequence[Value], log: bool, whole: bool) -> tuple[Value, ...]:
    low, high = float(columns[0]), float(columns[-1])
    at = np.geomspace(low, high, DENSE) if log else np.linspace(low, high, DENSE)
    at[0], at[-1] = low, high
    return tuple(sorted({round(v) for v in at.tolist()})) if whole else tuple(at.tolist())


def differences(
    study: Study, forms: tuple[str, str], layout: Layout, point: dict[str, Value], columns: Sequence[Value]
) -> Float[np.ndarray, " columns"]:
    """First minus second form at each column value, NaN where either is undefined."""
    make = find_world(study.world).spec
    if layout.columns.symbol == "n_lab":
        spec = make({**study.knobs, **point, layout.columns.name: columns[0]})
        return _differences(spec, study.train.width, forms, [float(column) for column in columns])
    specs = [make({**study.knobs, **point, layout.columns.name: column}) for column in columns]
    return np.concatenate([_differences(spec, study.train.width, forms, [float(spec.n_lab)]) for spec in specs])


def _differences(spec: Any, width: int, forms: tuple[str, str], labels: list[float]) -> Float[np.ndarray, " labels"]:
    n, found = np.array(labels), _methods(replace(spec, n_lab=2, n_unlab=2, map_seed=0), width)
    one, two = found.get(forms[0]), found.get(forms[1])
    if one is None or two is None:
        return np.full(len(n), np.nan)
    gap = one.curve(n) - two.curve(n)
    return np.where(n >= max(one.n_least, two.n_least), gap, np.nan)


@lru_cache(maxsize=1024)
def _methods(spec: Any, width: int) -> dict[str, finite.Method | None]:
    """The closed forms of one world; none where they are not defined (a width beyond a view's features)."""
    if width > min(spec.p_image, spec.p_clinical) or spec.p_image + spec.p_clinical > MOST_FEATURES:
        return {}
    law = moments(spec, "source")
    known = finite.methods(spec, law, width)
    reconstructed = None if known["cross_modal"] is None else finite.frozen(law, cross_prediction(law, width), width,
                                                                            spec.flip)
    return {**known, "cross_prediction": reconstructed}
