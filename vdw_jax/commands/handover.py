"""Hands candidates over to other programs: `vdw-jax handover samples/GaInSSe2-seed0 --best=10`.

What it writes, by format:

poscar   handover/poscar/<id>.vasp, for VASP and VESTA
vasp     handover/vasp/<id>/, relaxations as the paper does them: INCAR, KPOINTS, POSCAR, POTCAR.spec
gpaw     handover/gpaw/, relaxations that run as they are
db       handover/samples.db, an ASE database
parquet  handover/samples.parquet, the rows of the table
flow     handover/flow.json, the relaxations by VASP as a jobflow Flow (atomate2)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

FORMATS = ("poscar", "vasp", "gpaw", "db", "parquet", "flow")
"""Those of `report.handover.FORMATS`, which takes seconds to import."""


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; that of the process by default."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("directory", help="what sample.py wrote, or a file or folder of structures")
    usual = ",".join(name for name in FORMATS if name != "flow")
    parser.add_argument("--formats", default=usual, help=f"of {', '.join(FORMATS)}; default: %(default)s")
    add_choice(parser)
    parser.add_argument("--out", metavar="DIR", help="default: handover, in the directory or beside the file")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there of the same formats")
    return parser.parse_args(arguments)


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Which candidates: all, some by id, or the best."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ids", metavar="ID,ID", help="these candidates; default: all")
    which.add_argument("--best", metavar="N", type=int, help="the N best by rank")


def chosen_ids(given: argparse.Namespace) -> list[str] | None:
    """What `--ids` names; None for all."""
    return None if given.ids is None else [name for name in given.ids.split(",") if name]


def note(text: str) -> None:
    """Says something the user should know."""
    print(f"note: {text}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; takes the arguments of the process by default."""
    given = parse_arguments(arguments)
    # The crystal libraries take seconds; --help does without them.
    from vdw_jax.report.handover import hand_over

    try:
        written = hand_over(
            given.directory,
            given.formats.split(","),
            chosen_ids(given),
            given.best,
            given.out,
            overwrite=given.overwrite,
            on_note=note,
        )
    except (ValueError, OSError) as error:
        print(f"handover: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    for path in written:
        print(path)


if __name__ == "__main__":
    main()
