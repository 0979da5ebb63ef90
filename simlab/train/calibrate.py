"""`python -m simlab.train.calibrate`: worlds in which *trained* arms, not limits, come near published AUCs.

A published AUC of a trained model lies below the limit of its features by what few labels cost. The `li2025-trained-*`
presets take, for each `li2025-*` world, the two knobs (`FREE`) at which two trained comparators inside the hospital
meet the published numbers: imaging alone .73 (ridge, penalty tuned: `image-only`) and both views without
regularisation .88 (least squares: `supervised-unregularised`). Nothing else is calibrated: what JEPA reaches, and what
any shift does outside, are results.

Both arms are linear, so the AUC of what they learned is exact given their weights; seeds differ in data alone, and are
the same for all knob values. `--check` trains the named arms as any study does, JEPA among them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from simlab.environments.presets import from_preset, preset
from simlab.errors import OutOfDomain, Parser, command, unknown

_PROG = "python -m simlab.train.calibrate"
GOAL = {"image-only": 0.73, "supervised-unregularised": 0.88}
FREE = {"shared": ("rel_ci", "h2"), "mixed": ("rel_ci", "h2"), "independent": ("w_u", "h2")}
LABELS = {"shared": 800, "mixed": 300, "independent": 300}
SEEDS, ENTROPY = 48, 25_09_15470
CLOSE = 3e-4  # how near to the goal the search must come, before knobs are rounded to three digits
CHECKED = ("image-only", "supervised-unregularised", "supervised", "vicreg-finetuned", "jepa-finetuned",
           "vicreg-frozen")


def measure(
    name: str, knobs: Mapping[str, float], seeds: int = SEEDS, first: int = 0
) -> dict[str, tuple[float, float]]:
    """Mean AUC inside and its standard error over seeds of the arms in GOAL, trained in a preset with these knobs."""
    import numpy as np

    from simlab.environments.scenario import sample_cohort
    from simlab.limits.gaussian import moments
    from simlab.limits.liability import auc
    from simlab.limits.oracles import correlation_of
    from simlab.training import ridge

    world = from_preset(name, **{**knobs, "map": "identity"})
    law, found = moments(world), {arm: [] for arm in GOAL}
    for seed in range(first, first + seeds):
        drawn = sample_cohort(world, "training-data", world.n_lab, ENTROPY, seed)
        image, clinical = (drawn.streams[view].values[:, 0].astype(float) for view in ("image", "clinical"))
        y = drawn.labels["outcome"]
        for arm, x, grid in (("image-only", image, ridge.PENALTIES),
                             ("supervised-unregularised", np.hstack([image, clinical]), np.zeros(1))):
            weights = np.zeros(law.p)
            weights[:x.shape[1]] = ridge.fit(x, y, drawn.subject, grid).weights
            found[arm].append(float(auc(correlation_of(law, weights), law.prevalence_law)))
    return {arm: (float(np.mean(v)), float(np.std(v, ddof=1) / np.sqrt(seeds))) for arm, v in found.items()}


def calibrate(which: str, seeds: int = SEEDS) -> dict[str, float]:
    """The two free knobs of a world ("shared", "mixed" or "independent") at which the trained arms meet GOAL, three
    digits: Newton's method with the slopes of the first step. Raises OutOfDomain where it does not settle."""
    import numpy as np

    names, base = FREE[which], f"li2025-{which}"
    at = np.array([getattr(from_preset(base), name) for name in names])

    def far(values: Any) -> Any:
        found = measure(base, _knobs(which, dict(zip(names, values.tolist(), strict=True))), seeds)
        return np.array([found[arm][0] - goal for arm, goal in GOAL.items()])

    here, step = far(at), 0.03
    slopes = np.stack([(far(at + step * one) - here) / step for one in np.eye(2)], axis=1)
    for _ in range(12):
        if np.abs(here).max() < CLOSE:
            return {name: round(float(value), 3) for name, value in zip(names, at, strict=True)}
        at = at - np.clip(np.linalg.solve(slopes, here), -0.1, 0.1)
        here = far(at)
    raise OutOfDomain(f"the calibration of li2025-trained-{which} did not settle: {dict(zip(names, at, strict=True))}.")


