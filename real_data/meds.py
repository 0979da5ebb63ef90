"""`python -m real_data.meds prepare DIR --out FILE`: a MEDS data set, of any vocabulary, into a cohort."""

from __future__ import annotations

import sys

from real_data.command_line import parser, run
from simlab.errors import OutOfDomain, command

DESCRIPTION = (
    "A MEDS data set (parquet events: subject_id, time, code, numeric_value) into a cohort of hourly records: each "
    "from an event whose code matches --start to the next that matches --end. No code is built in."
)


def main(argv: list[str] | None = None) -> int:
    top, prepare = parser("python -m real_data.meds", DESCRIPTION, "folder with data/*.parquet, or parquet files")
    prepare.add_argument("--start", metavar="REGEX", required=True, help="codes that begin a record: '^ICU_ADMISSION'")
    prepare.add_argument("--end", metavar="REGEX", required=True, help="codes that end it: '^ICU_DISCHARGE'")
    prepare.add_argument(
        "--channels",
        metavar="FILE|mimic-iv",
        help="TOML of channels, or mimic-iv: the items of real_data.mimic_iv wherever a code names them (default: the "
        "numeric codes that the training subjects have most)",
    )
    prepare.add_argument("--most", metavar="N", type=int, default=64, help="channels without --channels (default: 64)")
    prepare.add_argument("--window", metavar="HOURS", type=int, default=24, help="hours of input (default: 24)")
    prepare.add_argument("--max-hours", metavar="HOURS", type=int, default=72, help="hours of a record (default: 72)")
    prepare.add_argument("--min-age", metavar="YEARS", type=int, default=18, help="where birth is known (default: 18)")
    prepare.add_argument("--no-events", action="store_true", help="hours alone, without the raw events")
    args = top.parse_args(argv)
    if not 1 <= args.window <= args.max_hours <= 24 * 366:
        raise OutOfDomain(f"--window {args.window}, --max-hours {args.max_hours}: 1 <= window <= max-hours <= 8784")
    if args.most < 1:
        raise OutOfDomain(f"--most {args.most}: at least 1")

    def build(account, say):
        from real_data import meds_events

        rules = meds_events.Rules(
            args.start, args.end, args.window, args.max_hours, args.min_age, args.most, not args.no_events
        )
        return meds_events.prepare(args.folder, rules, args.channels, account, say)

    return run(args, build)


if __name__ == "__main__":
    sys.exit(command(main))
