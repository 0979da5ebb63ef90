"""The metrics that a study's arms have as rows, by name: a study that asks for another is refused when it is read.

An arm that is fitted to one task has its areas and diagnostics of its fit; an arm that reads whole stays has what
`simlab.trajectories.arms.measure` makes (docs/methods/clin-jepa.md). What a plug-in's trainer reports is its own: any
`diag/...` of it is taken. Imports no array module.
"""

from __future__ import annotations

from itertools import product

from simlab import methods
from simlab.environments.registry import find_world
from simlab.errors import InvalidStudy, UnknownName, nearest
from simlab.methods import Method
from simlab.sweep.schema import Study
from simlab.sweep.whole_stays import HORIZONS, STAYS, predicts

DIAGNOSTIC = "diag/"
AREAS = ("auc", "auc-label")  # of a fit, in every cohort
LEAK = "diag/leak-z"
_VIEWS = ("image", "clinical")
# Of a fit, in the first cohort alone: what tuning chose, and what is seen of encoders ("full": with that setting).
OF_FITS = tuple(f"diag/{name}" for name in (
    "penalty", "tau", "steps", "leaves", "trees", "more-labels", "more-penalty", "more-steps",
    *(f"{name}/{view}" for name, view in product(("rankme", "sd-min", "sd-max"), _VIEWS))))
FULL = tuple(f"diag/{name}" for name in (
    "verdict", "lidar", "skill", "lag",
    *(f"{name}/{view}" for name, view in product(("participation", "alpha-req", "norm", "skill", "lag"), _VIEWS))))

TRACKS = ("early", "stay", "mean")
SPACES = ("latent", "raw-features", "true-state")
BY_REGIME, BY_LABEL = ("regime", "throughout"), ("events", "death")
PARTS = ("survivorship", "nonstationarity", "contraction", "horizon-cost", "underfit", "remainder")
# Of every backbone, and of one that can roll out (the horizons that hours allow: `simlab.sweep.whole_stays`).
ENCODED = ("auc-label", *(f"auc-{track}" for track in TRACKS), *(f"displacement-{by}-{space}{more}" for by, space, more
           in product((*BY_REGIME, *BY_LABEL), SPACES, ("", "-standardised"))),
           *(f"diag/latent-{name}" for name in ("norm", "rank", "sd", "between")))  # fmt: skip
ROLLED = ("auc-label-rolled", *(f"auc-rolled-{track}" for track in TRACKS), "step",
          *(f"{name}{actions}-{h}" for name, actions, h in product(
              ("drift", "drift-fixed", "mase-copy", "mase-hour"), ("", "-zero"), HORIZONS)),
          *(f"own-stay-{h}" for h in HORIZONS), *(f"part-{name}-{h}" for name, h in product(PARTS, HORIZONS)))
# Of one that can roll out, beside a simulated optimum, where the table [trajectory] asks for one (`STAYS`).
SIMULATED = ("step-same", *(f"{name}-{h}" for name, h in product(
    ("drift-same", "mase-copy-same", "mase-hour-same", "own-stay-same", "part-sample"), HORIZONS)))


def of_arm(arm: Method, simulated: bool = False) -> tuple[str, ...]:
    """The names of an arm's metrics; simulated: beside the optimum of its latents."""
    if arm.trajectory:
        return (*ENCODED, *((*ROLLED, *(SIMULATED if simulated else ())) if predicts(arm) else ()))
    return (*AREAS, LEAK, *OF_FITS, *FULL)


def check(study: Study) -> None:
    """Refuse a metric that no row will have, or no row of an arm that a contrast is read of. Raises UnknownName,
    InvalidStudy."""
    metric, arms = study.metric, [methods.find(name) for name in study.arms]
    simulated = bool(study.trajectory.get(STAYS))
    names = list(dict.fromkeys(name for arm in arms for name in of_arm(arm, simulated)))
    if metric not in (*names, *AREAS, LEAK, *OF_FITS, *FULL, *ENCODED, *ROLLED) and not _own(metric, arms):
        near = nearest(metric, names)
        said = f"did you mean {' or '.join(near)}?" if near else f"these arms have {_families(arms)}."
        raise UnknownName(f"unknown metric (compare.metric) '{metric}': {said}")
    for name in dict.fromkeys(name for pair in study.contrasts for name in pair):
        why = lacks(study, methods.find(name))
        if why:
            near = [n for n in nearest(metric, of_arm(methods.find(name))) if n != metric]
            more = f" (near: {' or '.join(near)})" if near else ""
            raise InvalidStudy(f"compare.metric = '{metric}': {why}; take {name} out of compare.contrast, or ask for a "
                               f"metric that it has{more}.")


def lacks(study: Study, arm: Method) -> str:
    """Why this arm will have no row of the study's metric; "" where it will have."""
    metric = study.metric
    if metric not in of_arm(arm, bool(study.trajectory.get(STAYS))) and not _own(metric, [arm]):
        if not arm.trajectory:
            return f"{arm.name} is fitted to one task, and has areas and diagnostics of that fit alone"
        if metric in (*ROLLED, *SIMULATED):
            return f"{arm.name} has no predictor that is trained, and rolls nothing out"
        return f"{arm.name} reads whole stays, and has no such row"
    first = find_world(study.world).cohorts[0]
    if metric in (*OF_FITS, *FULL) and study.compare.cohort != first:
        return f"{arm.name} has its fit's diagnostics in cohort '{first}' alone"
    if metric in FULL and study.train.diagnostics != "full" and not _own(metric, [arm]):
        return f"{arm.name} reports it with train.diagnostics = 'full' alone"
    if metric.startswith(tuple(f"displacement-{by}-" for by in BY_REGIME)) and "off" in _regimes(study):
        return f"{arm.name} has none where world.knobs.regimes = 'off': no stay deteriorates"
    return ""


def empty(study: Study) -> str:
    """A line that names the arms (of no contrast) whose rows will not have the study's metric; "" for none."""
    told = [why for why in (lacks(study, methods.find(name)) for name in study.arms) if why]
    return f"no row of {study.metric}: {'; '.join(told)}" if told else ""


def _own(metric: str, arms: list[Method]) -> bool:
    """Whether a plug-in's trainer may report this."""
    return metric.startswith(DIAGNOSTIC) and any(not arm.trainer.startswith("simlab.") for arm in arms)


def _regimes(study: Study) -> list[object]:
    swept = [value for axis in study.axes if axis.symbol == "regimes" for value in axis.values]
    return [*swept, study.knobs.get("regimes", "switching")]


def _families(arms: list[Method]) -> str:
    """What these arms have, in a line."""
    stays = any(arm.trajectory for arm in arms)
    found = [*(["auc, auc-label, diag/NAME (docs/methods.md)"] if any(not arm.trajectory for arm in arms) else ()), *([
        "auc-label, auc-mean, auc-early, auc-stay, auc-rolled-TRACK, drift-H, drift-fixed-H, mase-copy-H, mase-hour-H, "
        "own-stay-H, part-NAME-H, step, displacement-BY-SPACE, diag/latent-NAME (docs/methods/clin-jepa.md)"] if stays
        else ())]
    return "; ".join(found)
