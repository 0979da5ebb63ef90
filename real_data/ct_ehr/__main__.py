"""`python -m real_data.ct_ehr prepare DIR [--ehr DIR] --out FILE`, and `export FILE --out DIR` back again."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from real_data.command_line import parser, run, run_export
from real_data.ct_ehr.rules import LAYOUTS, Rules
from simlab.errors import InvalidData, MissingExtra, OutOfDomain, Parser, command

DESCRIPTION = (
    "CT scans (DICOM series, NIfTI, the lmsignatures layout, or features computed before), with or without a health "
    "record in MEDS shape, into a cohort: one record a subject, a visit a scan, what was known by then, a label."
)


def main(argv: list[str] | None = None) -> int:
    top, prepare = parser("python -m real_data.ct_ehr", DESCRIPTION, "folder with the scans", True)
    add_options(prepare)
    args = top.parse_args(argv)
    if args.action == "export":
        need("pydicom", "writing DICOM")

        def back(cohort, folder, say):
            from real_data.ct_ehr.export import export

            return export(cohort, folder, say)

        return run_export(args, back)
    check(args)
    rules = Rules(args.layout, args.side, args.field, args.kernel, args.nodules, args.boxes, args.labels,
                  args.task or "cancer", args.outcome, args.horizon, tuple(args.exclude), args.visits, args.look_back,
                  args.signatures, args.least, tuple(c for c in args.columns.split(",") if c), args.site)  # fmt: skip

    def build(account, say):
        from real_data.ct_ehr import adapter

        return adapter.prepare(args.folder, args.ehr, rules, account, say)

    return run(args, build)


def add_options(prepare: Parser) -> None:
    """The options of `prepare` that are this adapter's own."""
    prepare.add_argument("--ehr", metavar="DIR", type=Path, help="MEDS folder: data/*.parquet, labels/*.parquet")
    prepare.add_argument("--layout", choices=LAYOUTS, default="dicom", help="how DIR holds scans (default: dicom)")
    prepare.add_argument("--nodules", metavar="FILE", type=Path,
                         help="CSV of seriesuid, coordX, coordY, coordZ (LPS mm), diameter_mm (default: DIR's)")
    prepare.add_argument("--boxes", metavar="DIR", type=Path, help="PASCAL VOC boxes, named by SOPInstanceUID")
    prepare.add_argument("--kernel", metavar="NAME", help="only series of this ConvolutionKernel")
    prepare.add_argument("--side", metavar="VOXELS", type=int, default=32, help="voxels a side of a crop (default: 32)")
    prepare.add_argument("--field", metavar="MM", type=float,
                         help="width of a crop (default: 48 around a nodule; 384 where no nodules are named)")
    prepare.add_argument("--labels", metavar="FILE", type=Path,
                         help="CSV or MEDS label file, one label a subject (default: beside the files)")
    prepare.add_argument("--task", metavar="NAME", help="the task's name (default: cancer)")
    prepare.add_argument("--outcome", metavar="REGEX", help="codes that are the positive class, instead of --labels")
    prepare.add_argument("--horizon", metavar="DAYS", type=float, default=365.25,
                         help="days after the last scan in which --outcome counts (default: 365.25)")  # fmt: skip
    prepare.add_argument("--exclude", metavar="REGEX", action="append", default=[],
                         help="codes that say the label: never an input; may be repeated")  # fmt: skip
    prepare.add_argument("--visits", metavar="REGEX", default=Rules.visits,
                         help=f"codes that are a visit, its scan at hand or not (default: {Rules.visits})")  # fmt: skip
    prepare.add_argument("--look-back", metavar="DAYS", type=float, default=Rules.look_back,
                         help="how long before a scan events count (default: 1095)")  # fmt: skip
    prepare.add_argument("--signatures", metavar="K", type=int, default=0, help="clinical signatures (default: none)")
    prepare.add_argument("--least", metavar="N", type=int, default=Rules.least,
                         help="training subjects that must show a code (default: 20)")  # fmt: skip
    prepare.add_argument("--columns", metavar="A,B", default="", help="numbers of scans.csv that become `clinical`")
    prepare.add_argument("--site", metavar="NAME", default="unknown", help="where files do not tell (InstitutionName)")


def check(args: argparse.Namespace) -> None:
    """Refuse numbers out of range, paths that are not there, options that need another, and what is not installed."""
    for name, low, high in (("side", 4, 512), ("field", 1, 1000), ("look_back", 0, 1e5), ("horizon", 1, 1e5),
                            ("signatures", 0, 10_000), ("least", 1, 10**9)):  # fmt: skip
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise OutOfDomain(f"--{name.replace('_', '-')} {value:g}: {low:g} to {high:g}")
    for option, path, there in (("ehr", args.ehr, Path.is_dir), ("boxes", args.boxes, Path.is_dir), (
            "nodules", args.nodules, Path.is_file), ("labels", args.labels, Path.is_file)):  # fmt: skip
        if path is not None and not there(path):
            raise InvalidData(f"--{option} {path} does not exist" if not path.exists() else
                              f"--{option} {path}: a {'folder' if there is Path.is_dir else 'file'} is expected")
    if args.signatures and args.ehr is None:
        raise OutOfDomain("--signatures reads a health record: name its folder with --ehr")
    if args.layout == "dicom":
        need("pydicom", "reading DICOM")


def need(package: str, what: str) -> None:
    """Raise MissingExtra unless the package is installed."""
    if importlib.util.find_spec(package) is None:
        raise MissingExtra(f"{what} needs {package}: pip install 'simlab[real]'")


if __name__ == "__main__":
    sys.exit(command(main))
