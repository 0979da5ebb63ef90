"""A plasmode: a cohort's real covariates, its outcome replaced by a planted one of known risk (Franklin et al. 2014).

    g = normal scores of sqrt(w_c) c + sqrt(w_u) u + sqrt(w_v) v,        w_c + w_u + w_v = 1
    P(y = 1 | x) = Phi((sqrt(h2) g - t) / sqrt(1 - h2)),                 t = Phi^-1(1 - K)

c is what both views show: the sum of the first k canonical pairs; u and v what the first and the second view alone
show: the first k principal components of each, after all that is linear in the pairs is taken out. All three are
functions of what methods are shown of a record (`models/present.py`), turned into normal scores; u and v are made
uncorrelated with c and with each other first. The truth is of this cohort and fixed: it is computed from all records,
while methods are fitted on training sides alone. g is normal, so the best possible AUC is g(sqrt(h2), K) of
`simlab.limits`, whatever the covariates; and labels can be drawn again and again for the same records.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from simlab import rng
from simlab.cohort import Cohort, Task
from simlab.errors import InvalidCohort, OutOfDomain, unknown
from simlab.limits import liability
from simlab.models import present
from simlab.training.baselines import canonical_maps

TASK = "planted"


@dataclass(frozen=True)
class Plasmode:
    """What is planted. `w_c`: the share of the explained liability that both views show; `w_u`: that of the first view
    alone (default: half of the rest; the second view has what remains); `h2`: the share of the liability that the
    covariates explain; `prevalence`; `pairs`: canonical pairs, and components of each private part.

    Raises OutOfDomain for impossible values.
    """

    w_c: float
    w_u: float | None = None
    h2: float = 0.5
    prevalence: float = 0.2
    pairs: int = 4

    def __post_init__(self) -> None:
        for name, value, inside, range_ in (
            ("w_c", self.w_c, 0 <= self.w_c <= 1, "[0, 1]"),
            ("w_u", self.w_u, self.w_u is None or 0 <= self.w_u <= 1 - self.w_c + 1e-12, "[0, 1 - w_c]"),
            ("h2", self.h2, 0 < self.h2 < 1, "(0, 1)"),
            ("prevalence", self.prevalence, 0 < self.prevalence < 1, "(0, 1)"),
            ("pairs", self.pairs, self.pairs >= 1, "1, 2, ..."),
        ):
            if not inside:
                raise OutOfDomain(f"--plasmode {name} = {value}: expected a value in {range_}.")

    @property
    def weights(self) -> tuple[float, float, float]:
        """(w_c, w_u, w_v), which sum to one."""
        first = (1 - self.w_c) / 2 if self.w_u is None else self.w_u
        return self.w_c, first, max(0.0, 1 - self.w_c - first)

    @property
    def limit(self) -> float:
        """The best possible AUC."""
        return float(liability.auc(np.sqrt(self.h2), self.prevalence))


def parse(pairs: list[str]) -> Plasmode | None:
    """`w_c=0.8`, `h2=0.5`, ... as a plasmode; None without any. Raises OutOfDomain, UnknownName."""
    if not pairs:
        return None
    kinds = {f.name: int if f.name == "pairs" else float for f in fields(Plasmode)}
    values: dict[str, float] = {}
    for pair in (part for text in pairs for part in text.split(",")):
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not text:
            raise OutOfDomain(f"--plasmode {pair!r}: expected KEY=VALUE, such as w_c=0.8.")
        if key not in kinds:
            raise unknown("plasmode key", key, list(kinds))
        try:
            values[key] = kinds[key](text)
        except ValueError:
            wanted = "a whole number" if kinds[key] is int else "a number"
            raise OutOfDomain(f"--plasmode {key} = {text!r}: expected {wanted}.") from None
    if "w_c" not in values:
        raise OutOfDomain("--plasmode needs w_c, the share of the liability that both views show, such as w_c=0.8.")
    return Plasmode(**values)


def components(
    cohort: Cohort, task: str, pairs: int
) -> tuple[Float[np.ndarray, "records"], Float[np.ndarray, "records"], Float[np.ndarray, "records"]]:
    """c, u and v of every record: normal scores, of what methods are shown for this task.

    Raises InvalidCohort where a view has fewer independent features than the pairs and private components need.
    """
    inputs = cohort.inputs(task)
    views = {role: _bounded(x) for role, x in present.fit(inputs)(inputs).items()}
    a, b = views["image"], views["clinical"]
    # Below twice the pairs nothing of a view is left for so many private components but rounding, which no one can see.
    least = min(int(np.linalg.matrix_rank(x - x.mean(axis=0), rtol=1e-5)) for x in (a, b))
    if least < 2 * pairs:
        raise InvalidCohort(
            f"--plasmode pairs = {pairs}: a view has only {least} independent features; so many pairs, and as many "
            f"private components, need {2 * pairs}. Take fewer."
        )
    maps = canonical_maps(a, b, pairs)
    shown = np.concatenate([a @ maps["image"], b @ maps["clinical"]], axis=1)
    shared = _scores((shown[:, :pairs] + shown[:, pairs:]).sum(axis=1))
    first = _private(a, np.column_stack([shown, shared]), pairs)
    second = _private(b, np.column_stack([shown, shared, first]), pairs)
    return shared, first, second


def risk(cohort: Cohort, task: str, truth: Plasmode) -> Float[np.ndarray, "records"]:
    """The planted P(y = 1) of every record."""
    parts = components(cohort, task, truth.pairs)
    g = _scores(sum(np.sqrt(w) * part for w, part in zip(truth.weights, parts, strict=True)))
    return ndtr((np.sqrt(truth.h2) * g - ndtri(1 - truth.prevalence)) / np.sqrt(1 - truth.h2))


def plant(cohort: Cohort, task: str, truth: Plasmode, seed: int) -> Cohort:
    """The same records with the planted task alone: its labels are drawn from `seed`; no real one is kept.

    Inputs end where `task`'s do. Raises InvalidCohort like `components`.
    """
    p = risk(cohort, task, truth)
    return redraw(
        replace(
            cohort,
            tasks={TASK: Task(TASK, "binary", "record", cohort.tasks[task].cutoff, None, "the planted outcome")},
            labels={TASK: np.zeros(len(cohort))},
            risk={TASK: p},
            factors={},
            provenance={
                **{key: cohort.provenance[key] for key in ("subject", "fitted") if key in cohort.provenance},
                "plasmode": asdict(truth),
                "of": str(cohort.provenance.get("adapter", "a cohort")),
            },
        ),
        seed,
    )


def redraw(planted: Cohort, seed: int) -> Cohort:
    """The same planted cohort with its labels drawn again."""
    draw = rng.generator(seed, 0, "labels")
    return replace(planted, labels={TASK: (draw.random(len(planted)) < planted.risk[TASK]).astype(np.float64)})


def _bounded(x: Float[np.ndarray, "records features"]) -> Float[np.ndarray, "records features"]:
    """Standardised features cut at four deviations: a single wild value shall be no component of its own."""
    return np.clip(np.asarray(x, dtype=np.float64), -4, 4)


def _private(
    x: Float[np.ndarray, "records features"], known: Float[np.ndarray, "records others"], k: int
) -> Float[np.ndarray, "records"]:
    """Normal scores of the sum of the first k principal components of what x has beyond `known`, each of unit size."""
    design = np.column_stack([np.ones(len(x)), known])
    left = x - design @ np.linalg.lstsq(design, x)[0]
    u, _, vt = np.linalg.svd(left, full_matrices=False)
    signs = np.sign(vt[np.arange(k), np.abs(vt[:k]).argmax(axis=1)])  # a component's sign is no matter of chance
    return _scores((u[:, :k] * signs).sum(axis=1))


def _scores(x: Float[np.ndarray, "records"]) -> Float[np.ndarray, "records"]:
    """Normal scores: Phi^-1 of the ranks (Blom 1958), of variance one."""
    z = ndtri((rankdata(x) - 0.375) / (len(x) + 0.25))
    return z / z.std()
