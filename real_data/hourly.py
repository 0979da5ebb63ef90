"""`python -m real_data.hourly prepare DIR --out FILE`: harmonised hourly tables (the YAIB form) into a cohort."""

from __future__ import annotations

import sys
from pathlib import Path

from real_data.command_line import parser, run
from simlab.errors import OutOfDomain, command

DESCRIPTION = (
    "Harmonised hourly tables (dyn.parquet, sta.parquet, outc.parquet) into a cohort: vital signs and laboratory "
    "values as two modalities, statics, and the outcome table's task."
)


def main(argv: list[str] | None = None) -> int:
    top, prepare = parser("python -m real_data.hourly", DESCRIPTION, "folder of dyn, sta and outc .parquet")
    prepare.add_argument("--outcome", metavar="FILE", type=Path, help="outcome table (default: DIR/outc.parquet)")
    prepare.add_argument("--task", metavar="NAME", help="the task's name (default: the folder's)")
    prepare.add_argument(
        "--cutoff", metavar="HOURS", type=float, help="hours of input, [0, HOURS) (default: 24, one label a stay)"
    )
    prepare.add_argument("--at", metavar="HOUR", type=int, help="hourly labels: take the one at this hour, one a stay")
    args = top.parse_args(argv)
    if args.cutoff is not None and not 1 <= args.cutoff < float("inf"):
        raise OutOfDomain(f"--cutoff {args.cutoff:g}: hours of input are 1 or more (an hour is known when it ends)")
    if args.at is not None and args.at < 1:
        raise OutOfDomain(f"--at {args.at}: 1 or more (an hour is known when it ends, so hour 1 has the first inputs)")

    def build(account, say):
        from real_data import hourly_tables

        return hourly_tables.prepare(args.folder, account, say, args.outcome, args.task, args.cutoff, args.at)

    return run(args, build)


if __name__ == "__main__":
    sys.exit(command(main))
