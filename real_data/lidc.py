"""`python -m real_data.lidc prepare DIR --out FILE`: LIDC-IDRI nodules as patches, malignant (4-5) or not (1-2)."""

from __future__ import annotations

import sys

from real_data.command_line import parser, run
from simlab.errors import command

DESCRIPTION = (
    "Nodules of LIDC-IDRI as patches of 51^3 voxels of 1 mm with masks (lidc_patches_51_derived.npz, "
    "patch_index_derived.csv) into a cohort: radiologists' malignancy 4-5 against 1-2; 3 stays without a label."
)


def main(argv: list[str] | None = None) -> int:
    top, prepare = parser("python -m real_data.lidc", DESCRIPTION, "folder of the patches and their index")
    prepare.add_argument("--streams", choices=("volumes", "statistics"), default="volumes",
                         help="what methods see: the nodule at 1 mm and its surroundings at 2 mm, or the mask's volume "
                         "and simple statistics of what is inside it (default: volumes)")  # fmt: skip
    args = top.parse_args(argv)

    def build(account, say):
        from real_data.lidc_patches import prepare as made

        return made(args.folder, args.streams, account, say)

    return run(args, build)


if __name__ == "__main__":
    sys.exit(command(main))
