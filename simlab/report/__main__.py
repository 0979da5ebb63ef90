"""`python -m simlab.report FOLDER...`: draw the page of results again, from what lies in their folder.

For when the page's code changed and the run's folder is not at hand (`--publish` draws it from the run). The commands
that the old page prints, and what the leak guard said, are kept. Imports no array module until it draws.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from contextlib import suppress
from pathlib import Path

from simlab.errors import Parser, command

EXAMPLES = """\
examples:
  python -m simlab.report results/quick       draw results/quick/report.html again
  python -m simlab.report results/* --check   which pages are not what the folder and this version give

Folders without a study (results/figures) are passed over. Exit status: 0; 1 a page is stale (--check); 2 bad input.
"""
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="python -m simlab.report", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
               description="Draw the pages of results folders again, from the files in them.")
    p.add_argument("folders", metavar="FOLDER", nargs="+", type=Path, help="results/STUDY or runs/STUDY")
    p.add_argument("--check", action="store_true", help="say which pages are stale; write nothing")
    return p


def told(page: Path) -> tuple[str, str]:
    """The command that an old page prints before `--cell`, and what the leak guard said; empty where it has none."""
    found = DATA.search(page.read_text(encoding="utf-8")) if page.is_file() else None
    data = {}
    with suppress(ValueError):  # a damaged page is drawn as if there were none
        data = json.loads(found[1]) if found else {}
    return data.get("command", ""), data.get("leak", "")


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit status. Raises SimlabError, DamagedFile."""
    from simlab.files import write_text
    from simlab.report.page import render
    from simlab.report.published import PAGE, STUDY, open_results

    args, stale = parser().parse_args(argv), False
    folders = [f for f in args.folders if len(args.folders) == 1 or not f.is_dir() or (f / STUDY).is_file()]
    for folder in folders:
        page = folder / PAGE
        text = render(open_results(folder), *told(page))
        current = page.is_file() and page.read_text(encoding="utf-8") == text
        stale |= not current
        if not args.check and not current:
            write_text(page, text)
        print(f"{page}  {'current' if current else 'stale' if args.check else 'drawn'}")
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(command(main))
