"""What every `prepare` command shares: its arguments, its checks before the work, and how it prints the outcome."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from simlab.errors import InvalidData, MissingExtra, Parser, SimlabError

# 1.36 inflates a whole compressed table before it reads a row of it; 1.38 streams.
OLDEST_POLARS = (1, 38)


def parser(
    prog: str, description: str, folder: str, exports: bool = False
) -> tuple[Parser, Parser]:
    """The command's parser and that of its `prepare`, to which an adapter adds its own options.

    exports: the command has an `export FILE --out DIR` too.
    """
    command = Parser(prog=prog, description=description)
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    if exports:
        export = actions.add_parser("export", help="write a .cohort file back as the raw layout")
        export.add_argument("file", metavar="FILE", type=Path, help="a .cohort file that this command prepared")
        export.add_argument("--out", metavar="DIR", type=Path, required=True, help="the folder to write")
        export.add_argument("--json", action="store_true", help="print the rows of each table as one JSON object")
        export.add_argument("--quiet", action="store_true", help="no progress on stderr")
    prepare = actions.add_parser("prepare", help="turn the files of DIR into one .cohort file", description=description)
    prepare.add_argument("folder", metavar="DIR", type=Path, help=folder)
    prepare.add_argument("--out", metavar="FILE", type=Path, required=True, help="the .cohort file to write")
    prepare.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    prepare.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return command, prepare


def run(args: argparse.Namespace, build: Callable[..., object]) -> int:
    """Check what can be checked beforehand, build, save, print. Nothing is written when anything is refused.

    build(account, say) gives the cohort, fills the account and tells its progress with say(line).
    """
    from real_data import audit
    from real_data.account import Account, as_text, summary
    from simlab.cohort import save

    if args.out.is_dir():
        raise SimlabError(f"--out {args.out} is a folder: name the file to write, such as {args.out / 'data.cohort'}")
    if not args.folder.is_dir():
        what = "is a file, not a folder" if args.folder.exists() else "does not exist"
        raise InvalidData(f"{args.folder} {what}: name the folder that holds the tables")
    need_polars()
    writable(args.out)
    say = (lambda _: None) if args.quiet else (lambda line: print(line, file=sys.stderr, flush=True))
    account = Account()
    cohort = build(account, say)
    checked = audit.of(cohort, account)
    save(cohort, args.out)
    audit.save(checked, args.out.with_name(args.out.name + ".audit.json"))
    print(json.dumps(summary(cohort, account)) if args.json else as_text(cohort, account))
    if not args.json:
        print(f"\n{audit.as_text(checked)}")
        print(f"\nwritten: {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)")
    return 0


def run_export(args: argparse.Namespace, export: Callable[..., dict[str, int]]) -> int:
    """Load the cohort, write it as export(cohort, folder, say) does, print how many rows each table got."""
    from simlab.cohort import load

    if not args.file.is_file():
        raise InvalidData(f"{args.file} is not a file: name a .cohort file")
    if args.out.exists() and not args.out.is_dir():
        raise SimlabError(f"--out {args.out} is a file, not a folder")
    need_polars()
    writable(args.out / "hosp")
    say = (lambda _: None) if args.quiet else (lambda line: print(line, file=sys.stderr, flush=True))
    rows = export(load(args.file), args.out, say)
    print(json.dumps(rows) if args.json else "\n".join(f"{table}: {n} rows" for table, n in rows.items()))
    return 0


def writable(out: Path) -> None:
    """Raise SimlabError, before hours of reading, where the nearest folder that exists cannot be written."""
    folder = next(p for p in out.absolute().parents if p.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SimlabError(f"--out {out}: {folder} cannot be written ({error.strerror})") from error


def need_polars() -> None:
    """Raise MissingExtra unless a polars that streams compressed tables is there."""
    if importlib.util.find_spec("polars") is None:
        raise MissingExtra("reading real data needs polars: pip install 'simlab[real]'")
    import polars

    found = tuple(int(part) for part in polars.__version__.split(".")[:2])
    if found < OLDEST_POLARS:
        oldest = ".".join(map(str, OLDEST_POLARS))
        raise MissingExtra(
            f"polars {polars.__version__} would inflate whole tables; {oldest} or newer is needed: "
            f"pip install 'polars>={oldest},<3'"
        )
