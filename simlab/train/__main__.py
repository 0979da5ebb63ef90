"""One method on one cohort: `python -m simlab.train METHOD --data SOURCE`.

SOURCE is a prepared cohort (`FILE.cohort`) or the name of a synthetic world (`gaussian`). The method is pretrained and
adapted on the training side of repeated splits by subject (in a world: on fresh seeds), beside comparators on the same
splits. Finished splits are kept in the run's folder; the same command goes on where it stopped.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from simlab import methods
from simlab.environments.registry import WORLDS
from simlab.errors import InvalidCohort, OutOfDomain, Parser, command, unknown
from simlab.train.settings import DEFAULTS, settings_of

COMPARATORS = ("supervised", "logistic", "lightgbm", "raw-probe", "random-encoder")
OF_STAYS = ("logistic", "lightgbm")  # beside a trajectory backbone
FLOOR = "mask-only"  # beside every model on a prepared cohort, whatever --compare names: what a mask alone foretells


def parser() -> Parser:
    """The command's options."""
    p = Parser(
        prog="python -m simlab.train",
        description="Pretrain and adapt one method on one cohort, beside comparators.",
        epilog="Example: python -m simlab.train jepa-finetuned --data eicu.cohort --splits 20",
    )
    p.add_argument("method", metavar="METHOD", nargs="?", help="name of the method; --list shows all")
    p.add_argument("--data", metavar="SOURCE", help="a .cohort file (see real_data) or a world: gaussian, longitudinal")
    p.add_argument("--task", help="binary task to learn (default: the cohort's first)")
    p.add_argument("--compare", metavar="A,B",
                   help=f"comparators (default: {','.join(COMPARATORS)}; of trajectories {','.join(OF_STAYS)}); "
                   f"{FLOOR} always stands beside a prepared cohort's")
    p.add_argument("--splits", type=int, help="repeated splits, or seeds in a world (default: 20; of trajectories 1)")
    p.add_argument("--test-share", type=float, default=0.25, help="share of subjects held out (default: %(default)s)")
    p.add_argument("--test-among", default="unseen", choices=("unseen", "all"),
                   help="where a cohort's channels were chosen from its records: test on other subjects alone, or on "
                   "all (default: %(default)s)")  # fmt: skip
    p.add_argument("--labels", type=int, default=0, help="at most so many training labels (default: all)")
    p.add_argument("--plasmode", action="append", default=[], metavar="w_c=VALUE",
                   help="on a cohort: real covariates, labels planted by a known liability; also h2, prevalence, w_u, "
                   "pairs (docs/methods.md)")  # fmt: skip
    p.add_argument("--seed", type=int, default=0, help="of the whole run (default: %(default)s)")
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"a setting ({', '.join(DEFAULTS)}) or, in a world, a knob",
    )
    p.add_argument("--out", type=Path, help="run folder (default: runs/train/<source>-<method>)")
    p.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where pretraining runs (default: cpu)")
    p.add_argument("--threads", type=int, default=1, help="threads of the array libraries (default: 1)")
    p.add_argument(
        "--plugin", action="append", default=[], metavar="FILE.py", help="a file that registers methods; it is executed"
    )
    p.add_argument("--json", action="store_true", help="print the table as JSON")
    p.add_argument("--quiet", action="store_true", help="no progress on stderr")
    p.add_argument("--list", action="store_true", help="list the methods and stop")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parser().parse_args(argv)
    from simlab.sweep.study import run_plugins

    run_plugins([str(Path(name).resolve()) for name in options.plugin])
    if options.list:
        for name, meaning in methods.listed():
            print(f"{name:28s}{meaning}")
        print("\nWAY is one of:")
        for way, meaning in methods.WAYS.items():
            print(f"    {way:22s}{meaning}")
        return 0
    if not options.method or not options.data:
        raise OutOfDomain("METHOD and --data are needed; --list shows the methods, --help the options.")
    stays = bool(methods.find(options.method).trajectory)
    asked = (OF_STAYS if stays else COMPARATORS) if options.compare is None else options.compare.split(",")
    names = list(dict.fromkeys([options.method, *filter(None, asked)]))
    if options.data not in WORLDS:
        names = list(dict.fromkeys([*names, FLOOR]))
    arms = [methods.find(name) for name in names]
    if not stays and any(arm.trajectory for arm in arms):
        raise OutOfDomain("--compare names an arm that reads whole stays; run it as METHOD.")
    options.splits = options.splits if options.splits is not None else 1 if stays else 20
    for name, value, low in (
        ("--splits", options.splits, 1 if stays else 2),
        ("--labels", options.labels, 0),
        ("--threads", options.threads, 1),
        ("--seed", options.seed, 0),
    ):
        if value < low:
            raise OutOfDomain(f"{name} = {value}: expected at least {low}.")
    if 0 < options.labels < 4:
        raise OutOfDomain(f"--labels = {options.labels}: expected at least 4 (two of each class), or 0 for all.")
    if not 0 < options.test_share < 1:
        raise OutOfDomain(f"--test-share = {options.test_share:g}: expected a share between 0 and 1.")
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    if options.data not in WORLDS and not Path(options.data).exists():
        if Path(options.data).suffix == ".cohort":
            raise InvalidCohort(f"{options.data} does not exist; prepare it first, e.g. python -m real_data.hourly "
                                f"prepare DIR --out {options.data}.")
        raise unknown("data source", options.data, list(WORLDS), "Or give a .cohort file; real_data prepares them.")
    if stays:
        from simlab.train import trajectory_run

        return trajectory_run.run(options, arms)
    if options.data not in WORLDS:
        settings_of(options.set, [])  # a mistyped setting is told before anything slow is imported
    if options.data in WORLDS:
        if options.plasmode:
            raise OutOfDomain(f"--plasmode plants labels in a prepared cohort; {options.data} is a world: use --set.")
        from simlab.train import world_run as runner
    else:
        from simlab.train import cohort_run as runner
    return runner.run(options, arms)


if __name__ == "__main__":
    sys.exit(command(main))
