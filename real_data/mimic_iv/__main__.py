"""`python -m real_data.mimic_iv prepare DIR --out FILE`, and `export FILE --out DIR` back again."""

from __future__ import annotations

import sys

from real_data.command_line import parser, run, run_export
from simlab.errors import OutOfDomain, command

DESCRIPTION = (
    "MIMIC-IV (hosp/ and icu/, .csv or .csv.gz) into a cohort of hourly intensive-care stays: state, action and static "
    "streams, and in-hospital death after the first hours as the task."
)


def main(argv: list[str] | None = None) -> int:
    top, prepare = parser("python -m real_data.mimic_iv", DESCRIPTION, "folder that holds hosp/ and icu/", True)
    prepare.add_argument("--window", metavar="HOURS", type=int, default=24, help="hours of input (default: 24)")
    prepare.add_argument("--max-hours", metavar="HOURS", type=int, default=72, help="hours of a stay (default: 72)")
    prepare.add_argument("--min-age", metavar="YEARS", type=int, default=18, help="youngest patient (default: 18)")
    prepare.add_argument("--first-stay", action="store_true", help="only the first stay of every subject")
    prepare.add_argument(
        "--labs-at",
        choices=("storetime", "charttime"),
        default="storetime",
        help="when a laboratory value is known (default: storetime; charttime, when it was drawn, leaks)",
    )
    prepare.add_argument("--no-events", action="store_true", help="hours alone, without the raw events")
    args = top.parse_args(argv)
    if args.action == "export":

        def back(cohort, folder, say):
            from real_data.mimic_iv.export import export

            return export(cohort, folder, say)

        return run_export(args, back)
    if not 1 <= args.max_hours <= 24 * 366:
        raise OutOfDomain(f"--max-hours {args.max_hours}: 1 to {24 * 366} hours")
    if not 1 <= args.window <= args.max_hours:
        raise OutOfDomain(f"--window {args.window}: 1 to --max-hours ({args.max_hours}) hours")
    if not 0 <= args.min_age <= 120:
        raise OutOfDomain(f"--min-age {args.min_age}: 0 to 120 years")

    def build(account, say):
        from real_data.mimic_iv import adapter
        from real_data.mimic_iv.stays import Rules

        rules = Rules(
            args.window, args.max_hours, args.min_age, args.first_stay, args.labs_at, not args.no_events
        )
        return adapter.prepare(args.folder, rules, account, say)

    return run(args, build)


if __name__ == "__main__":
    sys.exit(command(main))
