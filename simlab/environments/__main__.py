"""`python -m simlab.environments`: the worlds and presets, what one consists of, its limits, and a sampled cohort.

Bad input is one line on stderr and exit status 2. Array modules are imported only once there is something to compute.
"""

from __future__ import annotations

import argparse
import json
import sys

from simlab.environments import describe
from simlab.errors import OutOfDomain, Parser, command

_PROG = "python -m simlab.environments"
_EXAMPLE = f"""examples:
  {_PROG} --list
  {_PROG} --describe li2025-mixed --set kappa_e=0.5
  {_PROG} --sample gaussian --set w_x=0.3 --out synergy.cohort --records 5000
  {_PROG} --sample default --cohort external --set n_sites_e=3 --set omega_s=0.5 --out sites.cohort

NAME is a world or a preset. docs/environments.md has the equations and every knob."""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=_PROG, description="Synthetic worlds whose best possible answer is known.", epilog=_EXAMPLE,
                     formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="list worlds and presets")
    what.add_argument("--describe", metavar="NAME", help="factors, streams, knobs and limits of a world or preset")
    what.add_argument("--sample", metavar="NAME", help="draw a cohort of a world or preset into --out")
    parser.add_argument("--set", metavar="KNOB=VALUE", action="append", default=[], dest="settings",
                        help="set a knob, by name or symbol; may be repeated")
    parser.add_argument("--out", metavar="FILE", help="the .cohort file that --sample writes")
    parser.add_argument("--records", metavar="N", help="records to draw (default: 1000)")
    parser.add_argument("--seed", metavar="N", help="seed of the draw (default: 0)")
    parser.add_argument("--cohort", metavar="WHICH",
                        help="pretraining (no labels), training, validation, test or external (default: test)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. Raises SimlabError (a subclass) for bad input."""
    args = _parser().parse_args(argv)
    for option in ("out", "records", "seed", "cohort"):
        if args.sample is None and getattr(args, option) is not None:
            raise OutOfDomain(f"--{option} goes with --sample NAME.")
    if args.list:
        if args.settings:
            raise OutOfDomain("--set goes with --describe NAME or --sample NAME.")
        found = describe.listing()
        print(json.dumps(found, indent=2) if args.json else describe.listing_text(found))
        return 0
    chosen = describe.resolve(args.describe or args.sample, args.settings)
    if args.describe is not None:
        answer = describe.description(chosen)
        print(json.dumps(answer, allow_nan=False, indent=2) if args.json else describe.description_text(answer))
        return 0
    answer = describe.sample(chosen, args.out, _whole(args.records or "1000", "--records", 1),
                             _whole(args.seed or "0", "--seed", 0), args.cohort or "test")
    print(json.dumps(answer, allow_nan=False, indent=2) if args.json else describe.sample_text(answer))
    return 0


def _whole(text: str, option: str, least: int) -> int:
    """A whole number of an option. Raises OutOfDomain."""
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= 10_000_000:
        raise OutOfDomain(f"{option} takes a whole number in [{least}, 1e+07], not {text!r}.")
    return value


if __name__ == "__main__":
    sys.exit(command(main))
