"""Relaxes candidates with a potential.

    vdw-jax relax samples/GaInSSe2-seed0 --potential=sevennet --best=10
    vdw-jax relax structures.cif --potential=chgnet+d3

What comes out lies in `relaxed-<potential>` in the folder of the candidates, or beside a file or folder of other
structures, under the same ids. Ctrl-C keeps what is finished; the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vdw_jax.commands.handover import add_choice, chosen_ids, note

POTENTIALS = (
    "sevennet (with D3), chgnet, mace, or package.module:function that makes an ASE calculator; "
    "+d3 behind adds D3"
)
"""`structures.potentials.CHOICE`, which takes seconds to import."""

_INTERRUPTED_STATUS = 130


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; that of the process by default."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("directory", help="what sample.py wrote, or a file or folder of structures")
    parser.add_argument("--potential", required=True, help=POTENTIALS)
    add_choice(parser)
    parser.add_argument("--steps", metavar="N", type=int, help="at most; default: 200")
    parser.add_argument(
        "--out", metavar="DIR", help="default: relaxed-POTENTIAL, in the directory or beside the file"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier output")
    parser.add_argument("--quiet", action="store_true", help="no progress line")
    given = parser.parse_args(arguments)
    if given.steps is not None and given.steps < 0:
        parser.error(f"--steps is at least 0, not {given.steps}")
    return given


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; takes the arguments of the process by default."""
    given = parse_arguments(arguments)
    # The crystal libraries take seconds; --help does without them.
    from vdw_jax.report.relaxation import num_interrupted, relax_samples, summary
    from vdw_jax.report.relaxing import MOST_STEPS

    try:
        target, told = relax_samples(
            given.directory,
            given.potential,
            chosen_ids(given),
            given.best,
            most_steps=MOST_STEPS if given.steps is None else given.steps,
            out=given.out,
            overwrite=given.overwrite,
            quiet=given.quiet,
            on_note=note,
        )
    except (ValueError, OSError) as error:
        print(f"relaxation: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(summary(told))
    print(target)
    if num_interrupted(told):
        print("relaxation: stopped; the same command goes on with those that are not relaxed", file=sys.stderr)
        raise SystemExit(_INTERRUPTED_STATUS)


if __name__ == "__main__":
    main()
