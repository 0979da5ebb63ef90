"""`python -m figures [NAME...]`: redraw figures from results; `--list` what there is, `--check` what is stale.

Imports no array module until it draws.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from simlab.errors import Parser, SimlabError, command

EXAMPLES = """\
examples:
  python -m figures --list          every figure, what it is drawn from, whether it is current
  python -m figures quick-map       draw one: results/figures/quick-map.pdf, .png and .csv
  python -m figures                 draw what is stale or was never drawn
  python -m figures --check         what is stale: data or script changed since; exit status 1 if anything is

A figure of a study needs its results: python -m simlab.sweep STUDY, then the same with --publish.
Exit status: 0; 1 something is stale (--check); 2 bad input.
"""


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m figures", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
               description="Redraw figures from published results, each as PDF, PNG and the plotted numbers (CSV).")
    p.add_argument("names", metavar="NAME", nargs="*", help="figures to draw (default: all that are not current)")
    p.add_argument("--list", action="store_true", help="list the figures")
    p.add_argument("--check", action="store_true", help="say which figures are stale; draw nothing")
    p.add_argument("--out", type=Path, metavar="DIR", help="where files lie (default: the script's own)")
    p.add_argument("--json", action="store_true", help="print one JSON list instead of text")
    return p


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status. Raises UnknownName for a figure that does not exist, SimlabError."""
    from figures import catalog, files

    args = parser().parse_args(argv)
    if args.list and args.check:
        raise SimlabError("--list and --check: give one of them (--list tells the state too).")
    root = catalog.root()
    scripts = catalog.chosen(args.names, root)
    if args.list or args.check:
        return _tell(scripts, root, args)
    problems, drawn = [], []
    for script in scripts:
        try:
            if not args.names and files.state(script, root, args.out) == "current":
                continue
            paths = files.draw(script, root, args.out)
        except SimlabError as error:
            problems.append(str(error))
            continue
        drawn.append({"figure": script.name, "files": [str(path) for path in paths]})
        if not args.json:
            print(f"{script.name:<28}  {paths[0].parent}/{script.name}." + ", .".join(script.kinds), flush=True)
    if args.json:
        print(json.dumps(drawn, indent=1))
    elif not drawn and not problems:
        print(f"all {len(scripts)} figures are current; name one to draw it all the same")
    if problems:
        raise SimlabError(" ".join(problems))
    return 0


def _tell(scripts: list, root: Path, args: argparse.Namespace) -> int:
    """State of each figure; with --check, status 1 when any is stale."""
    from figures import files

    rows = []
    for script in scripts:
        state = files.state(script, root, args.out)
        rows.append({"figure": script.name, "state": state, "inputs": list(script.inputs), "title": script.title})
    # Asked for by name, a figure must be there; else one that nobody has drawn yet is not stale.
    bad = sum(row["state"] != "current" if args.names else row["state"].startswith("stale") for row in rows)
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        for i, row in enumerate(rows):
            print(f"{row['figure']:<28}  {row['state']}")
            if args.list and (i + 1 == len(rows) or rows[i + 1]["title"] != row["title"] or row["inputs"]):
                print(f"    {row['title']}" + (f"  (from {', '.join(row['inputs'])})" if row["inputs"] else ""))
        if args.check:
            print(f"{bad} of {len(rows)} are stale; python -m figures draws them" if bad else "nothing is stale")
    return int(args.check and bad > 0)


def single(name: str, argv: list[str] | None) -> int:
    """`python -m figures.NAME [--out DIR]`: that one figure."""
    from figures import catalog, files

    root = catalog.root()
    (script,) = catalog.chosen([name], root)
    p = Parser(prog=f"python -m figures.{name}", description=script.title)
    p.add_argument("--out", metavar="DIR", type=Path, help=f"where to write (default: {script.folder})")
    files.draw(script, root, p.parse_args(argv).out)
    return 0


if __name__ == "__main__":
    sys.exit(command(main))
