"""Whether structures of one's own can be learned from: `python -m vdw_jax.structures.check PATH`.

Names every problem by file, row and field with what to do about it, and sums up what is left. PATH is any of the
files that `vdw_jax.structures.load` lists. Exit code 0: all good; 1: problems; 2: nothing that can be used.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; that of the process by default."""
    parser = argparse.ArgumentParser(
        prog="check", description=__doc__.splitlines()[0].split(":")[0] + ".", allow_abbrev=False
    )
    parser.add_argument(
        "path", help=".csv, .extxyz, .db, .json, .npz, .cif, POSCAR, or a folder of the last two"
    )
    parser.add_argument(
        "--scalars", default="", help="only these properties, as a,b; every number by default"
    )
    parser.add_argument("--max_atoms", type=int, default=20, help="most atoms a cell may have")
    parser.add_argument(
        "--periodicity",
        choices=("auto", "slab", "bulk"),
        default="auto",
        help="auto: what most of them are",
    )
    parser.add_argument(
        "--each", action="store_true", help="a line for each structure that has too many atoms"
    )
    parser.add_argument(
        "--json", action="store_true", help="structures and problems as JSON, and nothing else"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    given = parser.parse_args(arguments)
    if given.max_atoms < 1:
        parser.error(f"--max_atoms is at least 1, not {given.max_atoms}")
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; takes the arguments of the process by default."""
    given = parse_arguments(arguments)
    # The crystal libraries take seconds; --help does without them.
    from vdw_jax.commands.check_report import as_json, report
    from vdw_jax.structures.errors import DataError
    from vdw_jax.structures.load import load_file

    try:
        names = [given.scalars] if given.scalars.strip() else []
        loaded = load_file(
            given.path,
            names,
            max_atoms=given.max_atoms,
            periodicity=given.periodicity,
            quiet=given.quiet or given.json,
        )
    except DataError as error:
        if given.json:
            problem = {"file": given.path, "row": 0, "field": "file", "message": str(error)}
            print(json.dumps({"structures": [], "problems": [problem]}, indent=1))
        print(f"check: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if given.json:
        print(json.dumps(as_json(loaded), indent=1, allow_nan=False))
    else:
        print("\n".join(report(loaded, given)))
    raise SystemExit(2 if not len(loaded.dataset) else 1 if loaded.problems else 0)


if __name__ == "__main__":
    main()