def _knobs(which: str, free: Mapping[str, float]) -> dict[str, float]:
    """All knobs that differ from the world calibrated on limits: w_c stays, w_v takes what w_u leaves."""
    knobs = {**free, "n_lab": LABELS[which]}
    if "w_u" in free:
        w_c = preset(f"li2025-{which}").knobs["w_c"]
        knobs |= {"w_c": w_c, "w_v": 1 - w_c - free["w_u"]}
    return knobs


def check(name: str, seeds: int, first: int = 0) -> dict[str, tuple[float, float]]:
    """Mean AUC and its standard error over seeds of the arms in CHECKED, trained and tested as in any study."""
    import numpy as np

    from simlab.sweep.job import run_job
    from simlab.sweep.plan import Job
    from simlab.sweep.schema import Compare, Study, Train

    knobs: Any = dict(preset(name).knobs)
    study = Study(name=f"check-{name}", seed=ENTROPY, question="", hypothesis="", prediction="", falsified_if="",
                  world="gaussian", knobs=knobs, axes=(), compare=Compare(CHECKED, ()), looks=(seeds,),
                  train=Train(encoder="linear", width=4, steps=1200, batch=512, learning_rate=0.01))  # type: ignore[arg-type]
    found: dict[str, list[float]] = {arm: [] for arm in CHECKED}
    for seed in range(first, first + seeds):
        for row in run_job(study, Job(0, (0,), (seed,), "cpu", 1)):
            if row["metric"] == "auc":
                found[row["method"]].append(row["value"])
    return {arm: (float(np.mean(v)), float(np.std(v, ddof=1) / np.sqrt(len(v)))) for arm, v in found.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status. Raises SimlabError (a subclass) for bad input."""
    parser = Parser(prog=_PROG, description="Find, or check, the knobs at which trained arms meet published AUCs.")
    parser.add_argument("names", metavar="NAME", nargs="*", help="li2025-trained-shared, -mixed or -independent (all)")
    parser.add_argument("--check", action="store_true", help="train and test the named arms in the presets as they are")
    parser.add_argument("--seeds", metavar="N", type=int, default=None, help=f"seeds (default: {SEEDS}, checks 8)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    seeds = args.seeds if args.seeds is not None else 8 if args.check else SEEDS
    if seeds < 2:
        raise OutOfDomain(f"--seeds takes a whole number of 2 or more, not {seeds}.")
    known = {f"li2025-trained-{which}": which for which in FREE}
    for name in args.names:
        if name not in known:
            raise unknown("calibrated preset", name, list(known))
    answer = {name: _one(name, known[name], seeds, args) for name in args.names or known}
    if args.json:
        print(json.dumps(answer, allow_nan=False, indent=2))
    return 0


def _one(name: str, which: str, seeds: int, args: argparse.Namespace) -> dict[str, Any]:
    """Find or check one preset; prints its lines unless --json is given."""
    free = {} if args.check else calibrate(which, seeds)
    found = check(name, seeds) if args.check else measure(f"li2025-{which}", _knobs(which, free), seeds)
    if not args.json:
        print(f"{name}, {seeds} seeds" + "".join(f", {key} = {value:g}" for key, value in free.items()))
        for arm, (value, se) in found.items():
            goal = f"   published {GOAL[arm]:.2f}" if arm in GOAL else ""
            print(f"  {arm:26s} {value:.4f} ({se:.4f}){goal}", flush=True)
    return {"knobs": free, "auc": {arm: {"mean": value, "se": se} for arm, (value, se) in found.items()}}


if __name__ == "__main__":
    sys.exit(command(main))
