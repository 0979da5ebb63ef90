"""`python -m simlab.limits`: the exact best-possible answers of a Gaussian-liability world, as a table or as JSON.

Bad input is one line on stderr and exit status 2. Array modules are imported only once there is something to compute.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from simlab.environments.knobs import GAUSSIAN_KNOBS, GaussianSpec, Knob, find, parse
from simlab.environments.persistence import PERSISTENCE
from simlab.environments.presets import from_preset
from simlab.errors import OutOfDomain, Parser, command

_PROG = "python -m simlab.limits"
_EXAMPLE = f"""examples:
  {_PROG} --set w_c=0.6 --set kappa_e=0.4 --n-labelled 100,300,1000
  {_PROG} --preset li2025-shared --set kappa_e=0.56 --json
  {_PROG} --severity
  {_PROG} --match transfer=0.05 --set w_c=0.6
  {_PROG} --severity --world longitudinal --set p_miss=0.2
  {_PROG} --world icu --set regimes=off --set lambda_p=0 --set iota=0 --set sigma=0
  {_PROG} --list

docs/theory.md has the formulas and the meaning of every key."""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog=_PROG, description="Exact best-possible AUCs of a Gaussian-liability world: of both views,\n"
                    "of one, of what a cross-modal pretrainer keeps; inside, outside, with n labels.",
                    epilog=_EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", metavar="NAME", help="start from a named world (--list shows them)")
    parser.add_argument("--set", metavar="KNOB=VALUE", action="append", default=[], dest="settings",
                        help="set a knob, by name or symbol; may be repeated")
    parser.add_argument("--n-labelled", metavar="N,N,...", default="",
                        help="label counts to predict AUCs for (default: the knob n_lab)")
    parser.add_argument("--k", metavar="K", help="canonical pairs that cross_modal keeps (default: d_c)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--severity", action="store_true",
                     help="instead: how severe each kind of shift is at the ends of its sweep range")
    how.add_argument("--match", metavar="SCALE=LEVEL",
                     help="instead: the knob at which each kind of shift is this severe, for example transfer=0.05")
    parser.add_argument("--world", choices=("gaussian", "longitudinal", "icu"), default="gaussian",
                        help="of --severity and --match: one visit (default), or visits and gaps (a minute or two);\n"
                        "icu: forecasts, treatment effects and tasks of the ICU world (half a minute)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--list", action="store_true", help="list knobs (symbol, name, default, domain) and presets")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status. Raises SimlabError (a subclass) for bad input."""
    args = _parser().parse_args(argv)
    from simlab.limits import table
    if args.list:
        print(table.knobs())
        return 0
    if args.world == "longitudinal":
        return _over_visits(args)
    if args.world == "icu":
        return _of_stays(args)
    knobs = _settings(args.settings)
    counts, k = _whole_numbers(args.n_labelled, "--n-labelled"), _whole_numbers(args.k or "", "--k")
    if args.k is not None and len(k) != 1:
        raise OutOfDomain(f"--k takes one whole number, not {args.k!r}.")
    if args.preset in {one.name for one in PERSISTENCE}:
        raise OutOfDomain(f"--preset {args.preset} is a longitudinal world; python -m simlab.environments --describe "
                          f"{args.preset} shows its limits.")
    spec = from_preset(args.preset or "default", **knobs)
    if args.severity or args.match is not None:
        print(_severity(spec, args.match, table.title(knobs, args.preset, "Severity of shifts"), args.json))
        return 0
    from simlab.limits.report import limits
    result = limits(spec, k[0] if k else None, counts or [spec.n_lab])
    if args.json:
        print(json.dumps(result, allow_nan=False, indent=2))
    else:
        print(table.render(result, table.title(knobs, args.preset)))
    return 0


def _over_visits(args: argparse.Namespace) -> int:
    """--severity and --match in the longitudinal world. Raises UnknownName and OutOfDomain."""
    from simlab.environments import visit_knobs
    from simlab.limits import table

    if not args.severity and args.match is None:
        raise OutOfDomain("--world longitudinal goes with --severity or --match; python -m simlab.environments "
                          "--describe longitudinal shows its limits.")
    if args.preset or args.n_labelled or args.k:
        raise OutOfDomain("--world longitudinal takes --set, and no --preset, --n-labelled or --k.")
    knobs = _settings(args.settings, visit_knobs.LONGITUDINAL_KNOBS)
    title = table.title(knobs, None, "Severity of shifts").replace("Gaussian-liability", "longitudinal")
    print(_severity(visit_knobs.spec(**knobs), args.match, title, args.json))
    return 0


def _of_stays(args: argparse.Namespace) -> int:
    """The ICU world's limits. Raises UnknownName and OutOfDomain."""
    from simlab.environments import icu_knobs

    if args.preset or args.n_labelled or args.k or args.severity or args.match is not None:
        raise OutOfDomain("--world icu takes --set and --json alone.")
    knobs = _settings(args.settings, icu_knobs.ICU_KNOBS)
    spec = icu_knobs.spec(**knobs)
    from simlab.limits import icu, icu_text
    found = icu.limits(spec)
    if args.json:
        print(json.dumps({**found, "spec": asdict(spec)}, allow_nan=False, indent=2))
    else:
        shown = ", ".join(f"{key} = {value}" for key, value in knobs.items())
        print("\n".join([f"ICU world: {shown or 'every knob at its default'}", "", *icu_text.lines(found)]))
    return 0


def _severity(world: GaussianSpec, level: str | None, title: str, as_json: bool) -> str:
    """What --severity (no level) and --match (SCALE=LEVEL) print. Raises UnknownName and OutOfDomain."""
    from simlab.environments.visit_knobs import LongitudinalSpec
    from simlab.limits import severity, table, visit_severity
    known = visit_severity if isinstance(world, LongitudinalSpec) else severity
    scale, _, text = (part.strip() for part in (level or "").partition("="))
    if level is None:
        rows, entry = known.compare(world), {}
    else:
        try:
            number = float(text)
        except ValueError:
            raise OutOfDomain(f"--match takes SCALE=LEVEL, for example transfer=0.05, not {level!r}.") from None
        rows, entry = known.match_all(number, world, scale), {"scale": scale, "level": number}
        title += f"; each where {scale} = {number:g}"
    if as_json:
        return json.dumps({**entry, "shifts": rows, "spec": asdict(world)}, allow_nan=False, indent=2)
    return table.severity(rows, title)


def _settings(pairs: list[str], among: tuple[Knob, ...] = GAUSSIAN_KNOBS) -> dict[str, float | int | str]:
    """The knobs that --set names, by symbol. Raises UnknownName and OutOfDomain."""
    knobs: dict[str, float | int | str] = {}
    for pair in pairs:
        key, equals, text = (part.strip() for part in pair.partition("="))
        if not equals or not key or not text:
            raise OutOfDomain(f"--set takes KNOB=VALUE, for example --set w_c=0.6, not {pair!r}.")
        knob = find(key, among)
        if knob.symbol in knobs:
            raise OutOfDomain(f"--set names knob {knob.symbol} ({knob.name}) twice; give it once.")
        knobs[knob.symbol] = parse(knob, text)
    return knobs


def _whole_numbers(text: str, option: str) -> list[int]:
    """Whole numbers separated by commas. Raises OutOfDomain."""
    try:
        return [int(part) for part in text.split(",")] if text.strip() else []
    except ValueError:
        raise OutOfDomain(f"{option} takes whole numbers separated by commas, for example 100,300,1000, "
                          f"not {text!r}.") from None


if __name__ == "__main__":
    sys.exit(command(main))
